//! Documents whose commands are run as they stand, in a temporary copy of what they speak of.

use crate::program::{Answer, product};
use crate::root;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A fenced code block of a Markdown document (CommonMark 0.31, section 4.5; fences of backquotes at the line's beginning).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The first word behind the fence, `sh` for one.
    pub language: String,
    /// The words behind it: whom the block is for.
    pub marks: Vec<String>,
    /// What it holds.
    pub text: String,
    /// The line of its fence, counted from 1.
    pub line: usize,
}

/// All fenced code blocks, in order.
///
/// # Panics
/// If a block does not end.
pub fn blocks(markdown: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for (i, line) in markdown.lines().enumerate() {
        let ticks = line.chars().take_while(|c| *c == '`').count();
        match &mut open {
            Some((fence, _)) if ticks >= *fence && line[ticks..].trim().is_empty() => {
                found.extend(open.take().map(|(_, block)| block));
            }
            Some((_, block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            None if ticks >= 3 => {
                let mut words = line[ticks..].split_whitespace().map(str::to_owned);
                let language = words.next().unwrap_or_default();
                open = Some((
                    ticks,
                    Block { language, marks: words.collect(), text: String::new(), line: i + 1 },
                ));
            }
            None => {}
        }
    }
    assert!(open.is_none(), "a code block does not end: {open:?}");
    found
}

/// A folder that holds copies of parts of the repository, removed when dropped. Commands run in it as they would at the
/// repository's root, with the built program in the path.
pub struct Workplace {
    folder: tempfile::TempDir,
}

impl Workplace {
    /// Copies these files and folders, named from the root.
    ///
    /// # Panics
    /// If one cannot be copied.
    pub fn of(parts: &[&str]) -> Self {
        let place = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        parts.iter().for_each(|part| copy(&root().join(part), &place.path(part)));
        place
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a piece of a file.
    ///
    /// # Panics
    /// If the piece is not there.
    #[track_caller]
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.path(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(text.contains(from), "`{from}` is not in {file}");
        std::fs::write(path, text.replace(from, to)).expect("a writable folder");
    }

    /// Writes a program of that name for the shell, in place of one that a document speaks of.
    ///
    /// # Panics
    /// If it cannot be written.
    #[cfg(unix)]
    pub fn program(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path("bin").join(name);
        std::fs::create_dir_all(self.path("bin")).expect("a writable folder");
        std::fs::write(&path, script).expect("a writable folder");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("permissions");
    }

    /// Runs a script with `sh -eu`. In the path are first the programs of [`Workplace::program`], then the built one.
    ///
    /// # Panics
    /// If the built program is not as new as its sources, or there is no `sh`.
    pub fn sh(&self, script: &str, environment: &[(&str, &str)]) -> Answer {
        let program = product(&format!("shiftlens{}", std::env::consts::EXE_SUFFIX));
        let built = program.parent().expect("a program lies in a folder").to_owned();
        let usual = std::env::var_os("PATH").unwrap_or_default();
        let folders = [self.path("bin"), built].into_iter().chain(std::env::split_paths(&usual));
        let path = std::env::join_paths(folders).expect("no `:` in a folder's name");
        let output = Command::new("sh")
            .args(["-euc", script])
            .current_dir(self.folder.path())
            .env("PATH", path)
            .env("NO_COLOR", "1")
            .envs(environment.iter().copied())
            .output()
            .expect("a shell");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Answer {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// All that a folder holds, copied to this one.
    ///
    /// # Panics
    /// If something cannot be copied.
    pub fn take(&self, folder: &Path) {
        copy(folder, self.folder.path());
    }

    /// Runs a document's blocks of `sh`, each by itself: those that are not marked, or for this system (`sh linux`), or with a
    /// `mark` only those that are marked so. Each must end with 0, and where a block of `text` comes next, say its lines: in
    /// their order, `...` standing for anything.
    ///
    /// # Panics
    /// If one does not, or there is none.
    #[track_caller]
    pub fn follow(&self, document: &str, mark: Option<&str>) {
        let path = self.path(document);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let all = blocks(&text);
        let mut ran = 0;
        for (i, block) in all.iter().enumerate() {
            let meant = match mark {
                Some(mark) => block.marks == [mark],
                None => block.marks.iter().all(|m| m == std::env::consts::OS),
            };
            if block.language != "sh" || !meant {
                continue;
            }
            ran += 1;
            let answer = self.sh(&block.text, &[]);
            let place = format!("{document}:{}", block.line);
            assert_eq!(answer.code, 0, "{place}:\n{}\n{}", block.text, answer.text());
            if let Some(shown) = all.get(i + 1).filter(|b| b.language == "text")
                && let Some(line) = missing(&answer.flowing(), &shown.text)
            {
                panic!("{document}:{}: `{line}` is not what {place} says:\n{}", shown.line, answer.text());
            }
        }
        assert!(ran > 0, "{document}: nothing to run");
    }
}

/// The first line of `shown` that `said` lacks, layout aside, behind the lines before.
fn missing<'t>(said: &str, shown: &'t str) -> Option<&'t str> {
    let mut rest = said;
    for line in shown.lines() {
        for piece in line.split("...") {
            let piece = piece.split_whitespace().collect::<Vec<_>>().join(" ");
            match rest.find(&piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return Some(line),
            }
        }
    }
    None
}

fn copy(from: &Path, to: &Path) {
    let copied = if from.is_dir() { copy_folder(from, to) } else { copy_file(from, to) };
    copied.unwrap_or_else(|e| panic!("{}: {e}", from.display()));
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()));
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> std::io::Result<()> {
    to.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::copy(from, to).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found() {
        let text = "a\n```sh linux x\none\n``\n\ntwo\n```\nb `c`\n````\n```sh\n````\n";
        let found = blocks(text);
        let seen: Vec<(&str, usize, &str)> =
            found.iter().map(|b| (b.language.as_str(), b.line, b.text.as_str())).collect();
        assert_eq!(seen, [("sh", 2, "one\n``\n\ntwo\n"), ("", 9, "```sh\n")]);
        assert_eq!((&found[0].marks[..], found[1].marks.len()), (&["linux".into(), "x".into()][..], 0));
    }

    #[test]
    fn what_is_shown_must_have_been_said_in_that_order() {
        let said = "wrote a.toml: 12 images next: check it report: out/report.html";
        for (shown, lacks) in [
            ("wrote a.toml: ... images\nreport: ...", None),
            ("next:   check it\n", None),
            ("report: out\nwrote a.toml", Some("wrote a.toml")),
            ("wrote b.toml", Some("wrote b.toml")),
        ] {
            assert_eq!(missing(said, shown), lacks, "{shown}");
        }
    }
}

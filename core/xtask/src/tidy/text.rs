//! Rules for every text file: no tabs, no paths of one machine, readable in one sitting.

use super::{File, Finding};

const TEXT: [&str; 13] =
    ["rs", "toml", "md", "h", "c", "py", "js", "css", "html", "sh", "json", "yml", "yaml"];

/// Program text is kept below this; nothing longer is read in one sitting.
const LONGEST: usize = 600;

/// True for the files that these rules are about.
pub fn is_text(path: &str) -> bool {
    path == ".ci/run" || path.rsplit_once('.').is_some_and(|(_, e)| TEXT.contains(&e))
}

/// Checks one file.
pub fn check(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (i, line) in file.text.lines().enumerate() {
        let place = || format!("{}:{}", file.path, i + 1);
        if line.contains('\t') {
            findings.push(Finding::new(place(), "a tab; indent with spaces"));
        }
        if let Some(path) = machine_path(line) {
            findings
                .push(Finding::new(place(), format!("`{path}` is a path of one machine; say it relatively")));
        }
    }
    let lines = file.text.lines().count();
    if lines > LONGEST && [".rs", ".py", ".c", ".h", ".js"].iter().any(|e| file.path.ends_with(e)) {
        findings
            .push(Finding::new(&file.path, format!("{lines} lines, expected at most {LONGEST}: split it")));
    }
    findings
}

/// An absolute path into someone's folders. Written in two parts here, or this file would be a finding.
fn machine_path(line: &str) -> Option<&'static str> {
    const FOLDERS: [&str; 6] = [
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/wo", "rk/"),
        concat!("/tm", "p/"),
        concat!("/Us", "ers/"),
        concat!(":\\Us", "ers\\"),
    ];
    FOLDERS.into_iter().find(|folder| {
        line.match_indices(folder).any(|(at, _)| {
            // `examples/work/x` and `example.org/home/` are no absolute paths.
            let before = line[..at].chars().next_back();
            folder.starts_with(':') || !before.is_some_and(|c| c.is_alphanumeric() || "._-}".contains(c))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<String> {
        check(&File::new("a.rs", text)).into_iter().map(|f| f.place).collect()
    }

    #[test]
    fn tabs_are_found() {
        assert_eq!(places("fn a() {\n\tb();\n}\n"), ["a.rs:2"]);
    }

    #[test]
    fn machine_paths_are_found() {
        for folder in ["ro_ot", "ho_me", "wo_rk", "tm_p", "Us_ers"] {
            let text = format!("// see /{}/x\n", folder.replace('_', ""));
            assert_eq!(places(&text), ["a.rs:1"], "{text}");
        }
        assert_eq!(places("C:\\Us\u{65}rs\\x"), ["a.rs:1"]);
        assert_eq!(places("see ../work/x, https://example.org/home/x, /usr/lib, $TMP/tmp/x\n"), [""; 0]);
    }

    #[test]
    fn long_program_text_is_found() {
        let text = |n| "x\n".repeat(n);
        assert_eq!(places(&text(LONGEST)), [""; 0]);
        assert_eq!(places(&text(LONGEST + 1)), ["a.rs"]);
        assert_eq!(check(&File::new("numbers.json", &text(LONGEST + 1))), []);
    }

    #[test]
    fn what_is_text() {
        assert!(is_text("core/api/src/lib.rs") && is_text(".ci/run") && is_text("README.md"));
        assert!(!is_text("examples/knee/classifier.onnx") && !is_text("Cargo.lock"));
    }
}

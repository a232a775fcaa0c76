//! `cargo xtask tidy`: the rules of `core/ARCHITECTURE.md` that can be checked mechanically.
//!
//! Each rule is a function from names and texts to findings, so that its test can show it failing.

mod arrows;
mod code;
mod layout;
mod text;

use crate::shell::{Failure, Outcome};
use std::path::Path;
use std::process::Command;

/// A broken rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Path from the workspace's root, and the line where there is one.
    place: String,
    /// What is wrong, and what to do.
    message: String,
}

impl Finding {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }
}

/// A file of the project that holds text.
#[derive(Debug, Clone)]
pub struct File {
    /// From the workspace's root, with `/`.
    path: String,
    text: String,
}

impl File {
    #[cfg(test)]
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }
}

/// Checks everything, prints what is broken.
pub fn report(root: &Path) -> Outcome {
    let (files, findings) = check(root)?;
    for f in &findings {
        println!("{}: {}", f.place, f.message);
    }
    match findings.len() {
        0 => {
            println!("    {files} files are tidy\n");
            Ok(())
        }
        n => Err(Failure::work(format!("tidy: {n} findings; the rules are in core/ARCHITECTURE.md"))),
    }
}

/// The number of files, and the findings.
fn check(root: &Path) -> Outcome<(usize, Vec<Finding>)> {
    let paths = listed(root)?;
    let mut findings = layout::top_level(&paths);
    let mut files = Vec::new();
    let mut example_bytes = 0;
    for path in &paths {
        let full = root.join(path);
        if path.starts_with("examples/") {
            example_bytes += full.metadata().map_or(0, |m| m.len());
        }
        if text::is_text(path) {
            match std::fs::read_to_string(&full) {
                Ok(text) => files.push(File { path: path.clone(), text }),
                Err(e) => findings.push(Finding::new(path, format!("cannot be read as UTF-8: {e}"))),
            }
        }
    }
    findings.extend(layout::size_of_examples(example_bytes));
    findings.extend(arrows::check(&files));
    for f in &files {
        findings.extend(text::check(f));
        findings.extend(code::check(f));
    }
    Ok((paths.len(), findings))
}

/// All files that git tracks or would track, from the root, with `/`.
fn listed(root: &Path) -> Outcome<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .map_err(|e| Failure::work(format!("tidy: git cannot be started: {e}")))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::work(format!("tidy: git ls-files failed: {why}")));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // A tracked file may have been deleted in the working tree.
    Ok(text.split('\0').filter(|p| !p.is_empty() && root.join(p).is_file()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let (files, findings) = check(&crate::root()).unwrap();
        assert!(files > 50, "only {files} files were looked at");
        assert!(findings.is_empty(), "{findings:#?}");
    }
}

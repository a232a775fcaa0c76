//! Names of images that are safe as names of folders.

use crate::format::is_bare;
use crate::read::Source;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::Path;

/// A name with everything but letters, digits, `-`, `_` and `.` replaced; no leading dot.
fn safe(name: Option<&OsStr>) -> String {
    let name = name.map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let mut id: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
        .take(100)
        .collect();
    if id.starts_with('.') {
        id.replace_range(..1, "-");
    }
    if id.is_empty() { "image".into() } else { id }
}

/// The file's stem.
fn stem(path: &Path) -> String {
    safe(if is_bare(path) { path.file_name() } else { path.file_stem() })
}

/// One id per image: the stem; where stems meet, folder and stem; behind it a frame's number; where those meet, another
/// number. Upper and lower case count as equal, because they do on some file systems.
pub fn unique<'a>(sources: impl Iterator<Item = &'a Source>) -> Vec<String> {
    let sources: Vec<&Source> = sources.collect();
    let (mut once, mut twice) = (HashSet::new(), HashSet::new());
    let mut paths: HashMap<String, HashSet<&Path>> = HashMap::new();
    for source in &sources {
        if !once.insert(*source) {
            twice.insert(*source);
        }
        paths.entry(stem(&source.path).to_lowercase()).or_default().insert(&source.path);
    }
    let id = |source: &Source| {
        let mut id = stem(&source.path);
        if (paths[&id.to_lowercase()].len() > 1 || twice.contains(source))
            && let Some(parent) = source.path.parent().and_then(Path::file_name)
        {
            id = format!("{}_{id}", safe(Some(parent)));
        }
        source.frame.map_or(id.clone(), |frame| format!("{id}-f{frame}"))
    };
    let mut ids: Vec<String> = sources.iter().map(|s| id(s)).collect();
    let mut taken: HashSet<String> = HashSet::new();
    for id in &mut ids {
        let (base, mut n) = (id.clone(), 1);
        while !taken.insert(id.to_lowercase()) {
            n += 1;
            *id = format!("{base}-{n}");
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_safe_and_unique() {
        let of = |paths: &[&str]| {
            let sources: Vec<Source> = paths.iter().map(Source::file).collect();
            unique(sources.iter())
        };
        assert_eq!(
            of(&["0/a b.png", "1/a b.png", "1/A B.jpg", "x/ü.png", "x/..a.png", "k.png"]),
            ["0_a-b", "1_a-b", "1_A-B-2", "-", "-.a", "k"]
        );
        assert_eq!(of(&["k.png", "k.png", "k.png"]), ["k", "k-2", "k-3"]);
        // An identifier keeps its last number.
        assert_eq!(of(&["s/1.2.840.55", "s/1.2.840.56", "s/IM0001"]), ["1.2.840.55", "1.2.840.56", "IM0001"]);
        let frame = |path: &str, frame| Source { path: path.into(), frame: Some(frame) };
        let frames = [frame("a/ct.dcm", 1), frame("a/ct.dcm", 2), frame("b/ct.dcm", 1), frame("a/us", 12)];
        assert_eq!(unique(frames.iter()), ["a_ct-f1", "a_ct-f2", "b_ct-f1", "us-f12"]);
    }
}

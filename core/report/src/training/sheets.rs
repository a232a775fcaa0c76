//! Sample sheets of a training.

use crate::{base64, number};
use minijinja::Value;
use serde::Serialize;
use shiftlens_api::{Error, Result};
use std::path::{Path, PathBuf};

/// Sheets on the page at most.
const SHEETS: usize = 16;
/// Bytes of sheets on the page at most, unless a single one has more.
const BYTES: u64 = 24 << 20;

/// A picture inside the page.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sheet {
    /// A `data:` address.
    src: Value,
    width: u32,
    height: u32,
    /// How many images had been seen.
    label: String,
}

/// The folder's files `samples-N.png`, by N.
fn files(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
    let mut out = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let number = name.strip_prefix("samples-").and_then(|n| n.strip_suffix(".png"));
        if let Some(n) = number.and_then(|n| n.parse().ok()) {
            out.push((n, path));
        }
    }
    out.sort_unstable();
    Ok(out)
}

/// `most` of `n` indices, evenly spread, the last one always among them, the first one if there is room.
fn spread(n: usize, most: usize) -> Vec<usize> {
    match n.min(most) {
        0 => Vec::new(),
        1 => vec![n - 1],
        count => (0..count).map(|i| (i * (n - 1) + (count - 1) / 2) / (count - 1)).collect(),
    }
}

/// The sheets of a training from old to new, and how many there are in the folder.
pub(super) fn all(folder: &Path, remarks: &mut Vec<String>) -> Result<(Vec<Sheet>, usize)> {
    let files = files(folder)?;
    let size = |i: &usize| std::fs::metadata(&files[*i].1).map_or(0, |m| m.len());
    let chosen = (1..=SHEETS).rev().map(|most| spread(files.len(), most));
    let mut fitting = chosen.filter(|c| c.len() <= 1 || c.iter().map(size).sum::<u64>() <= BYTES);
    let chosen = fitting.next().unwrap_or_default();
    let mut out = Vec::new();
    for (n, path) in chosen.into_iter().map(|i| &files[i]) {
        let label = usize::try_from(*n).map_or_else(|_| n.to_string(), number::count);
        match read(path, label) {
            Ok(sheet) => out.push(sheet),
            Err(e) => remarks.push(format!("sample sheet left out: {e}")),
        }
    }
    Ok((out, files.len()))
}

/// A PNG file as a picture inside the page.
pub(super) fn read(path: &Path, label: String) -> Result<Sheet> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let picture = image::load_from_memory_with_format(&bytes, image::ImageFormat::Png)
        .map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))?;
    let mut src = String::from("data:image/png;base64,");
    base64::encode(&bytes, &mut src);
    Ok(Sheet { src: Value::from_safe_string(src), width: picture.width(), height: picture.height(), label })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sheets_are_spread_from_the_first_to_the_last() {
        assert_eq!(spread(0, 5), [0usize; 0]);
        assert_eq!(spread(1, 5), [0]);
        assert_eq!(spread(7, 1), [6]);
        assert_eq!(spread(3, 16), [0, 1, 2]);
        assert_eq!(spread(10, 4), [0, 3, 6, 9]);
        for n in 16..200 {
            let all = spread(n, 16);
            assert!(
                all.len() == 16 && all[0] == 0 && all[15] == n - 1 && all.windows(2).all(|w| w[0] < w[1])
            );
        }
    }
}

//! From the name in the manifest to a library's file.

use shiftlens_api::{Error, Result};
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::{Path, PathBuf};

/// The environment variable with further folders to search, separated as `PATH` is.
pub const SEARCH_PATH: &str = "SHIFTLENS_PLUGIN_PATH";

/// The file that `name` means.
///
/// `name` is a file stem (`shiftlens_gradcam` is `libshiftlens_gradcam.so` on Linux), looked for in the manifest's
/// folder, beside the running program, and in each folder of `SHIFTLENS_PLUGIN_PATH`; or, with a separator or an
/// extension, a path, relative to the manifest's folder.
///
/// # Errors
/// [`Error::Invalid`] with every place that was looked at, and the next step.
pub fn find(name: &str, manifest_dir: &Path) -> Result<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    let listed = std::env::var_os(SEARCH_PATH);
    let listed = listed.iter().flat_map(std::env::split_paths).filter(|p| !p.as_os_str().is_empty());
    search(name, manifest_dir, beside.into_iter().chain(listed))
}

fn search(name: &str, manifest_dir: &Path, folders: impl Iterator<Item = PathBuf>) -> Result<PathBuf> {
    let given = Path::new(name);
    if name.is_empty() {
        return Err(Error::invalid("a plugin's library has an empty name: give its file stem or its path"));
    }
    if given.extension().is_some()
        || given.components().count() > 1
        || name.ends_with(std::path::is_separator)
    {
        let path = manifest_dir.join(given);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(Error::Invalid(format!(
                "plugin library {} not found: check the path (it is relative to the manifest's folder), or give the \
                 file stem alone to have it searched for",
                path.display()
            )))
        };
    }
    let file = format!("{DLL_PREFIX}{name}{DLL_SUFFIX}");
    let mut seen = Vec::new();
    for folder in std::iter::once(manifest_dir.to_path_buf()).chain(folders) {
        let path =
            if folder.as_os_str().is_empty() { PathBuf::from(".").join(&file) } else { folder.join(&file) };
        if path.is_file() {
            return Ok(path);
        }
        seen.push(format!("  {}", path.display()));
    }
    Err(Error::Invalid(format!(
        "plugin library `{name}` not found; looked at\n{}\nbuild it (cargo build -p {}), or add its folder to \
         {SEARCH_PATH}",
        seen.join("\n"),
        name.replace('_', "-"),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_are_searched_in_order_and_paths_taken_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let file = format!("{DLL_PREFIX}some_plugin{DLL_SUFFIX}");
        let (manifest, beside, listed) = (dir.path().join("m"), dir.path().join("b"), dir.path().join("l"));
        for d in [&manifest, &beside, &listed] {
            std::fs::create_dir(d).unwrap();
        }
        let look = |name: &str| search(name, &manifest, [beside.clone(), listed.clone()].into_iter());

        let error = look("some_plugin").unwrap_err().to_string();
        for d in [&manifest, &beside, &listed] {
            assert!(error.contains(&d.join(&file).display().to_string()), "{error}");
        }
        assert!(error.contains("cargo build -p some-plugin") && error.contains(SEARCH_PATH), "{error}");

        for d in [&listed, &beside, &manifest] {
            std::fs::write(d.join(&file), "").unwrap();
            assert_eq!(look("some_plugin").unwrap(), d.join(&file));
        }
        assert_eq!(look(&format!("../b/{file}")).unwrap(), manifest.join(format!("../b/{file}")));
        assert_eq!(look(&file).unwrap(), manifest.join(&file));
        let absolute = listed.join(&file);
        assert_eq!(look(absolute.to_str().unwrap()).unwrap(), absolute);
        let error = look("../b/other.so").unwrap_err().to_string();
        assert!(
            error.contains("other.so not found") && error.contains("relative to the manifest"),
            "{error}"
        );
        assert!(look("").is_err());
    }
}

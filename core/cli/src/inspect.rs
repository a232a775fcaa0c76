//! `plugins` and `layers`.

use crate::Done;
use crate::failure::Failure;
use shiftlens_engine::plugin::{SEARCH_PATH, inspect};
use std::env::consts::DLL_SUFFIX;
use std::path::{Path, PathBuf};

/// `shiftlens layers`.
pub fn layers(model: &Path, size: Option<[usize; 2]>) -> Done {
    if !model.is_file() {
        return Err(Failure::Usage(format!("{}: no such file", model.display())));
    }
    for l in shiftlens_engine::registry::layers(model, size)? {
        let shape: Vec<String> = l.shape.iter().map(|d| d.map_or("?".into(), |d| d.to_string())).collect();
        let mark = if l.default { "  <- default" } else { "" };
        println!("{:<20} {:<16} {}{mark}", l.operator, format!("[{}]", shape.join(", ")), l.name);
    }
    Ok(())
}

/// `shiftlens plugins`: the given libraries, or all that a study would find by name.
pub fn plugins(paths: &[PathBuf]) -> Done {
    let listed = paths.is_empty();
    let paths = if listed { in_search_path() } else { paths.to_vec() };
    let (mut shown, mut failed) = (0, false);
    for path in &paths {
        match inspect(path) {
            Ok(p) => {
                shown += 1;
                println!("{} {}  {}\n  {}", p.id, p.version, p.name, p.path.display());
                println!("  offers {}", p.capabilities.join(", "));
            }
            // Beside the program lie other libraries too.
            Err(_) if listed => {}
            Err(e) => {
                failed = true;
                eprintln!("error: {e}");
            }
        }
    }
    if listed && shown == 0 {
        println!("no plugin beside the program or in {SEARCH_PATH}; name a library: shiftlens plugins PATH");
    }
    if failed { Err(Failure::Said { unusable: false }) } else { Ok(()) }
}

/// Shared libraries beside the program and in the folders of [`SEARCH_PATH`].
fn in_search_path() -> Vec<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
    let listed = std::env::var_os(SEARCH_PATH);
    let folders = beside.into_iter().chain(listed.iter().flat_map(std::env::split_paths));
    let mut found: Vec<PathBuf> = folders
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten().map(|e| e.path()))
        .filter(|p| p.to_str().is_some_and(|p| p.ends_with(DLL_SUFFIX)))
        .collect();
    found.sort();
    found.dedup();
    found
}

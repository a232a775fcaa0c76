//! A headless Chromium, where there is one.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What a page looked like after its scripts had run.
#[derive(Debug)]
pub struct Page {
    /// The document as it then stood.
    pub dom: String,
    /// What scripts wrote to the console, errors among it.
    pub console: Vec<String>,
}

/// Opens a file with `script` appended to it; `None`, and a line that says so, where there is no Chromium.
///
/// # Panics
/// If the browser fails.
pub fn open(page: &Path, script: &str) -> Option<Page> {
    let Some(browser) = find() else {
        println!("skipped: no chromium in PATH");
        return None;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copy = folder.path().join("page.html");
    let text = std::fs::read_to_string(page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
    assert!(text.contains("</body>"), "{} has no end", page.display());
    std::fs::write(&copy, text.replace("</body>", &format!("<script>{script}</script></body>")))
        .expect("a copy");
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args([
            "--disable-extensions",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND",
        ])
        .args(["--enable-logging=stderr", "--v=0", "--virtual-time-budget=4000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("file://{}", copy.display()))
        .output()
        .expect("the browser starts");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "the browser failed: {log}");
    let console = log.lines().filter(|l| l.contains("CONSOLE")).map(str::to_owned).collect();
    Some(Page { dom: String::from_utf8_lossy(&output.stdout).into_owned(), console })
}

fn find() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).flat_map(|folder| names.map(|n| folder.join(n))).find(|p| p.is_file())
}

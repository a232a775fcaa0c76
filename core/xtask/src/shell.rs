//! Running other programs, one printed step each.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Why a task stopped, and the exit code.
#[derive(Debug, PartialEq)]
pub struct Failure {
    /// For the user.
    pub message: String,
    /// 1: work failed, 2: usage.
    pub code: u8,
}

impl Failure {
    /// Work failed.
    pub fn work(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }
    /// The call was wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }
}

/// What a task answers.
pub type Outcome<T = ()> = Result<T, Failure>;

/// The cargo that runs this task, called at the workspace's root.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(crate::root());
    // Set for this package by `cargo run`; a nested cargo must not take them for its own.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        command.env_remove(name);
    }
    command
}

/// The command as one would type it.
pub fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program()).file_stem().unwrap_or(command.get_program());
    std::iter::once(program)
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command with its output shown, and prints how long it took.
pub fn step(mut command: Command) -> Outcome {
    let line = shown(&command);
    println!("==> {line}");
    let started = Instant::now();
    let status = command.status().map_err(|e| Failure::work(format!("`{line}` cannot be started: {e}")))?;
    println!("    {:.1} s\n", started.elapsed().as_secs_f64());
    if status.success() { Ok(()) } else { Err(Failure::work(format!("`{line}` failed ({status})"))) }
}

/// True if the command starts and succeeds; its output is not shown.
pub fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

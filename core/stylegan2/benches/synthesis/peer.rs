//! The other end of a contender's pipes.

use crate::Outcome;
use crate::options::Options;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;

/// A contender's process, which only works when it is asked.
pub struct Peer {
    pub name: String,
    pub version: String,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts a contender with `threads` threads on the network at `path`; `folder` holds the codes.
    pub fn start(o: &Options, name: &str, threads: usize, path: &Path, folder: &Path) -> Outcome<Self> {
        let n = threads.to_string();
        let mut command = match name {
            "torch" | "onnx" => {
                let mut c = Command::new(&o.python);
                c.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/synthesis/peer.py"))
                    .args([name, &n]);
                c.stderr(if o.verbose { Stdio::inherit() } else { Stdio::null() });
                c
            }
            _ => {
                let mut c = Command::new(std::env::current_exe()?);
                c.args(["--bench", "worker", name]);
                c
            }
        };
        // Both pools of the Rust contenders, and OpenMP's before PyTorch sets its own.
        command.env("RAYON_NUM_THREADS", &n).env("OMP_NUM_THREADS", &n);
        let mut child = command
            .arg(path)
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{name} cannot be started: {e}; name a Python with --python"))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else { return Err("no pipes".into()) };
        let mut peer =
            Self { name: name.into(), version: String::new(), child, stdin, stdout: BufReader::new(stdout) };
        peer.version = peer.line()?.trim_start_matches("ready ").to_owned();
        Ok(peer)
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            let needs = match self.name.as_str() {
                "torch" => "; it needs torch (see --verbose)",
                "onnx" => "; it needs torch, onnx and onnxruntime (see --verbose)",
                _ => "",
            };
            return Err(format!("the process of {} ended{needs}", self.name).into());
        }
        Ok(line.trim().to_owned())
    }

    /// The answer to a command.
    pub fn ask<T: FromStr<Err: std::error::Error + 'static>>(
        &mut self,
        what: &str,
        number: impl std::fmt::Display,
    ) -> Outcome<T> {
        writeln!(self.stdin, "{what} {number}")?;
        self.stdin.flush()?;
        Ok(self.line()?.parse()?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

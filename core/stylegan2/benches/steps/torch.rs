//! PyTorch's process, which answers one line for each command.

use crate::Outcome;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// PyTorch's part, shared with the benchmark of a GPU.
const SCRIPT: &str = include_str!("../../examples/device/pytorch.py");

/// A process that only works when it is asked.
pub struct Torch {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Torch {
    /// Starts it on the weights in `folder`, with as many threads as this side's pool has.
    pub fn start(python: &str, folder: &Path) -> Outcome<Self> {
        let script = folder.join("pytorch.py");
        std::fs::write(&script, SCRIPT)?;
        let mut child = Command::new(python)
            .arg(&script)
            .arg(folder)
            .arg("cpu")
            .env("OMP_NUM_THREADS", rayon::current_num_threads().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("`{python}` cannot be started: {e}; name another with --python"))?;
        let to = child.stdin.take().ok_or("no pipe to PyTorch")?;
        let from = BufReader::new(child.stdout.take().ok_or("no pipe from PyTorch")?);
        Ok(Self { child, to, from })
    }
    pub fn ask(&mut self, command: &str) -> Outcome<String> {
        writeln!(self.to, "{command}")?;
        self.to.flush()?;
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            return Err(format!("PyTorch's process ended at `{command}`; its message stands above").into());
        }
        Ok(line.trim().to_owned())
    }
    pub fn numbers(&mut self, command: &str) -> Outcome<Vec<f64>> {
        let answer = self.ask(command)?;
        let numbers = answer.split(' ').map(str::parse).collect::<Result<_, _>>();
        Ok(numbers.map_err(|_| format!("PyTorch answered `{answer}` to `{command}`"))?)
    }
    /// Seconds of one run of a phase.
    pub fn seconds(&mut self, phase: &str) -> Outcome<f64> {
        self.ask(&format!("phase {phase}"))?;
        Ok(self.numbers("time 1")?[0])
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

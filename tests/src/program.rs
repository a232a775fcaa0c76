//! The program as a user starts it, and what it leaves behind.

use serde::de::DeserializeOwned;
use shiftlens_api::Tensor;
use shiftlens_api::record::{CaseRecord, RunRecord};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder that `cargo build` fills: this test is `FOLDER/deps/name-hash`.
pub fn built() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    test.ancestors().nth(2).expect("a test lies in target/PROFILE/deps").to_owned()
}

/// A product of `cargo build`, seen to be as new as its sources: `cargo test` builds neither the program nor the
/// plugins' shared libraries, and a test of yesterday's program would prove nothing.
///
/// # Panics
/// If it is missing or older than a file that it was made from.
pub fn product(file: &str) -> PathBuf {
    let path = built().join(file);
    let advice = "run `cargo build --workspace --all-targets` first, or `cargo xtask test`";
    let age = |p: &Path| p.metadata().and_then(|m| m.modified());
    let made = age(&path).unwrap_or_else(|_| panic!("{} is not built: {advice}", path.display()));
    // Beside its product cargo lists the sources, as make would: `product: source source`, blanks escaped.
    let list = path.with_extension("d");
    let list = std::fs::read_to_string(&list).unwrap_or_else(|e| panic!("{}: {e}: {advice}", list.display()));
    let sources = list.split_once(": ").map_or("", |(_, s)| s).replace("\\ ", "\0");
    for source in sources.split_whitespace().map(|s| PathBuf::from(s.replace('\0', " "))) {
        let newer = age(&source).is_ok_and(|t| t > made);
        assert!(!newer, "{} is older than {}: {advice}", path.display(), source.display());
    }
    path
}

/// What a call of the program came to.
#[derive(Debug)]
pub struct Answer {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Answer {
    /// Both outputs, for messages and searches.
    pub fn text(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }

    /// The same, blanks and line breaks of the terminal's layout made single blanks.
    pub fn flowing(&self) -> String {
        let layout = |c: char| c.is_whitespace() || "│╭╰─·┬├▶×".contains(c);
        self.text().split(layout).filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// This answer, if the exit code is the expected one.
    ///
    /// # Panics
    /// If it is another.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\n{}", self.text());
        self
    }

    /// This answer, if it says all of `words`.
    ///
    /// # Panics
    /// If one is missing.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        let text = self.flowing();
        for word in words {
            assert!(text.contains(word), "`{word}` is missing in:\n{}", self.text());
        }
        assert!(!text.contains("panicked"), "a panic reached the user:\n{}", self.text());
        self
    }
}

/// Starts `shiftlens` in `folder`.
pub fn shiftlens(folder: &Path, args: &[&str]) -> Answer {
    shiftlens_with(folder, args, &[])
}

/// The program, to be started in `folder`.
pub fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(product(&format!("shiftlens{}", std::env::consts::EXE_SUFFIX)));
    command.args(args).current_dir(folder).env("NO_COLOR", "1");
    command
}

/// Starts `shiftlens` in `folder` with more variables in its environment.
pub fn shiftlens_with(folder: &Path, args: &[&str], environment: &[(&str, &str)]) -> Answer {
    let mut command = command(folder, args);
    let output = command.envs(environment.iter().copied()).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Answer {
        code: output.status.code().unwrap_or(-1),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

/// Reads a JSON file.
///
/// # Panics
/// If it is missing or holds something else.
#[track_caller]
pub fn json<T: DeserializeOwned>(path: &Path) -> T {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// `run.json` of a run's folder.
#[track_caller]
pub fn run_record(run: &Path) -> RunRecord {
    json(&run.join("run.json"))
}

/// All `case.json` of a run's folder, in the run's order.
#[track_caller]
pub fn cases(run: &Path) -> Vec<CaseRecord> {
    run_record(run).cases.iter().map(|id| json(&run.join("cases").join(id).join("case.json"))).collect()
}

/// The arrays of a safetensors file, by name.
///
/// # Panics
/// If it is missing or holds something else.
#[track_caller]
pub fn arrays(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let tensor = |t: safetensors::tensor::TensorView<'_>| {
        let values = t.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Tensor::new(t.shape().to_vec(), values).expect("float32 values")
    };
    file.tensors().into_iter().map(|(name, t)| (name, tensor(t))).collect()
}

/// All files below `folder` by relative path. JSON is taken without what a clock made (`seconds`, `timings`).
///
/// # Panics
/// If a file cannot be read.
pub fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("a folder").map(|e| e.expect("an entry").path()) {
            if entry.is_dir() {
                open.push(entry);
                continue;
            }
            let name = entry.strip_prefix(folder).expect("below the folder").display().to_string();
            let mut bytes = std::fs::read(&entry).expect("a readable file");
            if name.ends_with(".json") {
                let mut value: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
                without_times(&mut value);
                bytes = value.to_string().into_bytes();
            }
            found.insert(name, bytes);
        }
    }
    found
}

/// Asserts that two folders hold the same run: the same files with the same content, times aside. Times are taken out of
/// JSON by their keys, out of CSV by the values that the cases have, and out of pages by the unit behind them; what Parquet
/// tables hold is not compared, the same rows being in the CSV.
///
/// # Panics
/// If they differ.
#[track_caller]
pub fn same_run(a: &Path, b: &Path) {
    let (x, y) = (timeless(a), timeless(b));
    let names = |of: &BTreeMap<String, Vec<u8>>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&x), names(&y), "{} and {}", a.display(), b.display());
    for (name, bytes) in &x {
        assert!(bytes == &y[name], "{name} differs in {} and {}", a.display(), b.display());
    }
}

fn timeless(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = contents(folder);
    let mut seconds = Vec::new();
    for name in all.keys().filter(|n| n.ends_with("case.json")) {
        gather_times(&json(&folder.join(name)), &mut seconds);
    }
    for (name, bytes) in &mut all {
        if name.ends_with(".csv") {
            let mut text = String::from_utf8(std::mem::take(bytes)).expect("text");
            for s in &seconds {
                text = text.replace(&format!(",{s},"), ",,").replace(&format!(",{s}\r\n"), ",\r\n");
            }
            *bytes = text.into_bytes();
        } else if name.ends_with(".parquet") {
            bytes.clear();
        } else if name.ends_with(".html") || name.ends_with(".js") {
            let text = String::from_utf8(std::mem::take(bytes)).expect("text");
            *bytes = without_seconds(&text).into_bytes();
        }
    }
    all
}

fn gather_times(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            found.extend(map.get("seconds").and_then(serde_json::Value::as_f64).map(|s| s.to_string()));
            map.values().for_each(|v| gather_times(v, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|v| gather_times(v, found)),
        _ => {}
    }
}

/// The text with `#` for every time with a unit (µs, ms, s, min, h), and for numbers behind a key `seconds`.
fn without_seconds(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let end = from.find(|c: char| !(c.is_ascii_digit() || ".e-".contains(c))).unwrap_or(from.len());
        let (number, behind) = from.split_at(end);
        let unit = behind.trim_start_matches([' ', '\u{a0}']);
        let word = unit.split(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
        // Which unit, and how many of them, depends on the time too.
        if ["s", "ms", "µs", "min", "h"].contains(&word) {
            out.truncate(out.trim_end_matches("# ").len());
            out.push('#');
            rest = &unit[word.len()..];
        } else {
            let seconds = out.trim_end_matches(['"', ':', ' ']).ends_with("seconds");
            out.push_str(if seconds { "#" } else { number });
            rest = behind;
        }
    }
    out + rest
}

fn without_times(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.retain(|key, _| key != "seconds" && key != "timings");
            map.values_mut().for_each(without_times);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(without_times),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::without_seconds;

    #[test]
    fn only_times_are_taken_out() {
        let text = "<td>12.5 s</td> 3 steps, 0.25 ms {\"seconds\":1.5e-3,\"score\":0.7} 4 min 05 s h2";
        assert_eq!(without_seconds(text), "<td>#</td> 3 steps, # {\"seconds\":#,\"score\":0.7} # h2");
    }
}

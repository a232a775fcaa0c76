//! The command line of the benchmark.

use crate::Outcome;
use std::path::PathBuf;

/// Who takes part, in the order of the table.
pub const CONTENDERS: [&str; 4] = ["shiftlens", "candle", "torch", "onnx"];

/// What to measure.
pub struct Options {
    pub python: String,
    pub networks: Vec<usize>,
    pub batches: Vec<usize>,
    pub threads: Vec<usize>,
    pub contenders: Vec<String>,
    pub rounds: usize,
    /// Shows what the Python processes say on stderr.
    pub verbose: bool,
    pub memory: bool,
    /// Series against their codes one by one instead.
    pub series: bool,
    /// The program whose `generate` is measured instead.
    pub generate: Option<PathBuf>,
}

fn list<T: std::str::FromStr>(key: &str, text: &str) -> Outcome<Vec<T>> {
    let parse = |t: &str| t.trim().parse().map_err(|_| format!("{key}: \"{t}\" in \"{text}\" is no number"));
    Ok(text.split(',').map(parse).collect::<Result<_, _>>()?)
}

impl Options {
    pub fn read(args: impl Iterator<Item = String>) -> Outcome<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut o = Self {
            python: "python3".into(),
            networks: vec![64, 128, 256],
            batches: vec![1, crate::network::CODES],
            threads: if cores > 1 { vec![1, 2] } else { vec![1] },
            contenders: CONTENDERS.map(str::to_owned).to_vec(),
            rounds: 10,
            verbose: false,
            memory: false,
            series: false,
            generate: None,
        };
        let mut args = args.filter(|a| a != "--bench");
        while let Some(key) = args.next() {
            match key.as_str() {
                "--quick" => (o.rounds, o.networks) = (3, vec![64]),
                "--verbose" => o.verbose = true,
                "--memory" => o.memory = true,
                "--series" => o.series = true,
                _ => {
                    let value = args.next().ok_or_else(|| format!("{key} needs a value, or is no option"))?;
                    match key.as_str() {
                        "--python" => o.python = value,
                        "--network" => o.networks = list(&key, &value)?,
                        "--batch" => o.batches = list(&key, &value)?,
                        "--threads" => o.threads = list(&key, &value)?,
                        "--rounds" => o.rounds = value.parse()?,
                        "--contenders" => o.contenders = value.split(',').map(str::to_owned).collect(),
                        "--generate" => o.generate = Some(value.into()),
                        _ => return Err(format!("no option {key}").into()),
                    }
                }
            }
        }
        if let Some(unknown) = o.contenders.iter().find(|c| !CONTENDERS.contains(&c.as_str())) {
            return Err(format!("no contender \"{unknown}\"; there are {}", CONTENDERS.join(", ")).into());
        }
        if !o.contenders.iter().any(|c| c == CONTENDERS[0]) {
            return Err("the contenders lack shiftlens, with which the others are compared".into());
        }
        if let Some(b) = o.batches.iter().find(|b| !(1..=crate::network::CODES).contains(*b)) {
            return Err(format!("a batch of {b}: expected 1 to {}", crate::network::CODES).into());
        }
        if o.rounds == 0 || o.threads.contains(&0) {
            return Err("no rounds, or no threads: expected at least one".into());
        }
        Ok(o)
    }
}

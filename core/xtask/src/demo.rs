//! `cargo xtask demo`: the knee example from a clean checkout to a report.

use crate::setup;
use crate::shell::{Failure, Outcome, cargo, step};
use std::path::{Path, PathBuf};

/// How to run the demo.
#[derive(Debug, PartialEq)]
pub struct Options {
    images: Option<PathBuf>,
    limit: Option<usize>,
    out: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments after `demo`.
    pub fn parse(args: &[String]) -> Outcome<Self> {
        let mut options = Self { images: None, limit: None, out: None };
        let mut args = args.iter();
        while let Some(name) = args.next() {
            let mut value = || {
                args.next().ok_or_else(|| {
                    Failure::usage(format!("demo: {name} needs a value, see `cargo xtask help`"))
                })
            };
            match name.as_str() {
                "--images" => options.images = Some(here(value()?)?),
                "--out" => options.out = Some(here(value()?)?),
                "--limit" => {
                    let text = value()?;
                    let n = text.parse().ok().filter(|n| *n > 0);
                    options.limit = Some(n.ok_or_else(|| {
                        Failure::usage(format!("demo: --limit {text}: expected a whole number from 1 up"))
                    })?);
                }
                other => {
                    let known = "expected --images DIR, --limit N or --out DIR";
                    return Err(Failure::usage(format!("demo: no option `{other}`, {known}")));
                }
            }
        }
        Ok(options)
    }

    /// The folder asked for, or one that other images and other limits have not filled: they make another run.
    fn out(&self) -> PathBuf {
        if let Some(out) = &self.out {
            return out.clone();
        }
        let mut name = "knee".to_owned();
        if let Some(folder) = self.images.as_ref().and_then(|p| p.file_name()) {
            name = format!("{name}-{}", folder.to_string_lossy());
        }
        if let Some(limit) = self.limit {
            name = format!("{name}-{limit}");
        }
        Path::new("runs").join(name)
    }
}

/// The user's paths start from where the user stands, the program is started at the workspace's root.
fn here(path: &str) -> Outcome<PathBuf> {
    std::path::absolute(path).map_err(|e| Failure::usage(format!("demo: path `{path}`: {e}")))
}

/// Set-up, release build, run.
pub fn demo(options: &Options) -> Outcome {
    if let Some(images) = options.images.as_deref().filter(|p| !p.exists()) {
        return Err(Failure::usage(format!("demo: --images {}: no such file or folder", images.display())));
    }
    setup::setup();
    step(cargo(&["build", "--locked", "--release"]))?;
    let manifest = Path::new("manifests").join("knee.toml");
    let mut run = cargo(&["run", "--locked", "--release", "--quiet", "--package", "shiftlens", "--", "run"]);
    run.arg(manifest).arg("--out").arg(options.out());
    if let Some(images) = &options.images {
        run.arg("--images").arg(images);
    }
    if let Some(limit) = options.limit {
        run.arg("--limit").arg(limit.to_string());
    }
    step(run)?;
    println!("open {}", crate::root().join(options.out()).join("report.html").display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Outcome<Options> {
        Options::parse(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read() {
        let o = parse(&["--limit", "3", "--images", "knees"]).unwrap();
        assert_eq!(o.out(), Path::new("runs/knee-knees-3"));
        assert_eq!((o.limit, o.images), (Some(3), Some(std::env::current_dir().unwrap().join("knees"))));
        assert_eq!(parse(&[]).unwrap().out(), Path::new("runs/knee"));
    }

    #[test]
    fn wrong_calls_are_usage_errors() {
        for (args, words) in [
            (&["--limit"][..], "--limit needs a value"),
            (&["--limit", "0"], "--limit 0: expected a whole number"),
            (&["--limit", "few"], "--limit few"),
            (&["--image", "x"], "no option `--image`"),
        ] {
            let failure = parse(args).unwrap_err();
            assert!(failure.message.contains(words) && failure.code == 2, "{failure:?}");
        }
    }
}

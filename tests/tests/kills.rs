//! Runs that are killed at random moments and started again.

use shiftlens_tests::program::{command, run_record, same_run};
use shiftlens_tests::root;
use shiftlens_tests::toy::Toy;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// SplitMix64 (Steele, Lea and Flood 2014), to [0, 1).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Runs to the end, and how long that took.
fn undisturbed(folder: &Path, args: &[&str]) -> Duration {
    let started = Instant::now();
    let status = command(folder, args).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{args:?}: {status}");
    started.elapsed()
}

/// Starts the run and kills it (SIGKILL) at a moment within `span`; true if it had not ended by itself.
fn killed(folder: &Path, args: &[&str], span: Duration, random: &mut Random) -> bool {
    let mut run = command(folder, args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(span.mul_f64(random.next()));
    let ended = run.try_wait().unwrap();
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(ended.is_none_or(|status| status.success()), "a run that was killed before failed: {ended:?}");
    ended.is_none()
}

/// Cases that are there or in the making, of whichever predictor.
fn in_the_making(out: &Path) -> usize {
    let folders = [out.to_owned()].into_iter().chain(["first", "second"].map(|name| out.join(name)));
    folders.map(|run| std::fs::read_dir(run.join("cases")).map_or(0, Iterator::count)).sum()
}

/// Kills runs into `out` until so many were hit, each time within `span`, and starts them again. Whatever comes to its end is
/// compared with the undisturbed run in `whole`, and begun anew. Answers how many kills found some cases.
fn kill(
    folder: &Path,
    args: &[&str],
    (whole, out): (&Path, &Path),
    kills: u64,
    span: Duration,
    random: &mut Random,
) -> u64 {
    let (mut hits, mut ended, mut amid) = (0, 0, 0);
    while hits < kills {
        if killed(folder, args, span, random) {
            hits += 1;
            let cases = in_the_making(out);
            amid += u64::from(cases > 0);
            println!("kill {hits}: {cases} cases were there or in the making");
        } else {
            ended += 1;
            println!("a run came to its end");
            assert!(ended < 10 * kills, "runs end before they are killed");
            same_run(whole, out);
            std::fs::remove_dir_all(out).unwrap();
        }
    }
    undisturbed(folder, args);
    same_run(whole, out);
    amid
}

#[test]
fn kills_at_random_moments_lose_nothing() {
    let toy = Toy::new();
    for i in 0..40u8 {
        toy.picture(&format!("images/high/q{}_{i}.png", i / 2), [150 + 2 * i, 100 + i, 120, 90 + i]);
    }
    std::fs::write(toy.path("images/low/q99_9.png"), b"not a picture").unwrap();
    let args = |out: &'static str| ["run", "study.toml", "--out", out];
    let span = undisturbed(toy.folder(), &args("whole"));
    let mut random = Random(20);
    let places = (toy.path("whole"), toy.path("out"));
    kill(toy.folder(), &args("out"), (&places.0, &places.1), 6, span, &mut random);
    // The same for parts, which are joined by a merge that is killed too.
    let shards = [
        ["run", "study.toml", "--out", "p1", "--shard", "1/2"],
        ["run", "study.toml", "--out", "p2", "--shard", "2/2"],
    ];
    for shard in &shards {
        killed(toy.folder(), shard, span, &mut random);
        undisturbed(toy.folder(), shard);
    }
    let merge = ["merge", "joined", "p1", "p2"];
    killed(toy.folder(), &merge, Duration::from_millis(100), &mut random);
    undisturbed(toy.folder(), &merge);
    same_run(&toy.path("whole"), &toy.path("joined"));
}

#[test]
fn kills_of_two_predictors_lose_nothing() {
    let toy = Toy::new();
    toy.two_predictors();
    for i in 0..16u8 {
        toy.picture(&format!("images/high/q{}_{i}.png", i / 2), [150 + 2 * i, 100 + i, 120, 90 + i]);
    }
    let args = |out: &'static str| ["run", "study.toml", "--out", out];
    let span = undisturbed(toy.folder(), &args("whole"));
    let places = (toy.path("whole"), toy.path("out"));
    kill(toy.folder(), &args("out"), (&places.0, &places.1), 5, span, &mut Random(7));
}

/// A run of the knee example on other images, with a direction that is soon found: most kills are to hit the images.
fn knee<'a>(images: &'a str, out: &'a str) -> [&'a str; 10] {
    let few = ["direction.samples=500", "direction.audit={ refits = 2, randoms = 2, codes = 10 }"];
    let [samples, audit] = few;
    ["run", "manifests/knee.toml", "--images", images, "--out", out, "--set", samples, "--set", audit]
}

/// `cargo xtask kills`: numbers come by `SHIFTLENS_KILLS`, `SHIFTLENS_KILL_IMAGES` and `SHIFTLENS_KILL_SEED`.
#[test]
#[ignore = "takes minutes: cargo xtask kills"]
fn kills_of_the_knee_example_lose_nothing() {
    let number = |name: &str, default: u64| {
        let text = std::env::var(name).unwrap_or_else(|_| default.to_string());
        text.parse::<u64>().unwrap_or_else(|e| panic!("{name} = {text}: {e}"))
    };
    let (kills, images) = (number("SHIFTLENS_KILLS", 20), number("SHIFTLENS_KILL_IMAGES", 200));
    let mut random = Random(number("SHIFTLENS_KILL_SEED", 1));
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (pictures, whole, out) = (at("images"), at("whole"), at("out"));
    let seeds = format!("0-{}", images - 1);
    let draw = [
        "generate",
        "examples/knee/generator.safetensors",
        "--seeds",
        seeds.as_str(),
        "--out",
        pictures.as_str(),
    ];
    undisturbed(&root(), &draw);
    let span = undisturbed(&root(), &knee(&pictures, &whole));
    println!("{images} images, undisturbed: {:.1} s", span.as_secs_f64());
    // Within half the time, so that one run is hit several times.
    let moment = span.mul_f64(0.5);
    let places = (Path::new(&whole), Path::new(&out));
    let amid = kill(&root(), &knee(&pictures, &out), places, kills, moment, &mut random);
    assert!(
        2 * amid >= kills,
        "{amid} of {kills} kills hit a run that had cases, expected half of them or more"
    );
    let record = run_record(Path::new(&out));
    assert!(record.complete && record.cases.len() as u64 == images);
    println!("all files are those of the undisturbed run, times aside");
}

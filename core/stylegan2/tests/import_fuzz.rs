//! Files that were changed at random: every one is imported or refused, and no more is allocated than a file of its
//! size can ask for.

use candle_core::{Device, Tensor};
use cap::Cap;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use shiftlens_stylegan2::import::{ImportOptions, from_bytes};
use shiftlens_stylegan2::net::{Architecture, GeneratorConfig, GeneratorNet, SynthesisInput};
use shiftlens_stylegan2::weights::Weights;
use std::alloc::System;
use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Files tried of each format.
const TRIES: usize = 1500;
/// Bytes that may be in use at once beyond what was before, with files of at most 40 kB.
const BOUND: usize = 4 << 20;

fn files() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let config = GeneratorConfig {
        resolution: 8,
        channels: 1,
        z_dim: 3,
        w_dim: 4,
        mapping_layers: 1,
        channel_base: 32,
        channel_max: 4,
        conv_clamp: None,
        architecture: Architecture::Skip,
        input: SynthesisInput::Constant,
        label_dim: 0,
    };
    let weights = Weights::random(1, &Device::Cpu);
    GeneratorNet::new(&config, &weights).unwrap();
    let tensors: HashMap<String, Tensor> = weights.tensors().into_iter().collect();
    let source = folder.path().join("g.safetensors");
    candle_core::safetensors::save(&tensors, &source).unwrap();
    // The last one lacks the mean of w, which is then computed: that takes the matrix product's buffers.
    let drop = ["mapping.w_avg"];
    let kinds = [
        ("nvlabs", 0),
        ("nvlabs", 2),
        ("nvlabs", 4),
        ("nvlabs-dict", 4),
        ("zip", 2),
        ("older", 2),
        ("zip", 2),
    ];
    let jobs: Vec<String> = kinds
        .iter()
        .enumerate()
        .map(|(i, (layout, protocol))| {
            let config = json!({
                "z_dim": 3, "c_dim": 0, "w_dim": 4, "img_resolution": 8, "img_channels": 1, "mapping_layers": 1,
                "channel_base": 32, "channel_max": 4, "conv_clamp": 256,
            });
            let drop = &drop[..if i + 1 == kinds.len() { 1 } else { 0 }];
            json!({
                "from": source, "to": i.to_string(), "layout": layout, "protocol": protocol, "config": config,
                "drop": drop,
            })
            .to_string()
        })
        .collect();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/import/pack.py");
    let mut python =
        Command::new("python3").arg(script).arg(folder.path()).stdin(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(jobs.join("\n").as_bytes()).unwrap();
    assert!(python.wait().unwrap().success());
    let mut files: Vec<Vec<u8>> =
        (0..kinds.len()).map(|i| std::fs::read(folder.path().join(i.to_string())).unwrap()).collect();
    files.push(std::fs::read(source).unwrap());
    files
}

/// Changes `file` in one to four places.
fn change(file: &mut Vec<u8>, all: &[Vec<u8>], rng: &mut ChaCha8Rng) {
    for _ in 0..rng.random_range(1..=4) {
        if file.is_empty() {
            return;
        }
        let at = rng.random_range(0..file.len());
        match rng.random_range(0..8) {
            0 => file.truncate(at),
            1 => file[at] ^= 1 << rng.random_range(0..8),
            2 => file[at] = rng.random(),
            // A length without end, a length that is negative, or one that is just too long.
            3 => {
                let n = rng.random_range(1..=8).min(file.len() - at);
                let byte = [0xff, 0x7f, 0x00][rng.random_range(0..3)];
                file[at..at + n].fill(byte);
            }
            4 => {
                let opcodes = b"()}].0122RbQt\x81\x85\x86\x93\x94\x95\x8a\x8b\x8eXBTh\x00jause";
                let n = rng.random_range(1..6);
                let made: Vec<u8> = (0..n).map(|_| opcodes[rng.random_range(0..opcodes.len())]).collect();
                file.splice(at..at, made);
            }
            5 => {
                let end = (at + rng.random_range(1..200)).min(file.len());
                file.drain(at..end);
            }
            // A part of another file, or of this one once more.
            6 => {
                let other = &all[rng.random_range(0..all.len())];
                let from = rng.random_range(0..other.len());
                let end = (from + rng.random_range(1..400)).min(other.len());
                file.splice(at..at, other[from..end].iter().copied());
            }
            _ => {
                let end = (at + rng.random_range(1..64)).min(file.len());
                let part = file[at..end].to_vec();
                file.splice(at..at, part.repeat(rng.random_range(1..20)));
            }
        }
    }
}

#[test]
fn changed_files_are_imported_or_refused_in_bounded_memory() {
    let files = files();
    let options = ImportOptions::default();
    for (i, file) in files.iter().enumerate() {
        assert!(file.len() < 40_000, "file {i}: {} bytes", file.len());
        from_bytes(file, &options).unwrap_or_else(|e| panic!("file {i}, unchanged: {e}"));
        // Each file that ends too early is refused, the archive and others that say their length included.
        for n in (0..file.len()).step_by(file.len() / 97) {
            assert!(from_bytes(&file[..n], &options).is_err(), "file {i}, {n} bytes of it");
        }
    }
    // Where RUST_BACKTRACE is set, candle's first error reads the program's symbols.
    let _ = candle_core::Error::Msg("first".into()).bt().to_string();
    // The peak only grows: from here on it does whenever more than now is in use.
    let ballast = vec![0u8; ALLOCATOR.max_allocated() - ALLOCATOR.allocated()];
    let before = ALLOCATOR.max_allocated();
    let mut rng = ChaCha8Rng::seed_from_u64(20_200_414);
    let mut messages = std::collections::BTreeSet::new();
    let mut sound = 0;
    for i in 0..files.len() * TRIES {
        let mut file = files[i % files.len()].clone();
        change(&mut file, &files, &mut rng);
        match from_bytes(&file, &options) {
            Ok(_) => sound += 1,
            // Offsets, sizes and names, which the changed bytes give, are taken out of the message.
            Err(e) => {
                let text = e.to_string();
                let kind = text.split(['`', '"', '[']).next().unwrap_or_default();
                messages.insert(kind.replace(|c: char| c.is_ascii_digit(), ""));
            }
        }
        let grown = ALLOCATOR.max_allocated() - before;
        assert!(grown < BOUND, "try {i}, {} bytes: {grown} bytes were allocated", file.len());
    }
    let grown = ALLOCATOR.max_allocated() - before;
    drop(ballast);
    println!("{sound} imported, {} kinds of refusals, at most {grown} bytes", messages.len());
    assert!(grown > files[0].len(), "no more than a file's own size was seen: nothing was measured");
    // Changes went into numbers that any network may have, and into every part of the reader.
    assert!(sound > 100 && messages.len() > 30, "{sound} imported, refusals: {messages:#?}");
}

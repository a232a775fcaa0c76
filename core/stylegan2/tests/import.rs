//! Import of other programs' files. Network pickles and checkpoints are made by `import/pack.py` from the reference's
//! state dicts, with the structure that PyTorch gives them; images are the reference's.
//!
//! `rosinality16.pt` (archive) and `rosinality16_older.pt` were written by PyTorch 2.15's `torch.save`: a network of
//! random weights with the module names and the arithmetic of rosinality's generator (grouped weights multiplied by
//! scale and style, `conv_transpose2d`, `upfirdn2d` as convolution), 16x16, widths 16, 16 and 12, three mapping layers,
//! written for this test; `rosinality16_io.safetensors` are its codes and images, 5e-7 from those in float64.

mod support;

use candle_core::{DType, Device, Tensor};
use serde_json::json;
use shiftlens_api::{Error, Generator};
use shiftlens_stylegan2::import::{ImportOptions, Imported, import_generator};
use shiftlens_stylegan2::net::{GeneratorNet, Noise};
use shiftlens_stylegan2::weights::Weights;
use shiftlens_stylegan2::{GeneratorOptions, StyleGan2Generator};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::generator;

type Arrays = HashMap<String, Tensor>;

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// A fixture, or a file of the shared folder beside the repository, where that is there.
fn golden(name: &str) -> Option<PathBuf> {
    let fixture = here().join("fixtures").join(name);
    let shared = here().join("../../../../shared/golden/stylegan2").join(name);
    let found = [fixture, shared].into_iter().find(|p| p.exists());
    if found.is_none() {
        println!("{name} skipped: no ../shared/golden/stylegan2 beside the repository");
    }
    found
}

fn load(path: &Path) -> Arrays {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

/// Runs `pack.py` for these jobs.
fn pack(folder: &Path, jobs: &[String]) {
    let mut python = Command::new("python3")
        .arg(here().join("import/pack.py"))
        .arg(folder)
        .stdin(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    python.stdin.take().unwrap().write_all(jobs.join("\n").as_bytes()).unwrap();
    assert!(python.wait().unwrap().success(), "pack.py failed");
}

/// A job for `pack.py`: `more` replaces and adds keys.
fn job(name: &str, to: &str, more: serde_json::Value) -> String {
    let c = generator(name);
    let mut job = json!({
        "from": golden(&format!("{name}_G.safetensors")).unwrap(), "to": to, "layout": "nvlabs", "protocol": 4,
        "config": {
            "z_dim": c.z_dim, "c_dim": 0, "w_dim": c.w_dim, "img_resolution": c.resolution,
            "img_channels": c.channels, "mapping_layers": c.mapping_layers, "channel_base": c.channel_base,
            "channel_max": c.channel_max, "conv_clamp": null,
        },
    });
    for (key, value) in more.as_object().unwrap() {
        match value {
            serde_json::Value::Object(inner) if key == "config" => {
                inner.iter().for_each(|(k, v)| job[key][k] = v.clone());
            }
            _ => job[key] = value.clone(),
        }
    }
    job.to_string()
}

fn import(path: &Path) -> Imported {
    import_generator(path, &ImportOptions::default()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference over the rms of `expected`.
fn off(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let (a, b) = (flat(found), flat(expected));
    let rms = (b.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / b.len() as f64).sqrt();
    a.iter().zip(&b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max) / rms
}

/// Images with constant noise of the codes `z` at `psi`.
fn images(g: &Imported, z: &Tensor, psi: f64) -> Tensor {
    let net = GeneratorNet::new(&g.config, &Weights::frozen(g.tensors.clone(), &Device::Cpu)).unwrap();
    let w = net.truncate(&net.map(z).unwrap(), psi).unwrap();
    net.synthesize(&net.broadcast(&w).unwrap(), Noise::Constant).unwrap()
}

/// Whether the tensors are those of the reference, bit by bit, after rounding.
fn same(g: &Imported, reference: &Arrays, round: impl Fn(&[f32]) -> Vec<f32>) {
    assert!(g.tensors.len() > 20);
    for (name, t) in &g.tensors {
        assert_eq!(t.dims(), reference[name].dims(), "{name}");
        assert_eq!(flat(t), round(&flat(&reference[name])), "{name}");
    }
}

fn half(values: &[f32]) -> Vec<f32> {
    flat(
        &Tensor::new(values, &Device::Cpu)
            .unwrap()
            .to_dtype(DType::F16)
            .unwrap()
            .to_dtype(DType::F32)
            .unwrap(),
    )
}

#[test]
fn network_pickles_give_the_references_images() {
    for name in ["g32", "g64"] {
        let (Some(file), Some(io)) =
            (golden(&format!("{name}_G.safetensors")), golden(&format!("{name}_io.safetensors")))
        else {
            continue;
        };
        let (reference, io) = (load(&file), load(&io));
        let folder = tempfile::tempdir().unwrap();
        // Protocol 0 and 1 belong to no program that is known, but cost nothing.
        let protocols = if name == "g32" { vec![0, 1, 2, 3, 4, 5] } else { vec![2, 4] };
        let mut jobs = vec![
            job(name, "half", json!({ "numbers": "f16" })),
            job(name, "half2", json!({ "numbers": "f16", "protocol": 2 })),
        ];
        for p in &protocols {
            jobs.push(job(name, &p.to_string(), json!({ "protocol": p })));
        }
        pack(folder.path(), &jobs);
        for p in protocols {
            let g = import(&folder.path().join(p.to_string()));
            assert_eq!((&g.config, g.notes.len()), (&generator(name), 0), "{:?}", g.notes);
            same(&g, &reference, <[f32]>::to_vec);
            for psi in [1.0, 0.7] {
                let error = off(&images(&g, &io["z"], psi), &io[&format!("img_const_psi{psi}")]);
                assert!(error < 1e-4, "{name}, protocol {p}, psi {psi}: off by {error:e} of rms");
            }
        }
        for file in ["half", "half2"] {
            let g = import(&folder.path().join(file));
            same(&g, &reference, half);
            // Each weight is off by up to 2^-11 of itself, and a dozen layers add up.
            let error = off(&images(&g, &io["z"], 1.0), &io["img_const_psi1"]);
            assert!(error < 2e-2 && error > 1e-5, "{name} in half precision: off by {error:e} of rms");
        }
    }
}

#[test]
fn rosinalitys_checkpoints_give_their_images() {
    let io = load(&here().join("fixtures/rosinality16_io.safetensors"));
    for file in ["rosinality16.pt", "rosinality16_older.pt"] {
        let g = import(&here().join("fixtures").join(file));
        let c = &g.config;
        assert_eq!((c.resolution, c.channels, c.z_dim, c.w_dim, c.mapping_layers), (16, 3, 24, 24, 3));
        assert_eq!((c.channel_base, c.channel_max, c.conv_clamp), (192, 16, None));
        assert!(g.notes.is_empty() && g.format.contains("rosinality"), "{:?}", g.notes);
        assert_eq!(flat(&g.tensors["mapping.w_avg"]), flat(&io["w_avg"]));
        for psi in [1.0, 0.7] {
            let error = off(&images(&g, &io["z"], psi), &io[&format!("img_const_psi{psi}")]);
            assert!(error < 1e-4, "{file}, psi {psi}: off by {error:e} of rms");
        }
    }
}

#[test]
fn state_dicts_are_read_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let reference = golden("g32_G.safetensors").unwrap();
    let io = load(&golden("g32_io.safetensors").unwrap());
    let layouts = ["nvlabs-dict", "zip", "older"];
    pack(folder.path(), &layouts.map(|l| job("g32", l, json!({ "layout": l }))));
    let mut files: Vec<PathBuf> = layouts.iter().map(|l| folder.path().join(l)).collect();
    files.push(reference.clone());
    for file in files {
        let g = import(&file);
        same(&g, &load(&reference), <[f32]>::to_vec);
        // Shapes tell the width at every resolution, and no more.
        assert_eq!(g.config, generator("g32"));
        assert!(g.notes.len() == 1 && g.notes[0].contains("clamped"), "{:?}", g.notes);
    }
    // Every type of numbers, in both of PyTorch's formats; bfloat16 was cut off by the script, not rounded.
    type Rounding = fn(f32) -> f32;
    let each = |v: &[f32], round: Rounding| v.iter().map(|v| round(*v)).collect::<Vec<f32>>();
    let rounding: [(&str, Rounding); 3] = [
        ("f64", |v| v),
        ("bf16", |v| f32::from_bits(v.to_bits() & 0xffff_0000)),
        ("i64", f32::round_ties_even),
    ];
    for (numbers, round) in rounding {
        // Filters are no integers.
        let drop: Vec<String> = (2..6).map(|e| format!("synthesis.b{}", 1 << e)).collect();
        let filters =
            ["", ".conv0", ".conv1"].map(|c| drop.iter().map(move |b| format!("{b}{c}.resample_filter")));
        let drop: Vec<String> = filters.into_iter().flatten().collect();
        for layout in ["zip", "older", "nvlabs-dict"] {
            let more = json!({ "layout": layout, "numbers": numbers, "drop": drop, "protocol": 3 });
            pack(folder.path(), &[job("g32", numbers, more)]);
            same(&import(&folder.path().join(numbers)), &load(&reference), |v| each(v, round));
        }
    }
    // What a state dict does not say can be said.
    let clamped = import_generator(&reference, &ImportOptions { conv_clamp: Some(0.5) }).unwrap();
    assert_eq!((clamped.config.conv_clamp, clamped.notes.len()), (Some(0.5), 0));
    assert!(off(&images(&clamped, &io["z"], 1.0), &io["img_const_psi1_conv_clamp0.5"]) < 1e-4);
    // A network pickle says it.
    pack(folder.path(), &[job("g32", "clamped", json!({ "config": { "conv_clamp": 0.5 } }))]);
    let clamped = import(&folder.path().join("clamped"));
    assert!(off(&images(&clamped, &io["z"], 1.0), &io["img_const_psi1_conv_clamp0.5"]) < 1e-4);
    let other = import_generator(&folder.path().join("clamped"), &ImportOptions { conv_clamp: Some(2.0) });
    assert!(other.unwrap_err().to_string().contains("the network has 0.5"));
}

#[test]
fn what_a_file_lacks_is_made_up_for_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let noise = ["synthesis.b8.conv0.noise_const", "synthesis.b8.conv0.noise_strength"];
    pack(
        folder.path(),
        &[
            job("g32", "mean", json!({ "drop": ["mapping.w_avg"] })),
            job("g32", "training", json!({ "key": "G" })),
            job(
                "g32",
                "silent",
                json!({ "drop": noise, "set": { "synthesis.b8.conv0": { "use_noise": false } } }),
            ),
        ],
    );
    let g = import(&folder.path().join("mean"));
    assert!(g.notes.len() == 1 && g.notes[0].contains("mean of w"), "{:?}", g.notes);
    let net = GeneratorNet::new(&g.config, &Weights::frozen(g.tensors.clone(), &Device::Cpu)).unwrap();
    // Against other draws: two means of n = 4096 codes differ by sqrt(2 / n) of the deviation, here times five.
    let w = shiftlens_stylegan2::file::sample_w(&net, 4096, 1 << 40).unwrap();
    let (mean, w) = (flat(&w.mean(0).unwrap()), w.to_vec2::<f32>().unwrap());
    for (d, (found, expected)) in flat(&g.tensors["mapping.w_avg"]).iter().zip(&mean).enumerate() {
        let variance = w.iter().map(|row| (row[d] - expected).powi(2)).sum::<f32>() / w.len() as f32;
        assert!(
            (found - expected).abs() < 5.0 * (2.0 * variance / 4096.0).sqrt(),
            "{d}: {found} and {expected}"
        );
        assert!(variance > 0.0);
    }
    let g = import(&folder.path().join("training"));
    assert!(g.notes.len() == 1 && g.notes[0].contains("in training"), "{:?}", g.notes);
    let g = import(&folder.path().join("silent"));
    assert!(g.notes.len() == 1 && g.notes[0].contains("synthesis.b8.conv0"), "{:?}", g.notes);
    assert_eq!(flat(&g.tensors["synthesis.b8.conv0.noise_strength"]), [0.0]);
}

#[test]
fn whatever_is_no_stylegan2_generator_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let config = |c: serde_json::Value| json!({ "config": c });
    let set = |path: &str, c: serde_json::Value| json!({ "set": { path: c } });
    let add = |name: &str, shape: &[usize]| json!({ "add": { name: shape } });
    let cases = [
        (add("synthesis.input.freqs", &[4, 2]), "StyleGAN3"),
        (set("synthesis", json!({ "class": "SynthesisInput" })), "StyleGAN3"),
        (json!({ "raw": "stylegan1-tf" }), "StyleGAN (the first version) of the TensorFlow"),
        (json!({ "raw": "pggan-tf" }), "progressively grown GAN of the TensorFlow"),
        (json!({ "raw": "stylegan2-tf" }), "StyleGAN2 of the TensorFlow"),
        (add("g_synthesis.blocks.4x4.const", &[1]), "StyleGAN (the first version)"),
        (add("scaleLayers.0.0.module.weight", &[1]), "progressively grown"),
        (config(json!({ "c_dim": 3 })), "c_dim is 3 in the network's arguments, 0 in its tensors"),
        (add("mapping.embed.weight", &[64, 3]), "3 labels embedded in 64 of the mapping network's 64 inputs"),
        (add("mapping.embed.weight", &[32, 3]), "embedded in 32 features; expected the size of w, 64"),
        (add("b32.fromrgb.weight", &[1]), "discriminator"),
        (add("synthesis.b8.skip.weight", &[1]), "architecture`: expected \"resnet\", found \"skip\""),
        (
            json!({ "drop": ["synthesis.b4.conv1"] }),
            "no StyleGAN2 generator: its tensors are called mapping.fc0",
        ),
        (
            set("synthesis.b8", json!({ "architecture": "orig" })),
            "`synthesis.b8.architecture`: expected \"skip\"",
        ),
        (set("mapping.fc1", json!({ "activation": "relu" })), "`mapping.fc1.activation`"),
        (
            set("mapping.fc1", json!({ "bias_gain": 1 })),
            "`mapping.fc1`: the learning-rate multiplier is 1, expected 0.01",
        ),
        (set("synthesis.b8.conv1", json!({ "conv_clamp": 256 })), "differ in conv_clamp"),
        (set("synthesis.b8.conv1", json!({ "conv_clamp": "x" })), "conv_clamp`: expected a positive number"),
        (set("synthesis.b8.conv1", json!({ "use_noise": false })), "a layer without noise"),
        (
            json!({ "drop": ["synthesis.b16.conv1.bias"] }),
            "tensor `synthesis.b16.conv1.bias` [64] is missing",
        ),
        (json!({ "drop": ["mapping.fc0"] }), "`mapping.fc0.weight` is missing"),
        (
            json!({ "drop": ["synthesis.b16"] }),
            "img_resolution is 32 in the network's arguments, 8 in its tensors",
        ),
        (json!({ "drop": ["synthesis.b16"], "layout": "zip" }), "`synthesis.b32."),
        (add("synthesis.b8.conv0.bias", &[63]), "expected shape [64], found [63]"),
        (add("synthesis.b8.conv0.gain", &[1]), "`synthesis.b8.conv0.gain` has no place"),
        (add("synthesis.b8.resample_filter", &[4, 4]), "resampling filter other than"),
        (add("synthesis.b8.resample_filter", &[12]), "resampling filter other than"),
        (config(json!({ "z_dim": 65 })), "z_dim is 65 in the network's arguments, 64"),
        (config(json!({ "mapping_layers": 8 })), "mapping_kwargs.num_layers is 8"),
        (config(json!({ "channel_max": 32 })), "64 feature maps at 4x4: expected min(2048 / 4, 32)"),
        (config(json!({ "w_dim": "many" })), "argument w_dim: expected an integer"),
        (json!({ "raw": "list" }), "neither a dict of networks nor a network"),
        (json!({ "raw": "other-keys" }), "expected one of the keys G_ema, g_ema, G, g, found model, epoch"),
        (json!({ "raw": "unfolding" }), "modules without end"),
        (json!({ "raw": "endless" }), "modules without end"),
        (
            json!({ "layout": "zip", "expand": { "mapping.w_avg": [1u64 << 33] } }),
            "`mapping.w_avg`: a tensor of shape [8589934592]: the tensors are larger than the file",
        ),
        (json!({ "layout": "zip", "expand": { "mapping.w_avg": [1u64 << 33, 1u64 << 40] } }), "too large"),
    ];
    let jobs: Vec<String> =
        cases.iter().enumerate().map(|(i, (more, _))| job("g32", &i.to_string(), more.clone())).collect();
    pack(folder.path(), &jobs);
    for (i, (more, message)) in cases.iter().enumerate() {
        let path = folder.path().join(i.to_string());
        let e = import_generator(&path, &ImportOptions::default()).expect_err(&more.to_string());
        assert!(matches!(e, Error::Invalid(_) | Error::Unsupported(_)), "{more}: {e:?}");
        let text = e.to_string();
        assert!(
            text.contains(message) && text.contains(path.to_str().unwrap()),
            "{more}: {text}, expected {message}"
        );
    }
    // Numbers that are none: JSON has no name for them.
    let nan = job("g32", "nan", json!({ "fill": { "synthesis.b8.conv0.bias": -77 } })).replace("-77", "NaN");
    pack(folder.path(), &[nan]);
    let e = import_generator(&folder.path().join("nan"), &ImportOptions::default()).unwrap_err();
    assert!(e.to_string().contains("`synthesis.b8.conv0.bias`: value 0 is NaN"), "{e}");
    let e = import_generator(&folder.path().join("nothing"), &ImportOptions::default()).unwrap_err();
    assert!(matches!(e, Error::Io { .. }), "{e:?}");
    std::fs::write(folder.path().join("text"), "no network").unwrap();
    let e = import_generator(&folder.path().join("text"), &ImportOptions::default()).unwrap_err();
    assert!(e.to_string().contains("neither safetensors nor"), "{e}");
}

#[test]
fn no_code_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let witness = folder.path().join("witness");
    let command = format!("touch {}", witness.display());
    let jobs = [0, 2, 4]
        .map(|p| job("g32", &p.to_string(), json!({ "raw": "evil", "command": command, "protocol": p })));
    pack(folder.path(), &jobs);
    for p in [0, 2, 4] {
        let file = folder.path().join(p.to_string());
        assert!(import_generator(&file, &ImportOptions::default()).is_err());
        assert!(!witness.exists(), "protocol {p}");
        // The file does what it says where a pickle is unpickled.
        let read = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))";
        assert!(Command::new("python3").args(["-c", read]).arg(&file).status().unwrap().success());
        assert!(witness.exists());
        std::fs::remove_file(&witness).unwrap();
    }
}

#[test]
fn a_damaged_archive_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(here().join("fixtures/rosinality16.pt")).unwrap();
    // The first weight of the convolution at 4x4, somewhere in the middle of its numbers.
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let path = folder.path().join("damaged.pt");
    std::fs::write(&path, &bytes).unwrap();
    let e = import_generator(&path, &ImportOptions::default()).unwrap_err();
    assert!(e.to_string().to_lowercase().contains("checksum"), "{e}");
}

#[test]
fn imported_networks_are_written_and_generate() {
    let folder = tempfile::tempdir().unwrap();
    let io = load(&here().join("fixtures/rosinality16_io.safetensors"));
    let g = import(&here().join("fixtures/rosinality16.pt"));
    assert_eq!((g.source.as_str(), g.sha256.len()), ("rosinality16.pt", 64));
    let mut sizes = Vec::new();
    for (half, tolerance) in [(false, 1e-4), (true, 2e-2)] {
        let path = folder.path().join("g.safetensors");
        g.save(&path, half).unwrap();
        sizes.push(std::fs::metadata(&path).unwrap().len());
        let mut made = StyleGan2Generator::load(&path, &GeneratorOptions::default()).unwrap();
        assert_eq!(made.config(), &g.config);
        let w = shiftlens_api::LatentCodes::new([4, 1, 24], flat(&io["w"])).unwrap();
        let images = made.synthesize(&w).unwrap();
        let expected = io["img_const_psi1"].affine(0.5, 0.5).unwrap();
        let found = Tensor::from_slice(images.as_slice(), expected.dims(), &Device::Cpu).unwrap();
        assert!(off(&found, &expected) < tolerance);
        let bytes = std::fs::read(&path).unwrap();
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let text = &metadata.metadata().as_ref().unwrap()["shiftlens"];
        let origin = &serde_json::from_str::<serde_json::Value>(text).unwrap()["origin"];
        assert_eq!((&origin["source"], &origin["sha256"]), (&json!(g.source), &json!(g.sha256)));
        let again = import_generator(&path, &ImportOptions::default()).unwrap_err();
        assert!(again.to_string().contains("needs no import"), "{again}");
    }
    assert!(sizes[1] * 10 < sizes[0] * 7, "{sizes:?}");
    let mut large = g;
    let bias = Tensor::new(&[0f32, 65504.0, 70000.0], &Device::Cpu).unwrap();
    large.tensors.insert("synthesis.b4.torgb.bias".into(), bias);
    let e = large.save(&folder.path().join("large.safetensors"), true).unwrap_err();
    assert!(e.to_string().contains("70000 is too large"), "{e}");
    assert!(!folder.path().join("large.safetensors").exists());
}

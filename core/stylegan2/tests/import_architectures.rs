//! Import of residual, plain and class-conditional generators and of two and four channels: the networks of
//! `oracle/make.py`, packed by `import/pack.py` as either of NVIDIA's PyTorch programs stores them and as a state dict.

mod support;

use candle_core::{Device, Tensor};
use serde_json::{Value, json};
use shiftlens_stylegan2::file::sample_w_of;
use shiftlens_stylegan2::import::{ImportOptions, import_generator};
use shiftlens_stylegan2::net::{Architecture, GeneratorConfig, GeneratorNet, Noise, SynthesisInput};
use shiftlens_stylegan2::weights::Weights;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{Arrays, close, fixtures, flat, part};

const CASES: [&str; 8] = [
    "g_resnet",
    "g_resnet_clamped",
    "g_resnet_labels",
    "g_orig",
    "g_orig_labels",
    "g_skip_labels",
    "g_skip_4_channels",
    "g_skip_width_1",
];

/// Arrays of a case and its configuration, with the reference's names of its arguments.
fn case(name: &str) -> (Value, Arrays) {
    let bytes = std::fs::read(fixtures().join("oracle").join(format!("{name}.safetensors"))).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let mut c: Value = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["case"]).unwrap();
    for (ours, theirs) in
        [("resolution", "img_resolution"), ("channels", "img_channels"), ("label_dim", "c_dim")]
    {
        c[theirs] = c[ours].take();
    }
    (c, candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap())
}

/// Writes a case's generator as a state dict, with the filters that the reference stores in every layer that resamples.
fn state_dict(a: &Arrays, path: &Path) {
    let mut tensors = part(a, "G");
    let taps = Tensor::new(&[1f32, 3.0, 3.0, 1.0], &Device::Cpu).unwrap();
    let filter = taps.reshape((4, 1)).unwrap().matmul(&taps.reshape((1, 4)).unwrap()).unwrap();
    let filter = (filter / 64.0).unwrap();
    let layers = ["conv0.weight", "conv1.weight", "skip.weight"];
    let layers: Vec<String> =
        tensors.keys().filter(|k| layers.iter().any(|l| k.ends_with(l))).cloned().collect();
    for layer in layers {
        let layer = layer.strip_suffix(".weight").unwrap();
        tensors.insert(format!("{layer}.resample_filter"), filter.clone());
    }
    candle_core::safetensors::save(&tensors, path).unwrap();
}

fn pack(folder: &Path, jobs: &[Value]) {
    let mut python = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/import/pack.py"))
        .arg(folder)
        .stdin(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let lines: Vec<String> = jobs.iter().map(Value::to_string).collect();
    python.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    assert!(python.wait().unwrap().success(), "pack.py failed");
}

fn kind(c: &Value) -> Architecture {
    serde_json::from_value(c["architecture"].clone()).unwrap()
}

#[test]
fn every_kind_of_generator_gives_its_images() {
    let folder = tempfile::tempdir().unwrap();
    let mut jobs = Vec::new();
    for name in CASES {
        let (mut config, a) = case(name);
        let from = folder.path().join(format!("{name}.safetensors"));
        state_dict(&a, &from);
        for (to, layout, arguments) in
            [("ada", "nvlabs", "nested"), ("flat", "nvlabs", "flat"), ("dict", "zip", "")]
        {
            config["arguments"] = arguments.into();
            let to = format!("{name}.{to}");
            jobs.push(json!({ "from": from, "to": to, "layout": layout, "protocol": 4, "config": config }));
        }
    }
    pack(folder.path(), &jobs);
    for name in CASES {
        let (c, a) = case(name);
        let expected: GeneratorConfig = {
            let size = |k: &str| usize::try_from(c[k].as_u64().unwrap()).unwrap();
            GeneratorConfig {
                resolution: size("img_resolution"),
                channels: size("img_channels"),
                z_dim: size("z_dim"),
                w_dim: size("w_dim"),
                mapping_layers: size("mapping_layers"),
                channel_base: size("channel_base"),
                channel_max: size("channel_max"),
                conv_clamp: c["conv_clamp"].as_f64().map(|v| v as f32),
                architecture: kind(&c),
                input: SynthesisInput::Constant,
                label_dim: size("c_dim"),
            }
        };
        for (file, is_dict) in [("ada", false), ("flat", false), ("dict", true), ("safetensors", true)] {
            let path = folder.path().join(format!("{name}.{file}"));
            // A state dict does not say what is clamped.
            let options = ImportOptions { conv_clamp: expected.conv_clamp.filter(|_| is_dict) };
            let g = import_generator(&path, &options).unwrap();
            if is_dict {
                // The smallest base with these widths.
                let same = GeneratorConfig {
                    channel_base: g.config.channel_base,
                    channel_max: g.config.channel_max,
                    ..expected.clone()
                };
                assert_eq!(g.config, same, "{name}.{file}");
                for r in expected.resolutions() {
                    assert_eq!(g.config.width(r), expected.width(r), "{name}.{file}");
                }
            } else {
                assert_eq!(g.config, expected, "{name}.{file}");
            }
            assert_eq!(g.tensors.len(), part(&a, "G").len());
            for (tensor, found) in &g.tensors {
                assert_eq!(flat(found), flat(&a[&format!("G.{tensor}")]), "{name}.{file}, {tensor}");
            }
            let colours = g.notes.iter().any(|n| n.contains("channels; explanations need grey or RGB"));
            assert_eq!(colours, ![1, 3].contains(&expected.channels), "{:?}", g.notes);
            let net = GeneratorNet::new(&g.config, &Weights::frozen(g.tensors, &Device::Cpu)).unwrap();
            let ws = net.broadcast(&net.map_labelled(&a["z"], a.get("labels")).unwrap()).unwrap();
            close(&format!("{name}.{file}"), &net.synthesize(&ws, Noise::Constant).unwrap(), &a["img"]);
        }
    }
}

#[test]
fn a_mean_of_w_that_is_missing_is_one_of_all_classes() {
    let folder = tempfile::tempdir().unwrap();
    let (config, a) = case("g_resnet_labels");
    let from = folder.path().join("g.safetensors");
    state_dict(&a, &from);
    let drop = ["mapping.w_avg"];
    let job =
        json!({ "from": from, "to": "g", "layout": "nvlabs", "protocol": 4, "config": config, "drop": drop });
    pack(folder.path(), &[job]);
    let g = import_generator(&folder.path().join("g"), &ImportOptions::default()).unwrap();
    assert!(g.notes.len() == 1 && g.notes[0].contains("mean of w"), "{:?}", g.notes);
    let net = GeneratorNet::new(&g.config, &Weights::frozen(g.tensors.clone(), &Device::Cpu)).unwrap();
    // Other draws, as many of each class: two means of n = 4096 codes differ by sqrt(2 / n) of the deviation, here
    // times five.
    let classes: Vec<Tensor> = (0..4).map(|c| sample_w_of(&net, 1024, 1 << 40, c).unwrap()).collect();
    let w = Tensor::cat(&classes, 0).unwrap();
    let (mean, variance) = (flat(&w.mean(0).unwrap()), flat(&w.var(0).unwrap()));
    for (d, found) in flat(&g.tensors["mapping.w_avg"]).iter().enumerate() {
        let off = (found - mean[d]).abs();
        assert!(off < 5.0 * (2.0 * variance[d] / 4096.0).sqrt(), "{d}: {found} and {}", mean[d]);
    }
    // One class alone has another mean, so that the comparison can tell.
    let one = flat(&classes[0].mean(0).unwrap());
    let apart = |d: usize| (one[d] - mean[d]).abs() > 10.0 * (2.0 * variance[d] / 4096.0).sqrt();
    assert!((0..8).any(apart), "{one:?}, {mean:?}");
}

#[test]
fn contradictions_between_modules_and_tensors_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let set = |path: &str, c: Value| json!({ "set": { path: c } });
    let cases = [
        (
            "g_resnet",
            set("synthesis.b8", json!({ "architecture": "skip" })),
            "`synthesis.b8.architecture`: expected \"resnet\", found \"skip\"",
        ),
        (
            "g_orig",
            set("synthesis.b4", json!({ "architecture": "skip" })),
            "`synthesis.b4.architecture`: expected \"orig\", found \"skip\"",
        ),
        (
            "g_resnet",
            set("synthesis.b8.skip", json!({ "activation": "lrelu" })),
            "expected \"linear\", found \"lrelu\"",
        ),
        (
            "g_resnet",
            set("synthesis.b16.skip", json!({ "conv_clamp": 256 })),
            "`synthesis.b16.skip.conv_clamp`: expected None, found 256",
        ),
        (
            "g_skip_labels",
            set("mapping.embed", json!({ "bias_gain": 0.01 })),
            "`mapping.embed`: the learning-rate multiplier is 0.01, expected 1",
        ),
        (
            "g_skip_labels",
            set("mapping.embed", json!({ "activation": "lrelu" })),
            "`mapping.embed.activation`",
        ),
        (
            "g_skip_labels",
            json!({ "arguments": { "c_dim": 4 } }),
            "c_dim is 4 in the network's arguments, 3 in its tensors",
        ),
        ("g_skip_labels", json!({ "drop": ["mapping.embed.bias"] }), "`mapping.embed.bias` [9] is missing"),
        (
            "g_skip_labels",
            json!({ "drop": ["mapping.embed"] }),
            "z_dim is 6 in the network's arguments, 15 in its tensors",
        ),
        (
            "g_resnet",
            json!({ "drop": ["synthesis.b8.skip.weight"] }),
            "`synthesis.b8.skip.weight` [8, 8, 1, 1] is missing",
        ),
        ("g_resnet", json!({ "drop": ["synthesis.b16.torgb"] }), "`synthesis.b16.torgb.weight` is missing"),
        (
            "g_skip_4_channels",
            json!({ "drop": ["synthesis.b4.torgb"] }),
            "`synthesis.b4.torgb.affine.weight` [7, 9] is missing",
        ),
        (
            "g_orig",
            json!({ "add": { "synthesis.b8.torgb.extra": [1] } }),
            "`synthesis.b8.torgb.extra` has no place",
        ),
    ];
    let mut jobs = Vec::new();
    for (i, (name, more, _)) in cases.iter().enumerate() {
        let (mut config, a) = case(name);
        let from = folder.path().join(format!("{name}.safetensors"));
        state_dict(&a, &from);
        if let Some(arguments) = more["arguments"].as_object() {
            arguments.iter().for_each(|(k, v)| config[k] = v.clone());
        }
        let mut job =
            json!({ "from": from, "to": i.to_string(), "layout": "nvlabs", "protocol": 2, "config": config });
        more.as_object().unwrap().iter().for_each(|(k, v)| job[k] = v.clone());
        jobs.push(job);
    }
    pack(folder.path(), &jobs);
    for (i, (name, more, message)) in cases.iter().enumerate() {
        let e = import_generator(&folder.path().join(i.to_string()), &ImportOptions::default());
        let e = e.expect_err(&format!("{name}: {more}")).to_string();
        assert!(e.contains(message), "{name}, {more}: {e}, expected {message}");
    }
}

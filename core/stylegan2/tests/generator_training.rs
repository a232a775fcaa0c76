//! Parts of the generator's training that runs of a few steps can show: accumulated gradients, adaptive augmentation, warm
//! starts, figures over time, checkpoints.

mod support;

use candle_core::{Device, Tensor};
use shiftlens_api::{Error, Images, Silent};
use shiftlens_stylegan2::file::load_generator;
use shiftlens_stylegan2::train::{Evaluate, GeneratorManifest, Parts, train_generator, train_generator_with};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Slanted ramps.
fn pictures(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for i in 0..10u32 {
        let picture = image::GrayImage::from_fn(16, 16, |x, y| image::Luma([(7 * x + (i + 2) * y) as u8]));
        picture.save(folder.join(format!("{i:02}.png"))).unwrap();
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        shiftlens_stylegan2::enable_second_order();
        let folder = tempfile::tempdir().unwrap();
        pictures(&folder.path().join("pictures"));
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A manifest with more keys in `[training]` and more sections.
    fn read(
        &self,
        output: &str,
        resolution: usize,
        training: &str,
        sections: &str,
    ) -> shiftlens_api::Result<GeneratorManifest> {
        let text = format!(
            r#"
schema = 1
name = "ramps"
data = {{ images = ["pictures"], flip = true }}
{}[training]
seed = 3
batch = 16
ema-half-life = 200
{training}
{sections}
[output]
folder = {:?}
checkpoint-every = 16
samples-every = 1000
"#,
            support::networks(resolution),
            self.path(output)
        );
        let path = self.path("train.toml");
        std::fs::write(&path, text).unwrap();
        GeneratorManifest::read(&path)
    }

    fn train(&self, output: &str, training: &str, sections: &str, stop: Option<u64>) -> PathBuf {
        let manifest = self.read(output, 16, training, sections).unwrap();
        train_generator(&manifest, stop, &Silent).unwrap();
        self.path(output)
    }
}

fn checkpoint(folder: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(folder.join("checkpoint.safetensors"), &Device::Cpu).unwrap()
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn norm(v: &[f32]) -> f64 {
    v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

/// Rows of a CSV file, by column.
fn table(path: &Path) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    reader.deserialize().collect::<Result<_, _>>().unwrap()
}

/// Adam's first moment, whose decay is 0, is the gradient of the last step.
#[test]
fn accumulated_gradients_are_those_of_the_whole_batch() {
    let folder = Folder::new();
    let keys = "images = 16\nlearning-rate = 1e-3\nr1-gamma = 0.0\npath-length-weight = 0.0\n";
    let whole = checkpoint(&folder.train("whole", keys, "", None));
    for parts in [2, 4] {
        let keys = format!("{keys}accumulate = {parts}\n");
        let cut = checkpoint(&folder.train(&format!("cut{parts}"), &keys, "", None));
        let mut checked = 0;
        for adam in ["g_adam.m.", "d_adam.m."] {
            let of = |all: &HashMap<String, Tensor>| -> BTreeMap<String, Vec<f32>> {
                all.iter().filter(|(k, _)| k.starts_with(adam)).map(|(k, t)| (k.clone(), flat(t))).collect()
            };
            let (whole, cut) = (of(&whole), of(&cut));
            let largest = whole.values().map(|v| norm(v)).fold(0.0, f64::max);
            for (name, expected) in &whole {
                let off: Vec<f32> = expected.iter().zip(&cut[name]).map(|(a, b)| a - b).collect();
                let (off, size) = (norm(&off), norm(expected));
                assert!(off < 1e-3 * size + 1e-5 * largest, "{parts} parts, {name}: {off:e} of {size:e}");
                checked += usize::from(size > 1e-4 * largest);
            }
        }
        assert!(checked > 30, "{checked} gradients");
    }
    let error = folder.read("odd", 16, &format!("{keys}accumulate = 8\n"), "").unwrap_err().to_string();
    assert!(error.contains("mbstd-group"), "{error}");
}

#[test]
fn penalties_of_parts_are_those_of_the_whole_batch() {
    let folder = Folder::new();
    let keys = "images = 16\nlearning-rate = 1e-6\nr1-gamma = 1.0\n";
    let whole = checkpoint(&folder.train("whole", keys, "", None));
    let cut = checkpoint(&folder.train("cut", &format!("{keys}accumulate = 2\n"), "", None));
    // The last of D's gradients is R1's, whose weights have hardly moved before.
    let mut checked = 0;
    for (name, expected) in whole.iter().filter(|(k, _)| k.starts_with("d_adam.m.") && k.ends_with("weight"))
    {
        let (expected, found) = (flat(expected), flat(&cut[name]));
        let off: Vec<f32> = expected.iter().zip(&found).map(|(a, b)| a - b).collect();
        assert!(norm(&off) < 1e-2 * norm(&expected), "{name}: {:e} of {:e}", norm(&off), norm(&expected));
        checked += 1;
    }
    assert!(checked > 5, "{checked} gradients");
    let row = |o: &str| table(&folder.path(o).join("log.csv")).remove(0);
    let (a, b) = (row("whole"), row("cut"));
    let number = |r: &BTreeMap<String, String>, k: &str| r[k].parse::<f64>().unwrap();
    for column in ["g_loss", "d_loss", "r1", "path_length"] {
        let (a, b) = (number(&a, column), number(&b, column));
        assert!(a > 0.0 && (a - b).abs() < 1e-2 * a, "{column}: {a} {b}");
    }
}

#[test]
fn adaptive_augmentation_follows_r_t_and_comes_back_from_a_checkpoint() {
    let folder = Folder::new();
    let keys = "images = 320\nlearning-rate = 2.5e-3\nr1-gamma = 0.1\nr1-interval = 3\n";
    // p rises or falls by 0.16 every two steps; the target makes sure of either.
    let section = |target: f64, p: f64| {
        format!("[augment]\npipeline = \"bgc\"\np = {p}\ntarget = {target}\ninterval = 2\nspeed = 0.2\n")
    };
    let up = folder.train("up", keys, &section(-1.0, 0.0), None);
    let parts = folder.path("parts");
    for stop in [Some(80), Some(48), None] {
        folder.train("parts", keys, &section(-1.0, 0.0), stop);
    }
    let read = |f: &Path| std::fs::read(f.join("generator.safetensors")).unwrap();
    assert_eq!(read(&up), read(&parts));
    let p = |f: &Path| {
        let rows = table(&f.join("log.csv"));
        rows.iter().map(|r| r["p"].parse::<f64>().unwrap()).collect::<Vec<_>>()
    };
    // 20 steps of 16 images are enough for p to arrive at 1; r_t may be -1 in the first of them.
    assert!(p(&up).last().is_some_and(|p| *p > 0.6), "{:?}", p(&up));
    let state = flat_f64(&checkpoint(&up)["augment.control"]);
    assert_eq!(state[0], 1.0);
    let down = folder.train("down", keys, &section(1.0, 0.5), None);
    assert_eq!(flat_f64(&checkpoint(&down)["augment.control"])[0], 0.0);
    let rows = table(&down.join("log.csv"));
    // The first line is from before the end of the first interval.
    assert!(rows[0]["r_t"].is_empty());
    assert!(rows[1..].iter().all(|r| r["r_t"].parse::<f64>().is_ok_and(|v| v.abs() <= 1.0)), "{rows:?}");

    for (section, words) in [
        ("[augment]\npipeline = \"bgd\"", "bgd"),
        ("[augment]\npipeline = \"bgc\"\np = 2.0", "augment.p"),
        ("[augment]\npipeline = { hue-rotation = 1 }", "no transformation asked for"),
        ("[augment]\npipeline = \"bgc\"\nspeeed = 1.0", "speeed"),
    ] {
        let error = folder.read("bad", 16, keys, section).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

fn flat_f64(t: &Tensor) -> Vec<f64> {
    t.to_vec1().unwrap()
}

#[test]
fn a_warm_start_takes_what_fits() {
    let folder = Folder::new();
    let keys = "images = 160\nlearning-rate = 2.5e-3\nr1-gamma = 0.1\n";
    let low = folder.read("low", 8, keys, "").unwrap();
    train_generator(&low, Some(48), &Silent).unwrap();
    let half = checkpoint(&folder.path("low"));
    let start = |file: &str| format!("[start]\nweights = \"{file}\"\n");
    // No step: what is written is what training would start from.
    let begin = |output: &str, file: &str| {
        let manifest = folder.read(output, 16, keys, &start(file)).unwrap();
        train_generator(&manifest, Some(0), &Silent).unwrap();
        load_generator(&folder.path(output).join("generator.safetensors")).unwrap().1
    };
    for (output, file) in
        [("checkpoint", "low/checkpoint.safetensors"), ("generator", "low/generator.safetensors")]
    {
        let begun = begin(output, file);
        for name in ["mapping.fc0.weight", "synthesis.b4.const", "synthesis.b8.conv1.weight"] {
            assert_eq!(flat(&begun[name]), flat(&half[&format!("ema.{name}")]), "{name} from {file}");
        }
        assert!(begun.contains_key("synthesis.b16.conv1.weight"));
    }
    // D too, and it trains and resumes, although the start's file has gone.
    let manifest = folder.read("on", 16, keys, &start("low/checkpoint.safetensors")).unwrap();
    train_generator(&manifest, Some(16), &Silent).unwrap();
    let d = "D.b8.conv0.weight";
    let far: Vec<f32> =
        flat(&checkpoint(&folder.path("on"))[d]).iter().zip(flat(&half[d])).map(|(a, b)| a - b).collect();
    // A step or two of Adam, where new weights would be 1.4 times the norm away.
    assert!(norm(&far) < 0.02 * norm(&flat(&half[d])), "{} of {}", norm(&far), norm(&flat(&half[d])));
    std::fs::remove_dir_all(folder.path("low")).unwrap();
    train_generator(&manifest, Some(16), &Silent).unwrap();

    let refuse = |file: &str, words: &str| {
        let manifest = folder.read("bad", 16, keys, &start(file)).unwrap();
        let error = train_generator(&manifest, Some(0), &Silent).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refuse("nothing.safetensors", "nothing.safetensors");
    std::fs::write(folder.path("text.safetensors"), "no tensors").unwrap();
    refuse("text.safetensors", "not a safetensors file");
    let other = HashMap::from([("G.a".to_owned(), half[d].clone()), ("ema.a".to_owned(), half[d].clone())]);
    let metadata = HashMap::from([("state".to_owned(), "{}".to_owned())]);
    safetensors::serialize_to_file(other, Some(metadata), &folder.path("other.safetensors")).unwrap();
    refuse("other.safetensors", "no tensor has the name and shape");
}

/// Counts and averages what it is shown.
struct Brightness<'a>(&'a RefCell<Vec<usize>>);

impl Evaluate for Brightness<'_> {
    fn begin(
        &mut self,
        real: &mut dyn Iterator<Item = shiftlens_api::Result<Images>>,
    ) -> shiftlens_api::Result<()> {
        for images in real {
            let images = images?;
            assert_eq!(images.shape()[1..], [1, 16, 16]);
            assert!(images.as_slice().iter().all(|v| (0.0..=1.0).contains(v)));
            self.0.borrow_mut().push(images.len());
        }
        Ok(())
    }
    fn evaluate(
        &mut self,
        draw: &mut dyn FnMut(usize) -> shiftlens_api::Result<Images>,
    ) -> shiftlens_api::Result<BTreeMap<String, f64>> {
        let (a, b) = (draw(3)?, draw(3)?);
        assert_ne!(a.as_slice(), b.as_slice());
        let mean = a.as_slice().iter().sum::<f32>() / a.as_slice().len() as f32;
        Ok(BTreeMap::from([("fid".to_owned(), f64::from(mean)), ("kid".to_owned(), 2.0)]))
    }
}

#[test]
fn figures_over_time_and_the_previous_checkpoint() {
    let folder = Folder::new();
    std::fs::write(folder.path("features.onnx"), "stands for a network").unwrap();
    let keys = "images = 64\nlearning-rate = 2.5e-3\nr1-gamma = 0.1\n";
    let section = "[quality]\nfeatures = { path = \"features.onnx\" }\nevery = 32\nreal = 7\n";
    let manifest = folder.read("out", 16, keys, section).unwrap();
    let (seen, saved) = (RefCell::new(Vec::new()), RefCell::new(0));
    let parts = Parts {
        evaluate: Some(Box::new(Brightness(&seen))),
        saved: Some(Box::new(|at| {
            assert!(at.join("checkpoint.safetensors").exists());
            *saved.borrow_mut() += 1;
        })),
        ..Parts::default()
    };
    train_generator_with(&manifest, parts, &Silent).unwrap();
    assert_eq!((seen.borrow().iter().sum::<usize>(), *saved.borrow()), (7, 4));
    let rows = table(&folder.path("out").join("quality.csv"));
    let images: Vec<&str> = rows.iter().map(|r| r["images"].as_str()).collect();
    assert_eq!(images, ["32", "64"]);
    assert!(
        rows.iter().all(|r| (0.0..1.0).contains(&r["fid"].parse::<f64>().unwrap()) && r["kid"] == "2.000000")
    );
    // Four steps, a checkpoint after each.
    let step = |name: &str| {
        let bytes = std::fs::read(folder.path("out").join(name)).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let state: serde_json::Value =
            serde_json::from_str(&header.metadata().as_ref().unwrap()["state"]).unwrap();
        state["step"].as_u64()
    };
    assert_eq!(step("checkpoint.safetensors"), Some(4));
    assert_eq!(step("checkpoint-previous.safetensors"), Some(3));

    let error = train_generator(&manifest, None, &Silent).unwrap_err().to_string();
    assert!(error.contains("[quality]"), "{error}");
    let plain = folder.read("plain", 16, keys, "").unwrap();
    let parts = Parts { evaluate: Some(Box::new(Brightness(&seen))), ..Parts::default() };
    assert!(matches!(train_generator_with(&plain, parts, &Silent), Err(Error::Invalid(_))));
}

/// The trainings in the repository's folder of manifests can be read.
#[test]
fn the_repositorys_manifests_are_valid() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../manifests");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("train-") && name.ends_with("generator.toml") {
            GeneratorManifest::read(&path).unwrap();
            read += 1;
        }
    }
    assert!(read > 0);
}

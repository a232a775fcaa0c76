//! `shiftlens train generator` with a projected discriminator and figures over time, on a classifier's own features.

use shiftlens_tests::toy::Toy;

const MANIFEST: &str = r#"schema = 1
name = "toy generator"
[data]
images = ["images"]
[generator]
resolution = 16
channels = 1
z-dim = 8
w-dim = 8
mapping-layers = 2
channel-base = 64
channel-max = 8
[discriminator]
kind = "projected"
channel-base = 64
channel-max = 8
features = { path = "classifier.onnx", layers = ["features"] }
[quality]
features = { path = "classifier.onnx", layers = ["conv"], input = { scale = 2 } }
every = 32
samples = 20
[training]
preset = "auto"
seed = 1
images = 64
batch = 8
[output]
folder = "runs/train"
checkpoint-every = 32
samples-every = 64
"#;

#[test]
fn a_generator_is_trained_measured_and_reported() {
    let toy = Toy::new();
    std::fs::write(toy.path("train.toml"), MANIFEST).unwrap();
    let train = || toy.shiftlens(&["train", "generator", "train.toml"]);
    train().expect(0).says(&["\"images\": 64", "\"steps\": 8", "8 training images"]);
    let text = |name: &str| std::fs::read_to_string(toy.path("runs/train").join(name)).unwrap();
    let quality = text("quality.csv");
    let lines: Vec<&str> = quality.lines().collect();
    assert_eq!(lines[0], "images,seconds,fid,kid,precision,recall");
    assert!(lines.len() == 3 && lines[1].starts_with("32,") && lines[2].starts_with("64,"), "{quality}");
    let page = text("training.html");
    assert!(page.contains("toy generator") && page.contains("data-label=\"64\""), "{page}");

    // Where the files lie may change, what they hold may not.
    std::fs::create_dir(toy.path("nets")).unwrap();
    std::fs::rename(toy.path("classifier.onnx"), toy.path("nets/phi.onnx")).unwrap();
    let longer = MANIFEST.replace("classifier.onnx", "nets/phi.onnx").replace("images = 64", "images = 80");
    std::fs::write(toy.path("train.toml"), &longer).unwrap();
    train().expect(0).says(&["resuming at 64 images", "\"images\": 80"]);
    // The same network with a remark (field 6 of the message, a text of one letter): another file.
    let other = [std::fs::read(toy.path("nets/phi.onnx")).unwrap(), vec![0x32, 1, b'x']].concat();
    std::fs::write(toy.path("classifier.onnx"), other).unwrap();
    std::fs::write(toy.path("train.toml"), MANIFEST.replace("images = 64", "images = 96")).unwrap();
    train().expect(2).says(&["another manifest or feature network"]);
}

#[test]
fn what_cannot_be_trained_is_refused_before_anything_runs() {
    let toy = Toy::new();
    let refuse = |from: &str, to: &str, words: &[&str]| {
        assert!(MANIFEST.contains(from), "`{from}` is not in the manifest");
        std::fs::write(toy.path("train.toml"), MANIFEST.replace(from, to)).unwrap();
        toy.shiftlens(&["train", "generator", "train.toml"]).expect(2).says(words);
        assert!(!toy.path("runs/train/checkpoint.safetensors").exists());
    };
    refuse("layers = [\"features\"]", "layers = [\"featurse\"]", &["no tensor \"featurse\""]);
    refuse("layers = [\"features\"]", "layer = [\"features\"]", &["unknown field `layer`", "layers"]);
    refuse("layers = [\"conv\"]", "layers = [\"cnov\"]", &["no tensor \"cnov\""]);
    refuse("scale = 2", "scael = 2", &["scael"]);
    refuse("every = 32\nsamples", "evry = 32\nsamples", &["evry"]);
    refuse("preset = \"auto\"", "preset = \"fast\"", &["training.preset", "\"auto\""]);
    refuse("preset = \"auto\"\n", "", &["learning-rate"]);
    refuse("images = [\"images\"]", "images = [\"nowhere\"]", &["nowhere"]);
    refuse("images = [\"images\"]", "images = [\"${TOY_NO_SUCH:-nowhere}/x\"]", &["nowhere/x"]);
    refuse(
        "images = [\"images\"]",
        "images = [\"${TOY_NO_SUCH}/x\"]",
        &["data.images", "`TOY_NO_SUCH` is not set"],
    );
    refuse(
        "{ path = \"classifier.onnx\", layers = [\"features\"] }",
        "{ path = \"${TOY_NO_SUCH}\" }",
        &["discriminator.features.path"],
    );
    let sha = "features = { path = \"classifier.onnx\", sha256 = \"00\"";
    refuse("features = { path = \"classifier.onnx\"", sha, &["sha256"]);
}

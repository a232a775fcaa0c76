//! `shiftlens measure`.

use serde_json::Value;
use shiftlens_tests::program::json;
use shiftlens_tests::toy::Toy;

fn number(v: &Value, path: &str) -> f64 {
    v.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} is missing in {v:#}"))
}

/// The toy's encoder is the generator's inverse, up to the rounding of pixels to bytes.
#[test]
fn an_exact_encoder_reconstructs_exactly_and_the_figures_are_written() {
    let toy = Toy::new();
    let answer = toy.shiftlens(&["measure", "study.toml", "--samples", "60"]).expect(0);
    answer.says(&[
        "features: the study's own classifier, its penultimate layer",
        "classifier.onnx",
        "layer flat [512]",
        "60 drawn images, seed 0, against 8 real ones",
        "FID (512 dimensions)",
        "KID (100 subsets of 4",
        "8 reconstructions",
        "biased upwards",
        "runs/study-measure.json",
    ]);
    let m: Value = json(&toy.path("runs/study-measure.json"));
    assert!(number(&m, "/reconstructions/ssim") > 0.999, "{m:#}");
    assert!(number(&m, "/reconstructions/psnr") > 60.0, "{m:#}");
    assert!(number(&m, "/reconstructions/perceptual") < 1e-6, "{m:#}");
    assert!(number(&m, "/reconstructions/score_gap") < 1e-3, "{m:#}");
    assert!(number(&m, "/generator/fid") > 0.0);
    assert_eq!(m["features"]["layers"][0]["name"], "flat");
    assert_eq!(m["components"].as_array().map(Vec::len), Some(3));

    // The same again, to the last bit; another seed draws others.
    toy.shiftlens(&["measure", "study.toml", "--samples", "60", "--out", "again.json"]).expect(0);
    assert_eq!(m, json::<Value>(&toy.path("again.json")));
    toy.shiftlens(&["measure", "study.toml", "--samples", "60", "--seed", "1", "--out", "other.json"])
        .expect(0);
    assert_ne!(number(&m, "/generator/fid"), number(&json(&toy.path("other.json")), "/generator/fid"));
}

/// Images that the generator drew are closer to it than others are, in every figure.
#[test]
fn figures_tell_the_generators_own_images_from_others() {
    let toy = Toy::new();
    toy.shiftlens(&["generate", "study.toml", "--seeds", "1000-1149", "--out", "own"]).expect(0);
    for i in 0..150u8 {
        // Half as dark as any image of the generator's, with less between the quadrants.
        toy.picture(&format!("dark/{i}.png"), [20 + i % 7, 25 + i % 11, 30 + i % 13, 22 + i % 17]);
    }
    let of = |images: &str| {
        let out = format!("{images}.json");
        let args = ["measure", "study.toml", "--images", images, "--samples", "200", "--out", &out];
        toy.shiftlens(&args).expect(0);
        json::<Value>(&toy.path(&out))
    };
    let (own, dark) = (of("own"), of("dark"));
    let pair = |path: &str| (number(&own, path), number(&dark, path));
    let (a, b) = pair("/generator/fid");
    assert!(b > 10.0 * a, "FID {a} and {b}");
    let (a, b) = pair("/generator/kid");
    assert!(a.abs() < 0.02 && b > 10.0 * a.abs(), "KID {a} and {b}");
    let (a, b) = pair("/generator/precision");
    assert!(a > 0.8 && b < 0.05, "precision {a} and {b}");
    let (a, b) = pair("/generator/recall");
    assert!(a > 0.8 && b < 0.05, "recall {a} and {b}");
}

#[test]
fn a_feature_network_of_its_own() {
    let toy = Toy::new();
    std::fs::create_dir(toy.path("nets")).unwrap();
    std::fs::copy(toy.path("classifier.onnx"), toy.path("nets/phi.onnx")).unwrap();
    std::fs::write(
        toy.path("nets/phi.toml"),
        "path = \"phi.onnx\"\nlayers = [\"conv\", \"features\"]\ninput = { scale = 2 }",
    )
    .unwrap();
    let measure = |more: &[&str]| {
        let args = [&["measure", "study.toml", "--samples", "20"], more].concat();
        toy.shiftlens(&args)
    };
    measure(&["--out", "m.json", "--features", "nets/phi.toml"]).expect(0).says(&[
        "features: a network of its own",
        "nets/phi.onnx",
        "layer conv [2, 16, 16]",
        "layer features [2, 16, 16]",
        "FID (4 dimensions)",
    ]);
    measure(&["--out", "m.json", "--features", "nets/phi.onnx", "--layers", "features"])
        .expect(0)
        .says(&["FID (2 dimensions)"]);
    measure(&["--out", "m.json", "--layers", "conv"])
        .expect(0)
        .says(&["the study's own classifier", "layer conv"]);

    measure(&["--layers", "convv"]).expect(2).says(&["no tensor \"convv\"", "\"logit\""]);
    measure(&["--features", "nets/psi.onnx"]).expect(2).says(&["nets/psi.onnx"]);
    measure(&["--features", "nets/psi.toml"]).expect(2).says(&["--features", "nets/psi.toml"]);
    std::fs::write(toy.path("nets/bad.toml"), "path = \"phi.onnx\"\nlayer = [\"conv\"]").unwrap();
    measure(&["--features", "nets/bad.toml"]).expect(2).says(&[
        "nets/bad.toml",
        "`layer`",
        "did you mean `layers`?",
    ]);
    std::fs::write(toy.path("nets/noise.onnx"), "no network").unwrap();
    measure(&["--features", "nets/noise.onnx"]).expect(2).says(&["nets/noise.onnx", "not an ONNX model"]);
    measure(&["--out", "nets"]).expect(2).says(&["nets", "a folder, expected a file"]);
    toy.shiftlens(&["measure", "study.toml", "--samples", "3"]).expect(2).says(&["samples"]);
    assert!(!toy.path("runs").exists());
}

#[test]
fn images_that_cannot_be_read_are_left_out_and_named() {
    let toy = Toy::new();
    std::fs::write(toy.path("images/low/broken.png"), b"no image").unwrap();
    let measure = |images: &str| {
        toy.shiftlens(&["measure", "study.toml", "--samples", "20", "--images", images, "--out", "m.json"])
    };
    measure("images").expect(0).says(&[
        "left out",
        "broken.png",
        "1 images could not be read",
        "against 8 real",
    ]);
    let m: Value = json(&toy.path("m.json"));
    assert_eq!(m["left_out"].as_array().map(Vec::len), Some(1));
    assert!(m["left_out"][0]["path"].as_str().unwrap().ends_with("broken.png"));
    measure("images/low").expect(0).says(&["against 4 real"]);
    std::fs::remove_file(toy.path("images/low/p0_0.png")).unwrap();
    measure("images/low").expect(1).says(&["3 real images, expected at least 4"]);
    measure("nowhere").expect(2).says(&["nowhere"]);
}

#[test]
fn real_images_are_cropped_as_the_study_says() {
    let toy = Toy::new();
    let fid = |out: &str| {
        toy.shiftlens(&["measure", "study.toml", "--samples", "20", "--out", out]).expect(0);
        number(&json(&toy.path(out)), "/generator/fid")
    };
    let whole = fid("whole.json");
    toy.edit("images = \"images\"", "images = \"images\"\ncrop = 12");
    assert_ne!(whole, fid("crop.json"));
    toy.edit("crop = 12", "crop = 17");
    let answer = toy.shiftlens(&["measure", "study.toml", "--samples", "20"]);
    answer.expect(1).says(&["`crop` asks for its centre square of 17", "0 real images, expected at least 4"]);
}

#[test]
fn what_a_study_lacks_is_said() {
    let toy = Toy::new();
    let text = std::fs::read_to_string(toy.manifest()).unwrap();
    let without: String = text
        .split("\n\n")
        .filter(|s| !["[generator]", "[encoder]", "[direction]"].iter().any(|h| s.starts_with(h)))
        .filter(|s| !s.contains("latent-shift"))
        .map(|s| format!("{s}\n\n"))
        .collect();
    std::fs::write(toy.path("heatmaps.toml"), without).unwrap();
    toy.shiftlens(&["measure", "heatmaps.toml"]).expect(2).says(&["heatmaps.toml", "no [generator]"]);
    toy.edit("kind = \"onnx\"\npath = \"classifier.onnx\"", "kind = \"plugin:phantom\"");
    toy.edit("[plugins]", "[plugins]\nphantom = \"shiftlens_phantom\"");
    let answer = toy.shiftlens(&["measure", "study.toml", "--samples", "20"]);
    answer.expect(2).says(&["phantom"]);
}

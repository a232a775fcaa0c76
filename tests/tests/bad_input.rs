//! Bad input: one clear error that says what, where and the next step; exit code 2 where nothing could be run, 1 where
//! work failed; one bad image stops no other.

use image::{ImageBuffer, Luma};
use shiftlens_tests::program::{cases, run_record};
use shiftlens_tests::toy::{SIDE, Toy};
use std::path::Path;

/// The program's answer to a manifest of which `from` was replaced: code 2, one mistake, all of `words`, nothing run.
#[track_caller]
fn mistake(from: &str, to: &str, words: &[&str]) {
    let toy = Toy::new();
    toy.edit(from, to);
    for command in ["check", "run"] {
        let answer = toy.shiftlens(&[command, "study.toml"]).expect(2).says(words);
        assert_eq!(answer.flowing().matches("1 mistake; nothing was run").count(), 1, "{}", answer.text());
        assert!(!toy.path("runs").exists(), "`{command}` wrote a run");
    }
}

#[test]
fn a_missing_manifest() {
    let toy = Toy::new();
    toy.shiftlens(&["run", "nowhere.toml"]).expect(2).says(&["nowhere.toml", "cannot read the manifest"]);
}

#[test]
fn a_manifest_that_is_no_toml() {
    mistake("seed = 7", "seed = seven", &["study.toml:26"]);
}

#[test]
fn a_wrong_key_is_answered_with_the_nearest() {
    mistake("samples = 2000", "sampels = 2000", &["study.toml:25", "sampels", "samples"]);
    mistake("{ steps = 5, range = 2.0 }", "{ step = 5, range = 2.0 }", &["study.toml:30", "step", "steps"]);
    mistake("{ method = \"hirescam\" }", "{ methd = \"hirescam\" }", &["study.toml:34", "methd", "method"]);
}

#[test]
fn an_unknown_kind_is_answered_with_the_nearest() {
    mistake("kind = \"logistic\"", "kind = \"logistik\"", &["study.toml:24", "logistik", "logistic"]);
    mistake("kind = \"latent-shift\"", "kind = \"latent-shft\"", &["latent-shft", "latent-shift"]);
    mistake("kind = \"plugin:gradcam\"", "kind = \"plugin:gradkam\"", &["gradkam", "gradcam"]);
}

#[test]
fn a_value_outside_its_domain() {
    mistake("steps = 5", "steps = 4", &["study.toml:30", "`steps` is 4", "odd"]);
    mistake("method = \"hirescam\"", "method = \"hirescan\"", &["hirescan", "hirescam"]);
    mistake("target = \"bright\"", "target = \"brigth\"", &["brigth", "bright"]);
}

#[test]
fn a_class_that_is_none() {
    let named = |classes: &str| format!("kind = \"plugin:gradcam\"\nclasses = {classes}");
    let with = |classes: &str, words: &[&str]| mistake("kind = \"plugin:gradcam\"", &named(classes), words);
    with("[\"brigth\"]", &["study.toml:34", "`classes` is \"brigth\"", "did you mean `bright`?"]);
    with("[2]", &["study.toml:34", "`classes` is 2", "an index from 0 to 1", "dark, bright"]);
    with("[1, \"bright\"]", &["study.toml:34", "names \"bright\" twice"]);
    with("1", &["study.toml:34", "is an integer, expected a list of classes"]);
    mistake("target = \"bright\"", "target = 2", &["study.toml:12", "`target` is 2", "an index from 0 to 1"]);
    mistake(
        "kind = \"latent-shift\"",
        "kind = \"latent-shift\"\nclasses = [\"dark\"]",
        &["study.toml:30", "`latent-shift` explains the target \"bright\" alone", "\"dark\""],
    );
}

#[test]
fn wrong_parameters_of_a_plugin() {
    let with = |params: &str, words: &[&str]| {
        let toy = Toy::new();
        toy.edit(
            "kind = \"plugin:gradcam\"\nparams = { method = \"hirescam\" }",
            &format!("kind = \"plugin:attribution\"\nparams = {{ {params} }}"),
        );
        toy.edit("[plugins]", "[plugins]\nattribution = \"shiftlens_attribution\"");
        toy.shiftlens(&["check", "study.toml"]).expect(2).says(words);
    };
    with("step = 8", &["study.toml:34", "unknown key `step`", "did you mean `steps`?"]);
    with("method = \"integrated-gradient\"", &["study.toml:34", "did you mean `integrated-gradients`?"]);
    with("baseline = 1.5", &["study.toml:34", "`baseline` is 1.5", "[0, 1]"]);
}

#[test]
fn a_missing_model() {
    mistake("path = \"encoder.onnx\"", "path = \"encodr.onnx\"", &["study.toml:20", "encodr.onnx"]);
}

#[test]
fn a_missing_plugin() {
    mistake("\"shiftlens_gradcam\"", "\"shiftlens_gradkam\"", &["shiftlens_gradkam"]);
}

#[test]
fn a_wrong_sha256() {
    let pin = "0".repeat(64);
    let to = format!("path = \"classifier.onnx\"\nsha256 = \"{pin}\"");
    mistake("path = \"classifier.onnx\"", &to, &["study.toml:12", "sha256", "classifier.onnx", &pin]);
}

#[test]
fn a_model_whose_input_does_not_fit() {
    let output = "output = { classes";
    let with = |input: &str| format!("input = {{ {input} }}\n{output}");
    mistake(output, &with("size = [32, 32]"), &["classifier.onnx", "32", "16"]);
    mistake(output, &with("channels = 3"), &["classifier.onnx", "3", "1"]);
    mistake(output, &with("layout = \"nhwc\""), &["classifier.onnx"]);
    mistake(output, &with("mean = [0.1, 0.2, 0.3]"), &["classifier.onnx", "mean"]);
    mistake("[\"dark\", \"bright\"]", "[\"dark\", \"bright\", \"black\"]", &["classifier.onnx", "3"]);
}

#[test]
fn models_that_do_not_belong_together() {
    mistake("path = \"encoder.onnx\"", "path = \"classifier.onnx\"", &["encoder", "generator"]);
    mistake("path = \"generator.onnx\"", "path = \"encoder.onnx\"", &["study.toml:16", "encoder.onnx"]);
}

#[test]
fn a_file_that_is_no_model() {
    for content in [&b""[..], b"no model", &[0xff; 100]] {
        let toy = Toy::new();
        std::fs::write(toy.path("classifier.onnx"), content).unwrap();
        toy.shiftlens(&["check", "study.toml"]).expect(2).says(&["study.toml:11", "classifier.onnx"]);
    }
}

#[test]
fn missing_and_empty_data() {
    mistake("images = \"images\"", "images = \"imges\"", &["study.toml:5", "imges"]);
    let toy = Toy::new();
    std::fs::create_dir(toy.path("empty")).unwrap();
    toy.edit("images = \"images\"", "images = \"empty\"");
    toy.shiftlens(&["run", "study.toml"]).expect(2).says(&["empty", "no image"]);
}

#[test]
fn wrong_calls() {
    let toy = Toy::new();
    for args in [
        &[][..],
        &["rum", "study.toml"],
        &["run"],
        &["run", "study.toml", "--limit", "0"],
        &["explain", "study.toml"],
    ] {
        toy.shiftlens(args).expect(2);
    }
    toy.shiftlens(&["explain", "study.toml", "images/none.png"])
        .expect(2)
        .says(&["images/none.png", "no such file"]);
}

#[test]
fn bad_images_stop_no_other() {
    let toy = Toy::new();
    let good = std::fs::read(toy.path("images/low/p0_0.png")).unwrap();
    let bad = toy.path("images/bad");
    std::fs::create_dir(&bad).unwrap();
    std::fs::write(bad.join("truncated.png"), &good[..good.len() / 2]).unwrap();
    std::fs::write(bad.join("text.png"), "this is a letter").unwrap();
    std::fs::write(bad.join("empty.png"), "").unwrap();
    ImageBuffer::<Luma<u8>, _>::from_pixel(1, 1, Luma([99])).save(bad.join("tiny.png")).unwrap();
    let jpeg = bad.join("truncated.jpg");
    ImageBuffer::<Luma<u8>, _>::from_fn(64, 64, |x, y| Luma([(x * 3 + y) as u8])).save(&jpeg).unwrap();
    let whole = std::fs::read(&jpeg).unwrap();
    std::fs::write(&jpeg, &whole[..whole.len() / 2]).unwrap();

    let answer = toy.run("out").expect(0);
    let answer =
        answer.says(&["8 images explained, 5 failed", "tiny.png: the image is 1x1", "truncated.jpg"]);
    let record = run_record(&toy.path("out"));
    assert!(record.complete && record.cases.len() == 8);
    let mut failed: Vec<&str> =
        record.failures.iter().map(|f| Path::new(&f.path).file_name().unwrap().to_str().unwrap()).collect();
    failed.sort_unstable();
    assert_eq!(failed, ["empty.png", "text.png", "tiny.png", "truncated.jpg", "truncated.png"]);
    let page = std::fs::read_to_string(toy.path("out/report.html")).unwrap();
    let warnings: Vec<&str> = answer.stderr.lines().filter(|l| l.starts_with("warning:")).collect();
    for name in failed {
        assert_eq!(warnings.iter().filter(|w| w.contains(name)).count(), 1, "{name}: {}", answer.stderr);
        assert!(page.contains(name), "the report does not name {name}");
    }
}

#[test]
fn sixteen_bit_images_are_read_as_they_are() {
    let toy = Toy::new();
    let eight = image::open(toy.path("images/high/p2_5.png")).unwrap().into_luma8();
    let side = SIDE as u32;
    let sixteen = ImageBuffer::<Luma<u16>, _>::from_fn(side, side, |x, y| {
        Luma([u16::from(eight.get_pixel(x, y)[0]) * 257])
    });
    std::fs::create_dir(toy.path("two")).unwrap();
    eight.save(toy.path("two/eight.png")).unwrap();
    sixteen.save(toy.path("two/sixteen.png")).unwrap();
    toy.shiftlens(&["run", "study.toml", "--images", "two", "--out", "out"]).expect(0);
    let found = cases(&toy.path("out"));
    assert_eq!(found.len(), 2);
    assert!((found[0].score - found[1].score).abs() < 1e-6, "{} and {}", found[0].score, found[1].score);
}

#[test]
fn a_study_of_bad_images_alone_fails() {
    let toy = Toy::new();
    std::fs::create_dir(toy.path("bad")).unwrap();
    std::fs::write(toy.path("bad/a.png"), "no image").unwrap();
    let answer = toy.shiftlens(&["run", "study.toml", "--images", "bad", "--out", "out"]);
    answer.expect(1).says(&["a.png", "none of 1 images could be explained"]);
}

#[test]
fn nan_for_one_image_is_that_images_failure() {
    let toy = Toy::new();
    toy.classifier_that_fears_white();
    toy.picture("images/high/white.png", [255, 100, 100, 100]);
    // The heatmap's gradient of the trick that makes NaN is none of this test's business.
    toy.edit("[[explainer]]\nkind = \"plugin:gradcam\"\nparams = { method = \"hirescam\" }\n", "");
    toy.run("out").expect(0).says(&["8 images explained, 1 failed", "white.png"]);
    let record = run_record(&toy.path("out"));
    assert_eq!(record.failures.len(), 1);
    assert!(record.failures[0].error.contains("NaN"), "{}", record.failures[0].error);
}

#[test]
fn nan_for_every_image_is_found_before_the_run() {
    let toy = Toy::new();
    toy.classifier_that_answers_nan();
    toy.shiftlens(&["run", "study.toml"]).expect(2).says(&["classifier.onnx", "NaN"]);
    assert!(!toy.path("runs").exists());
}

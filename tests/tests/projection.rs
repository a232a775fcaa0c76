//! A study whose encoder is a search through the generator, without any encoder's file.

use shiftlens_tests::program::{cases, contents, run_record, shiftlens};
use shiftlens_tests::root;
use shiftlens_tests::toy::Toy;

/// The toy study on a small StyleGAN2 that PyTorch wrote, 16x16 RGB.
fn study(encoder: &str) -> Toy {
    let toy = Toy::new();
    let file = root().join("core/stylegan2/tests/fixtures/rosinality16.pt").display().to_string();
    shiftlens(toy.folder(), &["import", "stylegan2", &file, "-o", "g.safetensors"]).expect(0);
    toy.edit(
        "[generator]\nkind = \"onnx\"\npath = \"generator.onnx\"",
        "[generator]\nkind = \"stylegan2\"\npath = \"g.safetensors\"",
    );
    toy.edit(
        "kind = \"onnx\"\npath = \"encoder.onnx\"\ninput = { mean = [0.5], std = [0.5] }",
        &format!("kind = \"projection\"\n{encoder}"),
    );
    toy.edit("samples = 2000", "samples = 300");
    // Heatmaps are another matter.
    toy.edit("[[explainer]]\nkind = \"plugin:gradcam\"\nparams = { method = \"hirescam\" }\n", "");
    toy.edit("[plugins]\ngradcam = \"shiftlens_gradcam\"\n", "");
    toy
}

#[test]
fn codes_are_searched_through_the_generator() {
    let toy = study("params = { steps = 40, learning-rate = 0.1 }");
    let run = |out: &str| {
        toy.shiftlens(&["run", "study.toml", "--out", out, "--limit", "2"]).expect(0);
        toy.path(out)
    };
    let (found, again) = (run("found"), run("again"));
    let encoder = run_record(&found).components.into_iter().find(|c| c.role == "encoder").unwrap();
    assert_eq!((encoder.kind.as_str(), encoder.path), ("projection", None));
    assert!(encoder.backend.contains("at most 40 steps from the mean code"), "{}", encoder.backend);
    // What is drawn at random is drawn from a seed.
    let of_cases = |run: &std::path::Path| contents(&run.join("cases"));
    assert_eq!(of_cases(&found), of_cases(&again));
    // After one step the code is still farther from its image.
    toy.edit("steps = 40", "steps = 1");
    let near = run("near");
    let rmse = |run: &std::path::Path| {
        cases(run).iter().map(|c| c.trust.as_ref().unwrap().reconstruction.rmse).sum::<f32>()
    };
    assert!(rmse(&found) < 0.9 * rmse(&near), "{} {}", rmse(&found), rmse(&near));
}

#[test]
fn what_a_search_cannot_use_is_refused() {
    let toy = study("params = { steps = 0 }");
    toy.shiftlens(&["check", "study.toml"]).expect(2).says(&["`steps` is 0, expected at least 1"]);
    toy.edit("params = { steps = 0 }", "path = \"g.safetensors\"");
    toy.shiftlens(&["check", "study.toml"])
        .expect(2)
        .says(&["expected a network of kind \"stylegan2-encoder\""]);
    toy.edit("kind = \"stylegan2\"\npath = \"g.safetensors\"", "kind = \"onnx\"\npath = \"generator.onnx\"");
    toy.shiftlens(&["check", "study.toml"]).expect(2).says(&["reads the weights of a StyleGAN2 generator"]);
}

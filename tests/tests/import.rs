//! `shiftlens import`: a checkpoint becomes a network that `shiftlens generate` draws from.

use shiftlens_tests::program::shiftlens;
use shiftlens_tests::root;
use shiftlens_tests::toy::Toy;
use std::path::Path;

/// A checkpoint of rosinality's program that PyTorch wrote, see the StyleGAN2 crate's own tests.
fn checkpoint() -> String {
    root().join("core/stylegan2/tests/fixtures/rosinality16.pt").display().to_string()
}

fn import(folder: &Path, file: &str, more: &[&str]) -> shiftlens_tests::program::Answer {
    shiftlens(folder, &[&["import", "stylegan2", file, "-o", "g.safetensors"], more].concat())
}

#[test]
fn an_imported_network_draws_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let mut pictures = Vec::new();
    let mut sizes = Vec::new();
    for more in [&[][..], &["--half"]] {
        import(folder.path(), &checkpoint(), more).expect(0).says(&[
            "rosinality's StyleGAN2, 16x16 RGB",
            "z 24, w 24, mapping network of 3 layers",
            "min(192 / side, 16)",
            "activations not clamped",
        ]);
        sizes.push(folder.path().join("g.safetensors").metadata().unwrap().len());
        shiftlens(folder.path(), &["generate", "g.safetensors", "--seeds", "0-1", "--out", "drawn"])
            .expect(0);
        let picture = image::open(folder.path().join("drawn/seed00001.png")).unwrap().to_rgb8();
        assert_eq!(picture.dimensions(), (16, 16));
        assert_ne!(picture, image::open(folder.path().join("drawn/seed00000.png")).unwrap().to_rgb8());
        pictures.push(picture);
    }
    assert!(sizes[1] * 10 < sizes[0] * 7, "{sizes:?}");
    let off = pictures[0].as_raw().iter().zip(pictures[1].as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(off.unwrap() <= 8, "half precision changes a pixel by {off:?}");
}

#[test]
fn a_network_is_stored_in_half_and_still_draws() {
    let folder = tempfile::tempdir().unwrap();
    import(folder.path(), &checkpoint(), &[]).expect(0);
    shiftlens(folder.path(), &["convert", "g.safetensors", "--half", "-o", "half.safetensors"])
        .expect(0)
        .says(&["half.safetensors: stylegan2-generator", "parameters in half precision"]);
    let size = |name: &str| folder.path().join(name).metadata().unwrap().len();
    assert!(size("half.safetensors") * 10 < size("g.safetensors") * 7);
    shiftlens(folder.path(), &["generate", "half.safetensors", "--seeds", "0", "--out", "drawn"]).expect(0);
    shiftlens(folder.path(), &["convert", "g.safetensors", "-o", "g.safetensors"])
        .expect(2)
        .says(&["written over"]);
    shiftlens(folder.path(), &["convert", "nothing.safetensors", "-o", "x"]).expect(2).says(&["nothing"]);
}

/// A state dict of the StyleGAN2 crate's oracle: 8x8, two channels, two classes.
fn two_classes(folder: &Path) -> String {
    let bytes =
        std::fs::read(root().join("core/stylegan2/tests/fixtures/oracle/g_orig_labels.safetensors")).unwrap();
    let all = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = all.iter().filter_map(|(name, t)| Some((name.strip_prefix("G.")?, t)));
    let path = folder.join("labels.safetensors");
    safetensors::serialize_to_file(tensors, None, &path).unwrap();
    path.display().to_string()
}

#[test]
fn a_study_names_a_class_that_the_generator_has_and_needs_grey_or_rgb() {
    let toy = Toy::new();
    let folder = toy.path("");
    shiftlens(&folder, &["import", "stylegan2", &two_classes(&folder), "-o", "labels.safetensors.out"])
        .expect(0)
        .says(&[
            "8x8 2 channels",
            "architecture orig",
            "class-conditional, 2 classes",
            "explanations need grey or RGB",
        ]);
    import(&folder, &checkpoint(), &[]).expect(0).says(&["architecture skip"]);
    let whole = std::fs::read_to_string(toy.path("study.toml")).unwrap();
    let says = |path: &str, params: &str, words: &[&str]| {
        let from = "[generator]\nkind = \"onnx\"\npath = \"generator.onnx\"";
        let to = format!("[generator]\nkind = \"stylegan2\"\npath = \"{path}\"\nparams = {{ {params} }}");
        assert!(whole.contains(from));
        std::fs::write(toy.path("study.toml"), whole.replace(from, &to)).unwrap();
        toy.shiftlens(&["check", "study.toml"]).expect(2).says(words);
    };
    says(
        "labels.safetensors.out",
        "class = 2",
        &["`class` is 2, expected an index from 0 to 1", "study.toml:17"],
    );
    says("labels.safetensors.out", "class = 1", &["images of 2 channels; explanations need grey or RGB"]);
    says("g.safetensors", "class = 0", &["`class` is 0, but the network is not class-conditional"]);
    says("g.safetensors", "class = -1", &["study.toml:17", "`class` is -1, expected an index of at least 0"]);
    says("g.safetensors", "clas = 1", &["study.toml:17", "unknown field `clas`, expected one of", "`class`"]);
}

#[test]
fn mistakes_end_with_exit_code_2_and_write_nothing() {
    let folder = tempfile::tempdir().unwrap();
    import(folder.path(), "nothing.pkl", &[]).expect(2).says(&["nothing.pkl"]);
    std::fs::write(folder.path().join("text.pkl"), "no network").unwrap();
    import(folder.path(), "text.pkl", &[]).expect(2).says(&["text.pkl", "neither safetensors nor"]);
    import(folder.path(), &checkpoint(), &["--conv-clamp", "256"]).expect(2).says(&["the network has none"]);
    import(folder.path(), &checkpoint(), &["--conv-clamp", "0"])
        .expect(2)
        .says(&["expected a positive number"]);
    assert!(!folder.path().join("g.safetensors").exists());
    std::fs::copy(checkpoint(), folder.path().join("g.safetensors")).unwrap();
    import(folder.path(), "g.safetensors", &[]).expect(2).says(&["written over"]);
    assert!(folder.path().join("g.safetensors").metadata().unwrap().len() > 80_000);
    shiftlens(folder.path(), &["import", "stylegan3", "x", "-o", "y"]).expect(2).says(&["stylegan3"]);
    shiftlens(folder.path(), &["import", "stylegan2", "x"]).expect(2).says(&["--out"]);
}

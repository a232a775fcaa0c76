//! `shiftlens import`: a checkpoint becomes a network that `shiftlens generate` draws from.

use shiftlens_tests::program::shiftlens;
use shiftlens_tests::root;
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

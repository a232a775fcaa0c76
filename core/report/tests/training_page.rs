//! The page of a training, from made-up folders.

use shiftlens_report::write_training;
use std::fmt::Write as _;
use std::path::Path;

const HOSTILE: &str = "<img src=x onerror=\"alert(1)\">'&{{ 7*7 }}";

fn put(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn put_picture(folder: &Path, name: &str, value: u8) {
    image::GrayImage::from_pixel(64, 16, image::Luma([value])).save(folder.join(name)).unwrap();
}

/// A file as the trainer writes it, but for the numbers.
fn put_checkpoint(folder: &Path, state: &serde_json::Value) {
    let header = serde_json::json!({ "__metadata__": { "state": state.to_string() } }).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    std::fs::write(folder.join("checkpoint.safetensors"), bytes).unwrap();
}

fn page(folder: &Path) -> String {
    let path = write_training(folder).unwrap();
    assert_eq!(path, folder.join("training.html"));
    assert!(!folder.join("training.html.partial").exists());
    std::fs::read_to_string(path).unwrap()
}

/// A generator's training with everything that a folder may hold.
fn generator(folder: &Path) {
    let mut log = String::from("images,seconds,g_loss,d_loss,r1,path_length,r_t,p,rate,odd_one\n");
    for i in 1..=200 {
        let x = f64::from(i);
        let path = if i % 4 == 0 { format!("{:.3}", 1.0 / x) } else { String::new() };
        let (g, d, r) = (1.0 + (x / 9.0).sin(), 0.7 + 0.2 * (x / 5.0).cos(), 0.6 * (1.0 - (-x / 50.0).exp()));
        let (images, r1, p) = (i * 512, 10.0 / x, x / 400.0);
        writeln!(log, "{images},{},{g:.4},{d:.4},{r1:.5},{path},{r:.4},{p:.4},17.5,{x}", i * 30).unwrap();
    }
    put(folder, "log.csv", &log);
    put(
        folder,
        "quality.csv",
        "images,seconds,fid,kid\n25600,1500,80.5,0.09\n51200,3000,41.25,0.04\n102400,6000,43,0.05\n",
    );
    for i in 1..=20u8 {
        put_picture(folder, &format!("samples-{:08}.png", u32::from(i) * 5120), i * 10);
    }
    put_picture(folder, "real.png", 255);
    put(
        folder,
        "generator.provenance.json",
        r#"{ "file": "generator.safetensors", "data": { "licence": "CC BY 4.0" } }"#,
    );
    let manifest = serde_json::json!({
        "schema": 1, "name": HOSTILE, "generator": { "resolution": 64 }, "training": { "images": 400_000, "batch": 32 },
    });
    put_checkpoint(folder, &serde_json::json!({ "manifest": manifest, "step": 3200, "seconds": 6000.0 }));
}

#[test]
fn a_page_shows_all_that_a_folder_holds() {
    let folder = tempfile::tempdir().unwrap();
    generator(folder.path());
    let html = page(folder.path());
    for title in [
        "FID",
        "KID",
        "Losses",
        "Overfitting and augmentation",
        "R1 penalty",
        "Path length",
        "Speed",
        "odd one",
    ] {
        assert!(html.contains(&format!("aria-label=\"{title}\"")), "{title}");
    }
    assert_eq!(html.matches("<svg").count(), 8);
    // The last value of each curve, the best of the quality.
    for text in [
        "102\u{202f}400 images of 400\u{202f}000",
        "1 h 40 min",
        "best FID",
        "41.2 at 51\u{202f}200",
        "0.0500",
    ] {
        assert!(html.contains(text), "{text}");
    }
    // R1 spans a factor of 200.
    assert_eq!(html.matches("logarithmic<").count(), 2, "R1 and path length");
    // Sixteen of twenty sheets, the newest shown; the real images.
    assert_eq!(html.matches("data-label=").count(), 16);
    assert_eq!(html.matches(" hidden data-label=").count(), 15);
    assert!(
        html.contains("16 of the 20 sheets") && html.contains("alt=\"Samples after 102\u{202f}400 images\"")
    );
    assert_eq!(html.matches("data:image/png;base64,").count(), 17);
    for text in ["CC BY 4.0", "resolution", "generator.provenance.json"] {
        assert!(html.contains(text), "{text}");
    }
    assert!(!html.contains("Remarks"), "nothing is wrong with the folder");
    // Nothing is loaded from elsewhere, and a name cannot run.
    assert_eq!(html.matches("http://").count(), html.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
    assert!(!html.contains("https://") && !html.contains("<img src=x") && !html.contains(">49<"));
    // The same folder gives the same page.
    assert_eq!(page(folder.path()), html);
}

#[test]
fn an_encoder_and_a_beginning_have_their_pages_too() {
    let folder = tempfile::tempdir().unwrap();
    put(
        folder.path(),
        "log.csv",
        "images,seconds,latent_mse,pixel_mse,feature,odd_one\n16,2,1.5,0.3,0.8,1\n",
    );
    let html = page(folder.path());
    assert!(html.contains("The training of an encoder") && html.contains("no checkpoint yet"));
    for title in ["Errors of codes", "Errors of pixels", "Distance of features", "odd one"] {
        assert!(html.contains(&format!("aria-label=\"{title}\"")), "{title}");
    }
    put(folder.path(), "log.csv", "images,seconds,g_loss\n");
    assert!(page(folder.path()).contains("Nothing has been logged yet"));
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = write_training(folder.path()).unwrap_err().to_string();
    assert!(missing.contains("log.csv"), "{missing}");
    put(folder.path(), "log.csv", "images,g_loss\n32,1.0\n64,inf\nnonsense,2\n96,0.5\n");
    put(folder.path(), "quality.csv", "epoch,fid\n1,2\n");
    put(folder.path(), "samples-00000032.png", "no picture");
    put(folder.path(), "checkpoint.safetensors", "no checkpoint at all");
    put(folder.path(), "provenance.json", "{");
    let html = page(folder.path());
    for text in [
        "1 line(s) left out",
        "1 value(s) are infinite",
        "quality.csv: expected a column `images`",
        "samples-00000032.png",
        "checkpoint.safetensors",
        "provenance.json",
    ] {
        assert!(html.contains(text), "{text}");
    }
}

//! `shiftlens measure`: figures of a study's generator and encoder.

use crate::Done;
use crate::args;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::study::{default_out, open_one};
use clap::Args;
use shiftlens_api::Error;
use shiftlens_engine::Study;
use shiftlens_engine::features;
use shiftlens_engine::quality::{Measurement, Plan, Settings, measure as measure_study};
use shiftlens_engine::registry::predictor_features;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct Measure {
    #[command(flatten)]
    study: args::Study,
    /// Other images than the manifest's: a folder, a list (CSV, TSV, Parquet) with a `path` column, or a glob
    #[arg(long, value_name = "DIR|LIST|GLOB")]
    images: Option<String>,
    /// At most so many real images, evenly spread over the list
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Feature network: an .onnx file that takes values in [0, 1], or a TOML file about one (path, layers, input, upsample)
    /// [default: the study's own classifier, its penultimate layer]
    #[arg(long, value_name = "FILE")]
    features: Option<PathBuf>,
    /// Layers of the feature network, names of its tensors [default: the penultimate, or those of the TOML file]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    layers: Vec<String>,
    /// Images to draw
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(4..))]
    samples: u32,
    /// Seed of the drawn images, and of KID's subsets
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Images worked on together
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: u16,
    /// File for the figures [default: in runs/, the manifest's name and -measure.json]
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
}

/// A feature network that cannot be used is the command line's mistake; one that fails later is not.
fn usage(e: Error) -> Failure {
    match e {
        Error::Cancelled | Error::Component { .. } => Failure::Work(e),
        e => Failure::Usage(e.to_string()),
    }
}

fn plan(a: &Measure, study: &Study) -> Result<Plan, Failure> {
    let (mut spec, description) = match &a.features {
        Some(path) => (
            features::read(path).map_err(|e| Failure::Usage(format!("--features {e}")))?,
            "a network of its own",
        ),
        None => match predictor_features(&study.predictor) {
            Ok(spec) => (spec, "the study's own classifier"),
            Err(e) => return Err(Failure::Usage(format!("{}: {e} with --features", study.path.display()))),
        },
    };
    if !a.layers.is_empty() {
        spec.layers.clone_from(&a.layers);
    }
    let layer = if spec.layers.is_empty() { ", its penultimate layer" } else { "" };
    let settings = Settings {
        samples: a.samples as usize,
        batch: usize::from(a.batch),
        seed: a.seed,
        ..Settings::default()
    };
    Ok(Plan {
        features: spec,
        description: format!("{description}{layer}"),
        settings,
        seed: a.seed,
        view: study.data.view(),
    })
}

/// Measures, prints and writes.
pub fn measure(a: &Measure) -> Done {
    let mut study = open_one(&a.study, "measure")?;
    if let Some(images) = &a.images {
        study.set_images(images);
    }
    if let Some(limit) = a.limit {
        study.data.limit = Some(limit as usize);
    }
    let out = a.out.clone().unwrap_or_else(|| default_out(&a.study.manifest, "-measure.json"));
    if out.is_dir() {
        return Err(Failure::Usage(format!("--out {}: a folder, expected a file", out.display())));
    }
    let items = study.items()?;
    let Some(mut parts) = study.load_drawing()? else {
        return Err(Failure::Usage(format!("{}: the study has no [generator]", study.path.display())));
    };
    let plan = plan(a, &study)?;
    let info = parts.generator.info();
    // Opened once more below; a mistake in it should not read as failed work.
    features::open(&plan.features, info.channels, (info.height, info.width)).map_err(usage)?;
    let progress = Progress::new();
    let found = measure_study(&study.name, &mut parts, &items, &plan, &progress);
    progress.finish();
    let found = found?;
    write(&out, &found)?;
    print(&found);
    println!("written: {}", out.display());
    Ok(())
}

fn write(path: &Path, found: &Measurement) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    }
    let text = serde_json::to_string_pretty(found).map_err(|e| Error::component("measurement", e))?;
    std::fs::write(path, text + "\n").map_err(|e| Error::io(path, e))?;
    Ok(())
}

fn print(m: &Measurement) {
    let (f, q) = (&m.features, &m.generator);
    println!("features: {}, {} ({})", f.description, f.path, f.info.backend);
    for layer in &f.info.layers {
        println!("  layer {} {:?}", layer.name, layer.shape);
    }
    println!("{} drawn images, seed {}, against {} real ones:", q.drawn, m.seed, q.real);
    let line = |value: String, title: &str| println!("  {value:>9}  {title}");
    line(format!("{:.3}", q.fid), &format!("FID ({} dimensions)", q.dimensions));
    let subsets =
        format!("KID ({} subsets of {}, deviation {:.5})", m.settings.subsets, q.kid_subset, q.kid_deviation);
    line(format!("{:.5}", q.kid), &subsets);
    line(format!("{:.3}", q.precision), "precision: share of drawn images that look real");
    line(format!("{:.3}", q.recall), "recall: share of real images that could be drawn");
    if let Some(r) = &m.reconstructions {
        println!("{} reconstructions G(E(x)):", r.images);
        let figure =
            |value: Option<f64>, digits: usize| value.map_or("missing".into(), |v| format!("{v:.digits$}"));
        line(figure(r.ssim, 3), "SSIM");
        line(figure(r.psnr, 2), "PSNR, dB");
        line(figure(Some(r.perceptual), 4), "perceptual distance on the same features");
        line(figure(Some(r.score_gap), 3), "mean |f(x) - f(G(E(x)))|");
    }
    m.remarks.iter().for_each(|r| println!("note: {r}"));
    if !m.left_out.is_empty() {
        println!("{} images could not be read", m.left_out.len());
    }
}

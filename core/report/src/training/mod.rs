//! `training.html`: the course of a training, from its folder alone.

mod log;
mod settings;
mod sheets;

use crate::folder::replace;
use crate::page::{self, CSS};
use crate::{number, plot};
use log::{Column, Log};
use minijinja::Value;
use minijinja::value::Serde;
use serde::Serialize;
use settings::Section;
use sheets::Sheet;
use shiftlens_api::{Error, Result};
use std::ops::Range;
use std::path::{Path, PathBuf};

const TEMPLATE: (&str, &str) = ("training.html", include_str!("../templates/training.html"));
const OWN_CSS: &str = include_str!("../templates/training.css");
const JS: &str = include_str!("../templates/training.js");

/// Columns that share a plot, its title and what to look for in it. Other columns get a plot each.
struct Group {
    title: &'static str,
    help: &'static str,
    columns: &'static [(&'static str, &'static str)],
    range: Option<Range<f64>>,
}

const fn group(
    title: &'static str,
    columns: &'static [(&'static str, &'static str)],
    help: &'static str,
) -> Group {
    Group { title, help, columns, range: None }
}

const GROUPS: [Group; 12] = [
    group("FID", &[("fid", "FID")], "Distance of generated from real images; smaller is better."),
    group("KID", &[("kid", "KID")], "The same without FID's bias for small samples; smaller is better."),
    Group {
        range: Some(0.0..1.0),
        ..group(
            "Precision and recall",
            &[("precision", "precision"), ("recall", "recall")],
            "Share of generated images near real ones, and of real ones near generated ones.",
        )
    },
    group(
        "Losses",
        &[("g_loss", "generator"), ("d_loss", "discriminator")],
        "They hold each other in balance and need not fall. A discriminator's loss near 0 has nothing left to teach.",
    ),
    Group {
        range: Some(-0.2..1.0),
        ..group(
            "Overfitting and augmentation",
            &[("r_t", "r_t"), ("p", "p")],
            "r_t is the mean sign of the discriminator's verdict on real images: 0 if it cannot tell, 1 if it knows them \
             by heart. The probability p of augmentation follows, such that r_t stays at its target.",
        )
    },
    group(
        "R1 penalty",
        &[("r1_penalty", "R1"), ("r1", "R1")],
        "Mean squared gradient of the discriminator on real images.",
    ),
    group(
        "Path length",
        &[("path_length", "length"), ("path_penalty", "penalty")],
        "How far images move for a small step of w; the regularisation keeps it even.",
    ),
    group(
        "Errors of codes",
        &[("latent_mse", "codes of generated images")],
        "Mean squared error in standard units of W.",
    ),
    group(
        "Errors of pixels",
        &[("pixel_mse", "generated images"), ("real_pixel_mse", "real images")],
        "Mean squared error of images and their reconstructions.",
    ),
    group(
        "Distance of features",
        &[("feature", "generated images"), ("real_feature", "real images")],
        "The same on the features of a network.",
    ),
    group("Learning rate", &[("learning_rate", "rate")], ""),
    group("Speed", &[("rate", "images/s"), ("images_per_second", "images/s")], "Mean of the session so far."),
];

/// A plot on the page.
#[derive(Debug, Serialize)]
struct Figure {
    title: String,
    help: String,
    svg: Value,
    logarithmic: bool,
    /// Name, index of the colour and last value of each curve.
    curves: Vec<(String, usize, String)>,
}

/// What the template sees.
#[derive(Debug, Serialize)]
struct Page {
    version: &'static str,
    name: String,
    what: &'static str,
    images: String,
    planned: Option<String>,
    duration: Option<String>,
    /// Title and value.
    best: Vec<(String, String)>,
    figures: Vec<Figure>,
    sheets: Vec<Sheet>,
    sheets_in_folder: usize,
    real: Option<Sheet>,
    settings: Vec<Section>,
    provenance: Vec<Section>,
    remarks: Vec<String>,
}

/// Writes `training.html` into the folder of a training and returns its path.
///
/// It shows what the folder holds: the columns of `log.csv` and `quality.csv` as curves, whatever they are; the sheets
/// `samples-N.png` and `real.png`; the manifest that `checkpoint.safetensors` was made with; `provenance.json` and
/// `*.provenance.json`. The page needs no network and no other file. What could not be read is named on it.
///
/// # Errors
/// If `log.csv` cannot be read, or the page cannot be written.
pub fn write_training(folder: &Path) -> Result<PathBuf> {
    let page = view(folder)?;
    let failed = |e: minijinja::Error| Error::component("training.html", format!("{e:#}"));
    let environment = page::environment(&[TEMPLATE]).map_err(failed)?;
    let html = environment
        .get_template(TEMPLATE.0)
        .and_then(|t| {
            t.render(minijinja::context! {
                run => Serde(&page),
                css => Value::from_safe_string(format!("{CSS}{OWN_CSS}")),
                js => Value::from_safe_string(JS.into()),
            })
        })
        .map_err(failed)?;
    let path = folder.join("training.html");
    replace(&path, html.as_bytes())?;
    Ok(path)
}

fn view(folder: &Path) -> Result<Page> {
    let mut remarks = Vec::new();
    let log = Log::read(&folder.join("log.csv"), &mut remarks)?;
    let quality = optional(&folder.join("quality.csv"), &mut remarks, Log::read);
    let quality = quality.unwrap_or_default();
    let state = optional(&folder.join("checkpoint.safetensors"), &mut remarks, |p, _| settings::state(p));
    if state.is_none() && !folder.join("checkpoint.safetensors").exists() {
        remarks.push("there is no checkpoint yet, and so no table of settings".into());
    }
    let manifest = state.map_or(serde_json::Value::Null, |s| s["manifest"].clone());
    let (sheets, sheets_in_folder) = sheets::all(folder, &mut remarks)?;
    let real = optional(&folder.join("real.png"), &mut remarks, |p, _| sheets::read(p, String::new()));
    let what = match () {
        () if manifest.get("encoder").is_some() || log.column("latent_mse").is_some() => "encoder",
        () => "generator",
    };
    let fallback = || folder.file_name().map_or_else(String::new, |n| n.display().to_string());
    Ok(Page {
        version: env!("CARGO_PKG_VERSION"),
        name: manifest["name"].as_str().map_or_else(fallback, str::to_owned),
        what,
        images: number::count(log.images as usize),
        planned: manifest["training"]["images"].as_u64().map(|n| number::count(n as usize)),
        duration: log.seconds.map(number::duration),
        best: best(&quality),
        figures: figures(&[&quality, &log])?,
        sheets,
        sheets_in_folder,
        real,
        settings: settings::sections("manifest", &manifest),
        provenance: provenance(folder, &mut remarks)?,
        remarks,
    })
}

/// What a file holds; nothing if it is not there, and nothing but a remark if it cannot be read.
fn optional<T>(
    path: &Path,
    remarks: &mut Vec<String>,
    read: impl FnOnce(&Path, &mut Vec<String>) -> Result<T>,
) -> Option<T> {
    if !path.exists() {
        return None;
    }
    match read(path, remarks) {
        Ok(value) => Some(value),
        Err(e) => {
            remarks.push(format!("left out: {e}"));
            None
        }
    }
}

/// The smallest FID and KID, and after how many images.
fn best(quality: &Log) -> Vec<(String, String)> {
    let smallest = |name: &str| {
        let points = &quality.column(name)?.points;
        let (images, value) = points.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
        let value = number::significant(*value);
        Some((
            format!("best {}", name.to_uppercase()),
            format!("{value} at {}", number::count(*images as usize)),
        ))
    };
    ["fid", "kid"].into_iter().filter_map(smallest).collect()
}

fn figures(logs: &[&Log]) -> Result<Vec<Figure>> {
    let mut left: Vec<&Column> = logs.iter().flat_map(|l| &l.columns).collect();
    let mut out = Vec::new();
    for group in &GROUPS {
        let mut found = Vec::new();
        for (name, label) in group.columns {
            if let Some(i) = left.iter().position(|c| c.name == *name) {
                found.push((left.remove(i), (*label).to_owned()));
            }
        }
        if !found.is_empty() {
            out.push(figure(group.title, group.help, &found, group.range.clone())?);
        }
    }
    for column in left {
        let title = column.name.replace(['_', '-'], " ");
        out.push(figure(&title, "", &[(column, title.clone())], None)?);
    }
    Ok(out)
}

fn figure(
    title: &str,
    help: &str,
    columns: &[(&Column, String)],
    range: Option<Range<f64>>,
) -> Result<Figure> {
    let curve = |(i, (c, _)): (usize, &(&Column, String))| plot::Curve {
        points: c.points.clone(),
        colour: i,
        dots: c.points.len() <= 40,
    };
    let curves: Vec<_> = columns.iter().enumerate().map(curve).collect();
    // A range that some value leaves would hide it.
    let within =
        |r: &Range<f64>| curves.iter().flat_map(|c| &c.points).all(|p| r.start <= p.1 && p.1 <= r.end);
    let range = range.filter(within);
    let last = |c: &Column| c.last().map_or_else(String::new, number::significant);
    Ok(Figure {
        title: title.into(),
        help: help.into(),
        logarithmic: range.is_none() && plot::logarithmic(&curves),
        svg: Value::from_safe_string(plot::svg(&curves, range)?),
        curves: columns.iter().enumerate().map(|(i, (c, label))| (label.clone(), i, last(c))).collect(),
    })
}

/// Tables of all provenance files in the folder, by name.
fn provenance(folder: &Path, remarks: &mut Vec<String>) -> Result<Vec<Section>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name == "provenance.json" || name.ends_with(".provenance.json") {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: &Path, _: &mut Vec<String>| -> Result<serde_json::Value> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))
    };
    let mut out = Vec::new();
    for path in paths {
        let name = path.file_name().map_or_else(String::new, |n| n.display().to_string());
        out.extend(optional(&path, remarks, read).map(|v| settings::sections(&name, &v)).unwrap_or_default());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_and_script_cannot_end_their_element() {
        assert!(!OWN_CSS.contains("</") && !JS.contains("</"));
    }

    #[test]
    fn the_dark_page_knows_every_colour_of_the_plots() {
        for colour in plot::COLOURS {
            let name = format!("\"#{:02X}{:02X}{:02X}\"", colour.0, colour.1, colour.2);
            assert!(CSS.contains(&name), "{name}");
        }
    }
}

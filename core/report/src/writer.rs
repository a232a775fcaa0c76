//! Draws a case's pictures while its folder is still temporary.

use crate::{animation, figures, number};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{DynamicImage, ImageEncoder};
use shiftlens_api::record::{Case, CaseWriter, ExplanationRecord};
use shiftlens_api::resize::{self, Filter};
use shiftlens_api::{Error, Explanation, Images, Result, ShiftSeries};
use std::path::Path;

/// Key of the note that holds the value of the difference picture's two ends.
pub(crate) const DIFFERENCE_SCALE: &str = "difference scale";

/// Longer side of a thumbnail, in pixels: twice what the gallery shows, for dense screens.
const THUMBNAIL: usize = 288;

/// The [`CaseWriter`] that draws all pictures of the crate's list.
///
/// The same case gives the same bytes. Besides the pictures that the records name themselves, `case.record.pictures`
/// gets `original`, `thumbnail` for a larger image, and for explanation E `reconstruction-E`, `series-E-apng`,
/// `heatmap-E-layer` and `heatmap-E-raw`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pictures {
    /// Also writes `series-E.gif`. On by default.
    pub gif: bool,
    /// Also writes `series-E.apng`, which keeps every colour.
    pub apng: bool,
}

impl Default for Pictures {
    fn default() -> Self {
        Self { gif: true, apng: false }
    }
}

impl CaseWriter for Pictures {
    fn write(&self, folder: &Path, case: &mut Case) -> Result<()> {
        let Case { id, image, explanations, record, .. } = case;
        if explanations.len() != record.explanations.len() {
            return Err(Error::Invalid(format!(
                "case {id}: {} explanations and {} records of explanations, expected one each",
                explanations.len(),
                record.explanations.len()
            )));
        }
        if image.len() != 1 {
            return Err(Error::Shape {
                what: format!("case {id}: image"),
                expected: "[1, C, H, W]".into(),
                found: image.shape().to_vec(),
            });
        }
        save(folder, "original.png", &figures::picture(image, 0))?;
        record.pictures.insert("original".into(), "original.png".into());
        if let Some(small) = thumbnail(image)? {
            save(folder, "thumbnail.png", &figures::picture(&small, 0))?;
            record.pictures.insert("thumbnail".into(), "thumbnail.png".into());
        }
        for (e, (explanation, facts)) in explanations.iter().zip(&mut record.explanations).enumerate() {
            match (explanation, facts) {
                (
                    Explanation::Shift { series, .. },
                    ExplanationRecord::Shift { pictures, animation, difference, notes, .. },
                ) => {
                    check(id, e, series)?;
                    *pictures = write_series(folder, e, &series.images)?;
                    let name = format!("reconstruction-{e}.png");
                    save(folder, &name, &figures::picture(&series.images, series.origin))?;
                    record.pictures.insert(format!("reconstruction-{e}"), name);
                    if self.gif {
                        let name = format!("series-{e}.gif");
                        put(folder, &name, &animation::gif(&series.images)?)?;
                        *animation = Some(name);
                    }
                    if self.apng {
                        let name = format!("series-{e}.apng");
                        put(folder, &name, &animation::apng(&series.images)?)?;
                        record.pictures.insert(format!("series-{e}-apng"), name);
                    }
                    let last = series.images.len() - 1;
                    let ends = [series.images.slice(0, 1), series.images.slice(last, last + 1)];
                    let (map, scale) = figures::difference(&ends[0], &ends[1])?;
                    let name = format!("difference-{e}.png");
                    save(folder, &name, &map.into())?;
                    *difference = Some(name);
                    notes.retain(|(key, _)| key != DIFFERENCE_SCALE);
                    notes.push((DIFFERENCE_SCALE.into(), number::significant(f64::from(scale))));
                }
                (Explanation::Heatmap { map, .. }, ExplanationRecord::Heatmap { picture, .. }) => {
                    let drawn = figures::overlay(image, map)?;
                    let name = format!("heatmap-{e}.png");
                    save(folder, &name, &drawn.composed.into())?;
                    *picture = Some(name);
                    for (part, pixels) in
                        [("layer", DynamicImage::from(drawn.layer)), ("raw", drawn.raw.into())]
                    {
                        let key = format!("heatmap-{e}-{part}");
                        let name = format!("{key}.png");
                        save(folder, &name, &pixels)?;
                        record.pictures.insert(key, name);
                    }
                }
                _ => {
                    return Err(Error::Invalid(format!(
                        "case {id}: explanation {e} and its record are of different types"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// An image for the gallery; `None` where the image itself is small enough.
fn thumbnail(image: &Images) -> Result<Option<Images>> {
    let (h, w) = image.size();
    let longer = h.max(w);
    if longer <= THUMBNAIL {
        return Ok(None);
    }
    let side = |v: usize| (v * THUMBNAIL).div_ceil(longer);
    resize::images(image, (side(h), side(w)), Filter::Bilinear).map(Some)
}

fn check(id: &str, e: usize, series: &ShiftSeries) -> Result<()> {
    let n = series.images.len();
    if n == 0 || series.lambdas.len() != n || series.scores.len() != n || series.origin >= n {
        return Err(Error::Invalid(format!(
            "case {id}: explanation {e}: {n} pictures, {} λ, {} scores, origin {}; expected as many of each, at least \
             one, and an origin among them",
            series.lambdas.len(),
            series.scores.len(),
            series.origin
        )));
    }
    Ok(())
}

/// `series-E/00.png`, …; the names have as many digits as the last one needs, at least two.
fn write_series(folder: &Path, e: usize, images: &Images) -> Result<Vec<String>> {
    let below = folder.join(format!("series-{e}"));
    std::fs::create_dir_all(&below).map_err(|source| Error::io(&below, source))?;
    let digits = (images.len() - 1).to_string().len().max(2);
    (0..images.len())
        .map(|i| {
            let name = format!("series-{e}/{i:0digits$}.png");
            save(folder, &name, &figures::picture(images, i))?;
            Ok(name)
        })
        .collect()
}

pub(crate) fn png(picture: &DynamicImage) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    PngEncoder::new_with_quality(&mut out, CompressionType::Default, FilterType::Adaptive)
        .write_image(picture.as_bytes(), picture.width(), picture.height(), picture.color().into())
        .map_err(|e| Error::component("png", e))?;
    Ok(out)
}

/// Writes one image (`[1, C, H, W]`) as an 8-bit PNG.
///
/// # Errors
/// If there is not exactly one image, or the file cannot be written.
pub fn write_png(path: &Path, image: &Images) -> Result<()> {
    if image.len() != 1 {
        return Err(Error::Shape {
            what: format!("picture for {}", path.display()),
            expected: "[1, C, H, W]".into(),
            found: image.shape().to_vec(),
        });
    }
    std::fs::write(path, png(&figures::picture(image, 0))?).map_err(|source| Error::io(path, source))
}

fn save(folder: &Path, name: &str, picture: &DynamicImage) -> Result<()> {
    put(folder, name, &png(picture)?)
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name);
    std::fs::write(&path, bytes).map_err(|source| Error::io(&path, source))
}

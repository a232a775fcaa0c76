//! Training images, kept in memory as bytes.

use super::DataSection;
use crate::rng::Rng;
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use shiftlens_api::resize::{self, Filter};
use shiftlens_api::{Error, Images, Result};
use std::path::{Path, PathBuf};

/// All images of a training set at one resolution.
pub struct Dataset {
    pixels: Vec<u8>,
    count: usize,
    channels: usize,
    resolution: usize,
    flip: bool,
    digest: String,
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
    for entry in entries {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        if path.is_dir() {
            list(&path, files)?;
        } else if matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg")) {
            files.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path, channels: usize, resolution: usize) -> Result<Vec<u8>> {
    let invalid = |e: &dyn std::fmt::Display| Error::Invalid(format!("{}: {e}", path.display()));
    let picture = image::open(path).map_err(|e| invalid(&e))?;
    let (h, w) = (picture.height() as usize, picture.width() as usize);
    let (c, raw) =
        if channels == 1 { (1, picture.to_luma32f_planes()) } else { (3, picture.to_rgb32f_planes()) };
    let images = Images::new([1, c, h, w], raw)?;
    // A square from the centre, so that nothing is distorted.
    let side = h.min(w);
    let (top, left) = ((h - side) / 2, (w - side) / 2);
    let crop: Vec<f32> = images
        .as_slice()
        .chunks_exact(w)
        .enumerate()
        .filter(|(i, _)| (top..top + side).contains(&(i % h)))
        .flat_map(|(_, row)| &row[left..left + side])
        .copied()
        .collect();
    let square = Images::new([1, c, side, side], crop)?;
    let small = resize::images(&square, (resolution, resolution), Filter::Bilinear)?;
    Ok(small.as_slice().iter().map(|v| (v * 255.0).round() as u8).collect())
}

/// Planar pixels in [0, 1].
trait Planes {
    fn to_luma32f_planes(&self) -> Vec<f32>;
    fn to_rgb32f_planes(&self) -> Vec<f32>;
}

impl Planes for image::DynamicImage {
    fn to_luma32f_planes(&self) -> Vec<f32> {
        self.to_luma32f().into_raw()
    }
    fn to_rgb32f_planes(&self) -> Vec<f32> {
        let raw = self.to_rgb32f().into_raw();
        (0..3).flat_map(|c| raw.iter().skip(c).step_by(3).copied().collect::<Vec<_>>()).collect()
    }
}

impl Dataset {
    /// Reads every image of the folders, in path order, cropped to a centred square and resized.
    ///
    /// # Errors
    /// If a folder or an image cannot be read, or there is no image.
    pub fn load(section: &DataSection, channels: usize, resolution: usize) -> Result<Self> {
        let mut files = Vec::new();
        for folder in &section.images {
            list(folder, &mut files)?;
        }
        files.sort();
        if files.is_empty() {
            return Err(Error::Invalid(format!(
                "{:?}: no PNG or JPEG files; data.images must name folders of training images",
                section.images
            )));
        }
        let parts: Vec<Vec<u8>> =
            files.par_iter().map(|f| read(f, channels, resolution)).collect::<Result<_>>()?;
        let pixels = parts.concat();
        let digest = Sha256::digest(&pixels).iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self { pixels, count: files.len(), channels, resolution, flip: section.flip, digest })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True without images.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// sha256 of all pixels as they are trained on.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// `n` images drawn with replacement, `[n, C, R, R]` in [-1, 1], mirrored at random if the manifest says so.
    ///
    /// # Errors
    /// If candle fails.
    pub fn draw(&self, n: usize, rng: &mut Rng, device: &Device) -> candle_core::Result<Tensor> {
        let picks: Vec<(usize, bool)> =
            (0..n).map(|_| (rng.below(self.count), self.flip && rng.coin())).collect();
        self.gather(&picks, device)
    }

    /// Images `from..to`, not mirrored, in [-1, 1].
    ///
    /// # Errors
    /// If candle fails.
    pub fn range(&self, from: usize, to: usize, device: &Device) -> candle_core::Result<Tensor> {
        let picks: Vec<(usize, bool)> = (from..to.min(self.count)).map(|i| (i, false)).collect();
        self.gather(&picks, device)
    }

    fn gather(&self, picks: &[(usize, bool)], device: &Device) -> candle_core::Result<Tensor> {
        let (r, c) = (self.resolution, self.channels);
        let mut out = Vec::with_capacity(picks.len() * c * r * r);
        for (i, mirror) in picks {
            for row in self.pixels[i * c * r * r..(i + 1) * c * r * r].chunks_exact(r) {
                let value = |v: &u8| f32::from(*v) / 127.5 - 1.0;
                if *mirror {
                    out.extend(row.iter().rev().map(value));
                } else {
                    out.extend(row.iter().map(value));
                }
            }
        }
        Tensor::from_vec(out, (picks.len(), c, r, r), device)
    }
}

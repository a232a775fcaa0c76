//! Training images, kept in memory as bytes.

use super::manifest::resolve;
use crate::rng::Rng;
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use shiftlens_api::resize::{self, Filter};
use shiftlens_api::{Error, Result};
use shiftlens_input::{ImageSource, Reader, Source, View, Window, sources};
use std::path::{Path, PathBuf};

/// Where the images are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DataSection {
    /// Folders, searched recursively, and lists (CSV, TSV, Parquet) with a column `path`. Relative to the manifest. Every
    /// frame of a file is an image.
    pub images: Vec<PathBuf>,
    /// Folder that the paths in lists are relative to; without it each list's own. Relative to the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
    /// Which stored values are black and white.
    #[serde(default, skip_serializing_if = "Window::is_default")]
    pub window: Window,
    /// Side in pixels of the centred square that is cut out before resizing; without it the largest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<usize>,
    /// Also learn mirrored images.
    #[serde(default)]
    pub flip: bool,
    /// Also learn all eight orientations of an image, turned by quarters and mirrored.
    #[serde(default)]
    pub rotate: bool,
}

impl DataSection {
    /// Makes paths that are relative to the manifest relative to the working directory.
    pub(super) fn resolve(&mut self, manifest: &Path) {
        self.images.iter_mut().chain(&mut self.root).for_each(|p| resolve(manifest, p));
    }

    /// The images of all folders and lists, in path order.
    fn sources(&self) -> Result<Vec<Source>> {
        let mut found = Vec::new();
        for place in &self.images {
            found.extend(sources(&ImageSource::of(place.clone()), self.root.as_deref())?);
        }
        found.sort();
        if found.is_empty() {
            return Err(Error::Invalid(format!(
                "{:?}: no images; data.images must name folders of training images, or lists (CSV, TSV, Parquet) with a \
                 column `path`",
                self.images
            )));
        }
        Ok(found)
    }
}

/// All images of a training set at one resolution.
pub struct Dataset {
    pixels: Vec<u8>,
    count: usize,
    channels: usize,
    resolution: usize,
    flip: bool,
    rotate: bool,
    digest: String,
}

/// Reads an image, cropped to a centred square and resized, into `out`, `[C, R, R]`.
fn read(
    reader: &mut Reader,
    source: &Source,
    (channels, resolution): (usize, usize),
    out: &mut [u8],
) -> Result<()> {
    let images = reader.read(source)?.with_channels(channels)?;
    let (h, w) = images.size();
    // A square from the centre, so that nothing is distorted.
    let square = if h == w { Some(images) } else { images.centre(h.min(w)) };
    let square = square.ok_or_else(|| Error::Invalid(format!("{source}: an image without pixels")))?;
    let small = resize::images(&square, (resolution, resolution), Filter::Bilinear)?;
    out.iter_mut().zip(small.as_slice()).for_each(|(o, v)| *o = (v * 255.0).round() as u8);
    Ok(())
}

/// One of the eight orientations: transposed, then turned upside down, then mirrored, where the bits 4, 2, 1 are set.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Orientation(u8);

impl Orientation {
    const MIRRORED: Self = Self(1);

    /// Appends a plane of `r` by `r` bytes in network range.
    fn write(self, plane: &[u8], r: usize, out: &mut Vec<f32>) {
        let value = |v: &u8| f32::from(*v) / 127.5 - 1.0;
        match self.0 {
            0 => out.extend(plane.iter().map(value)),
            1 => out.extend(plane.chunks_exact(r).flat_map(|row| row.iter().rev().map(value))),
            bits => {
                let turn = |i: usize, bit: u8| if bits & bit == 0 { i } else { r - 1 - i };
                for (y, x) in (0..r).flat_map(|y| (0..r).map(move |x| (y, x))) {
                    let (y, x) = (turn(y, 2), turn(x, 1));
                    let (y, x) = if bits & 4 == 0 { (y, x) } else { (x, y) };
                    out.push(value(&plane[y * r + x]));
                }
            }
        }
    }
}

impl Dataset {
    /// Reads every image, in path order, cropped to a centred square and resized.
    ///
    /// # Errors
    /// If a folder, a list or an image cannot be read, an image is smaller than the crop, or there is no image.
    pub fn load(section: &DataSection, channels: usize, resolution: usize) -> Result<Self> {
        if section.crop == Some(0) {
            return Err(Error::Invalid("data.crop: expected at least 1 pixel".into()));
        }
        let found = section.sources()?;
        let size = channels * resolution * resolution;
        let mut pixels = vec![0; found.len() * size];
        let view = View { window: section.window, crop: section.crop, smallest: 1 };
        pixels.par_chunks_exact_mut(size).zip(&found).try_for_each_init(
            || Reader::new(view),
            |reader, (out, source)| read(reader, source, (channels, resolution), out),
        )?;
        let digest = Sha256::digest(&pixels).iter().map(|b| format!("{b:02x}")).collect();
        let (flip, rotate) = (section.flip, section.rotate);
        Ok(Self { pixels, count: found.len(), channels, resolution, flip, rotate, digest })
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

    fn orientation(&self, rng: &mut Rng) -> Orientation {
        if self.rotate {
            return Orientation(rng.below(8) as u8);
        }
        if self.flip && rng.coin() { Orientation::MIRRORED } else { Orientation(0) }
    }

    /// `n` images drawn with replacement, `[n, C, R, R]` in [-1, 1], mirrored and turned at random if the manifest says so.
    ///
    /// # Errors
    /// If candle fails.
    pub fn draw(&self, n: usize, rng: &mut Rng, device: &Device) -> candle_core::Result<Tensor> {
        let picks: Vec<_> = (0..n).map(|_| (rng.below(self.count), self.orientation(rng))).collect();
        self.gather(&picks, device)
    }

    /// Images `from..to` as they are, in [-1, 1].
    ///
    /// # Errors
    /// If candle fails.
    pub fn range(&self, from: usize, to: usize, device: &Device) -> candle_core::Result<Tensor> {
        let picks: Vec<_> = (from..to.min(self.count)).map(|i| (i, Orientation(0))).collect();
        self.gather(&picks, device)
    }

    /// The images of these numbers as they are, in [-1, 1].
    ///
    /// # Errors
    /// If there is no such image, or candle fails.
    pub fn select(&self, numbers: &[usize], device: &Device) -> candle_core::Result<Tensor> {
        if let Some(i) = numbers.iter().find(|i| **i >= self.count) {
            candle_core::bail!("image {i} of {}", self.count);
        }
        let picks: Vec<_> = numbers.iter().map(|i| (*i, Orientation(0))).collect();
        self.gather(&picks, device)
    }

    fn gather(&self, picks: &[(usize, Orientation)], device: &Device) -> candle_core::Result<Tensor> {
        let (r, c) = (self.resolution, self.channels);
        let mut out = Vec::with_capacity(picks.len() * c * r * r);
        for (i, orientation) in picks {
            for plane in self.pixels[i * c * r * r..(i + 1) * c * r * r].chunks_exact(r * r) {
                orientation.write(plane, r, &mut out);
            }
        }
        Tensor::from_vec(out, (picks.len(), c, r, r), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn picture(path: &Path, side: u32, first: u8) {
        let picture =
            image::GrayImage::from_fn(side, side, |x, y| image::Luma([first + (y * side + x) as u8]));
        picture.save(path).unwrap();
    }

    fn bytes(t: &Tensor) -> Vec<u8> {
        let values = t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.iter().map(|v| ((v + 1.0) * 127.5).round() as u8).collect()
    }

    #[test]
    fn tables_crops_and_orientations() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        picture(&folder.path().join("sub/b.png"), 4, 100);
        picture(&folder.path().join("sub/a.png"), 4, 0);
        let list = folder.path().join("list.CSV");
        std::fs::write(&list, "label, path\n1, sub/b.png\n0, sub/a.png\n").unwrap();
        let section = DataSection { images: vec![list.clone()], crop: Some(2), ..DataSection::default() };
        let data = Dataset::load(&section, 1, 2).unwrap();
        // The 2x2 in the middle, in path order.
        assert_eq!(bytes(&data.range(0, 9, &Device::Cpu).unwrap()), [5, 6, 9, 10, 105, 106, 109, 110]);
        let rooted = DataSection { root: Some(folder.path().join("sub")), ..section.clone() };
        let error = Dataset::load(&rooted, 1, 2).err().unwrap().to_string();
        assert!(error.contains("sub/sub/a.png"), "{error}");
        let large = DataSection { crop: Some(5), ..section.clone() };
        let error = Dataset::load(&large, 1, 2).err().unwrap().to_string();
        assert!(error.contains("a.png") && error.contains("4x4") && error.contains("`crop`"), "{error}");
        std::fs::write(&list, "label,file\n1,a.png\n").unwrap();
        let error = Dataset::load(&section, 1, 2).err().unwrap().to_string();
        assert!(error.contains("no column `path`: expected one of: label, file"), "{error}");
        std::fs::write(&list, "label,path\n1,\n").unwrap();
        let error = Dataset::load(&section, 1, 2).err().unwrap().to_string();
        assert!(error.contains("list.CSV:2: the column `path` is empty"), "{error}");

        // Many draws show every orientation of the dihedral group and nothing else.
        let turned = DataSection {
            images: vec![folder.path().join("sub")],
            crop: Some(2),
            rotate: true,
            ..DataSection::default()
        };
        let data = Dataset::load(&turned, 1, 2).unwrap();
        let drawn = bytes(&data.draw(400, &mut Rng::new(1, 1), &Device::Cpu).unwrap());
        let found: BTreeSet<[u8; 4]> =
            drawn.chunks_exact(4).map(|c| [c[0] % 100, c[1] % 100, c[2] % 100, c[3] % 100]).collect();
        let expected = [
            [5, 6, 9, 10],
            [9, 5, 10, 6],
            [10, 9, 6, 5],
            [6, 10, 5, 9],
            [6, 5, 10, 9],
            [9, 10, 5, 6],
            [5, 9, 6, 10],
            [10, 6, 9, 5],
        ];
        assert_eq!(found, BTreeSet::from(expected));
    }

    #[test]
    fn windows_and_endings_are_those_of_studies() {
        let folder = tempfile::tempdir().unwrap();
        // Stored values 1000, 1100 and so on, in a format and depth that trainings did not always read.
        let picture: image::ImageBuffer<image::Luma<u16>, Vec<u16>> =
            image::ImageBuffer::from_fn(4, 4, |x, y| image::Luma([(1000 + 100 * (4 * y + x)) as u16]));
        picture.save(folder.path().join("a.tif")).unwrap();
        let text = "images = [\"a\"]\nwindow = { low = 1000, high = 2500 }\n";
        let section: DataSection = toml::from_str(text).unwrap();
        let section = DataSection { images: vec![folder.path().to_owned()], ..section };
        let data = Dataset::load(&section, 1, 4).unwrap();
        let expected: Vec<u8> = (0..16).map(|k| 17 * k).collect();
        assert_eq!(bytes(&data.range(0, 1, &Device::Cpu).unwrap()), expected);
        // A checkpoint's manifest from before the key is still the same manifest.
        let usual = serde_json::to_value(DataSection::default()).unwrap();
        assert!(usual.get("window").is_none());
        let message = toml::from_str::<DataSection>("images = []\nwindow = \"min\"").unwrap_err().to_string();
        assert!(message.contains("\"min\""), "{message}");
    }
}

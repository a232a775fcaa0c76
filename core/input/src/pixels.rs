//! Decoded pixels, before they are brightness.

use crate::Said;
use crate::window::Curve;

/// Most values, width times height times channels, that an image may have: 2^27, half a gigabyte as f32. What a header
/// claims is compared with it before anything is allocated.
pub const MAX_VALUES: u64 = 1 << 27;

/// Pixels as a file stores them (DICOM: after the modality transformation, so in Hounsfield units for CT).
#[derive(Debug, Clone)]
pub struct Pixels {
    /// 1 or 3.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `[C, H, W]`, finite.
    pub values: Vec<f32>,
    /// The values that are black and white if nothing else is said; `None` where the type of pixel has no such range.
    pub full: Option<(f64, f64)>,
    /// What the file itself says about black and white. An error matters only to who asks the file.
    pub own: Said<Option<Curve>>,
    /// True if the lowest value is white (MONOCHROME1).
    pub inverted: bool,
}

impl Pixels {
    /// Pixels of a file that says nothing about brightness.
    pub fn plain(
        (channels, height, width): (usize, usize, usize),
        values: Vec<f32>,
        full: Option<(f64, f64)>,
    ) -> Self {
        Self { channels, height, width, values, full, own: Ok(None), inverted: false }
    }
}

/// Refuses what a header claims if it is more than [`MAX_VALUES`].
pub fn check_size(width: u64, height: u64, channels: u64) -> Said<()> {
    match width.checked_mul(height).and_then(|n| n.checked_mul(channels)) {
        Some(n) if n <= MAX_VALUES => Ok(()),
        _ => Err(format!(
            "{width}x{height} pixels of {channels} channels are more than {MAX_VALUES} values: cut the image into tiles"
        )),
    }
}

/// Interleaved values as planes.
pub fn planes(values: Vec<f32>, channels: usize) -> Vec<f32> {
    if channels == 1 {
        return values;
    }
    let mut planes = Vec::with_capacity(values.len());
    for c in 0..channels {
        planes.extend(values.iter().skip(c).step_by(channels));
    }
    planes
}

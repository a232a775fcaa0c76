//! Sample sheets.

use candle_core::Tensor;
use shiftlens_api::{Error, Result};
use std::path::Path;

/// Writes images `[N, C, H, W]` in [-1, 1] as one PNG with `columns` per row.
///
/// # Errors
/// If the file cannot be written.
pub fn write_sheet(path: &Path, images: &Tensor, columns: usize) -> Result<()> {
    let fail = |e: candle_core::Error| Error::component("stylegan2", e);
    let (n, c, h, w) = images.dims4().map_err(fail)?;
    let data = images.flatten_all().and_then(|t| t.to_vec1::<f32>()).map_err(fail)?;
    let rows = n.div_ceil(columns);
    let mut sheet = image::RgbImage::new((columns * w) as u32, (rows * h) as u32);
    for (i, picture) in data.chunks_exact(c * h * w).enumerate() {
        let (top, left) = (i / columns * h, i % columns * w);
        for y in 0..h {
            for x in 0..w {
                let value = |k: usize| {
                    let v = picture[(k.min(c - 1) * h + y) * w + x];
                    ((v + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8
                };
                let pixel = image::Rgb([value(0), value(1), value(2)]);
                sheet.put_pixel((left + x) as u32, (top + y) as u32, pixel);
            }
        }
    }
    sheet.save(path).map_err(|e| Error::component("sample sheet", format!("{}: {e}", path.display())))
}

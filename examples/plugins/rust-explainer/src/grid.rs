//! The image, cut into rectangles.

use shiftlens_sdk::api::{Error, Result};

/// Rows and columns of rectangles that cover an image, numbered row by row; sides differ by a pixel at most.
pub struct Grid {
    rows: usize,
    columns: usize,
    height: usize,
    width: usize,
}

impl Grid {
    /// Rectangles of an image of `(height, width)` pixels.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more rows or columns than pixels.
    pub fn new([rows, columns]: [usize; 2], (height, width): (usize, usize)) -> Result<Self> {
        if rows > height || columns > width {
            return Err(Error::Invalid(format!(
                "params: `grid` is [{rows}, {columns}], the image has {height} rows and {width} columns of pixels only"
            )));
        }
        Ok(Self { rows, columns, height, width })
    }

    /// M: how many rectangles there are.
    pub fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// The rectangle of every pixel, row by row.
    pub fn labels(&self) -> impl Iterator<Item = usize> + Clone {
        let Self { rows, columns, height, width } = *self;
        (0..height)
            .flat_map(move |y| (0..width).map(move |x| y * rows / height * columns + x * columns / width))
    }

    /// The image `[C, H, W]` with the mean of its rectangle, in its channel, in every pixel.
    pub fn means(&self, image: &[f32]) -> Vec<f32> {
        let mut out = Vec::with_capacity(image.len());
        for channel in image.chunks_exact(self.height * self.width) {
            let mut sums = vec![(0.0f64, 0.0f64); self.len()];
            for (v, s) in channel.iter().zip(self.labels()) {
                sums[s] = (sums[s].0 + f64::from(*v), sums[s].1 + 1.0);
            }
            out.extend(self.labels().map(|s| (sums[s].0 / sums[s].1) as f32));
        }
        out
    }
}

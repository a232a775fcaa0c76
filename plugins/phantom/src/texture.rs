//! A fixed random texture: value noise on a periodic lattice, once continuously differentiable.

use crate::random::Stream;

/// Lattice points per axis; a power of two.
const SIDE: usize = 128;

/// Random values on a periodic lattice of unit cells, interpolated smoothly in between.
#[derive(Debug, Clone)]
pub struct Texture {
    lattice: Vec<f32>,
}

impl Texture {
    /// The texture of `seed`, with values in [-1, 1].
    pub fn new(seed: u64) -> Self {
        let mut stream = Stream::new(seed);
        Self { lattice: (0..SIDE * SIDE).map(|_| (2.0 * stream.uniform() - 1.0) as f32).collect() }
    }
    /// The value at (x, y), in cells.
    pub fn at(&self, x: f32, y: f32) -> f32 {
        let (fx, fy) = (x.floor(), y.floor());
        let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
        let (tx, ty) = (smooth(x - fx), smooth(y - fy));
        // Wrapping by a mask needs two's complement, which `as i32 as usize` gives.
        let (ix, iy) = (fx as i32 as usize, fy as i32 as usize);
        let value = |dx: usize, dy: usize| {
            self.lattice[(iy.wrapping_add(dy) & (SIDE - 1)) * SIDE + (ix.wrapping_add(dx) & (SIDE - 1))]
        };
        let top = value(0, 0) + tx * (value(1, 0) - value(0, 0));
        let bottom = value(0, 1) + tx * (value(1, 1) - value(0, 1));
        top + ty * (bottom - top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_in_range_is_continuous_and_wraps() {
        let texture = Texture::new(3);
        for i in 0..4000 {
            let (x, y) = (-20.0 + 0.01 * i as f32, 7.3 - 0.017 * i as f32);
            let v = texture.at(x, y);
            assert!(v.abs() <= 1.0);
            assert!((texture.at(x + 1e-3, y) - v).abs() < 5e-3);
        }
        assert!((texture.at(1.25, -3.5) - texture.at(1.25 + SIDE as f32, -3.5 + SIDE as f32)).abs() < 1e-4);
    }
}

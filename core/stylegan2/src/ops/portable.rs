//! Convolutions in candle's operations, for devices without kernels of ours.
//!
//! candle runs a convolution on a GPU as a product of matrices over gathered windows, and a transposed convolution
//! without one. So everything here is a plain convolution or a product of matrices:
//!
//! * the gradient of the input of a convolution that keeps the size is a convolution with the kernel turned round;
//! * a convolution of stride 2 is one of stride 1 on the four parities of rows and columns, taken as channels (the
//!   polyphase form), and a transposed one is the same the other way round;
//! * the gradient of a weight is, for each of its places, the product of two pictures of which one is shifted. In a
//!   picture with a zero border, laid out flat, a shift is an offset, so no window is gathered.
//!
//! candle's kernels find the place of each number of a tensor that is not contiguous, and of each number of a window,
//! by a division for every axis. So what can be is copied in contiguous runs, and views have as few axes as they can.

use super::precision::{convolution, is_bf16, reduced};
use candle_core::{Result, Tensor, bail};
use std::cell::Cell;

/// Values that gathered windows may take at once: bounds memory (1 GiB in f32), and candle's launch counts its threads
/// in 32 bits.
const WINDOWS: usize = 1 << 28;
/// From so many values in the windows on, they are copied as shifted pictures: contiguous runs, but more launches. An
/// estimate from the kernels' code; `device layers` measures both ways.
const MANY: usize = 1 << 24;
/// Products below this number leave a GPU's processors idle.
const PRODUCTS: usize = 256;

/// How the windows of a convolution are gathered for its product of matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gather {
    /// By their number.
    Auto,
    /// By candle's convolution, window by window.
    Windows,
    /// One shifted picture for each place of the kernel.
    Shifts,
}

thread_local! {
    static GATHER: Cell<Gather> = const { Cell::new(Gather::Auto) };
}

/// Runs `f` with convolutions done one way, for tests and measurements.
pub fn with_gather<R>(g: Gather, f: impl FnOnce() -> R) -> R {
    struct Restore(Gather);
    impl Drop for Restore {
        fn drop(&mut self) {
            GATHER.with(|v| v.set(self.0));
        }
    }
    let _restore = Restore(GATHER.with(|v| v.replace(g)));
    f()
}

/// True if so many values in windows are to be gathered as shifted pictures.
fn shifts(values: usize) -> bool {
    match GATHER.with(Cell::get) {
        Gather::Auto => values >= MANY,
        way => way == Gather::Shifts,
    }
}

/// Applies `f` to as many of the N images at a time as have `most` values in their windows, `one` in each.
fn in_parts(x: &Tensor, one: usize, most: usize, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    if one > u32::MAX as usize {
        bail!("convolution: {one} values in the windows of one image are more than a launch can count");
    }
    let (n, some) = (x.dim(0)?, (most / one.max(1)).max(1));
    if n <= some {
        return f(x);
    }
    let parts = (0..n).step_by(some).map(|from| f(&x.narrow(0, from, some.min(n - from))?));
    Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
}

/// A convolution by candle.
fn conv(x: &Tensor, w: &Tensor, pad: usize, stride: usize) -> Result<Tensor> {
    let (_, c, h, width) = x.dims4()?;
    let (_, _, kh, kw) = w.dims4()?;
    let side = |s: usize| (s + 2 * pad - kh) / stride + 1;
    let one = c * kh * kw * side(h) * side(width);
    convolution(&x.contiguous()?, &w.contiguous()?, |x, w| {
        in_parts(x, one, WINDOWS, |x| x.conv2d(w, pad, stride, 1, 1))
    })
}

/// Pictures with a border of zeros, laid out flat, so that a shift is an offset.
struct Grid {
    flat: Tensor,
    channels: usize,
    /// Width of a row, and numbers of a picture.
    row: usize,
    places: usize,
}

impl Grid {
    /// Pictures `[N, C, H, W]` that have their border.
    fn new(x: &Tensor, border: usize) -> Result<Self> {
        let (_, channels, h, row) = x.dims4()?;
        // The last shift looks so far beyond the last picture; what it finds there counts for nothing.
        let beyond = border * row + border;
        let flat = x.contiguous()?.flatten_all()?.pad_with_zeros(0, 0, beyond)?;
        Ok(Self { flat, channels, row, places: h * row })
    }
    /// `n` pictures shifted by a rows and b columns: `[n, C * places]`. The border holds other numbers then.
    fn shifted(&self, n: usize, a: usize, b: usize) -> Result<Tensor> {
        let one = self.channels * self.places;
        self.flat.narrow(0, a * self.row + b, n * one)?.reshape((n, one))
    }
}

/// [`same`] by shifted pictures, `most` values at once, with `margin` more columns in the border.
fn same_by_shifts(x: &Tensor, w: &Tensor, most: usize, margin: usize) -> Result<Tensor> {
    let (_, c, h, width) = x.dims4()?;
    let (k, _, size, _) = w.dims4()?;
    let (half, border) = (size / 2, size - 1);
    let row = width + border + margin;
    let one = c * size * size * (h + border) * row;
    let w = w.permute((0, 2, 3, 1))?.contiguous()?.reshape((1, k, size * size * c))?;
    convolution(x, &w, |x, w| {
        let x = x.pad_with_zeros(3, half, half + margin)?.pad_with_zeros(2, half, half)?;
        in_parts(&x, one, most, |x| {
            let (n, grid) = (x.dim(0)?, Grid::new(x, border)?);
            let all = (0..size * size).map(|i| grid.shifted(n, i / size, i % size));
            let all = Tensor::cat(&all.collect::<Result<Vec<_>>>()?, 1)?;
            let all = all.reshape((n, size * size * c, grid.places))?;
            let y = w.broadcast_as((n, k, size * size * c))?.matmul(&all)?;
            let y = y.reshape((n * k, h + border, row))?;
            y.narrow(1, 0, h)?.narrow(2, 0, width)?.contiguous()?.reshape((n, k, h, width))
        })
    })
}

/// x `[N, C, H, W]`, w `[K, C, k, k]` to `[N, K, H, W]`.
pub(super) fn same(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (n, c, h, width) = x.dims4()?;
    let (k, _, size, _) = w.dims4()?;
    if size > 1 {
        return match shifts(n * c * size * size * h * width) {
            // Two more columns make the pictures of even sides multiples of 16 bytes in bf16, as tensor cores want.
            true => same_by_shifts(x, w, WINDOWS, if is_bf16() { 2 } else { 0 }),
            false => conv(x, w, size / 2, 1),
        };
    }
    let x = x.contiguous()?.reshape((n, c, h * width))?;
    let y =
        convolution(&x, &w.contiguous()?, |x, w| w.reshape((1, k, c))?.broadcast_as((n, k, c))?.matmul(x))?;
    y.reshape((n, k, h, width))
}

/// w `[.., k, k]` turned by half a circle.
fn turned(w: &Tensor) -> Result<Tensor> {
    let places = w.dim(w.rank() - 1)?.pow(2);
    let reversed: Vec<u32> = (0..places as u32).rev().collect();
    let reversed = Tensor::from_vec(reversed, places, w.device())?;
    // candle's selection wants a contiguous tensor on a GPU.
    w.contiguous()?.reshape((w.elem_count() / places, places))?.index_select(&reversed, 1)?.reshape(w.shape())
}

/// The adjoint of [`same`]: y `[N, K, H, W]`, w `[K, C, k, k]` to `[N, C, H, W]`.
pub(super) fn same_transposed(y: &Tensor, w: &Tensor) -> Result<Tensor> {
    let w = if w.dim(2)? > 1 { turned(w)? } else { w.clone() };
    same(y, &w.transpose(0, 1)?)
}

/// Images cut into strips of `rows` rows, with `border` more rows below each: `[N, C, S rows + border, W]` to
/// `[S N, C, rows + border, W]`.
fn strips(x: &Tensor, rows: usize, border: usize) -> Result<Tensor> {
    let count = (x.dim(2)? - border) / rows;
    if count == 1 {
        return Ok(x.clone());
    }
    let parts = (0..count).map(|s| x.narrow(2, s * rows, rows + border)).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&parts, 0)
}

/// The gradient of [`same`]'s weight: x `[N, C, H, W]`, g `[N, K, H, W]` to `[K, C, k, k]`.
///
/// `dw[a, b] = sum over images and places of g[i, j] x[i + a, j + b]`, x with a border of k / 2.
pub(super) fn same_weight(x: &Tensor, g: &Tensor, size: usize) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let k = g.dim(1)?;
    let (half, border) = (size / 2, size - 1);
    // Enough products to fill a GPU: images are cut into strips, unless the channels alone make enough.
    let tiles = n * k.div_ceil(64) * c.div_ceil(64);
    let wanted = PRODUCTS.div_ceil(tiles);
    let cuts = (1..=h).filter(|s| h.is_multiple_of(*s)).find(|s| *s >= wanted).unwrap_or(h);
    let rows = h / cuts;
    let x = strips(&x.pad_with_zeros(2, half, half)?.pad_with_zeros(3, half, half)?, rows, border)?;
    let g = strips(&g.contiguous()?, rows, 0)?.pad_with_zeros(2, 0, border)?.pad_with_zeros(3, 0, border)?;
    let (n, places) = (n * cuts, (rows + border) * (w + border));
    // Where x's shifted border holds other numbers, g is 0.
    let g = g.contiguous()?.reshape((n, k, places))?;
    let grid = Grid::new(&x, border)?;
    let place = |i: usize| {
        let x = grid.shifted(n, i / size, i % size)?.reshape((n, c, places))?;
        reduced(|| g.matmul(&x.transpose(1, 2)?))?.sum(0)
    };
    let all = (0..size * size).map(place).collect::<Result<Vec<_>>>()?;
    Tensor::stack(&all, 2)?.reshape((k, c, size, size))
}

/// The four parities of rows and columns as channels: `[N, C, 2H, 2W]` to `[N, 4C, H, W]`.
pub(super) fn parities(x: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    // Channels and rows make one axis.
    let x = x.contiguous()?.reshape((n, c * h / 2, 2, w / 2, 2))?.permute((0, 2, 4, 1, 3))?;
    x.contiguous()?.reshape((n, 4 * c, h / 2, w / 2))
}

/// The inverse of [`parities`]: `[N, 4C, H, W]` to `[N, C, 2H, 2W]`.
pub(super) fn interleaved(x: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let x = x.contiguous()?.reshape((n, 2, 2, c / 4 * h, w))?.permute((0, 3, 1, 4, 2))?;
    x.contiguous()?.reshape((n, c / 4, 2 * h, 2 * w))
}

/// A border of zeros after the last row and column.
fn after(x: &Tensor) -> Result<Tensor> {
    x.pad_with_zeros(2, 0, 1)?.pad_with_zeros(3, 0, 1)
}

/// The kernel that, on [`parities`], does what w `[K, C, 3, 3]` does at stride 2: `[K, 4C, 3, 3]`. Place 2u + r of w
/// with two zeros before it and one after is place u for parity r.
fn on_parities(w: &Tensor) -> Result<Tensor> {
    let (k, c, _, _) = w.dims4()?;
    let w = w.pad_with_zeros(2, 2, 1)?.pad_with_zeros(3, 2, 1)?.contiguous()?;
    let w = w.reshape(vec![k, c, 3, 2, 3, 2])?.permute(vec![0, 3, 5, 1, 2, 4])?;
    w.contiguous()?.reshape((k, 4 * c, 3, 3))
}

/// x `[N, C, 2H+1, 2W+1]`, w `[K, C, 3, 3]` to `[N, K, H, W]`, stride 2.
pub(super) fn down(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    conv(x, w, 0, 2)
}

/// The adjoint of [`down`].
pub(super) fn down_transposed(y: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (_, _, h, width) = y.dims4()?;
    let x = interleaved(&same_transposed(&after(y)?, &on_parities(w)?)?)?;
    x.narrow(2, 0, 2 * h + 1)?.narrow(3, 0, 2 * width + 1)?.contiguous()
}

/// The gradient of [`down`]'s weight.
pub(super) fn down_weight(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    let (c, k) = (x.dim(1)?, g.dim(1)?);
    let w = same_weight(&parities(&after(x)?)?, &after(g)?, 3)?.reshape(vec![k, 2, 2, c, 3, 3])?;
    let w = w.permute(vec![0, 3, 4, 1, 5, 2])?.contiguous()?.reshape((k, c, 6, 6))?;
    w.narrow(2, 2, 3)?.narrow(3, 2, 3)?.contiguous()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use candle_core::Device;

    fn random(shape: &[usize], seed: u64) -> Tensor {
        Rng::new(seed, 0).tensor(shape, &Device::Cpu).unwrap().to_dtype(candle_core::DType::F64).unwrap()
    }

    fn difference(a: &Tensor, b: &Tensor) -> f64 {
        assert_eq!(a.dims(), b.dims());
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn images_in_parts_and_shifted_pictures_are_the_convolution() {
        for size in [3, 5] {
            let (x, w) = (random(&[5, 3, 6, 7], 1), random(&[4, 3, size, size], 2));
            let whole = x.conv2d(&w, size / 2, 1, 1, 1).unwrap();
            let one = 3 * size * size * 42;
            // Parts of one, of two with a shorter last one, of three, and the whole.
            for most in [1, 2 * one, 4 * one, 1 << 20] {
                let parts = in_parts(&x, one, most, |x| x.conv2d(&w, size / 2, 1, 1, 1)).unwrap();
                assert_eq!(difference(&parts, &whole), 0.0, "{most}");
                for margin in [0, 2] {
                    let shifts = same_by_shifts(&x, &w, most, margin).unwrap();
                    assert!(difference(&shifts, &whole) < 1e-12, "{most} {margin}");
                }
            }
        }
        let refused = in_parts(&random(&[1, 1], 3), 1 << 33, 1, |x| Ok(x.clone())).unwrap_err().to_string();
        assert!(refused.contains("8589934592 values"), "{refused}");
    }

    #[test]
    fn weight_gradients_are_direct_sums_however_images_are_cut() {
        // Many images are not cut; few are, down to single rows.
        for (n, c, k, h, w, size) in
            [(300, 1, 2, 3, 2, 3), (2, 3, 2, 6, 5, 3), (1, 2, 3, 1, 4, 1), (40, 2, 2, 8, 3, 5)]
        {
            let (x, g) = (random(&[n, c, h, w], 3), random(&[n, k, h, w], 4));
            let found = same_weight(&x, &g, size).unwrap();
            assert_eq!(found.dims(), [k, c, size, size]);
            let (xs, gs): (Vec<f64>, Vec<f64>) =
                (x.flatten_all().unwrap().to_vec1().unwrap(), g.flatten_all().unwrap().to_vec1().unwrap());
            let found: Vec<f64> = found.flatten_all().unwrap().to_vec1().unwrap();
            let half = (size / 2) as isize;
            for (at, found) in found.iter().enumerate() {
                let (b, a) = ((at % size) as isize - half, (at / size % size) as isize - half);
                let (ci, ki) = (at / (size * size) % c, at / (size * size * c));
                let mut sum = 0.0;
                for (m, i, j) in (0..n).flat_map(|m| (0..h).flat_map(move |i| (0..w).map(move |j| (m, i, j))))
                {
                    let (y, z) = (i as isize + a, j as isize + b);
                    if (0..h as isize).contains(&y) && (0..w as isize).contains(&z) {
                        sum += gs[((m * k + ki) * h + i) * w + j]
                            * xs[((m * c + ci) * h + y as usize) * w + z as usize];
                    }
                }
                assert!((found - sum).abs() < 1e-10, "{n} {size}: {found} {sum}");
            }
        }
    }
}

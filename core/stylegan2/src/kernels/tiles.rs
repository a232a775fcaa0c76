//! Steps of a fast convolution in the plane: tiles of inputs to values, products to tiles of outputs.
//!
//! Maps are `[N][C/16][H][W][16]`, so a vector is a run of channels of one pixel and every transform is plain
//! arithmetic on vectors. (No closures over vectors here: a closure is compiled without the instruction set of the
//! function around it.) Values are `[P^2][tiles][C]`, products `[Q^2][panel][tiles][width]`.

use super::axis::Axis;
use super::simd::{Kernel, Simd};
use std::marker::PhantomData;
use std::ops::Range;

/// Channels in a block of the layout.
pub(crate) const BLOCK: usize = 16;

/// What follows the sums of a layer, in this order: factor, bias, noise, leaky ReLU with its gain, clamp, sum.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    /// `[N][K]` (K rounded up to whole blocks), or none.
    pub factors: Option<&'a [f32]>,
    /// `[K]`, rounded up likewise, or none.
    pub bias: Option<&'a [f32]>,
    /// `[H][W]`, the same for all maps and images, or none.
    pub noise: Option<&'a [f32]>,
    /// Slope for positive values.
    pub high: f32,
    /// Slope for negative values, at most `high`.
    pub low: f32,
    /// Largest magnitude.
    pub limit: f32,
    /// Maps of the result's shape to be added at the end, or none.
    pub add: Option<&'a [f32]>,
}

impl Epilogue<'_> {
    /// Nothing but the sums.
    pub(crate) fn linear() -> Self {
        Self { factors: None, bias: None, noise: None, high: 1.0, low: 1.0, limit: f32::INFINITY, add: None }
    }
}

/// An [`Epilogue`] for one image and one block of channels, in vectors.
#[derive(Clone, Copy)]
pub(super) struct Finish<V> {
    factor: V,
    bias: V,
    high: V,
    low: V,
    limit: Option<(V, V)>,
    noise: *const f32,
    /// Maps to be added, at this image's, block's and vector's first pixel, or null.
    add: *const f32,
}

impl<V: Simd> Finish<V> {
    /// For channels `block * 16 + at ..` of image `n`, whose pixels number `area`.
    #[inline(always)]
    pub(super) unsafe fn new(
        e: &Epilogue<'_>,
        n: usize,
        block: usize,
        blocks: usize,
        at: usize,
        area: usize,
    ) -> Self {
        let channel = block * BLOCK + at;
        // SAFETY: the caller promises as many factors, biases and maps as there are channels.
        unsafe {
            let (mut factor, mut bias) = (V::all(1.0), V::zero());
            if let Some(f) = e.factors {
                factor = V::load(f.as_ptr().add(n * blocks * BLOCK + channel));
            }
            if let Some(b) = e.bias {
                bias = V::load(b.as_ptr().add(channel));
            }
            Self {
                factor,
                bias,
                high: V::all(e.high),
                low: V::all(e.low),
                limit: if e.limit < f32::INFINITY { Some((V::all(e.limit), V::all(-e.limit))) } else { None },
                noise: e.noise.map_or(std::ptr::null(), <[f32]>::as_ptr),
                add: e
                    .add
                    .map_or(std::ptr::null(), |a| a.as_ptr().add((n * blocks + block) * area * BLOCK + at)),
            }
        }
    }
    /// The sum `v` at a pixel.
    #[inline(always)]
    pub(super) unsafe fn at(&self, v: V, pixel: usize) -> V {
        // SAFETY: the caller promises that the pixel lies in the maps.
        unsafe {
            let mut v = self.bias.fma(v, self.factor);
            if !self.noise.is_null() {
                v = v.add(V::splat(self.noise.add(pixel)));
            }
            v = v.mul(self.high).max(v.mul(self.low));
            if let Some((high, low)) = self.limit {
                v = v.min(high).max(low);
            }
            if !self.add.is_null() {
                v = v.add(V::load(self.add.add(pixel * BLOCK)));
            }
            v
        }
    }
}

/// Inputs to values, for some neighbouring tiles of one image and all its channels. A tile's values of one point lie
/// side by side, so blocks of channels come innermost.
pub(super) struct Scatter<A> {
    pub axis: PhantomData<A>,
    /// The image, `[blocks][H][W][16]`.
    pub x: *const f32,
    pub blocks: usize,
    /// Factors of the channels, or null.
    pub style: *const f32,
    pub height: usize,
    pub width: usize,
    /// Row of tiles within the image.
    pub row: usize,
    /// Which tiles of the row.
    pub tiles: Range<usize>,
    /// Where the values of the row's first tile begin.
    pub v: *mut f32,
    /// Values from one point to the next, and from one tile to the next.
    pub v_point: usize,
    pub v_tile: usize,
}

/// Products to outputs, for one row of tiles of one block of channels of one image.
pub(super) struct Gather<'a, A> {
    pub axis: PhantomData<A>,
    /// Products of the row's first tile and this block.
    pub m: *const f32,
    /// Values from one product to the next, and from one tile to the next.
    pub m_product: usize,
    pub m_tile: usize,
    pub height: usize,
    pub width: usize,
    pub row: usize,
    pub image: usize,
    pub block: usize,
    pub blocks: usize,
    pub epilogue: &'a Epilogue<'a>,
    /// The block's plane `[H][W][16]`.
    pub y: *mut f32,
}

/// Products to filtered outputs of a doubling convolution, for one block of channels of one image: overlapping tiles
/// are added, filtered with [1, 3, 3, 1] / 4 per axis, and finished.
pub(super) struct Double<'a, A> {
    pub axis: PhantomData<A>,
    pub m: *const f32,
    pub m_product: usize,
    pub m_tile: usize,
    /// Of the input.
    pub height: usize,
    pub width: usize,
    pub image: usize,
    pub block: usize,
    pub blocks: usize,
    pub epilogue: &'a Epilogue<'a>,
    /// The block's plane `[2H][2W][16]`.
    pub y: *mut f32,
    /// Room for [`double_scratch`] values.
    pub scratch: *mut f32,
}

/// Values that [`Double`] needs besides.
pub(super) const fn double_scratch(width: usize, outputs: usize) -> usize {
    (outputs * (2 * width + 4) + (outputs + 2) * 2 * width) * BLOCK
}

macro_rules! kernels {
    ($axis:ty, $i:literal, $p:literal, $q:literal, $o:literal) => {
        impl Kernel for Scatter<$axis> {
            #[inline(always)]
            unsafe fn run<V: Simd>(&self) {
                // SAFETY: the caller's promise.
                unsafe { scatter::<V, $axis, $i, $p, $q, $o>(self) }
            }
        }
        impl Kernel for Gather<'_, $axis> {
            #[inline(always)]
            unsafe fn run<V: Simd>(&self) {
                // SAFETY: the caller's promise.
                unsafe { gather::<V, $axis, $i, $p, $q, $o>(self) }
            }
        }
        impl Kernel for Double<'_, $axis> {
            #[inline(always)]
            unsafe fn run<V: Simd>(&self) {
                // SAFETY: the caller's promise.
                unsafe { double::<V, $axis, $i, $p, $q, $o>(self) }
            }
        }
    };
}
kernels!(super::axis::Winograd4, 6, 6, 6, 4);
kernels!(super::axis::Winograd2, 4, 4, 4, 2);
kernels!(super::axis::ToomCook4, 4, 7, 9, 9);
kernels!(super::axis::ToomCook2, 2, 3, 5, 5);
kernels!(super::axis::Pointwise, 1, 1, 1, 1);

/// Columns to rows.
#[inline(always)]
fn transposed<V: Simd, const C: usize, const R: usize>(columns: &[[V; R]; C]) -> [[V; C]; R] {
    let mut rows = [[columns[0][0]; C]; R];
    for (j, column) in columns.iter().enumerate() {
        for (row, v) in rows.iter_mut().zip(column) {
            row[j] = *v;
        }
    }
    rows
}

#[inline(always)]
unsafe fn scatter<V, A, const I: usize, const P: usize, const Q: usize, const O: usize>(s: &Scatter<A>)
where
    V: Simd,
    A: Axis<I, P, Q, O>,
{
    let (line, plane) = (s.width * BLOCK, s.height * s.width * BLOCK);
    let top = s.row * A::STEP;
    for tile in s.tiles.clone() {
        let left = tile * A::STEP;
        let inside =
            top >= A::PAD && left >= A::PAD && top + I <= s.height + A::PAD && left + I <= s.width + A::PAD;
        for channel in (0..s.blocks * BLOCK).step_by(V::LANES) {
            // SAFETY: the caller promises planes of `height` x `width` pixels, sides being multiples of the step, and
            // room for the values; what lies outside a plane is not read.
            unsafe {
                let style = if s.style.is_null() { V::all(1.0) } else { V::load(s.style.add(channel)) };
                let image = s.x.add(channel / BLOCK * plane + channel % BLOCK);
                let mut columns = [[V::zero(); P]; I];
                for (j, column) in columns.iter_mut().enumerate() {
                    let mut x = [V::zero(); I];
                    if inside {
                        let p = image.add((top - A::PAD) * line + (left - A::PAD + j) * BLOCK);
                        for (i, x) in x.iter_mut().enumerate() {
                            *x = V::load(p.add(i * line)).mul(style);
                        }
                    } else {
                        let c = (left + j).wrapping_sub(A::PAD);
                        if c < s.width {
                            for (i, x) in x.iter_mut().enumerate() {
                                let r = (top + i).wrapping_sub(A::PAD);
                                if r < s.height {
                                    *x = V::load(image.add(r * line + c * BLOCK)).mul(style);
                                }
                            }
                        }
                    }
                    *column = A::input(x);
                }
                let v = s.v.add(tile * s.v_tile + channel);
                for (i, row) in transposed(&columns).into_iter().enumerate() {
                    let values = A::input(row);
                    for (j, value) in values.iter().enumerate() {
                        value.store(v.add((i * P + j) * s.v_point));
                    }
                }
            }
        }
    }
}

/// One tile's products to its outputs, `[row][column]`.
#[inline(always)]
unsafe fn outputs<V, A, const I: usize, const P: usize, const Q: usize, const O: usize>(
    m: *const f32,
    m_product: usize,
) -> [[V; O]; O]
where
    V: Simd,
    A: Axis<I, P, Q, O>,
{
    // SAFETY: the caller promises `Q^2` products.
    unsafe {
        let mut columns = [[V::zero(); O]; Q];
        for (j, column) in columns.iter_mut().enumerate() {
            let mut products = [V::zero(); Q];
            for (i, v) in products.iter_mut().enumerate() {
                *v = V::load(m.add((i * Q + j) * m_product));
            }
            *column = A::output(products);
        }
        let mut y = [[V::zero(); O]; O];
        for (y, row) in y.iter_mut().zip(transposed(&columns)) {
            *y = A::output(row);
        }
        y
    }
}

#[inline(always)]
unsafe fn gather<V, A, const I: usize, const P: usize, const Q: usize, const O: usize>(g: &Gather<'_, A>)
where
    V: Simd,
    A: Axis<I, P, Q, O>,
{
    let (tiles, area) = (g.width / O, g.height * g.width);
    for at in (0..BLOCK).step_by(V::LANES) {
        // SAFETY: the caller promises the products and a plane of `height` x `width` pixels.
        unsafe {
            let finish = Finish::<V>::new(g.epilogue, g.image, g.block, g.blocks, at, area);
            for tile in 0..tiles {
                let y = outputs::<V, A, I, P, Q, O>(g.m.add(tile * g.m_tile + at), g.m_product);
                for (i, row) in y.iter().enumerate() {
                    let pixel = (g.row * O + i) * g.width + tile * O;
                    for (j, v) in row.iter().enumerate() {
                        finish.at(*v, pixel + j).store(g.y.add((pixel + j) * BLOCK + at));
                    }
                }
            }
        }
    }
}

/// `(a + 3 b + 3 c + d) / 4`
#[inline(always)]
unsafe fn fir<V: Simd>(a: V, b: V, c: V, d: V) -> V {
    // SAFETY: the caller's promise.
    unsafe { a.add(d).mul(V::all(0.25)).fma(V::all(0.75), b.add(c)) }
}

#[inline(always)]
unsafe fn double<V, A, const I: usize, const P: usize, const Q: usize, const O: usize>(s: &Double<'_, A>)
where
    V: Simd,
    A: Axis<I, P, Q, O>,
{
    let (rows, tiles) = (s.height / A::STEP, s.width / A::STEP);
    let (height, width) = (2 * s.height, 2 * s.width);
    let new = 2 * A::STEP;
    let (sums_row, filtered_row) = ((width + 4) * V::LANES, width * V::LANES);
    let sums = s.scratch;
    // SAFETY: the caller promises the products, the plane and the scratch.
    unsafe {
        // One row of zeros, and 2m + 3 rows of which the first three come from the tiles above.
        let filtered = sums.add(O * sums_row);
        for at in (0..BLOCK).step_by(V::LANES) {
            let finish = Finish::<V>::new(s.epilogue, s.image, s.block, s.blocks, at, height * width);
            std::ptr::write_bytes(sums, 0, O * sums_row);
            std::ptr::write_bytes(filtered, 0, 3 * filtered_row);
            for row in 0..=rows {
                // Sums row r holds t[new * row + r], shifted by one pixel: t[-1] = 0 stands first.
                let last = row == rows;
                if !last {
                    for tile in 0..tiles {
                        let m = s.m.add((row * tiles + tile) * s.m_tile + at);
                        let t = outputs::<V, A, I, P, Q, O>(m, s.m_product);
                        let to = sums.add((1 + tile * new) * V::LANES);
                        for (i, values) in t.iter().enumerate() {
                            for (j, v) in values.iter().enumerate() {
                                let p = to.add(i * sums_row + j * V::LANES);
                                // The first row and column lie over the last ones of the tiles above and before.
                                let v = if i == 0 || j == 0 { V::load(p).add(*v) } else { *v };
                                v.store(p);
                            }
                        }
                    }
                }
                // t rows new * row .. + count are complete; t[2H] is the last, t[2H + 1] = 0.
                let count = if last { 2 } else { new };
                for r in 0..count {
                    let (from, to) = (sums.add(r * sums_row), filtered.add((3 + r) * filtered_row));
                    let mut t = [V::load(from), V::load(from.add(V::LANES)), V::load(from.add(2 * V::LANES))];
                    for x in 0..width {
                        let next = V::load(from.add((x + 3) * V::LANES));
                        fir(t[0], t[1], t[2], next).store(to.add(x * V::LANES));
                        t = [t[1], t[2], next];
                    }
                }
                // y[n] needs t[n - 1 ..= n + 2]; filtered row 0 is t[new * row - 3].
                let first = if row == 0 { 2 } else { 0 };
                for r in first..count {
                    let y = new * row + r - 2;
                    let from = filtered.add(r * filtered_row);
                    for x in 0..width {
                        let p = from.add(x * V::LANES);
                        let (a, b) = (V::load(p), V::load(p.add(filtered_row)));
                        let (c, e) = (V::load(p.add(2 * filtered_row)), V::load(p.add(3 * filtered_row)));
                        let v = fir(a, b, c, e);
                        let pixel = y * width + x;
                        finish.at(v, pixel).store(s.y.add(pixel * BLOCK + at));
                    }
                }
                if !last {
                    std::ptr::copy(filtered.add(new * filtered_row), filtered, 3 * filtered_row);
                    // The overlapping row comes first; the columns that tiles add to start from zero.
                    std::ptr::copy_nonoverlapping(sums.add(new * sums_row), sums, sums_row);
                    std::ptr::write_bytes(sums.add(sums_row), 0, (O - 1) * sums_row);
                }
            }
        }
    }
}

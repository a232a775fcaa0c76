//! Convolutions: same size, halving, doubling.

use super::{native, seen, values};
use crate::kernels::Isa;
use crate::kernels::conv::{self, Geometry, Shape};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape as Dims, Tensor, bail};

/// One of the three bilinear maps of a geometry, see [`crate::kernels::conv`].
#[derive(Debug, Clone, Copy)]
enum Map {
    /// (x, w) -> y
    Forward,
    /// (y, w) -> x
    Transposed,
    /// (x, y) -> w
    Weight,
}

#[derive(Debug, Clone, Copy)]
struct Conv {
    geometry: Geometry,
    map: Map,
    size: usize,
}

impl Conv {
    fn shape(&self, a: &[usize], b: &[usize]) -> Result<Shape> {
        let ([n, ac, ah, aw], [b0, b1, b2, b3]) = (a, b) else {
            bail!("convolution: expected rank 4 twice, found {a:?} and {b:?}")
        };
        let halve = |v: &usize| if self.geometry == Geometry::Down { (v - 1) / 2 } else { *v };
        let s = match self.map {
            Map::Forward => Shape {
                geometry: self.geometry,
                n: *n,
                c: *ac,
                k: *b0,
                h: halve(ah),
                w: halve(aw),
                size: *b2,
            },
            Map::Transposed => {
                Shape { geometry: self.geometry, n: *n, c: *b1, k: *ac, h: *ah, w: *aw, size: *b2 }
            }
            Map::Weight => {
                Shape { geometry: self.geometry, n: *n, c: *ac, k: *b1, h: *b2, w: *b3, size: self.size }
            }
        };
        let (xh, xw) = s.x_size();
        let fits = match self.map {
            Map::Forward => ac == b1 && (*ah, *aw) == (xh, xw) && b2 == b3,
            Map::Transposed => ac == b0 && b2 == b3,
            Map::Weight => n == b0 && (*ah, *aw) == (xh, xw),
        };
        if !fits || s.size % 2 == 0 || (self.geometry == Geometry::Down && s.size != 3) {
            bail!("convolution {self:?}: shapes {a:?} and {b:?} do not fit");
        }
        Ok(s)
    }

    fn apply(self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        a.contiguous()?.apply_op2(&b.contiguous()?, self)
    }

    fn other(self, map: Map) -> Self {
        Self { map, ..self }
    }
}

impl CustomOp2 for Conv {
    fn name(&self) -> &'static str {
        "stylegan2-convolution"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Dims)> {
        let s = self.shape(l1.dims(), l2.dims())?;
        let (a, b) = (values(s1, l1)?, values(s2, l2)?);
        let isa = Isa::detect();
        let (xh, xw) = s.x_size();
        let (out, dims) = match self.map {
            Map::Forward => (conv::forward(isa, &s, a, b), [s.n, s.k, s.h, s.w]),
            Map::Transposed => (conv::transposed(isa, &s, a, b), [s.n, s.c, xh, xw]),
            Map::Weight => (conv::weight_gradient(isa, &s, a, b), [s.k, s.c, s.size, s.size]),
        };
        Ok((CpuStorage::F32(out), Dims::from(dims.to_vec())))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        use Map::{Forward, Transposed, Weight};
        let (sa, sb, g) = (seen(a), seen(b), seen(g));
        let ga = |map, x: &Tensor, y: &Tensor| {
            if a.track_op() { self.other(map).apply(x, y).map(Some) } else { Ok(None) }
        };
        let gb = |map, x: &Tensor, y: &Tensor| {
            if b.track_op() { self.other(map).apply(x, y).map(Some) } else { Ok(None) }
        };
        Ok(match self.map {
            Forward => (ga(Transposed, &g, &sb)?, gb(Weight, &sa, &g)?),
            Transposed => (ga(Forward, &g, &sb)?, gb(Weight, &g, &sa)?),
            Weight => (ga(Transposed, &sb, &g)?, gb(Forward, &sa, &g)?),
        })
    }
}

/// Cross-correlation of stride 1 with a zero border that keeps the size: x `[N, C, H, W]`, w `[K, C, k, k]`, k odd.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv2d(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let size = w.dim(2)?;
    if native(x) {
        Conv { geometry: Geometry::Same, map: Map::Forward, size }.apply(x, w)
    } else {
        x.conv2d(w, size / 2, 1, 1, 1)
    }
}

/// Cross-correlation of stride 2 without a border: x `[N, C, 2H+1, 2W+1]`, w `[K, C, 3, 3]` to `[N, K, H, W]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv2d_down(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    if native(x) {
        Conv { geometry: Geometry::Down, map: Map::Forward, size: 3 }.apply(x, w)
    } else {
        x.conv2d(w, 0, 2, 1, 1)
    }
}

/// Transposed convolution of stride 2: x `[N, C, H, W]`, w `[K, C, 3, 3]` to `[N, K, 2H+1, 2W+1]`,
/// `y[k, 2i+a, 2j+b] += w[k, c, a, b] x[c, i, j]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv2d_up(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let w = w.transpose(0, 1)?.contiguous()?;
    if native(x) {
        Conv { geometry: Geometry::Down, map: Map::Transposed, size: 3 }.apply(x, &w)
    } else {
        x.conv_transpose2d(&w, 0, 0, 2, 1)
    }
}

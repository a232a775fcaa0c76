//! Convolutions: same size, halving, doubling.

use super::act::{self, Activation, bias_act};
use super::graft::{Compose, run2};
use super::scale::{channel_dot, scale_channels};
use super::{is_first_order, native, portable, seen, values};
use crate::kernels::Isa;
use crate::kernels::conv::{self, Geometry, Operand, Shape};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape as Dims, Tensor, bail};

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

impl Map {
    /// The maps, with their arguments, that take the gradient g of this map's value to a and to b.
    fn adjoints<'a>(
        self,
        a: &'a Tensor,
        b: &'a Tensor,
        g: &'a Tensor,
    ) -> ((Self, &'a Tensor, &'a Tensor), (Self, &'a Tensor, &'a Tensor)) {
        use Map::{Forward, Transposed, Weight};
        match self {
            Forward => ((Transposed, g, b), (Weight, a, g)),
            Transposed => ((Forward, g, b), (Weight, g, a)),
            Weight => ((Transposed, b, g), (Forward, a, g)),
        }
    }
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
        run2(a, b, self)
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
            Map::Forward => (conv::forward(isa, &s, Operand::plain(a), b, |_, _| ()), [s.n, s.k, s.h, s.w]),
            Map::Transposed => {
                (conv::transposed(isa, &s, Operand::plain(a), b, |_, _| ()), [s.n, s.c, xh, xw])
            }
            Map::Weight => (
                conv::weight_gradient(isa, &s, Operand::plain(a), Operand::plain(b)),
                [s.k, s.c, s.size, s.size],
            ),
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
        let (sa, sb, g) = (seen(a), seen(b), seen(g));
        let part = |wanted: &Tensor, (map, x, y): (Map, &Tensor, &Tensor)| {
            if wanted.track_op() { self.other(map).apply(x, y).map(Some) } else { Ok(None) }
        };
        let (for_a, for_b) = self.map.adjoints(&sa, &sb, &g);
        Ok((part(a, for_a)?, part(b, for_b)?))
    }
}

impl Compose for Conv {
    fn compose(&self, args: &[Tensor]) -> Result<Tensor> {
        let (a, b) = (&args[0], &args[1]);
        self.shape(a.dims(), b.dims())?;
        match (self.geometry, self.map) {
            (Geometry::Same, Map::Forward) => portable::same(a, b),
            (Geometry::Same, Map::Transposed) => portable::same_transposed(a, b),
            (Geometry::Same, Map::Weight) => portable::same_weight(a, b, self.size),
            (Geometry::Down, Map::Forward) => portable::down(a, b),
            (Geometry::Down, Map::Transposed) => portable::down_transposed(a, b),
            (Geometry::Down, Map::Weight) => portable::down_weight(a, b),
        }
    }
}

/// (x, w, b) -> `act(conv(x, w) + b)` in one pass.
struct ConvBiasAct(Conv, Activation);

impl CustomOp3 for ConvBiasAct {
    fn name(&self) -> &'static str {
        "stylegan2-convolution-bias-act"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Dims)> {
        let s = self.0.shape(l1.dims(), l2.dims())?;
        let b = values(s3, l3)?;
        if b.len() != s.k {
            bail!("convolution: expected bias [{}], found {:?}", s.k, l3.dims());
        }
        let act = act::Curve::new(self.1);
        let x = Operand::plain(values(s1, l1)?);
        let y = conv::forward(Isa::detect(), &s, x, values(s2, l2)?, |row, plane| {
            let b = b[plane % s.k];
            row.iter_mut().for_each(|v| *v = act.at(*v + b));
        });
        Ok((CpuStorage::F32(y), Dims::from((s.n, s.k, s.h, s.w))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let g = act::gradient(&seen(g), y, self.1)?;
        let part = |wanted: &Tensor, map, a: &Tensor, b: &Tensor| {
            if wanted.track_op() { self.0.other(map).apply(a, b).map(Some) } else { Ok(None) }
        };
        Ok((
            part(x, Map::Transposed, &g, &seen(w))?,
            part(w, Map::Weight, &seen(x), &g)?,
            if b.track_op() { Some(act::channel_sum(&g)?) } else { None },
        ))
    }
}

/// (x, f, w) -> `conv(x * style, w) * demod` with f = [style, demod], `[N, C + K]`: the modulated convolution of
/// Karras et al. 2020 (eqs. 1 to 3) on shared weights. `up` takes the transposed map of [`Geometry::Down`].
struct Modulated {
    conv: Conv,
}

/// Cuts `[N, C + K]` into `[N, C]` and `[N, K]`.
fn cut(f: &[f32], n: usize, c: usize) -> (Vec<f32>, Vec<f32>) {
    let row = f.len() / n;
    let pick = |from: usize, to: usize| f.chunks_exact(row).flat_map(|r| &r[from..to]).copied().collect();
    (pick(0, c), pick(c, row))
}

impl Modulated {
    fn channels(&self, x: &Tensor, f: &Tensor) -> Result<(usize, usize)> {
        let c = x.dim(1)?;
        Ok((c, f.dim(1)? - c))
    }
    /// The map from y's gradient back to x.
    fn back(&self) -> Map {
        if matches!(self.conv.map, Map::Forward) { Map::Transposed } else { Map::Forward }
    }
}

/// One of the two maps with factors on both sides, outside the graph.
struct Scaled {
    conv: Conv,
}

impl CustomOp3 for Scaled {
    fn name(&self) -> &'static str {
        "stylegan2-scaled-convolution"
    }

    // (a, [factors of a, factors of the result], w)
    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Dims)> {
        let s = self.conv.shape(l1.dims(), l3.dims())?;
        let (into, out) = match self.conv.map {
            Map::Forward => (s.c, s.k),
            _ => (s.k, s.c),
        };
        if l2.dims() != [s.n, into + out] {
            bail!("modulated convolution: expected factors [{}, {}], found {:?}", s.n, into + out, l2.dims());
        }
        let (before, after) = cut(values(s2, l2)?, s.n, into);
        let a = Operand::scaled(values(s1, l1)?, &before);
        let finish = |row: &mut [f32], plane: usize| row.iter_mut().for_each(|v| *v *= after[plane]);
        let w = values(s3, l3)?;
        let (xh, xw) = s.x_size();
        let (y, dims) = match self.conv.map {
            Map::Forward => (conv::forward(Isa::detect(), &s, a, w, finish), (s.n, s.k, s.h, s.w)),
            _ => (conv::transposed(Isa::detect(), &s, a, w, finish), (s.n, s.c, xh, xw)),
        };
        Ok((CpuStorage::F32(y), Dims::from(dims)))
    }
}

/// (x, f, g) -> the weight gradient with x and g times their factors, outside the graph.
struct ScaledWeight {
    conv: Conv,
}

impl CustomOp3 for ScaledWeight {
    fn name(&self) -> &'static str {
        "stylegan2-scaled-weight-gradient"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Dims)> {
        let weight = self.conv.other(Map::Weight);
        let (n, c) = (l1.dims()[0], l1.dims()[1]);
        let (before, after) = cut(values(s2, l2)?, n, c);
        let x = Operand::scaled(values(s1, l1)?, &before);
        let g = Operand::scaled(values(s3, l3)?, &after);
        // In the transposed map the roles of both pictures change.
        let (s, x, g) = match self.conv.map {
            Map::Forward => (weight.shape(l1.dims(), l3.dims())?, x, g),
            _ => (weight.shape(l3.dims(), l1.dims())?, g, x),
        };
        let w = conv::weight_gradient(Isa::detect(), &s, x, g);
        Ok((CpuStorage::F32(w), Dims::from((s.k, s.c, s.size, s.size))))
    }
}

impl CustomOp3 for Modulated {
    fn name(&self) -> &'static str {
        "stylegan2-modulated-convolution"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Dims)> {
        Scaled { conv: self.conv }.cpu_fwd(s1, l1, s2, l2, s3, l3)
    }

    // With u = conv(x s, w) and y = u d: t = conv^T(g d, w), dx = t s, ds = <t, x>, dd = <g, u> = <g, y> / d.
    fn bwd(
        &self,
        x: &Tensor,
        f: &Tensor,
        w: &Tensor,
        y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (c, k) = self.channels(x, f)?;
        let g = seen(g).contiguous()?;
        let (sx, sf, sw) = (seen(x), seen(f), seen(w));
        let (style, demod) = (sf.narrow(1, 0, c)?.contiguous()?, sf.narrow(1, c, k)?.contiguous()?);
        let back = self.conv.other(self.back());
        let (t, gw, gd);
        if is_first_order() {
            let ones = Tensor::ones_like(&style)?;
            let factors = Tensor::cat(&[&demod, &ones], 1)?;
            t = g.apply_op3_no_bwd(&factors, &sw, &Scaled { conv: back })?;
            gw = if w.track_op() {
                Some(sx.apply_op3_no_bwd(&sf, &g, &ScaledWeight { conv: self.conv })?)
            } else {
                None
            };
            gd = (channel_dot(&g, &y.detach())? / &demod)?;
        } else {
            let gs = scale_channels(&g, &demod)?;
            let xs = scale_channels(&sx, &style)?;
            t = back.apply(&gs, &sw)?;
            let weight = self.conv.other(Map::Weight);
            gw = Some(match self.conv.map {
                Map::Forward => weight.apply(&xs, &gs)?,
                _ => weight.apply(&gs, &xs)?,
            });
            gd = channel_dot(&g, &self.conv.apply(&xs, &sw)?)?;
        }
        let gf = Tensor::cat(&[&channel_dot(&t, &sx)?, &gd], 1)?;
        let gx = if x.track_op() { Some(scale_channels(&t, &style)?) } else { None };
        Ok((gx, Some(gf), gw))
    }
}

/// Modulated convolution `conv(x * style, w) * demod`: x `[N, C, H, W]`, style `[N, C]`, demod `[N, K]`, w
/// `[K, C, k, k]`; stride 1 with the size kept, or, if `up`, the transposed convolution of [`conv2d_up`].
///
/// # Errors
/// If the shapes do not fit.
pub fn modulated_conv2d(x: &Tensor, style: &Tensor, w: &Tensor, demod: &Tensor, up: bool) -> Result<Tensor> {
    if !native(x) {
        let x = scale_channels(x, style)?;
        return scale_channels(&if up { conv2d_up(&x, w)? } else { conv2d(&x, w)? }, demod);
    }
    let factors = Tensor::cat(&[style, demod], 1)?;
    let (conv, w) = if up {
        let w = w.transpose(0, 1)?.contiguous()?;
        (Conv { geometry: Geometry::Down, map: Map::Transposed, size: 3 }, w)
    } else {
        (Conv { geometry: Geometry::Same, map: Map::Forward, size: w.dim(2)? }, w.contiguous()?)
    };
    x.contiguous()?.apply_op3(&factors, &w, Modulated { conv })
}

/// `act(conv(x, w) + b)`, b `[K]`: [`conv2d`], or if `down` [`conv2d_down`], with its bias and activation.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv2d_bias_act(x: &Tensor, w: &Tensor, b: &Tensor, act: Activation, down: bool) -> Result<Tensor> {
    if !native(x) {
        let y = if down { conv2d_down(x, w)? } else { conv2d(x, w)? };
        return bias_act(&y, b, None, act);
    }
    let geometry = if down { Geometry::Down } else { Geometry::Same };
    let conv = Conv { geometry, map: Map::Forward, size: w.dim(2)? };
    x.contiguous()?.apply_op3(&w.contiguous()?, &b.contiguous()?, ConvBiasAct(conv, act))
}

/// Cross-correlation of stride 1 with a zero border that keeps the size: x `[N, C, H, W]`, w `[K, C, k, k]`, k odd.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv2d(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    Conv { geometry: Geometry::Same, map: Map::Forward, size: w.dim(2)? }.apply(x, w)
}

/// Cross-correlation of stride 2 without a border: x `[N, C, 2H+1, 2W+1]`, w `[K, C, 3, 3]` to `[N, K, H, W]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv2d_down(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    Conv { geometry: Geometry::Down, map: Map::Forward, size: 3 }.apply(x, w)
}

/// Transposed convolution of stride 2: x `[N, C, H, W]`, w `[K, C, 3, 3]` to `[N, K, 2H+1, 2W+1]`,
/// `y[k, 2i+a, 2j+b] += w[k, c, a, b] x[c, i, j]`.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv2d_up(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    Conv { geometry: Geometry::Down, map: Map::Transposed, size: 3 }
        .apply(x, &w.transpose(0, 1)?.contiguous()?)
}

//! Tables of C functions as Rust components. Everything that comes back is checked for shape and finiteness.

use super::call::{Peer, arrays, c_string, json};
use super::serve::check_rows;
use shiftlens_abi::{
    ActivationsV1, Array, Buffer, DirectionStatsV1, DirectionV1, EncoderV1, GeneratorV1, GradientOutputV1,
    GradientRequestV1, GradientsV1, PredictorV1, Text, capability,
};
use shiftlens_api::{
    Direction, DirectionFinder, Error, GeneratorInfo, GradientOutput, GradientRequest, Images, LatentCodes,
    LayerInfo, PredictorInfo, Result, ScoreKind, Scores, Targets, Tensor,
};
use std::ffi::c_void;

/// An array view of values that are known to have the shape.
pub fn view(data: &[f32], shape: &[usize]) -> Result<Array> {
    Array::new(data, shape).ok_or_else(|| Error::Shape {
        what: format!("array with {} values", data.len()),
        expected: format!("{shape:?}"),
        found: vec![data.len()],
    })
}

/// Calls a function that writes one array of `R` dimensions.
fn array<const R: usize, O>(
    peer: &Peer<O>,
    function: &str,
    name: &str,
    expected: &str,
    fits: impl Fn([usize; R]) -> bool,
    mut f: impl FnMut(*mut Buffer, *mut Text) -> i32,
) -> Result<([usize; R], Vec<f32>)> {
    let sized = |shape: &[usize]| -> Result<[usize; R]> {
        match <[usize; R]>::try_from(shape) {
            Ok(s) if fits(s) => Ok(s),
            _ => Err(peer.shape_fault(function, name, expected, shape)),
        }
    };
    let check = |_, shape: &[usize]| sized(shape).map(|_| ());
    let mut all = arrays(peer, function, &[name], check, |b, error| f(&raw mut b[0], error))?;
    let (shape, data) = all.remove(0);
    Ok((sized(&shape)?, data))
}

fn positive(peer: &Peer<impl Sized>, what: &str, values: &[(&str, usize)]) -> Result<()> {
    match values.iter().find(|(_, v)| *v == 0) {
        Some((name, _)) => Err(peer.fault("info", format!("{what}: `{name}` is 0"))),
        None => Ok(()),
    }
}

fn one_or_three(peer: &Peer<impl Sized>, channels: usize) -> Result<()> {
    match channels {
        1 | 3 => Ok(()),
        n => Err(peer.fault("info", format!("`channels` is {n}, expected 1 or 3"))),
    }
}

/// G behind a table.
#[derive(Debug)]
pub struct Generator<O> {
    peer: Peer<O>,
    table: GeneratorV1,
    info: GeneratorInfo,
}

impl<O> Generator<O> {
    /// Asks for the sizes.
    ///
    /// # Safety
    /// The table's functions must keep the ABI's contract on the peer's context.
    ///
    /// # Errors
    /// What `info` says, or sizes that cannot be.
    pub unsafe fn new(mut peer: Peer<O>, table: GeneratorV1) -> Result<Self> {
        let f = peer.function("info", table.info)?;
        let cx = peer.context();
        // SAFETY: the caller's promise.
        let info: GeneratorInfo = json(peer.who(), "info", |t, e| unsafe { f(cx, t, e) })?;
        let sizes = [
            ("latent_dim", info.latent_dim),
            ("latent_layers", info.latent_layers),
            ("height", info.height),
            ("width", info.width),
        ];
        positive(&peer, "generator", &sizes)?;
        one_or_three(&peer, info.channels)?;
        Ok(Self { peer, table, info })
    }
}

/// How far outside [0, 1] rounding may take an image's value.
const ROUNDING: f32 = 1e-3;

impl<O: Send> shiftlens_api::Generator for Generator<O> {
    fn info(&self) -> GeneratorInfo {
        self.info.clone()
    }
    fn sample(&mut self, n: usize, seed: u64) -> Result<LatentCodes> {
        let f = self.peer.function("sample", self.table.sample)?;
        let (cx, d) = (self.peer.context(), self.info.latent_dim);
        let expected = format!("[{n}, 1, {d}]");
        let (shape, data) = array(
            &self.peer,
            "sample",
            "codes",
            &expected,
            |s| s == [n, 1, d],
            |b, e| {
                // SAFETY: the constructor's promise; the buffer has the room that it says.
                unsafe { f(cx, n as u64, seed, b, e) }
            },
        )?;
        LatentCodes::new(shape, data)
    }
    fn synthesize(&mut self, w: &LatentCodes) -> Result<Images> {
        let f = self.peer.function("synthesize", self.table.synthesize)?;
        let cx = self.peer.context();
        let codes = view(w.as_slice(), &w.shape())?;
        let want = [w.len(), self.info.channels, self.info.height, self.info.width];
        let expected = format!("{want:?}");
        let (shape, data) = array(
            &self.peer,
            "synthesize",
            "images",
            &expected,
            |s| s == want,
            |b, e| {
                // SAFETY: the constructor's promise; `codes` views `w`, the buffer has the room that it says.
                unsafe { f(cx, &raw const codes, b, e) }
            },
        )?;
        if let Some(i) = data.iter().position(|v| !(-ROUNDING..=1.0 + ROUNDING).contains(v)) {
            let message = format!("images: value {i} is {}, expected values in [0, 1]", data[i]);
            return Err(self.peer.fault("synthesize", message));
        }
        Images::new(shape, data)
    }
}

/// E behind a table.
#[derive(Debug)]
pub struct Encoder<O> {
    peer: Peer<O>,
    table: EncoderV1,
}

impl<O> Encoder<O> {
    /// # Safety
    /// The table's functions must keep the ABI's contract on the peer's context.
    pub unsafe fn new(peer: Peer<O>, table: EncoderV1) -> Self {
        Self { peer, table }
    }
}

impl<O: Send> shiftlens_api::Encoder for Encoder<O> {
    fn encode(&mut self, x: &Images) -> Result<LatentCodes> {
        let f = self.peer.function("encode", self.table.encode)?;
        let cx = self.peer.context();
        let (n, images) = (x.len(), view(x.as_slice(), &x.shape())?);
        let expected = format!("[{n}, L > 0, D > 0]");
        let fits = |s: [usize; 3]| s[0] == n && s[1] > 0 && s[2] > 0;
        let (shape, data) = array(&self.peer, "encode", "codes", &expected, fits, |b, e| {
            // SAFETY: the constructor's promise; `images` views `x`, the buffer has the room that it says.
            unsafe { f(cx, &raw const images, b, e) }
        })?;
        LatentCodes::new(shape, data)
    }
}

/// f behind a table, a white box if there is a second one; a third one takes replaced activations.
#[derive(Debug)]
pub struct Predictor<O> {
    peer: Peer<O>,
    table: PredictorV1,
    gradients: Option<GradientsV1>,
    activations: Option<ActivationsV1>,
    info: PredictorInfo,
}

impl<O> Predictor<O> {
    /// Asks for the classes.
    ///
    /// # Safety
    /// The tables' functions must keep the ABI's contract on the peer's context.
    ///
    /// # Errors
    /// What `info` says, or an answer that cannot be.
    pub unsafe fn new(
        mut peer: Peer<O>,
        table: PredictorV1,
        gradients: Option<GradientsV1>,
        activations: Option<ActivationsV1>,
    ) -> Result<Self> {
        let f = peer.function("info", table.info)?;
        let cx = peer.context();
        // SAFETY: the caller's promise.
        let info: PredictorInfo = json(peer.who(), "info", |t, e| unsafe { f(cx, t, e) })?;
        positive(&peer, "predictor", &[("classes", info.classes.len())])?;
        one_or_three(&peer, info.channels)?;
        Ok(Self { peer, table, gradients, activations, info })
    }
}

impl<O: Send> shiftlens_api::Predictor for Predictor<O> {
    fn info(&self) -> PredictorInfo {
        self.info.clone()
    }
    fn predict(&mut self, x: &Images) -> Result<Scores> {
        let f = self.peer.function("predict", self.table.predict)?;
        let cx = self.peer.context();
        let images = view(x.as_slice(), &x.shape())?;
        let want = [x.len(), self.info.classes.len()];
        let (shape, data) = array(
            &self.peer,
            "predict",
            "scores",
            &format!("{want:?}"),
            |s| s == want,
            |b, e| {
                // SAFETY: the constructor's promise; `images` views `x`, the buffer has the room that it says.
                unsafe { f(cx, &raw const images, b, e) }
            },
        )?;
        Scores::new(shape, data)
    }
    fn gradients(&mut self) -> Option<&mut dyn shiftlens_api::Gradients> {
        if self.gradients.is_some() { Some(self) } else { None }
    }
}

impl<O> Predictor<O> {
    fn white_box(&self, function: &str) -> Result<GradientsV1> {
        self.gradients.ok_or_else(|| self.peer.fault(function, "this predictor is a black box"))
    }
}

impl<O: Send> shiftlens_api::Gradients for Predictor<O> {
    fn layers(&mut self) -> Result<Vec<LayerInfo>> {
        let f = self.peer.function("layers", self.white_box("layers")?.layers)?;
        let cx = self.peer.context();
        // SAFETY: the constructor's promise.
        json(self.peer.who(), "layers", |t, e| unsafe { f(cx, t, e) })
    }

    fn gradients(&mut self, x: &Images, request: &GradientRequest) -> Result<GradientOutput> {
        const NAME: &str = "gradients";
        let f = self.peer.function(NAME, self.white_box(NAME)?.gradients)?;
        let cx = self.peer.context();
        let images = view(x.as_slice(), &x.shape())?;
        let layers = request.layers.iter().map(|l| c_string("layer name", l)).collect::<Result<Vec<_>>>()?;
        let pointers: Vec<_> = layers.iter().map(|l| l.as_ptr()).collect();
        let classes: Vec<u64> = request.classes.iter().map(|c| *c as u64).collect();
        let asked = GradientRequestV1 {
            layers: pointers.as_ptr(),
            layer_count: pointers.len() as u64,
            classes: classes.as_ptr(),
            class_count: classes.len() as u64,
            layer_gradients: u32::from(request.layer_gradients),
            input_gradient: u32::from(request.input_gradient),
            score: score_number(request.score),
            reserved: 0,
        };
        // In the order of `serve`: scores, activations, their gradients, the input's gradient.
        let n = layers.len();
        let mut names = vec!["scores"];
        names.extend(vec!["activations"; n]);
        names.extend(vec!["gradients"; if request.layer_gradients { n } else { 0 }]);
        names.extend(request.input_gradient.then_some("input gradient"));
        let check = |i: usize, shape: &[usize]| {
            let (ok, expected) = match names[i] {
                "scores" => (shape == [x.len()], "[N]"),
                "input gradient" => (shape.len() == 4 && shape[0] == x.len(), "[N, C, H, W]"),
                _ => (shape.len() > 1 && shape[0] == x.len(), "[N, …]"),
            };
            let expected = format!("{expected} with N = {}", x.len());
            if ok { Ok(()) } else { Err(self.peer.shape_fault(NAME, names[i], expected, shape)) }
        };
        let call = |buffers: &mut [Buffer], error: *mut Text| {
            let (first, rest) = buffers.split_at_mut(1);
            let (activations, rest) = rest.split_at_mut(n);
            let (gradients, rest) = rest.split_at_mut(if request.layer_gradients { n } else { 0 });
            let mut output = GradientOutputV1 {
                scores: std::mem::replace(&mut first[0], Buffer::ask()),
                activations: activations.as_mut_ptr(),
                gradients: if request.layer_gradients {
                    gradients.as_mut_ptr()
                } else {
                    std::ptr::null_mut()
                },
                input_gradient: rest
                    .first_mut()
                    .map_or(Buffer::ask(), |b| std::mem::replace(b, Buffer::ask())),
            };
            // SAFETY: the constructor's promise; views and lists live until the call ends and have the lengths that
            // they say.
            let code = unsafe { f(cx, &raw const images, &raw const asked, &raw mut output, error) };
            first[0] = output.scores;
            if let Some(b) = rest.first_mut() {
                *b = output.input_gradient;
            }
            code
        };
        let mut all = arrays(&self.peer, NAME, &names, check, call)?;
        let tensors = |part: Vec<(Vec<usize>, Vec<f32>)>| -> Result<Vec<Tensor>> {
            part.into_iter().map(|(s, d)| Tensor::new(s, d)).collect()
        };
        let input = if request.input_gradient { all.pop() } else { None };
        let gradients = all.split_off(1 + n);
        let activations = all.split_off(1);
        for (a, g) in activations.iter().zip(&gradients) {
            if a.0 != g.0 {
                return Err(self.peer.shape_fault(
                    NAME,
                    "gradients",
                    format!("{:?}, as the activations", a.0),
                    &g.0,
                ));
            }
        }
        Ok(GradientOutput {
            scores: all.remove(0).1,
            activations: tensors(activations)?,
            gradients: tensors(gradients)?,
            input_gradient: input.map(|(s, d)| Tensor::new(s, d)).transpose()?,
        })
    }

    fn scores_with(
        &mut self,
        x: &Images,
        layer: &str,
        activations: &Tensor,
        classes: &[usize],
        score: ScoreKind,
    ) -> Result<Vec<f32>> {
        const NAME: &str = "scores";
        let Some(table) = self.activations else {
            return Err(Error::Unsupported(format!(
                "{}: offers no `{}`, so it cannot compute scores from replaced activations of layer \"{layer}\"",
                self.peer.who(),
                capability::ACTIVATIONS.to_string_lossy()
            )));
        };
        let f = self.peer.function(NAME, table.scores)?;
        let cx = self.peer.context();
        check_rows(x.len(), activations.shape(), classes.len())?;
        let (images, rows) = (view(x.as_slice(), &x.shape())?, activations.shape()[0]);
        let replaced = view(activations.as_slice(), activations.shape())?;
        let layer = c_string("layer name", layer)?;
        let classes: Vec<u64> = classes.iter().map(|c| *c as u64).collect();
        let expected = format!("[{rows}], one for each row of the activations");
        let (_, scores) = array(
            &self.peer,
            NAME,
            "scores",
            &expected,
            |s| s == [rows],
            |b, e| {
                // SAFETY: the constructor's promise; the views are of `x` and `activations`, name and list live until
                // the call ends, the buffer has the room that it says.
                unsafe {
                    f(
                        cx,
                        &raw const images,
                        layer.as_ptr(),
                        &raw const replaced,
                        classes.as_ptr(),
                        classes.len() as u64,
                        score_number(score),
                        b,
                        e,
                    )
                }
            },
        )?;
        Ok(scores)
    }
}

/// As `shiftlens.h` numbers them.
fn score_number(score: ScoreKind) -> u32 {
    match score {
        ScoreKind::Logit => 0,
        ScoreKind::Probability => 1,
    }
}

/// How far the length of a direction that comes back may be from 1.
const UNIT: f64 = 1e-3;

/// Calls a function that writes a direction over `[L, D]` codes; any `[L, D]` if `space` is `None`.
pub(crate) fn direction<O>(
    peer: &Peer<O>,
    function: &str,
    space: Option<[usize; 2]>,
    mut f: impl FnMut(*mut Buffer, *mut DirectionStatsV1, *mut Text) -> i32,
) -> Result<Direction> {
    const NONE: DirectionStatsV1 =
        DirectionStatsV1 { sigma: f32::NAN, mean: f32::NAN, slope: 0.0, intercept: 0.0 };
    let mut stats = NONE;
    let expected = space.map_or("[L > 0, D > 0]".into(), |s| format!("{s:?}"));
    let fits = |s: [usize; 2]| space.map_or(s[0] > 0 && s[1] > 0, |want| s == want);
    let ([layers, _], alpha) = array(peer, function, "alpha", &expected, fits, |b, e| {
        stats = NONE;
        f(b, &raw mut stats, e)
    })?;
    let norm = alpha.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    if (norm - 1.0).abs() > UNIT {
        return Err(peer.fault(function, format!("alpha has length {norm}, expected a unit vector")));
    }
    if !(stats.slope.is_finite() && stats.intercept.is_finite()) {
        let message =
            format!("slope {} and intercept {}, expected finite numbers", stats.slope, stats.intercept);
        return Err(peer.fault(function, message));
    }
    let mut d =
        Direction::new(alpha, layers, stats.sigma, stats.mean).map_err(|e| peer.fault(function, e))?;
    (d.slope, d.intercept) = (stats.slope, stats.intercept);
    Ok(d)
}

/// A direction finder behind a table.
#[derive(Debug)]
pub struct Finder<O> {
    peer: Peer<O>,
    table: DirectionV1,
}

impl<O> Finder<O> {
    /// # Safety
    /// The table's functions must keep the ABI's contract on the peer's context.
    pub unsafe fn new(peer: Peer<O>, table: DirectionV1) -> Self {
        Self { peer, table }
    }
}

impl<O: Send> DirectionFinder for Finder<O> {
    fn find(&mut self, w: &LatentCodes, y: &Targets) -> Result<Direction> {
        let f = self.peer.function("find", self.table.find)?;
        let cx: *mut c_void = self.peer.context();
        let [_, l, d] = w.shape();
        let (codes, values) = (view(w.as_slice(), &w.shape())?, view(&y.values, &[y.values.len()])?);
        direction(&self.peer, "find", Some([l, d]), |alpha, stats, e| {
            // SAFETY: the constructor's promise; the views are of `w` and `y`, the buffer has the room that it says.
            unsafe { f(cx, &raw const codes, &raw const values, y.threshold, alpha, stats, e) }
        })
    }
}

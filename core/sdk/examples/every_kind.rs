//! A plugin with one small component of every kind, each in closed form: `cargo build -p shiftlens-sdk --example
//! every_kind`. Pictures are grey, 4x4, and G(w) is linear in the two-dimensional w.
//!
//! Every component takes `panic`, the name of a function that is to panic; tests use it.

use shiftlens_sdk::api::{
    Context, Direction, DirectionFinder, Encoder, Error, Explainer, Explanation, Generator, GeneratorInfo,
    GradientOutput, GradientRequest, Gradients, Heatmap, Images, LatentCodes, LayerInfo, Level, Predictor,
    PredictorInfo, Result, ScoreKind, Scores, ShiftSeries, Target, Targets, Tensor,
};
use shiftlens_sdk::serde_json::Value;
use shiftlens_sdk::{Create, export_plugin, params, serde};

const SIDE: usize = 4;
const PLANE: usize = SIDE * SIDE;

#[derive(Default, serde::Deserialize)]
#[serde(crate = "shiftlens_sdk::serde", default, deny_unknown_fields)]
struct Params {
    panic: String,
}

impl Params {
    fn enter(&self, function: &str) {
        assert!(self.panic != function, "as asked, in {function}");
    }
}

macro_rules! create {
    ($($component:ident),*) => {$(
        struct $component(Params);
        impl Create for $component {
            fn create(p: &Value) -> Result<Self> {
                let p: Params = params(p)?;
                p.enter("create");
                Ok(Self(p))
            }
        }
    )*};
}
create!(Linear, Inverse, TopMinusBottom, MeanDifference, Saliency);

/// `pixel = 0.5 + 0.1 w[0]` in the upper half, `0.5 + 0.1 w[1]` in the lower half.
impl Generator for Linear {
    fn info(&self) -> GeneratorInfo {
        GeneratorInfo {
            latent_dim: 2,
            latent_layers: 1,
            channels: 1,
            height: SIDE,
            width: SIDE,
            backend: "closed form".into(),
        }
    }
    fn sample(&mut self, n: usize, seed: u64) -> Result<LatentCodes> {
        self.0.enter("sample");
        // Weyl's sequence, spread over [-2, 2].
        let value = |i: usize| (((i as f64 + seed as f64) * 0.618_033_988_75).fract() * 4.0 - 2.0) as f32;
        LatentCodes::new([n, 1, 2], (0..2 * n).map(value).collect())
    }
    fn synthesize(&mut self, w: &LatentCodes) -> Result<Images> {
        self.0.enter("synthesize");
        let pixel = |i: usize| 0.5 + 0.1 * w.code(i / 16)[(i % 16) / 8];
        Images::new([w.len(), 1, SIDE, SIDE], (0..w.len() * 16).map(pixel).collect())
    }
}

/// The inverse of [`Linear`].
impl Encoder for Inverse {
    fn encode(&mut self, x: &Images) -> Result<LatentCodes> {
        self.0.enter("encode");
        if x.size() != (SIDE, SIDE) || x.channels() != 1 {
            return Err(Error::Shape {
                what: "images to encode".into(),
                expected: "[N, 1, 4, 4]".into(),
                found: x.shape().to_vec(),
            });
        }
        let code = |i: usize| (x.image(i / 2)[8 * (i % 2)] - 0.5) / 0.1;
        LatentCodes::new([x.len(), 1, 2], (0..2 * x.len()).map(code).collect())
    }
}

/// Logit: mean of the upper half less mean of the lower half, times ten. A white box with two layers: the input, and
/// `halves`, `[N, 2, 4, 4]`, whose channels are the input with the other half black.
impl Predictor for TopMinusBottom {
    fn info(&self) -> PredictorInfo {
        PredictorInfo {
            classes: vec!["bottom".into(), "top".into()],
            input_size: Some((SIDE, SIDE)),
            channels: 1,
            backend: "closed form".into(),
        }
    }
    fn predict(&mut self, x: &Images) -> Result<Scores> {
        self.0.enter("predict");
        let p = |i| 1.0 / (1.0 + (-logit(x.image(i))).exp());
        Scores::new([x.len(), 2], (0..x.len()).flat_map(|i| [1.0 - p(i), p(i)]).collect())
    }
    fn gradients(&mut self) -> Option<&mut dyn Gradients> {
        Some(self)
    }
}

/// 1 for the class `top`, -1 for `bottom`.
fn sign(classes: &[usize], image: usize) -> f32 {
    if classes[image.min(classes.len() - 1)] == 1 { 1.0 } else { -1.0 }
}

fn logit(x: &[f32]) -> f32 {
    let (top, bottom) = x.split_at(x.len() / 2);
    10.0 * (top.iter().sum::<f32>() - bottom.iter().sum::<f32>()) / top.len() as f32
}

/// Index of a layer's name.
fn layer(name: &str) -> Result<usize> {
    match name {
        "" | "input" => Ok(0),
        "halves" => Ok(1),
        other => Err(Error::Invalid(format!("no layer `{other}`, there are `input` and `halves`"))),
    }
}

/// True in the upper half; `p` counts the values of planes of 4x4.
fn is_top(p: usize) -> bool {
    p % PLANE < PLANE / 2
}

/// What a layer puts out for the images `x`: `[N, 1 or 2, 4, 4]`.
fn layer_values(layer: usize, x: &Images) -> (Vec<usize>, Vec<f32>) {
    let channels = layer + 1;
    let value = |j: usize| {
        let (channel, p) = (j / PLANE % channels, j % PLANE);
        let kept = layer == 0 || (channel == 0) == is_top(p);
        if kept { x.image(j / PLANE / channels)[p] } else { 0.0 }
    };
    let values = (0..x.len() * channels * PLANE).map(value).collect();
    (vec![x.len(), channels, SIDE, SIDE], values)
}

/// The logit's slope at value `j` of a layer.
fn slope(layer: usize, j: usize) -> f32 {
    let up = if layer == 0 { is_top(j) } else { (j / PLANE).is_multiple_of(2) };
    if up { 10.0 / 8.0 } else { -10.0 / 8.0 }
}

impl Gradients for TopMinusBottom {
    fn layers(&mut self) -> Result<Vec<LayerInfo>> {
        let layer = |name: &str, channels, default| LayerInfo {
            name: name.into(),
            operator: "Input".into(),
            shape: vec![Some(channels), Some(SIDE), None],
            default,
        };
        Ok(vec![layer("input", 1, true), layer("halves", 2, false)])
    }
    fn gradients(&mut self, x: &Images, r: &GradientRequest) -> Result<GradientOutput> {
        self.0.enter("gradients");
        if r.score != ScoreKind::Logit {
            return Err(Error::Unsupported("only logits are differentiated here".into()));
        }
        let (mut activations, mut gradients) = (Vec::new(), Vec::new());
        let slopes = |layer: usize| {
            let (shape, values) = layer_values(layer, x);
            let row = values.len() / x.len().max(1);
            let gradient = (0..values.len()).map(|j| sign(&r.classes, j / row) * slope(layer, j)).collect();
            Ok::<_, Error>((Tensor::new(shape.clone(), values)?, Tensor::new(shape, gradient)?))
        };
        for name in &r.layers {
            let (a, g) = slopes(layer(name)?)?;
            activations.push(a);
            if r.layer_gradients {
                gradients.push(g);
            }
        }
        Ok(GradientOutput {
            scores: (0..x.len()).map(|i| sign(&r.classes, i) * logit(x.image(i))).collect(),
            activations,
            gradients,
            input_gradient: if r.input_gradient { Some(slopes(0)?.1) } else { None },
        })
    }
    fn scores_with(
        &mut self,
        x: &Images,
        name: &str,
        activations: &Tensor,
        classes: &[usize],
        score: ScoreKind,
    ) -> Result<Vec<f32>> {
        self.0.enter("scores");
        let layer = layer(name)?;
        let rows = activations.shape()[0];
        let shape = [rows, layer + 1, SIDE, SIDE];
        if activations.shape() != shape {
            return Err(Error::Shape {
                what: format!("activations of `{name}`"),
                expected: format!("{shape:?}"),
                found: activations.shape().to_vec(),
            });
        }
        let (values, row) = (activations.as_slice(), shape[1..].iter().product::<usize>());
        let answer = |i: usize| {
            let s: f32 = (i * row..(i + 1) * row).map(|j| values[j] * slope(layer, j)).sum();
            let s = s * sign(classes, i * x.len() / rows);
            if score == ScoreKind::Logit { s } else { 1.0 / (1.0 + (-s).exp()) }
        };
        Ok((0..rows).map(answer).collect())
    }
}

/// From the mean of the negative codes to the mean of the positive ones.
impl DirectionFinder for MeanDifference {
    fn find(&mut self, w: &LatentCodes, y: &Targets) -> Result<Direction> {
        self.0.enter("find");
        let [n, l, d] = w.shape();
        let labels = y.labels();
        let positives = labels.iter().filter(|p| **p).count();
        if positives == 0 || positives == n {
            return Err(Error::Invalid(format!(
                "{positives} of {n} codes are positive: two classes are needed"
            )));
        }
        let mut alpha = vec![0f32; l * d];
        for (i, positive) in labels.iter().enumerate() {
            let weight = if *positive { 1.0 / positives as f32 } else { -1.0 / (n - positives) as f32 };
            alpha.iter_mut().zip(w.code(i)).for_each(|(a, v)| *a += weight * v);
        }
        let mut direction = Direction::new(alpha, l, 1.0, 0.0)?;
        let p = direction.project(w)?;
        direction.mean = p.iter().sum::<f32>() / n as f32;
        direction.sigma = (p.iter().map(|v| (v - direction.mean).powi(2)).sum::<f32>() / n as f32).sqrt();
        Ok(direction)
    }
}

/// The input's gradient as a heatmap where f is a white box; three steps along the direction where there is one.
impl Explainer for Saliency {
    fn explain(
        &mut self,
        cx: &mut Context<'_>,
        x: &Images,
        target: &Target,
    ) -> Result<Vec<Vec<Explanation>>> {
        self.0.enter("explain");
        cx.monitor.log(Level::Info, &format!("explaining {} with seed {}", target.name, cx.seed));
        let mut all = vec![Vec::new(); x.len()];
        if let Some(white) = cx.predictor.gradients() {
            let layer = white.layers()?.into_iter().find(|l| l.default).map_or(String::new(), |l| l.name);
            let request = GradientRequest {
                layers: vec![layer.clone()],
                layer_gradients: true,
                input_gradient: true,
                classes: vec![target.class],
                score: ScoreKind::Logit,
            };
            let out = white.gradients(x, &request)?;
            let slope = out.input_gradient.ok_or_else(|| Error::invalid("no input gradient"))?;
            let n = slope.as_slice().len() / x.len();
            for (i, list) in all.iter_mut().enumerate() {
                let map = Heatmap::new(SIDE, SIDE, slope.as_slice()[i * n..(i + 1) * n].to_vec())?;
                let notes =
                    vec![("layer".into(), layer.clone()), ("logit".into(), out.scores[i].to_string())];
                list.push(Explanation::Heatmap { title: "Saliency".into(), map, notes });
            }
        }
        for (i, list) in all.iter_mut().enumerate() {
            cx.monitor.check()?;
            cx.monitor.progress("explain", i as u64 + 1, x.len() as u64);
            let Some(latent) = &mut cx.latent else { continue };
            let lambdas = vec![-1.0, 0.0, 1.0];
            let w = latent.encoder.encode(&x.slice(i, i + 1))?;
            let images = latent.generator.synthesize(&latent.direction.shift(&w, &lambdas)?)?;
            let scores = cx.predictor.predict(&images)?.class(target.class)?;
            let latent_score = latent.direction.classify(&w).ok().map(|c| c[0]);
            let code = w.as_slice().to_vec();
            let calibration = None;
            let series = ShiftSeries { lambdas, images, scores, code, origin: 1, latent_score, calibration };
            list.push(Explanation::Shift { title: "Three steps".into(), series, notes: Vec::new() });
        }
        Ok(all)
    }
}

export_plugin! {
    id: "example.every-kind",
    generator: Linear,
    encoder: Inverse,
    predictor: TopMinusBottom,
    direction: MeanDifference,
    explainer: Saliency,
}

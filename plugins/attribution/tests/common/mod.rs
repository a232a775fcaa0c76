//! A predictor in closed form, and a monitor that remembers.

use shiftlens_attribution::explainer::Attribution;
use shiftlens_sdk::Create;
use shiftlens_sdk::api::resize::{self, Filter};
use shiftlens_sdk::api::{
    Context, Error, Explainer, Explanation, GradientOutput, GradientRequest, Gradients, Images, LayerInfo,
    Level, Monitor, Predictor, PredictorInfo, Result, ScoreKind, Scores, Target, Tensor,
};
use shiftlens_sdk::serde_json::Value;
use std::sync::Mutex;

/// a of class `class` for value `k` of the image: between -1 and 1, without a pattern.
pub fn weight(class: usize, k: usize) -> f64 {
    ((k * 37 + class * 11) % 29) as f64 / 14.0 - 1.0
}

/// An image `[1, channels, h, w]` without a pattern; `i` tells images apart.
pub fn image(channels: usize, h: usize, w: usize, i: usize) -> Images {
    let data = (0..channels * h * w).map(|k| ((k * 53 + i * 17 + 5) % 31) as f32 / 30.0).collect();
    Images::new([1, channels, h, w], data).unwrap()
}

/// Two classes with logits `gain sum_k a_k x_k^2` and, of each, the logistic function as its probability.
pub struct Quadratic {
    pub white: bool,
    pub gain: f64,
    /// The score is `factor x_k` of this value alone, for both kinds.
    pub only: Option<(usize, f64)>,
    /// Input size, and how images are brought to it.
    pub native: Option<(usize, usize, Filter)>,
    /// 1 or 3.
    pub channels: usize,
    /// Most images in one call.
    pub largest: usize,
}

impl Quadratic {
    pub fn white() -> Self {
        Self { white: true, gain: 1.0, only: None, native: None, channels: 1, largest: 0 }
    }
    /// For colour images.
    pub fn colour() -> Self {
        Self { channels: 3, ..Self::white() }
    }
    pub fn black() -> Self {
        Self { white: false, ..Self::white() }
    }
    fn seen(&mut self, x: &Images) -> Images {
        self.largest = self.largest.max(x.len());
        match self.native {
            Some((h, w, filter)) => resize::images(x, (h, w), filter).unwrap(),
            None => x.clone(),
        }
    }
    fn score(&self, image: &[f32], class: usize, kind: ScoreKind) -> f64 {
        if let Some((k, factor)) = self.only {
            return factor * f64::from(image[k]);
        }
        let logit: f64 = self.gain
            * image.iter().enumerate().map(|(k, x)| weight(class, k) * f64::from(*x).powi(2)).sum::<f64>();
        match kind {
            ScoreKind::Logit => logit,
            ScoreKind::Probability => 1.0 / (1.0 + (-logit).exp()),
        }
    }
}

impl Predictor for Quadratic {
    fn info(&self) -> PredictorInfo {
        PredictorInfo {
            classes: vec!["small".into(), "large".into()],
            input_size: self.native.map(|(h, w, _)| (h, w)),
            channels: self.channels,
            backend: "closed form".into(),
        }
    }
    fn predict(&mut self, x: &Images) -> Result<Scores> {
        let x = self.seen(x);
        let of = |i: usize| [0, 1].map(|k| self.score(x.image(i), k, ScoreKind::Probability) as f32);
        Scores::new([x.len(), 2], (0..x.len()).flat_map(of).collect())
    }
    fn gradients(&mut self) -> Option<&mut dyn Gradients> {
        if self.white { Some(self) } else { None }
    }
}

impl Gradients for Quadratic {
    fn layers(&mut self) -> Result<Vec<LayerInfo>> {
        Ok(Vec::new())
    }
    fn gradients(&mut self, x: &Images, request: &GradientRequest) -> Result<GradientOutput> {
        assert!(request.layers.is_empty() && !request.layer_gradients);
        let [class] = request.classes[..] else { return Err(Error::invalid("one class for all")) };
        let x = self.seen(x);
        let scores: Vec<f64> = (0..x.len()).map(|i| self.score(x.image(i), class, request.score)).collect();
        let gradient = (0..x.len()).flat_map(|i| {
            let outer = match request.score {
                ScoreKind::Logit => 1.0,
                ScoreKind::Probability => scores[i] * (1.0 - scores[i]),
            };
            let slope = 2.0 * self.gain * outer;
            x.image(i)
                .iter()
                .enumerate()
                .map(move |(k, v)| (slope * weight(class, k) * f64::from(*v)) as f32)
                .collect::<Vec<_>>()
        });
        let input = request.input_gradient.then(|| Tensor::new(x.shape().to_vec(), gradient.collect()));
        Ok(GradientOutput {
            scores: scores.iter().map(|s| *s as f32).collect(),
            input_gradient: input.transpose()?,
            ..Default::default()
        })
    }
}

/// Remembers what was said, and asks to stop after so many reports of progress.
#[derive(Default)]
pub struct Said {
    pub stop_after: Option<usize>,
    pub log: Mutex<Vec<(Level, String)>>,
    pub progress: Mutex<Vec<(u64, u64)>>,
}

impl Said {
    pub fn warnings(&self) -> Vec<String> {
        self.log.lock().unwrap().iter().filter(|(l, _)| *l == Level::Warn).map(|(_, m)| m.clone()).collect()
    }
    pub fn steps(&self) -> Vec<(u64, u64)> {
        self.progress.lock().unwrap().clone()
    }
}

impl Monitor for Said {
    fn log(&self, level: Level, message: &str) {
        self.log.lock().unwrap().push((level, message.into()));
    }
    fn progress(&self, _: &str, done: u64, total: u64) {
        self.progress.lock().unwrap().push((done, total));
    }
    fn cancelled(&self) -> bool {
        self.stop_after.is_some_and(|n| self.progress.lock().unwrap().len() >= n)
    }
}

type Answer = Vec<Vec<Explanation>>;

pub fn explain(f: &mut Quadratic, params: Value, x: &Images) -> Result<Answer> {
    explain_with(f, params, x, &Said::default(), 0)
}

pub fn explain_with(f: &mut Quadratic, params: Value, x: &Images, said: &Said, seed: u64) -> Result<Answer> {
    let mut cx = Context { predictor: f, latent: None, monitor: said, seed };
    Attribution::create(&params)?.explain(&mut cx, x, &Target { class: 1, name: "large".into() })
}

/// The values of image `i`'s only map.
pub fn map(answer: &Answer, i: usize) -> &[f32] {
    let [Explanation::Heatmap { map, .. }] = &answer[i][..] else { panic!("one map expected: {answer:?}") };
    map.as_slice()
}

/// A note of image `i`'s map.
pub fn note<'a>(answer: &'a Answer, i: usize, key: &str) -> &'a str {
    let [Explanation::Heatmap { notes, .. }] = &answer[i][..] else { panic!("one map expected: {answer:?}") };
    notes
        .iter()
        .find(|(k, _)| k == key)
        .map(|(_, v)| v.as_str())
        .unwrap_or_else(|| panic!("no {key} in {notes:?}"))
}

//! How long f, G and E work, and on how many images: measured where they are called, whoever calls.

use shiftlens_api::{
    Encoder, Error, Generator, GeneratorInfo, GradientOutput, GradientRequest, Gradients, Images,
    LatentCodes, LayerInfo, Predictor, PredictorInfo, Result, ScoreKind, Scores, Shift, Tensor,
};
use std::ops::DerefMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What a kind of call has cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Work {
    /// Wall-clock seconds inside the calls.
    pub seconds: f64,
    /// Images that were asked about.
    pub images: u64,
}

impl Work {
    /// What was added since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { seconds: self.seconds - earlier.seconds, images: self.images - earlier.images }
    }
}

#[derive(Debug, Default)]
struct Stage {
    nanoseconds: AtomicU64,
    images: AtomicU64,
}

/// What the components of a study have cost since they were loaded.
#[derive(Debug, Default)]
pub struct Clock {
    predict: Stage,
    gradients: Stage,
    encode: Stage,
    synthesise: Stage,
}

impl Clock {
    /// By stage: `predict` (f), `gradients` (f, forward and back), `encode` (E), `synthesise` (G, and drawing its codes).
    pub fn read(&self) -> [(&'static str, Work); 4] {
        let stages = [
            ("predict", &self.predict),
            ("gradients", &self.gradients),
            ("encode", &self.encode),
            ("synthesise", &self.synthesise),
        ];
        stages.map(|(name, stage)| {
            let seconds = stage.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
            (name, Work { seconds, images: stage.images.load(Ordering::Relaxed) })
        })
    }
}

impl Clock {
    /// Images that f was shown: each of [`Predictor::predict`] and of [`Gradients::gradients`], and each row of
    /// [`Gradients::scores_with`].
    pub fn asked(&self) -> u64 {
        [&self.predict, &self.gradients].iter().map(|stage| stage.images.load(Ordering::Relaxed)).sum()
    }
}

impl Stage {
    fn time<T>(&self, images: usize, call: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let answer = call();
        let spent = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(spent, Ordering::Relaxed);
        self.images.fetch_add(images as u64, Ordering::Relaxed);
        answer
    }
}

/// A component, owned or lent, whose calls are timed and whose images are counted.
pub(crate) struct Timed<P> {
    inner: P,
    clock: Arc<Clock>,
}

impl<P> Timed<P> {
    pub fn new(inner: P, clock: &Arc<Clock>) -> Self {
        Self { inner, clock: Arc::clone(clock) }
    }
}

impl Generator for Timed<Box<dyn Generator>> {
    fn info(&self) -> GeneratorInfo {
        self.inner.info()
    }
    fn sample(&mut self, n: usize, seed: u64) -> Result<LatentCodes> {
        // Codes are no images: their cost counts, their number does not.
        self.clock.synthesise.time(0, || self.inner.sample(n, seed))
    }
    fn synthesize(&mut self, w: &LatentCodes) -> Result<Images> {
        self.clock.synthesise.time(w.len(), || self.inner.synthesize(w))
    }
    fn series(&mut self, w: &LatentCodes, shift: &Shift<'_>) -> Result<Images> {
        self.clock.synthesise.time(shift.steps().len(), || self.inner.series(w, shift))
    }
}

impl Encoder for Timed<Box<dyn Encoder>> {
    fn encode(&mut self, x: &Images) -> Result<LatentCodes> {
        self.clock.encode.time(x.len(), || self.inner.encode(x))
    }
}

impl<'a, P> Predictor for Timed<P>
where
    P: DerefMut<Target = dyn Predictor + 'a> + Send,
{
    fn info(&self) -> PredictorInfo {
        self.inner.info()
    }
    fn predict(&mut self, x: &Images) -> Result<Scores> {
        self.clock.predict.time(x.len(), || self.inner.predict(x))
    }
    fn gradients(&mut self) -> Option<&mut dyn Gradients> {
        if self.inner.gradients().is_some() { Some(self) } else { None }
    }
}

/// The inner predictor's gradients, which [`Predictor::gradients`] has seen to be there.
fn white<'a>(inner: &'a mut (dyn Predictor + '_)) -> Result<&'a mut dyn Gradients> {
    inner.gradients().ok_or_else(|| Error::Unsupported("the predictor no longer offers gradients".into()))
}

impl<'a, P> Gradients for Timed<P>
where
    P: DerefMut<Target = dyn Predictor + 'a> + Send,
{
    fn layers(&mut self) -> Result<Vec<LayerInfo>> {
        white(&mut *self.inner)?.layers()
    }
    fn gradients(&mut self, x: &Images, request: &GradientRequest) -> Result<GradientOutput> {
        let inner = white(&mut *self.inner)?;
        self.clock.gradients.time(x.len(), || inner.gradients(x, request))
    }
    fn scores_with(
        &mut self,
        x: &Images,
        layer: &str,
        activations: &Tensor,
        classes: &[usize],
        score: ScoreKind,
    ) -> Result<Vec<f32>> {
        let rows = activations.shape().first().copied().unwrap_or(0);
        let inner = white(&mut *self.inner)?;
        self.clock.predict.time(rows, || inner.scores_with(x, layer, activations, classes, score))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{LinearEncoder, LinearGenerator, PixelPredictor};

    #[test]
    fn calls_are_counted_by_stage_and_answers_pass_through() {
        let clock = Arc::new(Clock::default());
        let boxed: Box<dyn Generator> = Box::new(LinearGenerator);
        let mut g = Timed::new(boxed, &clock);
        let boxed: Box<dyn Encoder> = Box::new(LinearEncoder);
        let mut e = Timed::new(boxed, &clock);
        let boxed: Box<dyn Predictor> = Box::new(PixelPredictor { gain: 1.0, bias: 0.0 });
        let mut f = Timed::new(boxed, &clock);
        let w = g.sample(3, 1).unwrap();
        let x = g.synthesize(&w).unwrap();
        assert_eq!(x.as_slice(), LinearGenerator.synthesize(&w).unwrap().as_slice());
        let before = clock.read();
        f.predict(&x).unwrap();
        f.predict(&x.slice(0, 1)).unwrap();
        e.encode(&x).unwrap();
        assert!(Predictor::gradients(&mut f).is_none(), "a black box stays one");
        let images = |work: [(&str, Work); 4]| work.map(|(_, w)| w.images);
        assert_eq!(images(clock.read()), [4, 0, 3, 3]);
        assert_eq!(clock.asked(), 4);
        let [predict, ..] = clock.read();
        assert_eq!(predict.1.since(before[0].1).images, 4);
        assert!(clock.read().iter().all(|(_, w)| w.seconds >= 0.0) && predict.1.seconds > 0.0);
    }
}

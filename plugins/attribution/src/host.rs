//! The predictor as the methods see it: one scalar score, asked for in batches.

use shiftlens_sdk::api::{
    Context, Error, GradientRequest, Images, Level, Monitor, Predictor, Result, ScoreKind, Target, resize,
};

/// One image as the network sees it: `[C, H, W]`, values in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// C: 1 or 3.
    pub channels: usize,
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
}

impl Shape {
    /// The shape of each image of a batch.
    pub fn of(x: &Images) -> Self {
        let [_, channels, height, width] = x.shape();
        Self { channels, height, width }
    }
    /// H W.
    pub fn plane(self) -> usize {
        self.height * self.width
    }
    /// C H W.
    pub fn values(self) -> usize {
        self.channels * self.plane()
    }
}

/// Variants of one image, drawn when their batch is due and answered in order.
pub trait Variants {
    /// Writes variant `i` into `image`, `[C, H, W]`. Values outside [0, 1] are clamped, as any image's are.
    fn draw(&mut self, i: usize, image: &mut [f32]);
    /// Takes the score of variant `i` and, where they were asked for, its gradient with respect to the variant,
    /// `[C, H, W]`, else nothing.
    fn take(&mut self, i: usize, score: f64, gradient: &[f32]);
}

/// f, reduced to the score of one class.
pub struct Host<'a> {
    predictor: &'a mut dyn Predictor,
    monitor: &'a dyn Monitor,
    class: usize,
    kind: ScoreKind,
    batch: usize,
}

impl<'a> Host<'a> {
    /// The score of `target`, `batch` images at a time.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a predictor without gradients if `gradients` are needed or `kind` is the logit.
    pub fn new(
        cx: &'a mut Context<'_>,
        target: &Target,
        kind: ScoreKind,
        batch: usize,
        gradients: bool,
        title: &str,
    ) -> Result<Self> {
        if cx.predictor.gradients().is_none() {
            let backend = cx.predictor.info().backend;
            if gradients {
                return Err(Error::Unsupported(format!(
                    "{title}: this predictor ({backend}) offers no gradients, on which the method rests; `method` = \
                     \"occlusion\", \"rise\" and \"kernel-shap\" need scores alone"
                )));
            }
            if kind == ScoreKind::Logit {
                return Err(Error::Unsupported(format!(
                    "{title}: this predictor ({backend}) answers probabilities alone: `score` = \"logit\" needs one that \
                     offers gradients; set `score` to \"probability\""
                )));
            }
        }
        Ok(Self {
            predictor: &mut *cx.predictor,
            monitor: cx.monitor,
            class: target.class,
            kind,
            batch: batch.max(1),
        })
    }

    /// `x` as the network sees it: converted to the predictor's channels and resized to its input size.
    ///
    /// # Errors
    /// None for images that passed [`Images::new`].
    pub fn prepare(&self, x: &Images, filter: resize::Filter) -> Result<Images> {
        let info = self.predictor.info();
        let x = x.with_channels(info.channels)?;
        match info.input_size {
            Some(size) if size != x.size() => resize::images(&x, size, filter),
            _ => Ok(x),
        }
    }

    /// A warning for the user.
    pub fn warn(&self, message: &str) {
        self.monitor.log(Level::Warn, message);
    }

    /// The score of every image.
    ///
    /// # Errors
    /// If the predictor fails or the work is cancelled.
    pub fn scores(&mut self, x: &Images) -> Result<Vec<f64>> {
        let mut scores = Vec::with_capacity(x.len());
        for from in (0..x.len()).step_by(self.batch) {
            self.monitor.check()?;
            scores.extend(self.ask_scores(&x.slice(from, (from + self.batch).min(x.len())))?);
        }
        Ok(scores)
    }

    /// Asks about `count` variants of an image, batch by batch: their scores, and their gradients if `gradients`.
    ///
    /// # Errors
    /// If the predictor fails or the work is cancelled.
    pub fn ask(
        &mut self,
        what: &str,
        shape: Shape,
        count: usize,
        gradients: bool,
        variants: &mut dyn Variants,
    ) -> Result<()> {
        let n = shape.values();
        for from in (0..count).step_by(self.batch) {
            self.monitor.check()?;
            let to = (from + self.batch).min(count);
            let mut data = vec![0.0; (to - from) * n];
            data.chunks_exact_mut(n).zip(from..to).for_each(|(image, i)| variants.draw(i, image));
            let x = Images::new([to - from, shape.channels, shape.height, shape.width], data)?;
            if gradients {
                let (scores, gradient) = self.ask_gradients(&x)?;
                for ((score, g), i) in scores.into_iter().zip(gradient.chunks_exact(n)).zip(from..to) {
                    variants.take(i, score, g);
                }
            } else {
                let scores = self.ask_scores(&x)?;
                scores.into_iter().zip(from..to).for_each(|(score, i)| variants.take(i, score, &[]));
            }
            self.monitor.progress(what, to as u64, count as u64);
        }
        Ok(())
    }

    fn request(&self, input_gradient: bool) -> GradientRequest {
        GradientRequest { input_gradient, classes: vec![self.class], score: self.kind, ..Default::default() }
    }

    fn ask_scores(&mut self, x: &Images) -> Result<Vec<f64>> {
        let scores = match self.kind {
            ScoreKind::Probability => self.predictor.predict(x)?.class(self.class)?,
            ScoreKind::Logit => {
                let request = self.request(false);
                self.gradients()?.gradients(x, &request)?.scores
            }
        };
        one_each(&scores, x.len())
    }

    fn ask_gradients(&mut self, x: &Images) -> Result<(Vec<f64>, Vec<f32>)> {
        let request = self.request(true);
        let answer = self.gradients()?.gradients(x, &request)?;
        let gradient = answer.input_gradient.ok_or_else(|| {
            Error::component(
                "predictor",
                "the gradient with respect to the input was asked for, none came back",
            )
        })?;
        if gradient.shape() != x.shape() {
            return Err(Error::Shape {
                what: "gradient with respect to the input".into(),
                expected: format!("{:?}, as the images, which have the network's input size", x.shape()),
                found: gradient.shape().to_vec(),
            });
        }
        Ok((one_each(&answer.scores, x.len())?, gradient.into_vec()))
    }

    fn gradients(&mut self) -> Result<&mut dyn shiftlens_sdk::api::Gradients> {
        self.predictor
            .gradients()
            .ok_or_else(|| Error::component("predictor", "offered gradients before, offers none now"))
    }
}

fn one_each(scores: &[f32], images: usize) -> Result<Vec<f64>> {
    if scores.len() == images {
        return Ok(scores.iter().map(|s| f64::from(*s)).collect());
    }
    Err(Error::Shape {
        what: "scores from the predictor".into(),
        expected: format!("[{images}], one for each image"),
        found: vec![scores.len()],
    })
}

//! f as an ONNX file.

use crate::backend::{Session, backend_name};
use crate::config::{Activation, PredictorConfig};
use crate::gradient::session::{self, GradientCache};
use crate::graph::Model;
use crate::image_input::{ImageInput, choose_port};
use crate::scores::ScoreHead;
use shiftlens_api::{
    Error, GradientOutput, GradientRequest, Gradients, Images, LayerInfo, Predictor, PredictorInfo, Result,
    ScoreKind, Scores, Tensor,
};

/// Images per run where the manifest does not say.
const DEFAULT_BATCH: usize = 32;
/// How far a declared probability may leave [0, 1] by rounding.
const PROBABILITY_SLACK: f32 = 1e-3;

/// A classifier read from an ONNX file: a [`Predictor`] and, where its operators allow, [`Gradients`].
pub struct OnnxPredictor {
    pub(crate) model: Model,
    pub(crate) input: ImageInput,
    pub(crate) head: ScoreHead,
    pub(crate) threads: Option<usize>,
    pub(crate) batch: usize,
    pub(crate) gradients: GradientCache,
    session: Session,
    inferred: Vec<String>,
}

impl OnnxPredictor {
    /// Reads the model, settles what the manifest leaves open, and runs it once on a grey image.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Invalid`] for a file that is missing, is no ONNX model or has another checksum than
    /// the pin; [`Error::Invalid`] where manifest and model contradict each other; [`Error::Component`] if the backend
    /// cannot run the model.
    pub fn load(config: &PredictorConfig) -> Result<Self> {
        Self::of(Model::load(&config.path, config.sha256.as_deref())?, config)
    }

    /// As [`OnnxPredictor::load`], of a model that was read already, and changed perhaps; the configuration's path and pin do
    /// not count.
    ///
    /// # Errors
    /// As [`OnnxPredictor::load`].
    pub fn of(model: Model, config: &PredictorConfig) -> Result<Self> {
        let file = model.name().to_owned();
        let mut inferred = Vec::new();
        let input = ImageInput::resolve(&model, &config.input, &mut inferred)?;
        input.only_input(&model)?;
        let batch = input.batch_size(&file, config.batch, DEFAULT_BATCH)?;
        let output = choose_port(&model.outputs(), config.output.name.as_deref(), &file, "output")?.name;
        let mut session =
            Session::new(&model.to_bytes()?, std::slice::from_ref(&output), config.threads, &file)?;

        let n = input.batch.unwrap_or(1);
        let answer =
            session.run_floats(&[(&input.name, &input.shape(n), &input.prepare(&input.grey()?, n)?)])?;
        let columns = columns(&file, &output, answer[0].shape(), n)?;
        let head = ScoreHead::resolve(&model, &output, columns, &config.output, &mut inferred)?;
        Ok(Self {
            model,
            input,
            head,
            threads: config.threads,
            batch,
            gradients: GradientCache::default(),
            session,
            inferred,
        })
    }

    /// What was not in the manifest but read from the model, or assumed, in plain sentences.
    pub fn inferred(&self) -> &[String] {
        &self.inferred
    }

    /// The image input, with all questions settled.
    pub fn input(&self) -> &ImageInput {
        &self.input
    }

    /// How the output becomes scores, with all questions settled.
    pub fn head(&self) -> &ScoreHead {
        &self.head
    }

    /// The class that explanations are about: the manifest's target, else the only class or the second of two.
    pub fn target(&self) -> Option<usize> {
        self.head.target
    }

    /// Rows of the graph's output for up to one batch of images, `[x.len(), columns]`.
    fn run_chunk(&mut self, x: &Images) -> Result<Vec<f32>> {
        let n = self.input.batch.unwrap_or(x.len());
        let data = self.input.prepare(x, n)?;
        let answer =
            self.session.run_floats(&[(&self.input.name, &self.input.shape(n), &data)])?.swap_remove(0);
        if answer.as_slice().len() != n * self.head.columns {
            return Err(Error::Shape {
                what: format!("{}: output \"{}\"", self.model.name(), self.head.output),
                expected: format!("[{n}, {}]", self.head.columns),
                found: answer.shape().to_vec(),
            });
        }
        let mut rows = answer.into_vec();
        rows.truncate(x.len() * self.head.columns);
        Ok(rows)
    }
}

/// Columns of an output `[N, K]`, `[N]` or `[N, K, 1, 1]`.
fn columns(file: &str, output: &str, shape: &[usize], n: usize) -> Result<usize> {
    let fits = match shape {
        [] => n == 1,
        [rows] => *rows == n,
        [rows, _, rest @ ..] => *rows == n && rest.iter().all(|d| *d == 1),
    };
    let columns = shape.get(1).copied().unwrap_or(1);
    if fits && columns > 0 {
        Ok(columns)
    } else {
        Err(Error::Shape {
            what: format!("{file}: output \"{output}\" for a batch of {n} (name another one in output.name)"),
            expected: "class scores [N, K]".into(),
            found: shape.to_vec(),
        })
    }
}

impl Predictor for OnnxPredictor {
    fn info(&self) -> PredictorInfo {
        PredictorInfo {
            classes: self.head.classes.clone(),
            input_size: Some(self.input.size),
            channels: self.input.channels,
            backend: backend_name().unwrap_or("none").to_owned(),
        }
    }

    fn predict(&mut self, x: &Images) -> Result<Scores> {
        let classes = self.head.classes.len();
        let mut scores = Vec::with_capacity(x.len() * classes);
        for from in (0..x.len()).step_by(self.batch) {
            let rows = self.run_chunk(&x.slice(from, (from + self.batch).min(x.len())))?;
            for (i, row) in rows.chunks_exact(self.head.columns).enumerate() {
                check_row(&self.model, &self.head, from + i, row)?;
                scores.extend(self.head.scores(row));
            }
        }
        Scores::new([x.len(), classes], scores)
    }

    fn gradients(&mut self) -> Option<&mut dyn Gradients> {
        Some(self)
    }
}

/// Refuses NaN, infinity, and "probabilities" outside [0, 1].
pub(crate) fn check_row(model: &Model, head: &ScoreHead, image: usize, row: &[f32]) -> Result<()> {
    if let Some((index, value)) = row.iter().copied().enumerate().find(|(_, v)| !v.is_finite()) {
        return Err(Error::NotFinite {
            what: format!("{}: output \"{}\" for image {image}", model.name(), head.output),
            index,
            value,
        });
    }
    let outside = |v: &&f32| **v < -PROBABILITY_SLACK || **v > 1.0 + PROBABILITY_SLACK;
    match row.iter().find(outside) {
        Some(v) if head.activation == Activation::Already => Err(Error::Invalid(format!(
            "{}: output \"{}\" is {v} for image {image}, but output.activation = \"already\" promises probabilities; \
             set it to what the model still needs",
            model.name(),
            head.output
        ))),
        _ => Ok(()),
    }
}

impl Gradients for OnnxPredictor {
    fn layers(&mut self) -> Result<Vec<LayerInfo>> {
        session::layers(self)
    }

    fn gradients(&mut self, x: &Images, request: &GradientRequest) -> Result<GradientOutput> {
        session::gradients(self, x, request)
    }

    fn scores_with(
        &mut self,
        x: &Images,
        layer: &str,
        activations: &Tensor,
        classes: &[usize],
        score: ScoreKind,
    ) -> Result<Vec<f32>> {
        session::scores_with(self, x, layer, activations, classes, score)
    }
}

//! Reference arrays, and a network that answers them.

use safetensors::SafeTensors;
use shiftlens_sdk::api::{
    Error, GradientOutput, GradientRequest, Gradients, Images, LayerInfo, Predictor, PredictorInfo, Result,
    ScoreKind, Scores, Tensor,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The arrays of one classifier, by name.
pub struct Golden {
    pub name: String,
    arrays: BTreeMap<String, Tensor>,
}

impl Golden {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensor = |t: safetensors::tensor::TensorView<'_>| {
            let values = t.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            Tensor::new(t.shape().to_vec(), values.collect()).unwrap()
        };
        let arrays = file.tensors().into_iter().map(|(name, t)| (name, tensor(t))).collect();
        Self { name: path.file_stem().unwrap().to_string_lossy().into_owned(), arrays }
    }

    /// The fixtures, and the full set where it is there.
    pub fn all() -> Vec<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = |folder: PathBuf| {
            let entries = std::fs::read_dir(&folder).into_iter().flatten().map(|e| e.unwrap().path());
            let mut files: Vec<_> =
                entries.filter(|p| p.extension().is_some_and(|e| e == "safetensors")).collect();
            files.sort();
            if files.is_empty() {
                println!("skipped: {} is not there", folder.display());
            }
            files
        };
        let fixtures = files(here.join("tests/fixtures"));
        assert_eq!(fixtures.len(), 3, "{fixtures:?}");
        let full = files(here.join("../../../shared/golden/cam"));
        assert!(full.is_empty() || full.len() == 14, "{full:?}");
        fixtures.iter().chain(&full).map(|p| Self::read(p)).collect()
    }

    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.arrays.get(name)
    }

    #[track_caller]
    pub fn array(&self, name: &str) -> &Tensor {
        self.get(name).unwrap_or_else(|| panic!("{}: no array {name}", self.name))
    }

    /// Classes with gradients, and the suffixes of the scalars that were differentiated.
    pub fn cases(&self) -> Vec<(usize, &'static str)> {
        let mut all = Vec::new();
        for k in 0..10 {
            for suffix in ["", "_logit"] {
                if self.get(&format!("c{k}.grad_act{suffix}")).is_some() {
                    all.push((k, suffix));
                }
            }
        }
        assert!(!all.is_empty(), "{}", self.name);
        all
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.array("act").shape()[0]
    }

    /// A score of class `k` for each sample.
    pub fn scores(&self, k: usize, suffix: &str) -> Vec<f32> {
        let scores = self.array(if suffix.is_empty() { "output" } else { "logits" });
        scores.as_slice().chunks_exact(scores.shape()[1]).map(|row| row[k]).collect()
    }

    /// Images that carry nothing but their index.
    pub fn images(&self) -> Images {
        let value = |j: usize| (j / PIXELS) as f32 / 10.0;
        Images::new([self.len(), 1, SIDE, SIDE], (0..self.len() * PIXELS).map(value).collect()).unwrap()
    }
}

const SIDE: usize = 4;
const PIXELS: usize = SIDE * SIDE;

/// How a [`Recorded`] network answers replaced activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// By the recorded weights of Ablation-CAM: `s_c = s (1 - w_c)`.
    Recorded,
    /// As an average pooling and a linear layer do: `s + sum G (A' - A)`, G the same for every image.
    Linear,
}

/// A network that answers what was recorded for the image's index.
pub struct Recorded<'a> {
    pub golden: &'a Golden,
    pub suffix: &'static str,
    pub head: Head,
    /// Rows of the largest call with replaced activations.
    pub largest: usize,
}

impl Recorded<'_> {
    fn row<'t>(&self, tensor: &'t Tensor, image: usize) -> &'t [f32] {
        let n = tensor.as_slice().len() / tensor.shape()[0];
        &tensor.as_slice()[image * n..(image + 1) * n]
    }

    fn indices(x: &Images) -> Vec<usize> {
        (0..x.len()).map(|i| (x.image(i)[0] * 10.0).round() as usize).collect()
    }

    /// The score of class `k` of an image with one of its channels silent.
    fn replaced(&self, k: usize, image: usize, activations: &[f32]) -> f32 {
        let act = self.golden.array("act");
        let (was, score) = (self.row(act, image), self.golden.scores(k, self.suffix)[image]);
        // Tokens are [T, K], maps [K, h, w].
        let (channels, channel): (usize, Box<dyn Fn(usize) -> usize>) = match act.shape()[..] {
            [_, _, channels] => (channels, Box::new(move |j| j % channels)),
            [_, channels, h, w] => (channels, Box::new(move |j| j / (h * w))),
            _ => panic!("{:?}", act.shape()),
        };
        let mut silent: Vec<usize> =
            (0..was.len()).filter(|j| was[*j] != activations[*j]).map(&channel).collect();
        silent.dedup();
        silent.sort_unstable();
        silent.dedup();
        match silent[..] {
            // A channel that was silent before.
            [] => score,
            [c] => {
                assert!((0..was.len()).filter(|j| channel(*j) == c).all(|j| activations[j] == 0.0));
                match self.head {
                    Head::Recorded => {
                        let w = self.golden.array(&format!("c{k}.ablationcam.weights{}", self.suffix));
                        assert_eq!(w.shape()[1], channels);
                        (f64::from(score) * (1.0 - f64::from(self.row(w, image)[c]))) as f32
                    }
                    Head::Linear => {
                        let g = self.golden.array(&format!("c{k}.grad_act{}", self.suffix));
                        let g = self.row(g, image);
                        let change: f64 = (0..was.len())
                            .map(|j| f64::from(g[j]) * (f64::from(activations[j]) - f64::from(was[j])))
                            .sum();
                        (f64::from(score) + change) as f32
                    }
                }
            }
            _ => panic!("channels {silent:?} were changed at once"),
        }
    }
}

impl Predictor for Recorded<'_> {
    fn info(&self) -> PredictorInfo {
        let classes = self.golden.array("output").shape()[1];
        PredictorInfo {
            classes: (0..classes).map(|k| k.to_string()).collect(),
            input_size: Some((64, 64)),
            channels: 3,
            backend: "recorded".into(),
        }
    }
    fn predict(&mut self, x: &Images) -> Result<Scores> {
        let output = self.golden.array("output");
        let rows = Self::indices(x).into_iter().flat_map(|i| self.row(output, i).to_vec()).collect();
        Scores::new([x.len(), output.shape()[1]], rows)
    }
    fn gradients(&mut self) -> Option<&mut dyn Gradients> {
        Some(self)
    }
}

impl Gradients for Recorded<'_> {
    fn layers(&mut self) -> Result<Vec<LayerInfo>> {
        let shape = self.golden.array("act").shape()[1..].iter().map(|n| Some(*n)).collect();
        Ok(vec![LayerInfo { name: "act".into(), operator: "Relu".into(), shape, default: true }])
    }
    fn gradients(&mut self, x: &Images, request: &GradientRequest) -> Result<GradientOutput> {
        assert_eq!(request.layers, ["act"]);
        let indices = Self::indices(x);
        let class = |i: usize| request.classes[i.min(request.classes.len() - 1)];
        let act = self.golden.array("act");
        let mut shape = act.shape().to_vec();
        shape[0] = x.len();
        let rows =
            |of: &dyn Fn(usize) -> Vec<f32>| Tensor::new(shape.clone(), (0..x.len()).flat_map(of).collect());
        let slope = |i: usize| {
            let name = format!("c{}.grad_act{}", class(i), self.suffix);
            self.row(self.golden.array(&name), indices[i]).to_vec()
        };
        Ok(GradientOutput {
            scores: (0..x.len()).map(|i| self.golden.scores(class(i), self.suffix)[indices[i]]).collect(),
            activations: vec![rows(&|i| self.row(act, indices[i]).to_vec())?],
            gradients: if request.layer_gradients { vec![rows(&slope)?] } else { Vec::new() },
            input_gradient: None,
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
        if score != ScoreKind::Logit || layer != "act" || classes.len() != 1 {
            return Err(Error::invalid("another question was recorded"));
        }
        let (rows, images) = (activations.shape()[0], Self::indices(x));
        self.largest = self.largest.max(rows);
        let image = |row: usize| images[row * images.len() / rows];
        Ok((0..rows).map(|r| self.replaced(classes[0], image(r), self.row(activations, r))).collect())
    }
}

//! Plain arrays with checked shapes.

use crate::{Error, Result, Shift};
use serde::{Deserialize, Serialize};

pub(crate) fn check_finite(what: &str, data: &[f32]) -> Result<()> {
    match data.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(Error::NotFinite { what: what.into(), index, value: data[index] }),
        None => Ok(()),
    }
}

fn check_len(what: &str, data: &[f32], shape: &[usize]) -> Result<()> {
    let need = shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
    if need == Some(data.len()) {
        Ok(())
    } else {
        Err(Error::Shape {
            what: format!("{what} with {} values", data.len()),
            expected: format!("{shape:?}"),
            found: vec![data.len()],
        })
    }
}

/// A row-major `f32` array of any shape: activations, gradients, raw network outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

impl Tensor {
    /// Takes `data` as an array of `shape`. Values may be anything, NaN included.
    ///
    /// # Errors
    /// [`Error::Shape`] if the sizes disagree.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Result<Self> {
        check_len("tensor", &data, &shape)?;
        Ok(Self { shape, data })
    }
    /// The shape, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    /// The values, row-major.
    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }
    /// Gives the values away.
    pub fn into_vec(self) -> Vec<f32> {
        self.data
    }
}

/// A batch of images: row-major `[N, C, H, W]`, values in [0, 1], C is 1 (grey) or 3 (RGB).
#[derive(Debug, Clone, PartialEq)]
pub struct Images {
    shape: [usize; 4],
    data: Vec<f32>,
}

impl Images {
    /// Checks and takes a batch. Values are clamped to [0, 1]; NaN is refused.
    ///
    /// # Errors
    /// [`Error::Shape`] if sizes disagree or C is neither 1 nor 3 or a side is 0; [`Error::NotFinite`].
    pub fn new(shape: [usize; 4], mut data: Vec<f32>) -> Result<Self> {
        check_len("images", &data, &shape)?;
        if !(shape[1] == 1 || shape[1] == 3) || shape[2] == 0 || shape[3] == 0 {
            return Err(Error::Shape {
                what: "images".into(),
                expected: "[N, 1 or 3, H > 0, W > 0]".into(),
                found: shape.to_vec(),
            });
        }
        check_finite("images", &data)?;
        data.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
        Ok(Self { shape, data })
    }
    /// `[N, C, H, W]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }
    /// Number of images.
    pub fn len(&self) -> usize {
        self.shape[0]
    }
    /// True for an empty batch.
    pub fn is_empty(&self) -> bool {
        self.shape[0] == 0
    }
    /// Channels: 1 or 3.
    pub fn channels(&self) -> usize {
        self.shape[1]
    }
    /// `(H, W)` in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.shape[2], self.shape[3])
    }
    /// The values, row-major.
    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }
    /// The values of image `i`, `[C, H, W]`.
    pub fn image(&self, i: usize) -> &[f32] {
        let n = self.shape[1] * self.shape[2] * self.shape[3];
        &self.data[i * n..(i + 1) * n]
    }
    /// The centre square of `side` pixels of every image; `None` if one does not hold it. Where a side is left with an odd
    /// number of pixels, the larger half is at the bottom and on the right.
    pub fn centre(&self, side: usize) -> Option<Self> {
        let [n, c, h, w] = self.shape;
        if side == 0 || h.min(w) < side {
            return None;
        }
        let (top, left) = ((h - side) / 2, (w - side) / 2);
        let mut data = Vec::with_capacity(n * c * side * side);
        for plane in self.data.chunks_exact(h * w) {
            for row in plane.chunks_exact(w).skip(top).take(side) {
                data.extend_from_slice(&row[left..left + side]);
            }
        }
        Some(Self { shape: [n, c, side, side], data })
    }
    /// Images `from..to` as a batch of their own.
    pub fn slice(&self, from: usize, to: usize) -> Self {
        let n = self.shape[1] * self.shape[2] * self.shape[3];
        let mut shape = self.shape;
        shape[0] = to - from;
        Self { shape, data: self.data[from * n..to * n].to_vec() }
    }
    /// One batch of all images of `parts`.
    ///
    /// # Errors
    /// [`Error::Shape`] if two parts differ in C, H or W, or `parts` is empty.
    pub fn concat(parts: &[Images]) -> Result<Self> {
        let first = parts.first().ok_or_else(|| Error::invalid("images: nothing to join"))?;
        let mut shape = first.shape;
        shape[0] = parts.iter().map(|p| p.shape[0]).sum();
        let mut data = Vec::with_capacity(shape.iter().product());
        for p in parts {
            if p.shape[1..] != first.shape[1..] {
                return Err(Error::Shape {
                    what: "images to join".into(),
                    expected: format!("[N, {}, {}, {}]", shape[1], shape[2], shape[3]),
                    found: p.shape.to_vec(),
                });
            }
            data.extend_from_slice(&p.data);
        }
        Ok(Self { shape, data })
    }
    /// The same images with `channels` channels: grey is repeated, RGB is reduced by ITU-R BT.601 luma.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a count other than 1 or 3.
    pub fn with_channels(&self, channels: usize) -> Result<Self> {
        let [n, c, h, w] = self.shape;
        let plane = h * w;
        let data = match (c, channels) {
            (1, 1) | (3, 3) => return Ok(self.clone()),
            (1, 3) => {
                self.data.chunks_exact(plane).flat_map(|p| p.iter().chain(p).chain(p)).copied().collect()
            }
            (3, 1) => {
                let mut out = Vec::with_capacity(n * plane);
                for image in self.data.chunks_exact(3 * plane) {
                    let (r, gb) = image.split_at(plane);
                    let (g, b) = gb.split_at(plane);
                    out.extend(r.iter().zip(g).zip(b).map(|((r, g), b)| 0.299 * r + 0.587 * g + 0.114 * b));
                }
                out
            }
            _ => {
                return Err(Error::Invalid(format!(
                    "images: {channels} channels asked for, expected 1 or 3"
                )));
            }
        };
        Ok(Self { shape: [n, channels, h, w], data })
    }
}

/// Latent codes: row-major `[N, L, D]`. L = 1 is the space W, L = number of style layers is W+.
#[derive(Debug, Clone, PartialEq)]
pub struct LatentCodes {
    shape: [usize; 3],
    data: Vec<f32>,
}

impl LatentCodes {
    /// Checks and takes codes.
    ///
    /// # Errors
    /// [`Error::Shape`] if sizes disagree or L or D is 0; [`Error::NotFinite`].
    pub fn new(shape: [usize; 3], data: Vec<f32>) -> Result<Self> {
        check_len("latent codes", &data, &shape)?;
        if shape[1] == 0 || shape[2] == 0 {
            return Err(Error::Shape {
                what: "latent codes".into(),
                expected: "[N, L > 0, D > 0]".into(),
                found: shape.to_vec(),
            });
        }
        check_finite("latent codes", &data)?;
        Ok(Self { shape, data })
    }
    /// `[N, L, D]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }
    /// Number of codes.
    pub fn len(&self) -> usize {
        self.shape[0]
    }
    /// True for an empty batch.
    pub fn is_empty(&self) -> bool {
        self.shape[0] == 0
    }
    /// The values, row-major.
    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }
    /// Code `i`, `[L, D]` flattened.
    pub fn code(&self, i: usize) -> &[f32] {
        let n = self.shape[1] * self.shape[2];
        &self.data[i * n..(i + 1) * n]
    }
    /// Codes `from..to` as a batch of their own.
    pub fn slice(&self, from: usize, to: usize) -> Self {
        let n = self.shape[1] * self.shape[2];
        Self { shape: [to - from, self.shape[1], self.shape[2]], data: self.data[from * n..to * n].to_vec() }
    }
    /// One batch of all codes of `parts`.
    ///
    /// # Errors
    /// [`Error::Shape`] if two parts differ in L or D, or `parts` is empty.
    pub fn concat(parts: &[LatentCodes]) -> Result<Self> {
        let first = parts.first().ok_or_else(|| Error::invalid("latent codes: nothing to join"))?;
        let [_, l, d] = first.shape;
        let mut data = Vec::new();
        for p in parts {
            if p.shape[1..] != first.shape[1..] {
                return Err(Error::Shape {
                    what: "latent codes to join".into(),
                    expected: format!("[N, {l}, {d}]"),
                    found: p.shape.to_vec(),
                });
            }
            data.extend_from_slice(&p.data);
        }
        Ok(Self { shape: [data.len() / (l * d), l, d], data })
    }
}

/// Class scores `[N, K]`: one column per class, as the predictor's activation leaves them
/// (probabilities for sigmoid and softmax).
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    shape: [usize; 2],
    data: Vec<f32>,
}

impl Scores {
    /// Checks and takes scores.
    ///
    /// # Errors
    /// [`Error::Shape`] if sizes disagree or K is 0; [`Error::NotFinite`].
    pub fn new(shape: [usize; 2], data: Vec<f32>) -> Result<Self> {
        check_len("scores", &data, &shape)?;
        if shape[1] == 0 {
            return Err(Error::Shape {
                what: "scores".into(),
                expected: "[N, K > 0]".into(),
                found: shape.to_vec(),
            });
        }
        check_finite("scores", &data)?;
        Ok(Self { shape, data })
    }
    /// `[N, K]`.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }
    /// Row-major values.
    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }
    /// All K scores of image `i`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.shape[1]..(i + 1) * self.shape[1]]
    }
    /// Score of class `k` for every image.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no class `k`.
    pub fn class(&self, k: usize) -> Result<Vec<f32>> {
        if k >= self.shape[1] {
            return Err(Error::Invalid(format!("class {k} asked for, the predictor has {}", self.shape[1])));
        }
        Ok(self.data.iter().skip(k).step_by(self.shape[1]).copied().collect())
    }
}

/// What a direction finder fits: one value per code, and the value from which it counts as positive.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    /// f's score of the target class on G(w), or the ground truth as 0 and 1.
    pub values: Vec<f32>,
    /// A value at or above it is positive.
    pub threshold: f32,
}

impl Targets {
    /// True where the value reaches the threshold.
    pub fn labels(&self) -> Vec<bool> {
        self.values.iter().map(|v| *v >= self.threshold).collect()
    }
}

/// A direction in latent space that makes the target class more likely.
///
/// The latent classifier of Schutte et al. 2021, section 2.3, is `c(w) = sigmoid(intercept + slope * <w, alpha>)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Direction {
    alpha: Vec<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<Vec<f32>>,
    layers: usize,
    /// Standard deviation of the training codes' projections on [`Direction::step`]: the unit of λ.
    pub sigma: f32,
    /// Mean of the training codes' projections on [`Direction::step`].
    pub mean: f32,
    /// Slope of the latent classifier along alpha; positive. 0 if the finder fits no classifier.
    pub slope: f32,
    /// Intercept of the latent classifier.
    pub intercept: f32,
}

impl Direction {
    /// Normalises `alpha` (`[L, D]` flattened, `layers` = L) to unit length.
    ///
    /// # Errors
    /// [`Error::Invalid`] if alpha is zero, not finite or no multiple of `layers`, or sigma is not positive.
    pub fn new(mut alpha: Vec<f32>, layers: usize, sigma: f32, mean: f32) -> Result<Self> {
        check_finite("direction", &alpha)?;
        if layers == 0 || alpha.is_empty() || !alpha.len().is_multiple_of(layers) {
            return Err(Error::Invalid(format!(
                "direction: {} values do not divide into {layers} layers",
                alpha.len()
            )));
        }
        let norm = alpha.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        if norm == 0.0 {
            return Err(Error::invalid("direction: the zero vector has no direction"));
        }
        if !(sigma.is_finite() && sigma > 0.0 && mean.is_finite()) {
            return Err(Error::Invalid(format!(
                "direction: the codes' spread along it is {sigma} (mean {mean}), expected a positive number"
            )));
        }
        alpha.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
        Ok(Self { alpha, step: None, layers, sigma, mean, slope: 0.0, intercept: 0.0 })
    }
    /// The same classifier, with another vector to move along, of the same space; `sigma` and `mean` are those of the
    /// training codes' projections on it.
    ///
    /// # Errors
    /// As [`Direction::new`], and [`Error::Shape`] for a vector of another length.
    pub fn with_step(self, step: Vec<f32>, sigma: f32, mean: f32) -> Result<Self> {
        if step.len() != self.alpha.len() {
            return Err(Error::Shape {
                what: "step of a direction".into(),
                expected: format!("[{}], as alpha", self.alpha.len()),
                found: vec![step.len()],
            });
        }
        let Self { alpha: step, sigma, mean, .. } = Self::new(step, self.layers, sigma, mean)?;
        Ok(Self { step: Some(step), sigma, mean, ..self })
    }
    /// The unit vector that a shift moves along, `[L, D]` flattened: alpha, or another.
    pub fn step(&self) -> &[f32] {
        self.step.as_deref().unwrap_or(&self.alpha)
    }
    /// True if [`Direction::step`] is another vector than alpha.
    pub fn has_step(&self) -> bool {
        self.step.is_some()
    }
    /// The unit vector, `[L, D]` flattened.
    pub fn alpha(&self) -> &[f32] {
        &self.alpha
    }
    /// L: 1 for W.
    pub fn layers(&self) -> usize {
        self.layers
    }
    /// `<w, alpha>` for each code, in f64 sums.
    ///
    /// # Errors
    /// [`Error::Shape`] if the codes are of another space.
    pub fn project(&self, w: &LatentCodes) -> Result<Vec<f32>> {
        let [n, l, d] = w.shape();
        if l * d != self.alpha.len() {
            return Err(Error::Shape {
                what: "codes to project on the direction".into(),
                expected: format!("[N, {}, {}]", self.layers, self.alpha.len() / self.layers),
                found: vec![n, l, d],
            });
        }
        Ok((0..n)
            .map(|i| {
                w.code(i).iter().zip(&self.alpha).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
                    as f32
            })
            .collect())
    }
    /// The latent classifier c(w), a probability for each code.
    ///
    /// # Errors
    /// [`Error::Shape`] as [`Self::project`]; [`Error::Unsupported`] if the finder fitted no classifier.
    pub fn classify(&self, w: &LatentCodes) -> Result<Vec<f32>> {
        if self.slope == 0.0 {
            return Err(Error::Unsupported("this direction carries no latent classifier".into()));
        }
        let p = self.project(w)?;
        Ok(p.into_iter().map(|p| 1.0 / (1.0 + (-(self.intercept + self.slope * p)).exp())).collect())
    }
    /// `w + λ sigma alpha` for one code (`w.len() == 1`) and S values of λ in units of sigma: `[S, L, D]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `w` is not one code of the direction's space; [`Error::Invalid`] if there is no λ.
    pub fn shift(&self, w: &LatentCodes, lambdas: &[f32]) -> Result<LatentCodes> {
        let [n, l, d] = w.shape();
        if n != 1 || l * d != self.alpha.len() {
            return Err(Error::Shape {
                what: "code to shift".into(),
                expected: format!("[1, {}, {}]", self.layers, self.alpha.len() / self.layers),
                found: vec![n, l, d],
            });
        }
        let steps: Vec<f32> = lambdas.iter().map(|lambda| lambda * self.sigma).collect();
        Shift::new(self.step(), &steps)?.codes(w, l)
    }
}

/// One map `[H, W]` of relevance, raw and signed; only the report scales it for display.
#[derive(Debug, Clone, PartialEq)]
pub struct Heatmap {
    height: usize,
    width: usize,
    data: Vec<f32>,
}

impl Heatmap {
    /// Checks and takes a map.
    ///
    /// # Errors
    /// [`Error::Shape`] if sizes disagree or a side is 0; [`Error::NotFinite`].
    pub fn new(height: usize, width: usize, data: Vec<f32>) -> Result<Self> {
        check_len("heatmap", &data, &[height, width])?;
        if height == 0 || width == 0 {
            return Err(Error::Shape {
                what: "heatmap".into(),
                expected: "[H > 0, W > 0]".into(),
                found: vec![height, width],
            });
        }
        check_finite("heatmap", &data)?;
        Ok(Self { height, width, data })
    }
    /// `(H, W)`.
    pub fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }
    /// Row-major values.
    pub fn as_slice(&self) -> &[f32] {
        &self.data
    }
    /// Smallest and largest raw value.
    pub fn range(&self) -> (f32, f32) {
        self.data.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &v| (a.min(v), b.max(v)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_refuse_nan_and_odd_channels_and_clamp() {
        assert!(matches!(
            Images::new([1, 1, 1, 2], vec![0.0, f32::NAN]),
            Err(Error::NotFinite { index: 1, .. })
        ));
        assert!(matches!(Images::new([1, 2, 1, 1], vec![0.0; 2]), Err(Error::Shape { .. })));
        assert!(matches!(Images::new([1, 1, 2, 2], vec![0.0; 3]), Err(Error::Shape { .. })));
        assert_eq!(Images::new([1, 1, 1, 2], vec![-1.0, 2.0]).unwrap().as_slice(), &[0.0, 1.0]);
    }

    #[test]
    fn channels_follow_bt601() {
        let rgb = Images::new([1, 3, 1, 1], vec![1.0, 0.5, 0.25]).unwrap();
        let grey = rgb.with_channels(1).unwrap();
        assert!((grey.as_slice()[0] - (0.299 + 0.2935 + 0.0285)).abs() < 1e-6);
        assert_eq!(grey.with_channels(3).unwrap().shape(), [1, 3, 1, 1]);
    }

    #[test]
    fn direction_is_unit_and_shifts_by_sigma() {
        let mut d = Direction::new(vec![3.0, 4.0], 1, 2.0, 0.5).unwrap();
        assert_eq!(d.alpha(), &[0.6, 0.8]);
        let w = LatentCodes::new([1, 1, 2], vec![1.0, 1.0]).unwrap();
        let s = d.shift(&w, &[-1.0, 0.0, 0.5]).unwrap();
        assert_eq!(s.code(1), &[1.0, 1.0]);
        assert!((s.code(0)[0] - (1.0 - 1.2)).abs() < 1e-6 && (s.code(2)[1] - 1.8).abs() < 1e-6);
        assert!((d.project(&w).unwrap()[0] - 1.4).abs() < 1e-6);
        assert!(d.classify(&w).is_err());
        (d.slope, d.intercept) = (2.0, -2.8);
        assert!((d.classify(&w).unwrap()[0] - 0.5).abs() < 1e-6);
        assert!(Direction::new(vec![0.0, 0.0], 1, 1.0, 0.0).is_err());
        // Another vector to move along leaves the classifier as it is.
        let before = d.classify(&w).unwrap();
        let d = d.with_step(vec![0.0, 5.0], 3.0, 0.1).unwrap();
        assert_eq!((d.step(), d.alpha(), d.has_step()), (&[0.0, 1.0][..], &[0.6, 0.8][..], true));
        assert_eq!(d.shift(&w, &[2.0]).unwrap().as_slice(), [1.0, 7.0]);
        assert_eq!(d.classify(&w).unwrap(), before);
        assert!(d.clone().with_step(vec![1.0], 1.0, 0.0).unwrap_err().to_string().contains("[2], as alpha"));
        assert!(d.with_step(vec![1.0, 0.0], 0.0, 0.0).is_err());
    }
}

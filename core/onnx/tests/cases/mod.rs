//! Random cases for every gradient rule.
//!
//! A family makes networks around one operator: the input `x` `[N, ...]`, whose batch stays open, a tensor `a` that is a
//! multiple of it, the operator with random sizes and attributes (and its other operands constant or computed from `a`
//! too, so that every input that can have a gradient is tried), and `logits` `[N, K]`. Families run in every operator set
//! in which the operator has another form.

#![allow(dead_code, reason = "coverage is asked once, by one of the test programs")]

mod elementwise;
mod gather;
mod linear;
mod moves;
pub mod net;
mod norm;
mod pool;
mod quant;
mod reduce;
mod resize;

use net::Net;
use shiftlens_onnx::proto::ModelProto;

/// A family of cases.
pub struct Family {
    /// The operator that it is about.
    pub operator: &'static str,
    /// Operator sets that it is written in.
    pub opsets: &'static [i64],
    /// Cases in each of them.
    pub count: u64,
    /// Writes one case, whose result is the tensor `y`.
    pub make: fn(&mut Net),
}

/// A model with images for it.
pub struct Case {
    pub name: String,
    pub model: ModelProto,
    /// Shape of one image.
    pub shape: Vec<usize>,
    /// [`net::SAMPLES`] images.
    pub x: Vec<f32>,
}

impl Family {
    /// Case `index` in operator set `opset`; `attempt` draws another one in its place.
    pub fn case(&self, opset: i64, index: u64, attempt: u64) -> Case {
        // FNV-1a over what identifies the case.
        let words = [opset as u64, index, attempt];
        let bytes = self.operator.bytes().chain(words.iter().flat_map(|w| w.to_le_bytes()));
        let seed =
            bytes.fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let mut net = Net::new(opset, seed);
        (self.make)(&mut net);
        let (model, shape, x, notes) = net.finish();
        let name = format!("{}-{opset} #{index} of {shape:?}, {}", self.operator, notes.join(", "));
        Case { name, model, shape, x }
    }
}

/// Groups of families, each about as long to check as the others.
pub const GROUPS: &[(&str, &[&[Family]])] = &[
    ("elementwise", &[elementwise::UNARY]),
    ("operands", &[elementwise::SEVERAL, quant::FAMILIES]),
    ("linear", &[linear::FAMILIES, norm::FAMILIES]),
    ("windows", &[pool::FAMILIES, resize::FAMILIES]),
    ("reduce", &[reduce::FAMILIES]),
    ("shape", &[moves::FAMILIES, gather::FAMILIES]),
];

/// All families.
pub fn all() -> impl Iterator<Item = &'static Family> {
    GROUPS.iter().flat_map(|(_, parts)| parts.iter().copied().flatten())
}

/// Weights of a case's logits, in [-1.5, 1.5), none of them near 0.
pub fn seed_values(name: &str, count: usize) -> Vec<f32> {
    let mut net = Net::new(0, name.bytes().fold(count as u64, |h, b| h.wrapping_mul(31) ^ u64::from(b)));
    (0..count).map(|_| if net.coin() { net.uniform(0.3, 1.5) } else { net.uniform(-1.5, -0.3) }).collect()
}

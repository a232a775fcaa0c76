//! Warm starts: weights of another training.

use crate::file;
use crate::train::checkpoint;
use candle_core::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// `[start]`: where weights come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StartSection {
    /// A generator's file, trained or imported, or a training's `checkpoint.safetensors`, which has D too. Tensors of the
    /// same name and shape are taken, so that a network of a lower resolution gives the blocks that it has. Relative to the
    /// manifest.
    pub weights: PathBuf,
}

/// Tensors to start from, by name.
pub struct Start {
    pub g: HashMap<String, Tensor>,
    pub ema: HashMap<String, Tensor>,
    /// None of a generator's file.
    pub d: Option<HashMap<String, Tensor>>,
    /// Of a training that had an encoder.
    pub e: Option<HashMap<String, Tensor>>,
}

impl Start {
    /// Reads a file of either kind.
    pub fn read(path: &Path) -> Result<Self> {
        if let Ok((_, all)) = checkpoint::load(path) {
            let [g, d, ema] = ["G", "D", "ema"].map(|prefix| checkpoint::part(&all, prefix));
            if g.is_empty() || ema.is_empty() {
                return Err(Error::Invalid(format!(
                    "start.weights: {}: a checkpoint, but not of a generator's training",
                    path.display()
                )));
            }
            let e = Some(checkpoint::part(&all, "E")).filter(|e| !e.is_empty());
            return Ok(Self { g, ema, d: Some(d), e });
        }
        let (_, g) = file::load_generator(path)?;
        Ok(Self { ema: g.clone(), g, d: None, e: None })
    }
}

/// What became of a network's tensors.
pub struct Taken {
    /// Every tensor of the network: stored where one fits, else as it was.
    pub tensors: HashMap<String, Tensor>,
    /// Names of those that stay as they were.
    pub left: Vec<String>,
}

/// Puts stored tensors in the place of a new network's where name and shape agree.
pub fn take(new: BTreeMap<String, Tensor>, stored: &HashMap<String, Tensor>) -> Taken {
    let mut taken = Taken { tensors: HashMap::new(), left: Vec::new() };
    for (name, t) in new {
        let t = match stored.get(&name) {
            Some(s) if s.dims() == t.dims() => s.clone(),
            _ => {
                taken.left.push(name.clone());
                t.detach()
            }
        };
        taken.tensors.insert(name, t);
    }
    taken
}

impl Taken {
    /// `40 of 44 tensors of G; random: synthesis.b64.conv0, ..`.
    pub fn describe(&self, network: &str) -> String {
        let all = self.tensors.len();
        let mut modules: Vec<&str> =
            self.left.iter().map(|n| n.rsplit_once('.').map_or(n.as_str(), |(module, _)| module)).collect();
        modules.dedup();
        let random =
            if modules.is_empty() { String::new() } else { format!("; new: {}", modules.join(", ")) };
        format!("{} of {all} tensors of {network}{random}", all - self.left.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn tensors_are_taken_by_name_and_shape() {
        let new = |v: f32, n: usize| Tensor::full(v, n, &Device::Cpu).unwrap();
        let network = BTreeMap::from([
            ("b8.a.bias".to_owned(), new(0.0, 2)),
            ("b8.a.weight".to_owned(), new(0.0, 3)),
            ("b16.a.weight".to_owned(), new(0.0, 2)),
        ]);
        let stored = HashMap::from([
            ("b8.a.weight".to_owned(), new(1.0, 3)),
            ("b8.a.bias".to_owned(), new(1.0, 4)),
            ("b4.a.weight".to_owned(), new(1.0, 3)),
        ]);
        let taken = take(network, &stored);
        assert_eq!(taken.tensors["b8.a.weight"].to_vec1::<f32>().unwrap(), [1.0; 3]);
        assert_eq!(taken.tensors["b8.a.bias"].to_vec1::<f32>().unwrap(), [0.0; 2]);
        assert_eq!(taken.left, ["b16.a.weight", "b8.a.bias"]);
        assert_eq!(taken.describe("G"), "1 of 3 tensors of G; new: b16.a, b8.a");
    }
}

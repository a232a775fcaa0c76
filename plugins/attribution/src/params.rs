//! The manifest's `params`.
//!
//! | key | of which method | meaning | left out |
//! | --- | --- | --- | --- |
//! | `method` | | see the crate's page | `integrated-gradients` |
//! | `score` | all | `logit` or `probability` | `logit` for gradients, `probability` for scores alone |
//! | `batch` | all | images per call of the predictor | 16 |
//! | `resize` | all | the predictor's `input.resize`: `bilinear`, `bilinear-plain`, `nearest` | `bilinear` |
//! | `channels` | `saliency`, `smoothgrad` | `sum` (signed) or `max-abs`: how channels become one value | `sum` |
//! | `steps` | `integrated-gradients` | points on the path | 64 |
//! | `baseline` | `integrated-gradients`, `occlusion`, `kernel-shap` | `black`, `white`, `mean`, `blur`, or a value in [0, 1] | `mean` |
//! | `samples` | `smoothgrad` | noisy copies | 32 |
//! | `noise` | `smoothgrad` | standard deviation, as a share of the image's range of values | 0.15 |
//! | `squared` | `smoothgrad` | averages squared gradients | false |
//! | `window`, `stride` | `occlusion` | pixels; a stride is at most a window | 8, half a window |
//! | `masks` | `rise` | random masks | 2000 |
//! | `grid` | `rise` | cells along each side of a mask | 7 |
//! | `probability` | `rise` | chance of a cell to be kept | 0.5 |
//! | `segments` | `kernel-shap` | superpixels aimed at | 30 |
//! | `partition` | `kernel-shap` | `slic` (follows edges) or `grid` (rectangles) | `slic` |
//! | `compactness` | `kernel-shap` | weight of distance against colour in SLIC | 10 |
//! | `samples` | `kernel-shap` | coalitions asked about; all 2^M if they are not more than that | 1024 |

use crate::baseline::Baseline;
use crate::methods::{
    InputXGradient, IntegratedGradients, KernelShap, Method, Occlusion, Rise, Saliency, SmoothGrad,
};
use crate::reduction::Reduction;
use crate::superpixels::Partition;
use serde::de::DeserializeOwned;
use shiftlens_sdk::api::resize::Filter;
use shiftlens_sdk::api::{Error, Result, ScoreKind};
use shiftlens_sdk::serde_json::{Map, Value};

/// Keys of every method.
const COMMON: [&str; 4] = ["method", "score", "batch", "resize"];

/// A method's name, its own keys, and how it is made from them.
struct Entry {
    name: &'static str,
    keys: &'static [&'static str],
    make: fn(&Keys<'_>) -> Result<Box<dyn Method>>,
}

const METHODS: [Entry; 7] = [
    Entry {
        name: "saliency",
        keys: &["channels"],
        make: |k| Ok(Box::new(Saliency { channels: k.named("channels", &["sum", "max-abs"])? })),
    },
    Entry { name: "input-x-gradient", keys: &[], make: |_| Ok(Box::new(InputXGradient)) },
    Entry {
        name: "integrated-gradients",
        keys: &["steps", "baseline"],
        make: |k| {
            Ok(Box::new(IntegratedGradients { steps: k.count("steps", 64, 1)?, baseline: k.baseline()? }))
        },
    },
    Entry {
        name: "smoothgrad",
        keys: &["samples", "noise", "squared", "channels"],
        make: |k| {
            Ok(Box::new(SmoothGrad {
                samples: k.count("samples", 32, 1)?,
                noise: k.number("noise", 0.15, |v| v > 0.0 && v <= 1.0, "in (0, 1]")?,
                squared: k.flag("squared")?,
                channels: k.named::<Reduction>("channels", &["sum", "max-abs"])?,
            }))
        },
    },
    Entry {
        name: "occlusion",
        keys: &["window", "stride", "baseline"],
        make: |k| {
            let window = k.count("window", 8, 1)?;
            let stride = k.count("stride", window.div_ceil(2), 1)?;
            if stride > window {
                return Err(Error::Invalid(format!(
                    "`stride` is {stride}, expected at most the window's {window}: pixels between the windows would \
                     have no value"
                )));
            }
            Ok(Box::new(Occlusion { window, stride, baseline: k.baseline()? }))
        },
    },
    Entry {
        name: "rise",
        keys: &["masks", "grid", "probability"],
        make: |k| {
            Ok(Box::new(Rise {
                masks: k.count("masks", 2000, 1)?,
                grid: k.count("grid", 7, 1)?,
                probability: k.number("probability", 0.5, |v| v > 0.0 && v < 1.0, "in (0, 1)")?,
            }))
        },
    },
    Entry {
        name: "kernel-shap",
        keys: &["segments", "partition", "compactness", "samples", "baseline"],
        make: |k| {
            let partition = match k.word("partition", "slic", &["slic", "grid"])? {
                "grid" if k.0.contains_key("compactness") => {
                    return Err(Error::invalid("`compactness` belongs to partition \"slic\"; leave it out"));
                }
                "grid" => Partition::Grid,
                _ => Partition::Slic {
                    compactness: k.number("compactness", 10.0, |v| v > 0.0 && v.is_finite(), "above 0")?,
                },
            };
            Ok(Box::new(KernelShap {
                segments: k.count("segments", 30, 2)?,
                samples: k.count("samples", 1024, 4)?,
                partition,
                baseline: k.baseline()?,
            }))
        },
    },
];

/// Decoded parameters.
pub struct Params {
    /// The method with its own parameters.
    pub method: Box<dyn Method>,
    /// The scalar that is explained.
    pub score: ScoreKind,
    /// Images per call of the predictor.
    pub batch: usize,
    /// How images are brought to the network's size.
    pub resize: Filter,
}

impl Params {
    /// Checks `value`, a JSON object.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown key, method or name, with the nearest valid one, or a value out of range.
    pub fn new(value: &Value) -> Result<Self> {
        let object = value
            .as_object()
            .ok_or_else(|| Error::Invalid(format!("attribution: params: expected a table, found {value}")))?;
        Self::decode(&Keys(object)).map_err(|e| match e {
            Error::Invalid(message) => Error::Invalid(format!("attribution: params: {message}")),
            e => e,
        })
    }

    fn decode(keys: &Keys<'_>) -> Result<Self> {
        let names = METHODS.each_ref().map(|m| m.name);
        let name = keys.word("method", "integrated-gradients", &names)?;
        let entry = METHODS
            .iter()
            .find(|m| m.name == name)
            .ok_or_else(|| Error::Invalid(format!("`method` is \"{name}\"; {}", suggest(name, &names))))?;
        let known: Vec<&str> = COMMON.iter().chain(entry.keys).copied().collect();
        if let Some(key) = keys.0.keys().find(|k| !known.contains(&k.as_str())) {
            let others: Vec<&str> =
                METHODS.iter().filter(|m| m.keys.contains(&key.as_str())).map(|m| m.name).collect();
            let whose = if others.is_empty() {
                String::new()
            } else {
                format!(" (it is one of {})", others.join(", "))
            };
            return Err(Error::Invalid(format!(
                "unknown key `{key}` for method \"{name}\"{whose}; {}",
                suggest(key, &known)
            )));
        }
        let method = (entry.make)(keys)?;
        let usual = if method.needs_gradients() { "logit" } else { "probability" };
        let score = match keys.word("score", usual, &["logit", "probability"])? {
            "probability" => ScoreKind::Probability,
            _ => ScoreKind::Logit,
        };
        let resize = keys.named("resize", &["bilinear", "bilinear-plain", "nearest"])?;
        Ok(Self { method, score, batch: keys.count("batch", 16, 1)?, resize })
    }
}

/// The object, read key by key.
struct Keys<'a>(&'a Map<String, Value>);

impl Keys<'_> {
    fn count(&self, key: &str, default: usize, min: usize) -> Result<usize> {
        let Some(value) = self.0.get(key) else { return Ok(default) };
        value.as_u64().and_then(|v| usize::try_from(v).ok()).filter(|v| *v >= min).ok_or_else(|| {
            Error::Invalid(format!("`{key}` is {value}, expected a whole number of at least {min}"))
        })
    }
    fn number(&self, key: &str, default: f64, fits: fn(f64) -> bool, expected: &str) -> Result<f64> {
        let Some(value) = self.0.get(key) else { return Ok(default) };
        value
            .as_f64()
            .filter(|v| fits(*v))
            .ok_or_else(|| Error::Invalid(format!("`{key}` is {value}, expected a number {expected}")))
    }
    fn flag(&self, key: &str) -> Result<bool> {
        let Some(value) = self.0.get(key) else { return Ok(false) };
        value.as_bool().ok_or_else(|| Error::Invalid(format!("`{key}` is {value}, expected true or false")))
    }
    /// One of `valid`.
    fn word<'a>(&'a self, key: &str, default: &'a str, valid: &[&str]) -> Result<&'a str> {
        match self.0.get(key) {
            None => Ok(default),
            Some(Value::String(s)) if valid.contains(&s.as_str()) => Ok(s),
            Some(Value::String(s)) => {
                Err(Error::Invalid(format!("`{key}` is \"{s}\"; {}", suggest(s, valid))))
            }
            Some(other) => {
                Err(Error::Invalid(format!("`{key}` is {other}, expected one of: {}", valid.join(", "))))
            }
        }
    }
    /// One of `valid`, as the enumeration whose variants they name; the first of them is its default.
    fn named<T: DeserializeOwned + Default>(&self, key: &str, valid: &[&str]) -> Result<T> {
        let Some(value) = self.0.get(key) else { return Ok(T::default()) };
        self.word(key, "", valid)?;
        T::deserialize(value).map_err(|e| Error::Invalid(format!("`{key}`: {e}")))
    }
    fn baseline(&self) -> Result<Baseline> {
        self.0.get("baseline").map_or(Ok(Baseline::default()), Baseline::new)
    }
}

/// `did you mean X? expected one of: a, b, c`, without the first part where nothing is near.
pub(crate) fn suggest(found: &str, valid: &[&str]) -> String {
    let fold = |s: &str| s.to_lowercase().replace('_', "-");
    let wanted = fold(found);
    let near = valid
        .iter()
        .map(|v| (strsim::osa_distance(&wanted, &fold(v)), v))
        .min_by_key(|(d, _)| *d)
        .filter(|(d, v)| *d <= (v.len().max(wanted.len()) / 3).max(2) && *d < v.len());
    let list = valid.join(", ");
    match near {
        Some((_, near)) => format!("did you mean `{near}`? expected one of: {list}"),
        None => format!("expected one of: {list}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shiftlens_sdk::serde_json::json;

    fn error(value: Value) -> String {
        Params::new(&value).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn everything_has_a_default() {
        let params = Params::new(&json!({})).unwrap();
        assert_eq!((params.method.title(), params.batch), ("Integrated gradients", 16));
        for entry in &METHODS {
            let params = Params::new(&json!({ "method": entry.name })).unwrap();
            let usual =
                if params.method.needs_gradients() { ScoreKind::Logit } else { ScoreKind::Probability };
            assert_eq!(params.score, usual, "{}", entry.name);
        }
        let white: Vec<&str> = METHODS
            .iter()
            .map(|e| e.name)
            .filter(|n| ["occlusion", "rise", "kernel-shap"].contains(n))
            .collect();
        for name in white {
            assert!(!Params::new(&json!({ "method": name })).unwrap().method.needs_gradients(), "{name}");
        }
    }

    #[test]
    fn mistakes_are_answered_with_the_nearest_name() {
        for (value, words) in [
            (json!({"method": "ocllusion"}), &["did you mean `occlusion`?"][..]),
            (json!({"method": "kernel_shap"}), &["did you mean `kernel-shap`?"]),
            (json!({"method": "lime"}), &["expected one of: saliency, input-x-gradient"]),
            (json!({"method": 3}), &["`method` is 3"]),
            (json!({"step": 3}), &["unknown key `step`", "did you mean `steps`?"]),
            (json!({"method": "saliency", "window": 3}), &["`window`", "it is one of occlusion"]),
            (json!({"method": "saliency", "channels": "max_abs"}), &["did you mean `max-abs`?"]),
            (json!({"score": "logits"}), &["did you mean `logit`?"]),
            (json!({"resize": "linear"}), &["`resize` is \"linear\"", "bilinear-plain"]),
            (json!({"steps": 0}), &["`steps` is 0, expected a whole number of at least 1"]),
            (json!({"batch": -1}), &["`batch` is -1"]),
            (json!({"baseline": 1.5}), &["`baseline` is 1.5", "[0, 1]"]),
            (json!({"method": "occlusion", "window": 4, "stride": 5}), &["`stride` is 5", "window's 4"]),
            (
                json!({"method": "rise", "probability": 1}),
                &["`probability` is 1, expected a number in (0, 1)"],
            ),
            (json!({"method": "smoothgrad", "noise": 0}), &["`noise` is 0"]),
            (json!({"method": "smoothgrad", "squared": 1}), &["`squared` is 1, expected true or false"]),
            (json!({"method": "kernel-shap", "segments": 1}), &["`segments` is 1", "at least 2"]),
            (
                json!({"method": "kernel-shap", "partition": "grid", "compactness": 1}),
                &["`compactness` belongs to partition \"slic\""],
            ),
            (json!(["saliency"]), &["expected a table"]),
        ] {
            let message = error(value.clone());
            assert!(words.iter().all(|w| message.contains(w)), "{value}: {message}");
            assert!(message.starts_with("attribution: params: "), "{message}");
        }
    }
}

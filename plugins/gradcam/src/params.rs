//! The manifest's `params`.

use crate::api::{Error, Result, ScoreKind};
use crate::layout::{Order, Reading};
use crate::method::{METHODS, Method, Needs};
use crate::nearest::suggest;
use shiftlens_sdk::serde_json::Value;

/// A class, as the manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(untagged)]
pub enum Class {
    /// Column of the scores.
    Index(usize),
    /// Its name.
    Name(String),
}

/// The classes that Finer-CAM compares the target with.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(untagged)]
pub enum References {
    /// So many classes whose scores are nearest to the target's, image by image.
    Nearest(usize),
    /// These, for all images.
    Listed(Vec<Class>),
}

/// What the crate's documentation lists, checked. Everything has a default.
#[derive(Clone)]
pub struct Params {
    /// Which member of the family.
    pub method: &'static dyn Method,
    /// Names of the layers' tensors; empty for the predictor's default layer.
    pub layers: Vec<String>,
    /// The scalar to differentiate or to look at.
    pub score: ScoreKind,
    /// How layers are read as maps.
    pub reading: Reading,
    /// Most images or variants in one call of f, at least 1.
    pub batch: usize,
    /// How much of the reference classes Finer-CAM takes off.
    pub alpha: f64,
    /// Finer-CAM's reference classes.
    pub references: References,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    method: Option<String>,
    layer: Option<String>,
    layers: Option<Vec<String>>,
    score: Option<String>,
    layout: Option<String>,
    grid: Option<[usize; 2]>,
    leading_tokens: Option<usize>,
    batch: Option<usize>,
    alpha: Option<f64>,
    references: Option<Value>,
}

const KEYS: [&str; 10] = [
    "method",
    "layer",
    "layers",
    "score",
    "layout",
    "grid",
    "leading-tokens",
    "batch",
    "alpha",
    "references",
];
/// Most rows or columns of tokens.
const LARGEST_GRID: usize = 1 << 16;

impl Params {
    /// Checks `value`, a JSON object.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown key, method or score kind, with the nearest valid name; for a key that the
    /// method has no use for; for a value out of its domain.
    pub fn new(value: &Value) -> Result<Self> {
        if let Some(key) = value.as_object().and_then(|o| o.keys().find(|k| !KEYS.contains(&k.as_str()))) {
            return Err(Error::Invalid(format!(
                "gradcam: params: unknown key `{key}`; {}",
                suggest(key, &KEYS)
            )));
        }
        let raw: Raw = shiftlens_sdk::params(value)?;
        let method = raw.method.as_deref().unwrap_or("gradcam");
        let method = *METHODS.iter().find(|m| m.name() == method).ok_or_else(|| {
            let hint = suggest(method, &METHODS.map(|m| m.name()));
            Error::Invalid(format!("gradcam: params.method: unknown method `{method}`; {hint}"))
        })?;
        let only = |given: bool, key: &str, use_of: fn(Needs) -> bool, what: &str| match given
            && !use_of(method.needs())
        {
            true => Err(Error::Invalid(format!(
                "gradcam: params.{key} is of {what}, `{}` has no use for it",
                method.name()
            ))),
            false => Ok(()),
        };
        only(raw.alpha.is_some(), "alpha", |n| n == Needs::Contrast, "finercam")?;
        only(raw.references.is_some(), "references", |n| n == Needs::Contrast, "finercam")?;
        let batched = |n| matches!(n, Needs::MaskedScores | Needs::AblatedScores);
        only(raw.batch.is_some(), "batch", batched, "scorecam and ablationcam")?;
        Ok(Self {
            method,
            layers: layers(raw.layer, raw.layers)?,
            score: named(
                "score",
                raw.score,
                &[("logit", ScoreKind::Logit), ("probability", ScoreKind::Probability)],
            )?
            .unwrap_or(ScoreKind::Logit),
            reading: Reading {
                order: named(
                    "layout",
                    raw.layout,
                    &[("nchw", Order::ChannelsFirst), ("nhwc", Order::ChannelsLast)],
                )?,
                grid: raw.grid.map(grid).transpose()?,
                leading: raw.leading_tokens,
            },
            batch: match raw.batch {
                Some(0) => return Err(Error::invalid("gradcam: params.batch: 0, expected at least 1")),
                n => n.unwrap_or(32),
            },
            alpha: match raw.alpha.unwrap_or(0.6) {
                a if a.is_finite() && a >= 0.0 => a,
                a => {
                    return Err(Error::Invalid(format!(
                        "gradcam: params.alpha: {a}, expected a number from 0 up"
                    )));
                }
            },
            references: references(raw.references)?,
        })
    }
}

/// The value that `found` names.
fn named<T: Copy>(key: &str, found: Option<String>, valid: &[(&str, T)]) -> Result<Option<T>> {
    let Some(found) = found else { return Ok(None) };
    let names: Vec<&str> = valid.iter().map(|(name, _)| *name).collect();
    match valid.iter().find(|(name, _)| *name == found) {
        Some((_, value)) => Ok(Some(*value)),
        None => Err(Error::Invalid(format!(
            "gradcam: params.{key}: unknown value `{found}`; {}",
            suggest(&found, &names)
        ))),
    }
}

fn layers(one: Option<String>, several: Option<Vec<String>>) -> Result<Vec<String>> {
    let names = match (one, several) {
        (Some(_), Some(_)) => {
            return Err(Error::invalid(
                "gradcam: params.layer and params.layers are both given, expected one of them",
            ));
        }
        (Some(name), None) => vec![name],
        (None, Some(names)) if names.is_empty() => {
            return Err(Error::invalid("gradcam: params.layers: an empty list, expected at least one layer"));
        }
        (None, Some(names)) => names,
        (None, None) => Vec::new(),
    };
    if names.iter().any(String::is_empty) {
        return Err(Error::invalid(
            "gradcam: params.layers: an empty name; leave the key out for the default layer",
        ));
    }
    if let Some((i, twice)) = names.iter().enumerate().find(|(i, n)| names[..*i].contains(n)) {
        return Err(Error::Invalid(format!("gradcam: params.layers: `{twice}` stands at {i} and before")));
    }
    Ok(names)
}

fn grid([rows, columns]: [usize; 2]) -> Result<(usize, usize)> {
    if [rows, columns].iter().any(|n| !(1..=LARGEST_GRID).contains(n)) {
        return Err(Error::Invalid(format!(
            "gradcam: params.grid: [{rows}, {columns}], expected [rows, columns] from 1 to {LARGEST_GRID}"
        )));
    }
    Ok((rows, columns))
}

fn references(value: Option<Value>) -> Result<References> {
    let Some(value) = value else { return Ok(References::Nearest(3)) };
    let expected = "expected the number of nearest classes, or a list of classes by index or name";
    let wrong = |why: &str| Error::Invalid(format!("gradcam: params.references: {why}, {expected}"));
    match shiftlens_sdk::params(&value) {
        Ok(References::Nearest(0)) => Err(wrong("0")),
        Ok(References::Listed(list)) if list.is_empty() => Err(wrong("an empty list")),
        Ok(references) => Ok(references),
        Err(_) => Err(wrong(&value.to_string())),
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
        assert_eq!((params.method.name(), params.score, params.batch), ("gradcam", ScoreKind::Logit, 32));
        assert!(params.layers.is_empty() && params.reading == Reading::default());
        assert_eq!((params.alpha, params.references), (0.6, References::Nearest(3)));
    }

    #[test]
    fn everything_can_be_said() {
        let params =
            Params::new(&json!({"method": "gradcam++", "layer": "relu5", "score": "probability"})).unwrap();
        assert_eq!((params.method.title(), &params.layers[..]), ("Grad-CAM++", &["relu5".to_owned()][..]));
        assert_eq!(params.score, ScoreKind::Probability);
        let params = Params::new(&json!({
            "method": "finercam", "layers": ["a", "b"], "alpha": 1, "references": [0, "cat"], "grid": [3, 4],
            "leading-tokens": 5,
        }))
        .unwrap();
        assert_eq!((params.layers.len(), params.alpha), (2, 1.0));
        assert_eq!(params.references, References::Listed(vec![Class::Index(0), Class::Name("cat".into())]));
        assert_eq!(params.reading, Reading { order: None, grid: Some((3, 4)), leading: Some(5) });
        let params = Params::new(&json!({"method": "scorecam", "batch": 7, "layout": "nhwc"})).unwrap();
        assert_eq!((params.batch, params.reading.order), (7, Some(Order::ChannelsLast)));
    }

    #[test]
    fn mistakes_are_answered_with_the_nearest_name() {
        assert!(error(json!({"methd": "gradcam"})).contains("`methd`; did you mean `method`?"));
        assert!(error(json!({"leading_tokens": 1})).contains("did you mean `leading-tokens`?"));
        assert!(error(json!({"method": "GradCAMpp"})).contains("did you mean `gradcam"));
        assert!(error(json!({"method": "layer-cam"})).contains("did you mean `layercam`?"));
        assert!(error(json!({"method": "banana"})).contains("expected one of: gradcam, hirescam"));
        assert!(error(json!({"score": "logits"})).contains("did you mean `logit`?"));
        assert!(error(json!({"layout": "NHWC"})).contains("did you mean `nhwc`?"));
        assert!(
            error(json!({"layer": 7})).contains("layer") || error(json!({"layer": 7})).contains("string")
        );
        assert!(error(json!("gradcam")).contains("params"));
    }

    #[test]
    fn values_out_of_their_domain_and_keys_without_use_are_refused() {
        for (params, words) in [
            (json!({"layer": "a", "layers": ["b"]}), "both given"),
            (json!({"layers": []}), "empty list"),
            (json!({"layers": ["a", ""]}), "empty name"),
            (json!({"layers": ["a", "b", "a"]}), "`a` stands at 2"),
            (json!({"grid": [0, 4]}), "[0, 4]"),
            (json!({"grid": [4]}), "length"),
            (json!({"method": "scorecam", "batch": 0}), "params.batch: 0"),
            (json!({"method": "finercam", "alpha": -1}), "params.alpha: -1"),
            (json!({"method": "finercam", "references": 0}), "params.references: 0"),
            (json!({"method": "finercam", "references": []}), "empty list"),
            (json!({"method": "finercam", "references": "cat"}), "params.references: \"cat\""),
            (json!({"alpha": 0.5}), "params.alpha is of finercam, `gradcam` has no use for it"),
            (json!({"references": 2}), "params.references is of finercam"),
            (json!({"method": "eigencam", "batch": 4}), "params.batch is of scorecam and ablationcam"),
        ] {
            let text = error(params.clone());
            assert!(text.contains(words), "{params}: {text}");
        }
    }
}

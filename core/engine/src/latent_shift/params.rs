//! `params` of `kind = "latent-shift"`.

use super::{Layers, MAX_RANGE};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use shiftlens_api::{Error, Result};

/// Scores that are searched for where the manifest names none.
const LEVELS: [f32; 5] = [0.1, 0.25, 0.5, 0.75, 0.9];
/// How far they are searched for, in units of sigma, where the manifest does not say.
const LIMIT: f32 = 4.0;
/// Pictures in a series where the manifest does not say.
const STEPS: usize = 9;

/// What the explainer is told.
#[derive(Debug, Clone, PartialEq)]
pub struct LatentShiftParams {
    /// Pictures in the series; odd, at least 3. Without meaning for [`Range::Levels`].
    pub steps: usize,
    /// From where to where.
    pub range: Range,
    /// Scores of the target class that are searched for, ascending.
    pub levels: Vec<f32>,
    /// How far they are searched for on both sides of 0, in units of sigma.
    pub limit: f32,
    /// Score of the target class at which f changes its mind.
    pub threshold: f32,
    /// Which of the generator's style inputs the shift edits.
    pub layers: Layers,
}

/// From where to where λ goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Range {
    /// Chosen for each image so that f crosses the threshold if it can.
    Calibrated,
    /// `-r ..= r` in units of σ.
    Fixed(f32),
    /// The λ of the levels that are reached, and 0.
    Levels,
}

impl Default for LatentShiftParams {
    fn default() -> Self {
        Self {
            steps: STEPS,
            range: Range::Calibrated,
            levels: LEVELS.to_vec(),
            limit: LIMIT,
            threshold: 0.5,
            layers: Layers::All,
        }
    }
}

/// `params` of `kind = "latent-shift"`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LatentShiftParams")]
pub(crate) struct Keys {
    /// Pictures in the series, odd; not with range = "levels", which has a picture for each level.
    #[schemars(range(min = 3), extend("not" = { "multipleOf": 2 }, "default" = STEPS))]
    steps: Option<usize>,
    /// From where to where: "calibrated", such that f changes its mind well inside; "levels", the pictures at which f reaches
    /// them; or how far to either side, in units of sigma.
    #[serde(default)]
    #[schemars(schema_with = "range_schema", extend("default" = "calibrated"))]
    range: Option<serde_json::Value>,
    /// Scores of f that are searched for along the direction, both ways.
    #[schemars(length(min = 1, max = 32), extend("default" = LEVELS))]
    levels: Option<Vec<f32>>,
    /// How far they are searched for, in units of sigma.
    #[schemars(range(min = 1, max = 4.0 * MAX_RANGE), extend("default" = LIMIT))]
    limit: Option<f32>,
    /// Style inputs of the generator that are edited.
    #[schemars(with = "Option<Layers>", extend("default" = "all"))]
    layers: Option<serde_json::Value>,
}

fn range_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [
            { "type": "string", "enum": ["calibrated", "levels"] },
            { "type": "number", "exclusiveMinimum": 0 },
        ],
    })
}

impl LatentShiftParams {
    /// Decodes and checks `params`; the threshold is the study's.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown key or a value out of range.
    pub fn from_json(params: &serde_json::Value, threshold: f32) -> Result<Self> {
        let raw: Keys = crate::registry::decode(params)?;
        let steps = raw.steps.unwrap_or(STEPS);
        if steps < 3 || steps.is_multiple_of(2) {
            return Err(Error::Invalid(format!(
                "`steps` is {steps}, expected an odd number of at least 3, so that the middle picture is λ = 0 (try {})",
                (steps + 1).max(3)
            )));
        }
        let range = match &raw.range {
            None => Range::Calibrated,
            Some(serde_json::Value::String(s)) if s == "calibrated" => Range::Calibrated,
            Some(serde_json::Value::String(s)) if s == "levels" => Range::Levels,
            Some(v) => match v.as_f64() {
                Some(r) if r.is_finite() && r > 0.0 => Range::Fixed(r as f32),
                _ => {
                    return Err(Error::Invalid(format!(
                        "`range` is {v}, expected \"calibrated\", \"levels\", or a positive number in units of sigma"
                    )));
                }
            },
        };
        if range == Range::Levels && raw.steps.is_some() {
            return Err(Error::invalid(
                "`steps` does not apply to range = \"levels\", which has a picture for each level",
            ));
        }
        let mut levels = raw.levels.unwrap_or_else(|| LEVELS.to_vec());
        if levels.is_empty() || levels.len() > 32 || levels.iter().any(|l| !l.is_finite()) {
            return Err(Error::Invalid(format!(
                "`levels` has {} entries, expected 1 to 32 finite scores",
                levels.len()
            )));
        }
        levels.sort_by(f32::total_cmp);
        levels.dedup();
        let limit = raw.limit.unwrap_or(LIMIT);
        if !(1.0..=4.0 * MAX_RANGE).contains(&limit) {
            return Err(Error::Invalid(format!(
                "`limit` is {limit}, expected a number from 1 to {} in units of sigma",
                4.0 * MAX_RANGE
            )));
        }
        let layers = raw.layers.as_ref().map_or(Ok(Layers::All), Layers::from_json)?;
        Ok(Self { steps, range, levels, limit, threshold, layers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(s: &str) -> Result<LatentShiftParams> {
        LatentShiftParams::from_json(&serde_json::from_str(s).unwrap(), 0.5)
    }

    #[test]
    fn parameters_are_checked() {
        assert_eq!(from("{}").unwrap(), LatentShiftParams::default());
        assert_eq!(from(r#"{"range": 3}"#).unwrap().range, Range::Fixed(3.0));
        assert_eq!(from(r#"{"range": "levels"}"#).unwrap().range, Range::Levels);
        assert_eq!(from(r#"{"levels": [0.8, 0.2, 0.8]}"#).unwrap().levels, [0.2, 0.8]);
        assert_eq!(from(r#"{"layers": [4, 7]}"#).unwrap().layers, Layers::Between(4, 7));
        assert_eq!(from(r#"{"layers": "fine"}"#).unwrap().layers, Layers::Fine);
        for (bad, words) in [
            (r#"{"steps": 8}"#, "try 9"),
            (r#"{"range": "auto"}"#, "\"calibrated\", \"levels\""),
            (r#"{"range": "levels", "steps": 5}"#, "`steps` does not apply"),
            (r#"{"levels": []}"#, "`levels` has 0 entries"),
            (r#"{"limit": 0.5}"#, "`limit` is 0.5"),
            (r#"{"layers": "finer"}"#, "did you mean `fine`"),
            (r#"{"stepz": 8}"#, "unknown field `stepz`"),
        ] {
            let message = from(bad).unwrap_err().to_string();
            assert!(message.contains(words), "{bad}: {message}");
        }
    }
}

//! Which style inputs a shift edits.

use crate::nearest::suggest;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use shiftlens_api::{Error, Result};
use std::borrow::Cow;
use std::ops::Range;

/// The names of groups of style inputs.
const NAMES: [(&str, Layers); 4] =
    [("all", Layers::All), ("coarse", Layers::Coarse), ("middle", Layers::Middle), ("fine", Layers::Fine)];

/// Which of a generator's L style inputs, from coarse to fine, are edited.
///
/// The names are those of Karras et al. 2019 (arXiv 1812.04948), section 3.1: coarse styles act at 4 x 4 and 8 x 8
/// pixels, middle ones at 16 x 16 and 32 x 32, fine ones from 64 x 64 on. With two inputs per resolution these are 0 to
/// 3, 4 to 7, and the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layers {
    /// All, the paper's shift.
    #[default]
    All,
    /// 4 x 4 and 8 x 8 pixels.
    Coarse,
    /// 16 x 16 and 32 x 32 pixels.
    Middle,
    /// From 64 x 64 pixels on.
    Fine,
    /// From the first to the last, both included, counted from 0.
    Between(usize, usize),
}

impl Layers {
    /// Decodes a name or `[first, last]`.
    pub(crate) fn from_json(value: &serde_json::Value) -> Result<Self> {
        if let Some(name) = value.as_str() {
            return NAMES.iter().find(|(n, _)| *n == name).map(|(_, l)| *l).ok_or_else(|| {
                let help = suggest(name, &NAMES.map(|(n, _)| n));
                Error::Invalid(format!("`layers` is \"{name}\": {help}, or [first, last] counted from 0"))
            });
        }
        let ends =
            value.as_array().map(|a| a.iter().map(serde_json::Value::as_u64).collect::<Option<Vec<_>>>());
        match ends.flatten().as_deref() {
            Some(&[first, last]) if first <= last && last < 1 << 16 => {
                Ok(Self::Between(first as usize, last as usize))
            }
            _ => Err(Error::Invalid(format!(
                "`layers` is {value}, expected \"all\", \"coarse\", \"middle\", \"fine\", or [first, last] with \
                 first <= last, counted from 0"
            ))),
        }
    }

    /// The style inputs edited of a generator that has `latent_layers`; `None` for all.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it does not have them.
    pub fn of(self, latent_layers: usize) -> Result<Option<Range<usize>>> {
        let span = match self {
            Self::All => return Ok(None),
            Self::Coarse => 0..4,
            Self::Middle => 4..8,
            Self::Fine => 8..latent_layers.max(8),
            Self::Between(first, last) => first..last + 1,
        };
        if span.is_empty() || span.end > latent_layers {
            let (inputs, are) = match latent_layers {
                1 => ("one style input".to_owned(), "`layers` = \"all\" alone applies".to_owned()),
                n => (format!("{n} style inputs"), format!("numbered 0 to {}", n - 1)),
            };
            return Err(Error::Invalid(format!(
                "`layers` asks for {self}, but the generator has {inputs}, {are}"
            )));
        }
        Ok(Some(span))
    }
}

impl<'de> Deserialize<'de> for Layers {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        Self::from_json(&serde_json::Value::deserialize(d)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for Layers {
    fn schema_name() -> Cow<'static, str> {
        "Layers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let place = json_schema!({ "type": "integer", "minimum": 0, "maximum": (1 << 16) - 1 });
        json_schema!({
            "description": "Style inputs of the generator: coarse ones act at 4 to 8 pixels, middle ones at 16 to 32, fine \
                            ones from 64 on; [first, last] counts from 0, both included.",
            "anyOf": [
                { "type": "string", "enum": NAMES.map(|(name, _)| name) },
                { "type": "array", "items": place, "minItems": 2, "maxItems": 2 },
            ],
        })
    }
}

impl std::fmt::Display for Layers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("all style inputs"),
            Self::Coarse => f.write_str("coarse (style inputs 0 to 3)"),
            Self::Middle => f.write_str("middle (style inputs 4 to 7)"),
            Self::Fine => f.write_str("fine (style inputs from 8 on)"),
            Self::Between(first, last) => write!(f, "style inputs {first} to {last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Result<Layers> {
        Layers::from_json(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn names_follow_the_resolutions() {
        // 18 inputs are a generator of 1024 pixels, 8 one of 32 pixels.
        assert_eq!(from("\"all\"").unwrap().of(18).unwrap(), None);
        assert_eq!(from("\"coarse\"").unwrap().of(18).unwrap(), Some(0..4));
        assert_eq!(from("\"middle\"").unwrap().of(8).unwrap(), Some(4..8));
        assert_eq!(from("\"fine\"").unwrap().of(18).unwrap(), Some(8..18));
        assert_eq!(from("[2, 2]").unwrap().of(8).unwrap(), Some(2..3));
        assert_eq!(from("[0, 0]").unwrap().of(1).unwrap(), Some(0..1));
    }

    #[test]
    fn misfits_say_what_there_is() {
        let message = |l: Layers, n| l.of(n).unwrap_err().to_string();
        assert!(message(Layers::Fine, 8).contains("8 style inputs, numbered 0 to 7"));
        assert!(
            message(Layers::Between(4, 10), 10).contains("style inputs 4 to 10, but the generator has 10")
        );
        assert!(message(Layers::Coarse, 1).contains("one style input"));
        assert!(from("\"course\"").unwrap_err().to_string().contains("did you mean `coarse`?"));
        for bad in ["[3, 2]", "[1]", "[0, 1, 2]", "[-1, 2]", "4", "[0.5, 2]", "[0, 99999999999]"] {
            assert!(from(bad).unwrap_err().to_string().contains("[first, last]"), "{bad}");
        }
    }
}

//! From stored values to brightness.
//!
//! The formulas of windows are those of DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3.

use crate::Said;
use crate::nearest::suggest;
use crate::pixels::Pixels;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Serialize, Serializer};

/// Which stored values are black and white. In a manifest a name (`"file"`, `"full"`, `"minmax"`, `"percentile"`) or a
/// table (`{ low, high }`, `{ centre, width, function }`, `{ percentile = [a, b] }`). Values are counted as the file stores
/// them: 0 to 255 or 65535, in DICOM after rescaling (Hounsfield units for CT).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Window {
    /// What the file says (DICOM: its first window, else its lookup table), else [`Window::Full`].
    #[default]
    File,
    /// The whole range of the type of pixel, whatever the file says.
    Full,
    /// From the smallest to the largest value of each image.
    MinMax,
    /// From one percentile of each image's values to another, interpolated linearly between ranks.
    Percentile {
        /// That of black, from 0.
        low: f64,
        /// That of white, to 100.
        high: f64,
    },
    /// From one value to another.
    Range {
        /// Black, and all below.
        low: f64,
        /// White, and all above.
        high: f64,
    },
    /// A window as radiology sets it.
    Level {
        /// The value in the middle.
        centre: f64,
        /// How many values there are from black to white.
        width: f64,
        /// What lies between.
        function: VoiFunction,
    },
}

/// How brightness rises within a window: the defined terms of `VOILUTFunction` (0028,1056).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VoiFunction {
    /// `(x - (c - 0.5)) / (w - 1) + 0.5`: w counts whole values.
    #[default]
    Linear,
    /// `(x - c) / w + 0.5`.
    LinearExact,
    /// `1 / (1 + exp(-4 (x - c) / w))`.
    Sigmoid,
}

impl VoiFunction {
    /// Refuses a width that the formula has no meaning for.
    pub(crate) fn check(self, width: f64) -> Said<()> {
        let ok = if self == Self::Linear { width >= 1.0 } else { width > 0.0 };
        if ok && width.is_finite() {
            return Ok(());
        }
        let least = if self == Self::Linear { "at least 1" } else { "more than 0" };
        Err(format!("the window's width is {width}, expected {least}"))
    }
}

/// A function from values to brightness in [0, 1].
#[derive(Debug, Clone, PartialEq)]
pub enum Curve {
    /// From black at the first to white at the second value, which is larger.
    Range(f64, f64),
    /// Centre, width (checked) and shape.
    Window(f64, f64, VoiFunction),
    /// Brightness of the whole numbers from the first one on; those outside take the nearest.
    Table(i64, Vec<f32>),
}

impl Curve {
    fn at(&self, x: f64) -> f64 {
        match self {
            Self::Range(low, high) => ((x - low) / (high - low)).clamp(0.0, 1.0),
            Self::Window(c, w, VoiFunction::Linear) => {
                let (middle, half) = (c - 0.5, (w - 1.0) / 2.0);
                if x <= middle - half {
                    0.0
                } else if x > middle + half {
                    1.0
                } else {
                    (x - middle) / (w - 1.0) + 0.5
                }
            }
            Self::Window(c, w, VoiFunction::LinearExact) => ((x - c) / w + 0.5).clamp(0.0, 1.0),
            Self::Window(c, w, VoiFunction::Sigmoid) => 1.0 / (1.0 + (-4.0 * (x - c) / w).exp()),
            Self::Table(first, table) => f64::from(table_at(*first, table, x)),
        }
    }
}

/// The entry of a table for `x`, whose first entry is that of `first`. The table is not empty.
pub fn table_at(first: i64, table: &[f32], x: f64) -> f32 {
    let index = (x.round() as i64).saturating_sub(first).clamp(0, table.len() as i64 - 1);
    table[index as usize]
}

impl Window {
    /// True for what is assumed where nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::File
    }

    fn checked(self) -> Said<Self> {
        match self {
            Self::Level { centre, width, function } if centre.is_finite() => function.check(width)?,
            Self::Level { centre, .. } => return Err(format!("`centre` is {centre}, expected a number")),
            Self::Range { low, high } if !(low < high && (high - low).is_finite()) => {
                return Err(format!(
                    "`low` is {low} and `high` is {high}, expected a lower and a higher number"
                ));
            }
            Self::Percentile { low, high } if !(0.0 <= low && low < high && high <= 100.0) => {
                return Err(format!(
                    "`percentile` is [{low}, {high}], expected two rising numbers from 0 to 100"
                ));
            }
            _ => {}
        }
        Ok(self)
    }

    /// The function for one image.
    fn curve(self, pixels: &Pixels) -> Said<Curve> {
        if pixels.channels != 1 && !matches!(self, Self::File | Self::Full) {
            return Err(format!("`window` is for grey images, this one has {} channels", pixels.channels));
        }
        let full = || match pixels.full {
            Some((low, high)) => Ok(Curve::Range(low, high)),
            None => Err(String::from(
                "pixels of this type have no range of their own: set `window`, for example to \"minmax\" or { low = 0, \
                 high = 4095 }",
            )),
        };
        let between = |low: f32, high: f32, what: &str| {
            if low < high {
                Ok(Curve::Range(low.into(), high.into()))
            } else {
                Err(format!("window {what}: {low} is black and white at once, the image shows nothing"))
            }
        };
        match self {
            Self::File => match pixels.own.clone() {
                Ok(Some(curve)) => Ok(curve),
                Ok(None) => full(),
                Err(e) => Err(format!("{e}; set `window` to say otherwise")),
            },
            Self::Full => full(),
            Self::MinMax => {
                let extremes = pixels
                    .values
                    .iter()
                    .fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
                between(extremes.0, extremes.1, "\"minmax\"")
            }
            Self::Percentile { low, high } => {
                let mut values = pixels.values.clone();
                let (a, b) = (percentile(&mut values, low), percentile(&mut values, high));
                between(a, b, &format!("from percentile {low} to {high}"))
            }
            Self::Range { low, high } => Ok(Curve::Range(low, high)),
            Self::Level { centre, width, function } => Ok(Curve::Window(centre, width, function)),
        }
    }

    /// Brightness of every value, in place.
    pub(crate) fn apply(self, pixels: &mut Pixels) -> Said<()> {
        let curve = self.curve(pixels)?;
        let inverted = pixels.inverted;
        for v in &mut pixels.values {
            let y = curve.at(f64::from(*v));
            *v = if inverted { 1.0 - y } else { y } as f32;
        }
        Ok(())
    }
}

/// The value at the rank `p / 100 * (n - 1)`, linearly interpolated between neighbours (NumPy's default).
fn percentile(values: &mut [f32], p: f64) -> f32 {
    let rank = p / 100.0 * (values.len() - 1) as f64;
    let (_, at, above) = values.select_nth_unstable_by(rank as usize, f32::total_cmp);
    let at = *at;
    let next = above.iter().copied().min_by(f32::total_cmp).unwrap_or(at);
    (f64::from(at) + rank.fract() * f64::from(next - at)) as f32
}

/// A window as a table of a manifest.
#[derive(Default, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Table {
    #[serde(skip_serializing_if = "Option::is_none")]
    low: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    high: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", alias = "center")]
    centre: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<VoiFunction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percentile: Option<[f64; 2]>,
}

const NAMES: [&str; 4] = ["file", "full", "minmax", "percentile"];

impl TryFrom<Table> for Window {
    type Error = String;

    fn try_from(t: Table) -> Said<Self> {
        let window = match t {
            Table {
                low: Some(low),
                high: Some(high),
                centre: None,
                width: None,
                function: None,
                percentile: None,
            } => Self::Range { low, high },
            Table {
                low: None,
                high: None,
                centre: Some(centre),
                width: Some(width),
                function,
                percentile: None,
            } => Self::Level { centre, width, function: function.unwrap_or_default() },
            Table {
                low: None,
                high: None,
                centre: None,
                width: None,
                function: None,
                percentile: Some([low, high]),
            } => Self::Percentile { low, high },
            _ => {
                return Err("expected either `low` and `high`, or `centre` and `width` (and `function`), or `percentile`"
                    .into());
            }
        };
        window.checked()
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Window;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a name ({}) or a table", NAMES.join(", "))
            }
            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Window, E> {
                match name {
                    "file" => Ok(Window::File),
                    "full" => Ok(Window::Full),
                    "minmax" => Ok(Window::MinMax),
                    "percentile" => Ok(Window::Percentile { low: 1.0, high: 99.0 }),
                    _ => Err(E::custom(format!("\"{name}\": {}", suggest(name, &NAMES)))),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Window, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                Window::try_from(table).map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Window {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Window".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "enum": ["file", "full", "minmax", "percentile"] },
                {
                    "type": "object",
                    "properties": {
                        "low": { "type": "number", "description": "Black, and all below." },
                        "high": { "type": "number", "description": "White, and all above." },
                    },
                    "required": ["low", "high"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": {
                        "centre": { "type": "number", "description": "The middle of the window." },
                        "width": {
                            "type": "number",
                            "exclusiveMinimum": 0,
                            "description": "How many values it spans.",
                        },
                        "function": {
                            "enum": ["linear", "linear-exact", "sigmoid"],
                            "description": "How values become greys, as DICOM's VOI LUT function says (PS3.3, C.11.2).",
                        },
                    },
                    "required": ["centre", "width"],
                    "additionalProperties": false,
                },
                {
                    "type": "object",
                    "properties": {
                        "percentile": {
                            "type": "array",
                            "items": { "type": "number", "minimum": 0, "maximum": 100 },
                            "minItems": 2,
                            "maxItems": 2,
                            "description": "The percentiles of each image that are black and white.",
                        },
                    },
                    "required": ["percentile"],
                    "additionalProperties": false,
                },
            ],
            "description": "Which stored values are black and white.",
        })
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::File => s.serialize_str("file"),
            Self::Full => s.serialize_str("full"),
            Self::MinMax => s.serialize_str("minmax"),
            Self::Percentile { low, high } => {
                Table { percentile: Some([low, high]), ..Table::default() }.serialize(s)
            }
            Self::Range { low, high } => {
                Table { low: Some(low), high: Some(high), ..Table::default() }.serialize(s)
            }
            Self::Level { centre, width, function } => {
                let (centre, width, function) = (Some(centre), Some(width), Some(function));
                Table { centre, width, function, ..Table::default() }.serialize(s)
            }
        }
    }
}

#[cfg(test)]
mod tests;

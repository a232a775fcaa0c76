//! Which transformations a training uses, and how strong they are.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IntoDeserializer as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// Groups of transformations as the paper names their combinations (Karras et al. 2020, section 3.1, figure 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Pixel blitting.
    Blit,
    /// General geometry.
    Geom,
    /// Colour.
    Color,
    /// Image-space filtering.
    Filter,
    /// Additive noise.
    Noise,
    /// Cutout.
    Cutout,
    /// Blitting and geometry.
    Bg,
    /// Blitting, geometry and colour: the paper's choice.
    Bgc,
    /// [`Self::Bgc`] and filtering.
    Bgcf,
    /// [`Self::Bgcf`] and noise.
    Bgcfn,
    /// Everything.
    Bgcfnc,
}

impl Preset {
    /// True if the group of that name is part of the preset.
    fn has(self, group: Self) -> bool {
        let upto = match self {
            Self::Bg => 2,
            Self::Bgc => 3,
            Self::Bgcf => 4,
            Self::Bgcfn => 5,
            Self::Bgcfnc => 6,
            single => return single == group,
        };
        [Self::Blit, Self::Geom, Self::Color, Self::Filter, Self::Noise, Self::Cutout][..upto]
            .contains(&group)
    }
}

macro_rules! transformations {
    ($($(#[$doc:meta])* $name:ident: $group:ident,)*) => {
        /// Transformations, each as a multiplier of p: 0 leaves it out, 1 applies it with probability p, 0.5 with half
        /// of it. In a manifest the name of a [`Preset`], or a table of multipliers in which `preset` says what the ones
        /// that are not named are, by default 0:
        ///
        /// ```toml
        /// pipeline = "bgc"
        /// pipeline = { preset = "bgc", rotate-90 = 0, luma-flip = 0, strength = { rotation = 0.1 } }
        /// ```
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub struct Pipeline {
            $($(#[$doc])* pub $name: f64,)*
            /// How far each goes.
            pub strength: Strength,
        }

        /// Multipliers of the probability of each transformation.
        #[derive(Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        #[schemars(rename = "Transformations")]
        struct Table {
            /// The group whose transformations are 1 where they are not named; without it they are 0.
            preset: Option<Preset>,
            $($(#[$doc])* $name: Option<f64>,)*
            /// How far each goes.
            #[serde(default)]
            strength: Strength,
        }

        impl From<Table> for Pipeline {
            fn from(table: Table) -> Self {
                let base = |group| match table.preset {
                    Some(preset) if preset.has(group) => 1.0,
                    _ => 0.0,
                };
                Self {
                    $($name: table.$name.unwrap_or_else(|| base(Preset::$group)),)*
                    strength: table.strength.clone(),
                }
            }
        }

        impl From<Preset> for Pipeline {
            fn from(preset: Preset) -> Self {
                Table { preset: Some(preset), $($name: None,)* strength: Strength::default() }.into()
            }
        }

        impl Pipeline {
            /// The multipliers and their names in a manifest.
            pub(super) fn multipliers(&self) -> Vec<(String, f64)> {
                vec![$((stringify!($name).replace('_', "-"), self.$name),)*]
            }
        }
    };
}

transformations! {
    /// Mirror image.
    x_flip: Blit,
    /// Turns by multiples of 90 degrees.
    rotate_90: Blit,
    /// Shift by whole pixels.
    integer_translation: Blit,
    /// Scaling of both axes.
    isotropic_scaling: Geom,
    /// Rotation before and after the stretch, one of them at least with probability p.
    rotation: Geom,
    /// Stretch along x by a factor, along y by its inverse.
    anisotropic_scaling: Geom,
    /// Shift by any distance.
    fractional_translation: Geom,
    /// Brightness.
    brightness: Color,
    /// Contrast.
    contrast: Color,
    /// Reflection of colours at the plane through grey 0 that the luma axis is normal to: dark and bright change places.
    luma_flip: Color,
    /// Rotation of colours about the luma axis.
    hue_rotation: Color,
    /// Saturation.
    saturation: Color,
    /// Amplification of four frequency bands, each with probability p.
    image_filter: Filter,
    /// Noise.
    noise: Noise,
    /// A square set to 0, which is grey.
    cutout: Cutout,
}

/// How far transformations go. All numbers default to the paper's (appendix B, figure 11).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Strength {
    /// Longest shift by whole pixels, in sides of the image: 1/8.
    pub integer_translation: f64,
    /// Standard deviation of the logarithm of the scale, in octaves: 0.2.
    pub isotropic_scaling: f64,
    /// Largest angle, in half turns: 1.
    pub rotation: f64,
    /// Standard deviation of the logarithm of the stretch, in octaves: 0.2.
    pub anisotropic_scaling: f64,
    /// Standard deviation of a fractional shift, in sides of the image: 1/8.
    pub fractional_translation: f64,
    /// Standard deviation of the brightness added: 0.2.
    pub brightness: f64,
    /// Standard deviation of the logarithm of the contrast, in octaves: 0.5.
    pub contrast: f64,
    /// Largest rotation of hues, in half turns: 1.
    pub hue_rotation: f64,
    /// Standard deviation of the logarithm of the saturation, in octaves: 1.
    pub saturation: f64,
    /// Multipliers of the probability of each band, from low to high frequencies: [1, 1, 1, 1].
    pub image_filter_bands: [f64; 4],
    /// Standard deviation of the logarithm of a band's gain, in octaves: 1.
    pub image_filter: f64,
    /// Standard deviation of the noise's standard deviation: 0.1.
    pub noise: f64,
    /// Side of the square cut out, in sides of the image: 1/2.
    pub cutout: f64,
}

impl Default for Strength {
    fn default() -> Self {
        Self {
            integer_translation: 0.125,
            isotropic_scaling: 0.2,
            rotation: 1.0,
            anisotropic_scaling: 0.2,
            fractional_translation: 0.125,
            brightness: 0.2,
            contrast: 0.5,
            hue_rotation: 1.0,
            saturation: 1.0,
            image_filter_bands: [1.0; 4],
            image_filter: 1.0,
            noise: 0.1,
            cutout: 0.5,
        }
    }
}

impl Pipeline {
    /// What is out of its range, if anything is.
    pub(super) fn check(&self) -> Result<(), String> {
        let s = &self.strength;
        let multipliers = self.multipliers().into_iter().map(|(name, v)| (name, v, 1e3));
        // Beyond these a single image would be stretched over millions of pixels, or noise drown everything.
        let strengths = [
            ("integer-translation", s.integer_translation, 1.0),
            ("isotropic-scaling", s.isotropic_scaling, 1.0),
            ("rotation", s.rotation, 1.0),
            ("anisotropic-scaling", s.anisotropic_scaling, 1.0),
            ("fractional-translation", s.fractional_translation, 1.0),
            ("brightness", s.brightness, 10.0),
            ("contrast", s.contrast, 4.0),
            ("hue-rotation", s.hue_rotation, 1.0),
            ("saturation", s.saturation, 4.0),
            ("image-filter", s.image_filter, 4.0),
            ("noise", s.noise, 10.0),
            ("cutout", s.cutout, 1.0),
        ];
        let strengths = strengths.into_iter().map(|(name, v, most)| (format!("strength.{name}"), v, most));
        let bands = s.image_filter_bands.map(|v| ("strength.image-filter-bands".to_owned(), v, 1e3));
        match multipliers.chain(strengths).chain(bands).find(|(_, v, most)| !(0.0..=*most).contains(v)) {
            Some((name, v, most)) => Err(format!("{name}: expected a number from 0 to {most}, found {v}")),
            None => Ok(()),
        }
    }
}

impl JsonSchema for Pipeline {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pipeline".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The name of a group of transformations, or a table of them.",
            "anyOf": [generator.subschema_for::<Preset>(), generator.subschema_for::<Table>()],
        })
    }
}

struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = Pipeline;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("the name of a preset (\"bgc\", say) or a table of transformations")
    }
    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Pipeline, E> {
        Preset::deserialize(name.into_deserializer()).map(Pipeline::from)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Pipeline, A::Error> {
        Table::deserialize(MapAccessDeserializer::new(map)).map(Pipeline::from)
    }
}

impl<'de> Deserialize<'de> for Pipeline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either)
    }
}

//! A procedural radiograph phantom with known latent factors, as a Shiftlens plugin.
//!
//! The generator draws knee-like radiographs from six independent standard normal factors: joint-space width,
//! osteophyte size, bone density, rotation, exposure and noise, in this order ([`factors`]). The encoder reads all
//! six off a picture ([`encoder`]). Because the truth is known, a study of the phantom shows whether an explanation
//! finds what a predictor really looks at.
//!
//! * [`factors`]: the code and what it stands for.
//! * [`shape`], [`texture`], [`render`]: from a code to pixels.
//! * [`fit`]: from pixels to a code.
//! * [`generator`], [`encoder`]: the two components.

use shiftlens_sdk::api;

pub mod encoder;
pub mod factors;
pub mod fit;
pub mod generator;
pub mod random;
pub mod render;
pub mod shape;
pub mod texture;

use encoder::PhantomEncoder;
use generator::PhantomGenerator;
shiftlens_sdk::export_plugin! { id: "shiftlens.phantom", generator: PhantomGenerator, encoder: PhantomEncoder }

//! The plugin host: finds, loads and inspects plugin libraries, and wraps what they offer in the traits of
//! `shiftlens-api`.
//!
//! ```text
//! name --find--> file --PluginLibrary::open--> library --generator, encoder, …--> Box<dyn Generator>, …
//! ```
//!
//! A library is opened once and never unloaded. Whatever a component answers is checked for shape and finiteness, and
//! an error names the plugin and the function. The C side of it is `core/abi/include/shiftlens.h`.

mod explain;
mod library;
mod search;

pub use library::{PluginInfo, PluginLibrary, inspect};
pub use search::{SEARCH_PATH, find};

use explain::PluginExplainer;
use serde_json::Value;
use shiftlens_abi::{
    ActivationsV1, DirectionV1, EncoderV1, ExplainerV1, GeneratorV1, GradientsV1, PredictorV1,
};
use shiftlens_api::{DirectionFinder, Encoder, Explainer, Generator, Predictor, Result};
use shiftlens_sdk::bridge::proxy;
use std::sync::Arc;

/// A generator from a plugin; `params` is the manifest's section as JSON (null for none).
///
/// # Errors
/// If the library offers no generator, refuses `params`, or says of itself what cannot be.
pub fn generator(lib: &Arc<PluginLibrary>, params: &Value) -> Result<Box<dyn Generator>> {
    let (instance, table) = lib.create::<GeneratorV1>(params)?;
    // SAFETY: the library's table on an instance of the library, which the peer owns.
    Ok(Box::new(unsafe { proxy::Generator::new(instance.peer(), table) }?))
}

/// An encoder from a plugin.
///
/// # Errors
/// As [`generator`].
pub fn encoder(lib: &Arc<PluginLibrary>, params: &Value) -> Result<Box<dyn Encoder>> {
    let (instance, table) = lib.create::<EncoderV1>(params)?;
    // SAFETY: as for the generator.
    Ok(Box::new(unsafe { proxy::Encoder::new(instance.peer(), table) }))
}

/// A predictor from a plugin, with gradients, and scores from replaced activations, where the plugin offers them.
///
/// # Errors
/// As [`generator`].
pub fn predictor(lib: &Arc<PluginLibrary>, params: &Value) -> Result<Box<dyn Predictor>> {
    let (instance, table) = lib.create::<PredictorV1>(params)?;
    let (gradients, activations) =
        (instance.interface::<GradientsV1>(), instance.interface::<ActivationsV1>());
    // SAFETY: as for the generator.
    Ok(Box::new(unsafe { proxy::Predictor::new(instance.peer(), table, gradients, activations) }?))
}

/// A direction finder from a plugin.
///
/// # Errors
/// As [`generator`].
pub fn direction_finder(lib: &Arc<PluginLibrary>, params: &Value) -> Result<Box<dyn DirectionFinder>> {
    let (instance, table) = lib.create::<DirectionV1>(params)?;
    // SAFETY: as for the generator.
    Ok(Box::new(unsafe { proxy::Finder::new(instance.peer(), table) }))
}

/// An explainer from a plugin.
///
/// # Errors
/// As [`generator`].
pub fn explainer(lib: &Arc<PluginLibrary>, params: &Value) -> Result<Box<dyn Explainer>> {
    let (instance, table) = lib.create::<ExplainerV1>(params)?;
    Ok(Box::new(PluginExplainer::new(instance.peer(), table)))
}

//! Write Shiftlens plugins in Rust: one trait, one export line.
//!
//! A plugin is a `cdylib` whose components implement the traits of [`api`] and are made by [`Create`]:
//!
//! ```
//! use shiftlens_sdk::api::{Encoder, Images, LatentCodes, Result};
//! use shiftlens_sdk::serde_json::Value;
//!
//! /// Encodes an image by its mean brightness.
//! struct Mean {
//!     gain: f32,
//! }
//!
//! impl shiftlens_sdk::Create for Mean {
//!     fn create(params: &Value) -> Result<Self> {
//!         Ok(Self { gain: params.get("gain").and_then(Value::as_f64).unwrap_or(1.0) as f32 })
//!     }
//! }
//!
//! impl Encoder for Mean {
//!     fn encode(&mut self, x: &Images) -> Result<LatentCodes> {
//!         let mean = |i| x.image(i).iter().sum::<f32>() / x.image(i).len() as f32;
//!         LatentCodes::new([x.len(), 1, 1], (0..x.len()).map(|i| self.gain * mean(i)).collect())
//!     }
//! }
//!
//! shiftlens_sdk::export_plugin! { id: "example.mean", encoder: Mean }
//! # fn main() {}
//! ```
//!
//! The manifest then names it: `kind = "plugin:mean"` with `mean = "example_mean"` (the library's file stem) under
//! `[plugins]`. [`params`] decodes typed parameters and words mistakes as the host expects them. A panic becomes an
//! error of the call. An explainer's [`api::Context`] leads to the host: its predictor, with gradients where the
//! predictor is a white box, its latent space, log, progress and cancellation.

pub mod bridge;
pub mod glue;

pub use shiftlens_abi as abi;
pub use shiftlens_api as api;
pub use {serde, serde_json};

/// How a component is made from the manifest's `params`.
pub trait Create: Sized {
    /// Makes the component. `params` is a JSON object, empty if the manifest has none.
    ///
    /// # Errors
    /// [`api::Error::Invalid`] for an unknown key or a value out of range.
    fn create(params: &serde_json::Value) -> api::Result<Self>;
}

/// Decodes `params` into a type that derives `Deserialize` (with `deny_unknown_fields`, so that typing mistakes are
/// found).
///
/// # Errors
/// [`api::Error::Invalid`] with the decoder's words, which name the key in backquotes.
pub fn params<P: serde::de::DeserializeOwned>(params: &serde_json::Value) -> api::Result<P> {
    P::deserialize(params).map_err(|e| api::Error::Invalid(format!("params: {e}")))
}

/// Exports the plugin: an id and any of `generator`, `encoder`, `predictor`, `direction`, `explainer`, each with the
/// type that implements the trait of that role ([`api::Generator`], [`api::Encoder`], [`api::Predictor`],
/// [`api::DirectionFinder`], [`api::Explainer`]) and [`Create`]. Name and version are those of the calling package.
/// Once per library.
///
/// ```ignore
/// shiftlens_sdk::export_plugin! { id: "shiftlens.phantom", generator: PhantomGenerator, encoder: PhantomEncoder }
/// ```
#[macro_export]
macro_rules! export_plugin {
    (id: $id:literal $(, $role:ident : $component:ty)+ $(,)?) => {
        const _: () = {
            struct Library;
            impl $crate::glue::Library for Library {
                const ROLES: &'static [$crate::glue::Role] = &[$($crate::glue::role::$role::<$component>()),+];
            }
            const CAPABILITIES: &[$crate::glue::Name] =
                &[$($crate::glue::role::$role::<$component>().name()),+, $crate::glue::Name::END];

            #[used]
            #[unsafe(no_mangle)]
            #[allow(non_upper_case_globals)]
            static shiftlens_plugin: $crate::abi::Plugin = $crate::glue::plugin::<Library>(
                $crate::glue::c_str(concat!($id, "\0")),
                $crate::glue::c_str(concat!(env!("CARGO_PKG_NAME"), "\0")),
                $crate::glue::c_str(concat!(env!("CARGO_PKG_VERSION"), "\0")),
                CAPABILITIES,
            );
        };
    };
}

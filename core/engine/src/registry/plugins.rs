//! Components from plugin libraries.

use crate::manifest::{ComponentSpec, Kind};
use crate::plugin::{self, PluginLibrary};
use shiftlens_api::{DirectionFinder, Encoder, Error, Explainer, Generator, Predictor, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The libraries opened so far: one file is opened once, however many sections name it.
pub(super) struct Libraries<'a> {
    folder: &'a Path,
    open: HashMap<String, (PathBuf, Arc<PluginLibrary>)>,
}

impl<'a> Libraries<'a> {
    /// Libraries searched for from the manifest's folder.
    pub fn new(folder: &'a Path) -> Self {
        Self { folder, open: HashMap::new() }
    }

    /// The library that a component's kind names, and its file.
    pub fn get(&mut self, spec: &ComponentSpec) -> Result<(PathBuf, Arc<PluginLibrary>)> {
        let Kind::Plugin { library, .. } = &spec.kind else {
            return Err(Error::Invalid(format!("kind `{}` is no plugin", spec.kind)));
        };
        if let Some((path, lib)) = self.open.get(library) {
            return Ok((path.clone(), Arc::clone(lib)));
        }
        let path = plugin::find(library, self.folder)?;
        super::load::check_pin(spec, &path)?;
        let lib = PluginLibrary::open(&path)?;
        self.open.insert(library.clone(), (path.clone(), Arc::clone(&lib)));
        Ok((path, lib))
    }
}

/// Makes a role's component from a library.
pub(super) trait FromPlugin {
    fn from_plugin(lib: &Arc<PluginLibrary>, params: &serde_json::Value) -> Result<Box<Self>>;
}

macro_rules! from_plugin {
    ($($role:ident, $function:ident;)*) => {$(
        impl FromPlugin for dyn $role {
            fn from_plugin(lib: &Arc<PluginLibrary>, params: &serde_json::Value) -> Result<Box<Self>> {
                plugin::$function(lib, params)
            }
        }
    )*};
}

from_plugin! {
    Predictor, predictor;
    Generator, generator;
    Encoder, encoder;
    DirectionFinder, direction_finder;
    Explainer, explainer;
}

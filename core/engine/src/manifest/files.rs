//! Whether the files that a study names are there: all that are missing at once, before any is opened.

use super::problem::{ManifestError, Problem};
use super::study::{ComponentSpec, ImageSource, Kind, Study};
use crate::nearest::nearest;
use crate::plugin;
use std::collections::BTreeSet;
use std::path::Path;

impl Study {
    /// Looks for the images, the models and the plugins' libraries.
    ///
    /// # Errors
    /// Every one that is missing, with the nearest name in its folder.
    pub fn check_files(&self) -> Result<(), ManifestError> {
        let mut problems = Vec::new();
        let images = match &self.data.images {
            ImageSource::Folder(path)
            | ImageSource::Csv(path)
            | ImageSource::Tsv(path)
            | ImageSource::Parquet(path) => Some(path),
            // What they match, or whether they are images, is seen when they are listed.
            ImageSource::Glob(_) | ImageSource::Files(_) => None,
        };
        if let Some(missing) = images.and_then(|p| missing(p)) {
            let message = format!("the images: {}", missing.message);
            let help = missing.help("check `images` in [data], or give --images");
            problems.push(self.sources.problem(self.images_at, message, help));
        }
        let mut libraries = BTreeSet::new();
        problems.extend(self.components().filter_map(|spec| match &spec.kind {
            Kind::Plugin { library, .. } if libraries.insert(library) => self.library_problem(spec, library),
            Kind::Plugin { .. } => None,
            Kind::Builtin(_) => self.model_problem(spec),
        }));
        if let Some(features) = self.evaluation.as_ref().and_then(|e| e.features.as_ref())
            && let Some(missing) = missing(&features.spec.path)
        {
            let message = format!("[evaluation.features]: {}", missing.message);
            let help = missing.help("check the path: it is relative to the manifest's folder");
            problems.push(self.sources.problem(features.at, message, help));
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(ManifestError::new(self.path.display().to_string(), problems))
    }

    fn components(&self) -> impl Iterator<Item = &ComponentSpec> {
        let retry = self.trust.as_ref().and_then(|t| t.retry.as_ref());
        let finder = self.direction.as_ref().map(|d| &d.finder);
        let oracle = self.evaluation.as_ref().and_then(|e| e.oracle.as_ref());
        let one = std::iter::once(&self.predictor);
        let latent = one.chain(&self.generator).chain(&self.encoder).chain(finder).chain(retry);
        latent.chain(oracle).chain(&self.explainers)
    }

    fn model_problem(&self, spec: &ComponentSpec) -> Option<Problem> {
        // A component that borrows another's file has no place of its own for it, and the other is looked at.
        let (path, at) = (spec.path.as_ref()?, spec.marks.path?);
        let missing = missing(path)?;
        let message = format!("{} ({}): {}", spec.role, spec.kind, missing.message);
        let help = missing.help("check the path: it is relative to the manifest's folder");
        Some(self.sources.problem(at, message, help))
    }

    fn library_problem(&self, spec: &ComponentSpec, library: &str) -> Option<Problem> {
        let error = plugin::find(library, self.folder()).err()?;
        self.component_problem(spec, &error).problems().first().cloned()
    }
}

/// A path to nothing.
#[derive(Debug, PartialEq)]
struct Missing {
    message: String,
    near: Option<String>,
}

impl Missing {
    fn help(&self, usual: &str) -> String {
        match &self.near {
            Some(near) => format!("did you mean `{near}`? {usual}"),
            None => usual.to_owned(),
        }
    }
}

/// What is wrong with `path`, if nothing is there: the first part of it that is missing, and the nearest name beside it.
fn missing(path: &Path) -> Option<Missing> {
    if path.exists() {
        return None;
    }
    // From the end on, the last that is missing is the first of the path.
    let gone = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).last()?;
    let name = gone.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = match gone.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    // The order of a folder is nobody's; of two as near the first by name is taken.
    names.sort();
    let near = nearest(&name, names.iter().map(String::as_str)).map(str::to_owned);
    let message = if gone == path {
        format!("{}: no such file or folder", path.display())
    } else {
        format!("{}: there is no `{name}` in {}", path.display(), folder.display())
    };
    Some(Missing { message, near })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_missing_part_is_named_with_the_nearest_name() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("models")).unwrap();
        for name in ["models/encoder.onnx", "models/generator.onnx"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let look = |path: &str| missing(&dir.path().join(path));
        assert_eq!(look("models/encoder.onnx"), None);
        let found = look("models/encodr.onnx").unwrap();
        assert_eq!(found.near.as_deref(), Some("encoder.onnx"));
        assert!(found.message.ends_with("encodr.onnx: no such file or folder"), "{found:?}");
        assert_eq!(found.help("check it"), "did you mean `encoder.onnx`? check it");
        let found = look("modls/encoder.onnx").unwrap();
        assert_eq!(found.near.as_deref(), Some("models"));
        assert!(found.message.contains("encoder.onnx: there is no `modls` in "), "{found:?}");
        let found = look("models/classifier.safetensors").unwrap();
        assert_eq!((found.near.as_deref(), found.help("check it").as_str()), (None, "check it"));
        // A file is no folder.
        assert!(look("models/encoder.onnx/x").is_some());
        assert!(missing(Path::new("no such thing at all")).unwrap().near.is_none());
    }
}

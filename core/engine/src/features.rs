//! Feature networks, as manifests name them.
//!
//! ```toml
//! path = "efficientnet-lite0.onnx"                 # relative to the file that says so
//! layers = ["stride4", "stride8"]                  # left out: the penultimate layer of a classifier
//! input = { scale = 255.0, mean = [127.0], std = [128.0] }
//! upsample = 2                                     # left out: images as they are
//! ```

use crate::nearest::suggest;
use shiftlens_api::variables::expand_from_environment;
use shiftlens_api::{Error, FeatureNetwork, Result};
use shiftlens_onnx::OnnxFeatures;
use std::path::Path;

/// What a manifest says about a feature network.
pub type FeatureSpec = shiftlens_onnx::FeaturesConfig;

const KEYS: [&str; 7] = ["path", "sha256", "layers", "output", "input", "upsample", "threads"];
const INPUT_KEYS: [&str; 8] = ["layout", "size", "channels", "scale", "mean", "std", "resize", "name"];

/// Opens a feature network for images of so many `channels` (1 or 3) and `size` `(H, W)`. The path is taken as it stands.
///
/// # Errors
/// As [`OnnxFeatures::open`].
pub fn open(spec: &FeatureSpec, channels: usize, size: (usize, usize)) -> Result<Box<dyn FeatureNetwork>> {
    Ok(Box::new(OnnxFeatures::open(spec, channels, size)?))
}

/// Reads a specification: an `.onnx` file itself, whose input is then fed values in [0, 1], or a TOML file about one.
///
/// # Errors
/// [`Error::Io`]; [`Error::Invalid`] for what is no such TOML, with the nearest key for an unknown one.
pub fn read(path: &Path) -> Result<FeatureSpec> {
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
        return Ok(FeatureSpec { path: path.to_owned(), ..Default::default() });
    }
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let invalid = |what: &dyn std::fmt::Display| Error::Invalid(format!("{}: {what}", path.display()));
    let table: toml::Table = text.parse().map_err(|e| invalid(&e))?;
    let input = table.get("input").and_then(toml::Value::as_table);
    for (section, keys, valid) in [("", Some(&table), &KEYS[..]), (" of `input`", input, &INPUT_KEYS[..])] {
        let unknown = keys.and_then(|t| t.keys().find(|k| !valid.contains(&k.as_str())));
        if let Some(key) = unknown {
            return Err(invalid(&format!("unknown key `{key}`{section}: {}", suggest(key, valid))));
        }
    }
    let mut spec: FeatureSpec = table.try_into().map_err(|e| invalid(&e))?;
    let written = spec.path.to_string_lossy();
    spec.path =
        expand_from_environment(&written).map_err(|e| invalid(&format!("`path`: {e} ({})", e.help)))?.into();
    spec.path = path.parent().unwrap_or(Path::new("")).join(&spec.path);
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<FeatureSpec> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("features.toml");
        std::fs::write(&path, text).unwrap();
        let spec = read(&path)?;
        assert!(spec.path.starts_with(folder.path()));
        Ok(spec)
    }

    #[test]
    fn every_key_is_read_and_no_other() {
        let spec = parse(
            "path = \"a.onnx\"\nsha256 = \"00\"\nlayers = [\"b\"]\noutput = \"y\"\nupsample = 2\nthreads = 1\n\
             [input]\nlayout = \"nchw\"\nsize = [8, 8]\nchannels = 3\nscale = 255.0\nmean = [1.0]\nstd = [2.0]\n\
             resize = \"nearest\"\nname = \"x\"",
        )
        .unwrap();
        assert_eq!((spec.layers, spec.upsample, spec.input.channels), (vec!["b".into()], Some(2), Some(3)));
        let says = |text: &str, words: &[&str]| {
            let e = parse(text).unwrap_err().to_string();
            assert!(words.iter().all(|w| e.contains(w)), "{e}");
        };
        says(
            "path = \"a.onnx\"\nlayer = []",
            &["features.toml", "unknown key `layer`", "did you mean `layers`?"],
        );
        says("path = \"a.onnx\"\ninput = { sdt = [1.0] }", &["`sdt` of `input`", "did you mean `std`?"]);
        says("layers = []", &["missing field `path`"]);
        says("path = \"a.onnx\"\nupsample = \"two\"", &["invalid type"]);
        says("path = \"${SHIFTLENS_NO_SUCH_VARIABLE}/a\"", &["`path`", "is not set"]);
        says("path = ", &["features.toml"]);
        assert_eq!(read(Path::new("b/a.ONNX")).unwrap().path, Path::new("b/a.ONNX"));
        assert!(matches!(read(Path::new("nowhere.toml")), Err(Error::Io { .. })));
    }
}

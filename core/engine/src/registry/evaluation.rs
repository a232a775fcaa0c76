//! What a study's explanations are measured with besides f: a second classifier, and a network of features.

use super::load::{Loader, describe_predictor};
use super::{LatentParts, PREDICTORS, hash_file, predictor_features};
use crate::features;
use crate::manifest::{ClassRef, ComponentSpec, EvaluationSpec, ManifestError, Study};
use crate::nearest::suggest;
use shiftlens_api::record::ComponentRecord;
use shiftlens_api::{FeatureNetwork, Predictor, Target};
use shiftlens_evaluation::Metric;

/// The role of a network of features in the records of components, which it comes last in.
pub const FEATURES: &str = "features";

/// Models that measure.
#[derive(Default)]
pub struct EvaluationParts {
    /// Says whether it sees the flips.
    pub oracle: Option<Oracle>,
    /// For images of the generator's size; `None` where the study has no generator, or nothing to compare features by.
    pub features: Option<Box<dyn FeatureNetwork>>,
}

/// A second classifier of the same classes.
pub struct Oracle {
    /// The classifier.
    pub predictor: Box<dyn Predictor>,
    /// Its class that is the study's target.
    pub target: Target,
}

impl Study {
    pub(super) fn load_evaluation(
        &self,
        l: &mut Loader<'_>,
        latent: Option<&LatentParts>,
        target: &Target,
    ) -> Result<Option<EvaluationParts>, ManifestError> {
        let Some(spec) = &self.evaluation else { return Ok(None) };
        let oracle = spec.oracle.as_ref().map(|o| self.load_oracle(l, o, target)).transpose()?;
        let compared = [Metric::Fid, Metric::Kid, Metric::ProximityFeatures].iter().any(|m| spec.wants(*m));
        let features = match latent {
            Some(latent) if compared => self.load_features(l, spec, latent)?,
            _ => None,
        };
        Ok(Some(EvaluationParts { oracle, features }))
    }

    fn load_oracle(
        &self,
        l: &mut Loader<'_>,
        spec: &ComponentSpec,
        target: &Target,
    ) -> Result<Oracle, ManifestError> {
        let predictor = l.component(spec, PREDICTORS, describe_predictor)?;
        let classes = predictor.info().classes;
        let named = spec.output.as_ref().and_then(|o| o.get("target")).map(|t| match t.as_u64() {
            Some(i) => ClassRef::Index(i as usize),
            None => ClassRef::Name(t.as_str().unwrap_or_default().to_owned()),
        });
        let found = match &named {
            Some(ClassRef::Index(i)) => Some(*i).filter(|i| *i < classes.len()),
            Some(ClassRef::Name(name)) => classes.iter().position(|c| c == name),
            // The class of the same name; of one or two unnamed ones that which a study would explain.
            None => classes.iter().position(|c| *c == target.name).or(match classes.len() {
                1 => Some(0),
                2 => Some(1),
                _ => None,
            }),
        };
        let Some(class) = found else {
            let wanted = named.unwrap_or_else(|| ClassRef::Name(target.name.clone()));
            let names: Vec<&str> = classes.iter().map(String::as_str).collect();
            let help = match &wanted {
                ClassRef::Name(name) => suggest(name, &names),
                ClassRef::Index(_) => format!("its classes in order: {}", names.join(", ")),
            };
            let message =
                format!("the oracle has no class {wanted}: name the study's target in its `output`");
            return Err(self.problem(spec.marks.blame("`target`"), message, help));
        };
        Ok(Oracle { predictor, target: Target { class, name: classes[class].clone() } })
    }

    fn load_features(
        &self,
        l: &mut Loader<'_>,
        spec: &EvaluationSpec,
        latent: &LatentParts,
    ) -> Result<Option<Box<dyn FeatureNetwork>>, ManifestError> {
        let info = latent.generator.info();
        let (network, kind, path) = match &spec.features {
            Some(section) => {
                let fail = |e| self.problem(section.at, format!("[evaluation.features]: {e}"), "");
                let network = features::open(&section.spec, info.channels, (info.height, info.width));
                let path = section.shown.get("path").and_then(|p| p.as_str()).map(str::to_owned);
                (network.map_err(fail)?, "onnx", (path, hash_file(&section.spec.path).map_err(fail)?))
            }
            None => {
                // Nothing was asked for by name: what the predictor does not offer is left out, and said.
                let own = predictor_features(&self.predictor).and_then(|spec| {
                    let network = features::open(&spec, info.channels, (info.height, info.width))?;
                    Ok((network, hash_file(&spec.path)?))
                });
                match own {
                    Ok((network, sum)) => (network, "predictor", (self.predictor.shown_path.clone(), sum)),
                    Err(e) => {
                        l.remarks.push(format!(
                            "evaluation: no FID, KID and feature distances: {e} ([evaluation.features])"
                        ));
                        return Ok(None);
                    }
                }
            }
        };
        let found = network.info();
        let layers: Vec<&str> = found.layers.iter().map(|f| f.name.as_str()).collect();
        l.records.push(ComponentRecord {
            role: FEATURES.into(),
            kind: kind.into(),
            path: path.0,
            sha256: Some(path.1),
            backend: found.backend,
            detail: layers.join(", "),
        });
        Ok(Some(network))
    }
}

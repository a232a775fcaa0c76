//! Making a study's components, and trying them on one another before any work is done.

use super::evaluation::EvaluationParts;
use super::plugins::{FromPlugin, Libraries};
use super::timed::{Clock, Timed};
use super::{
    Ambient, DIRECTIONS, ENCODERS, EXPLAINERS, Entry, GENERATORS, LATENT_SHIFT, Made, PREDICTORS, REFINERS,
    Refine,
};
use crate::latent_shift::LatentShiftParams;
use crate::manifest::{ComponentSpec, Kind, ManifestError, Study};
use sha2::{Digest, Sha256};
use shiftlens_api::record::ComponentRecord;
use shiftlens_api::{DirectionFinder, Encoder, Error, Explainer, Generator, Predictor, Result, Target};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A study's components, loaded and seen to fit.
pub struct Components {
    /// f.
    pub predictor: Box<dyn Predictor>,
    /// G and E and the finder of α, where the study has a latent space.
    pub latent: Option<LatentParts>,
    /// What looks for a better code of an image whose reconstruction is not to be trusted.
    pub refiner: Option<Box<dyn Refine>>,
    /// In the manifest's order.
    pub explainers: Vec<Box<dyn Explainer>>,
    /// The study's class: what a direction is fitted to, and what an explainer explains that names no other.
    pub target: Target,
    /// What the explanations are measured with besides f, where the study measures them.
    pub evaluation: Option<EvaluationParts>,
    /// The classes that each explainer explains, in the manifest's order.
    pub explained: Vec<Vec<Target>>,
    /// All class names.
    pub classes: Vec<String>,
    /// What was loaded.
    pub records: Vec<ComponentRecord>,
    /// What was inferred or assumed.
    pub remarks: Vec<String>,
    /// How long f, G and E have worked.
    pub clock: Arc<Clock>,
}

/// The parts of a latent space.
pub struct LatentParts {
    /// G.
    pub generator: Box<dyn Generator>,
    /// E.
    pub encoder: Box<dyn Encoder>,
    /// Finds α.
    pub finder: Box<dyn DirectionFinder>,
}

/// What draws images and judges them, without what explains.
pub struct Drawing {
    /// f.
    pub predictor: Box<dyn Predictor>,
    /// The study's class.
    pub target: Target,
    /// G.
    pub generator: Box<dyn Generator>,
    /// E, where the study has one.
    pub encoder: Option<Box<dyn Encoder>>,
    /// What was loaded.
    pub records: Vec<ComponentRecord>,
}

/// The sha256 of a file in hexadecimal.
///
/// # Errors
/// [`Error::Io`].
pub fn hash_file(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).map_err(|e| Error::io(path, e))?;
    Ok(hex(&hash.finalize()))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl ComponentSpec {
    /// The file that the component is made from: its model, or its plugin's library, searched for from `folder`; `None` for
    /// one that needs none.
    pub(crate) fn file(&self, folder: &Path) -> Result<Option<PathBuf>> {
        match &self.kind {
            Kind::Plugin { library, .. } => crate::plugin::find(library, folder).map(Some),
            Kind::Builtin(_) => Ok(self.path.clone()),
        }
    }
}

/// Checks the pin of `spec` against the file at `path` and answers the file's sum.
pub(super) fn check_pin(spec: &ComponentSpec, path: &Path) -> Result<String> {
    let sum = hash_file(path)?;
    match &spec.pin {
        Some(pin) if *pin != sum => Err(Error::Invalid(format!(
            "`sha256` of {} is {sum}, the manifest pins {pin}: fetch the pinned file again, or change the pin if the \
             new one is meant",
            path.display()
        ))),
        _ => Ok(sum),
    }
}

pub(super) struct Loader<'a> {
    study: &'a Study,
    libraries: Libraries<'a>,
    ambient: Ambient,
    pub records: Vec<ComponentRecord>,
    pub remarks: Vec<String>,
}

impl<'a> Loader<'a> {
    pub fn component<T: ?Sized + FromPlugin>(
        &mut self,
        spec: &ComponentSpec,
        table: &[Entry<T>],
        detail: fn(&T) -> (String, String),
    ) -> Result<Box<T>, ManifestError> {
        let blame = |e: Error| self.study.component_problem(spec, &e);
        let (made, path, sha256) = match &spec.kind {
            Kind::Plugin { .. } => {
                let (path, lib) = self.libraries.get(spec).map_err(blame)?;
                let component = T::from_plugin(&lib, &spec.params).map_err(blame)?;
                let made = Made { component, backend: lib.label(), remarks: Vec::new() };
                let sum = hash_file(&path).map_err(blame)?;
                let file = path.file_name().map(|f| f.to_string_lossy().into_owned());
                (made, file, Some(sum))
            }
            Kind::Builtin(kind) => {
                let sum = spec.path.as_deref().map(|p| check_pin(spec, p)).transpose().map_err(blame)?;
                let entry = table.iter().find(|e| e.kind == *kind);
                let entry = entry.ok_or_else(|| blame(Error::Invalid(format!("unknown kind `{kind}`"))))?;
                ((entry.make)(spec, self.ambient).map_err(blame)?, spec.shown_path.clone(), sum)
            }
        };
        let (backend, detail) = detail(&made.component);
        for r in made.remarks {
            if !self.remarks.contains(&r) {
                self.remarks.push(r);
            }
        }
        self.records.push(ComponentRecord {
            role: spec.role.into(),
            kind: spec.kind.to_string(),
            path,
            sha256,
            backend: if backend.is_empty() { made.backend } else { backend },
            detail,
        });
        Ok(made.component)
    }
}

/// A generator's record: where it runs, what it draws.
fn describe_generator(g: &dyn Generator) -> (String, String) {
    let i = g.info();
    (i.backend, format!("{}x{}, {}, W {}", i.height, i.width, channels(i.channels), i.latent_dim))
}

/// A predictor's record: where it runs, what it takes and answers.
pub(super) fn describe_predictor(p: &dyn Predictor) -> (String, String) {
    let i = p.info();
    let size = i.input_size.map_or("any size".into(), |(h, w)| format!("{h}x{w}"));
    (i.backend, format!("{size}, {}, classes: {}", channels(i.channels), i.classes.join(", ")))
}

impl Study {
    /// A component's complaint at the place in the manifest that it is about.
    pub fn component_problem(&self, spec: &ComponentSpec, error: &Error) -> ManifestError {
        let message = error.to_string();
        let marks = &spec.marks;
        let at = match error {
            Error::Io { .. } => marks.path.unwrap_or(marks.kind),
            _ if message.contains("sha256") => marks.pin.or(marks.path).unwrap_or(marks.kind),
            _ if spec.device != "cpu"
                && message.contains(spec.device.split(':').next().unwrap_or("cuda")) =>
            {
                marks.device.unwrap_or(marks.kind)
            }
            _ => match marks.blame(&message) {
                at if at == marks.kind => marks.path.unwrap_or(marks.section),
                at => at,
            },
        };
        let help = match error {
            Error::Io { .. } => "check the path: it is relative to the manifest's folder",
            _ => "",
        };
        self.problem(at, format!("{} ({}): {message}", spec.role, spec.kind), help)
    }

    fn loader(&self) -> Loader<'_> {
        let threshold = self.direction.as_ref().map_or(0.5, |d| d.threshold);
        Loader {
            study: self,
            libraries: Libraries::new(self.folder()),
            ambient: Ambient { threshold },
            records: Vec::new(),
            remarks: self.remarks.clone(),
        }
    }

    /// Loads the generator alone; `None` for a study that has none.
    ///
    /// # Errors
    /// If it does not load, at its place in the manifest.
    pub fn load_generator(&self) -> Result<Option<Box<dyn Generator>>, ManifestError> {
        let load = |g| self.loader().component(g, GENERATORS, describe_generator);
        self.generator.as_ref().map(load).transpose()
    }

    /// Loads f, G and, where the study has one, E; `None` for a study without a generator.
    ///
    /// # Errors
    /// What does not load, at its place in the manifest.
    pub fn load_drawing(&self) -> Result<Option<Drawing>, ManifestError> {
        let Some(generator) = &self.generator else { return Ok(None) };
        let mut l = self.loader();
        let generator = l.component(generator, GENERATORS, describe_generator)?;
        let predictor = l.component(&self.predictor, PREDICTORS, |p| (p.info().backend, String::new()))?;
        let encoder = self.encoder.as_ref().map(|e| l.component(e, ENCODERS, |_| Default::default()));
        let encoder = encoder.transpose()?;
        let (target, _) = self.pick_target(&predictor.info().classes)?;
        Ok(Some(Drawing { predictor, target, generator, encoder, records: l.records }))
    }

    /// Loads every component, picks the target class, and tries the parts on one another.
    ///
    /// # Errors
    /// What does not load or does not fit, at its place in the manifest.
    pub fn load(&self) -> Result<Components, ManifestError> {
        let mut l = self.loader();
        let predictor = l.component(&self.predictor, PREDICTORS, describe_predictor)?;
        let latent = match (&self.generator, &self.encoder, &self.direction) {
            (Some(g), Some(e), Some(d)) => {
                let generator = l.component(g, GENERATORS, describe_generator)?;
                let encoder = l.component(e, ENCODERS, |_| Default::default())?;
                let finder = l.component(&d.finder, DIRECTIONS, |_| Default::default())?;
                Some(LatentParts { generator, encoder, finder })
            }
            _ => None,
        };
        let retry = self.trust.as_ref().and_then(|t| t.retry.as_ref());
        let refiner = retry.map(|r| l.component(r, REFINERS, |_| Default::default())).transpose()?;
        let explainers = self
            .explainers
            .iter()
            .map(|e| l.component(e, EXPLAINERS, |_| Default::default()))
            .collect::<Result<Vec<_>, _>>()?;
        let classes = predictor.info().classes;
        let (target, assumed) = self.pick_target(&classes)?;
        let explained = self.explained(&classes, &target)?;
        let evaluation = self.load_evaluation(&mut l, latent.as_ref(), &target)?;
        let (mut records, mut remarks) = (l.records, l.remarks);
        let of_explainers = records.iter_mut().filter(|r| r.role == "explainer");
        for ((record, spec), classes) in of_explainers.zip(&self.explainers).zip(&explained) {
            if !spec.classes.is_empty() {
                let names: Vec<&str> = classes.iter().map(|c| c.name.as_str()).collect();
                record.detail = format!("explains: {}", names.join(", "));
            }
        }
        // An ONNX predictor says so itself.
        if !remarks.iter().any(|r| r.contains("output.target")) {
            remarks.extend(assumed);
        }
        let clock = Arc::new(Clock::default());
        let latent = latent.map(|l| LatentParts {
            generator: Box::new(Timed::new(l.generator, &clock)),
            encoder: Box::new(Timed::new(l.encoder, &clock)),
            finder: l.finder,
        });
        let mut c = Components {
            predictor: Box::new(Timed::new(predictor, &clock)),
            latent,
            refiner,
            explainers,
            target,
            evaluation,
            explained,
            classes,
            records,
            remarks,
            clock,
        };
        self.try_out(&mut c)?;
        Ok(c)
    }

    /// One sample through G, f and E: shapes must fit before hours of work start.
    fn try_out(&self, c: &mut Components) -> Result<(), ManifestError> {
        let (Some(latent), Some(g), Some(e)) = (&mut c.latent, &self.generator, &self.encoder) else {
            return Ok(());
        };
        let blame = |spec: &ComponentSpec, e: Error| self.component_problem(spec, &e);
        let info = latent.generator.info();
        let w = latent.generator.sample(1, 0).map_err(|e| blame(g, e))?;
        let x = latent.generator.synthesize(&w).map_err(|e| blame(g, e))?;
        let scores = c.predictor.predict(&x).map_err(|e| blame(&self.predictor, e))?;
        if scores.shape()[1] != c.classes.len() {
            let message = format!("answers {} scores for {} classes", scores.shape()[1], c.classes.len());
            return Err(blame(&self.predictor, Error::Invalid(message)));
        }
        let back = latent.encoder.encode(&x).map_err(|err| blame(e, err))?;
        let [_, rows, d] = back.shape();
        if d != info.latent_dim || !(rows == 1 || rows == info.latent_layers) {
            let misfit = Error::Shape {
                what: "the encoder does not belong to this generator: its codes".into(),
                expected: format!("[N, 1 or {}, {}]", info.latent_layers, info.latent_dim),
                found: back.shape().to_vec(),
            };
            return Err(blame(e, misfit));
        }
        for spec in self.explainers.iter().filter(|e| e.kind == Kind::Builtin(LATENT_SHIFT)) {
            LatentShiftParams::from_json(&spec.params, 0.5)
                .and_then(|p| p.layers.of(info.latent_layers))
                .map_err(|e| blame(spec, e))?;
        }
        Ok(())
    }
}

fn channels(n: usize) -> String {
    if n == 1 { "grey".into() } else { format!("{n} channels") }
}

//! The second step: meaning. Nothing here opens a file.

use super::problem::{At, Located, ManifestError};
use super::raw::{RawComponent, RawDirection, RawManifest, RawTrust};
use super::read::{CLASS, Sink, as_class};
use super::study::{
    ClassRef, ComponentSpec, DirectionSpec, Kind, LabelSource, Marks, ReportSpec, Study, TrustSpec,
};
use super::tree::{Node, Value};
use crate::direction::{Along, AuditPlan};
use crate::nearest::{nearest, suggest};
use crate::registry::{self, Rules};
use std::path::Path;

/// Samples for the direction where the manifest names no number.
pub const DEFAULT_SAMPLES: usize = 20_000;
/// What a direction is fitted to.
pub(super) const LABEL_SOURCES: [&str; 2] = ["predictor", "truth"];
/// What a series moves along.
pub(super) const ALONG: [&str; 2] = ["normal", "pattern"];
/// Files of a report.
pub(super) const FORMATS: [&str; 6] = ["html", "csv", "parquet", "contact-sheet", "gif", "apng"];
/// Share held out where the manifest names none.
pub const DEFAULT_HOLDOUT: f64 = 0.2;

impl Study {
    /// Reads, parses and checks the manifest at `path`, which has one `[predictor]`, with `overrides` laid over it.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn open(path: &Path, overrides: &[String]) -> Result<Self, ManifestError> {
        RawManifest::read(path, overrides)?.check(path)
    }
}

pub(super) struct Checker<'a> {
    pub raw: &'a RawManifest,
    /// The one of its predictors that the study is about.
    pub predictor: &'a RawComponent,
    pub sink: &'a Sink<'a>,
    pub base: &'a Path,
}

impl Checker<'_> {
    pub fn study(&self) -> Option<Study> {
        let raw = self.raw;
        let mut remarks = Vec::new();
        let data = self.data(&raw.data);
        for (name, stem) in &raw.plugins {
            if name.value.is_empty() || stem.value.is_empty() {
                self.sink.add(name.at, "an empty name in [plugins]", "write NAME = \"library file stem\"");
            }
        }
        let predictor = self.component("predictor", self.predictor, &registry::rules(registry::PREDICTORS));
        let (target, target_at) = self.target();
        let generator = raw
            .generator
            .as_ref()
            .map(|c| self.component("generator", c, &registry::rules(registry::GENERATORS)));
        let encoder = raw.encoder.as_ref().map(|c| self.encoder(c));
        let explainers: Vec<Option<ComponentSpec>> = raw
            .explainers
            .iter()
            .map(|c| self.component("explainer", c, &registry::rules(registry::EXPLAINERS)))
            .collect();
        let direction = raw.direction.as_ref().map(|d| self.direction(d));
        let trust = raw.trust.as_ref().map(|t| self.trust(t));
        let evaluation = raw.evaluation.as_ref().map(|e| self.evaluation(e));

        let latent = raw.generator.is_some() && raw.encoder.is_some();
        for (c, spec) in raw.explainers.iter().zip(&explainers) {
            let shift = spec.as_ref().is_some_and(|s| s.kind == Kind::Builtin(registry::LATENT_SHIFT));
            for (section, missing) in
                [("generator", raw.generator.is_none()), ("encoder", raw.encoder.is_none())]
            {
                if shift && missing {
                    self.sink.add(
                        c.kind.at,
                        format!("`latent-shift` needs a [{section}], the manifest has none"),
                        format!("add [{section}] with `kind` and `path`"),
                    );
                }
            }
        }
        if !latent && let Some(d) = &raw.direction {
            let help = "add both, or leave [direction] out";
            self.sink.add(d.component.at, "[direction] without [generator] and [encoder]", help);
        }
        if !latent && let Some(t) = &raw.trust {
            let help = "add both, or leave [trust] out";
            self.sink.add(t.at, "[trust] without [generator] and [encoder]", help);
        }
        let direction = match direction {
            None if latent => {
                remarks.push(format!("no [direction]: logistic on {DEFAULT_SAMPLES} samples, seed 0"));
                Some(default_direction(self.predictor.at))
            }
            None => None,
            Some(None) => return None,
            Some(d) => d,
        };
        let report = self.report();
        let flat = |x: Option<Option<ComponentSpec>>| match x {
            None => Some(None),
            Some(x) => x.map(Some),
        };
        Some(Study {
            name: raw.name.value.clone(),
            path: Default::default(),
            data: data?,
            predictor: predictor?,
            generator: flat(generator)?,
            encoder: flat(encoder)?,
            direction,
            trust: match trust {
                None => None,
                Some(t) => Some(t?),
            },
            evaluation: super::raw::flat(evaluation)?,
            explainers: explainers.into_iter().collect::<Option<_>>()?,
            report,
            target,
            remarks,
            sources: Default::default(),
            images_at: raw.data.images.at,
            target_at,
        })
    }

    /// `output.target` of the predictor, for every kind of predictor.
    fn target(&self) -> (Option<ClassRef>, Option<At>) {
        let Some(Node { value: Value::Table(t), .. }) = &self.predictor.output else {
            return (None, None);
        };
        match t.iter().find(|(k, _)| k.name == "target").map(|(_, v)| v) {
            Some(n) => {
                let class = as_class(n);
                if class.is_none() {
                    self.sink.add(
                        n.at,
                        format!("`target` in {} is {}, {CLASS}", self.predictor.section, n.kind()),
                        "",
                    );
                }
                (class, Some(n.at))
            }
            None => (None, None),
        }
    }

    fn kind(&self, role: &str, raw: &RawComponent, rules: &[Rules]) -> Option<Kind> {
        let kind = &raw.kind;
        if let Some(name) = kind.value.strip_prefix("plugin:") {
            if let Some((_, library)) = self.raw.plugins.iter().find(|(n, _)| n.value == name) {
                return Some(Kind::Plugin { name: name.into(), library: library.value.clone() });
            }
            let names: Vec<&str> = self.raw.plugins.iter().map(|(n, _)| n.value.as_str()).collect();
            let help = match (nearest(name, names.iter().copied()), names.is_empty()) {
                (Some(near), _) => {
                    format!("did you mean `plugin:{near}`? [plugins] has: {}", names.join(", "))
                }
                (None, false) => format!("[plugins] has: {}", names.join(", ")),
                (None, true) => format!("add it: [plugins] with {name} = \"library file stem\""),
            };
            self.sink.add(kind.at, format!("no plugin called `{name}` in [plugins]"), help);
            return None;
        }
        if let Some(r) = rules.iter().find(|r| r.kind == kind.value) {
            return Some(Kind::Builtin(r.kind));
        }
        let mut valid: Vec<&str> = rules.iter().map(|r| r.kind).collect();
        let help = if self.raw.plugins.iter().any(|(n, _)| n.value == kind.value) {
            format!("`{0}` is a plugin: write kind = \"plugin:{0}\"", kind.value)
        } else {
            if role != "retry" {
                valid.push("plugin:NAME");
            }
            suggest(&kind.value, &valid)
        };
        self.sink.add(kind.at, format!("unknown kind of {role}: \"{}\"", kind.value), help);
        None
    }

    pub(super) fn component(
        &self,
        role: &'static str,
        raw: &RawComponent,
        rules: &[Rules],
    ) -> Option<ComponentSpec> {
        let kind = self.kind(role, raw, rules)?;
        let rule = rules.iter().find(|r| Kind::Builtin(r.kind) == kind);
        let refuse = |key: &str, at: Option<At>| {
            if let Some(at) = at {
                self.sink.add(at, format!("`{key}` does not apply to kind \"{kind}\""), "leave it out");
            }
        };
        let needs_path = rule.is_some_and(|r| r.path);
        match (&raw.path, needs_path) {
            // A search without an encoder begins at the mean code.
            (None, true) if role == "encoder" && kind == Kind::Builtin(registry::PROJECTION) => {}
            (None, true) => {
                let message = format!("{} of kind \"{kind}\" lacks the key `path`", raw.section);
                self.sink.add(raw.at, message, "name the model file, relative to the manifest");
            }
            (Some(p), false) => refuse("path", Some(p.at)),
            _ => {}
        }
        if rule.is_some_and(|r| !r.path || (raw.path.is_none() && r.kind == registry::PROJECTION)) {
            refuse("sha256", raw.sha256.as_ref().map(|s| s.at));
        }
        if !matches!(role, "predictor" | "oracle") && !matches!(kind, Kind::Builtin("onnx")) {
            refuse("input", raw.input.as_ref().map(|n| n.at));
            refuse("output", raw.output.as_ref().map(|n| n.at));
        }
        if !rule.is_some_and(|r| r.device) {
            refuse("device", raw.device.as_ref().map(|d| d.at));
        }
        if let Some(pin) = &raw.sha256
            && !(pin.value.len() == 64 && pin.value.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            self.sink.add(pin.at, "`sha256` is not a sha256 sum", "expected 64 hexadecimal digits");
        }
        let device = raw.device.as_ref().map_or("cpu", |d| d.value.as_str());
        let number = device.strip_prefix("cuda:").map(str::parse::<usize>);
        if !(device == "cpu" || device == "cuda" || matches!(number, Some(Ok(_)))) {
            let at = raw.device.as_ref().map_or(raw.at, |d| d.at);
            self.sink.add(at, format!("unknown device \"{device}\""), suggest(device, &["cpu", "cuda:0"]));
        }
        let params = raw.params.as_ref().map_or_else(|| serde_json::json!({}), Node::json);
        if !params.is_object() {
            let at = raw.params.as_ref().map_or(raw.at, |p| p.at);
            self.sink.add(
                at,
                format!("`params` of {} is no table", raw.section),
                "write params = { key = value }",
            );
            return None;
        }
        let spec = ComponentSpec {
            role,
            kind,
            generator: None,
            path: raw.path.as_ref().map(|p| self.base.join(&p.value)),
            shown_path: raw.shown_path.clone(),
            pin: raw.sha256.as_ref().map(|p| p.value.to_lowercase()),
            device: if device == "cuda" { "cuda:0".into() } else { device.into() },
            params,
            input: raw.input.as_ref().map(Node::json),
            output: raw.output.as_ref().map(Node::json),
            predictor: None,
            classes: raw.classes.clone(),
            marks: Marks {
                section: raw.at,
                kind: raw.kind.at,
                path: raw.path.as_ref().map(|p| p.at),
                pin: raw.sha256.as_ref().map(|p| p.at),
                device: raw.device.as_ref().map(|p| p.at),
                nodes: [&raw.params, &raw.input, &raw.output].into_iter().flatten().cloned().collect(),
            },
        };
        if let Some(rule) = rule
            && let Err(e) = (rule.check)(&spec)
        {
            let message = e.to_string();
            self.sink.add(
                spec.marks.blame(&message),
                format!("{}: {message}", raw.section),
                help_on_field(&message),
            );
        }
        Some(spec)
    }

    fn encoder(&self, raw: &RawComponent) -> Option<ComponentSpec> {
        let mut spec = self.component("encoder", raw, &registry::rules(registry::ENCODERS))?;
        if spec.kind == Kind::Builtin(registry::PROJECTION) {
            let mut generator = spec.clone();
            generator.path = None;
            self.on_generator(&mut generator, raw);
            spec.generator = generator.path;
            if spec.params.get("features").is_some() {
                self.through_predictor(&mut spec, "[encoder]");
            }
        }
        Some(spec)
    }

    fn direction(&self, raw: &RawDirection) -> Option<DirectionSpec> {
        let mut finder = self.component("direction", &raw.component, &registry::rules(registry::DIRECTIONS));
        if let Some(finder) = finder.as_mut().filter(|f| f.kind == Kind::Builtin(registry::SEFA)) {
            self.on_generator(finder, &raw.component);
        }
        let data = raw.data.as_ref().map(|d| self.data(d));
        let labels = match raw.labels.as_ref().map(|l| (l.value.as_str(), l.at)) {
            None | Some(("predictor", _)) => LabelSource::Predictor,
            Some(("truth", at)) => {
                let labels = raw.data.as_ref().map_or(&self.raw.data.labels, |d| &d.labels);
                if labels.is_none() {
                    let help = "add `labels` to [data] or to its own `data`, or use labels = \"predictor\"";
                    self.sink.add(at, "`labels = \"truth\"` needs ground truth", help);
                }
                LabelSource::Truth
            }
            Some((other, at)) => {
                let help = suggest(other, &LABEL_SOURCES);
                self.sink.add(at, format!("`labels` in [direction] is \"{other}\""), help);
                LabelSource::Predictor
            }
        };
        Some(DirectionSpec {
            finder: finder?,
            labels,
            samples: raw.samples.as_ref().map_or(DEFAULT_SAMPLES, |s| s.value as usize),
            seed: raw.seed.as_ref().map_or(0, |s| s.value),
            holdout: self.share(&raw.holdout, DEFAULT_HOLDOUT, "holdout"),
            threshold: self.share(&raw.threshold, 0.5, "threshold") as f32,
            along: match raw.along.as_ref().map(|a| (a.value.as_str(), a.at)) {
                None | Some(("normal", _)) => Along::Normal,
                Some(("pattern", _)) => Along::Pattern,
                Some((other, at)) => {
                    let help = suggest(other, &ALONG);
                    self.sink.add(at, format!("`along` in [direction] is \"{other}\""), help);
                    Along::Normal
                }
            },
            data: match data {
                Some(spec) => Some(spec?),
                None => None,
            },
            audit: {
                let usual = AuditPlan::default();
                let or =
                    |x: &Option<Located<u64>>, usual: usize| x.as_ref().map_or(usual, |v| v.value as usize);
                AuditPlan {
                    refits: or(&raw.audit.refits, usual.refits),
                    randoms: or(&raw.audit.randoms, usual.randoms),
                    codes: or(&raw.audit.codes, usual.codes),
                }
            },
        })
    }

    /// A number between 0 and 1, neither included.
    pub(super) fn share(&self, x: &Option<Located<f64>>, default: f64, what: &str) -> f64 {
        match x {
            Some(h) if h.value > 0.0 && h.value < 1.0 => h.value,
            Some(h) => {
                let message = format!("`{what}` is {}, expected a number between 0 and 1", h.value);
                self.sink.add(h.at, message, "");
                default
            }
            None => default,
        }
    }

    fn trust(&self, raw: &RawTrust) -> Option<TrustSpec> {
        let most = |x: &Option<Located<f64>>, key: &str| {
            if let Some(v) = x.as_ref().filter(|v| !(v.value > 0.0 && v.value.is_finite())) {
                self.sink.add(v.at, format!("`{key}` is {}, expected a positive number", v.value), "");
            }
            x.as_ref().map(|v| v.value as f32)
        };
        let (max_gap, max_error) = (most(&raw.max_gap, "max-gap"), most(&raw.max_error, "max-error"));
        if max_gap.is_none() && max_error.is_none() {
            let help = "name at least one, for example max-gap = 0.1";
            self.sink.add(
                raw.at,
                "[trust] has neither `max-gap` nor `max-error`: it would flag nothing",
                help,
            );
        }
        let retry = match &raw.retry {
            None => None,
            Some(r) => {
                let mut spec = self.component("retry", r, &registry::rules(registry::REFINERS))?;
                if let Kind::Plugin { .. } = spec.kind {
                    self.sink.add(r.kind.at, "`retry` in [trust] takes no plugin", "name a built-in kind");
                    return None;
                }
                self.on_generator(&mut spec, r);
                if spec.params.get("features").is_some() {
                    self.through_predictor(&mut spec, "[trust]");
                }
                Some(spec)
            }
        };
        Some(TrustSpec { max_gap, max_error, retry })
    }

    /// Hands the predictor's file and how it is fed to a component that looks through it: an ONNX model alone is open.
    fn through_predictor(&self, spec: &mut ComponentSpec, section: &str) {
        let f = self.predictor;
        if f.kind.value == "onnx" {
            spec.predictor = f.path.as_ref().map(|p| self.base.join(&p.value));
            spec.input = f.input.as_ref().map(Node::json);
        } else {
            let message = format!(
                "`features` in {section} are those of an ONNX predictor, {} is of kind \"{}\"",
                f.section, f.kind.value
            );
            self.sink.add(spec.marks.blame(&message), message, "leave `features` out");
        }
    }

    /// Hands the generator's file to a component that reads its weights: only the built-in StyleGAN2 has them open.
    fn on_generator(&self, spec: &mut ComponentSpec, raw: &RawComponent) {
        match &self.raw.generator {
            Some(g) if g.kind.value == registry::STYLEGAN2 => {
                spec.path = g.path.as_ref().map(|p| self.base.join(&p.value));
            }
            Some(g) => {
                let message = format!(
                    "kind \"{}\" reads the weights of a StyleGAN2 generator, [generator] is of kind \"{}\"",
                    spec.kind, g.kind.value
                );
                self.sink.add(
                    raw.kind.at,
                    message,
                    "use a generator of kind \"stylegan2\", or another kind here",
                );
            }
            // Said already: the section needs a generator.
            None => {}
        }
    }

    fn report(&self) -> ReportSpec {
        let single_file = self.raw.single_file;
        let Some(formats) = &self.raw.formats else {
            return ReportSpec { single_file, ..ReportSpec::default() };
        };
        for f in formats {
            if !FORMATS.contains(&f.value.as_str()) {
                let message = format!("unknown report format \"{}\"", f.value);
                self.sink.add(f.at, message, suggest(&f.value, &FORMATS));
            }
        }
        let has = |name: &str| formats.iter().any(|f| f.value == name);
        ReportSpec {
            html: has("html"),
            csv: has("csv"),
            parquet: has("parquet"),
            contact_sheet: has("contact-sheet"),
            gif: has("gif"),
            apng: has("apng"),
            single_file,
        }
    }
}

/// Turns serde's ``unknown field `stepz`, expected `steps` or `range` `` into a suggestion.
pub(super) fn help_on_field(message: &str) -> String {
    let words: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match words.split_first() {
        Some((found, valid)) if message.contains("unknown ") && !valid.is_empty() => suggest(found, valid),
        _ => String::new(),
    }
}

fn default_direction(at: At) -> DirectionSpec {
    DirectionSpec {
        finder: ComponentSpec {
            role: "direction",
            kind: Kind::Builtin(registry::LOGISTIC),
            generator: None,
            path: None,
            shown_path: None,
            pin: None,
            device: "cpu".into(),
            params: serde_json::json!({}),
            input: None,
            output: None,
            predictor: None,
            classes: Vec::new(),
            marks: Marks { section: at, kind: at, path: None, pin: None, device: None, nodes: Vec::new() },
        },
        labels: LabelSource::Predictor,
        samples: DEFAULT_SAMPLES,
        seed: 0,
        holdout: DEFAULT_HOLDOUT,
        threshold: 0.5,
        along: Along::Normal,
        data: None,
        audit: AuditPlan::default(),
    }
}

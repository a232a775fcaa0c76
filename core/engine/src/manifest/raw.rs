//! The first step: keys and types.

use super::evaluation::{RawEvaluation, read_evaluation};
use super::outline::{EMPTY, Field, Outline};
use super::predictors::{RawPredictors, read_predictors};
use super::problem::{At, Located, ManifestError, Problem, Sources};
use super::read::{Sink, Table};
use super::study::ClassRef;
use super::tree::{self, Node, Value};
use std::path::Path;

/// The manifest schema that this version reads.
pub const SCHEMA: u64 = 1;

/// A manifest whose keys and types are right.
#[derive(Debug)]
pub struct RawManifest {
    /// The texts, for messages.
    pub sources: Sources,
    /// `name`.
    pub name: Located<String>,
    /// `[data]`.
    pub data: RawData,
    /// `[predictor]`, or `[[predictor]]`.
    pub predictors: RawPredictors,
    /// `[generator]`.
    pub generator: Option<RawComponent>,
    /// `[encoder]`.
    pub encoder: Option<RawComponent>,
    /// `[direction]`.
    pub direction: Option<RawDirection>,
    /// `[trust]`.
    pub trust: Option<RawTrust>,
    /// `[evaluation]`.
    pub evaluation: Option<RawEvaluation>,
    /// `[[explainer]]`, in order.
    pub explainers: Vec<RawComponent>,
    /// `[plugins]`: name and file stem.
    pub plugins: Vec<(Located<String>, Located<String>)>,
    /// `report.formats`.
    pub formats: Option<Vec<Located<String>>>,
    /// `report.single-file`.
    pub single_file: bool,
}

/// `[data]`.
#[derive(Debug)]
pub struct RawData {
    /// A folder, a list (CSV, TSV, Parquet) or a glob.
    pub images: Located<String>,
    /// The folder that the paths in a list start from.
    pub root: Option<Located<String>>,
    /// Side of the centre square that is cut out of every image.
    pub crop: Option<Located<u64>>,
    /// Ground truth.
    pub labels: Option<RawLabels>,
    /// `group.file-name`: a regular expression.
    pub group_file_name: Option<Located<String>>,
    /// `group.column`: a column of the list.
    pub group_column: Option<Located<String>>,
    /// Which stored values are black and white, as it stands.
    pub window: Option<Node>,
    /// `mask.column`: a column of the list.
    pub mask_column: Option<Located<String>>,
    /// `frame.column`: a column of the list.
    pub frame_column: Option<Located<String>>,
    /// Columns of the list, or keywords of DICOM attributes, that are copied.
    pub metadata: Vec<Located<String>>,
    /// At most so many images, evenly spread over the sorted list.
    pub limit: Option<Located<u64>>,
    /// True if the images were drawn from a generator.
    pub synthetic: bool,
}

/// `data.labels`.
#[derive(Debug)]
pub struct RawLabels {
    /// `folder` or `column`.
    pub from: Located<String>,
    /// The list's column.
    pub column: Option<Located<String>>,
    /// Values that mean the target class.
    pub positive: Located<Vec<Located<String>>>,
    /// Values that mean it is absent.
    pub negative: Located<Vec<Located<String>>>,
}

/// A section that names a component.
#[derive(Debug)]
pub struct RawComponent {
    /// The section in messages: `[predictor]`.
    pub section: String,
    /// Where the section stands.
    pub at: At,
    /// `kind`.
    pub kind: Located<String>,
    /// `path`, in which variables have been replaced.
    pub path: Option<Located<String>>,
    /// `path` as it stands.
    pub shown_path: Option<String>,
    /// `sha256`.
    pub sha256: Option<Located<String>>,
    /// `device`.
    pub device: Option<Located<String>>,
    /// `input`, as it stands.
    pub input: Option<Node>,
    /// `output`, as it stands.
    pub output: Option<Node>,
    /// `params`, as they stand.
    pub params: Option<Node>,
    /// `classes` of an explainer.
    pub classes: Vec<Located<ClassRef>>,
}

/// `[direction]`.
#[derive(Debug)]
pub struct RawDirection {
    /// The finder.
    pub component: RawComponent,
    /// `labels`: `predictor` or `truth`.
    pub labels: Option<Located<String>>,
    /// Codes to sample.
    pub samples: Option<Located<u64>>,
    /// Seed of the codes.
    pub seed: Option<Located<u64>>,
    /// Share of the codes held out.
    pub holdout: Option<Located<f64>>,
    /// Score from which f says yes.
    pub threshold: Option<Located<f64>>,
    /// What a series moves along: `normal` or `pattern`.
    pub along: Option<Located<String>>,
    /// The labelled images whose codes it is fitted to.
    pub data: Option<RawData>,
    /// How much is spent on the audit.
    pub audit: RawAudit,
}

/// `direction.audit`.
#[derive(Debug, Default)]
pub struct RawAudit {
    /// Refits to bootstrap samples.
    pub refits: Option<Located<u64>>,
    /// Random directions.
    pub randoms: Option<Located<u64>>,
    /// Codes of the flip-rate curve.
    pub codes: Option<Located<u64>>,
}

/// `[trust]`.
#[derive(Debug)]
pub struct RawTrust {
    /// Where the section stands.
    pub at: At,
    /// Most |f(x) - f(G(E(x)))|.
    pub max_gap: Option<Located<f64>>,
    /// Most root mean square difference of pixels.
    pub max_error: Option<Located<f64>>,
    /// `retry`, its `params` and `device`.
    pub retry: Option<RawComponent>,
}

impl RawManifest {
    /// Reads and parses the file at `path`, with `overrides` (`direction.samples=500`) laid over it.
    ///
    /// # Errors
    /// Every mistake in keys and types, or that the file cannot be read.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, ManifestError> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&name, &text, overrides),
            Err(e) => {
                let mut sources = Sources::default();
                let source = sources.add(&name, "");
                let at = At { source, start: 0, end: 0 };
                let help = "give the path of a TOML manifest, for example manifests/phantom.toml";
                Err(ManifestError::new(
                    &name,
                    vec![sources.problem(at, format!("cannot read the manifest: {e}"), help)],
                ))
            }
        }
    }

    /// Parses `text`, called `name` in messages.
    ///
    /// # Errors
    /// Every mistake in keys and types.
    pub fn parse(name: &str, text: &str, overrides: &[String]) -> Result<Self, ManifestError> {
        let mut sources = Sources::default();
        let source = sources.add(name, text);
        let fail = |problems| ManifestError::new(name, problems);
        let mut root = tree::parse(&sources, source, text).map_err(fail)?;
        let lay = |o: &String| lay_over(&mut sources, &mut root, o).err().map(|p| *p);
        let wrong: Vec<Problem> = overrides.iter().filter_map(lay).collect();
        if !wrong.is_empty() {
            return Err(fail(wrong));
        }
        let sink = Sink::new(&sources);
        let read = read_root(&root, &sink);
        let problems = sink.problems.into_inner();
        match read {
            Some(build) if problems.is_empty() => Ok(build(sources)),
            _ => Err(fail(problems)),
        }
    }
}

/// The keys that [`RawManifest::parse`] knows.
pub(super) fn outline() -> Vec<Field> {
    let mut sources = Sources::default();
    sources.add("schema", "");
    let sink = Sink { outline: Some(Outline::default()), ..Sink::new(&sources) };
    // Nothing can be built of it, every key being left out.
    drop(read_root(&EMPTY, &sink));
    sink.outline.map(Outline::finish).unwrap_or_default()
}

/// Lays `key.path=value` over the tree. The value is TOML; what is no TOML is taken as a string.
fn lay_over(sources: &mut Sources, root: &mut Node, text: &str) -> Result<(), Box<Problem>> {
    let source = sources.add("--set", text);
    let at = At { source, start: 0, end: text.len() };
    let Some((key, value)) = split(text) else {
        return Err(Box::new(sources.problem(
            at,
            "an override without `=`",
            "write it as --set direction.samples=500",
        )));
    };
    // The value is parsed in place, blanks standing for the key, so that its span is right in `text`.
    let prefix = format!("v{}=", " ".repeat(key.len().saturating_sub(1)));
    let leaf = match tree::parse(sources, source, &format!("{prefix}{value}")) {
        Ok(Node { value: Value::Table(mut t), .. }) if t.len() == 1 => t.remove(0).1,
        _ => Node { at, value: Value::Str(value.trim().to_owned()) },
    };
    let at_key = At { end: key.trim_end().len(), ..at };
    let problem = |e: String| Box::new(sources.problem(at_key, e, ""));
    let path = tree::key_path(sources, source, key)
        .ok_or_else(|| problem(format!("`{}` is no key, expected names with dots between", key.trim())))?;
    root.set(&path, at_key, leaf).map_err(problem)
}

/// Parts an override at the first `=` that stands in no quoted name.
fn split(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (None, '=') => return Some((&text[..i], &text[i + 1..])),
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            _ => {}
        }
    }
    None
}

type Build = Box<dyn FnOnce(Sources) -> RawManifest>;

fn read_root(root: &Node, sink: &Sink<'_>) -> Option<Build> {
    let mut t = Table::new("the manifest", root, sink)?;
    if let Some(n) = t.required("schema", "write `schema = 1` as the first line") {
        match n.value {
            Value::Int(i) if i == SCHEMA as i64 => {}
            _ => {
                sink.add(n.at, format!("`schema` is not one that this version reads (it reads {SCHEMA})"), "")
            }
        }
    }
    let name = t.required_string("name", "for example `name = \"knee osteoarthritis\"`");
    let data = t
        .required("data", "a study needs `[data]` with `images = \"folder\"`")
        .and_then(|n| read_data("[data]", n, sink));
    let predictors = read_predictors(&mut t, sink);
    let generator = t.node("generator").map(|n| read_component("[generator]", n, sink, Own::InputAndOutput));
    let encoder = t.node("encoder").map(|n| read_component("[encoder]", n, sink, Own::InputAndOutput));
    let direction = t.node("direction").map(|n| read_direction(n, sink));
    let trust = t.node("trust").map(|n| read_trust(n, sink));
    let evaluation = t.node("evaluation").map(|n| read_evaluation(n, sink));
    let explainers =
        t.sections("explainer", "name at least one: `[[explainer]]` with `kind = \"latent-shift\"`");
    let explainers = explainers.and_then(|n| read_explainers(&n, sink));
    let plugins = t.node("plugins").map(|n| Table::new("[plugins]", n, sink).map(Table::free_paths));
    let report = t.node("report").map(|n| {
        let mut r = Table::new("[report]", n, sink)?;
        let asked = (r.strings("formats"), r.flag("single-file"));
        r.finish();
        Some(asked)
    });
    t.finish();
    let (name, data, predictors, explainers) = (name?, data?, predictors?, explainers?);
    let (generator, encoder, direction) = (flat(generator)?, flat(encoder)?, flat(direction)?);
    let (trust, evaluation) = (flat(trust)?, flat(evaluation)?);
    let plugins = flat(plugins)?.unwrap_or_default();
    let (formats, single_file) = flat(report)?.unwrap_or((None, false));
    let formats = formats.map(|f| f.value);
    Some(Box::new(move |sources| RawManifest {
        sources,
        name,
        data,
        predictors,
        generator,
        encoder,
        direction,
        trust,
        evaluation,
        explainers,
        plugins,
        formats,
        single_file,
    }))
}

/// Absent is fine, present but broken is not.
#[allow(clippy::option_option)]
pub(super) fn flat<T>(x: Option<Option<T>>) -> Option<Option<T>> {
    match x {
        None => Some(None),
        Some(None) => None,
        Some(Some(v)) => Some(Some(v)),
    }
}

fn read_data(what: &str, node: &Node, sink: &Sink<'_>) -> Option<RawData> {
    let mut t = Table::new(what, node, sink)?;
    let images = t.required_path(
        "images",
        "a folder, a list (CSV, TSV, Parquet) with a `path` column, or a glob such as \"knees/*.png\"",
    );
    let (root, crop) = (t.path("root"), t.count("crop", 8));
    let labels = t.node("labels").map(|n| {
        let mut l = Table::new(format!("`labels` in {what}"), n, sink)?;
        let from =
            l.required_string("from", "\"folder\" (the folder an image lies in) or \"column\" (of the list)");
        let column = l.string("column");
        let positive = l.strings("positive");
        let negative = l.strings("negative");
        for (key, found) in [("positive", &positive), ("negative", &negative)] {
            if found.is_none() {
                sink.add(
                    l.at(),
                    format!("`labels` in {what} lacks the key `{key}`"),
                    "a list such as [\"3\", \"4\"]",
                );
            }
        }
        l.finish();
        Some(RawLabels { from: from?, column, positive: positive?, negative: negative? })
    });
    let group = t.node("group").map(|n| {
        let mut g = Table::new(format!("`group` in {what}"), n, sink)?;
        let both = (g.string("file-name"), g.string("column"));
        g.finish();
        Some(both)
    });
    let mask = t.node("mask").map(|n| read_column("mask", what, n, sink));
    let frame = t.node("frame").map(|n| read_column("frame", what, n, sink));
    let window = t.node("window").cloned();
    let metadata = t.strings("metadata").map(|m| m.value).unwrap_or_default();
    let limit = t.count("limit", 1);
    let synthetic = t.flag("synthetic");
    t.finish();
    let (group_file_name, group_column) = flat(group)?.unwrap_or_default();
    let labels = flat(labels)?;
    Some(RawData {
        images: images?,
        root,
        crop,
        labels,
        group_file_name,
        group_column,
        window,
        mask_column: flat(mask)?,
        frame_column: flat(frame)?,
        metadata,
        limit,
        synthetic,
    })
}

/// `key = { column = "name" }`.
fn read_column(key: &str, what: &str, node: &Node, sink: &Sink<'_>) -> Option<Located<String>> {
    let mut t = Table::new(format!("`{key}` in {what}"), node, sink)?;
    let column = t.required_string("column", "the list's column");
    t.finish();
    column
}

/// Keys that only some sections have.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Own {
    Nothing,
    InputAndOutput,
    Classes,
}

pub(super) fn component_of(section: &str, t: &mut Table<'_>, own: Own) -> Option<RawComponent> {
    let kind = t.required_string("kind", "a built-in kind, or \"plugin:NAME\" with NAME in [plugins]");
    let (path, shown_path) = (t.path("path"), t.as_written("path"));
    let (sha256, device) = (t.string("sha256"), t.string("device"));
    let params = t.node("params").cloned();
    let (input, output) = match own {
        Own::InputAndOutput => (t.node("input").cloned(), t.node("output").cloned()),
        _ => (None, None),
    };
    let classes = if own == Own::Classes { t.classes("classes").unwrap_or_default() } else { Vec::new() };
    Some(RawComponent {
        section: section.into(),
        at: t.at(),
        kind: kind?,
        path,
        shown_path,
        sha256,
        device,
        input,
        output,
        params,
        classes,
    })
}

pub(super) fn read_component(section: &str, node: &Node, sink: &Sink<'_>, own: Own) -> Option<RawComponent> {
    let mut t = Table::new(section, node, sink)?;
    let component = component_of(section, &mut t, own);
    t.finish();
    component
}

fn read_direction(node: &Node, sink: &Sink<'_>) -> Option<RawDirection> {
    let mut t = Table::new("[direction]", node, sink)?;
    let component = component_of("[direction]", &mut t, Own::Nothing);
    let labels = t.string("labels");
    let (samples, seed) = (t.count("samples", 20), t.count("seed", 0));
    let (holdout, threshold) = (t.number("holdout"), t.number("threshold"));
    let along = t.string("along");
    let data = t.node("data").map(|n| read_data("`data` in [direction]", n, sink));
    let audit = t.node("audit").map(|n| {
        let mut a = Table::new("`audit` in [direction]", n, sink)?;
        let all = RawAudit {
            refits: a.count("refits", 0),
            randoms: a.count("randoms", 0),
            codes: a.count("codes", 0),
        };
        a.finish();
        Some(all)
    });
    t.finish();
    let (data, audit) = (flat(data)?, flat(audit)?.unwrap_or_default());
    Some(RawDirection {
        component: component?,
        labels,
        samples,
        seed,
        holdout,
        threshold,
        along,
        data,
        audit,
    })
}

fn read_trust(node: &Node, sink: &Sink<'_>) -> Option<RawTrust> {
    let mut t = Table::new("[trust]", node, sink)?;
    let (max_gap, max_error) = (t.number("max-gap"), t.number("max-error"));
    let (retry, device) = (t.string("retry"), t.string("device"));
    let params = t.node("params").cloned();
    let at = t.at();
    t.finish();
    for (key, place) in [("device", device.as_ref().map(|d| d.at)), ("params", params.as_ref().map(|p| p.at))]
    {
        if let (None, Some(place)) = (&retry, place) {
            sink.add(
                place,
                format!("`{key}` in [trust] without `retry`"),
                "they are those of what is tried again",
            );
        }
    }
    let retry = retry.map(|kind| RawComponent {
        section: "[trust]".into(),
        at,
        kind,
        path: None,
        shown_path: None,
        sha256: None,
        device,
        input: None,
        output: None,
        params,
        classes: Vec::new(),
    });
    Some(RawTrust { at, max_gap, max_error, retry })
}

fn read_explainers(nodes: &[&Node], sink: &Sink<'_>) -> Option<Vec<RawComponent>> {
    // All of them, so that the mistakes of each are named.
    let read =
        |(i, n): (usize, &&Node)| read_component(&format!("[[explainer]] {}", i + 1), n, sink, Own::Classes);
    let all: Vec<Option<RawComponent>> = nodes.iter().enumerate().map(read).collect();
    all.into_iter().collect()
}

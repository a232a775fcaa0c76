//! `shiftlens init`: a first manifest for an ONNX classifier.

mod ask;

use crate::args::height_and_width;
use crate::failure::Failure;
use ask::{Asker, names};
use clap::Args;
use shiftlens_api::Error;
use shiftlens_engine::manifest::{ClassRef, Draft, Found, Scaling, relative};
use shiftlens_engine::nearest::suggest;
use shiftlens_engine::registry::{Classifier, Declared, InputSpec, Layout};
use shiftlens_engine::{RawManifest, Study};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct Init {
    /// The classifier, an ONNX file; what it says of its input and output is read from it
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The images: a folder, a CSV with a `path` column, or a glob
    #[arg(long, value_name = "DIR|CSV|GLOB")]
    images: Option<PathBuf>,
    /// Names of the classes, in the order of the model's outputs
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    classes: Vec<String>,
    /// The class to explain, by name or by its index from 0
    #[arg(long, value_name = "CLASS")]
    target: Option<String>,
    /// Folders whose images are of that class
    #[arg(long, value_name = "A,B", value_delimiter = ',', requires = "negative")]
    positive: Vec<String>,
    /// Folders whose images are not of that class
    #[arg(long, value_name = "A,B", value_delimiter = ',', requires = "positive")]
    negative: Vec<String>,
    /// A generator of such images: the file of a trained one (.safetensors), or an ONNX file
    #[arg(long, value_name = "FILE", requires = "encoder")]
    generator: Option<PathBuf>,
    /// The encoder that belongs to it
    #[arg(long, value_name = "FILE", requires = "generator")]
    encoder: Option<PathBuf>,
    /// Axis order of the model's input, where the file leaves it open: nchw or nhwc
    #[arg(long, value_parser = layout)]
    layout: Option<Layout>,
    /// Height and width of the model's input, where the file leaves them open
    #[arg(long, value_name = "H,W", value_parser = height_and_width)]
    size: Option<[usize; 2]>,
    /// Channels of the model's input, 1 or 3, where the file leaves them open
    #[arg(long, value_parser = channels)]
    channels: Option<usize>,
    /// The output that holds the scores, where the model has several
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// What values in [0, 1] are multiplied by before the mean is subtracted, such as 255
    #[arg(long)]
    scale: Option<f32>,
    /// What is subtracted from them: one value, or one per channel
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', allow_hyphen_values = true)]
    mean: Vec<f32>,
    /// What they are divided by at last: one value, or one per channel
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    std: Vec<f32>,
    /// The study's name [default: the model's file name]
    #[arg(long)]
    name: Option<String>,
    /// The manifest to write
    #[arg(short, long, value_name = "FILE", default_value = "study.toml")]
    out: PathBuf,
    /// Overwrite it
    #[arg(long)]
    force: bool,
}

fn layout(text: &str) -> Result<Layout, String> {
    match text {
        "nchw" => Ok(Layout::Nchw),
        "nhwc" => Ok(Layout::Nhwc),
        _ => Err("expected nchw or nhwc".into()),
    }
}

fn channels(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| [1, 3].contains(n)).ok_or_else(|| "expected 1 or 3".into())
}

/// What is wrong with a file that the command line names.
fn usage(e: Error) -> Failure {
    Failure::Usage(e.to_string())
}

/// Writes a manifest that passes `check`.
pub fn init(a: &Init) -> crate::Done {
    let folder = a.out.parent().unwrap_or(Path::new(""));
    if !folder.as_os_str().is_empty() && !folder.is_dir() {
        return Err(Failure::Usage(format!("{}: no such folder", folder.display())));
    }
    if a.out.exists() && !a.force {
        return Err(there_already(&a.out));
    }
    let mut input = std::io::stdin().lock();
    let mut output = std::io::stderr().lock();
    let terminal = std::io::stdin().is_terminal();
    let input: Option<&mut dyn std::io::BufRead> = if terminal { Some(&mut input) } else { None };
    let draft = draft(a, folder, &mut Asker::new(input, &mut output))?;
    let text = draft.text();
    // What is written is right, or nothing is written.
    parse(&text, &a.out)?;
    write(&a.out, &text, a.force)?;
    let (c, shown) = (&draft.classifier, a.out.display());
    let colours = if c.channels == 1 { "grey" } else { "RGB" };
    println!(
        "wrote {shown}: {} images, a classifier of {}x{} {colours} with {} output{}",
        draft.found.images,
        c.size.0,
        c.size.1,
        c.columns,
        if c.columns == 1 { "" } else { "s" }
    );
    if draft.scaling == Scaling::default() {
        println!("it does not say how pixels were scaled in training: see the comment at [predictor]");
    }
    println!("next: shiftlens check {shown}");
    Ok(())
}

fn there_already(path: &Path) -> Failure {
    let path = path.display();
    Failure::Usage(format!("{path} is there already: -o names another file, --force overwrites it"))
}

fn write(path: &Path, text: &str, force: bool) -> crate::Done {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).truncate(true).create(true);
    if !force {
        // Also where it came to be while questions were asked.
        options.create_new(true);
    }
    let written = options.open(path).and_then(|mut f| f.write_all(text.as_bytes()));
    written.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => there_already(path),
        _ => Failure::Work(Error::io(path, e)),
    })
}

fn parse(text: &str, path: &Path) -> Result<Study, Failure> {
    Ok(RawManifest::parse(&path.display().to_string(), text, &[])?.check(path)?)
}

/// Gathers what the flags, the files and the answers say.
fn draft(a: &Init, folder: &Path, asker: &mut Asker<'_>) -> Result<Draft, Failure> {
    if !a.model.is_file() {
        return Err(Failure::Usage(format!("{}: no such file", a.model.display())));
    }
    let scaling = Scaling { scale: a.scale, mean: a.mean.clone(), std: a.std.clone() };
    let (input, output) = input(a, &scaling, asker)?;
    let images = match &a.images {
        Some(images) => Some(images.clone()),
        None => {
            let question = "Where are the images: a folder, a CSV with a `path` column, or a glob?";
            let there = |text: &str| {
                let found =
                    if text.is_empty() { Err("expected a path".into()) } else { Ok(PathBuf::from(text)) };
                found.and_then(|p| relative(folder, &p).map(|_| p).map_err(|e| e.to_string()))
            };
            asker.need("--images DIR|CSV|GLOB", question, there)?
        }
    };
    asker.complete()?;
    let images = images.unwrap_or_default();
    let classifier = Classifier::read(&a.model, &input, output.as_deref()).map_err(usage)?;
    let classes = classes(a, &classifier, asker)?;
    let target = target(a, &classifier, &classes, asker)?;
    asker.complete()?;

    let path = |p: &Path| relative(folder, p).map_err(usage);
    let stem = |p: &Path| p.file_stem().map_or("study".into(), |s| s.to_string_lossy().into_owned());
    let latent = match (&a.generator, &a.encoder) {
        (Some(g), Some(e)) => Some((path(g)?, path(e)?)),
        _ => None,
    };
    let mut draft = Draft {
        file: a.out.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        name: a.name.clone().unwrap_or_else(|| stem(&a.model)),
        images: path(&images)?,
        found: Found::default(),
        labels: None,
        model: path(&a.model)?,
        classifier,
        scaling,
        classes,
        target,
        latent,
    };
    draft.found = Found::look(&parse(&draft.text(), &a.out)?).map_err(usage)?;
    draft.labels = labels(a, &draft, asker)?;
    Ok(draft)
}

/// The model's input as the manifest shall say it, and the name of its output where it has several.
fn input(a: &Init, scaling: &Scaling, asker: &mut Asker<'_>) -> Result<(InputSpec, Option<String>), Failure> {
    let mut declared = Declared::read(&a.model, a.layout).map_err(usage)?;
    if declared.layout.is_none() {
        let question = format!(
            "The model's input is {}, which does not tell the order of its axes: nchw (PyTorch) or nhwc (TensorFlow)?",
            declared.shape
        );
        let answer = asker.need("--layout nchw|nhwc", &question, layout)?;
        if answer.is_some() {
            declared = Declared::read(&a.model, answer).map_err(usage)?;
        }
    }
    let channels = match a.channels.or(declared.channels) {
        // What cannot be explained is refused when the model is run.
        Some(n) => Some(n),
        None if declared.layout.is_none() => None,
        None => asker.need(
            "--channels N",
            "The model leaves its channels open: 1 (grey) or 3 (RGB)?",
            channels,
        )?,
    };
    let size = match (a.size, declared.size) {
        (Some(size), _) => Some(size),
        (None, [Some(h), Some(w)]) => Some([h, w]),
        (None, _) if declared.layout.is_none() => None,
        (None, _) => {
            let question = format!(
                "The model leaves the size of its images open ({}): height and width in pixels, as in 224,224?",
                declared.shape
            );
            asker.need("--size H,W", &question, height_and_width)?
        }
    };
    let output = match (&a.output, &declared.outputs[..]) {
        (Some(name), _) => Some(name.clone()),
        (None, [] | [_]) => None,
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
            let shown: Vec<String> = several.iter().map(|(name, dims)| format!("{name} {dims}")).collect();
            let question = format!("Which output holds the scores: {}?", shown.join("; "));
            let one = |t: &str| match names.contains(&t) {
                true => Ok(t.to_owned()),
                false => Err(suggest(t, &names)),
            };
            asker.need("--output NAME", &question, one)?
        }
    };
    let spec = InputSpec {
        layout: declared.layout,
        size,
        channels,
        scale: scaling.scale,
        mean: scaling.mean.clone(),
        std: scaling.std.clone(),
        ..InputSpec::default()
    };
    Ok((spec, output))
}

/// Names of the classes; none where nobody names them.
fn classes(a: &Init, c: &Classifier, asker: &mut Asker<'_>) -> Result<Vec<String>, Failure> {
    let expected = match c.columns {
        1 => "one name, or two for the absence and the presence of what the output scores".to_owned(),
        n => format!("{n} names"),
    };
    let fit = |names: Vec<String>| {
        if let Some(twice) = names.iter().enumerate().find(|(i, n)| names[..*i].contains(n)) {
            return Err(format!("`{}` stands twice among the classes", twice.1));
        }
        match (names.len(), c.columns) {
            (1 | 2, 1) => Ok(names),
            (n, columns) if n == columns => Ok(names),
            (n, _) => Err(format!("{n} names of classes, expected {expected}")),
        }
    };
    if !a.classes.is_empty() {
        return fit(a.classes.clone()).map_err(|e| Failure::Usage(format!("--classes: {e}")));
    }
    let question = format!(
        "Names of the classes, in the order of the outputs, with commas between: {expected} (empty: they have none)"
    );
    Ok(asker.offer(&question, |t| fit(names(t)))?.unwrap_or_default())
}

/// The class to explain; `None` where there is one only.
fn target(
    a: &Init,
    c: &Classifier,
    classes: &[String],
    asker: &mut Asker<'_>,
) -> Result<Option<ClassRef>, Failure> {
    let count = classes.len().max(c.columns);
    let parse = |text: &str| match (classes.iter().find(|n| *n == text), text.parse::<usize>()) {
        (Some(name), _) => Ok(ClassRef::Name(name.clone())),
        (None, Ok(i)) if i < count => {
            Ok(classes.get(i).map_or(ClassRef::Index(i), |n| ClassRef::Name(n.clone())))
        }
        (None, _) if classes.is_empty() => {
            Err(format!("`{text}` is no class: expected an index from 0 to {}", count - 1))
        }
        (None, _) => {
            let names: Vec<&str> = classes.iter().map(String::as_str).collect();
            Err(format!("`{text}` is no class: {}", suggest(text, &names)))
        }
    };
    if let Some(text) = &a.target {
        return parse(text).map(Some).map_err(|e| Failure::Usage(format!("--target: {e}")));
    }
    match count {
        1 => Ok(None),
        // As a study without a target takes it.
        2 => Ok(Some(classes.get(1).map_or(ClassRef::Index(1), |n| ClassRef::Name(n.clone())))),
        n => {
            let which = if classes.is_empty() { format!("0 to {}", n - 1) } else { classes.join(", ") };
            asker.need("--target CLASS", &format!("Which of {n} classes shall be explained: {which}?"), parse)
        }
    }
}

/// Folders that mean a class, and folders that mean its absence.
type Folders = (Vec<String>, Vec<String>);

/// Folders that mean the target and its absence: as given, by their names, or as answered.
fn labels(a: &Init, draft: &Draft, asker: &mut Asker<'_>) -> Result<Option<Folders>, Failure> {
    let folders: Vec<&str> = draft.found.folders.keys().map(String::as_str).collect();
    let known = |names: Vec<String>| match names.iter().find(|n| !folders.contains(&n.as_str())) {
        Some(other) if folders.is_empty() => {
            Err(format!("`{other}`: the images do not lie in several folders"))
        }
        Some(other) => Err(format!("no images in a folder `{other}`: {}", suggest(other, &folders))),
        None => Ok(names),
    };
    if !a.positive.is_empty() {
        let of = |flag: &str, names: &[String]| {
            known(names.to_vec()).map_err(|e| Failure::Usage(format!("{flag}: {e}")))
        };
        return Ok(Some((of("--positive", &a.positive)?, of("--negative", &a.negative)?)));
    }
    if folders.is_empty() {
        return Ok(None);
    }
    let target = match &draft.target {
        Some(ClassRef::Name(name)) => Some(name.as_str()),
        Some(ClassRef::Index(_)) => None,
        None => draft.classes.first().map(String::as_str),
    };
    if let Some(found) = target.and_then(|t| draft.found.labels(&draft.classes, t)) {
        return Ok(Some(found));
    }
    let question = format!(
        "The images lie in the folders {}. Which names, with commas between, mean the class that is explained; the others \
         mean its absence (empty: the folders do not say)",
        folders.join(", ")
    );
    let some = |text: &str| {
        let positive = known(names(text))?;
        if positive.len() == folders.len() {
            Err("that leaves none for its absence".into())
        } else {
            Ok(positive)
        }
    };
    let Some(positive) = asker.offer(&question, some)? else { return Ok(None) };
    let negative =
        folders.iter().filter(|f| !positive.iter().any(|p| p == *f)).map(|f| (*f).to_owned()).collect();
    Ok(Some((positive, negative)))
}

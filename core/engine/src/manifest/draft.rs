//! A first manifest, with what a model's file and a folder of images say, and in comments what they do not.

use super::study::{ClassRef, Study};
use crate::registry::{Activation, Classifier, Layout};
use shiftlens_api::{Error, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

/// Width that comments are broken at.
const WIDTH: usize = 100;

/// What is found where the images are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Images.
    pub images: usize,
    /// The folders that they lie in, by name, with their images; none if it is a single one.
    pub folders: BTreeMap<String, usize>,
    /// Columns of a list.
    pub columns: Vec<String>,
}

impl Found {
    /// Looks at a study's images.
    ///
    /// # Errors
    /// As [`crate::data::scan`].
    pub fn look(study: &Study) -> Result<Self> {
        let items = crate::data::scan(&study.data)?;
        let columns = crate::data::columns(&study.data.images)?;
        let mut folders = BTreeMap::new();
        if columns.is_empty() {
            let names = items.iter().filter_map(|i| i.path.parent()?.file_name()?.to_str());
            names.for_each(|name| *folders.entry(name.to_owned()).or_insert(0) += 1);
            folders = Some(folders).filter(|f| f.len() > 1).unwrap_or_default();
        }
        Ok(Self { images: items.len(), folders, columns })
    }

    /// Which folders mean the target and which its absence, where folders are called as the classes are.
    pub fn labels(&self, classes: &[String], target: &str) -> Option<(Vec<String>, Vec<String>)> {
        let positive: Vec<String> = self.folders.keys().filter(|f| *f == target).cloned().collect();
        let of_another = |f: &&String| classes.contains(f) && *f != target;
        let negative: Vec<String> = self.folders.keys().filter(of_another).cloned().collect();
        (!positive.is_empty() && !negative.is_empty()).then_some((positive, negative))
    }
}

/// What a first manifest is made of. Paths are written as they stand here.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The manifest's file name, for the commands in its comments.
    pub file: String,
    /// The study's name.
    pub name: String,
    /// The images.
    pub images: String,
    /// What is there.
    pub found: Found,
    /// Folders that mean the target, and folders that mean its absence.
    pub labels: Option<(Vec<String>, Vec<String>)>,
    /// The classifier's file.
    pub model: String,
    /// The classifier.
    pub classifier: Classifier,
    /// `scale`, `mean` and `std` of its input, where they are known.
    pub scaling: Scaling,
    /// Names of its classes, where they are known.
    pub classes: Vec<String>,
    /// The class to explain, where there is a choice.
    pub target: Option<ClassRef>,
    /// The files of a generator and an encoder.
    pub latent: Option<(String, String)>,
}

/// How pixels become a model's input.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scaling {
    /// What values in [0, 1] are multiplied by.
    pub scale: Option<f32>,
    /// What is subtracted then.
    pub mean: Vec<f32>,
    /// What is divided by at last.
    pub std: Vec<f32>,
}

impl Draft {
    /// The manifest.
    pub fn text(&self) -> String {
        let mut t = Text(String::new());
        let Self { file, .. } = self;
        t.comment("A study of a classifier, as `shiftlens init` writes it. Every line may be changed.");
        t.comment("");
        t.line(&format!(
            "#   shiftlens check {file}    opens everything, runs nothing, says what it inferred"
        ));
        t.line(&format!("#   shiftlens run {file}      explains the images and writes a report"));
        t.comment("");
        t.comment(
            "Editors that know JSON Schema complete and check this file: write what `shiftlens schema study` prints into \
             study.schema.json beside it, and make `#:schema study.schema.json` the first line.",
        );
        t.line("");
        t.line("schema = 1");
        t.line(&format!("name = {}", quote(&self.name)));
        self.data(&mut t);
        self.predictor(&mut t);
        self.latent(&mut t);
        let (plugin, library) = self.explainers(&mut t);
        self.evaluation(&mut t);
        t.line(&format!("[plugins]\n{plugin} = \"{library}\""));
        t.0
    }

    fn data(&self, t: &mut Text) {
        let Found { images, folders, columns } = &self.found;
        t.line("\n[data]");
        t.comment(&format!("{images} images when this was written."));
        t.line(&format!("images = {}", quote(&self.images)));
        let counts: Vec<String> = folders.iter().map(|(f, n)| format!("{} ({n})", quote(f))).collect();
        match &self.labels {
            Some((positive, negative)) => {
                t.comment(&format!(
                    "Ground truth, by the folder that an image lies in: {}.",
                    counts.join(", ")
                ));
                let (positive, negative) = (list(positive), list(negative));
                t.line(&format!(
                    "labels = {{ from = \"folder\", positive = {positive}, negative = {negative} }}"
                ));
            }
            None if !folders.is_empty() => {
                t.comment(&format!(
                    "The images lie in the folders {}. If a folder's name is the truth about its images, say which names \
                     mean the class that is explained, and which its absence:",
                    counts.join(", ")
                ));
                let names: Vec<String> = folders.keys().cloned().collect();
                let (positive, negative) = (list(&names[1..]), list(&names[..1]));
                t.line(&format!(
                    "# labels = {{ from = \"folder\", positive = {positive}, negative = {negative} }}"
                ));
            }
            None if !columns.is_empty() => {
                t.comment(&format!(
                    "The columns are {}. If one is the truth about an image, name it, and its values that mean the class \
                     that is explained and its absence:",
                    columns.iter().map(|c| quote(c)).collect::<Vec<_>>().join(", ")
                ));
                let column = quote(columns.iter().find(|c| *c != "path").unwrap_or(&columns[0]));
                t.line(&format!(
                    "# labels = {{ from = \"column\", column = {column}, positive = [\"1\"], negative = [\"0\"] }}"
                ));
            }
            None => {
                t.comment("Nothing was found that says which class an image is of: there are no `labels`.")
            }
        }
        t.comment(
            "Which images are of one patient is not guessed. If the file's name says it, this is how: here, by the digits \
             that it begins with.",
        );
        t.line("# group = { file-name = '^(\\d+)' }");
    }

    fn predictor(&self, t: &mut Text) {
        let (c, d) = (&self.classifier, &self.classifier.declared);
        t.line("\n[predictor]\nkind = \"onnx\"");
        t.line(&format!("path = {}", quote(&self.model)));
        let batch = c.batch.map_or(String::new(), |n| format!(" Its batch is fixed to {n}."));
        t.comment(&format!("The file declares its input {} as {}.{batch}", quote(&d.input), d.shape));
        let scaling = self.scaling.keys();
        if scaling.is_empty() {
            let example = match c.channels {
                1 => "mean = [0.5], std = [0.5]",
                _ => "mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225]",
            };
            t.comment(&format!(
                "What the file does not say is how pixels were scaled in training. Without `scale`, `mean` and `std` the \
                 model is fed values in [0, 1]; with them (x * scale - mean) / std. Wrong ones make wrong scores and no error, \
                 so look into the code that trained the model, and add them here, for example {example}."
            ));
        }
        let layout = if c.layout == Layout::Nchw { "nchw" } else { "nhwc" };
        t.line(&format!(
            "input = {{ layout = \"{layout}\", size = [{}, {}], channels = {}{scaling} }}",
            c.size.0, c.size.1, c.channels
        ));
        let (activation, why) = activation(c);
        t.comment(&why);
        let mut output = format!("activation = \"{activation}\"");
        if d.outputs.len() > 1 {
            let _ = write!(output, ", name = {}", quote(&c.output));
        }
        match (&self.classes[..], c.columns) {
            ([], 1) => t.comment(
                "The one score can be given a name, classes = [\"sick\"]; of a probability also two, \
                 classes = [\"well\", \"sick\"], the second being what the score is the probability of.",
            ),
            ([], n) => t.comment(&format!(
                "The classes can be given names, classes = [...] with {n} of them in the order of the outputs; without they \
                 are numbered from 0."
            )),
            (names, _) => {
                let _ = write!(output, ", classes = {}", list(names));
            }
        }
        match &self.target {
            Some(ClassRef::Name(name)) => {
                let _ = write!(output, ", target = {}", quote(name));
            }
            Some(ClassRef::Index(i)) => {
                let _ = write!(output, ", target = {i}");
            }
            None => {}
        }
        t.line(&format!("output = {{ {output} }}"));
    }

    fn latent(&self, t: &mut Text) {
        t.line("");
        let Some((generator, encoder)) = &self.latent else {
            t.comment(
                "With a generator and an encoder of such images a study also shows how an image would have to change for the \
                 classifier to change its mind. They are trained by `shiftlens train generator` and `shiftlens train encoder`, \
                 and named in [generator] and [encoder]; then [[explainer]] can be of kind \"latent-shift\".",
            );
            t.line("");
            return;
        };
        for (role, file) in [("generator", generator), ("encoder", encoder)] {
            let kind = match (is_onnx(file), role) {
                (true, _) => "onnx",
                (false, "generator") => "stylegan2",
                (false, _) => "stylegan2-encoder",
            };
            t.line(&format!("[{role}]\nkind = \"{kind}\"\npath = {}", quote(file)));
            if kind == "onnx" && role == "encoder" {
                t.comment(
                    "Here too the file does not say how pixels were scaled: without input = { mean = [...], std = [...] } it is \
                     fed values in [0, 1].",
                );
            }
            t.line("");
        }
        t.comment("The direction along which the score of the target changes, fitted to codes that the classifier judged.");
        t.line("[direction]\nkind = \"logistic\"\nsamples = 20000\nseed = 7\n");
        t.comment("A series of images along it, from where the classifier says one thing to where it says the other.");
        t.line("[[explainer]]\nkind = \"latent-shift\"\nparams = { steps = 9, range = \"calibrated\" }\n");
    }

    /// Answers the plugin's name and its library's.
    fn explainers(&self, t: &mut Text) -> (&'static str, &'static str) {
        match &self.classifier.layer {
            Ok(layer) => {
                t.comment(&format!(
                    "Where the classifier looks. Left to itself the method takes the layer {}; `shiftlens layers` lists the \
                     others, for params = {{ layer = \"...\" }}.",
                    quote(layer)
                ));
                t.line("[[explainer]]\nkind = \"plugin:gradcam\"\nparams = { method = \"gradcam\" }\n");
                ("gradcam", "shiftlens_gradcam")
            }
            Err(why) => {
                t.comment(&format!(
                    "Where the classifier looks, by covering parts of the image. Methods that need gradients do not work with \
                     this file: {why}"
                ));
                t.line("[[explainer]]\nkind = \"plugin:attribution\"\nparams = { method = \"occlusion\" }\n");
                ("attribution", "shiftlens_attribution")
            }
        }
    }

    /// In comments: it asks the classifier some hundred times more for every image.
    fn evaluation(&self, t: &mut Text) {
        t.comment(
            "With these lines every explanation is measured as it is made, beside a random one as the floor, and methods are \
             compared at the end. That takes some hundred questions to the classifier for each image and method, so a few images \
             are a start. Without `metrics` all are measured that apply.",
        );
        let series = if self.latent.is_some() { ", \"flip_rate\", \"proximity_ssim\"" } else { "" };
        t.line("# [evaluation]");
        t.line("# images = 20");
        t.line(&format!(
            "# metrics = [\"insertion_auc\", \"road\", \"repeatability\", \"sparseness\"{series}]"
        ));
        t.line("");
    }
}

impl Scaling {
    /// The keys behind others in an inline table.
    fn keys(&self) -> String {
        let floats = |v: &[f32]| v.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(", ");
        let mut out = String::new();
        if let Some(scale) = self.scale {
            let _ = write!(out, ", scale = {scale:?}");
        }
        for (key, values) in [("mean", &self.mean), ("std", &self.std)] {
            if !values.is_empty() {
                let _ = write!(out, ", {key} = [{}]", floats(values));
            }
        }
        out
    }
}

/// What must be applied to the output, and why.
fn activation(c: &Classifier) -> (&'static str, String) {
    let scores = if c.columns == 1 { "its one output".into() } else { format!("its {} outputs", c.columns) };
    match (c.activation, c.ending.as_deref()) {
        (Activation::Already, Some(end)) => {
            ("already", format!("The graph ends in {end}: {scores} can be read as probabilities."))
        }
        (Activation::Softmax, Some(end)) => {
            ("softmax", format!("The graph ends in {end}: a softmax makes probabilities of {scores}."))
        }
        (Activation::Sigmoid, _) => (
            "sigmoid",
            format!(
                "The graph does not end in a sigmoid, so {scores} is taken for a logit, which is an assumption. Write \"none\" if \
                 it is a score on any other scale, \"already\" if it is a probability."
            ),
        ),
        (Activation::Softmax, None) => (
            "softmax",
            format!(
                "The graph does not end in a softmax, so {scores} are taken for logits of classes of which an image has one, \
                 which is an assumption. Write \"sigmoid\" if it may have several, \"none\" if they are scores on any other scale, \
                 \"already\" if they are probabilities."
            ),
        ),
        (Activation::Already, None) => ("already", format!("Probabilities, of {scores}.")),
        (Activation::None, _) => ("none", format!("Nothing is applied to {scores}.")),
    }
}

fn is_onnx(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"))
}

/// A string as TOML writes it.
fn quote(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn list(names: &[String]) -> String {
    format!("[{}]", names.iter().map(|n| quote(n)).collect::<Vec<_>>().join(", "))
}

struct Text(String);

impl Text {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// A comment, broken into lines; of control characters in it nothing is left.
    fn comment(&mut self, text: &str) {
        let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut line = String::from("#");
        for word in clean.split_whitespace() {
            if line.len() + 1 + word.len() > WIDTH && line.len() > 1 {
                self.line(&line);
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(&line);
    }
}

/// `path`, which is relative to the current folder, as a manifest in `folder` writes it, with `/` between names. Only the part
/// before the first wildcard need be there. What is absolute stays so.
///
/// # Errors
/// [`Error::Io`] if `folder` or `path` is not there, [`Error::Invalid`] for a path that cannot be written as text, or in which
/// a manifest would see a variable.
pub fn relative(folder: &Path, path: &Path) -> Result<String> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let there = |p: &Path| std::fs::canonicalize(p).map_err(|e| Error::io(p, e));
    let result = if path.is_absolute() {
        path.to_owned()
    } else {
        let wild = |c: &Component<'_>| c.as_os_str().to_string_lossy().contains(['*', '?', '[']);
        let fixed: PathBuf = path.components().take_while(|c| !wild(c)).collect();
        let rest: PathBuf = path.components().skip_while(|c| !wild(c)).collect();
        let fixed = if fixed.as_os_str().is_empty() { PathBuf::from(".") } else { fixed };
        let way = between(&there(folder)?, &there(&fixed)?);
        if rest.as_os_str().is_empty() { way } else { way.join(rest) }
    };
    let text = result.to_str().ok_or_else(|| Error::Invalid(format!("{}: no UTF-8", path.display())))?;
    if text.contains("${") {
        return Err(Error::Invalid(format!("{text}: a manifest reads `${{` as a variable; rename the file")));
    }
    Ok(if cfg!(windows) { text.replace('\\', "/") } else { text.to_owned() })
}

/// The way from a folder to a path, both without links.
fn between(folder: &Path, path: &Path) -> PathBuf {
    let (from, to): (Vec<_>, Vec<_>) = (folder.components().collect(), path.components().collect());
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    if common == 0 {
        return path.to_owned();
    }
    let up = from[common..].iter().map(|_| Component::ParentDir);
    let way: PathBuf = up.chain(to[common..].iter().copied()).collect();
    if way.as_os_str().is_empty() { PathBuf::from(".") } else { way }
}

#[cfg(test)]
#[path = "draft_tests.rs"]
mod tests;

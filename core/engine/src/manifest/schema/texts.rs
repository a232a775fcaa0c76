//! What each key of a study's manifest means, in the words that an editor shows.
//!
//! Keys are written as `data.labels.from`; `*` stands for any component's section. A test compares them with the
//! parser's.

/// Path of a key, and its meaning.
pub const TEXTS: &[(&str, &str)] = &[
    ("schema", "Version of the manifest: 1."),
    ("name", "The study's name, for the report."),
    ("data", "The images that are explained, and what is known about them."),
    (
        "data.images",
        "A folder, a list (CSV, TSV, Parquet) with a column `path`, or a glob such as \"knees/*.png\"; relative to this file. May hold \
         ${VARIABLE} or ${VARIABLE:-default}.",
    ),
    (
        "data.root",
        "The folder that the paths in a list start from; left out: the list's own. May hold ${VARIABLE} or \
         ${VARIABLE:-default}.",
    ),
    (
        "data.crop",
        "Side in pixels of the centred square that is cut out of every image; left out: the whole image.",
    ),
    ("data.labels", "Ground truth, for figures in the report; an image in neither list has none."),
    (
        "data.labels.from",
        "\"folder\": the name of the folder that an image lies in; \"column\": a column of the list.",
    ),
    ("data.labels.column", "The list's column, with from = \"column\"."),
    ("data.labels.positive", "Values that mean the target class."),
    ("data.labels.negative", "Values that mean that it is absent."),
    ("data.group", "What belongs together, such as the images of one patient: by file name or by a column."),
    (
        "data.group.file-name",
        "A regular expression on the file name; its first group, or all that matches, names the group.",
    ),
    ("data.group.column", "The list's column that names the group."),
    (
        "data.window",
        "Which stored values of grey images are black and white; left out: \"file\", what the file says, else the range of its \
         type.",
    ),
    ("data.mask", "A mask image for each row of the list; 0 is outside."),
    ("data.mask.column", "The list's column with the paths of masks."),
    ("data.frame", "One frame of each row's file, counted from 1; without it, all of them."),
    ("data.frame.column", "The list's column with the numbers of frames."),
    (
        "data.metadata",
        "Columns of the list, or keywords of DICOM attributes, that are copied into the records.",
    ),
    ("data.limit", "At most so many images, evenly spread over the sorted list."),
    ("data.synthetic", "The images were drawn from a generator; the report says so."),
    (
        "predictor",
        "The classifier f that is explained; as [[predictor]], each with a name, several are explained side by side.",
    ),
    ("predictor.name", "One of several predictors' name: that of its folder, and in the report."),
    ("predictor.input", "How images become the model's input: (x * scale - mean) / std with x in [0, 1]."),
    ("predictor.output", "How the model's output is read, and which class is explained."),
    ("generator", "The generator G: latent codes to images."),
    ("generator.input", "No kind of generator takes it."),
    ("generator.output", "Name of the output that holds the images; needed if there are several."),
    ("encoder", "The encoder E: images to latent codes."),
    ("encoder.input", "How images become the model's input: (x * scale - mean) / std with x in [0, 1]."),
    ("encoder.output", "Name of the output that holds the codes; needed if there are several."),
    ("direction", "The direction in latent space along which f's score of the target changes."),
    (
        "direction.labels",
        "\"predictor\": f is asked about sampled codes, or those of the images under `data`; \"truth\": the labels of images and their codes.",
    ),
    ("direction.samples", "Codes sampled, drawn and shown to f; left out: 20000."),
    ("direction.seed", "Seed of the codes; left out: 0."),
    ("direction.holdout", "Share of the codes that is held out for the audit; left out: 0.2."),
    ("direction.threshold", "Score from which f says yes; left out: 0.5."),
    (
        "direction.along",
        "\"normal\": along the classifier's normal, as in the paper; \"pattern\": along the codes' covariance with it \
         (Haufe et al. 2014).",
    ),
    (
        "direction.data",
        "Images whose codes the direction is fitted to; left out: sampled codes, or with labels = \"truth\" the study's own.",
    ),
    ("direction.audit", "How much is spent on judging the direction."),
    ("direction.audit.refits", "Refits to bootstrap samples; left out: 10."),
    ("direction.audit.randoms", "Random directions to compare with; left out: 10."),
    ("direction.audit.codes", "Codes on which f's changes of mind are counted; left out: 200."),
    ("trust", "When a case's reconstruction is not to be trusted, and what is tried then."),
    ("trust.max-gap", "Most that f may move by reconstruction alone, |f(x) - f(G(E(x)))|."),
    (
        "trust.max-error",
        "Most root mean square difference of pixels between an image and its reconstruction.",
    ),
    ("trust.retry", "What looks for a better code where the encoder's fails."),
    (
        "evaluation",
        "Measures every explanation as it is made, beside a random heatmap and a random direction, and compares them.",
    ),
    ("evaluation.metrics", "Keys of metrics; left out: all that apply."),
    ("evaluation.images", "At most so many images are measured, evenly spread over the list; left out: all."),
    ("evaluation.steps", "Steps of insertion and deletion; left out: 32."),
    (
        "evaluation.baselines",
        "What insertion and deletion exchange pixels with: \"blur\", \"mean\", \"generator\" (the reconstruction moved along \
         the direction until f decides otherwise); left out: all that the study can make.",
    ),
    ("evaluation.seed", "Seed of all that is drawn; left out: 0."),
    (
        "evaluation.budget",
        "Images that f is asked to score for one image, method and metric, at most; left out: 1000.",
    ),
    (
        "evaluation.oracle",
        "A second classifier of the same classes, which is asked whether it sees the flips.",
    ),
    (
        "evaluation.oracle.input",
        "How images become the model's input: (x * scale - mean) / std with x in [0, 1].",
    ),
    (
        "evaluation.oracle.output",
        "How the model's output is read, and which of its classes is the study's target.",
    ),
    (
        "evaluation.features",
        "The network whose features are compared: FID, KID, distances; left out: the predictor's penultimate layer.",
    ),
    (
        "evaluation.randomisation",
        "Whether maps follow f's weights: they are compared with those of f with random weights (Adebayo et al. 2018).",
    ),
    (
        "evaluation.randomisation.mode",
        "\"cascading\": the last layer, the last two and so on lose their weights; \"independent\": each alone.",
    ),
    ("evaluation.randomisation.images", "Images whose maps are compared; left out: 5."),
    ("evaluation.confidence", "Confidence of the intervals; left out: 0.95."),
    ("evaluation.alpha", "A difference is shown by a corrected p value up to this; left out: 0.05."),
    ("explainer", "What explains, one section each; at least one."),
    (
        "explainer.classes",
        "Classes to explain, by name or index, each with an explanation of its own; left out: the study's target.",
    ),
    ("plugins", "Names of plugins, and their libraries: a file stem that is searched for, or a path."),
    ("report", "What the report is made of."),
    (
        "report.formats",
        "Files beside the numbers: the page, tables (csv, parquet), the contact sheet, animations (gif, and apng, which keeps \
         every colour); left out: all but apng.",
    ),
    (
        "report.single-file",
        "report.html carries all pictures inside itself, as long as there are not too many; left out: it shows them from the \
         run's folder.",
    ),
    ("*.kind", "What makes it: a built-in kind, or \"plugin:NAME\" with NAME in [plugins]."),
    ("*.path", "The model file, relative to this one. May hold ${VARIABLE} or ${VARIABLE:-default}."),
    ("*.sha256", "The file must have this sha256."),
    ("*.device", "\"cpu\", or \"cuda:0\" and so on."),
    ("*.params", "The kind's own parameters."),
];

/// Sections that name a component.
const COMPONENTS: [&str; 7] =
    ["predictor", "generator", "encoder", "direction", "trust", "evaluation.oracle", "explainer"];

/// The path under which the text of a key is found: the data of a direction are data, and components share keys.
pub fn entry(path: &str) -> Option<&'static (&'static str, &'static str)> {
    let exact = |p: &str| TEXTS.iter().find(|(key, _)| *key == p);
    let data = || exact(&format!("data.{}", path.strip_prefix("direction.data.")?));
    let shared = || {
        let (section, key) = path.rsplit_once('.')?;
        COMPONENTS.contains(&section).then(|| exact(&format!("*.{key}")))?
    };
    exact(path).or_else(data).or_else(shared)
}

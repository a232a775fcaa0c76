use super::*;
use std::path::Path;

pub(super) const GOOD: &str = r#"
schema = 1
name = "knee osteoarthritis"
[data]
images = "images"
labels = { from = "folder", positive = ["3", 4], negative = ["0"] }
group = { file-name = '^(\d+)[LR]' }
[predictor]
kind = "onnx"
path = "classifier.onnx"
input = { layout = "nchw", size = [128, 128], channels = 1, mean = [0.5], std = [0.25], resize = "bilinear" }
output = { activation = "sigmoid", classes = ["healthy", "osteoarthritis"], target = "osteoarthritis" }
[generator]
kind = "stylegan2"
path = "generator.safetensors"
[encoder]
kind = "stylegan2-encoder"
path = "encoder.safetensors"
[direction]
kind = "logistic"
samples = 20000
seed = 7
[[explainer]]
kind = "latent-shift"
params = { steps = 9, range = "calibrated" }
[[explainer]]
kind = "plugin:gradcam"
params = { method = "gradcam" }
[plugins]
gradcam = "shiftlens_gradcam"
[report]
formats = ["html", "csv", "gif"]
"#;

pub(super) fn open(text: &str, overrides: &[&str]) -> Result<Study, ManifestError> {
    let overrides: Vec<String> = overrides.iter().map(|s| (*s).to_owned()).collect();
    RawManifest::parse("study.toml", text, &overrides)?.check(Path::new("studies/study.toml"))
}

/// The message for GOOD with `from` replaced by `to`.
pub(super) fn mistake(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    open(&GOOD.replace(from, to), &[]).expect_err(to).to_string()
}

#[test]
fn a_good_manifest_becomes_a_study() {
    let s = open(GOOD, &[]).unwrap();
    assert_eq!(s.data.images, ImageSource::Folder("studies/images".into()));
    assert_eq!(s.data.labels.as_ref().unwrap().positive, ["3", "4"]);
    assert_eq!(s.predictor.path.as_deref(), Some(Path::new("studies/classifier.onnx")));
    assert_eq!(s.target, Some(ClassRef::Name("osteoarthritis".into())));
    let d = s.direction.as_ref().unwrap();
    assert_eq!((d.samples, d.seed, d.holdout, d.threshold), (20_000, 7, 0.2, 0.5));
    assert_eq!(s.explainers[1].kind.to_string(), "plugin:gradcam");
    assert_eq!(s.explainers[1].params, serde_json::json!({ "method": "gradcam" }));
    assert_eq!(
        serde_json::to_value(s.report).unwrap(),
        serde_json::json!({ "html": true, "csv": true, "gif": true }),
        "what is not asked for is not written, so that runs from before a format are the same runs"
    );
    let all =
        open(&GOOD.replace("formats = [\"html\", \"csv\", \"gif\"]", "single-file = true"), &[]).unwrap();
    let r = all.report;
    assert!(r.html && r.csv && r.parquet && r.contact_sheet && r.gif && !r.apng && r.single_file);
    let one = GOOD.replace("\"gif\"]", "\"apng\", \"contact-sheet\"]");
    let one = serde_json::to_value(open(&one, &[]).unwrap().report).unwrap();
    assert_eq!(
        (&one["contact-sheet"], &one["apng"], &one["gif"]),
        (&true.into(), &true.into(), &false.into())
    );
    assert_eq!(s.generator.as_ref().unwrap().device, "cpu");
}

#[test]
fn what_is_left_out_is_assumed_and_said() {
    let text = GOOD.replace("[direction]\nkind = \"logistic\"\nsamples = 20000\nseed = 7\n", "");
    let s = open(&text, &[]).unwrap();
    assert_eq!(s.direction.unwrap().samples, 20_000);
    assert!(s.remarks[0].contains("no [direction]"));
}

#[test]
fn every_mistake_has_a_place_and_a_suggestion() {
    let cases = [
        (
            "kind = \"stylegan2\"",
            "kind = \"stylgan2\"",
            "study.toml:14:8: unknown kind of generator: \"stylgan2\" (did you mean `stylegan2`?",
        ),
        (
            "kind = \"stylegan2-encoder\"",
            "kind = \"nearest\"",
            "expected one of: stylegan2-encoder, projection, onnx, plugin:NAME",
        ),
        ("[predictor]", "[predictr]", "unknown key `predictr` in the manifest (did you mean `predictor`?"),
        (
            "samples = 20000",
            "sample = 20000",
            "study.toml:21:1: unknown key `sample` in [direction] (did you mean `samples`?",
        ),
        (
            "samples = 20000",
            "samples = \"many\"",
            "`samples` in [direction] is a string, expected a whole number of at least 20",
        ),
        ("samples = 20000", "samples = -5", "expected a whole number of at least 20"),
        ("path = \"classifier.onnx\"\n", "", "[predictor] of kind \"onnx\" lacks the key `path`"),
        ("steps = 9", "steps = 8", "`steps` is 8, expected an odd number"),
        (
            "steps = 9",
            "stepz = 9",
            "unknown field `stepz`, expected one of `steps`, `range`, `levels`, `limit`, `layers` (did you mean `steps`?",
        ),
        (
            "plugin:gradcam",
            "plugin:gradcan",
            "no plugin called `gradcan` in [plugins] (did you mean `plugin:gradcam`?",
        ),
        (
            "kind = \"plugin:gradcam\"",
            "kind = \"gradcam\"",
            "`gradcam` is a plugin: write kind = \"plugin:gradcam\"",
        ),
        ("\"html\", \"csv\"", "\"htm\", \"csv\"", "unknown report format \"htm\" (did you mean `html`?"),
        ("schema = 1", "schema = 2", "`schema` is not one that this version reads"),
        (
            "seed = 7",
            "seed = 7\nlabels = \"thruth\"",
            "`labels` in [direction] is \"thruth\" (did you mean `truth`?",
        ),
        (
            "seed = 7",
            "seed = 7\nalong = \"patern\"",
            "`along` in [direction] is \"patern\" (did you mean `pattern`?",
        ),
        ("seed = 7", "seed = 7\nholdout = 1.5", "`holdout` is 1.5, expected a number between 0 and 1"),
        ("seed = 7", "seed = 7\ndevice = \"cpu\"", "`device` does not apply to kind \"logistic\""),
        ("'^(\\d+)[LR]'", "'^(\\d+'", "not a regular expression"),
        ("from = \"folder\"", "from = \"column\"", "`from = \"column\"` without `column`"),
        ("negative = [\"0\"]", "negative = [\"3\"]", "\"3\" is both positive and negative"),
        ("channels = 1", "chanels = 1", "unknown field `chanels`"),
        ("path = \"generator.safetensors\"", "path = \"g\"\ndevice = \"gpu\"", "unknown device \"gpu\""),
        (
            "path = \"generator.safetensors\"",
            "path = \"g\"\nsha256 = \"12ab\"",
            "`sha256` is not a sha256 sum",
        ),
        ("name = \"knee osteoarthritis\"", "name = knee", "not TOML"),
        (
            "target = \"osteoarthritis\"",
            "target = 0.5",
            "`target` in [predictor] is a number, expected a class name or an index from 0",
        ),
        (
            "target = \"osteoarthritis\"",
            "target = -1",
            "`target` in [predictor] is an integer, expected a class name",
        ),
        (
            "kind = \"plugin:gradcam\"",
            "kind = \"plugin:gradcam\"\nclasses = \"healthy\"",
            "study.toml:28:11: `classes` in [[explainer]] 2 is a string, expected a list of classes",
        ),
        (
            "kind = \"plugin:gradcam\"",
            "kind = \"plugin:gradcam\"\nclasses = []",
            "names no class (leave it out",
        ),
        (
            "kind = \"plugin:gradcam\"",
            "kind = \"plugin:gradcam\"\nclasses = [\"healthy\", true]",
            "study.toml:28:23: `classes` in [[explainer]] 2 has true or false as an entry",
        ),
        (
            "images = \"images\"",
            "images = \"images\"\nroot = \"..\"",
            "`root` needs `images` to be a CSV file",
        ),
        (
            "images = \"images\"",
            "images = \"images\"\ncrop = 4",
            "`crop` in [data] is an integer, expected a whole number of at least 8",
        ),
        ("kind = \"logistic\"", "kind = \"svn\"", "unknown kind of direction: \"svn\" (did you mean `svm`?"),
        (
            "kind = \"logistic\"",
            "kind = \"svm\"\nparams = { extreme = 0.25 }",
            "unknown field `extreme`, expected one of `c`, `iterations`, `extremes`, `class-weight` (did you mean `extremes`?",
        ),
        (
            "seed = 7",
            "seed = 7\naudit = { refit = 3 }",
            "unknown key `refit` in `audit` in [direction] (did you mean",
        ),
        (
            "seed = 7",
            "seed = 7\nlabels = \"truth\"\ndata = { images = \"train\", labels = { form = \"folder\" } }",
            "unknown key `form` in `labels` in `data` in [direction]",
        ),
        (
            "seed = 7",
            "seed = 7\nlabels = \"truth\"\ndata = { images = \"train\" }",
            "`labels = \"truth\"` needs ground truth",
        ),
        (
            "[report]",
            "[trust]\nmax-gab = 0.1\n[report]",
            "unknown key `max-gab` in [trust] (did you mean `max-gap`?",
        ),
        ("[report]", "[trust]\n[report]", "[trust] has neither `max-gap` nor `max-error`"),
        ("[report]", "[trust]\nmax-gap = -1\n[report]", "`max-gap` is -1, expected a positive number"),
        (
            "[report]",
            "[trust]\nmax-gap = 0.1\nparams = { steps = 3 }\n[report]",
            "`params` in [trust] without `retry`",
        ),
        (
            "[report]",
            "[trust]\nmax-gap = 0.1\nretry = \"projektor\"\n[report]",
            "unknown kind of retry: \"projektor\"",
        ),
        (
            "[report]",
            "[trust]\nmax-gap = 0.1\nretry = \"plugin:gradcam\"\n[report]",
            "`retry` in [trust] takes no plugin",
        ),
        (
            "kind = \"stylegan2\"",
            "kind = \"stylegan2\"\nclasses = [1]",
            "unknown key `classes` in [generator]",
        ),
    ];
    for (from, to, expected) in cases {
        let message = mistake(from, to);
        assert!(message.contains(expected), "for {to}:\n{message}\nexpected {expected}");
    }
}

#[test]
fn all_mistakes_are_answered_together() {
    let text =
        GOOD.replace("samples = 20000", "sample = 1").replace("images = \"images\"", "image = \"images\"");
    let e = open(&text, &[]).unwrap_err();
    assert_eq!(e.problems().len(), 3, "{e}");
}

#[test]
fn places_point_at_the_words() {
    use miette::Diagnostic;
    let e = open(&GOOD.replace("steps = 9", "stepz = 9"), &[]).unwrap_err();
    let p = &e.problems()[0];
    let label = p.labels().unwrap().next().unwrap();
    let text = GOOD.replace("steps = 9", "stepz = 9");
    assert_eq!(&text[label.offset()..label.offset() + label.len()], "stepz");
    assert_eq!(p.place(), "study.toml:25:12");
}

#[test]
fn a_latent_shift_needs_a_latent_space() {
    let text = GOOD.replace("[encoder]\nkind = \"stylegan2-encoder\"\npath = \"encoder.safetensors\"\n", "");
    let message = open(&text, &[]).unwrap_err().to_string();
    assert!(message.contains("`latent-shift` needs a [encoder], the manifest has none"), "{message}");
}

#[test]
fn overrides_are_checked_like_the_file() {
    let s =
        open(GOOD, &["direction.samples=500", "data.images = other", "explainer.0.params.steps=5"]).unwrap();
    assert_eq!(s.direction.as_ref().unwrap().samples, 500);
    assert_eq!(s.data.images, ImageSource::Folder("studies/other".into()));
    assert_eq!(s.explainers[0].params["steps"], 5);
    let message = |o: &str| open(GOOD, &[o]).unwrap_err().to_string();
    assert!(message("direction.sampels=5").contains("--set:1:1: unknown key `sampels` in [direction]"));
    assert!(message("direction.samples=few").contains("--set:1:"));
    assert!(message("direction").contains("without `=`"));
    assert!(message("explainer.7.kind=onnx").contains("no entry of this array"));
    assert!(message("name.first=x").contains("cannot be set inside a string"));
    assert!(message("data..limit=1").contains("`data..limit` is no key"));
    let two = open(GOOD, &["direction", "direction.sampels=5", "explainer.7.kind=onnx"]).unwrap_err();
    assert_eq!(two.problems().len(), 2, "{two}");
}

#[test]
fn overrides_reach_tables_and_arrays_that_are_not_there() {
    let without =
        "schema = 1\nname = \"a\"\n[data]\nimages = \"i\"\n[predictor]\nkind = \"onnx\"\npath = \"f\"\n";
    let sets = [
        "predictor.input.mean.0=0.5",
        "predictor.input.mean.1=0.25",
        "predictor.output={ classes = [\"a\", \"b\"] }",
        "explainer.0.kind=latent-shift",
        "explainer.0.params.layers=[0, 3]",
        "explainer.0.params.layers.1=2",
        "explainer.1.kind=\"plugin:my.plugin\"",
        "plugins.\"my.plugin\"=a=b",
        " generator . kind = stylegan2",
        "generator.path=g",
        "encoder={ kind = \"stylegan2-encoder\", path = \"e\" }",
        "trust.max-gap=0.5",
        "report.formats.0=csv",
    ];
    let s = open(without, &sets).unwrap();
    assert_eq!(s.predictor.input.as_ref().unwrap()["mean"], serde_json::json!([0.5, 0.25]));
    assert_eq!(s.predictor.output.as_ref().unwrap()["classes"], serde_json::json!(["a", "b"]));
    assert_eq!(s.explainers[0].params["layers"], serde_json::json!([0, 2]));
    let library = Kind::Plugin { name: "my.plugin".into(), library: "a=b".into() };
    assert_eq!(s.explainers[1].kind, library);
    assert_eq!(s.generator.as_ref().unwrap().path.as_deref(), Some(Path::new("studies/g")));
    assert_eq!(s.trust.as_ref().unwrap().max_gap, Some(0.5));
    assert!(s.report.csv && !s.report.html);
    let gap = open(without, &["explainer.1.kind=latent-shift"]).unwrap_err().to_string();
    assert!(gap.contains("`explainer` is a table, expected `[[explainer]]` sections"), "{gap}");
    let far = open(GOOD, &["explainer.3.kind=latent-shift"]).unwrap_err().to_string();
    assert!(far.contains("an index from 0 to 1, or 2 for one more"), "{far}");
}

#[test]
fn variables_stand_in_every_path() {
    // Cargo sets the one for every test, nobody the other.
    let home = env!("CARGO_MANIFEST_DIR");
    let text = GOOD
        .replace(
            "images = \"images\"",
            "images = \"${CARGO_MANIFEST_DIR}/x.csv\"\nroot = \"${CARGO_MANIFEST_DIR}\"",
        )
        .replace("\"classifier.onnx\"", "\"${SHIFTLENS_NO_SUCH_VARIABLE:-models}/f.onnx\"")
        .replace("\"shiftlens_gradcam\"", "\"${CARGO_MANIFEST_DIR}/lib.so\"");
    let s = open(&text, &[]).unwrap();
    assert_eq!(s.data.images, ImageSource::Csv(Path::new(home).join("x.csv")));
    assert_eq!(s.data.root.as_deref(), Some(Path::new(home)));
    assert_eq!(s.predictor.path.as_deref(), Some(Path::new("studies/models/f.onnx")));
    // Reports and fingerprints take it as it is written: they are the same wherever the files lie.
    assert_eq!(s.predictor.shown_path.as_deref(), Some("${SHIFTLENS_NO_SUCH_VARIABLE:-models}/f.onnx"));
    assert!(matches!(&s.explainers[1].kind, Kind::Plugin { library, .. } if library.starts_with(home)));
    // A name is no path.
    assert_eq!(open(&GOOD.replace("knee osteo", "${A}"), &[]).unwrap().name, "${A}arthritis");

    let both = GOOD
        .replace("\"images\"", "\"${SHIFTLENS_NO_SUCH_VARIABLE}/images\"")
        .replace("\"encoder.safetensors\"", "\"a/${SHIFTLENS_NO_SUCH_VARIABLE\"");
    let e = open(&both, &[]).unwrap_err();
    assert_eq!(e.problems().len(), 2, "{e}");
    let message = e.to_string();
    assert!(message.contains("study.toml:5:11: `images` in [data]: the environment variable"), "{message}");
    assert!(message.contains("study.toml:18:11: `path` in [encoder]: `${` without `}`"), "{message}");
    let message = open(GOOD, &["predictor.path=${SHIFTLENS_NO_SUCH_VARIABLE}"]).unwrap_err().to_string();
    assert!(message.contains("--set:1:16: `path` in [predictor]: the environment variable"), "{message}");
}

#[test]
fn values_of_the_wrong_kind_are_pointed_at() {
    for (from, to, expected) in [
        ("layout = \"nchw\"", "layout = \"nhcw\"", "study.toml:11:20: [predictor]: unknown variant `nhcw`"),
        ("size = [128, 128]", "size = 64", "study.toml:11:35: [predictor]: invalid type: integer `64`"),
        ("channels = 1", "channels = \"one\"", "study.toml:11:58: [predictor]: invalid type: string \"one\""),
        ("mean = [0.5]", "mean = [0.5, true]", "study.toml:11:74: [predictor]: invalid type: boolean `true`"),
        (
            "size = [128, 128]",
            "size = [128, 0.5]",
            "study.toml:11:41: [predictor]: invalid type: floating point `0.5`",
        ),
    ] {
        let message = mistake(from, to);
        assert!(message.contains(expected), "for {to}:\n{message}\nexpected {expected}");
    }
    assert!(mistake("layout = \"nchw\"", "layout = \"nhcw\"").contains("did you mean `nchw`?"));
}

#[test]
fn classes_go_by_name_or_index() {
    let s = open(GOOD, &["explainer.1.classes=[\"healthy\", 1]", "predictor.output.target=0"]).unwrap();
    assert_eq!(s.target, Some(ClassRef::Index(0)));
    let classes: Vec<&ClassRef> = s.explainers[1].classes.iter().map(|c| &c.value).collect();
    assert_eq!(classes, [&ClassRef::Name("healthy".into()), &ClassRef::Index(1)]);
    assert!(s.explainers[0].classes.is_empty());
    let message = open(GOOD, &["explainer.1.classes=[1.5]"]).unwrap_err().to_string();
    assert!(
        message.contains("--set:1:22: `classes` in [[explainer]] 2 has a number as an entry"),
        "{message}"
    );
}

#[test]
fn a_missing_file_is_a_mistake() {
    let e = Study::open(Path::new("/nowhere/study.toml"), &[]).unwrap_err().to_string();
    assert!(e.contains("cannot read the manifest") && e.contains("/nowhere/study.toml"), "{e}");
}

#[test]
fn the_shipped_manifests_are_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // Training manifests are another schema, read by the trainer.
        if name.ends_with(".toml") && !name.starts_with("train-") {
            Studies::open(&path, &[]).unwrap_or_else(|e| panic!("{e}"));
            seen += 1;
        }
    }
    assert!(seen >= 2);
}

#[test]
fn sections_of_a_study_with_a_gate_and_a_training_set() {
    let text = GOOD
        .replace("images = \"images\"", "images = \"test.csv\"\nroot = \"../data\"\ncrop = 64")
        .replace(
            "seed = 7",
            "seed = 7\nlabels = \"truth\"\naudit = { refits = 3, codes = 0 }\n\
             data = { images = \"train.csv\", root = \"/data\", labels = { from = \"folder\", positive = [1], negative = [0] } }",
        )
        .replace("[report]", "[trust]\nmax-gap = 0.1\nmax-error = 0.2\n[report]");
    let s = open(&text, &[]).unwrap();
    assert_eq!((s.data.root.as_deref(), s.data.crop), (Some(Path::new("studies/../data")), Some(64)));
    let d = s.direction.unwrap();
    assert_eq!((d.audit.refits, d.audit.randoms, d.audit.codes), (3, 10, 0));
    let own = d.data.unwrap();
    assert_eq!(own.images, ImageSource::Csv("studies/train.csv".into()));
    assert_eq!((own.root.as_deref(), own.crop), (Some(Path::new("/data")), None));
    let t = s.trust.unwrap();
    assert_eq!((t.max_gap, t.max_error, t.retry.is_none()), (Some(0.1), Some(0.2), true));
    assert!(open(GOOD, &[]).unwrap().trust.is_none());
}

#[test]
fn what_reads_the_generators_weights_is_handed_its_file() {
    let text = GOOD
        .replace("kind = \"logistic\"", "kind = \"sefa\"\nparams = { component = 1, layers = \"middle\" }");
    let finder = open(&text, &[]).unwrap().direction.unwrap().finder;
    assert_eq!(finder.path.as_deref(), Some(Path::new("studies/generator.safetensors")));
    let other = text.replace(
        "kind = \"stylegan2\"\npath = \"generator.safetensors\"",
        "kind = \"onnx\"\npath = \"g.onnx\"",
    );
    let message = open(&other, &[]).unwrap_err().to_string();
    assert!(
        message.contains(
            "kind \"sefa\" reads the weights of a StyleGAN2 generator, [generator] is of kind \"onnx\""
        ),
        "{message}"
    );
}

#[test]
fn a_gate_needs_a_latent_space() {
    let text = "schema = 1\nname = \"a\"\n[data]\nimages = \"i\"\n[predictor]\nkind = \"onnx\"\npath = \"f\"\n\
                [trust]\nmax-gap = 0.1\n[[explainer]]\nkind = \"plugin:a\"\n[plugins]\na = \"a\"\n";
    let message = open(text, &[]).unwrap_err().to_string();
    assert!(message.contains("[trust] without [generator] and [encoder]"), "{message}");
}

#[test]
fn data_name_windows_masks_frames_and_metadata() {
    let list = GOOD.replace(
        "images = \"images\"",
        "images = \"scans.parquet\"\nwindow = { centre = 40, width = 400 }\nmask = { column = \"roi\" }\n\
         frame = { column = \"slice\" }\nmetadata = [\"site\", \"PatientAge\"]",
    );
    let data = open(&list, &[]).unwrap().data;
    assert_eq!(data.images, ImageSource::Parquet("studies/scans.parquet".into()));
    let function = shiftlens_input::VoiFunction::Linear;
    assert_eq!(data.window, Window::Level { centre: 40.0, width: 400.0, function });
    assert_eq!((data.mask.as_deref(), data.frame.as_deref()), (Some("roi"), Some("slice")));
    assert_eq!(data.metadata, ["site", "PatientAge"]);
    let resolved = serde_json::to_value(&data).unwrap();
    assert_eq!(
        resolved["window"],
        serde_json::json!({ "centre": 40.0, "width": 400.0, "function": "linear" })
    );
    // Manifests that say nothing of these resolve to what they were.
    let before = serde_json::to_value(open(GOOD, &[]).unwrap().data).unwrap();
    let keys: Vec<&String> = before.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["group", "images", "labels", "limit", "synthetic"]);

    let with = |keys: &str| mistake("images = \"images\"", &format!("images = \"images\"\n{keys}"));
    for (keys, expected) in [
        ("window = \"min-max\"", "study.toml:6:10: `window`: \"min-max\": did you mean `minmax`?"),
        ("window = { low = 5 }", "study.toml:6:10: `window`: expected either `low` and `high`"),
        ("mask = { column = \"roi\" }", "a `column` needs `images` to be a CSV file (or TSV, Parquet)"),
        ("frame = { colum = \"f\" }", "unknown key `colum` in `frame` in [data] (did you mean `column`?"),
        ("frame = \"f\"", "`frame` in [data] is a string, expected a table"),
        (
            "metadata = [\"PatientsAge\"]",
            "`PatientsAge` is no keyword of a DICOM attribute: did you mean `PatientAge`?",
        ),
        ("metadata = [\"PixelData\"]", "`PixelData` is neither text nor numbers"),
    ] {
        let message = with(keys);
        assert!(message.contains(expected), "{keys}: {message}");
    }
}

#[test]
fn files_given_by_name_have_attributes_but_no_columns() {
    let list =
        GOOD.replace("images = \"images\"", "images = \"scans.csv\"\nmetadata = [\"site\", \"PatientAge\"]");
    let mut study = open(&list, &[]).unwrap();
    study.set_images("other.tsv");
    assert_eq!(study.data.metadata, ["site", "PatientAge"]);
    study.set_files(vec!["a.dcm".into()]);
    assert_eq!(study.data.metadata, ["PatientAge"]);
}

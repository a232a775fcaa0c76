//! The published schemas: they are the ones that the parser makes, they accept what it accepts, and they refuse what can
//! be seen in a file alone.

use super::checker::check;
use super::texts::{TEXTS, entry};
use super::*;
use crate::manifest::outline::{Field, Shape};
use crate::manifest::raw::outline;
use crate::manifest::{RawManifest, Study};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests")
}

/// A manifest's text as the schema's checker sees it.
fn document(text: &str) -> Value {
    let table: toml::Table = toml::from_str(text).unwrap_or_else(|e| panic!("{e}:\n{text}"));
    serde_json::to_value(table).unwrap()
}

#[test]
fn the_published_schemas_are_these() {
    for (name, schema) in
        [("study", study()), ("train-generator", train_generator()), ("train-encoder", train_encoder())]
    {
        let path = manifests().join(format!("{name}.schema.json"));
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            published == format!("{schema:#}\n"),
            "renew it: shiftlens schema {name} > manifests/{name}.schema.json"
        );
    }
}

#[test]
fn every_shipped_manifest_names_its_schema_and_fits_it() {
    let mut seen = BTreeSet::new();
    for file in std::fs::read_dir(manifests()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap_or_default();
        let name = first.strip_prefix("#:schema ").and_then(|s| s.strip_suffix(".schema.json"));
        let schema = match name.unwrap_or_else(|| panic!("{}: `{first}` names no schema", path.display())) {
            "study" => study(),
            "train-generator" => train_generator(),
            "train-encoder" => train_encoder(),
            other => panic!("{}: {other}", path.display()),
        };
        assert_eq!(check(&schema, &document(&text)), [""; 0], "{}", path.display());
        seen.insert(name.map(str::to_owned));
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

/// Calls `f` for every schema of a value within.
fn each(schema: &Value, place: &str, f: &mut dyn FnMut(&str, &Value)) {
    match schema {
        Value::Object(object) => {
            f(place, schema);
            object.iter().for_each(|(k, v)| each(v, &format!("{place}/{k}"), f));
        }
        Value::Array(a) => a.iter().enumerate().for_each(|(i, v)| each(v, &format!("{place}/{i}"), f)),
        _ => {}
    }
}

#[test]
fn every_key_has_a_text_and_every_text_a_key() {
    fn keys(path: &str, fields: &[Field], all: &mut Vec<String>) {
        for f in fields {
            let key = if path.is_empty() { f.key.to_owned() } else { format!("{path}.{}", f.key) };
            all.push(key.clone());
            if let Shape::Section(inner) | Shape::Sections(inner) | Shape::OneOrSections(inner) = &f.shape {
                keys(&key, inner, all);
            }
        }
    }
    let mut all = Vec::new();
    keys("", &outline(), &mut all);
    assert!(all.iter().any(|k| k == "direction.data.labels.from"), "{all:?}");
    let found = |key: &String| entry(key).unwrap_or_else(|| panic!("`{key}` has no text in texts.rs")).0;
    let used: BTreeSet<&str> = all.iter().map(found).collect();
    let unused: Vec<&str> = TEXTS.iter().map(|(k, _)| *k).filter(|k| !used.contains(k)).collect();
    assert_eq!(unused, [""; 0], "texts of keys that there are not");

    // Those of the other types come from their documentation.
    for schema in [study(), train_generator(), train_encoder()] {
        let mut found = 0;
        each(&schema, "", &mut |place, value| {
            let condition = ["/if/", "/then/", "/else/"].iter().any(|c| place.contains(c));
            if place.ends_with("/properties") && !condition {
                for (key, v) in value.as_object().into_iter().flatten() {
                    let text = v.get("description").and_then(Value::as_str).unwrap_or_default();
                    let plain = !text.contains("[`") && !text.contains("::") && !text.contains('\n');
                    assert!(!text.is_empty() && plain, "{place}/{key}: {v}");
                    found += 1;
                }
            }
            if let Some(closed) =
                value.get("additionalProperties").filter(|_| !place.ends_with("/properties"))
            {
                assert!(closed.is_object() || *closed == Value::Bool(false), "{place}");
            }
            assert!(value.get("format").is_none_or(Value::is_object), "{place}: {value}");
            assert!(value.get("type").is_none_or(|t| t != "null"), "{place}: {value}");
        });
        assert!(found > 30, "{found}");
    }
}

const STUDY: &str = r#"
schema = 1
name = "a"
[data]
images = "images.csv"
labels = { from = "folder", positive = ["3", 4], negative = ["0"] }
group = { file-name = '^(\d+)' }
[predictor]
kind = "onnx"
path = "f.onnx"
input = { layout = "nchw", resize = "nearest", channels = 1 }
output = { activation = "sigmoid", target = 1 }
[generator]
kind = "stylegan2"
path = "g.safetensors"
params = { truncation = 0.7, precision = "f32" }
[encoder]
kind = "projection"
params = { space = "w+", noise = "fixed", features = { weight = 1 } }
[direction]
kind = "logistic"
labels = "truth"
along = "pattern"
audit = { refits = 3 }
data = { images = "train.csv", root = "..", labels = { from = "folder", positive = [1], negative = [0] } }
params = { c = 1, class-weight = "balanced" }
[trust]
max-gap = 0.1
retry = "projection"
params = { steps = 3 }
[evaluation]
metrics = ["road"]
baselines = ["blur"]
budget = 50
alpha = 0.1
randomisation = { mode = "independent", images = 2 }
oracle = { kind = "onnx", path = "o.onnx", output = { target = 0 } }
features = { path = "phi.onnx", layers = ["pool"] }
[[explainer]]
kind = "latent-shift"
params = { steps = 9, layers = "coarse" }
[[explainer]]
kind = "plugin:a"
classes = ["sick", 0]
params = { anything = [1] }
[plugins]
a = "library"
[report]
formats = ["html"]
single-file = true
"#;

/// What the parser says, and what the schema says.
fn both(text: &str) -> (Result<Study, String>, Vec<String>) {
    let parsed = RawManifest::parse("a.toml", text, &[]).and_then(|m| m.check(Path::new("a.toml")));
    (parsed.map_err(|e| e.to_string()), check(&study(), &document(text)))
}

#[test]
fn a_manifest_with_every_section_fits() {
    let (parsed, wrong) = both(STUDY);
    assert!(parsed.is_ok(), "{parsed:?}");
    assert_eq!(wrong, [""; 0]);
}

/// Replaces a piece that is there.
fn with(from: &str, to: &str) -> String {
    assert!(STUDY.contains(from), "{from}");
    STUDY.replacen(from, to, 1)
}

/// What is wrong in the file alone, both refuse.
#[test]
fn what_the_parser_refuses_the_schema_refuses() {
    for (from, to) in [
        ("schema = 1\n", ""),
        ("schema = 1", "schema = 2"),
        ("name = \"a\"", "name = 3"),
        ("[report]", "[raport]"),
        ("images = \"images.csv\"\n", ""),
        ("from = \"folder\"", "from = \"column\""),
        ("from = \"folder\"", "from = \"folder\", column = \"c\""),
        ("from = \"folder\"", "from = \"file\""),
        (", negative = [\"0\"]", ""),
        ("positive = [\"3\", 4]", "positive = [true]"),
        ("group = { file-name = '^(\\d+)' }", "group = { file-name = 'a', column = \"b\" }"),
        ("[\"road\"]", "[\"raod\"]"),
        ("[\"road\"]", "[]"),
        ("[\"blur\"]", "[\"blurr\"]"),
        ("[predictor]", "[predictor]\nname = \"a\""),
        ("budget = 50", "budget = 5"),
        ("budget = 50", "budgets = 50"),
        ("alpha = 0.1", "alpha = 0"),
        ("mode = \"independent\"", "mode = \"alone\""),
        ("path = \"o.onnx\", ", ""),
        ("path = \"phi.onnx\"", "file = \"phi.onnx\""),
        ("group = {", "crop = 4\ngroup = {"),
        ("group = {", "limit = 0\ngroup = {"),
        ("group = {", "synthetic = 1\ngroup = {"),
        ("kind = \"onnx\"", "kind = \"onxx\""),
        ("kind = \"onnx\"\n", ""),
        ("path = \"f.onnx\"\n", ""),
        ("path = \"f.onnx\"", "path = \"f.onnx\"\ndevice = \"cpu\""),
        ("path = \"f.onnx\"", "path = \"f.onnx\"\nsha256 = \"00\""),
        ("layout = \"nchw\"", "layout = \"chwn\""),
        ("resize = \"nearest\"", "resize = \"linear\""),
        ("channels = 1", "chanels = 1"),
        ("channels = 1", "size = [64]"),
        ("activation = \"sigmoid\"", "activation = \"tanh\""),
        ("target = 1", "target = -1"),
        ("path = \"g.safetensors\"", "path = \"g.safetensors\"\ndevice = \"gpu\""),
        ("path = \"g.safetensors\"", "path = \"g.safetensors\"\ninput = { mean = [0.5] }"),
        ("truncation = 0.7", "truncation = 0"),
        ("precision = \"f32\"", "precision = \"f16\""),
        ("space = \"w+\"", "space = \"z\""),
        ("noise = \"fixed\"", "noise = \"none\""),
        ("features = { weight = 1 }", "features = { }"),
        ("kind = \"logistic\"", "kind = \"svn\""),
        ("kind = \"logistic\"", "kind = \"logistic\"\npath = \"a\""),
        ("labels = \"truth\"", "labels = \"thruth\""),
        ("along = \"pattern\"", "along = \"patern\""),
        ("refits = 3", "refit = 3"),
        ("root = \"..\"", "rot = \"..\""),
        ("c = 1,", "c = \"1\","),
        ("class-weight = \"balanced\"", "class-weight = \"equal\""),
        ("class-weight", "class_weight"),
        ("[trust]\nmax-gap = 0.1", "[trust]"),
        ("max-gap = 0.1", "max-gap = 0"),
        ("retry = \"projection\"\n", ""),
        ("retry = \"projection\"", "retry = \"plugin:a\""),
        ("steps = 3", "step = 3"),
        ("steps = 9", "steps = 8"),
        ("layers = \"coarse\"", "layers = \"corse\""),
        ("layers = \"coarse\"", "range = -1"),
        ("layers = \"coarse\"", "levels = []"),
        ("classes = [\"sick\", 0]", "classes = []"),
        ("classes = [\"sick\", 0]", "classes = [1.5]"),
        ("kind = \"plugin:a\"", "kind = \"plugin:a\"\npath = \"a\""),
        ("a = \"library\"", "a = 1"),
        ("a = \"library\"", "a = \"\""),
        ("formats = [\"html\"]", "formats = [\"htm\"]"),
        ("single-file = true", "single-file = \"yes\""),
    ] {
        let (parsed, wrong) = both(&with(from, to));
        assert!(parsed.is_err(), "the parser takes {to}");
        assert!(!wrong.is_empty(), "the schema takes {to}");
    }
}

/// A table, or an array of tables that have a name each.
#[test]
fn predictors_come_alone_or_with_names() {
    let look = |text: &str| {
        let parsed = RawManifest::parse("a.toml", text, &[]).and_then(|m| m.check_all(Path::new("a.toml")));
        (parsed.map(|s| s.all().count()).map_err(|e| e.to_string()), check(&study(), &document(text)))
    };
    let several = |second: &str| {
        let text = with("[predictor]", "[[predictor]]\nname = \"first\"");
        let another = format!("[[predictor]]\n{second}\nkind = \"onnx\"\npath = \"g.onnx\"\n[generator]");
        look(&text.replacen("[generator]", &another, 1))
    };
    let (parsed, wrong) = several("name = \"second\"");
    assert_eq!((parsed, wrong.len()), (Ok(2), 0), "{wrong:?}");
    for refused in ["", "name = \"a b\"", "name = \".a\"", "name = \"\"", "name = 1", "nam = \"a\""] {
        let (parsed, wrong) = several(refused);
        assert!(parsed.is_err() && !wrong.is_empty(), "{refused}: {parsed:?}, {wrong:?}");
    }
    // Whether two names are one is not for a schema.
    let (parsed, wrong) = several("name = \"First\"");
    assert!(parsed.unwrap_err().contains("two predictors are called") && wrong.is_empty());
}

/// What needs more than the file, or more than one place in it, is for the parser: the schema does not stand in the way.
#[test]
fn what_a_schema_cannot_see_it_takes() {
    for (from, to, expected) in [
        ("kind = \"plugin:a\"", "kind = \"plugin:b\"", "no plugin called `b`"),
        ("negative = [\"0\"]", "negative = [\"3\"]", "both positive and negative"),
        ("'^(\\d+)'", "'^(\\d+'", "not a regular expression"),
        ("images = \"images.csv\"", "images = \"a\"\nroot = \"..\"", "needs `images` to be a CSV"),
        (
            "kind = \"onnx\"\npath = \"f.onnx\"",
            "kind = \"plugin:a\"",
            "`features` in [encoder] are those of an ONNX",
        ),
        ("steps = 9", "steps = 9, range = \"levels\"", "`steps` does not apply"),
    ] {
        let (parsed, wrong) = both(&with(from, to));
        let message = parsed.expect_err(to);
        assert!(message.contains(expected), "{message}");
        assert_eq!(wrong, [""; 0], "{to}");
    }
}

/// The choices that the schema offers are those that the parser names when it refuses another.
#[test]
fn choices_are_the_parsers() {
    let schema = study();
    let values = |pointer: &str| -> Vec<String> {
        let found = schema.pointer(pointer).and_then(Value::as_array);
        let found = found.unwrap_or_else(|| panic!("no {pointer}"));
        found.iter().map(|v| v.as_str().unwrap().to_owned()).collect()
    };
    for (pointer, from, to) in [
        ("/properties/predictor/anyOf/0/properties/kind/anyOf/0/enum", "kind = \"onnx\"", "kind = \"?\""),
        ("/properties/generator/properties/kind/anyOf/0/enum", "kind = \"stylegan2\"", "kind = \"?\""),
        ("/properties/encoder/properties/kind/anyOf/0/enum", "kind = \"projection\"", "kind = \"?\""),
        ("/properties/direction/properties/kind/anyOf/0/enum", "kind = \"logistic\"", "kind = \"?\""),
        (
            "/properties/explainer/items/properties/kind/anyOf/0/enum",
            "kind = \"latent-shift\"",
            "kind = \"?\"",
        ),
        ("/properties/trust/properties/retry/enum", "retry = \"projection\"", "retry = \"?\""),
        ("/properties/data/properties/labels/properties/from/enum", "from = \"folder\"", "from = \"?\""),
        ("/properties/direction/properties/labels/enum", "labels = \"truth\"", "labels = \"?\""),
        ("/properties/direction/properties/along/enum", "along = \"pattern\"", "along = \"?\""),
        ("/properties/report/properties/formats/items/enum", "formats = [\"html\"]", "formats = [\"?\"]"),
    ] {
        let message = both(&with(from, to)).0.expect_err(to);
        let named = message.split("expected one of: ").nth(1).and_then(|m| m.split(')').next()).expect(to);
        let named: Vec<&str> = named.split(", ").filter(|n| *n != "plugin:NAME").collect();
        assert_eq!(values(pointer), named, "{pointer}: {message}");
    }
}

/// A training from nothing against StyleGAN2's own discriminator, with all that no preset need say.
const ADVERSARIAL: &str = r#"
schema = 1
name = "plain"

[data]
images = ["images"]

[generator]
resolution = 64
channels = 1
z-dim = 64
w-dim = 64
mapping-layers = 4
channel-base = 2048
channel-max = 128

[discriminator]
resolution = 64
channels = 1
channel-base = 2048
channel-max = 128
mbstd-group = 4
mbstd-channels = 1

[training]
seed = 7
images = 40000
batch = 32
learning-rate = 2.5e-3
r1-gamma = 1.0
r1-interval = 16
ema-half-life = 10000
ema-rampup = 0.05

[output]
folder = "runs/plain"
checkpoint-every = 4000
samples-every = 4000
"#;

#[test]
fn trainings_with_and_without_a_preset() {
    let text = ADVERSARIAL;
    let schema = train_generator();
    let wrong = |edit: &[(&str, &str)]| {
        let edited = edit.iter().fold(text.to_owned(), |t, (from, to)| {
            assert!(t.contains(from), "{from}");
            t.replacen(from, to, 1)
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.toml");
        std::fs::write(&path, &edited).unwrap();
        (GeneratorManifest::read(&path).is_err(), !check(&schema, &document(&edited)).is_empty())
    };
    let (preset, projected) = (
        "[training]\npreset = \"auto\"",
        "[discriminator]\nkind = \"projected\"\nfeatures = { path = \"a\" }",
    );
    let d = text.split("[discriminator]").nth(1).and_then(|d| d.split("\n\n").next()).unwrap();
    let d = format!("[discriminator]{d}");
    for (edit, refused) in [
        (&[][..], false),
        (&[("r1-gamma = 1.0\n", "")], true),
        (&[("r1-gamma = 1.0\n", ""), ("[training]", preset)], false),
        (&[("r1-gamma = 1.0\n", ""), (&d, projected)], false),
        (&[("learning-rate = 2.5e-3\n", "")], true),
        (&[("learning-rate = 2.5e-3\n", ""), ("[training]", preset)], false),
        (&[("[training]", "[training]\npreset = \"fast\"")], true),
        (&[("[output]", "[augment]\npipeline = \"bgc\"\n[output]")], false),
        (&[("[output]", "[augment]\npipeline = { preset = \"bg\", x-flip = 0 }\n[output]")], false),
        (&[("[output]", "[augment]\npipeline = \"bcg\"\n[output]")], true),
        (&[("[output]", "[augment]\npipeline = { x-flop = 0 }\n[output]")], true),
        (&[("mbstd-group = 4", "mbstd-groups = 4")], true),
        (&[("[discriminator]", "[discriminator]\nkind = \"stylegan2\"")], false),
        (&[("[discriminator]", "[discriminator]\nkind = \"stylegan3\"")], true),
    ] {
        assert_eq!(wrong(edit), (refused, refused), "{edit:?}");
    }
}

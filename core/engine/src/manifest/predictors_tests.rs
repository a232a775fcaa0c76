//! Several predictors in one manifest.

use super::tests::{GOOD, mistake, open};
use super::*;
use std::path::Path;

/// GOOD with `[[predictor]]` in place of `[predictor]`: one called `a`, and another that `second` says.
fn several(second: &str) -> Result<Studies, ManifestError> {
    let text = GOOD.replace("[predictor]", "[[predictor]]\nname = \"a\"");
    let text = text.replace("[generator]", &format!("[[predictor]]\n{second}\n[generator]"));
    RawManifest::parse("study.toml", &text, &[])?.check_all(Path::new("studies/study.toml"))
}

#[test]
fn several_predictors_are_a_study_each() {
    let second = "name = \"v-2.1\"\nkind = \"onnx\"\npath = \"second.onnx\"\noutput = { target = 1 }";
    let Studies::Several(all) = several(second).unwrap() else { panic!("several") };
    let [a, b] = &all[..] else { panic!("{}", all.len()) };
    assert_eq!((a.name.as_str(), b.name.as_str()), ("a", "v-2.1"));
    // The first is what it is alone.
    let alone = open(GOOD, &[]).unwrap();
    assert_eq!((&a.study.target, &a.study.predictor.path), (&alone.target, &alone.predictor.path));
    assert_eq!(a.study.predictor.output, alone.predictor.output);
    assert_eq!(b.study.predictor.path.as_deref(), Some(Path::new("studies/second.onnx")));
    assert_eq!(b.study.target, Some(ClassRef::Index(1)));
    for study in [&a.study, &b.study] {
        assert_eq!((study.name.as_str(), study.explainers.len()), (alone.name.as_str(), 2));
        assert_eq!(study.direction.as_ref().unwrap().samples, 20_000);
    }
    // An entry's values are set by its place, and a table is still one.
    let text = GOOD.replace("[predictor]", "[[predictor]]\nname = \"a\"");
    let parse = |set: &str| {
        let set = [set.to_owned()];
        RawManifest::parse("s.toml", &text, &set).and_then(|m| m.check_all(Path::new("s.toml")))
    };
    let Studies::Several(all) = parse("predictor.0.path=other.onnx").unwrap() else { panic!("several") };
    assert_eq!(all[0].study.predictor.path.as_deref(), Some(Path::new("other.onnx")));
    let e = parse("predictor.path=other.onnx").unwrap_err().to_string();
    assert!(e.contains("`path` is no entry of this array"), "{e}");
    assert!(matches!(
        RawManifest::parse("s.toml", GOOD, &[]).unwrap().check_all(Path::new("s.toml")).unwrap(),
        Studies::One(_)
    ));
    let e = RawManifest::parse("s.toml", &text, &[]).unwrap().check(Path::new("s.toml")).unwrap_err();
    assert!(e.to_string().contains("expected one `[predictor]`"), "{e}");
    assert_eq!(mistake("[predictor]", "[predictor]\nname = \"a\"").matches("unknown key `name`").count(), 1);
}

#[test]
fn names_of_predictors_are_those_of_folders() {
    let rest = "kind = \"onnx\"\npath = \"second.onnx\"";
    let refused = |name: &str| several(&format!("name = {name:?}\n{rest}")).unwrap_err().to_string();
    for name in ["", ".hidden", "a/b", "a b", "ü", &"x".repeat(65)] {
        assert!(refused(name).contains("is no name for a predictor"), "{name}");
    }
    for name in [
        "cases",
        "direction",
        "report",
        "Report",
        "run.json",
        "report.html",
        "done.json",
        "predictors.json",
        "comparison.json",
        "comparison.csv",
        "metrics.json.part",
    ] {
        assert!(refused(name).contains("a run's folder uses that name"), "{name}");
    }
    for name in ["a", "A"] {
        let e = refused(name);
        assert!(
            e.contains(&format!("two predictors are called \"{name}\"")) && e.contains("1 mistake"),
            "{e}"
        );
    }
    let e = several(rest).unwrap_err().to_string();
    assert!(e.contains("[[predictor]] 2 lacks the key `name`"), "{e}");
    let e = several("name = \"b\"\nkind = \"onnx\"").unwrap_err().to_string();
    assert!(e.contains("[[predictor]] 2 of kind \"onnx\" lacks the key `path`"), "{e}");
}

#[test]
fn mistakes_in_what_predictors_share_are_said_once() {
    let text = GOOD
        .replace("[predictor]", "[[predictor]]\nname = \"a\"")
        .replace("[generator]", "[[predictor]]\nname = \"b\"\nkind = \"onnx\"\n[generator]")
        .replace("steps = 9", "step = 9")
        .replace("kind = \"logistic\"", "kind = \"logistik\"");
    let parsed = RawManifest::parse("study.toml", &text, &[]).unwrap();
    let e = parsed.check_all(Path::new("study.toml")).unwrap_err();
    assert_eq!(e.problems().len(), 3, "{e}");
    for (words, n) in [("`step`", 1), ("logistik", 1), ("[[predictor]] 2 of kind \"onnx\" lacks", 1)] {
        let found = e.problems().iter().filter(|p| p.message().contains(words)).count();
        assert_eq!(found, n, "{words}: {e}");
    }
}

//! Which classes are explained: names and indices of the manifest among those of the predictor.

use crate::manifest::{At, ClassRef, Kind, Located, ManifestError, Problem, Study};
use crate::nearest::suggest;
use crate::registry::LATENT_SHIFT;
use shiftlens_api::Target;

impl Study {
    /// The class that `wanted`, the value of `key`, means.
    fn class(
        &self,
        key: &str,
        wanted: &ClassRef,
        at: At,
        classes: &[String],
    ) -> Result<Target, Box<Problem>> {
        let found = match wanted {
            ClassRef::Name(name) => classes.iter().position(|c| c == name),
            ClassRef::Index(i) => Some(*i).filter(|i| *i < classes.len()),
        };
        if let Some(class) = found {
            return Ok(Target { class, name: classes[class].clone() });
        }
        let names: Vec<&str> = classes.iter().map(String::as_str).collect();
        Err(match wanted {
            ClassRef::Name(name) => {
                let message = format!("`{key}` is {wanted}, no class of the predictor");
                Box::new(self.sources.problem(at, message, suggest(name, &names)))
            }
            ClassRef::Index(_) => {
                let expected = match classes.len() {
                    1 => "0, its only class".into(),
                    n => format!("an index from 0 to {}", n - 1),
                };
                let message = format!("`{key}` is {wanted}, no class of the predictor: expected {expected}");
                Box::new(self.sources.problem(
                    at,
                    message,
                    format!("its classes in order: {}", names.join(", ")),
                ))
            }
        })
    }

    /// The study's class, and a remark where it was assumed.
    pub(crate) fn pick_target(&self, classes: &[String]) -> Result<(Target, Option<String>), ManifestError> {
        let at = self.target_at.unwrap_or(self.predictor.marks.section);
        let (class, remark) = match (&self.target, classes.len()) {
            (Some(wanted), _) => {
                let target = self.class("target", wanted, at, classes);
                return target.map(|t| (t, None)).map_err(|p| self.problems(vec![*p]));
            }
            (None, 1) => (0, None),
            (None, 2) => (1, Some(format!("no target class named: explaining \"{}\"", classes[1]))),
            (None, n) => {
                let message = format!("the predictor has {n} classes: name the one to explain");
                let help = format!("output = {{ target = \"NAME\" }} with one of: {}", classes.join(", "));
                return Err(self.problem(at, message, help));
            }
        };
        Ok((Target { class, name: classes[class].clone() }, remark))
    }

    /// The classes that each explainer explains: those it names, else the study's.
    ///
    /// `latent-shift` explains the study's class alone: its direction is fitted to f's score of that class, and along
    /// it other scores move as they happen to. A plugin may explain any class; of another one it sees no latent space
    /// (see [`mod@crate::run`]).
    pub(crate) fn explained(
        &self,
        classes: &[String],
        target: &Target,
    ) -> Result<Vec<Vec<Target>>, ManifestError> {
        let mut problems = Vec::new();
        let mut all = Vec::with_capacity(self.explainers.len());
        for spec in &self.explainers {
            let mut named: Vec<Target> = Vec::new();
            for Located { value, at } in &spec.classes {
                let class = match self.class("classes", value, *at, classes) {
                    Ok(class) => class,
                    Err(problem) => {
                        problems.push(*problem);
                        continue;
                    }
                };
                if named.contains(&class) {
                    let message = format!("`classes` names \"{}\" twice", class.name);
                    problems.push(self.sources.problem(*at, message, "name each class once"));
                } else if spec.kind == Kind::Builtin(LATENT_SHIFT) && class != *target {
                    let message = format!(
                        "`latent-shift` explains the target \"{}\" alone, `classes` names \"{}\": its direction is \
                         fitted to the target's score",
                        target.name, class.name
                    );
                    let help = format!("for \"{}\" write a study with that `target`", class.name);
                    problems.push(self.sources.problem(*at, message, help));
                } else {
                    named.push(class);
                }
            }
            if spec.classes.is_empty() {
                named.push(target.clone());
            }
            all.push(named);
        }
        if problems.is_empty() { Ok(all) } else { Err(self.problems(problems)) }
    }

    fn problems(&self, problems: Vec<Problem>) -> ManifestError {
        ManifestError::new(self.path.display().to_string(), problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::RawManifest;
    use std::path::Path;

    const STUDY: &str = r#"
schema = 1
name = "three classes"
[data]
images = "images"
[predictor]
kind = "onnx"
path = "f.onnx"
output = { target = "effusion" }
[generator]
kind = "onnx"
path = "g.onnx"
[encoder]
kind = "onnx"
path = "e.onnx"
[[explainer]]
kind = "latent-shift"
[[explainer]]
kind = "plugin:a"
[plugins]
a = "a"
"#;

    fn classes() -> Vec<String> {
        ["normal", "effusion", "nodule"].map(str::to_owned).to_vec()
    }

    /// The names of what each explainer explains, or the mistakes.
    fn explained(overrides: &[&str]) -> Result<Vec<Vec<String>>, ManifestError> {
        let overrides: Vec<String> = overrides.iter().map(|o| (*o).to_owned()).collect();
        let study = RawManifest::parse("study.toml", STUDY, &overrides)?.check(Path::new("study.toml"))?;
        let (target, remark) = study.pick_target(&classes())?;
        assert_eq!(remark, None);
        let all = study.explained(&classes(), &target)?;
        for t in all.iter().flatten() {
            assert_eq!(classes()[t.class], t.name);
        }
        Ok(all.into_iter().map(|e| e.into_iter().map(|t| t.name).collect()).collect())
    }

    #[test]
    fn the_target_is_explained_unless_others_are_named() {
        assert_eq!(explained(&[]).unwrap(), [["effusion"], ["effusion"]]);
        assert_eq!(explained(&["predictor.output.target=2"]).unwrap(), [["nodule"], ["nodule"]]);
        let several = explained(&["explainer.1.classes=[2, \"normal\", 1]"]).unwrap();
        assert_eq!(several, [&["effusion"][..], &["nodule", "normal", "effusion"]]);
        assert_eq!(explained(&["explainer.0.classes=[1]"]).unwrap()[0], ["effusion"]);
    }

    #[test]
    fn every_wrong_class_is_named_at_its_place() {
        for (overrides, expected) in [
            (
                &["predictor.output.target=effusoin"][..],
                &["`target` is \"effusoin\", no class", "did you mean `effusion`?"][..],
            ),
            (
                &["predictor.output.target=3"],
                &["`target` is 3", "an index from 0 to 2", "normal, effusion, nodule"],
            ),
            (
                &["explainer.1.classes=[\"nodul\", 7]"],
                &["2 mistakes", "--set:1:22", "did you mean `nodule`?", "--set:1:31", "`classes` is 7"],
            ),
            (&["explainer.1.classes=[1, \"effusion\"]"], &["--set:1:25", "names \"effusion\" twice"]),
            (
                &["explainer.0.classes=[1, \"nodule\"]"],
                &["--set:1:25", "`latent-shift` explains the target \"effusion\" alone", "names \"nodule\""],
            ),
        ] {
            let message = explained(overrides).unwrap_err().to_string();
            assert!(expected.iter().all(|e| message.contains(e)), "{overrides:?}: {message}");
        }
    }
}

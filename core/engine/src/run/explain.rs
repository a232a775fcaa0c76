//! All explainers on images of one shape.

use super::case::{Explained, Made};
use crate::direction::Found;
use crate::manifest::Study;
use crate::registry::Components;
use shiftlens_api::{Context, Error, Images, LatentSpace, Monitor, Result};
use std::time::Instant;

/// Each image's index in the list, and what was said about it.
type Answers = Vec<(usize, Result<Explained>)>;

/// Explains images of one shape together; if that fails, one by one, so that only the culprit fails.
pub fn explain_group(
    study: &Study,
    parts: &mut Components,
    found: Option<&Found>,
    group: &[(usize, Images, String)],
    monitor: &dyn Monitor,
) -> Result<Answers> {
    let images: Vec<Images> = group.iter().map(|(_, x, _)| x.clone()).collect();
    match explain(study, parts, found, &Images::concat(&images)?, monitor) {
        Ok(all) => Ok(group.iter().zip(all).map(|((i, ..), e)| (*i, Ok(e))).collect()),
        Err(Error::Cancelled) => Err(Error::Cancelled),
        Err(e) if group.len() == 1 => Ok(vec![(group[0].0, Err(e))]),
        Err(_) => {
            let mut out = Vec::new();
            for (index, (i, x, _)) in group.iter().enumerate() {
                let answer = match explain(study, parts, found, x, monitor) {
                    Err(Error::Cancelled) => return Err(Error::Cancelled),
                    answer => answer.map(|mut all| Explained { index, ..all.swap_remove(0) }),
                };
                out.push((*i, answer));
            }
            Ok(out)
        }
    }
}

fn explain(
    study: &Study,
    parts: &mut Components,
    found: Option<&Found>,
    x: &Images,
    monitor: &dyn Monitor,
) -> Result<Vec<Explained>> {
    let n = x.len();
    let scores = parts.predictor.predict(x)?;
    if scores.shape() != [n, parts.classes.len()] {
        return Err(Error::Shape {
            what: "scores from the predictor".into(),
            expected: format!("[{n}, {}]", parts.classes.len()),
            found: scores.shape().to_vec(),
        });
    }
    let mut all: Vec<Explained> = (0..n)
        .map(|index| Explained { index, scores: scores.row(index).to_vec(), explanations: Vec::new() })
        .collect();
    let seed = study.direction.as_ref().map_or(0, |d| d.seed);
    for (which, (explainer, classes)) in parts.explainers.iter_mut().zip(&parts.explained).enumerate() {
        let kind = &study.explainers[which].kind;
        for class in classes {
            let started = Instant::now();
            let own = class == &parts.target;
            let latent = match (&mut parts.latent, found) {
                (Some(l), Some(found)) if own => Some(LatentSpace {
                    generator: l.generator.as_mut(),
                    encoder: l.encoder.as_mut(),
                    direction: &found.direction,
                }),
                _ => None,
            };
            let withheld = latent.is_none() && found.is_some();
            let mut cx = Context { predictor: parts.predictor.as_mut(), latent, monitor, seed };
            let who = if own {
                format!("explainer {kind}")
            } else {
                format!("explainer {kind}, class \"{}\"", class.name)
            };
            let answers = explainer.explain(&mut cx, x, class).map_err(|e| match e {
                Error::Cancelled => Error::Cancelled,
                // A method that asks for what is withheld says so; others fail for reasons of their own.
                Error::Unsupported(e) if withheld && e.contains("latent") => {
                    let target = &parts.target.name;
                    Error::component(
                        who.clone(),
                        format!("{e} (the latent space is lent for the target \"{target}\" only)"),
                    )
                }
                e => Error::component(who.clone(), e),
            })?;
            if answers.len() != n {
                return Err(Error::component(
                    who,
                    format!("answered for {} images, {n} were asked", answers.len()),
                ));
            }
            let seconds = started.elapsed().as_secs_f64() / n as f64;
            for (e, answer) in all.iter_mut().zip(answers) {
                e.explanations.extend(answer.into_iter().map(|explanation| Made {
                    explanation,
                    explainer: which,
                    class: class.clone(),
                    seconds,
                }));
            }
        }
    }
    Ok(all)
}

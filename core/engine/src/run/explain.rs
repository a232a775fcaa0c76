//! All explainers on images of one shape.

use super::case::{Explained, Made};
use super::trust::{self, Known};
use crate::direction::Found;
use crate::manifest::Study;
use crate::registry::{Components, Timed};
use shiftlens_api::{Context, Error, Images, LatentCodes, LatentSpace, Monitor, Result};
use std::sync::Arc;
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
        .map(|index| Explained {
            index,
            scores: scores.row(index).to_vec(),
            trust: None,
            explanations: Vec::new(),
        })
        .collect();
    let (Some(latent), true) = (&mut parts.latent, found.is_some()) else {
        ask_explainers(study, parts, found, x, None, &mut all.iter_mut().collect::<Vec<_>>(), monitor)?;
        return Ok(all);
    };
    let chosen = trust::encode(
        x,
        &scores.class(parts.target.class)?,
        latent,
        parts.predictor.as_mut(),
        parts.refiner.as_deref_mut(),
        study.trust.as_ref(),
        &parts.target,
        monitor,
    )?;
    // A second try may answer codes of W+ where the encoder's are of W: each kind goes its own way.
    let mut kinds: Vec<([usize; 3], Vec<usize>)> = Vec::new();
    let mut codes = Vec::with_capacity(n);
    for (i, (code, record)) in chosen.into_iter().enumerate() {
        match kinds.iter_mut().find(|(shape, _)| *shape == code.shape()) {
            Some((_, members)) => members.push(i),
            None => kinds.push((code.shape(), vec![i])),
        }
        codes.push(code);
        all[i].trust = Some(record);
    }
    for (_, members) in kinds {
        let part = Images::concat(&members.iter().map(|i| x.slice(*i, i + 1)).collect::<Vec<_>>())?;
        let part_codes: Vec<LatentCodes> = members.iter().map(|i| codes[*i].clone()).collect();
        let known = LatentCodes::concat(&part_codes)?;
        let mut cases: Vec<&mut Explained> =
            all.iter_mut().enumerate().filter(|(i, _)| members.contains(i)).map(|(_, e)| e).collect();
        ask_explainers(study, parts, found, &part, Some(&known), &mut cases, monitor)?;
    }
    Ok(all)
}

/// Runs all explainers on `x`, whose codes are `known`, and adds what they answer to `cases`, one for each image.
fn ask_explainers(
    study: &Study,
    parts: &mut Components,
    found: Option<&Found>,
    x: &Images,
    known: Option<&LatentCodes>,
    cases: &mut [&mut Explained],
    monitor: &dyn Monitor,
) -> Result<()> {
    let n = x.len();
    let seed = study.direction.as_ref().map_or(0, |d| d.seed);
    for (which, (explainer, classes)) in parts.explainers.iter_mut().zip(&parts.explained).enumerate() {
        let kind = &study.explainers[which].kind;
        for class in classes {
            let started = Instant::now();
            let own = class == &parts.target;
            let mut encoder = match (&mut parts.latent, known) {
                (Some(l), Some(codes)) if own => {
                    Some((Known { encoder: l.encoder.as_mut(), images: x, codes }, l.generator.as_mut()))
                }
                _ => None,
            };
            let latent = match (&mut encoder, found) {
                (Some((encoder, generator)), Some(found)) => {
                    Some(LatentSpace { generator: &mut **generator, encoder, direction: &found.direction })
                }
                _ => None,
            };
            let withheld = latent.is_none() && found.is_some();
            let count = Arc::default();
            let mut counted = Timed::new(parts.predictor.as_mut(), &count);
            let mut cx = Context { predictor: &mut counted, latent, monitor, seed };
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
            let asked = count.asked() as f64 / n as f64;
            for (e, answer) in cases.iter_mut().zip(answers) {
                e.explanations.extend(answer.into_iter().map(|explanation| Made {
                    explanation,
                    explainer: which,
                    class: class.clone(),
                    seconds,
                    asked,
                }));
            }
        }
    }
    Ok(())
}

//! Where a run's direction comes from.

use super::folder::RunFolder;
use super::{DirectionFrom, fingerprint};
use crate::data::{self, Item, Reader, View};
use crate::direction::{self, Found, Plan, Sample};
use crate::manifest::{LabelSource, Study};
use crate::registry::Components;
use shiftlens_api::{Encoder, Error, Images, LatentCodes, Level, Monitor, Result};
use std::time::Instant;

/// α: from this run's folder, from another's, or fitted now. `items` is the whole list, also in a part's run.
pub(super) fn find_direction(
    study: &Study,
    parts: &mut Components,
    items: &[Item],
    folder: &RunFolder,
    from: Option<&DirectionFrom>,
    batch: usize,
    monitor: &dyn Monitor,
) -> Result<Option<Found>> {
    let (Some(spec), true) = (&study.direction, parts.latent.is_some()) else { return Ok(None) };
    let own = spec.data.as_ref().map(data::scan).transpose()?;
    let fitted = own.as_deref().unwrap_or(items);
    let print = fingerprint::of_direction(study, parts, fitted);
    let home = folder.direction();
    let others = from.map(|f| f.run.join("direction"));
    for place in std::iter::once(home.clone()).chain(others) {
        if let Some(found) = direction::load(&place, &print)? {
            monitor.log(Level::Info, &format!("taking the direction from {}", place.display()));
            if place != home {
                direction::save(&home, &found, &print)?;
            }
            return Ok(Some(found));
        }
    }
    if let Some(from) = from.filter(|f| f.must) {
        return Err(Error::Invalid(format!(
            "{}: the folder has no direction that was fitted with this study's models and settings. Next: name a run of the \
             same study, or leave the direction to be fitted",
            from.run.display()
        )));
    }
    let Some(latent) = parts.latent.as_mut() else { return Ok(None) };
    let started = Instant::now();
    let plan = Plan {
        holdout: spec.holdout,
        threshold: spec.threshold,
        decision: spec.threshold,
        seed: spec.seed,
        along: spec.along,
        audit: spec.audit,
    };
    let (generator, encoder) = (latent.generator.as_mut(), latent.encoder.as_mut());
    let (predictor, target, finder) = (parts.predictor.as_mut(), &parts.target, latent.finder.as_mut());
    let view = spec.data.as_ref().unwrap_or(&study.data).view();
    let truth = spec.labels == LabelSource::Truth;
    let coded = if own.is_some() || truth {
        let wanted: Vec<&Item> = fitted.iter().filter(|i| !truth || i.label.is_some()).collect();
        encode(&wanted, view, encoder, batch, monitor)?
    } else {
        Coded { codes: generator.sample(spec.samples, spec.seed)?, labels: Vec::new(), groups: None }
    };
    let mut ask = |w: &LatentCodes, what: Option<&str>| {
        direction::score_codes(w, generator, predictor, target, what, monitor)
    };
    let (values, what, plan) = match (truth, own.is_some()) {
        // The labels are 0 and 1; f changes its mind at its own threshold.
        (true, _) => (coded.labels, "labelled images", Plan { threshold: 0.5, ..plan }),
        (false, true) => (ask(&coded.codes, Some("asking about encoded images"))?, "encoded images", plan),
        (false, false) => (ask(&coded.codes, Some("sampling the direction"))?, "sampled codes", plan),
    };
    let sample = Sample { codes: &coded.codes, values: &values, groups: coded.groups.as_deref(), what };
    let mut found = direction::find(finder, sample, plan, Some(&mut |w| ask(w, None)), monitor)?;
    found.audit.seconds = started.elapsed().as_secs_f64();
    direction::save(&home, &found, &print)?;
    Ok(Some(found))
}

/// What a direction is fitted to.
struct Coded {
    /// E(x), or drawn.
    codes: LatentCodes,
    /// 1 for a positive label, else 0; none of drawn codes.
    labels: Vec<f32>,
    /// `None` for drawn codes.
    groups: Option<Vec<String>>,
}

/// The code, the label and the group of every image; one that cannot be read is left out and named.
fn encode(
    items: &[&Item],
    view: View,
    encoder: &mut dyn Encoder,
    batch: usize,
    monitor: &dyn Monitor,
) -> Result<Coded> {
    let (mut codes, mut labels, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    let mut reader = Reader::new(view);
    for (done, chunk) in items.chunks(batch.max(1)).enumerate() {
        monitor.check()?;
        let images: Vec<Result<Images>> = chunk.iter().map(|item| reader.read(&item.source())).collect();
        for (item, w) in chunk.iter().zip(encode_chunk(images, encoder)) {
            match w {
                Ok(w) => {
                    codes.push(w);
                    labels.push(f32::from(u8::from(item.label == Some(true))));
                    groups.push(item.group.clone().unwrap_or_else(|| item.id.clone()));
                }
                Err(e) => monitor.log(Level::Warn, &format!("left out of the direction: {e}")),
            }
        }
        let so_far = (done * batch + chunk.len()) as u64;
        monitor.progress("encoding images for the direction", so_far, items.len() as u64);
    }
    if codes.is_empty() {
        return Err(Error::invalid(
            "direction: no image to fit to could be read, or none has a label: check `data` of [direction] and `labels`",
        ));
    }
    Ok(Coded { codes: LatentCodes::concat(&codes)?, labels, groups: Some(groups) })
}

/// The code of every image: of all at once where they are of one shape and nothing fails, else one by one.
fn encode_chunk(images: Vec<Result<Images>>, encoder: &mut dyn Encoder) -> Vec<Result<LatentCodes>> {
    if images.iter().all(Result::is_ok) {
        let all: Vec<Images> = images.iter().flatten().cloned().collect();
        if let Ok(codes) = Images::concat(&all).and_then(|x| encoder.encode(&x))
            && codes.len() == all.len()
        {
            return (0..all.len()).map(|i| Ok(codes.slice(i, i + 1))).collect();
        }
    }
    images.into_iter().map(|x| x.and_then(|x| encoder.encode(&x))).collect()
}

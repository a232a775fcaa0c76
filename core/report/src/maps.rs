//! What the templates see of heatmaps.

use crate::case::{Fact, fact, notes};
use crate::number::{duration, score, significant};
use crate::sources::{Picture, Sources};
use serde::Serialize;
use shiftlens_api::Target;
use shiftlens_api::record::{CaseRecord, ExplanationRecord};
use std::collections::BTreeMap;

/// Up to this many maps stand beside the image, each in full; more are laid out side by side.
const FEW: usize = 1;

/// All maps of a case.
#[derive(Serialize)]
pub(crate) struct MapsView {
    /// They stand beside the image.
    few: bool,
    count: usize,
    /// By class, in the order in which the record names them.
    groups: Vec<GroupView>,
}

impl MapsView {
    /// The maps, of which none stay.
    pub(crate) fn take(&mut self) -> Self {
        Self { few: true, count: std::mem::take(&mut self.count), groups: std::mem::take(&mut self.groups) }
    }
}

/// The maps about one class.
#[derive(Serialize)]
struct GroupView {
    class: String,
    /// f's score of that class.
    score: Option<String>,
    maps: Vec<HeatmapView>,
}

#[derive(Serialize)]
struct HeatmapView {
    title: String,
    explainer: String,
    class: String,
    layer: Option<Picture>,
    raw: Option<Picture>,
    /// The value where the colours over the image begin.
    floor: String,
    /// Value where the colours begin and where they end, for one scale over several maps.
    ends: (f32, f32),
    /// The raw map's smallest and largest value.
    low: String,
    high: String,
    largest: String,
    size: String,
    signed: bool,
    any_positive: bool,
    flat: bool,
    facts: Vec<Fact>,
}

/// The view of a case's maps; `target` is meant where a record names no class.
pub(crate) fn maps(record: &CaseRecord, target: &Target, sources: &mut Sources) -> MapsView {
    let mut groups: Vec<(Target, GroupView)> = Vec::new();
    let mut count = 0;
    for (e, explanation) in record.explanations.iter().enumerate() {
        let ExplanationRecord::Heatmap { explainer, title, range, size, notes: said, seconds, .. } =
            explanation
        else {
            continue;
        };
        count += 1;
        let class = explanation.class().unwrap_or(target);
        let key = |part| record.pictures.get(&format!("heatmap-{e}-{part}"));
        let mut facts: Vec<Fact> = notes(said).filter(|f| f.key != "class").collect();
        facts.push(fact("time", duration(*seconds), ""));
        let view = HeatmapView {
            title: title.clone(),
            explainer: explainer.clone(),
            class: class.name.clone(),
            layer: key("layer").and_then(|name| sources.picture(&record.id, name)),
            raw: key("raw").and_then(|name| sources.picture(&record.id, name)),
            floor: if range.0 < 0.0 { "≤ 0".into() } else { significant(f64::from(range.0)) },
            ends: (range.0.max(0.0), range.1),
            low: significant(f64::from(range.0)),
            high: significant(f64::from(range.1)),
            largest: significant(f64::from(range.0.abs().max(range.1.abs()))),
            size: format!("{}\u{a0}×\u{a0}{}", size.0, size.1),
            signed: range.0 < 0.0,
            any_positive: range.1 > 0.0,
            flat: range.0 == range.1,
            facts,
        };
        match groups.iter_mut().find(|(c, _)| c == class) {
            Some((_, group)) => group.maps.push(view),
            None => {
                let score = record.scores.get(class.class).map(|s| score(*s));
                groups
                    .push((class.clone(), GroupView { class: class.name.clone(), score, maps: vec![view] }));
            }
        }
    }
    MapsView { few: count <= FEW, count, groups: groups.into_iter().map(|(_, g)| g).collect() }
}

/// The maps of several predictors (name, maps), those of one explainer and class in one group. The explainers are one list
/// for all predictors, so that the n-th of a kind is the same one.
pub(crate) fn beside(sides: Vec<(&str, MapsView)>) -> MapsView {
    let mut groups: Vec<((String, String, usize), GroupView)> = Vec::new();
    let mut count = 0;
    for (name, maps) in sides {
        let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
        for group in maps.groups {
            for mut map in group.maps {
                count += 1;
                let nth = seen.entry((map.explainer.clone(), group.class.clone())).or_default();
                let key = (map.explainer.clone(), group.class.clone(), *nth);
                *nth += 1;
                let heading = format!("{}, {}", map.title, group.class);
                map.title = format!("{} of {name}", map.title);
                match groups.iter_mut().find(|(k, _)| *k == key) {
                    Some((_, beside)) => beside.maps.push(map),
                    None => groups.push((key, GroupView { class: heading, score: None, maps: vec![map] })),
                }
            }
        }
    }
    MapsView { few: false, count, groups: groups.into_iter().map(|(_, g)| g).collect() }
}

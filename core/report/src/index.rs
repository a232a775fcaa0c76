//! The gallery's data: one short row for each case, which the page filters, sorts and draws.

use crate::case::label;
use crate::number::{lambda, score};
use crate::sources::Sources;
use serde::{Serialize, Serializer};
use shiftlens_api::Result;
use shiftlens_api::record::{CaseRecord, ExplanationRecord, RunRecord};

/// Everything that the gallery knows, as it stands in the page.
#[derive(Serialize)]
pub(crate) struct Index {
    /// What a prediction and a ground truth are called: of the other class, of the target.
    names: [String; 2],
    /// Names of the columns of metadata.
    metadata: Vec<String>,
    /// The thumbnails are pictures of the cases' templates: the page stands alone.
    embedded: bool,
    /// Names of the predictors that stand side by side; empty on the page of a single run.
    predictors: Vec<String>,
    rows: Vec<Row>,
}

/// A case in the gallery. It is written as an array, in the order of the fields; `report.js` names them.
pub(crate) struct Row {
    id: String,
    path: String,
    group: Option<String>,
    /// Address of the thumbnail; empty where there is none, and in a page that stands alone.
    thumbnail: String,
    label: Option<bool>,
    synthetic: bool,
    /// In the order of the index' columns.
    metadata: Vec<Option<String>>,
    /// What each predictor says; `None` where it did not explain the image.
    sides: Vec<Option<Side>>,
}

/// What one predictor says of a case.
struct Side {
    score: f32,
    flagged: bool,
    /// f(G(E(x))) and λ at the flip of the first series.
    series: Option<(f32, Option<f32>)>,
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        (
            (&self.id, &self.path, &self.group, &self.thumbnail),
            (self.label.map(u8::from), self.synthetic),
            &self.metadata,
            &self.sides,
        )
            .serialize(to)
    }
}

impl Serialize for Side {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        let (reconstruction, flip) = self.series.map_or((None, None), |(r, flip)| (Some(r), flip));
        let flip_text = flip.map(lambda);
        (self.score, score(self.score), self.flagged, reconstruction, flip, flip_text, self.series.is_some())
            .serialize(to)
    }
}

impl Side {
    fn of(case: &CaseRecord) -> Self {
        let series = case.explanations.iter().find_map(|e| match e {
            ExplanationRecord::Shift { scores, origin, flip, .. } => Some((scores[*origin], *flip)),
            ExplanationRecord::Heatmap { .. } => None,
        });
        Self { score: case.score, flagged: case.trust.as_ref().is_some_and(|t| t.flagged()), series }
    }
}

impl Index {
    /// An index without rows; what predictions are called is what `run` calls them.
    pub(crate) fn new(run: &RunRecord, predictors: Vec<String>, embedded: bool) -> Self {
        let name = |is| label(is, &run.classes, &run.target);
        Self {
            names: [name(false), name(true)],
            metadata: Vec::new(),
            embedded,
            predictors,
            rows: Vec::new(),
        }
    }

    /// Adds a case with what each predictor says of it, one at least; what they cannot differ in is taken from the first that
    /// is there.
    pub(crate) fn push(&mut self, sides: &[(&Sources, Option<&CaseRecord>)]) {
        let Some((sources, case)) = sides.iter().find_map(|(s, case)| Some((s, (*case)?))) else { return };
        let mut metadata = vec![None; self.metadata.len()];
        for (name, value) in &case.metadata {
            let column = self.metadata.iter().position(|n| n == name).unwrap_or_else(|| {
                self.metadata.push(name.clone());
                metadata.push(None);
                metadata.len() - 1
            });
            metadata[column] = Some(value.clone());
        }
        let thumbnail = case.pictures.get("thumbnail").or_else(|| case.pictures.get("original"));
        let thumbnail = thumbnail.filter(|_| !self.embedded);
        self.rows.push(Row {
            id: case.id.clone(),
            path: case.path.clone(),
            group: case.group.clone(),
            thumbnail: thumbnail.map(|name| sources.address(&case.id, name)).unwrap_or_default(),
            label: case.label,
            synthetic: case.synthetic,
            metadata,
            sides: sides.iter().map(|(_, case)| case.map(Side::of)).collect(),
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// How many cases have what `has` asks for.
    pub(crate) fn count(&self, has: impl Fn(&Row) -> bool) -> usize {
        self.rows.iter().filter(|r| has(r)).count()
    }

    /// As JSON that can stand inside a `script` element.
    pub(crate) fn json(&self) -> Result<String> {
        let text =
            serde_json::to_string(self).map_err(|e| shiftlens_api::Error::component("report.html", e))?;
        Ok(inert(&text))
    }
}

impl Row {
    pub(crate) fn labelled(&self) -> bool {
        self.label.is_some()
    }
    pub(crate) fn has_series(&self) -> bool {
        self.sides.iter().flatten().any(|s| s.series.is_some())
    }
    pub(crate) fn is_flagged(&self) -> bool {
        self.sides.iter().flatten().any(|s| s.flagged)
    }
    pub(crate) fn is_missing_one(&self) -> bool {
        self.sides.iter().any(Option::is_none)
    }
    pub(crate) fn is_synthetic(&self) -> bool {
        self.synthetic
    }
}

/// JSON without `<`: nothing in it can end a `script` element or begin a comment there.
pub(crate) fn inert(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_json_is_inert_and_reads_back() {
        let text = serde_json::to_string("</script><!-- é\u{2028}").unwrap();
        let inert = inert(&text);
        assert!(!inert.contains('<'));
        assert_eq!(serde_json::from_str::<String>(&inert).unwrap(), "</script><!-- é\u{2028}");
    }
}

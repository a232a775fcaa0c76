//! The gallery's data: one short row for each case, which the page filters, sorts and draws.

use crate::case::label;
use crate::number::{lambda, score};
use crate::sources::address;
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
    rows: Vec<Row>,
}

/// A case in the gallery. It is written as an array, in the order of the fields; `report.js` names them.
pub(crate) struct Row {
    id: String,
    path: String,
    group: Option<String>,
    /// Address of the thumbnail; empty where there is none, and in a page that stands alone.
    thumbnail: String,
    score: f32,
    label: Option<bool>,
    synthetic: bool,
    flagged: bool,
    /// f(G(E(x))) and λ at the flip of the first series.
    series: Option<(f32, Option<f32>)>,
    /// In the order of the index' columns.
    metadata: Vec<Option<String>>,
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        let flags = u8::from(self.synthetic) | u8::from(self.flagged) << 1;
        let (reconstruction, flip) = self.series.map_or((None, None), |(r, flip)| (Some(r), flip));
        (
            (&self.id, &self.path, &self.group, &self.thumbnail),
            (self.score, score(self.score), self.label.map(u8::from), flags),
            (reconstruction, reconstruction.map(score), flip, flip.map(lambda), self.series.is_some()),
            &self.metadata,
        )
            .serialize(to)
    }
}

impl Index {
    /// An index without rows.
    pub(crate) fn new(run: &RunRecord, embedded: bool) -> Self {
        let name = |is| label(is, &run.classes, &run.target);
        Self { names: [name(false), name(true)], metadata: Vec::new(), embedded, rows: Vec::new() }
    }

    /// Adds a case.
    pub(crate) fn push(&mut self, case: &CaseRecord) {
        let mut metadata = vec![None; self.metadata.len()];
        for (name, value) in &case.metadata {
            let column = self.metadata.iter().position(|n| n == name).unwrap_or_else(|| {
                self.metadata.push(name.clone());
                metadata.push(None);
                metadata.len() - 1
            });
            metadata[column] = Some(value.clone());
        }
        let series = case.explanations.iter().find_map(|e| match e {
            ExplanationRecord::Shift { scores, origin, flip, .. } => Some((scores[*origin], *flip)),
            ExplanationRecord::Heatmap { .. } => None,
        });
        let thumbnail = case.pictures.get("thumbnail").or_else(|| case.pictures.get("original"));
        let thumbnail = thumbnail.filter(|_| !self.embedded);
        self.rows.push(Row {
            id: case.id.clone(),
            path: case.path.clone(),
            group: case.group.clone(),
            thumbnail: thumbnail.map(|name| address(&case.id, name)).unwrap_or_default(),
            score: case.score,
            label: case.label,
            synthetic: case.synthetic,
            flagged: case.trust.as_ref().is_some_and(|t| t.flagged()),
            series,
            metadata,
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
        self.series.is_some()
    }
    pub(crate) fn is_flagged(&self) -> bool {
        self.flagged
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

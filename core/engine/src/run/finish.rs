//! The study's figures from the cases on disk, one case in memory at a time.

use super::case;
use super::figures::figures;
use super::folder::RunFolder;
use shiftlens_api::record::{CaseRecord, ExplanationRecord, Metrics};
use shiftlens_api::{Result, Target};
use std::collections::BTreeMap;

/// What figures need to know besides the cases.
pub(super) struct Figures<'a> {
    /// α, where the study has a direction.
    pub alpha: Option<&'a [f32]>,
    /// Score from which f says yes.
    pub threshold: f32,
    pub target: &'a Target,
    /// The manifest has thresholds for reconstructions.
    pub gated: bool,
}

/// The score from which f says yes, as the manifest in a run's record has it: an f32, in which a run compares.
pub(super) fn threshold_of(manifest: &serde_json::Value) -> f32 {
    manifest["direction"]["threshold"].as_f64().map_or(0.5, |t| t as f32)
}

impl Figures<'_> {
    /// The figures of the cases called `ids`.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub fn measure(&self, folder: &RunFolder, ids: &[String]) -> Result<Metrics> {
        let (mut cases, mut latent) = (Vec::with_capacity(ids.len()), Vec::with_capacity(ids.len()));
        for id in ids {
            let case = folder.read_case(id)?;
            latent.push(self.latent_rank(folder, &case)?);
            cases.push(essence(case, self.target));
        }
        Ok(figures(&cases, &latent, self.threshold, self.target, self.gated))
    }

    /// `<E(x), α>` of a case's first series about the target. The latent classifier is monotone in it, and it does not
    /// saturate as the probability does, so figures that rank cases use it.
    fn latent_rank(&self, folder: &RunFolder, case: &CaseRecord) -> Result<Option<f64>> {
        let first = case.explanations.iter().position(|e| is_series(e, self.target));
        let (Some(first), Some(alpha)) = (first, self.alpha) else { return Ok(None) };
        let code = case::read_code(&folder.case(&case.id), first)?;
        // A code of W+ has several rows of the direction's size: their mean counts.
        let rows = (code.len() / alpha.len()).max(1) as f64;
        let dot: f64 =
            code.iter().zip(alpha.iter().cycle()).map(|(w, a)| f64::from(*w) * f64::from(*a)).sum();
        Ok(Some(dot / rows))
    }
}

fn is_series(e: &ExplanationRecord, target: &Target) -> bool {
    matches!(e, ExplanationRecord::Shift { .. }) && e.is_about(target)
}

/// What the figures are made of: a few numbers of each case stay in memory, whatever it says besides.
fn essence(case: CaseRecord, target: &Target) -> CaseRecord {
    let mut series = case.explanations.into_iter().find(|e| is_series(e, target));
    if let Some(ExplanationRecord::Shift { lambdas, scores, notes, pictures, .. }) = &mut series {
        (*lambdas, *scores, *notes, *pictures) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    }
    CaseRecord {
        metadata: Vec::new(),
        scores: Vec::new(),
        explanations: series.into_iter().collect(),
        evaluation: Vec::new(),
        remarks: Vec::new(),
        pictures: BTreeMap::new(),
        ..case
    }
}

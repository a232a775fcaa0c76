//! What a second classifier says to counterfactuals (the oracle of Hvilshøj et al. 2021). A flip that f alone sees is an
//! adversarial example rather than an explanation.

use serde::{Deserialize, Serialize};

/// The oracle's word on one counterfactual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// It decided on the image as f did.
    pub agreed_before: bool,
    /// It decides on the counterfactual as f does.
    pub agrees_after: bool,
}

impl Verdict {
    /// From the oracle's decisions on both images and f's on the counterfactual (f's on the image was the other one).
    pub fn new(before: bool, after: bool, flipped_to: bool) -> Self {
        Self { agreed_before: before != flipped_to, agrees_after: after == flipped_to }
    }
    /// Does the oracle see the flip? `None` where it did not agree with f on the image: then it had nothing to change.
    pub fn sees(&self) -> Option<bool> {
        self.agreed_before.then_some(self.agrees_after)
    }
}

/// Verdicts counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OracleCounts {
    /// Flips.
    pub flips: usize,
    /// Those on whose counterfactual the oracle decides as f does.
    pub agreeing: usize,
    /// Flips whose image the oracle decided as f did.
    pub eligible: usize,
    /// Those of them that the oracle sees.
    pub seen: usize,
}

impl OracleCounts {
    /// Share of counterfactuals that the oracle decides as f does; `None` without a flip.
    pub fn agreement(&self) -> Option<f64> {
        (self.flips > 0).then(|| self.agreeing as f64 / self.flips as f64)
    }
    /// Share of flips that the oracle, which had agreed with f, sees too; `None` without one.
    pub fn sees(&self) -> Option<f64> {
        (self.eligible > 0).then(|| self.seen as f64 / self.eligible as f64)
    }
}

impl FromIterator<Verdict> for OracleCounts {
    fn from_iter<I: IntoIterator<Item = Verdict>>(verdicts: I) -> Self {
        verdicts.into_iter().fold(Self::default(), |c, v| Self {
            flips: c.flips + 1,
            agreeing: c.agreeing + usize::from(v.agrees_after),
            eligible: c.eligible + usize::from(v.agreed_before),
            seen: c.seen + usize::from(v.sees() == Some(true)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_oracle_that_agreed_can_see() {
        // f went from false to true.
        let word = |before, after| Verdict::new(before, after, true).sees();
        assert_eq!((word(false, true), word(false, false)), (Some(true), Some(false)));
        assert_eq!((word(true, true), word(true, false)), (None, None));
        // And from true to false.
        assert_eq!(Verdict::new(true, false, false).sees(), Some(true));
        let counts: OracleCounts =
            [(false, true), (false, true), (false, false), (true, true), (true, false)]
                .map(|(before, after)| Verdict::new(before, after, true))
                .into_iter()
                .collect();
        assert_eq!(counts, OracleCounts { flips: 5, agreeing: 3, eligible: 3, seen: 2 });
        assert_eq!((counts.agreement(), counts.sees()), (Some(0.6), Some(2.0 / 3.0)));
        assert_eq!((OracleCounts::default().agreement(), OracleCounts::default().sees()), (None, None));
    }
}

//! All metrics by name.

use serde::{Deserialize, Serialize};
use shiftlens_api::{Error, Result};

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// Larger values are better.
    Higher,
    /// Smaller values are better.
    Lower,
    /// Neither: the value describes.
    Neither,
}

/// What a metric judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Does f depend on what the map says it depends on?
    Faithfulness,
    /// Does the map stay where nothing relevant changes?
    Robustness,
    /// Can the map be taken in?
    Complexity,
    /// Does the map lie on what a person marked?
    Localisation,
    /// Does the map depend on f's weights, and on nothing else?
    Sanity,
    /// Is f's decision changed by a small, plausible change?
    Counterfactual,
    /// What does it cost?
    Cost,
}

/// A row of the table of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MetricInfo {
    /// The metric.
    pub metric: Metric,
    /// Its name in manifests and files.
    pub key: &'static str,
    /// For tables.
    pub title: &'static str,
    /// What is measured, in a sentence.
    pub measures: &'static str,
    /// Which way is better.
    pub better: Better,
    /// What is judged.
    pub family: Family,
    /// Where it was published; empty for plain quantities.
    pub reference: &'static str,
}

/// Declares the enum and its table from one list, so that neither can lack a row of the other.
macro_rules! metrics {
    ($($family:ident { $(
        $name:ident $key:literal $better:ident, $title:literal, $measures:literal, $reference:literal;
    )* })*) => {
        /// A metric; [`Metric::info`] says what it is. It is written as its key.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub enum Metric {
            $($(#[doc = $measures] $name,)*)*
        }

        /// The table of metrics, in the order of [`Metric`].
        const TABLE: &[MetricInfo] = &[$($(MetricInfo {
            metric: Metric::$name,
            key: $key,
            title: $title,
            measures: $measures,
            better: Better::$better,
            family: Family::$family,
            reference: $reference,
        },)*)*];
    };
}

metrics! {
    Faithfulness {
    InsertionAuc "insertion_auc" Higher, "Insertion AUC",
        "Area under f's score while pixels of the image replace those of a baseline, the most relevant first.",
        "Petsiuk et al. 2018";
    DeletionAuc "deletion_auc" Lower, "Deletion AUC",
        "Area under f's score while pixels of a baseline replace those of the image, the most relevant first.",
        "Petsiuk et al. 2018";
    Road "road" Higher, "ROAD",
        "Half the mean distance of f's scores after imputing the least and after imputing the most relevant pixels.",
        "Rong et al. 2022";
    RoadMorf "road_morf" Lower, "ROAD, most relevant first",
        "Mean of f's score after imputing the most relevant pixels.", "Rong et al. 2022";
    RoadLerf "road_lerf" Higher, "ROAD, least relevant first",
        "Mean of f's score after imputing the least relevant pixels.", "Rong et al. 2022";
    AverageDrop "average_drop" Lower, "Average drop",
        "Share of f's score that is lost when the image is dimmed where the map is low.",
        "Chattopadhay et al. 2018";
    IncreaseInConfidence "increase_in_confidence" Higher, "Increase in confidence",
        "Share of images whose score rises when the image is dimmed where the map is low.",
        "Chattopadhay et al. 2018";
    Infidelity "infidelity" Lower, "Infidelity",
        "Mean squared difference of what the map says a perturbation does to f's score, and what it does.",
        "Yeh et al. 2019, definition 2.1";
    InfidelityUnexplained "infidelity_unexplained" Lower, "Infidelity, unexplained share",
        "Infidelity of the map at its best scale, relative to that of an empty map.",
        "Yeh et al. 2019, definition 2.1, optimally scaled";
    }
    Robustness {
    MaxSensitivity "max_sensitivity" Lower, "Max-sensitivity",
        "Largest change of the map, relative to its norm, when the image moves within a small cube.",
        "Yeh et al. 2019, section 3";
    Repeatability "repeatability" Higher, "Repeatability",
        "Spearman correlation of the maps of two runs that differ in their seed alone.", "";
    }
    Complexity {
    Sparseness "sparseness" Higher, "Sparseness (Gini)",
        "Gini index of the map's absolute values: 0 if all are equal, towards 1 if few pixels hold everything.",
        "Hurley and Rickard 2009; Chalasani et al. 2020";
    Complexity "complexity" Lower, "Complexity (entropy)",
        "Entropy, in nats, of the shares that the pixels have in the map's absolute sum.", "Bhatt et al. 2020";
    }
    Localisation {
    PointingGame "pointing_game" Higher, "Pointing game",
        "Share of images whose most relevant pixel lies within the mask, or near enough.", "Zhang et al. 2016";
    EnergyPointingGame "energy_pointing_game" Higher, "Energy pointing game",
        "Share of the map's positive sum that lies within the mask.", "Wang et al. 2020";
    IouQuantile "iou_quantile" Higher, "IoU at a quantile",
        "Intersection over union of the mask and the most relevant pixels, their share being given.", "";
    IouMatched "iou_matched" Higher, "IoU at matched area",
        "Intersection over union of the mask and as many of the most relevant pixels.", "Arras et al. 2022, relevance rank accuracy, as IoU";
    }
    Sanity {
    RandomisationSpearman "randomisation_spearman" Lower, "Randomised weights: rank correlation",
        "Spearman correlation of the absolute maps of f and of f with randomised weights.", "Adebayo et al. 2018, section 3";
    RandomisationSsim "randomisation_ssim" Lower, "Randomised weights: SSIM",
        "SSIM of the absolute maps of f and of f with randomised weights.", "Adebayo et al. 2018, section 3";
    RandomisationTop "randomisation_top" Lower, "Randomised weights: shared top pixels",
        "Share of the most relevant pixels that the maps of f and of f with randomised weights have in common.",
        "Ghorbani et al. 2019; Adebayo et al. 2018";
    }
    Counterfactual {
    FlipRate "flip_rate" Higher, "Flip rate",
        "Share of images for which a counterfactual is found.", "Mothilal et al. 2020, validity";
    FlipLambda "flip_lambda" Lower, "Distance along the direction at the flip",
        "Absolute value of λ, in σ, at which f's decision changes.", "Schutte et al. 2021, section 2.3";
    FlipDistance "flip_distance" Lower, "Latent distance at the flip",
        "Euclidean distance of the latent codes of the counterfactual and of the reconstruction.", "";
    ProximityL1 "proximity_l1" Lower, "Proximity, L1",
        "Mean absolute pixel difference of image and counterfactual.", "Mothilal et al. 2020";
    ProximityL2 "proximity_l2" Lower, "Proximity, L2",
        "Root mean square pixel difference of image and counterfactual.", "";
    ProximitySsim "proximity_ssim" Higher, "Proximity, SSIM",
        "Structural similarity of image and counterfactual.", "Wang et al. 2004";
    ProximityFeatures "proximity_features" Lower, "Proximity, features",
        "Euclidean distance of a network's features of image and counterfactual.", "";
    ChangedShare "changed_share" Lower, "Changed pixels",
        "Share of pixels that the counterfactual changes by more than a tolerance.", "Mothilal et al. 2020, sparsity";
    ChangeGini "change_gini" Higher, "Sparseness of the change",
        "Gini index of the absolute change of the pixels.", "Hurley and Rickard 2009";
    Diversity "diversity" Higher, "Diversity",
        "Mean distance of the counterfactuals of one image from each other.", "Mothilal et al. 2020";
    OracleAgreement "oracle_agreement" Higher, "Oracle agreement",
        "Share of counterfactuals that a second classifier decides as f does.", "Hvilshøj et al. 2021";
    OracleSees "oracle_sees" Higher, "Flips seen by the oracle",
        "Share of flips at which a second classifier, that agreed with f before, changes its decision as well.", "";
    Fid "fid" Lower, "FID of counterfactuals",
        "Fréchet distance of the features of counterfactuals and of real images of the class that they turn to.",
        "Heusel et al. 2017, eq. 6";
    Kid "kid" Lower, "KID of counterfactuals",
        "Squared maximum mean discrepancy of the same features.", "Bińkowski et al. 2018";
    }
    Cost {
    SecondsPerImage "seconds_per_image" Lower, "Seconds per image", "Wall time of one explanation.", "";
    ScoresPerImage "scores_per_image" Lower, "Scores per image", "Images that f is asked to score for one explanation.", "";
    }
}

impl Metric {
    /// All metrics with what they are, by family.
    pub fn all() -> &'static [MetricInfo] {
        TABLE
    }
    /// What it is.
    pub fn info(self) -> &'static MetricInfo {
        &TABLE[self as usize]
    }
    /// Its name in manifests and files.
    pub fn key(self) -> &'static str {
        self.info().key
    }
    /// Which way is better.
    pub fn better(self) -> Better {
        self.info().better
    }
    /// The metric of a key.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown key; it names the nearest one.
    pub fn from_key(key: &str) -> Result<Self> {
        if let Some(info) = TABLE.iter().find(|i| i.key == key) {
            return Ok(info.metric);
        }
        let near = TABLE
            .iter()
            .max_by(|a, b| strsim::jaro_winkler(a.key, key).total_cmp(&strsim::jaro_winkler(b.key, key)));
        let hint = near.map(|i| format!(", did you mean `{}`?", i.key)).unwrap_or_default();
        Err(Error::Invalid(format!("no metric `{key}`{hint}")))
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.key().into()
    }
}

impl TryFrom<String> for Metric {
    type Error = Error;
    fn try_from(key: String) -> Result<Self> {
        Self::from_key(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_are_unique_and_lead_back() {
        let keys: BTreeSet<&str> = TABLE.iter().map(|i| i.key).collect();
        assert_eq!(keys.len(), TABLE.len());
        for (i, info) in TABLE.iter().enumerate() {
            assert_eq!((info.metric as usize, info.metric.info()), (i, info));
            assert_eq!(Metric::from_key(info.key).unwrap(), info.metric);
            assert!(
                info.key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                "{}",
                info.key
            );
            assert!(info.measures.ends_with('.') && !info.title.is_empty());
        }
    }

    #[test]
    fn keys_are_how_metrics_are_written() {
        let text = serde_json::to_string(&Metric::IouMatched).unwrap();
        assert_eq!(text, "\"iou_matched\"");
        assert_eq!(serde_json::from_str::<Metric>(&text).unwrap(), Metric::IouMatched);
        let e = serde_json::from_str::<Metric>("\"insertion_acu\"").unwrap_err().to_string();
        assert!(e.contains("no metric `insertion_acu`, did you mean `insertion_auc`?"), "{e}");
    }
}

//! `examples/comparison`: six methods on the knee example, with less of everything than the study has.

use serde_json::Value;
use shiftlens_tests::document::{Workplace, blocks};
use shiftlens_tests::program::{json, product, run_record};
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};

const README: &str = "examples/comparison/README.md";
const RUN: &str = "shiftlens run manifests/knee-comparison.toml";
/// RISE keeps more masks than the budget allows, so that a method is left out and it is said.
const LESS: [&str; 9] = [
    "direction.samples=200",
    "direction.audit={ refits = 2, randoms = 2, codes = 10 }",
    "explainer.3.params.steps=8",
    "explainer.4.params.stride=8",
    "explainer.5.params.masks=120",
    "evaluation.images=2",
    "evaluation.steps=4",
    "evaluation.budget=100",
    "evaluation.randomisation.images=1",
];
/// What has to make an explanation again, and so does not exist for the floor.
const AGAIN: [&str; 3] = ["max_sensitivity", "repeatability", "randomisation_spearman"];

#[test]
fn six_methods_have_all_metrics_or_a_reason() {
    for name in ["shiftlens_gradcam", "shiftlens_attribution"] {
        product(&format!("{DLL_PREFIX}{name}{DLL_SUFFIX}"));
    }
    let place = Workplace::of(&["examples/comparison", "examples/knee", "manifests"]);
    let readme = std::fs::read_to_string(place.path(README)).unwrap();
    let all = blocks(&readme);
    let commands: Vec<&str> =
        all.iter().filter(|b| b.language == "sh").flat_map(|b| b.text.lines()).collect();
    assert!(commands.contains(&RUN), "{commands:?}");

    let sets: Vec<String> = LESS.iter().map(|s| format!("--set '{s}'")).collect();
    let answer = place.sh(&format!("{RUN} --limit 3 {}", sets.join(" ")), &[]).expect(0);
    let run = place.path("runs/knee-comparison");
    let study: Value = json(&run.join("evaluation.json"));
    let maps = ["Grad-CAM", "LayerCAM", "Integrated gradients", "Occlusion", "RISE", "random heatmap"];
    assert_eq!(study["heatmaps"]["explainers"], serde_json::json!(maps));
    assert_eq!(
        study["counterfactuals"]["explainers"],
        serde_json::json!(["Latent shift", "random direction"])
    );

    let remarks = study["remarks"].to_string();
    assert!(remarks.contains("RISE asks f 121 times"), "{remarks}");
    let rows = |key: &str| -> Vec<&Value> {
        let tables = ["heatmaps", "counterfactuals"].into_iter();
        let metrics = tables.flat_map(|t| study[t]["metrics"].as_array().unwrap());
        metrics.filter(|m| m["key"].as_str().unwrap().split('.').next() == Some(key)).collect()
    };
    let mean = |row: &Value, method: &str| -> Option<f64> {
        let means = row["means"].as_array().unwrap();
        means.iter().find(|m| m["explainer"] == method).and_then(|m| m["value"].as_f64())
    };
    let flips = |method: &str| mean(rows("flip_rate")[0], method).unwrap();
    let asked = run_record(&run).manifest["evaluation"]["metrics"].clone();
    let asked: Vec<&str> = asked.as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
    assert!(asked.len() > 12, "{asked:?}");
    for key in asked {
        assert!(!rows(key).is_empty(), "{key} is in no table");
        for row in rows(key) {
            for m in row["means"].as_array().unwrap() {
                let method = m["explainer"].as_str().unwrap();
                let (floor, dear) = (method.starts_with("random "), method == "RISE");
                // There is a value, or it is said why there is none.
                let reason = AGAIN.contains(&key) && (dear || floor)
                    || key == "scores_per_image" && method == "random heatmap"
                    || row["key"].as_str().unwrap().ends_with(".generator") && flips("Latent shift") == 0.0
                    || ["flip_distance", "proximity_ssim", "proximity_features", "changed_share"]
                        .contains(&key)
                        && flips(method) == 0.0;
                assert_eq!(m["value"].is_null(), reason, "{key} of {method}: {m}");
            }
        }
    }
    // What the document shows is laid out as what the program prints.
    let shown: Vec<&str> = all.iter().filter(|b| b.language == "text").flat_map(|b| b.text.lines()).collect();
    assert!(shown.len() > 20, "{shown:?}");
    let titles: Vec<&str> = shown
        .iter()
        .filter(|l| l.starts_with("  ") && l.chars().nth(2).is_some_and(char::is_alphabetic))
        .filter_map(|l| l.trim_start().split("  ").next())
        .filter(|l| l.ends_with("(more)") || l.ends_with("(less)"))
        .collect();
    assert!(titles.len() > 10, "{titles:?}");
    for title in titles {
        assert!(answer.stdout.contains(&format!("  {title} ")), "`{title}` is not in:\n{}", answer.stdout);
    }
}

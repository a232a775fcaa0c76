//! What a run asks for beside its numbers: views in files of their own, tables, the contact sheet, the comparison of methods.

mod common;

use common::*;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::json;
use shiftlens_api::record::{CaseRecord, EvaluationRecord};
use shiftlens_report::{write_outputs, write_report};

#[test]
fn a_run_too_large_for_one_file_says_so_and_refers_to_its_folder() {
    let run = tempfile::tempdir().unwrap();
    // One of them goes below, and the rest is still too large.
    let ids: Vec<String> = (0..shiftlens_report::EMBED_LIMIT_CASES + 2).map(|i| format!("c{i:04}")).collect();
    put_run(run.path(), &ids.iter().map(String::as_str).collect::<Vec<_>>());
    put_case(run.path(), case(&ids[0], 1));
    copy_case(run.path(), &ids[0], &ids[1..]);
    let html = std::fs::read_to_string(write_report(run.path()).unwrap()).unwrap();
    assert!(!html.contains("src=\"data:") && !html.contains("<article class=\"case\""));
    assert!(html.contains("single-file: this run is too large to stand inside one file"));
    let view = std::fs::read_to_string(run.path().join("report/c0300.js")).unwrap();
    assert!(view.starts_with("shiftlensCase(\"c0300\", \"<article class=\\\"case\\\">"), "{view}");
    let picture = r#"src=\"cases/c0300/series-0/04.png\" width=\"16\" height=\"16\" loading=\"lazy\""#;
    assert!(view.contains(picture) && view.contains(r#"<a href=\"cases/c0300/series-0.gif\""#), "{view}");
    assert_eq!(std::fs::read_dir(run.path().join("report")).unwrap().count(), ids.len());
    // A case that is gone takes its file with it.
    std::fs::remove_dir_all(run.path().join("cases/c0300")).unwrap();
    write_report(run.path()).unwrap();
    assert!(!run.path().join("report/c0300.js").exists() && run.path().join("report/c0299.js").exists());
}

#[test]
fn a_page_of_five_thousand_cases_stays_small() {
    let run = tempfile::tempdir().unwrap();
    let ids: Vec<String> = (0..5000).map(|i| format!("patient-{:04}-view-{}", i / 2, i % 2)).collect();
    put_run(run.path(), &ids.iter().map(String::as_str).collect::<Vec<_>>());
    put_formats(run.path(), json!({ "html": true }));
    put_case(run.path(), case(&ids[0], 1));
    // Records alone: pictures that are not there are remarks, of which a page has few.
    let first = read_case(run.path(), &ids[0]);
    for id in &ids[1..] {
        let mut record = CaseRecord { id: id.clone(), ..first.clone() };
        record.explanations.clear();
        put_json(&run.path().join("cases").join(id).join("case.json"), &record);
    }
    let html = std::fs::read_to_string(write_report(run.path()).unwrap()).unwrap();
    assert!(html.len() < 3_000_000, "{} bytes", html.len());
    assert_eq!(html.matches("picture left out").count(), 40);
    assert!(html.contains("… and 4\u{202f}959 more such remarks"));
    assert!(html.contains("5\u{202f}000 cases"));
    assert_eq!(std::fs::read_dir(run.path().join("report")).unwrap().count(), 5000);
}

#[test]
fn outputs_are_those_that_the_manifest_asks_for() {
    let run = tempfile::tempdir().unwrap();
    put_run(run.path(), &["a", "b"]);
    for (id, value) in [("a", Some(0.25)), ("b", None)] {
        let mut one = case(id, 1);
        let measure = |method: &str, value| EvaluationRecord {
            method: method.into(),
            metric: "insertion_auc.blur".into(),
            value,
            seconds: 0.5,
        };
        one.record.remarks = vec!["ROAD of <b>RISE</b> failed".into()];
        one.record.evaluation = vec![measure("Grad-CAM", value), measure("random heatmap", Some(0.125))];
        put_case(run.path(), one);
    }
    let names = |written: Vec<std::path::PathBuf>| -> Vec<String> {
        written.iter().map(|p| p.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    };
    put_formats(run.path(), json!({ "html": false, "csv": false, "gif": false }));
    assert_eq!(names(write_outputs(run.path()).unwrap()), [""; 0]);
    put_formats(
        run.path(),
        json!({ "html": true, "csv": true, "gif": true, "parquet": true, "contact-sheet": true }),
    );
    let all = [
        "cases.csv",
        "evaluation.csv",
        "cases.parquet",
        "evaluation.parquet",
        "contact-sheet.png",
        "report.html",
    ];
    assert_eq!(names(write_outputs(run.path()).unwrap()), all);
    let html = std::fs::read_to_string(run.path().join("report.html")).unwrap();
    for file in ["cases.parquet", "evaluation.csv", "contact-sheet.png", "metrics.json"] {
        assert!(html.contains(&format!("<a href=\"{file}\">")), "{file} is not linked");
    }
    let measures = std::fs::read_to_string(run.path().join("evaluation.csv")).unwrap();
    let lines: Vec<&str> = measures.lines().collect();
    assert_eq!(lines[0], "case,group,method,metric,value,seconds");
    assert_eq!(lines[1], "a,9001,Grad-CAM,insertion_auc.blur,0.25,0.5");
    assert_eq!(lines[3], "b,9001,Grad-CAM,insertion_auc.blur,,0.5");
    let view = std::fs::read_to_string(run.path().join("report/a.js")).unwrap();
    for text in
        ["Measures of this case", "insertion auc, blur", "ROAD of &lt;b&gt;RISE&lt;&#x2f;b&gt; failed"]
    {
        assert!(view.contains(text), "{text:?} is not in {view}");
    }
    // As many rows, and the same ids, as in the CSV table.
    let file = std::fs::File::open(run.path().join("cases.parquet")).unwrap();
    let rows: Vec<String> = SerializedFileReader::new(file)
        .unwrap()
        .get_row_iter(None)
        .unwrap()
        .map(|r| r.unwrap().to_string())
        .collect();
    assert_eq!(rows.len(), 4);
    assert!(rows[2].starts_with(
        "{case: \"b\", path: \"3/b.png\", synthetic: false, group: \"9001\", label: true, score: 0.4"
    ));
    assert!(
        rows[0].contains(
            "lambdas: [-3E0, -1.5E0, 0E0, 1.5, 3.0], series_scores: [0.12, 0.31, 0.44, 0.71, 0.93]"
        ),
        "{}",
        rows[0]
    );
    assert!(rows[0].contains("level_lambdas: [-3.41E0, -1.77E0, 0.333, null]"), "{}", rows[0]);
    assert!(rows[1].contains("flip_lambda: null") && rows[1].contains("heatmap_width: 2"), "{}", rows[1]);
}

#[test]
fn the_contact_sheet_shows_the_series_of_an_even_selection() {
    let run = tempfile::tempdir().unwrap();
    let ids: Vec<String> = (0..20).map(|i| format!("c{i:02}")).collect();
    put_run(run.path(), &ids.iter().map(String::as_str).collect::<Vec<_>>());
    put_formats(run.path(), json!({ "contact-sheet": true }));
    put_case(run.path(), case(&ids[0], 1));
    copy_case(run.path(), &ids[0], &ids[1..]);
    std::fs::remove_file(run.path().join("cases/c19/series-0/04.png")).unwrap();
    let path = write_outputs(run.path()).unwrap().remove(0);
    let sheet = image::open(&path).unwrap().to_rgb8();
    // Sixteen rows of an image and five steps, 160 pixels each with their captions; every picture is enlarged tenfold.
    assert_eq!(sheet.width(), 2 * 20 + 6 * 160 + 5 * 12);
    let row = 160 + 6 + 2 * 18 + 12;
    assert_eq!(sheet.height(), 16 * row + 2 * 20 + 18);
    let top = 20 + 18 + 6;
    // The disc of the fourth step (radius 0.6 of 8 pixels) covers this pixel, that of the third (0.5) does not.
    let at = |column: u32, row_: u32| sheet.get_pixel(20 + column * 172 + 125, top + row_ * row + 85).0[0];
    assert_eq!([at(3, 0), at(4, 0), at(5, 0), at(4, 15)], [51, 204, 204, 204]);
    assert_eq!(at(5, 15), 0xe6, "a missing picture is grey");
    // Something is written below the pictures, and nothing between the columns.
    let ink = |x: std::ops::Range<u32>| {
        x.filter(|x| (top + 164..top + 200).any(|y| sheet.get_pixel(*x, y).0[0] < 128)).count()
    };
    assert!(ink(192..352) > 20 && ink(181..191) == 0);
    // Of a study without series, the heatmaps.
    let maps = tempfile::tempdir().unwrap();
    put_run(maps.path(), &["a"]);
    put_formats(maps.path(), json!({ "contact-sheet": true }));
    let mut a = case("a", 3);
    a.explanations.remove(0);
    a.record.explanations.remove(0);
    put_case(maps.path(), a);
    let sheet = image::open(write_outputs(maps.path()).unwrap().remove(0)).unwrap();
    assert_eq!(sheet.width(), 2 * 20 + 2 * 144 + 12);
    let empty = tempfile::tempdir().unwrap();
    put_run(empty.path(), &[]);
    put_formats(empty.path(), json!({ "contact-sheet": true }));
    assert!(
        write_outputs(empty.path()).unwrap().is_empty() && !empty.path().join("contact-sheet.png").exists()
    );
}

#[test]
fn large_images_have_thumbnails_and_small_ones_need_none() {
    let run = tempfile::tempdir().unwrap();
    put_run(run.path(), &["a", "b"]);
    put_formats(run.path(), json!({ "html": true }));
    let mut a = case("a", 3);
    a.image = disc(3, 600, 0.5);
    put_case(run.path(), a);
    put_case(run.path(), case("b", 1));
    let small = image::open(run.path().join("cases/a/thumbnail.png")).unwrap();
    assert_eq!((small.width(), small.height()), (288, 288));
    assert_eq!(small.to_rgb8().get_pixel(144, 144).0, [204; 3]);
    assert!(!run.path().join("cases/b/thumbnail.png").exists());
    let html = std::fs::read_to_string(write_report(run.path()).unwrap()).unwrap();
    assert!(html.contains("\"cases/a/thumbnail.png\"") && html.contains("\"cases/b/original.png\""));
}

/// `evaluation.json` as the engine writes it.
fn put_evaluation(run: &std::path::Path, method: &str) {
    let mean = |name: &str, value: f64| json!({ "explainer": name, "n": 40, "groups": 20, "value": value, "interval": [value - 0.1, value + 0.1] });
    let methods = [method, "random heatmap"];
    let compared = json!({ "explainers": methods, "settings": {}, "metrics": [{
        "key": "deletion_auc.blur", "title": "Deletion AUC, blur", "better": "lower",
        "means": [mean(method, 0.25), mean("random heatmap", 0.75)],
        "differences": [{ "a": method, "b": "random heatmap", "n": 40, "groups": 20, "difference": -0.5,
            "interval": [-0.6, -0.4], "p": 0.001, "p_holm": 0.002, "least_holm": 0.0001,
            "wins": { "a": 40, "ties": 0, "b": 0 }, "verdict": "real" }],
        "ranking": { "mean_ranks": [1.0, 2.0], "groups": 20, "p": 0.003, "critical_difference": 0.5 },
    }] });
    let file = json!({
        "schema": 1, "cases": 40, "groups": 20, "budget": 100, "heatmaps": compared, "counterfactuals": null,
        "metrics": [{ "metric": "deletion_auc", "key": "deletion_auc", "title": "Deletion AUC", "measures": "An area.",
            "better": "lower", "family": "faithfulness", "reference": "Petsiuk et al. 2018" }],
        "sets": [{ "method": "Latent shift", "towards": "large", "flips": 30, "real": 35, "dimensions": 8, "fid": 4.25,
            "kid": null, "kid_deviation": null }],
        "randomisation": { "mode": "independent", "images": 5, "layers": [
            { "layer": "/conv/Conv", "method": method, "spearman": 0.125, "ssim": 0.1, "top": 0.1 }] },
        "remarks": ["few images"], "timings": {},
    });
    put_json(&run.join("evaluation.json"), &file);
}

#[test]
fn the_comparison_of_methods_is_on_the_page() {
    let run = tempfile::tempdir().unwrap();
    put_run(run.path(), &["a"]);
    put_case(run.path(), case("a", 1));
    put_evaluation(run.path(), HOSTILE);
    let html = std::fs::read_to_string(write_report(run.path()).unwrap()).unwrap();
    let escaped = "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&#x27;&amp;{{ 7*7 }}";
    let real = format!(
        "{escaped} better than random heatmap by 0.500 <span class=\"muted\">(0.400 – 0.600)</span>, p 0.00200"
    );
    for text in [
        "Means over 40 images of 20 groups",
        "aria-label=\"lower is better\"",
        real.as_str(),
        "class=\"num floor\"",
        "<span class=\"best\" title=\"best; 40 images\">0.250</span>",
        "Friedman p 0.00300",
        "<td class=\"num strong\">4.25</td>",
        "&#x2f;conv&#x2f;Conv",
        "0.12",
        "few images",
        "Petsiuk et al. 2018",
    ] {
        assert!(html.contains(text), "{text:?} is not on the page");
    }
    assert!(!html.contains("<img src=x"), "a method's name is markup, in the table or in a plot");
    // A file that is not what the engine writes is named, and the page is there.
    std::fs::write(run.path().join("evaluation.json"), "{ \"cases\": 1 }").unwrap();
    let html = std::fs::read_to_string(write_report(run.path()).unwrap()).unwrap();
    assert!(html.contains("skipped: ") && html.contains("evaluation.json: missing field"));
}

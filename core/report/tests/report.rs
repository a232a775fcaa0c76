//! The whole way from records and arrays to the files that a person opens.

mod common;

use common::*;
use shiftlens_api::record::{CaseWriter, ExplanationRecord, FailureRecord};
use shiftlens_report::{Pictures, diverging, write_cases_csv, write_report};

#[test]
fn pictures_are_written_and_named_in_the_record() {
    for channels in [1, 3] {
        let run = tempfile::tempdir().unwrap();
        put_case(run.path(), case("a", channels));
        let folder = run.path().join("cases/a");
        let record = read_case(run.path(), "a");
        let names: Vec<_> = record.pictures.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            names,
            [
                ("heatmap-1-layer", "heatmap-1-layer.png"),
                ("heatmap-1-raw", "heatmap-1-raw.png"),
                ("original", "original.png"),
                ("reconstruction-0", "reconstruction-0.png"),
            ]
        );
        let ExplanationRecord::Shift { pictures, animation, difference, notes, .. } = &record.explanations[0]
        else {
            panic!("a shift")
        };
        assert_eq!(pictures.len(), 5);
        assert_eq!((pictures[0].as_str(), pictures[4].as_str()), ("series-0/00.png", "series-0/04.png"));
        assert_eq!(notes.as_slice(), [("difference scale".to_owned(), "0.600".to_owned())]);
        let ExplanationRecord::Heatmap { picture, .. } = &record.explanations[1] else { panic!("a heatmap") };

        let open = |name: &str| image::open(folder.join(name)).unwrap();
        let size = |name: &str| (open(name).width(), open(name).height());
        assert_eq!(size("original.png"), (24, 24));
        assert_eq!(size(&pictures[3]), (16, 16));
        assert_eq!(size(picture.as_ref().unwrap()), (24, 24));
        assert_eq!(size("heatmap-1-layer.png"), (24, 24));
        assert_eq!(size("heatmap-1-raw.png"), (2, 2));
        assert_eq!(open("reconstruction-0.png"), open(&pictures[2]));
        assert_eq!(open("original.png").color().channel_count() as usize, channels);
        let map = open(difference.as_ref().unwrap()).to_rgb8();
        assert_eq!(map.get_pixel(8, 8).0, diverging(0.0));
        assert_eq!(map.get_pixel(8, 3).0, diverging(1.0));

        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let file = std::fs::File::open(folder.join(animation.as_ref().unwrap())).unwrap();
        let mut decoder = options.read_info(std::io::BufReader::new(file)).unwrap();
        let mut values = Vec::new();
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            values.push(frame.buffer[(16 * 8 + 12) * 4]);
        }
        // This pixel lies 4.5 from the centre; the radii are 2.4, 3.2, 4.0, 4.8, 5.6.
        assert_eq!(values, [51, 51, 51, 204, 204, 204, 51, 51], "forth and back, values kept");
    }
}

#[test]
fn drawing_twice_gives_the_same_bytes_and_one_note() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = case("a", 3);
    let mut all = Vec::new();
    for _ in 0..2 {
        Pictures::default().write(folder.path(), &mut one).unwrap();
        let names = ["original.png", "difference-0.png", "heatmap-1.png", "series-0.gif"];
        all.push((names.map(|n| std::fs::read(folder.path().join(n)).unwrap()), one.record.clone()));
    }
    assert_eq!(all[0], all[1]);
    let still = tempfile::tempdir().unwrap();
    let mut two = case("a", 1);
    Pictures { gif: false, apng: true }.write(still.path(), &mut two).unwrap();
    assert!(!still.path().join("series-0.gif").exists() && still.path().join("series-0.apng").exists());
    assert_eq!(two.record.pictures["series-0-apng"], "series-0.apng");
    let ExplanationRecord::Shift { animation, .. } = &two.record.explanations[0] else { panic!("a shift") };
    assert_eq!(*animation, None);
}

#[test]
fn records_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |c: &mut _| Pictures::default().write(folder.path(), c).unwrap_err().to_string();
    let mut one = case("a", 1);
    one.record.explanations.pop();
    assert!(write(&mut one).contains("2 explanations and 1 records"));
    let mut one = case("a", 1);
    one.record.explanations.reverse();
    assert!(write(&mut one).contains("different types"));
    let mut one = case("a", 1);
    if let shiftlens_api::Explanation::Shift { series, .. } = &mut one.explanations[0] {
        series.origin = 5;
    }
    assert!(write(&mut one).contains("origin 5"));
}

#[test]
fn the_page_stands_alone_and_shows_every_figure() {
    let run = tempfile::tempdir().unwrap();
    put_run(run.path(), &["a", "b"]);
    put_case(run.path(), case("a", 1));
    let mut b = case("b", 3);
    b.record.synthetic = true;
    b.record.label = None;
    put_case(run.path(), b);
    let path = write_report(run.path()).unwrap();
    assert_eq!(path, run.path().join("report.html"));
    let html = std::fs::read_to_string(&path).unwrap();

    // The name of SVG's elements is no address.
    let loading = html.replace("http://www.w3.org/2000/svg", "");
    for scheme in ["http:", "https:", "//cdn", "@import", "url(\"", "url('"] {
        assert!(!loading.contains(scheme), "{scheme} in the page");
    }
    // Every picture is inside: two cases of an original, five steps, a difference, a layer, a raw map.
    assert_eq!(html.matches("src=\"data:image/png;base64,").count(), 2 * 9);
    assert_eq!(html.matches(" src=\"").count(), 2 * 9);
    assert!(
        !run.path().join("report").exists()
            && !html.contains("series-0.gif")
            && !html.contains("metrics.json")
    );
    assert!(!run.path().join("report.html.partial").exists());

    for text in [
        "discs",
        "about\n    <strong>large</strong>",
        "AUC of f",
        "0.891",
        "Something new",
        "16\u{202f}000 to fit",
        "0.913",
        "0123456789ab…",
        "onnxruntime 1.30.0",
        "f changes its mind at λ = +0.33 σ: from below 0.5 to at or above it.",
        "−0.600",
        "layer</dt>",
        "raw range, large</dt>",
        "Grad-CAM <span>large, f(x) = <b>0.40</b></span>",
        "0 to 2.00",
        "ground truth <b>large</b>",
        "disagrees with the ground truth",
        "<span class=\"tag synthetic\">synthetic</span>",
        "+1.5 σ",
        ">0.71<",
    ] {
        assert!(html.contains(text), "{text:?} is not on the page");
    }
    // The crossing is marked once per series, between 0.44 and 0.71.
    assert_eq!(html.matches("<li class=\"crossing\">").count(), 2);
    let crossing = html.find("<li class=\"crossing\">").unwrap();
    assert!(html[crossing..].find("data-score=\"0.71\"").unwrap() < 200);
    assert_eq!(html, std::fs::read_to_string(write_report(run.path()).unwrap()).unwrap());
}

#[test]
fn many_maps_are_laid_out_by_class_with_their_own_ranges() {
    let run = tempfile::tempdir().unwrap();
    put_run(run.path(), &["a"]);
    let small = || Some(shiftlens_api::Target { class: 0, name: "small".into() });
    let mut a = case("a", 1);
    add_map(&mut a, "Saliency", small(), [-4.0, -3.0, -2.0, -1.5]);
    add_map(&mut a, "Saliency", Some(target()), [-0.25, 0.5, 1.0, 7.5]);
    add_map(&mut a, "RISE", small(), [0.1, 0.1, 0.2, 0.3]);
    add_map(&mut a, "Flat", small(), [0.2; 4]);
    put_case(run.path(), a);
    let html = std::fs::read_to_string(write_report(run.path()).unwrap()).unwrap();
    assert!(html.contains("5 heatmaps"));
    assert_eq!(html.matches("<div class=\"group\">").count(), 2);
    let groups: Vec<&str> = html.split("<div class=\"group\">").skip(1).collect();
    // In the order in which the record names classes; the map without a class is the target's.
    for (group, words, others) in [
        (
            groups[0],
            &["large <span>f(x) = <b>0.40</b>", "Grad-CAM", "0 to 2.00", "−0.250 to 7.50"][..],
            "raw range, small",
        ),
        (
            groups[1],
            &[
                "small <span>f(x) = <b>0.60</b>",
                "−4.00 to −1.50",
                "0.100 to 0.300",
                "<span>0.100</span><span>0.300</span>",
                "The map is 0.200 everywhere",
                "RISE",
            ],
            "raw range, large",
        ),
    ] {
        assert!(words.iter().all(|w| group.contains(w)), "{words:?} are not all in {group}");
        assert!(!group.contains(others), "{others} is in {group}");
    }
    assert!(groups[1].contains("nothing speaks for small"));
    assert!(
        groups[0].contains("<span>≤ 0</span><span>7.50</span>") && groups[0].contains("<span>±7.50</span>")
    );
    assert!(!html.contains("said in the title"), "the class stands in the heading, not among the facts");
    // One slider for all overlays of the case.
    assert_eq!(html.matches("class=\"opacity\"").count(), 1);
    let body = html.split_once("<template").and_then(|(_, b)| b.split_once("</template>")).unwrap().0;
    assert_eq!(body.matches("aria-pressed=\"true\"").count(), 2, "a button per class");
    // What one scale for all maps of a class needs: where a map's colours begin and end.
    assert!(
        body.contains("data-low=\"0.0\" data-high=\"7.5\"") && body.contains("data-high=\"0.3"),
        "{body}"
    );
}

#[test]
fn names_cannot_become_markup() {
    let run = tempfile::tempdir().unwrap();
    let mut record = put_run(run.path(), &["a"]);
    record.name = HOSTILE.into();
    record.target.name = HOSTILE.into();
    record.classes = vec![HOSTILE.into(); 3];
    record.remarks = vec![HOSTILE.into(), "</style></script><script>alert(1)</script>".into()];
    record.failures = vec![FailureRecord { path: HOSTILE.into(), error: HOSTILE.into() }];
    record.manifest = serde_json::json!({ "name": HOSTILE, "x": "</pre><script>" });
    record.components[0].detail = HOSTILE.into();
    record.components[0].sha256 = Some("ü<b>".repeat(8));
    put_json(&run.path().join("run.json"), &record);
    let mut a = case("a", 1);
    a.record.path = HOSTILE.into();
    a.record.group = Some(HOSTILE.into());
    a.record.scores = vec![0.1, 0.4, 0.5];
    for e in &mut a.record.explanations {
        match e {
            ExplanationRecord::Shift { title, notes, .. }
            | ExplanationRecord::Heatmap { title, notes, .. } => {
                *title = HOSTILE.into();
                notes.push((HOSTILE.into(), HOSTILE.into()));
            }
        }
    }
    put_case(run.path(), a);
    let html = std::fs::read_to_string(write_report(run.path()).unwrap()).unwrap();
    assert!(!html.contains("<img src=x") && !html.contains("onerror=\""));
    assert!(!html.contains("<script>alert") && !html.contains("</pre><script>"));
    assert_eq!(html.matches("<script").count(), 2);
    let (_, index) = html.split_once("<script type=\"application/json\" id=\"index\">").unwrap();
    let index = index.split_once("</script>").unwrap().0;
    assert!(!index.contains('<'));
    let index: serde_json::Value = serde_json::from_str(index).unwrap();
    assert_eq!((&index["rows"][0][0][1], &index["rows"][0][0][2]), (&HOSTILE.into(), &HOSTILE.into()));
    assert!(html.contains("&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&#x27;&amp;{{ 7*7 }}"));
}

#[test]
fn broken_cases_are_skipped_with_a_remark() {
    let run = tempfile::tempdir().unwrap();
    put_run(run.path(), &["a", "b", "c", "gone", "d", "e"]);
    for id in ["a", "b", "c", "d", "e", "unlisted"] {
        put_case(run.path(), case(id, 1));
    }
    let cases = run.path().join("cases");
    std::fs::write(cases.join("b/case.json"), "{ half").unwrap();
    std::fs::remove_file(cases.join("c/case.json")).unwrap();
    std::fs::create_dir_all(cases.join(".f.partial")).unwrap();
    let mut d = read_case(run.path(), "d");
    d.pictures.insert("original".into(), "../../../secret.png".into());
    put_json(&cases.join("d/case.json"), &d);
    std::fs::write(cases.join("e/series-0/01.png"), "no picture").unwrap();
    let html = std::fs::read_to_string(write_report(run.path()).unwrap()).unwrap();
    assert_eq!(html.matches("<article class=\"case\"").count(), 3, "a, e, unlisted");
    for text in [
        "b&#x2f;case.json: key must be a string",
        "c&#x2f;case.json: ",
        "1 of 6 listed cases have no results in this folder: gone",
        "is not inside the case&#x27;s folder",
        "01.png: not a PNG picture",
        "picture missing",
    ] {
        assert!(html.contains(text), "{text:?} is not on the page");
    }
    assert!(!html.contains(".f.partial"));

    let empty = tempfile::tempdir().unwrap();
    assert!(write_report(empty.path()).unwrap_err().to_string().contains("run.json"));
    let mut record = put_run(empty.path(), &[]);
    let html = std::fs::read_to_string(write_report(empty.path()).unwrap()).unwrap();
    assert!(html.contains("This run has no finished case."));
    record.schema = 9;
    put_json(&empty.path().join("run.json"), &record);
    assert!(write_report(empty.path()).unwrap_err().to_string().contains("schema 9"));
}

#[test]
fn the_table_has_a_row_per_case_and_explanation() {
    let run = tempfile::tempdir().unwrap();
    put_run(run.path(), &["a", "b"]);
    let mut a = case("a", 1);
    a.record.path = "odd, \"name\"\nin two lines.png".into();
    put_case(run.path(), a);
    let mut b = case("b", 1);
    (b.explanations, b.record.explanations) = (vec![], vec![]);
    (b.record.label, b.record.synthetic, b.record.group) = (None, true, None);
    b.record.metadata = vec![("age".into(), "61".into())];
    put_case(run.path(), b);
    let path = write_cases_csv(run.path()).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"odd, \"\"name\"\"\nin two lines.png\""));
    let mut reader = csv::Reader::from_path(&path).unwrap();
    let head = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 3);
    let cell = |row: usize, name: &str| &rows[row][head.iter().position(|h| h == name).unwrap()];
    assert_eq!(cell(0, "path"), "odd, \"name\"\nin two lines.png");
    assert_eq!((cell(0, "type"), cell(1, "type"), cell(2, "type")), ("shift", "heatmap", ""));
    assert_eq!((cell(0, "label"), cell(2, "label"), cell(2, "synthetic")), ("1", "", "1"));
    assert_eq!(
        (cell(0, "metadata.site"), cell(1, "metadata.site"), cell(2, "metadata.site")),
        ("North <1>", "North <1>", "")
    );
    assert_eq!((cell(0, "metadata.age"), cell(2, "metadata.age"), head.len()), ("", "61", 44));
    assert_eq!(cell(0, "lambdas"), "-3 -1.5 0 1.5 3");
    assert_eq!((cell(0, "flip_lambda"), cell(0, "spearman"), cell(0, "score_last")), ("0.333", "1", "0.93"));
    assert_eq!((cell(0, "score_reconstruction"), cell(0, "reconstruction_l1")), ("0.44", "0.031"));
    assert_eq!((cell(1, "heatmap_max"), cell(1, "heatmap_width"), cell(1, "explanation")), ("2", "2", "1"));
    assert_eq!(cell(1, "notes"), "layer: /features/conv8/Relu_output_0");
    assert_eq!(cell(0, "notes"), "difference scale: 0.600");
    assert_eq!((cell(2, "case"), cell(2, "score")), ("b", "0.4"));
    assert_eq!((cell(0, "class"), cell(1, "class"), cell(2, "class")), ("large", "large", ""));
}

#[test]
fn levels_flags_and_the_audit_are_on_the_page_and_in_the_table() {
    let run = tempfile::tempdir().unwrap();
    put_run(run.path(), &["a", "b", "c"]);
    for (id, gate) in [("a", None), ("b", Some(true)), ("c", Some(false))] {
        let mut one = case(id, 1);
        one.record.trust = gate.map(trust);
        put_case(run.path(), one);
    }
    let html = std::fs::read_to_string(write_report(run.path()).unwrap()).unwrap();
    for text in [
        "0.851 – 0.931",
        "λ at which f reaches a score, within ±4 σ",
        "<b title=\"f = 0.25 there\">−1.77</b>",
        "title=\"not reached within ±4 σ\">not reached</span>",
        "f&#x27;s score falls on 1 of 8 steps, Spearman 0.98.",
        "0.553, best 0.618",
        "0.951, least 0.902",
        "<th scope=\"row\">±3</th><td class=\"num strong\">66 %</td>",
        "<td class=\"num\">9 %</td>",
        "<strong>1 reconstruction flagged</strong>",
        "is too far &lt;away&gt;",
        "<span>site North &lt;1&gt;</span>",
        "The encoder&#x27;s code was replaced by projection: gap 0.040, pixel error 0.052 instead of gap 0.350",
        "Tried again by projection, which gave gap 0.040",
    ] {
        assert!(html.contains(text), "{text:?} is not on the page");
    }
    assert_eq!(html.matches("class=\"trust flagged\"").count(), 1);
    assert_eq!(html.matches("class=\"trust\"").count(), 1);

    let mut table = csv::Reader::from_path(write_cases_csv(run.path()).unwrap()).unwrap();
    let header = table.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    let cell = |row: usize, name: &str| {
        rows[row].get(header.iter().position(|h| h == name).unwrap()).unwrap().to_owned()
    };
    assert_eq!(cell(0, "levels"), "0.1 0.25 0.5 0.97");
    assert_eq!(cell(0, "level_lambdas"), "-3.41 -1.77 0.333 -");
    assert_eq!((cell(0, "calibrated_flip"), cell(0, "inversions")), ("0.333".into(), "1".into()));
    assert_eq!((cell(1, "levels"), cell(0, "flagged")), (String::new(), String::new()));
    assert_eq!(
        (cell(2, "flagged"), cell(2, "retry"), cell(2, "retry_kept")),
        ("0".into(), "projection".into(), "1".into())
    );
    assert_eq!((cell(2, "reconstruction_rmse"), cell(2, "encoder_gap")), ("0.052".into(), "0.35".into()));
    assert_eq!(
        (cell(5, "flagged"), cell(5, "flag_reasons")),
        ("1".into(), "f(G(E(x))) is too far <away>".into())
    );
}

#[test]
fn records_of_older_versions_are_shown_without_what_they_lack() {
    let run = tempfile::tempdir().unwrap();
    put_run(run.path(), &["a"]);
    put_case(run.path(), case("a", 1));
    for (file, keys) in [
        ("direction/audit.json", &["bootstrap", "random", "flips"][..]),
        ("cases/a/case.json", &[][..]),
        ("metrics.json", &[][..]),
    ] {
        let path = run.path().join(file);
        let mut v: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for key in keys {
            assert!(v.as_object_mut().unwrap().remove(*key).is_some());
        }
        if let Some(e) = v.pointer_mut("/explanations/0") {
            assert!(e.as_object_mut().unwrap().remove("calibration").is_some());
        }
        if let Some(m) = v.pointer_mut("/values/auc_f") {
            assert!(m.as_object_mut().unwrap().remove("interval").is_some());
        }
        std::fs::write(&path, v.to_string()).unwrap();
    }
    let html = std::fs::read_to_string(write_report(run.path()).unwrap()).unwrap();
    for text in ["class=\"levels\"", "class=\"flips\"", "95 % interval", "skipped:", "class=\"trust"] {
        assert!(!html.contains(text), "{text:?} is on the page");
    }
    assert!(html.contains("Stability") && html.contains("0.891"));
}

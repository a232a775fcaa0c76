//! The report in a real browser.

use serde_json::{Value, json};
use shiftlens_tests::browser::{Page, Screen};
use shiftlens_tests::program::{cases, run_record};
use shiftlens_tests::toy::Toy;
use std::path::Path;

/// A run of the toy study.
fn run() -> Toy {
    let toy = Toy::new();
    toy.run("out").expect(0);
    toy
}

/// Opens a case and waits until it is alive.
fn open_case(report: &Path, id: &str, screen: Screen) -> Option<Page> {
    let mut page = Page::open(report, &format!("case/{id}"), screen)?;
    page.shows(id);
    Some(page)
}

/// λ, f's score and the picture that the first series shows.
const SHOWN: &str = "(() => { const s = document.querySelector('.shift'); const of = (q) => s.querySelector(q); \
    return [of('.lambda').textContent, of('.score').textContent, of('.player').src, of('input[type=range]').value]; })()";

fn shown(page: &mut Page) -> (f32, f32, String, u32) {
    let found = page.evaluate(SHOWN);
    let text = |i: usize| found[i].as_str().unwrap().replace('−', "-");
    let number = |i: usize| text(i).parse::<f32>().unwrap_or_else(|e| panic!("{found}: {e}"));
    (number(0), number(1), text(2), number(3) as u32)
}

#[test]
fn slider_keys_and_animation_show_the_steps_of_a_series() {
    let toy = run();
    // The case of which f is least certain has the widest range of scores.
    let records = cases(&toy.path("out"));
    let doubt = |c: &shiftlens_api::record::CaseRecord| (c.score - 0.5).abs();
    let id = &records.iter().min_by(|a, b| doubt(a).total_cmp(&doubt(b))).unwrap().id;
    let Some(mut page) = open_case(&toy.path("out/report.html"), id, Screen::DESK) else { return };
    // Every picture is there before anything is compared.
    page.until("Array.from(document.images).every((i) => i.complete && i.naturalWidth > 0)");
    assert_eq!(page.evaluate("Array.from(document.images).every((i) => i.hasAttribute('alt'))"), true);
    let origin = shown(&mut page);
    assert_eq!((origin.0, origin.3), (0.0, 2));
    let mut pictures = vec![origin.2.clone()];
    let mut scores = Vec::new();
    let slide = |to: &str| {
        format!(
            "(() => {{ const s = document.querySelector('.shift input[type=range]'); s.value = s.{to}; \
                 s.dispatchEvent(new Event('input')); }})()"
        )
    };
    for (to, lambda) in [("min", -2.0), ("max", 2.0)] {
        page.evaluate(&slide(to));
        let now = shown(&mut page);
        assert_eq!(now.0, lambda);
        scores.push(now.1);
        pictures.push(now.2);
    }
    assert!(scores[0] < origin.1 && origin.1 < scores[1], "{scores:?} around {}", origin.1);
    // The arrows go the same way, step by step, and stop at the ends.
    for (key, step) in
        [("ArrowRight", 4), ("ArrowLeft", 3), ("ArrowLeft", 2), ("Home", 0), ("ArrowLeft", 0), ("End", 4)]
    {
        page.press(key);
        assert_eq!(shown(&mut page).3, step, "{key}");
    }
    pictures.sort_unstable();
    pictures.dedup();
    assert_eq!(pictures.len(), 3, "{pictures:?}");
    page.evaluate("document.querySelectorAll('.strip button')[3].click()");
    assert_eq!(shown(&mut page).0, 1.0);
    // The animation runs, until it is stopped.
    page.press(" ");
    page.until(&format!("{SHOWN}[3] !== '3'"));
    assert_eq!(page.evaluate("document.querySelector('.play').textContent"), "Pause");
    page.press(" ");
    assert_eq!(page.evaluate("document.querySelector('.play').textContent"), "Play");
    assert_eq!(page.evaluate("document.querySelectorAll('.controls a[href$=\"series-0.gif\"]').length"), 1);
    page.silent();
}

#[test]
fn keys_go_from_case_to_case_and_back_to_the_gallery() {
    let toy = run();
    let ids = run_record(&toy.path("out")).cases;
    let Some(mut page) = Page::open(&toy.path("out/report.html"), "", Screen::DESK) else { return };
    assert_eq!(page.evaluate("document.querySelectorAll('#gallery li').length"), 8);
    page.evaluate("document.querySelector('#gallery a').click()");
    page.shows(&ids[0]);
    assert_eq!(page.evaluate("document.activeElement.textContent"), ids[0].as_str());
    for (key, id) in [("n", 1), ("n", 2), ("p", 1), ("p", 0), ("p", 0)] {
        page.press(key);
        page.shows(&ids[id]);
    }
    assert_eq!(page.evaluate("document.getElementById('case-place').textContent"), "1 of 8");
    // Overlays go and come back; the list of keys opens and closes.
    let opacity = "document.querySelector('.layer').style.opacity";
    page.press("o");
    assert_eq!(page.evaluate(opacity), "0");
    page.press("o");
    assert_eq!(page.evaluate(opacity), "1");
    page.press("?");
    assert_eq!(page.evaluate("document.getElementById('help').open"), true);
    page.press("n");
    page.press("Escape");
    page.until("!document.getElementById('help').open");
    page.shows(&ids[0]);
    page.press("Escape");
    page.until("!document.getElementById('overview').hidden && document.getElementById('case').hidden");
    assert_eq!(page.evaluate("document.querySelectorAll('article.case').length"), 0);
    page.press("/");
    assert_eq!(page.evaluate("document.activeElement.id"), "search");
    page.silent();
}

#[test]
fn filters_and_sorting_follow_the_records() {
    let toy = run();
    let records = cases(&toy.path("out"));
    let Some(mut page) = Page::open(&toy.path("out/report.html"), "", Screen::DESK) else { return };
    let ids = |keep: &dyn Fn(&shiftlens_api::record::CaseRecord) -> bool| -> Vec<String> {
        records.iter().filter(|c| keep(c)).map(|c| c.id.clone()).collect()
    };
    let high = ids(&|c| c.label == Some(true));
    assert!(!high.is_empty() && high.len() < 8);
    assert_eq!(page.filtered("by-label", "1"), high);
    // Filters hold together.
    assert_eq!(page.filtered("by-prediction", "0"), ids(&|c| c.label == Some(true) && c.score < 0.5));
    assert_eq!(page.filtered("by-label", ""), ids(&|c| c.score < 0.5));
    let wrong = ids(&|c| c.label.is_some_and(|l| l != (c.score >= 0.5)));
    assert_eq!(page.filtered("by-prediction", "wrong"), wrong);
    page.filtered("by-prediction", "");
    let flips = |c: &shiftlens_api::record::CaseRecord| match &c.explanations[0] {
        shiftlens_api::record::ExplanationRecord::Shift { flip, .. } => *flip,
        other => panic!("{other:?}"),
    };
    assert_eq!(page.filtered("by-flip", "1"), ids(&|c| flips(c).is_some()));
    page.filtered("by-flip", "");
    // A search looks at ids, files and groups, for every word.
    let of_group = ids(&|c| c.group.as_deref() == Some("p2"));
    assert_eq!(of_group.len(), 2);
    assert_eq!(page.filtered("search", "HIGH p2"), of_group);
    assert!(page.filtered("search", "no such case").is_empty());
    assert_eq!(
        page.evaluate("document.getElementById('status').textContent"),
        "No case is left: fewer filters?"
    );
    page.filtered("search", "");
    let mut by_score = records.clone();
    by_score.sort_by(|a, b| a.score.total_cmp(&b.score));
    let mut order: Vec<String> = by_score.into_iter().map(|c| c.id).collect();
    assert_eq!(page.filtered("sort", "score"), order);
    page.evaluate("document.getElementById('descending').click()");
    order.reverse();
    assert_eq!(page.filtered("sort", "score"), order);
    // A case that is opened from here is followed by the next one in this order.
    page.evaluate("document.querySelector('#gallery a').click()");
    page.shows(&order[0]);
    page.press("n");
    page.shows(&order[1]);
    page.silent();
}

/// The page with its gallery's rows repeated until there are `n`, under other ids.
fn enlarged(report: &Path, n: usize) -> std::path::PathBuf {
    let html = std::fs::read_to_string(report).unwrap();
    let (head, rest) = html.split_once("<script type=\"application/json\" id=\"index\">").unwrap();
    let (index, tail) = rest.split_once("</script>").unwrap();
    let mut index: Value = serde_json::from_str(index).unwrap();
    let rows = index["rows"].as_array().unwrap().clone();
    let row = |i: usize| {
        let mut row = rows[i % rows.len()].clone();
        row[0][0] = format!("copy-{i:04}").into();
        row
    };
    index["rows"] = (0..n).map(row).collect();
    let path = report.with_file_name("enlarged.html");
    let text = format!("{head}<script type=\"application/json\" id=\"index\">{index}</script>{tail}");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_gallery_of_thousands_shows_one_page_at_a_time() {
    let toy = run();
    let large = enlarged(&toy.path("out/report.html"), 5000);
    let Some(mut page) = Page::open(&large, "", Screen::DESK) else { return };
    let state = "[document.querySelectorAll('#gallery li').length, document.querySelector('#gallery .name')?.textContent, \
                 document.getElementById('status').textContent, document.getElementById('page-place').textContent]";
    let first = page.evaluate(state);
    assert_eq!(first, json!([60, "copy-0000", "1 – 60 of 5\u{202f}000 cases", "Page 1 of 84"]));
    page.evaluate("document.getElementById('page-next').click()");
    page.press("n");
    assert_eq!(page.evaluate(state)[1], "copy-0120");
    page.press("p");
    assert_eq!(page.evaluate(state)[3], "Page 2 of 84");
    assert_eq!(page.filtered("search", "copy-4321"), ["copy-4321"]);
    assert_eq!(page.evaluate("document.getElementById('pages').hidden"), true);
    page.filtered("search", "");
    // The last page holds what is left. Pictures come when they are in sight, the others of the page after them.
    let last = "(() => { for (let i = 0; i < 90; i++) document.getElementById('page-next').click(); \
                return Array.from(document.querySelectorAll('#gallery img')).every((i) => i.loading === 'lazy'); })()";
    assert_eq!(page.evaluate(last), true);
    assert_eq!(page.evaluate(state)[0], 20);
    page.until("Array.from(document.querySelectorAll('#gallery img')).every((i) => i.complete && i.naturalWidth > 0)");
    page.silent();
}

#[test]
fn many_maps_share_a_slider_a_pointer_a_scale_and_buttons_for_their_classes() {
    let toy = Toy::new();
    toy.edit(
        "params = { method = \"hirescam\" }",
        "classes = [1, 0]\nparams = { method = \"hirescam\" }\n[[explainer]]\nkind = \"plugin:gradcam\"\n\
         classes = [\"bright\", \"dark\"]\nparams = { method = \"gradcam\" }",
    );
    toy.shiftlens(&["run", "study.toml", "--out", "out", "--limit", "2"]).expect(0);
    let ids = run_record(&toy.path("out")).cases;
    let Some(mut page) = open_case(&toy.path("out/report.html"), &ids[0], Screen::DESK) else { return };
    let maps = r#"(() => {
        const article = document.querySelector("article.case");
        const layers = Array.from(article.querySelectorAll(".maps .layer"));
        const slider = article.querySelector(".maps input.opacity");
        slider.value = 30;
        slider.dispatchEvent(new Event("input"));
        const groups = () => Array.from(article.querySelectorAll(".group"), (g) => getComputedStyle(g).display !== "none");
        const before = groups().join();
        const buttons = article.querySelectorAll(".classes button");
        buttons[1].click();
        const hidden = groups().join() + buttons[1].getAttribute("aria-pressed");
        buttons[1].click();
        const stack = layers[0].closest(".stack");
        const box = stack.getBoundingClientRect();
        const at = { clientX: box.left + box.width / 4, clientY: box.top + box.height / 2 };
        stack.dispatchEvent(new PointerEvent("pointermove", at));
        const marks = Array.from(article.querySelectorAll(".mark"));
        const places = new Set(marks.map((m) => [parseFloat(m.style.left), parseFloat(m.style.top)].map(Math.round)).map(String));
        const drawn = marks.filter((m) => getComputedStyle(m).display === "block").length;
        stack.dispatchEvent(new PointerEvent("pointerleave"));
        const gone = marks.filter((m) => getComputedStyle(m).display === "none").length;
        return [
            layers.length, new Set(layers.map((l) => l.style.opacity)).size, layers[0].style.opacity,
            before, hidden, groups().join(), marks.length, drawn, gone, Array.from(places).join(),
        ].join(" ; ");
    })()"#;
    // Four maps and the image; all overlays at one opacity; the second class hidden and shown again.
    assert_eq!(
        page.evaluate(maps),
        "4 ; 1 ; 0.3 ; true,true ; true,falsefalse ; true,true ; 5 ; 5 ; 5 ; 25,50"
    );
    // On one scale the printed ends of a class are the largest among its maps, and each of them has its filter.
    let scale = r#"(() => {
        const ends = () => Array.from(document.querySelectorAll(".group"), (g) =>
            Array.from(g.querySelectorAll(".ends.scale span:last-child"), (e) => e.textContent));
        const box = document.querySelector(".one-scale");
        const own = ends();
        box.click();
        const layers = Array.from(document.querySelectorAll(".layer[data-high]"));
        const filtered = layers.every((l) => document.querySelector(l.style.filter.slice(5, -2)) !== null);
        const common = ends();
        const top = Array.from(document.querySelectorAll(".group"), (g) =>
            Math.max(...Array.from(g.querySelectorAll(".layer[data-high]"), (l) => Number(l.dataset.high))));
        // The filter of the first map, as a table from the layer's opacity to the opacity on the common scale.
        const first = layers[0];
        const table = document.querySelector(first.style.filter.slice(5, -2)).querySelector("feFuncA").getAttribute("tableValues");
        const group = first.closest(".group");
        const common0 = Math.max(...Array.from(group.querySelectorAll(".layer[data-high]"), (l) => Number(l.dataset.high)));
        const wrong = table.split(" ").map(Number).filter((a, i) => {
            const t = Math.min(1, i / 63 / 0.7);
            const value = Number(first.dataset.low) + t * (Number(first.dataset.high) - Number(first.dataset.low));
            return Math.abs(a - 0.7 * Math.min(1, value / common0)) > 1e-4;
        }).length;
        box.click();
        return { wrong, own, common, top, filtered, layers: layers.length, back: ends(), left: layers.some((l) => l.style.filter) };
    })()"#;
    let found = page.evaluate(scale);
    assert_eq!(
        (&found["filtered"], &found["left"], &found["own"]),
        (&json!(true), &json!(false), &found["back"])
    );
    assert!(found["layers"].as_u64().unwrap() >= 2 && found["wrong"] == 0, "{found:#}");
    for (common, top) in found["common"].as_array().unwrap().iter().zip(found["top"].as_array().unwrap()) {
        let printed: Vec<f64> =
            common.as_array().unwrap().iter().map(|t| t.as_str().unwrap().parse().unwrap()).collect();
        let Some(top) = top.as_f64() else { continue };
        assert!(printed.iter().all(|p| (p - top).abs() <= 0.006 * top), "{found:#}");
    }
    page.silent();
}

#[test]
fn one_file_carries_everything_inside_itself() {
    let toy = Toy::new();
    toy.edit("formats = [\"html\", \"csv\", \"gif\"]", "formats = [\"html\"]\nsingle-file = true");
    toy.run("out").expect(0);
    let ids = run_record(&toy.path("out")).cases;
    let alone = tempfile::tempdir().unwrap();
    let report = alone.path().join("mailed.html");
    std::fs::rename(toy.path("out/report.html"), &report).unwrap();
    assert!(!toy.path("out/report").exists());
    let Some(mut page) = Page::open(&report, "", Screen::DESK) else { return };
    page.until("document.querySelectorAll('#gallery img').length === 8");
    page.until("Array.from(document.querySelectorAll('#gallery img')).every((i) => i.naturalWidth > 0)");
    page.evaluate("document.querySelector('#gallery a').click()");
    page.shows(&ids[0]);
    page.until(
        "Array.from(document.querySelectorAll('#case img')).every((i) => i.complete && i.naturalWidth > 0)",
    );
    page.silent();
}

#[test]
fn pages_fit_a_phone_the_dark_and_paper() {
    let toy = run();
    let ids = run_record(&toy.path("out")).cases;
    let report = toy.path("out/report.html");
    let Some(mut page) = Page::open(&report, "", Screen::PHONE) else { return };
    assert_eq!(page.evaluate("window.innerWidth"), 390);
    assert!(page.fits(), "the overview on a phone");
    let background = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]";
    let text = "getComputedStyle(document.body).color.match(/\\d+/g).map(Number)[0]";
    let light = (page.evaluate(background).as_u64().unwrap(), page.evaluate(text).as_u64().unwrap());
    assert!(light.0 > 220 && light.1 < 60, "{light:?}");
    page.evaluate(&format!("location.hash = '#case/{}'", ids[0]));
    page.shows(&ids[0]);
    assert!(page.fits(), "a case on a phone");
    page.show(Screen { dark: true, ..Screen::DESK });
    let dark = (page.evaluate(background).as_u64().unwrap(), page.evaluate(text).as_u64().unwrap());
    assert!(dark.0 < 50 && dark.1 > 200, "{dark:?}");
    // Lines and words of plots follow, too: no colour of the light page is left.
    page.evaluate("location.hash = '#cases'");
    page.until("!document.getElementById('overview').hidden");
    let words = "Array.from(document.querySelectorAll('.plot text')).map((t) => Number(getComputedStyle(t).fill.match(/\\d+/g)[0]))";
    let words = page.evaluate(words);
    let words = words.as_array().unwrap();
    assert!(words.len() > 4 && words.iter().all(|w| w.as_u64().unwrap() > 120), "{words:?}");
    // Paper is white even where the reader prefers the dark, and has no controls.
    page.show(Screen { dark: true, print: true, width: 794, ..Screen::DESK });
    assert_eq!(page.evaluate(background), 255);
    let controls = "Array.from(document.querySelectorAll('nav, .filters, .controls')).every((n) => getComputedStyle(n).display === 'none')";
    assert!(page.evaluate(controls) == true && page.fits());
    page.silent();
}

#[test]
fn a_missing_view_is_named() {
    let toy = run();
    let ids = run_record(&toy.path("out")).cases;
    std::fs::remove_file(toy.path("out/report").join(format!("{}.js", ids[1]))).unwrap();
    let Some(mut page) = open_case(&toy.path("out/report.html"), &ids[1], Screen::DESK) else { return };
    let said = page.evaluate("document.getElementById('case-body').textContent");
    let said = said.as_str().unwrap();
    assert!(said.contains(&format!("report/{}.js: it is missing", ids[1])), "{said}");
    page.press("p");
    page.shows(&ids[0]);
    assert_eq!(page.evaluate("document.querySelectorAll('article.case').length"), 1);
}

#[test]
fn the_browser_reports_errors_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    let text = "<!doctype html><body><p>hello</p><script>document.body.dataset.ran = 1; throw new Error('on purpose')</script>";
    std::fs::write(&file, text).unwrap();
    let Some(mut page) = Page::open(&file, "", Screen::DESK) else { return };
    assert_eq!(page.evaluate("document.body.dataset.ran"), "1");
    assert!(page.console().iter().any(|l| l.contains("on purpose")), "{:?}", page.console());
}

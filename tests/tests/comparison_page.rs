//! The page that lays several predictors side by side, in a real browser.

use serde_json::json;
use shiftlens_api::record::{CaseRecord, ExplanationRecord};
use shiftlens_tests::browser::{Page, Screen};
use shiftlens_tests::program::cases;
use shiftlens_tests::toy::Toy;
use std::collections::BTreeMap;

fn run() -> Toy {
    let toy = Toy::new();
    toy.two_predictors();
    toy.run("out").expect(0);
    toy
}

/// The records of both, by id.
fn records(toy: &Toy) -> BTreeMap<String, [CaseRecord; 2]> {
    let (first, second) = (cases(&toy.path("out/first")), cases(&toy.path("out/second")));
    first.into_iter().zip(second).map(|(a, b)| (a.id.clone(), [a, b])).collect()
}

#[test]
fn the_gallery_finds_where_they_disagree() {
    let toy = run();
    let records = records(&toy);
    let Some(mut page) = Page::open(&toy.path("out/report.html"), "", Screen::DESK) else { return };
    assert_eq!(page.evaluate("document.querySelectorAll('#gallery li').length"), 12);
    let all = |keep: &dyn Fn(&[CaseRecord; 2]) -> bool| -> Vec<String> {
        records.iter().filter(|(_, r)| keep(r)).map(|(id, _)| id.clone()).collect()
    };
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    let yes = |r: &CaseRecord| r.score >= 0.5;
    assert_eq!(sorted(page.filtered("by-prediction", "disagree")), ["p4_8", "p4_9"]);
    // A card has the scores of both, and says it.
    let card = "(() => { const a = document.querySelector('#gallery a'); return [a.querySelectorAll('.dot').length, \
                a.querySelectorAll('.dot.above').length, a.querySelector('.tag').textContent, \
                Array.from(a.querySelectorAll('.by'), (b) => b.textContent).join()]; })()";
    assert_eq!(page.evaluate(card), json!([2, 1, "they disagree", "first,second"]));
    assert_eq!(sorted(page.filtered("by-prediction", "agree")), all(&|[a, b]| yes(a) == yes(b)));
    assert_eq!(sorted(page.filtered("by-prediction", "1")), all(&|[a, b]| yes(a) && yes(b)));
    let wrong = |r: &CaseRecord| r.label.is_some_and(|l| l != yes(r));
    assert_eq!(sorted(page.filtered("by-prediction", "wrong")), all(&|[a, b]| wrong(a) || wrong(b)));
    page.filtered("by-prediction", "");
    page.evaluate("document.getElementById('descending').click()");
    let apart = |id: &str| (records[id][0].score - records[id][1].score).abs();
    let order = page.filtered("sort", "spread");
    assert!(order.len() == 12 && order.windows(2).all(|w| apart(&w[0]) >= apart(&w[1])), "{order:?}");
    let order = page.filtered("sort", "score:1");
    assert!(order.windows(2).all(|w| records[&w[0]][1].score >= records[&w[1]][1].score), "{order:?}");
    // Cards of the predictors lead to their own reports; every plot has its words.
    let links = "Array.from(document.querySelectorAll('.cards a'), (a) => a.getAttribute('href')).join()";
    assert_eq!(page.evaluate(links), "first/report.html,second/report.html");
    let plots = "Array.from(document.querySelectorAll('.plot [role=img]'), (p) => p.getAttribute('aria-label').length > 10).join()";
    assert_eq!(page.evaluate(plots), "true,true");
    let dots = page.evaluate("document.querySelectorAll('.plot svg')[0].querySelectorAll('circle').length");
    assert!((6..=12).contains(&dots.as_u64().unwrap()), "{dots}");
    assert_eq!(page.evaluate("document.querySelectorAll('#pairs tbody tr').length > 8"), true);
    page.silent();
}

/// λ, f's score and the picture of each series.
const SHOWN: &str = "Array.from(document.querySelectorAll('.shift'), (s) => [s.querySelector('.lambda').textContent, \
                     s.querySelector('.score').textContent, s.querySelector('.player').src])";

#[test]
fn one_slider_and_the_keys_move_all_series() {
    let toy = run();
    let records = records(&toy);
    let Some(mut page) = Page::open(&toy.path("out/report.html"), "case/p4_8", Screen::DESK) else { return };
    page.shows("p4_8");
    page.until("Array.from(document.images).every((i) => i.complete && i.naturalWidth > 0)");
    assert_eq!(page.evaluate("Array.from(document.images).every((i) => i.hasAttribute('alt'))"), true);
    assert_eq!(page.evaluate("document.querySelectorAll('#original').length"), 1, "the image is there once");
    let ids = "(() => { const ids = Array.from(document.querySelectorAll('[id]'), (e) => e.id); return ids.length === new Set(ids).size; })()";
    assert_eq!(page.evaluate(ids), true, "ids are unique");
    let names = "Array.from(document.querySelectorAll('.predictor > h3'), (h) => h.textContent).join()";
    assert_eq!(page.evaluate(names), "first,second");
    let series = |r: &CaseRecord| match &r.explanations[0] {
        ExplanationRecord::Shift { lambdas, scores, .. } => (lambdas.clone(), scores.clone()),
        other => panic!("{other:?}"),
    };
    let both = records["p4_8"].each_ref().map(series);
    assert_eq!((both[0].0.as_slice(), &both[0].0), (&[-2.0, -1.0, 0.0, 1.0, 2.0][..], &both[1].0));
    let seen = |page: &mut Page, step: usize| {
        let shown = page.evaluate(SHOWN);
        for (k, (lambdas, scores)) in both.iter().enumerate() {
            let text = |i: usize| shown[k][i].as_str().unwrap().replace('−', "-").replace(['<', '>'], "");
            assert_eq!(text(0).parse::<f32>().unwrap(), lambdas[step], "{shown}");
            assert!((text(1).parse::<f32>().unwrap() - scores[step]).abs() < 0.011, "{shown}");
            assert!(text(2).ends_with(&format!("series-0/{step:02}.png")), "{shown}");
            let folder = ["/first/cases/", "/second/cases/"][k];
            assert!(text(2).contains(folder), "{shown}");
        }
    };
    seen(&mut page, 2);
    for (key, step) in [("ArrowRight", 3), ("End", 4), ("ArrowLeft", 3), ("Home", 0)] {
        page.press(key);
        seen(&mut page, step);
    }
    page.evaluate(
        "(() => { const s = document.querySelector('.together input'); s.value = 3; s.dispatchEvent(new Event('input')); })()",
    );
    seen(&mut page, 3);
    assert_eq!(page.evaluate("document.querySelector('.together .lambda').textContent"), "+1");
    // A picture of the second one's strip moves the first one too.
    page.evaluate("document.querySelectorAll('.strip')[1].querySelectorAll('button')[4].click()");
    seen(&mut page, 4);
    page.press(" ");
    page.until(&format!("{SHOWN}[0][0] !== '+2'"));
    assert_eq!(page.evaluate("document.querySelector('.together .play').textContent"), "Pause");
    page.press(" ");
    // Maps of one explainer stand beside each other, and share their scale.
    let maps = "Array.from(document.querySelectorAll('.group'), (g) => g.querySelector('h3').textContent + ': ' + \
                Array.from(g.querySelectorAll('.heatmap h3'), (h) => h.textContent).join(', '))";
    assert_eq!(page.evaluate(maps), json!(["HiResCAM, bright: HiResCAM of first, HiResCAM of second"]));
    page.evaluate("document.querySelector('.one-scale').click()");
    let ends = "Array.from(new Set(Array.from(document.querySelectorAll('.ends.scale span:last-child'), (e) => e.textContent))).length";
    assert_eq!(page.evaluate(ends), 1);
    let link = page.evaluate("document.querySelectorAll('.predictor > h3 a')[1].getAttribute('href')");
    assert_eq!(link, "second/report.html#case/p4_8");
    page.press("n");
    page.until("document.body.dataset.case !== 'p4_8'");
    page.press("Escape");
    page.until("!document.getElementById('overview').hidden");
    page.silent();
}

/// λ grids that differ: the slider goes through all of them, and each series shows its nearest.
#[test]
fn series_of_other_steps_show_their_nearest() {
    let toy = Toy::new();
    toy.two_predictors();
    toy.edit("params = { steps = 5, range = 2.0 }", "params = { steps = 5, range = \"calibrated\" }");
    toy.run("out").expect(0);
    let records = records(&toy);
    let grids = |id: &str| {
        records[id].each_ref().map(|r| match &r.explanations[0] {
            ExplanationRecord::Shift { lambdas, .. } => lambdas.clone(),
            other => panic!("{other:?}"),
        })
    };
    let id = records
        .keys()
        .find(|id| grids(id)[0] != grids(id)[1])
        .expect("calibrated ranges that differ")
        .clone();
    let grids = grids(&id);
    let mut places: Vec<f32> = grids.concat();
    places.sort_by(f32::total_cmp);
    places.dedup();
    let Some(mut page) = Page::open(&toy.path("out/report.html"), &format!("case/{id}"), Screen::DESK) else {
        return;
    };
    page.shows(&id);
    assert_eq!(
        page.evaluate("document.querySelector('.together input').max"),
        (places.len() - 1).to_string()
    );
    page.press("Home");
    for place in &places {
        let shown = page.evaluate(
            "Array.from(document.querySelectorAll('.strip [aria-current]'), (b) => Number(b.dataset.at))",
        );
        for (k, grid) in grids.iter().enumerate() {
            let distance = |l: f32| (l - place).abs();
            let least = grid.iter().map(|l| distance(*l)).fold(f32::INFINITY, f32::min);
            let found = shown[k].as_f64().unwrap() as f32;
            assert!(distance(found) <= least + 1e-6, "{shown} at {place}: {grids:?}");
        }
        page.press("ArrowRight");
    }
    page.silent();
}

#[test]
fn the_page_fits_a_phone_the_dark_and_paper_and_stands_alone() {
    let toy = run();
    let Some(mut page) = Page::open(&toy.path("out/report.html"), "", Screen::PHONE) else { return };
    assert!(page.fits(), "the overview on a phone");
    page.evaluate("location.hash = '#case/p4_8'");
    page.shows("p4_8");
    assert!(page.fits(), "a case on a phone");
    // Predictors stand below each other.
    let tops = "Array.from(document.querySelectorAll('.predictor'), (p) => p.getBoundingClientRect().left)";
    let tops = page.evaluate(tops);
    assert_eq!(tops[0], tops[1]);
    page.show(Screen { dark: true, ..Screen::DESK });
    let left = "Array.from(document.querySelectorAll('.predictor'), (p) => p.getBoundingClientRect().left)";
    let left = page.evaluate(left);
    assert!(left[0].as_f64().unwrap() < left[1].as_f64().unwrap(), "side by side on a desk: {left}");
    let background = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]";
    assert!(page.evaluate(background).as_u64().unwrap() < 50);
    page.show(Screen { dark: true, print: true, width: 794, ..Screen::DESK });
    assert_eq!(page.evaluate(background), 255);
    assert!(page.fits(), "a case on paper");
    assert_eq!(page.evaluate("getComputedStyle(document.querySelector('.together')).display"), "none");
    page.silent();
    drop(page);

    // With everything inside itself it goes by mail.
    toy.edit("formats = [\"html\", \"csv\", \"gif\"]", "formats = [\"html\", \"gif\"]\nsingle-file = true");
    toy.run("out").expect(0);
    assert!(!toy.path("out/comparison.csv").exists() && !toy.path("out/report").exists());
    let mail = tempfile::tempdir().unwrap();
    let mailed = mail.path().join("mailed.html");
    std::fs::rename(toy.path("out/report.html"), &mailed).unwrap();
    let Some(mut page) = Page::open(&mailed, "case/p4_9", Screen::DESK) else { return };
    page.shows("p4_9");
    page.until(
        "Array.from(document.querySelectorAll('#case img')).every((i) => i.complete && i.naturalWidth > 0)",
    );
    assert_eq!(page.evaluate("document.querySelectorAll('#case img[src^=\"data:\"]').length > 10"), true);
    assert_eq!(
        page.evaluate("document.querySelectorAll('a[href*=\"report.html\"]').length"),
        0,
        "no dead links"
    );
    page.silent();
}

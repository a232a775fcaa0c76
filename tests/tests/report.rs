//! The report in a real browser.

use shiftlens_tests::browser;
use shiftlens_tests::toy::Toy;

#[test]
fn the_slider_moves_and_the_console_stays_silent() {
    let toy = Toy::new();
    toy.run("out").expect(0);
    // Moves the first slider to its end and back to its start, clicks a picture of the strip, and notes what is shown.
    let script = r#"
        window.addEventListener("load", () => {
            const shift = document.querySelector(".shift");
            const slider = shift.querySelector("input[type=range]");
            const shown = () => [
                shift.querySelector(".lambda").textContent,
                shift.querySelector(".score").textContent,
                shift.querySelector(".player").src.length > 100,
                shift.querySelector(".player").naturalWidth,
            ].join("|");
            const notes = [shown()];
            const pictures = [shift.querySelector(".player").src];
            for (const value of [slider.max, slider.min]) {
                slider.value = value;
                slider.dispatchEvent(new Event("input"));
                notes.push(shown());
                pictures.push(shift.querySelector(".player").src);
            }
            const strip = document.getElementById(shift.dataset.strip).querySelectorAll("button");
            strip[3].click();
            notes.push(shown());
            document.body.dataset.notes = notes.join(" ; ");
            document.body.dataset.different = new Set(pictures).size;
            document.body.dataset.broken = Array.from(document.images).filter((i) => !i.getAttribute("src")).length;
            document.body.dataset.cases = document.querySelectorAll("article.case").length;
        });
    "#;
    let Some(page) = browser::open(&toy.path("out/report.html"), script) else { return };
    assert!(page.console.is_empty(), "the console says: {:#?}", page.console);
    let value = |name: &str| {
        let from = page
            .dom
            .split_once(&format!("data-{name}=\""))
            .unwrap_or_else(|| panic!("the script did not run: no {name}"));
        from.1.split('"').next().unwrap_or_default().to_owned()
    };
    let notes = value("notes");
    let steps: Vec<Vec<&str>> = notes.split(" ; ").map(|n| n.split('|').collect()).collect();
    let lambda = |i: usize| steps[i][0].replace(['−', '+'], "");
    let score = |i: usize| steps[i][1].parse::<f32>().unwrap_or_else(|e| panic!("{notes}: {e}"));
    assert_eq!([lambda(0), lambda(3)].map(|l| l.parse::<f32>().unwrap()), [0.0, 1.0], "{notes}");
    assert_eq!([lambda(1), lambda(2)].map(|l| l.parse::<f32>().unwrap()), [2.0, 2.0], "{notes}");
    assert!(score(2) < score(0) && score(0) < score(3) && score(3) < score(1), "{notes}");
    assert!(steps.iter().all(|s| s[2] == "true"), "{notes}");
    assert_eq!((value("different"), value("broken"), value("cases")), ("3".into(), "0".into(), "8".into()));
}

#[test]
fn many_maps_share_a_slider_a_pointer_and_buttons_for_their_classes() {
    let toy = Toy::new();
    toy.edit(
        "params = { method = \"hirescam\" }",
        "classes = [1, 0]\nparams = { method = \"hirescam\" }\n[[explainer]]\nkind = \"plugin:gradcam\"\n\
         classes = [\"bright\", \"dark\"]\nparams = { method = \"gradcam\" }",
    );
    toy.shiftlens(&["run", "study.toml", "--out", "out", "--limit", "2"]).expect(0);
    let script = r#"
        window.addEventListener("load", () => {
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
            const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
            document.body.dataset.notes = [
                layers.length, new Set(layers.map((l) => l.style.opacity)).size, layers[0].style.opacity,
                before, hidden, groups().join(), marks.length, drawn, gone, Array.from(places).join(), wide,
            ].join(" ; ");
        });
    "#;
    let Some(page) = browser::open(&toy.path("out/report.html"), script) else { return };
    assert!(page.console.is_empty(), "the console says: {:#?}", page.console);
    let (_, notes) = page.dom.split_once("data-notes=\"").expect("the script ran");
    // Four maps and the image; all overlays at one opacity; the second class hidden and shown again.
    assert_eq!(
        notes.split('"').next().unwrap_or_default(),
        "4 ; 1 ; 0.3 ; true,true ; true,falsefalse ; true,true ; 5 ; 5 ; 5 ; 25,50 ; false"
    );
}

#[test]
fn the_browser_reports_errors_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    std::fs::write(&page, "<!doctype html><body><p>hello</p></body>").unwrap();
    let Some(page) = browser::open(&page, "document.body.dataset.ran = 1; throw new Error('on purpose')")
    else {
        return;
    };
    assert!(page.dom.contains("data-ran=\"1\""));
    assert!(page.console.iter().any(|l| l.contains("on purpose")), "{:?}", page.console);
}

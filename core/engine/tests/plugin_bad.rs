//! Plugins that are wrong, each in one way: the host says which plugin, which function, what was expected and found.

mod plugin_support;

use plugin_support::{FirstPixel, Memory, bad, halves, says};
use serde_json::{Value, json};
use shiftlens_api::{Context, Error, Explanation, Predictor, Result, Target};
use shiftlens_engine::plugin::{self, PluginLibrary};
use std::path::Path;

fn predictor(name: &str) -> Result<Box<dyn Predictor>> {
    plugin::predictor(&bad(name)?, &Value::Null)
}

#[test]
fn the_yardstick_is_good() {
    let mut f = predictor("good").unwrap();
    assert_eq!(f.predict(&halves(2, 0.5, 0.5)).unwrap().as_slice(), &[0.25, 0.75, 0.25, 0.75]);
    assert!(f.gradients().is_none());
}

#[test]
fn what_is_no_plugin_is_refused_at_the_door() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(PluginLibrary::open(Path::new("no/such/lib.so")), Err(Error::Io { .. })));
    says(PluginLibrary::open(folder.path()), &["is no file"]);
    let text = folder.path().join("libtext.so");
    std::fs::write(&text, "this is not a library").unwrap();
    says(PluginLibrary::open(&text), &["libtext.so", "cannot be loaded as a shared library"]);
    let refused = |name: &str, words: &[&str]| says(bad(name), words);
    refused("no_symbol", &["no_symbol", "exports no `shiftlens_plugin`"]);
    refused("wrong_magic", &["wrong_magic", "0x000000000000002a", "0x534e454c54464853"]);
    refused("other_abi", &["other_abi", "version 7", "this program has version 1", "rebuild"]);
    refused("too_small", &["too_small", "`struct_size` is 16"]);
    refused("no_id", &["no_id", "`id`"]);
}

#[test]
fn what_makes_no_component_is_refused_when_it_is_made() {
    let refused = |name: &str, words: &[&str]| says(predictor(name).map(|_| ()), words);
    refused("no_instance", &["plugin bad.plugin 0.0.1", "create", "without an instance"]);
    refused("no_interface", &["get_interface", "null for `shiftlens.predictor/1`"]);
    refused("no_json", &["bad.plugin", "info", "JSON", "two classes, I think"]);
    refused("no_classes", &["info", "`classes` is 0"]);
    let lib = bad("good").unwrap();
    let text =
        says(plugin::generator(&lib, &Value::Null).map(|_| ()), &["offers no `shiftlens.generator/1`"]);
    assert!(text.contains("it offers: shiftlens.predictor/1"), "{text}");
}

#[test]
fn what_comes_back_is_checked() {
    let refused = |name: &str, words: &[&str]| {
        let answer = predictor(name).unwrap().predict(&halves(2, 0.5, 0.5));
        let not_finite = matches!(answer, Err(Error::NotFinite { .. }));
        says(answer, &[&["plugin bad.plugin 0.0.1", "predict"], words].concat());
        not_finite
    };
    refused("wrong_shape", &["scores", "expected shape [2, 2]", "found [2, 3]"]);
    refused("changing_shape", &["expected shape [2, 2], as answered when asked before", "found [3, 2]"]);
    refused("failing", &["the sensor is unplugged"]);
    refused("null_function", &["null"]);
    assert!(refused("not_a_number", &["scores", "value 1 is NaN"]));
    assert!(refused("unwritten", &["scores", "value 0 is NaN"]));
}

/// What `caller.c` made of the host, and the title of the heatmap that it left.
fn call(way: &str, f: &mut FirstPixel) -> Result<String> {
    let mut explainer = plugin::explainer(&bad("caller")?, &json!({ "way": way }))?;
    let memory = Memory::default();
    let mut cx = Context { predictor: f, latent: None, monitor: &memory, seed: 0 };
    let target = Target { class: 1, name: "yes".into() };
    let all = explainer.explain(&mut cx, &halves(2, 0.5, 0.5), &target)?;
    assert_eq!(all.len(), 2);
    match all[0].first() {
        Some(Explanation::Heatmap { title, map, .. }) => {
            assert_eq!(map.as_slice(), &[1.0, -2.0, 3.0, 0.5]);
            Ok(title.clone())
        }
        _ => Ok(String::new()),
    }
}

#[test]
fn explanations_are_checked() {
    let mut f = FirstPixel::default();
    assert_eq!(call("fair", &mut f).unwrap(), "map");
    assert_eq!(call("nothing-else", &mut f).unwrap(), "map");
    assert_eq!(call("ask", &mut f).unwrap(), "");
    let mut refused = |way: &str, words: &[&str]| {
        says(call(way, &mut f), &[&["plugin bad.caller 0.0.1", "explain"], words].concat());
    };
    refused("nan", &["heatmap", "value 2 is NaN"]);
    refused("rank", &["heatmap", "expected shape [H, W]", "[2, 2, 0]"]);
    refused("image", &["image 2 of a batch of 2"]);
    refused("notes", &["notes", "key"]);
    refused("null", &["heatmap: a null pointer"]);
    refused("origin", &["series", "do not ascend"]);
    refused("status", &["status 99 and no message"]);
    says(
        plugin::explainer(&bad("caller").unwrap(), &json!({})).map(|_| ()),
        &["create", "expected {\"way\""],
    );
}

#[test]
fn calls_back_at_the_same_time_are_refused_not_raced() {
    // Two threads ask ten times each; one that comes while the other is being answered is refused.
    let mut slow = FirstPixel { milliseconds: 20, ..FirstPixel::default() };
    assert_eq!(call("threads", &mut slow).unwrap(), "some refused");
}

#[test]
fn a_panic_in_the_host_does_not_cross_the_plugin() {
    let mut f = FirstPixel { panic: true, ..FirstPixel::default() };
    says(call("ask", &mut f), &["bad.caller", "explain: panic: the host's own predictor"]);
}

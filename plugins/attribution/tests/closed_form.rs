//! Every method against predictors whose attributions are known in closed form.

mod common;

use common::{Quadratic, Said, explain, image, map, note, weight};
use shiftlens_sdk::api::resize::Filter;
use shiftlens_sdk::api::{Error, Images};
use shiftlens_sdk::serde_json::{Value, json};

/// Three different images `[3, C, 6, 5]`.
fn three(channels: usize) -> Images {
    Images::concat(&[0, 1, 2].map(|i| image(channels, 6, 5, i))).unwrap()
}

#[track_caller]
fn close(found: &[f32], expected: impl Iterator<Item = f64>, tolerance: f64) {
    let expected: Vec<f64> = expected.collect();
    assert_eq!(found.len(), expected.len());
    for (p, (a, b)) in found.iter().zip(&expected).enumerate() {
        assert!((f64::from(*a) - b).abs() < tolerance, "pixel {p}: {a}, expected {b}");
    }
}

/// The image's values at pixel `p`, with the weight of each.
fn at(x: &Images, i: usize, p: usize) -> impl Iterator<Item = (f64, f64)> {
    let (h, w) = x.size();
    (0..x.channels()).map(move |c| c * h * w + p).map(move |k| (weight(1, k), f64::from(x.image(i)[k])))
}

#[test]
fn saliency_is_the_gradient() {
    let x = three(3);
    let answer = explain(&mut Quadratic::colour(), json!({"method": "saliency"}), &x).unwrap();
    for i in 0..3 {
        close(map(&answer, i), (0..30).map(|p| at(&x, i, p).map(|(a, x)| 2.0 * a * x).sum()), 1e-5);
    }
    let params = json!({"method": "saliency", "channels": "max-abs"});
    let answer = explain(&mut Quadratic::colour(), params, &x).unwrap();
    close(
        map(&answer, 1),
        (0..30).map(|p| at(&x, 1, p).map(|(a, x)| (2.0 * a * x).abs()).fold(0.0, f64::max)),
        1e-5,
    );
}

#[test]
fn input_times_gradient() {
    let x = three(3);
    let answer = explain(&mut Quadratic::colour(), json!({"method": "input-x-gradient"}), &x).unwrap();
    close(map(&answer, 2), (0..30).map(|p| at(&x, 2, p).map(|(a, x)| 2.0 * a * x * x).sum()), 1e-5);
}

#[test]
fn integrated_gradients_of_a_score_of_second_degree_are_exact() {
    let x = three(3);
    for (baseline, b) in [(json!("black"), 0.0), (json!("white"), 1.0), (json!(0.25), 0.25)] {
        let params = json!({"method": "integrated-gradients", "baseline": baseline, "steps": 5, "batch": 2});
        let mut f = Quadratic::colour();
        let answer = explain(&mut f, params, &x).unwrap();
        assert_eq!(f.largest, 2);
        for i in 0..3 {
            close(
                map(&answer, i),
                (0..30).map(|p| at(&x, i, p).map(|(a, x)| a * (x * x - b * b)).sum()),
                1e-5,
            );
            assert_eq!(note(&answer, i, "class"), "large");
            assert_eq!(note(&answer, i, "score kind"), "logit");
            let error: f64 = note(&answer, i, "completeness error").trim_end_matches(" %").parse().unwrap();
            assert!(error < 0.01, "{error} %");
            let sum: f64 = map(&answer, i).iter().map(|v| f64::from(*v)).sum();
            let gap = sum
                - (note(&answer, i, "score").parse::<f64>().unwrap()
                    - note(&answer, i, "score of the baseline").parse::<f64>().unwrap());
            assert!(gap.abs() < 1e-4, "{gap}");
        }
    }
}

#[test]
fn attributions_that_do_not_add_up_are_warned_of() {
    let x = image(1, 6, 5, 0);
    let params = |steps: usize| json!({"score": "probability", "steps": steps});
    let run = |steps| {
        let said = Said::default();
        let mut f = Quadratic { gain: 40.0, ..Quadratic::white() };
        common::explain_with(&mut f, params(steps), &x, &said, 0).unwrap();
        said.warnings()
    };
    assert!(run(1)[0].contains("raise `steps`"), "{:?}", run(1));
    assert_eq!(run(500), [""; 0]);
}

#[test]
fn the_same_score_at_both_ends_has_no_relative_error() {
    let x = Images::new([1, 1, 4, 4], vec![0.0; 16]).unwrap();
    let answer = explain(&mut Quadratic::white(), json!({}), &x).unwrap();
    assert!(note(&answer, 0, "completeness error").starts_with("not defined"));
    assert!(map(&answer, 0).iter().all(|v| *v == 0.0));
}

#[test]
fn smoothgrad_averages_noisy_gradients() {
    // Values from 0.4 to 0.6: a noise of half the range, 0.1, is never clamped.
    let values: Vec<f32> = (0..30).map(|p| 0.4 + 0.2 * p as f32 / 29.0).collect();
    let x = Images::new([1, 1, 6, 5], values).unwrap();
    let run = |squared: bool, seed| {
        let params =
            json!({"method": "smoothgrad", "samples": 4000, "noise": 0.5, "squared": squared, "batch": 64});
        let said = Said::default();
        common::explain_with(&mut Quadratic::white(), params, &x, &said, seed).unwrap()
    };
    // The mean of 4000 gradients 2 a (x + n) has a standard deviation of 2 |a| 0.1 / 63; |a| is at most 1.
    let plain = run(false, 3);
    close(map(&plain, 0), (0..30).flat_map(|p| at(&x, 0, p)).map(|(a, x)| 2.0 * a * x), 0.015);
    let squared = run(true, 3);
    let expected = (0..30).flat_map(|p| at(&x, 0, p)).map(|(a, x)| 4.0 * a * a * (x * x + 0.01));
    close(map(&squared, 0), expected, 0.03);
    assert_eq!(map(&plain, 0), map(&run(false, 3), 0));
    assert_ne!(map(&plain, 0), map(&run(false, 4), 0));
}

#[test]
fn occlusion_is_the_mean_drop_of_the_covering_windows() {
    let x = three(3);
    let params =
        json!({"method": "occlusion", "window": 3, "stride": 2, "baseline": "mean", "score": "logit"});
    let answer = explain(&mut Quadratic::colour(), params, &x).unwrap();
    for i in 0..3 {
        // A window's drop is the sum, over its pixels, of a (x^2 - m^2), m the channel's mean.
        let mean =
            |c: usize| x.image(i)[c * 30..(c + 1) * 30].iter().map(|v| f64::from(*v)).sum::<f64>() / 30.0;
        let gain: Vec<f64> = (0..30)
            .map(|p| at(&x, i, p).enumerate().map(|(c, (a, x))| a * (x * x - mean(c).powi(2))).sum())
            .collect();
        let covers = |start: usize, at: usize| at >= start && at < start + 3;
        let expected = (0..30).map(|p| {
            let drops: Vec<f64> = [0, 2, 4]
                .iter()
                .flat_map(|t| [0, 2].map(|l| (*t, l)))
                .filter(|(t, l)| covers(*t, p / 5) && covers(*l, p % 5))
                .map(|(t, l)| (0..30).filter(|q| covers(t, q / 5) && covers(l, q % 5)).map(|q| gain[q]).sum())
                .collect();
            drops.iter().sum::<f64>() / drops.len() as f64
        });
        close(map(&answer, i), expected, 1e-5);
    }
}

#[test]
fn rise_is_the_score_expected_where_a_pixel_is_kept() {
    // f = 0.8 x at the centre: the map there is 0.8 E[M^2] / p, and 0.8 p where M is independent of the centre's.
    let (h, w, centre) = (28, 28, 14 * 28 + 14);
    let mut values = vec![0.5; h * w];
    values[centre] = 1.0;
    let x = Images::new([1, 1, h, w], values).unwrap();
    let mut f = Quadratic { only: Some((centre, 0.8)), ..Quadratic::black() };
    let params = json!({"method": "rise", "masks": 6000, "grid": 7, "probability": 0.5, "batch": 100});
    let answer = explain(&mut f, params, &x).unwrap();
    let found = map(&answer, 0);
    assert_eq!(f.largest, 100);
    let far: Vec<f32> =
        (0..h * w).filter(|p| (p / w).abs_diff(14).max((p % w).abs_diff(14)) > 9).map(|p| found[p]).collect();
    for v in &far {
        assert!((v - 0.4).abs() < 0.025, "{v}, expected 0.8 p = 0.4");
    }
    // E[M^2] lies between p^2 and p.
    assert!(found[centre] > 0.45 && found[centre] < 0.8, "{}", found[centre]);
    let most = found.iter().copied().fold(0.0, f32::max);
    assert!(most - found[centre] < 0.03, "the map is largest at the pixel that matters");
    let mean: f64 = note(&answer, 0, "mean score under the masks").parse().unwrap();
    assert!((mean - 0.4).abs() < 0.01, "{mean}");
}

#[test]
fn kernel_shap_of_an_additive_score_is_each_segments_own() {
    let x = three(3);
    for samples in [64, 1024] {
        let params = json!({
            "method": "kernel-shap", "partition": "grid", "segments": 30, "samples": samples, "score": "logit",
            "baseline": "white",
        });
        let answer = explain(&mut Quadratic::colour(), params, &x).unwrap();
        // 30 segments of 6 x 5 pixels: each is one pixel.
        for i in 0..3 {
            close(map(&answer, i), (0..30).map(|p| at(&x, i, p).map(|(a, x)| a * (x * x - 1.0)).sum()), 1e-4);
        }
        assert!(note(&answer, 0, "coalitions").starts_with(&format!("{samples}, a sample")));
    }
}

#[test]
fn kernel_shap_of_a_black_box_adds_up_exactly() {
    let x = image(1, 12, 12, 1);
    for (partition, samples, exact) in [("grid", 512, true), ("slic", 512, true), ("slic", 40, false)] {
        let params =
            json!({"method": "kernel-shap", "segments": 9, "samples": samples, "partition": partition});
        let answer = explain(&mut Quadratic { gain: 3.0, ..Quadratic::black() }, params, &x).unwrap();
        assert_eq!(
            note(&answer, 0, "coalitions").contains("all of them"),
            exact,
            "{}",
            note(&answer, 0, "coalitions")
        );
        let difference: f64 = note(&answer, 0, "score").parse::<f64>().unwrap()
            - note(&answer, 0, "score of the baseline").parse::<f64>().unwrap();
        let sum: f64 = note(&answer, 0, "sum over segments").parse().unwrap();
        assert!((sum - difference).abs() < 3e-6, "{sum}, expected {difference}");
        let mut values: Vec<f32> = map(&answer, 0).to_vec();
        values.sort_by(f32::total_cmp);
        values.dedup();
        assert!((5..=9).contains(&values.len()), "{} different values", values.len());
    }
}

#[test]
fn a_black_box_is_told_what_works() {
    let x = image(1, 6, 5, 0);
    for method in ["saliency", "input-x-gradient", "integrated-gradients", "smoothgrad"] {
        let e = explain(&mut Quadratic::black(), json!({"method": method}), &x).unwrap_err();
        let message = e.to_string();
        assert!(matches!(e, Error::Unsupported(_)));
        assert!(["occlusion", "rise", "kernel-shap"].iter().all(|m| message.contains(m)), "{message}");
    }
    for params in [
        json!({"method": "occlusion"}),
        json!({"method": "rise", "masks": 20}),
        json!({"method": "kernel-shap", "segments": 4}),
    ] {
        assert_eq!(explain(&mut Quadratic::black(), params.clone(), &x).unwrap().len(), 1);
        let mut logit = params;
        logit["score"] = json!("logit");
        let message = explain(&mut Quadratic::black(), logit, &x).unwrap_err().to_string();
        assert!(message.contains("set `score` to \"probability\""), "{message}");
    }
}

#[test]
fn maps_have_the_networks_size_and_another_filter_is_warned_of() {
    let x = Images::concat(&[image(3, 12, 9, 0), image(3, 12, 9, 1)]).unwrap();
    for (filter, warned) in [(Filter::Bilinear, false), (Filter::Nearest, true)] {
        let mut f = Quadratic { native: Some((6, 5, filter)), ..Quadratic::colour() };
        let said = Said::default();
        let answer = common::explain_with(&mut f, json!({}), &x, &said, 0).unwrap();
        assert_eq!(map(&answer, 1).len(), 30);
        assert_eq!(
            said.warnings().iter().any(|w| w.contains("`input.resize`")),
            warned,
            "{:?}",
            said.warnings()
        );
    }
    // A grey image is shown to a network of three channels as three equal ones.
    let mut f = Quadratic::colour();
    let answer = explain(&mut f, json!({"method": "saliency"}), &image(1, 6, 5, 0)).unwrap();
    assert_eq!(map(&answer, 0).len(), 30);
}

#[test]
fn neither_batches_nor_neighbours_change_a_number() {
    let x = three(1);
    for params in [
        json!({"method": "integrated-gradients", "steps": 7}),
        json!({"method": "smoothgrad", "samples": 7}),
        json!({"method": "occlusion", "window": 2}),
        json!({"method": "rise", "masks": 13, "grid": 3}),
        json!({"method": "kernel-shap", "segments": 9, "samples": 50}),
    ] {
        let with = |batch: usize, x: &Images| {
            let mut params = params.clone();
            params["batch"] = json!(batch);
            explain(&mut Quadratic::white(), params, x).unwrap()
        };
        let all = with(4, &x);
        assert_eq!(map(&all, 2), map(&with(4, &x.slice(2, 3)), 0), "{params}");
        assert_eq!(map(&all, 2), map(&with(3, &x), 2), "{params}");
    }
}

#[test]
fn long_work_can_be_stopped_and_says_how_far_it_is() {
    let x = image(1, 6, 5, 0);
    let params = json!({"method": "rise", "masks": 50, "batch": 10});
    let said = Said { stop_after: Some(2), ..Said::default() };
    let mut f = Quadratic::black();
    let stopped = common::explain_with(&mut f, params.clone(), &x, &said, 0);
    assert!(matches!(stopped, Err(Error::Cancelled)));
    assert_eq!(said.steps(), [(10, 50), (20, 50)]);
    let said = Said::default();
    common::explain_with(&mut f, params, &x, &said, 0).unwrap();
    assert_eq!(said.steps().last(), Some(&(50, 50)));
}

#[test]
fn nothing_is_asked_about_no_image() {
    let x = Images::new([0, 1, 4, 4], Vec::new()).unwrap();
    let mut f = Quadratic::white();
    assert!(explain(&mut f, Value::Object(Default::default()), &x).unwrap().is_empty());
    assert_eq!(f.largest, 0);
}

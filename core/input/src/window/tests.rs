use super::*;

fn grey(values: &[f32]) -> Pixels {
    Pixels::plain((1, 1, values.len()), values.to_vec(), Some((0.0, 65535.0)))
}

fn shown(window: Window, values: &[f32]) -> Vec<f32> {
    let mut pixels = grey(values);
    window.apply(&mut pixels).unwrap();
    pixels.values
}

fn close(found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((f64::from(*a) - b).abs() < 1e-6, "{found:?}, expected {expected:?}");
    }
}

#[test]
fn windows_follow_the_standard() {
    let level = |centre, width, function| Window::Level { centre, width, function };
    // PS3.3 C.11.2.1.2.1, note 3: c = 2048, w = 4096 maps 0 to the lowest and 4095 to the highest, and all between linearly.
    let values = [-1.0, 0.0, 1.0, 2047.0, 2048.0, 4095.0, 4096.0];
    let expected = [0.0, 0.0, 1.0 / 4095.0, 2047.0 / 4095.0, 2048.0 / 4095.0, 1.0, 1.0];
    close(&shown(level(2048.0, 4096.0, VoiFunction::Linear), &values), &expected);
    // The same note: c = 0, w = 100 becomes y = ((x + 0.5) / 99 + 0.5) between -50 and 49.
    let expected = [0.0, 0.0, 1.0 / 99.0, 50.0 / 99.0, 98.0 / 99.0, 1.0, 1.0];
    close(
        &shown(level(0.0, 100.0, VoiFunction::Linear), &[-51.0, -50.0, -49.0, 0.0, 48.0, 49.0, 50.0]),
        &expected,
    );
    // And c = 0, w = 1 is a threshold: x <= -0.5 is black.
    close(&shown(level(0.0, 1.0, VoiFunction::Linear), &[-1.0, -0.5, 0.0]), &[0.0, 0.0, 1.0]);
    // C.11.2.1.3.2: c = 2048, w = 4096 maps 0 to black and 4096 to white.
    let exact = level(2048.0, 4096.0, VoiFunction::LinearExact);
    close(&shown(exact, &[-8.0, 0.0, 1024.0, 4096.0, 5000.0]), &[0.0, 0.0, 0.25, 1.0, 1.0]);
    // C.11.2.1.3.1: 1/2 at c, e^2 / (1 + e^2) half a width above.
    let sigmoid = level(10.0, 8.0, VoiFunction::Sigmoid);
    close(&shown(sigmoid, &[10.0, 14.0, 6.0]), &[0.5, 0.880_797_077_977_882_3, 0.119_202_922_022_117_7]);
}

#[test]
fn ranges_come_from_the_type_or_the_image() {
    close(&shown(Window::File, &[0.0, 13_107.0, 65_535.0]), &[0.0, 0.2, 1.0]);
    close(&shown(Window::Range { low: 10.0, high: 20.0 }, &[5.0, 12.5, 30.0]), &[0.0, 0.25, 1.0]);
    close(&shown(Window::MinMax, &[4.0, 2.0, 6.0]), &[0.5, 0.0, 1.0]);
    // numpy.percentile([10, 20, 30, 40, 100], [10, 85]) is [14, 64].
    let window = Window::Percentile { low: 10.0, high: 85.0 };
    close(&shown(window, &[30.0, 100.0, 10.0, 40.0, 20.0]), &[0.32, 1.0, 0.0, 0.52, 0.12]);

    let refused = |window: Window, pixels: &mut Pixels| window.apply(pixels).unwrap_err();
    assert!(refused(Window::MinMax, &mut grey(&[3.0, 3.0])).contains("3 is black and white at once"));
    let mut float = Pixels { full: None, ..grey(&[0.5]) };
    assert!(refused(Window::File, &mut float).contains("set `window`"));
    let mut colour = Pixels { channels: 3, values: vec![0.0; 3], ..grey(&[0.5]) };
    assert!(refused(Window::MinMax, &mut colour).contains("for grey images, this one has 3 channels"));
}

#[test]
fn the_files_own_window_counts_until_another_is_named() {
    let own = |own| Pixels { own, inverted: true, ..grey(&[0.0, 5.0, 10.0]) };
    let mut pixels = own(Ok(Some(Curve::Range(0.0, 10.0))));
    Window::File.apply(&mut pixels).unwrap();
    assert_eq!(pixels.values, [1.0, 0.5, 0.0]);
    let mut table = own(Ok(Some(Curve::Table(4, vec![0.25, 0.5, 0.75]))));
    Window::File.apply(&mut table).unwrap();
    assert_eq!(table.values, [0.75, 0.5, 0.25]);
    let broken = || own(Err("`WindowWidth` is 0".into()));
    assert!(Window::File.apply(&mut broken()).unwrap_err().contains("`WindowWidth` is 0; set `window`"));
    let mut pixels = broken();
    Window::Range { low: 0.0, high: 20.0 }.apply(&mut pixels).unwrap();
    assert_eq!(pixels.values, [1.0, 0.75, 0.5]);
}

#[test]
fn manifests_name_windows() {
    #[derive(Debug, Serialize, serde::Deserialize)]
    struct Section {
        window: Window,
    }
    let read = |text: &str| text.parse::<toml::Table>().unwrap().try_into::<Section>().map(|s| s.window);
    let function = VoiFunction::Sigmoid;
    for (text, expected) in [
        ("window = \"minmax\"", Window::MinMax),
        ("window = \"percentile\"", Window::Percentile { low: 1.0, high: 99.0 }),
        ("window = { percentile = [2, 98.5] }", Window::Percentile { low: 2.0, high: 98.5 }),
        ("window = { low = -160, high = 240.0 }", Window::Range { low: -160.0, high: 240.0 }),
        (
            "window = { centre = 40, width = 400 }",
            Window::Level { centre: 40.0, width: 400.0, function: VoiFunction::Linear },
        ),
        (
            "window = { center = 40, width = 0.5, function = \"sigmoid\" }",
            Window::Level { centre: 40.0, width: 0.5, function },
        ),
    ] {
        assert_eq!(read(text).unwrap(), expected, "{text}");
        let section = Section { window: expected };
        let again: Section = serde_json::from_value(serde_json::to_value(&section).unwrap()).unwrap();
        assert_eq!(again.window, expected, "through JSON");
        assert_eq!(read(&toml::to_string(&section).unwrap()).unwrap(), expected, "through TOML");
    }
    for (text, expected) in [
        ("window = \"min-max\"", "did you mean `minmax`?"),
        ("window = { low = 3 }", "expected either `low` and `high`"),
        ("window = { low = 3, high = 3 }", "`low` is 3 and `high` is 3"),
        ("window = { centre = 3, width = 0.5 }", "the window's width is 0.5, expected at least 1"),
        ("window = { centre = 3, width = 0, function = \"sigmoid\" }", "expected more than 0"),
        ("window = { centre = 3, width = 5, low = 1 }", "expected either"),
        ("window = { percentile = [90, 10] }", "two rising numbers from 0 to 100"),
        ("window = { lo = 3, high = 4 }", "unknown field `lo`"),
        ("window = 5", "a name (file, full, minmax, percentile) or a table"),
    ] {
        let message = read(text).unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
}

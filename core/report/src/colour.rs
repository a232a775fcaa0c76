//! Colour maps: values to colours, safe for colour-blind readers.

use crate::inferno::INFERNO;

/// Red, green, blue in sRGB, 0 to 255.
pub type Rgb = [u8; 3];

/// The ends of [`diverging`]: blue for -1, off-white for 0, red for +1.
const ENDS: [Rgb; 3] = [[0x21, 0x66, 0xac], [0xf7, 0xf7, 0xf7], [0xb2, 0x18, 0x2b]];

/// A value in [0, 1] (clamped) as a colour of "inferno": black, purple, orange, pale yellow; perceptually uniform.
pub fn sequential(t: f32) -> Rgb {
    let [_, r, g, b] = INFERNO[(t.clamp(0.0, 1.0) * 255.0).round() as usize].to_be_bytes();
    [r, g, b]
}

/// A value in [-1, 1] (clamped) as a colour between blue (-1), off-white (0) and red (+1).
///
/// Between these the path is straight in Oklab (Ottosson 2020), so equal steps of the value look equally large and
/// both signs have the same weight. Blue and red stay apart in all common forms of colour blindness.
pub fn diverging(t: f32) -> Rgb {
    let t = f64::from(t.clamp(-1.0, 1.0));
    let (from, to) = (oklab(ENDS[1]), oklab(if t < 0.0 { ENDS[0] } else { ENDS[2] }));
    srgb(std::array::from_fn(|i| from[i] + (to[i] - from[i]) * t.abs()))
}

/// A colour map as the stops of a CSS gradient, `from` to `to`.
pub(crate) fn css_stops(map: fn(f32) -> Rgb, from: f32, to: f32) -> String {
    let stops = (0..=10).map(|i| {
        let [r, g, b] = map(from + (to - from) * i as f32 / 10.0);
        format!("#{r:02x}{g:02x}{b:02x}")
    });
    stops.collect::<Vec<_>>().join(",")
}

fn oklab(c: Rgb) -> [f64; 3] {
    let [r, g, b] = c.map(|v| {
        let v = f64::from(v) / 255.0;
        if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    });
    let l = (0.412_221_470_8 * r + 0.536_332_536_3 * g + 0.051_445_992_9 * b).cbrt();
    let m = (0.211_903_498_2 * r + 0.680_699_545_1 * g + 0.107_396_956_6 * b).cbrt();
    let s = (0.088_302_461_9 * r + 0.281_718_837_6 * g + 0.629_978_700_5 * b).cbrt();
    [
        0.210_454_255_3 * l + 0.793_617_785_0 * m - 0.004_072_046_8 * s,
        1.977_998_495_1 * l - 2.428_592_205_0 * m + 0.450_593_709_9 * s,
        0.025_904_037_1 * l + 0.782_771_766_2 * m - 0.808_675_766_0 * s,
    ]
}

fn srgb([l, a, b]: [f64; 3]) -> Rgb {
    let p = (l + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let q = (l - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let r = (l - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    [
        4.076_741_662_1 * p - 3.307_711_591_3 * q + 0.230_969_929_2 * r,
        -1.268_438_004_6 * p + 2.609_757_401_1 * q - 0.341_319_396_5 * r,
        -0.004_196_086_3 * p - 0.703_418_614_7 * q + 1.707_614_701_0 * r,
    ]
    .map(|v| {
        let v = v.clamp(0.0, 1.0);
        let v = if v <= 0.003_130_8 { v * 12.92 } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 };
        (v * 255.0).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diverging_meets_its_ends_and_is_neutral_at_zero() {
        assert_eq!(diverging(-1.0), ENDS[0]);
        assert_eq!(diverging(0.0), ENDS[1]);
        assert_eq!(diverging(1.0), ENDS[2]);
        assert_eq!(diverging(7.0), ENDS[2]);
    }

    #[test]
    fn oklab_of_known_colours() {
        // Ottosson 2020: white is (1, 0, 0); sRGB red is (0.627955, 0.224863, 0.125846).
        for (c, lab) in [([255, 255, 255], [1.0, 0.0, 0.0]), ([255, 0, 0], [0.627_955, 0.224_863, 0.125_846])]
        {
            for (a, b) in oklab(c).iter().zip(lab) {
                assert!((a - b).abs() < 1e-5, "{c:?}: {a} against {b}");
            }
        }
        for v in 0..=255u8 {
            let c = [v, 255 - v, v / 2];
            assert_eq!(srgb(oklab(c)), c);
        }
    }

    #[test]
    fn both_maps_change_lightness_monotonically() {
        let l = |c| oklab(c)[0];
        for i in 0..255 {
            let (a, b) = (i as f32 / 255.0, (i + 1) as f32 / 255.0);
            assert!(l(sequential(a)) < l(sequential(b)) + 1e-3);
            assert!(l(diverging(a)) > l(diverging(b)) - 6e-3);
            assert!(l(diverging(-a)) > l(diverging(-b)) - 6e-3);
        }
        assert_eq!(sequential(0.0), [0, 0, 4]);
        assert_eq!(sequential(1.0), [252, 255, 164]);
    }
}

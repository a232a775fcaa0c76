//! From arrays to pixels.
//!
//! A value v in [0, 1] is stored as round(255 v). Nothing here stretches contrast: two pictures of one report can be
//! compared by eye.

use crate::colour::{Rgb, diverging, sequential};
use image::{DynamicImage, GrayImage, RgbImage, RgbaImage};
use shiftlens_api::resize::{self, Filter};
use shiftlens_api::{Heatmap, Images, Result};

/// Opacity of the heatmap where the map is largest. Below 1, so that the anatomy stays visible.
const OPACITY: f32 = 0.7;

/// A value in [0, 1] as a byte.
pub(crate) fn byte(v: f32) -> u8 {
    (v.clamp(0.0, 1.0) * 255.0).round() as u8
}

fn rgb_image((h, w): (usize, usize), pixels: impl Iterator<Item = Rgb>) -> RgbImage {
    RgbImage::from_raw(w as u32, h as u32, pixels.flatten().collect()).expect("one colour per pixel")
}

/// Image `i` of a batch, 8 bits, grey or RGB as it is.
pub(crate) fn picture(x: &Images, i: usize) -> DynamicImage {
    let ((h, w), plane) = (x.size(), x.image(i));
    if x.channels() == 1 {
        let grey = plane.iter().map(|v| byte(*v)).collect();
        return GrayImage::from_raw(w as u32, h as u32, grey).expect("one value per pixel").into();
    }
    let n = h * w;
    rgb_image((h, w), (0..n).map(|p| [0, 1, 2].map(|c| byte(plane[c * n + p])))).into()
}

/// `to - from` of two `[1, C, H, W]` images as luma, in the diverging colour map, with the largest absolute difference:
/// it is the value of the map's two ends. Equal images give a neutral picture and 0.
pub(crate) fn difference(from: &Images, to: &Images) -> Result<(RgbImage, f32)> {
    let (from, to) = (from.with_channels(1)?, to.with_channels(1)?);
    let d: Vec<f32> = from.as_slice().iter().zip(to.as_slice()).map(|(a, b)| b - a).collect();
    let scale = largest(&d);
    Ok((signed(&d, from.size(), scale), scale))
}

/// A signed array in the diverging colour map, `±scale` at its ends.
fn signed(values: &[f32], size: (usize, usize), scale: f32) -> RgbImage {
    let unit = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    rgb_image(size, values.iter().map(|v| diverging(v * unit)))
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |m: f32, v| m.max(v.abs()))
}

/// A heatmap made visible in three ways.
pub(crate) struct Overlay {
    /// The map over the grey image, at the image's size.
    pub composed: RgbImage,
    /// The map alone at the image's size, transparent where it is 0.
    pub layer: RgbaImage,
    /// The map alone at its own size.
    pub raw: RgbImage,
}

/// A map's positive part as values from 0 to 1: 1 stands for its largest value, 0 for 0, or for its smallest value if
/// that is positive. A flat map is 0 everywhere.
fn positive(map: &Heatmap) -> Vec<f32> {
    let (low, high) = map.range();
    let floor = low.max(0.0);
    let unit = if high > floor { 1.0 / (high - floor) } else { 0.0 };
    map.as_slice().iter().map(|v| (v.max(floor) - floor) * unit).collect()
}

/// How strongly a map is drawn at each pixel of an image of `size`: [`positive`], brought to that size (bilinear,
/// half-pixel centres, in this order as Grad-CAM's ReLU comes before the enlarging).
///
/// Nothing is stretched after the enlarging, so both ends stand for values of the raw map, which the page prints.
/// Scaling first also keeps maps of very small or very large values inside f32's range while interpolating.
fn strength(map: &Heatmap, size: (usize, usize)) -> Vec<f32> {
    let t = resize::plane(&positive(map), map.size(), size, Filter::BilinearPlain);
    t.into_iter().map(|t| t.clamp(0.0, 1.0)).collect()
}

/// Draws a map over a `[1, C, H, W]` image.
///
/// With t the [`strength`], the colour is `sequential(t)` and the opacity 0.7 t. Negative values are transparent there,
/// and blue in `raw`, which has ±(largest absolute value) at its ends as soon as one value is negative.
pub(crate) fn overlay(image: &Images, map: &Heatmap) -> Result<Overlay> {
    let grey = image.with_channels(1)?;
    let size = image.size();
    let t = strength(map, size);
    let composed = rgb_image(
        size,
        t.iter().zip(grey.as_slice()).map(|(&t, &g)| {
            let a = OPACITY * t;
            sequential(t).map(|c| byte((1.0 - a) * g + a * f32::from(c) / 255.0))
        }),
    );
    let layer = t.iter().flat_map(|&t| {
        let [r, g, b] = sequential(t);
        [r, g, b, byte(OPACITY * t)]
    });
    let layer =
        RgbaImage::from_raw(size.1 as u32, size.0 as u32, layer.collect()).expect("one colour per pixel");
    let raw = if map.range().0 < 0.0 {
        signed(map.as_slice(), map.size(), largest(map.as_slice()))
    } else {
        rgb_image(map.size(), positive(map).into_iter().map(sequential))
    };
    Ok(Overlay { composed, layer, raw })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(size: (usize, usize), data: Vec<f32>) -> Images {
        Images::new([1, 1, size.0, size.1], data).unwrap()
    }

    #[test]
    fn pictures_keep_channels_and_round() {
        let x = Images::new([2, 3, 1, 1], vec![0.0, 0.0, 0.0, 0.2, 0.5, 1.0]).unwrap();
        assert_eq!(picture(&x, 1).to_rgb8().into_raw(), vec![51, 128, 255]);
        assert_eq!(picture(&grey((1, 2), vec![0.1, 0.9]), 0).to_luma8().into_raw(), vec![26, 230]);
    }

    #[test]
    fn difference_is_neutral_at_zero_and_full_at_its_scale() {
        let from = grey((1, 3), vec![0.5, 0.5, 0.5]);
        let (map, scale) = difference(&from, &grey((1, 3), vec![0.3, 0.5, 0.7])).unwrap();
        assert!((scale - 0.2).abs() < 1e-6);
        assert_eq!(map.into_raw(), [diverging(-1.0), diverging(0.0), diverging(1.0)].concat());
        let (map, scale) = difference(&from, &from).unwrap();
        assert_eq!((map.into_raw(), scale), (vec![0xf7; 9], 0.0));
    }

    #[test]
    fn overlay_in_closed_form() {
        // [0, 1] enlarged to four columns is [0, 1/4, 3/4, 1]; the strength scales colour and opacity.
        let image = grey((1, 4), vec![0.4; 4]);
        let o = overlay(&image, &Heatmap::new(1, 2, vec![0.0, 8.0]).unwrap()).unwrap();
        for (x, t) in [0.0f32, 0.25, 0.75, 1.0].into_iter().enumerate() {
            let c = sequential(t);
            let expected = c.map(|c| (102.0 * (1.0 - 0.7 * t) + 0.7 * t * f32::from(c)).round() as u8);
            assert_eq!(o.composed.get_pixel(x as u32, 0).0, expected, "column {x}");
            let [r, g, b, a] = o.layer.get_pixel(x as u32, 0).0;
            assert_eq!(([r, g, b], a), (c, (255.0 * 0.7 * t).round() as u8));
        }
        assert_eq!(o.composed.get_pixel(0, 0).0, [102; 3]);
        assert_eq!(o.raw.into_raw(), [sequential(0.0), sequential(1.0)].concat());
    }

    #[test]
    fn maps_are_enlarged_with_half_pixel_centres() {
        // A bilinear function a + b y + c x + d y x of the places of pixel centres is reproduced between the outermost
        // centres, whatever the sizes.
        let ((h, w), (oh, ow)) = ((5, 3), (17, 24));
        let at = |y: f64, x: f64| 0.1 + 0.04 * y + 0.2 * x + 0.03 * y * x;
        let values: Vec<f32> = (0..h * w).map(|p| at((p / w) as f64, (p % w) as f64) as f32).collect();
        let map = Heatmap::new(h, w, values).unwrap();
        let (low, high) = (f64::from(map.range().0), f64::from(map.range().1));
        let t = strength(&map, (oh, ow));
        for (p, t) in t.iter().enumerate() {
            let place = |o: usize, n: usize, out: usize| {
                ((o as f64 + 0.5) * n as f64 / out as f64 - 0.5).clamp(0.0, (n - 1) as f64)
            };
            let expected = (at(place(p / ow, h, oh), place(p % ow, w, ow)) - low) / (high - low);
            assert!((f64::from(*t) - expected).abs() < 1e-6, "pixel {p}: {t}, expected {expected}");
        }
    }

    #[test]
    fn the_scale_starts_at_zero_or_at_the_smallest_value() {
        let t = |values: [f32; 3]| positive(&Heatmap::new(1, 3, values.to_vec()).unwrap());
        assert_eq!(t([-2.0, 1.0, 4.0]), [0.0, 0.25, 1.0]);
        assert_eq!(t([0.0, 1.0, 4.0]), [0.0, 0.25, 1.0]);
        assert_eq!(t([2.0, 3.0, 4.0]), [0.0, 0.5, 1.0]);
        assert_eq!(t([2.0, 2.0, 2.0]), [0.0; 3]);
        assert_eq!(t([-2.0, -1.0, -3.0]), [0.0; 3]);
    }

    #[test]
    fn a_map_is_drawn_as_pytorch_grad_cam_scales_it() {
        // See tests/fixtures/README.md: a raw map [8, 8], then the same map scaled to [64, 64].
        let bytes = include_bytes!("../tests/fixtures/gradcam_scaled.f32");
        let values: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let (raw, scaled) = values.split_at(64);
        let map = Heatmap::new(8, 8, raw.to_vec()).unwrap();
        assert!(map.range().0 < 0.0);
        let t = strength(&map, (64, 64));
        // The reference stretches the enlarged map to [0, 1] once more, which would hide the raw map's scale here.
        let (low, high) =
            t.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
        assert!(low < 0.1 && high > 0.9);
        for (t, expected) in t.iter().zip(scaled) {
            let stretched = (t - low) / (high - low);
            assert!((stretched - expected).abs() < 1e-5, "{stretched}, expected {expected}");
        }
    }

    #[test]
    fn a_signed_map_shows_its_positive_part_over_the_image_and_both_alone() {
        let image = grey((1, 2), vec![1.0, 0.0]);
        let o = overlay(&image, &Heatmap::new(1, 2, vec![-4.0, 2.0]).unwrap()).unwrap();
        assert_eq!(o.composed.get_pixel(0, 0).0, [255; 3]);
        assert_eq!(o.layer.get_pixel(0, 0).0[3], 0);
        assert_eq!(o.raw.into_raw(), [diverging(-1.0), diverging(0.5)].concat());
        let o = overlay(&image, &Heatmap::new(1, 1, vec![-1.0]).unwrap()).unwrap();
        assert_eq!(o.composed.into_raw(), [[255; 3], [0; 3]].concat());
        let o = overlay(&image, &Heatmap::new(1, 2, vec![1e-38, 1e38]).unwrap()).unwrap();
        assert_eq!(o.layer.get_pixel(1, 0).0[3], 179);
    }
}

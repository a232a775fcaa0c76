//! The random parameters of each image.

use super::pipeline::Pipeline;
use crate::rng::Rng;
use std::f64::consts::PI;

/// Noise added to an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Standard deviation.
    pub sigma: f64,
    /// Where the numbers come from.
    pub seed: u64,
}

/// How one image is transformed. Lengths are pixels, x goes to the right and y down.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Mirror image.
    pub flip: bool,
    /// Quarter turns, 0 to 3, clockwise.
    pub quarter_turns: u8,
    /// Shift by whole pixels.
    pub shift: [i32; 2],
    /// Scale of both axes.
    pub scale: f64,
    /// Angles of the rotations before and after the stretch, in radians, clockwise.
    pub rotation: [f64; 2],
    /// Factor of x, and of y its inverse.
    pub stretch: f64,
    /// Shift.
    pub translation: [f64; 2],
    /// Added to every channel.
    pub brightness: f64,
    /// Factor of every channel.
    pub contrast: f64,
    /// Dark and bright change places.
    pub luma_flip: bool,
    /// Angle about the luma axis, in radians.
    pub hue: f64,
    /// Factor of what is not luma.
    pub saturation: f64,
    /// Gains of the four bands, from low to high frequencies.
    pub gains: [f64; 4],
    /// Noise.
    pub noise: Option<Noise>,
    /// Centre of the square cut out, in sides of the image.
    pub cutout: Option<[f64; 2]>,
}

impl Default for Sample {
    /// Nothing changes.
    fn default() -> Self {
        Self {
            flip: false,
            quarter_turns: 0,
            shift: [0; 2],
            scale: 1.0,
            rotation: [0.0; 2],
            stretch: 1.0,
            translation: [0.0; 2],
            brightness: 0.0,
            contrast: 1.0,
            luma_flip: false,
            hue: 0.0,
            saturation: 1.0,
            gains: [1.0; 4],
            noise: None,
            cutout: None,
        }
    }
}

/// The parameters of a batch, one entry an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// One entry an image.
    pub samples: Vec<Sample>,
}

/// Expected power of the bands: images fall off as 1/f (appendix B).
const POWER: [f64; 4] = [10.0 / 13.0, 1.0 / 13.0, 1.0 / 13.0, 1.0 / 13.0];

impl Sample {
    /// Draws for an image of `side` pixels a side. Every random number is drawn whether it is used or not.
    pub(super) fn draw(pipeline: &Pipeline, side: usize, p: f64, rng: &mut Rng) -> Self {
        let (s, side) = (&pipeline.strength, side as f64);
        let probability = |multiplier: f64| (p * multiplier).min(1.0);
        let mut out = Self::default();
        let flip = rng.coin();
        if hit(rng, probability(pipeline.x_flip)) {
            out.flip = flip;
        }
        let turns = rng.below(4) as u8;
        if hit(rng, probability(pipeline.rotate_90)) {
            out.quarter_turns = turns;
        }
        let shift = [(); 2].map(|()| (between(rng, s.integer_translation) * side).round() as i32);
        if hit(rng, probability(pipeline.integer_translation)) {
            out.shift = shift;
        }
        let scale = octaves(rng, s.isotropic_scaling);
        if hit(rng, probability(pipeline.isotropic_scaling)) {
            out.scale = scale;
        }
        // The chance of at least one of the two rotations is p.
        let either = 1.0 - (1.0 - probability(pipeline.rotation)).sqrt();
        let angle = between(rng, s.rotation) * PI;
        if hit(rng, either) {
            out.rotation[0] = angle;
        }
        let stretch = octaves(rng, s.anisotropic_scaling);
        if hit(rng, probability(pipeline.anisotropic_scaling)) {
            out.stretch = stretch;
        }
        let angle = between(rng, s.rotation) * PI;
        if hit(rng, either) {
            out.rotation[1] = angle;
        }
        let translation = [(); 2].map(|()| f64::from(rng.normal()) * s.fractional_translation * side);
        if hit(rng, probability(pipeline.fractional_translation)) {
            out.translation = translation;
        }
        let brightness = f64::from(rng.normal()) * s.brightness;
        if hit(rng, probability(pipeline.brightness)) {
            out.brightness = brightness;
        }
        let contrast = octaves(rng, s.contrast);
        if hit(rng, probability(pipeline.contrast)) {
            out.contrast = contrast;
        }
        let flip = rng.coin();
        if hit(rng, probability(pipeline.luma_flip)) {
            out.luma_flip = flip;
        }
        let hue = between(rng, s.hue_rotation) * PI;
        if hit(rng, probability(pipeline.hue_rotation)) {
            out.hue = hue;
        }
        let saturation = octaves(rng, s.saturation);
        if hit(rng, probability(pipeline.saturation)) {
            out.saturation = saturation;
        }
        for (band, multiplier) in s.image_filter_bands.iter().enumerate() {
            let gain = octaves(rng, s.image_filter);
            if hit(rng, probability(pipeline.image_filter * multiplier)) {
                amplify(&mut out.gains, band, gain);
            }
        }
        let noise = Noise { sigma: f64::from(rng.normal()).abs() * s.noise, seed: rng.seed() };
        if hit(rng, probability(pipeline.noise)) {
            out.noise = Some(noise);
        }
        let centre = [(); 2].map(|()| rng.uniform());
        if hit(rng, probability(pipeline.cutout)) {
            out.cutout = Some(centre);
        }
        out
    }
}

/// True with probability p.
fn hit(rng: &mut Rng, p: f64) -> bool {
    rng.uniform() < p
}

/// U(-most, most).
fn between(rng: &mut Rng, most: f64) -> f64 {
    (2.0 * rng.uniform() - 1.0) * most
}

/// A factor whose logarithm is normal, with a standard deviation in octaves.
fn octaves(rng: &mut Rng, deviation: f64) -> f64 {
    (f64::from(rng.normal()) * deviation).exp2()
}

/// Multiplies one band's gain, and all of them such that the expected power stays.
fn amplify(gains: &mut [f64; 4], band: usize, gain: f64) {
    let power = 1.0 + POWER[band] * (gain * gain - 1.0);
    for (i, g) in gains.iter_mut().enumerate() {
        *g *= if i == band { gain } else { 1.0 } / power.sqrt();
    }
}

//! The six latent factors and what each means in the picture.

/// D: the length of a code.
pub const FACTORS: usize = 6;
/// Index of the joint-space width: a higher value widens the gap between femur and tibia.
pub const JOINT_SPACE: usize = 0;
/// Index of the osteophyte size: a higher value lengthens the spurs at the joint's four margins.
pub const OSTEOPHYTES: usize = 1;
/// Index of the bone density: a higher value brightens bone, and bone alone.
pub const DENSITY: usize = 2;
/// Index of the rotation: a higher value turns the leg clockwise in the picture's plane.
pub const ROTATION: usize = 3;
/// Index of the exposure: a higher value brightens the whole picture.
pub const EXPOSURE: usize = 4;
/// Index of the noise: a higher value scales up a fixed grain.
pub const NOISE: usize = 5;
/// The factors' names in the order of a code.
pub const NAMES: [&str; FACTORS] =
    ["joint-space width", "osteophyte size", "bone density", "rotation", "exposure", "noise"];

/// One code of W: six independent standard normal factors.
pub type Code = [f32; FACTORS];

/// No factor acts beyond this value, however far a code is shifted.
pub const LIMIT: f32 = 4.0;

/// Limits a factor smoothly to ±[`LIMIT`]: `w / (1 + (w / 4)^8)^(1/8)`.
///
/// Strictly increasing, and within 0.3 % of `w` for |w| <= 2.5.
pub fn squash(w: f32) -> f32 {
    // Beyond 1e3 the eighth power would overflow, and the limit is reached to the last bit anyway.
    let w = w.clamp(-1e3, 1e3);
    let t = (w / LIMIT).powi(8);
    w / (1.0 + t).sqrt().sqrt().sqrt()
}

/// A code as quantities of the picture. Lengths are in half image widths: 1 is half the width, 1/64 is a pixel of a
/// 128-pixel picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Anatomy {
    /// Distance between the femoral condyles and the tibial plateau.
    pub gap: f32,
    /// Length of an osteophyte.
    pub spur: f32,
    /// Bone's attenuation relative to the average knee.
    pub density: f32,
    /// Clockwise turn about the joint's centre, in radians.
    pub angle: f32,
    /// Brightness relative to the average exposure.
    pub gain: f32,
    /// Amplitude of the grain at mid grey, before interpolation smooths it.
    pub grain: f32,
}

impl Anatomy {
    /// What `code` stands for, each quantity a strictly increasing function of its own factor.
    pub fn new(code: &Code) -> Self {
        let s = code.map(squash);
        Self {
            gap: 0.110 + 0.021 * s[JOINT_SPACE],
            spur: 0.085 * (0.25 * s[OSTEOPHYTES]).exp(),
            density: (0.13 * s[DENSITY]).exp(),
            angle: (2.0 * s[ROTATION]).to_radians(),
            gain: (0.10 * s[EXPOSURE]).exp(),
            grain: 0.030 * (0.45 * s[NOISE]).exp(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_squash_is_the_identity_in_the_middle_and_stops_at_the_limit() {
        for i in -25..=25 {
            let w = i as f32 / 10.0;
            assert!((squash(w) - w).abs() <= 0.003 * w.abs() + 1e-6, "{w}: {}", squash(w));
        }
        for w in [4.0, 10.0, 1e3, 1e30, f32::MAX] {
            assert!(squash(w) <= LIMIT * 1.000_001 && squash(-w) == -squash(w));
        }
        let values: Vec<f32> = (0..160).map(|i| squash(-8.0 + 0.1 * i as f32)).collect();
        assert!(values.windows(2).all(|v| v[0] < v[1]));
    }

    #[test]
    fn quantities_stay_physical_at_the_limit() {
        let (low, high) = (Anatomy::new(&[-100.0; FACTORS]), Anatomy::new(&[100.0; FACTORS]));
        assert!(low.gap > 0.02 && high.gap < 0.2);
        assert!(low.spur > 0.02 && high.spur < 0.25);
        assert!(high.angle < 0.15 && low.angle > -0.15);
        // The grain can then never push a pixel out of [0, 1]: see `render`.
        assert!(4.0 * high.grain < 1.0);
    }
}

//! From a code to pixels.
//!
//! ```text
//! attenuation  A = soft tissue + density * bone
//! brightness   I = squash(gain * A),   squash(a) = a / (1 + a^4)^(1/4)  in [0, 1)
//! pixel        P = I + 4 I (1 - I) * grain * field,   field a fixed pattern in [-1, 1]
//! ```
//!
//! With `4 * grain < 1` a pixel stays in [0, 1] without clipping, so the picture is smooth in every factor. The
//! grain is one fixed pattern: along a shift it grows and shrinks but never flickers.

use crate::factors::{Anatomy, Code};
use crate::shape::{bump, femur, fibula, patella, tibia};
use crate::texture::Texture;

/// Height of the joint's centre in the picture, in half image widths below the middle.
pub const JOINT_HEIGHT: f32 = 0.06;
/// Half-width of a blurred edge: the imaging system's unsharpness.
const UNSHARPNESS: f32 = 0.024;

/// Soft tissue and bone attenuation at one place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attenuation {
    /// Muscle, fat and skin.
    pub soft: f32,
    /// All bones at average density.
    pub bone: f32,
}

/// Renders square pictures of one size.
#[derive(Debug, Clone)]
pub struct Renderer {
    size: usize,
    /// Half-width of an anti-aliased edge.
    edge: f32,
    trabeculae: Texture,
    field: Vec<f32>,
}

impl Renderer {
    /// A renderer of `size` x `size` pictures.
    pub fn new(size: usize) -> Self {
        let (fine, coarse) = (Texture::new(0x6772_6169_6e31), Texture::new(0x6772_6169_6e32));
        let mut field = Vec::with_capacity(size * size);
        for row in 0..size {
            for column in 0..size {
                let (u, v) = centre(size, column, row);
                // Cells of 1.75 and 4 pixels at 128 pixels: coarse enough to survive resizing.
                field.push(
                    0.7 * fine.at(36.6 * (u + 1.0), 36.6 * (v + 1.0))
                        + 0.3 * coarse.at(16.0 * (u + 1.0), 16.0 * (v + 1.0)),
                );
            }
        }
        let pixel = 2.0 / size as f32;
        Self {
            size,
            edge: (UNSHARPNESS * UNSHARPNESS + pixel * pixel).sqrt(),
            trabeculae: Texture::new(0x7472_6162_6563),
            field,
        }
    }
    /// Height and width in pixels.
    pub fn size(&self) -> usize {
        self.size
    }
    /// The fixed grain pattern, row-major `[size, size]`, in [-1, 1].
    pub fn field(&self) -> &[f32] {
        &self.field
    }
    /// G(w): row-major `[size, size]`, values in [0, 1].
    pub fn render(&self, code: &Code) -> Vec<f32> {
        let anatomy = Anatomy::new(code);
        let pose = Pose::new(&anatomy);
        (0..self.size * self.size)
            .map(|i| {
                let a = self.attenuation(&pose, i);
                develop(&anatomy, a, self.field[i])
            })
            .collect()
    }
    /// Attenuation at pixel `index` (row-major).
    pub fn attenuation(&self, pose: &Pose, index: usize) -> Attenuation {
        let (u, v) = centre(self.size, index % self.size, index / self.size);
        let v = v - JOINT_HEIGHT;
        let (x, y) = (u * pose.cos + v * pose.sin, v * pose.cos - u * pose.sin);
        Attenuation { soft: soft_tissue(x, y), bone: self.bone(pose, x, y) }
    }
    /// All bones at (x, y) of the leg.
    fn bone(&self, pose: &Pose, x: f32, y: f32) -> f32 {
        let (qf, qt) = (y + 0.5 * pose.gap, y - 0.5 * pose.gap);
        let mut sum = 0.0;
        if qf < 0.2 {
            let d = femur(x, qf, pose.spur);
            if d > -self.edge {
                let scar = 0.035 * bump((qf + 0.36 - 0.10 * (x * x)) / 0.03);
                let trochlea =
                    0.05 * bump((x.abs() - 0.235 - 0.10 * (qf + 0.2)) / 0.03) * bump((qf + 0.24) / 0.22);
                sum += self.solid(d, 0.30, 0.085) * (1.0 + self.grain_of_bone(x, qf, d))
                    + fade(d) * (scar + trochlea);
            }
            let d = patella(x, qf);
            if d > -self.edge {
                sum += self.solid(d, 0.06, 0.035);
            }
        }
        if qt > -0.2 {
            let d = tibia(x, qt, pose.spur);
            if d > -self.edge {
                let scar = 0.03 * bump((qt - 0.30 + 0.08 * x * x) / 0.03);
                sum +=
                    self.solid(d, 0.29, 0.12) * (1.0 + self.grain_of_bone(x, qt + 3.0, d)) + fade(d) * scar;
            }
            if x > 0.3 {
                let d = fibula(x, qt);
                if d > -self.edge {
                    sum += self.solid(d, 0.10, 0.08);
                }
            }
        }
        sum
    }
    /// Attenuation at depth `d` of a bone: an anti-aliased edge, a bright cortical rim, marrow that thickens inward.
    fn solid(&self, d: f32, marrow: f32, rim: f32) -> f32 {
        let t = (0.5 + 0.5 * d / self.edge).clamp(0.0, 1.0);
        let coverage = t * t * (3.0 - 2.0 * t);
        let depth = d.max(0.0);
        coverage * (marrow * (0.62 + 0.38 * depth / (depth + 0.08)) + rim) + rim * bump((d - 0.022) / 0.042)
    }
    /// Relative texture of cancellous bone: strands along the leg, absent in the cortex.
    fn grain_of_bone(&self, x: f32, q: f32, d: f32) -> f32 {
        let strands = self.trabeculae.at(30.0 * x + 2.0 * q, 9.0 * q);
        let clouds = self.trabeculae.at(7.0 * x + 31.5, 5.0 * q + 17.5);
        let fine = self.trabeculae.at(44.0 * x + 50.0, 30.0 * q);
        fade(d) * (0.15 * strands + 0.15 * clouds + 0.12 * fine)
    }
}

/// 0 in the cortex, 1 deep inside a bone.
fn fade(d: f32) -> f32 {
    let t = ((d - 0.04) / 0.12).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A pixel's centre, [-1, 1] rightwards and downwards.
fn centre(size: usize, column: usize, row: usize) -> (f32, f32) {
    let scale = 2.0 / size as f32;
    ((column as f32 + 0.5) * scale - 1.0, (row as f32 + 0.5) * scale - 1.0)
}

/// Soft tissue: a leg that thins towards its outline, narrower below the knee, on a dark background.
fn soft_tissue(x: f32, y: f32) -> f32 {
    let half_width = 0.96 - 0.07 * y - 0.05 * bump((y - 0.45) / 0.7);
    let t = 1.0 - (x / half_width).powi(2);
    let inside = t.max(0.0);
    0.04 + 0.25 * inside * (2.0 - inside) + 0.02 * bump(x / 0.9) * (1.0 - 0.5 * y)
}

/// The parts of an [`Anatomy`] that move bones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    gap: f32,
    spur: f32,
    sin: f32,
    cos: f32,
}

impl Pose {
    /// The pose of `anatomy`.
    pub fn new(anatomy: &Anatomy) -> Self {
        let (sin, cos) = anatomy.angle.sin_cos();
        Self { gap: anatomy.gap, spur: anatomy.spur, sin, cos }
    }
}

/// A pixel's value from its attenuation and the grain field there.
pub fn develop(anatomy: &Anatomy, a: Attenuation, field: f32) -> f32 {
    let i = shoulder(anatomy.gain * (a.soft + anatomy.density * a.bone));
    i + 4.0 * i * (1.0 - i) * anatomy.grain * field
}

/// `a / (1 + a^4)^(1/4)`: nearly linear up to mid grey, never reaching white.
fn shoulder(a: f32) -> f32 {
    let a2 = a * a;
    a / (1.0 + a2 * a2).sqrt().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factors::{DENSITY, EXPOSURE, FACTORS, JOINT_SPACE, NOISE, OSTEOPHYTES, ROTATION};

    fn with(factor: usize, value: f32) -> Code {
        let mut code = [0.0; FACTORS];
        code[factor] = value;
        code
    }

    #[test]
    fn each_factor_changes_only_what_it_says() {
        let renderer = Renderer::new(64);
        let base = renderer.render(&[0.0; FACTORS]);
        let change = |factor: usize, region: &dyn Fn(usize, usize) -> bool| -> f32 {
            let picture = renderer.render(&with(factor, 1.0));
            let inside = |i: &usize| region(i % 64, i / 64);
            (0..64 * 64).filter(inside).map(|i| (picture[i] - base[i]).abs()).fold(0.0, f32::max)
        };
        // Spurs: nothing in the middle. Density: nothing but bone, so not the gap's middle and not the skin.
        assert_eq!(change(OSTEOPHYTES, &|x, _| (19..45).contains(&x)), 0.0);
        assert!(change(OSTEOPHYTES, &|_, y| (30..38).contains(&y)) > 0.1);
        assert!(change(DENSITY, &|x, y| x < 6 || ((20..24).contains(&x) && y == 33)) < 1e-3);
        assert!(change(DENSITY, &|x, y| (28..36).contains(&x) && y < 20) > 0.03);
        assert!(change(JOINT_SPACE, &|x, _| x < 4) < 1e-6);
        assert!(change(JOINT_SPACE, &|_, y| (30..38).contains(&y)) > 0.05);
        assert!(change(ROTATION, &|_, _| true) > 0.1);
        // Exposure: everything gets brighter, everywhere.
        let bright = renderer.render(&with(EXPOSURE, 1.0));
        assert!(bright.iter().zip(&base).all(|(a, b)| a > b));
        // Noise: the change is proportional to the fixed field, and the field is fair.
        let grain = renderer.render(&with(NOISE, 1.0));
        for ((g, b), f) in grain.iter().zip(&base).zip(renderer.field()) {
            assert!((g - b) * f >= -1e-6);
        }
        let mean = renderer.field().iter().sum::<f32>() / (64.0 * 64.0);
        assert!(mean.abs() < 0.02, "{mean}");
    }

    #[test]
    fn pictures_are_smooth_in_every_factor() {
        let renderer = Renderer::new(64);
        for factor in 0..FACTORS {
            let base = renderer.render(&with(factor, 0.4));
            let step = |h: f32| -> f32 {
                let moved = renderer.render(&with(factor, 0.4 + h));
                moved.iter().zip(&base).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt()
            };
            let ratio = step(0.02) / step(0.01);
            assert!(
                (ratio - 2.0).abs() < 0.05,
                "factor {factor}: halving the step divides the change by {ratio}"
            );
        }
    }

    #[test]
    fn sizes_agree_on_the_anatomy() {
        let (small, large) =
            (Renderer::new(64).render(&[0.0; FACTORS]), Renderer::new(128).render(&[0.0; FACTORS]));
        let mut difference = 0.0;
        for (i, v) in small.iter().enumerate() {
            let (x, y) = (2 * (i % 64), 2 * (i / 64));
            let block = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(dy, dx)| large[(y + dy) * 128 + x + dx]);
            difference += (v - block.iter().sum::<f32>() / 4.0).abs();
        }
        assert!(difference / 4096.0 < 0.01, "{difference}");
    }
}

//! The bones as approximate signed distance fields.
//!
//! Coordinates: the joint's centre is the origin, x points right, y down, 1 is half the picture's width. A field
//! is positive inside the bone and close to the distance from its outline there. Femur and tibia have their own
//! height `q`, which is 0 at their joint surface, so that the joint opens by moving both apart.

/// Value and derivative of the bump `(1 - t^2)^2` on |t| < 1, 0 elsewhere.
fn bump_with_slope(t: f32) -> (f32, f32) {
    let b = (1.0 - t * t).max(0.0);
    (b * b, -4.0 * t * b)
}

/// The bump `(1 - t^2)^2` on |t| < 1, 0 elsewhere.
pub fn bump(t: f32) -> f32 {
    bump_with_slope(t).0
}

/// Intersection of two fields with a corner rounded over the width `k`.
pub fn smooth_min(a: f32, b: f32, k: f32) -> f32 {
    let h = (k - (a - b).abs()).max(0.0);
    a.min(b) - h * h / (4.0 * k)
}

/// Union of two fields with a corner filled over the width `k`.
pub fn smooth_max(a: f32, b: f32, k: f32) -> f32 {
    -smooth_min(-a, -b, k)
}

/// The line that both joint surfaces follow, `-0.5 (x^2 - 0.16)^2`, and its slope: a shallow dish under each condyle.
fn joint_line(x: f32) -> (f32, f32) {
    let t = x * x - 0.16;
    (-0.5 * t * t, -2.0 * t * x)
}

/// A spur that starts in the bone at `from`, ends at `to` and thins from radius `r0` to `r1`.
fn spur(x: f32, y: f32, from: (f32, f32), to: (f32, f32), r0: f32, r1: f32) -> f32 {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let (px, py) = (x - from.0, y - from.1);
    let t = ((px * dx + py * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
    let (ex, ey) = (px - t * dx, py - t * dy);
    r0 + t * (r1 - r0) - (ex * ex + ey * ey).sqrt()
}

/// Distal femur: a shaft that flares into two condyles with the intercondylar notch between them.
/// `q` is 0 at the condyles' joint surface and negative above it.
pub fn femur(x: f32, q: f32, spur_length: f32) -> f32 {
    let (line, line_slope) = joint_line(x);
    let (notch, notch_slope) = bump_with_slope((x + 0.02) / 0.25);
    let slope = line_slope - 0.21 / 0.25 * notch_slope;
    let surface = (line - 0.21 * notch - q) / (1.0 + slope * slope).sqrt();

    let flare = (-((q + 0.24) / 0.38).powi(2)).exp();
    let width = 0.47 + 0.22 * flare;
    let width_slope = -2.0 * (q + 0.24) / (0.38 * 0.38) * 0.22 * flare;
    let side = (width - x.abs()) / (1.0 + width_slope * width_slope).sqrt();

    let bone = smooth_min(surface, side, 0.20);
    let l = if x < 0.0 { spur_length } else { 0.8 * spur_length };
    let osteophyte =
        spur(x.abs(), q, (0.54, -0.115), (0.60 + l, -0.075 - 0.25 * l), 0.040 + 0.15 * l, 0.012 + 0.08 * l);
    smooth_max(bone, osteophyte, 0.05)
}

/// Proximal tibia: the plateau with its two spines, tapering into the shaft.
/// `q` is 0 at the plateau's joint surface and positive below it.
pub fn tibia(x: f32, q: f32, spur_length: f32) -> f32 {
    let (line, line_slope) = joint_line(x);
    let (medial, medial_slope) = bump_with_slope((x + 0.085) / 0.12);
    let (lateral, lateral_slope) = bump_with_slope((x - 0.07) / 0.11);
    let slope = line_slope - 0.085 / 0.12 * medial_slope - 0.07 / 0.11 * lateral_slope;
    let surface = (q - line + 0.085 * medial + 0.07 * lateral) / (1.0 + slope * slope).sqrt();

    let taper = (-(q / 0.40).powi(2)).exp();
    let width = 0.42 + 0.255 * taper;
    let width_slope = -2.0 * q / (0.40 * 0.40) * 0.255 * taper;
    let side = (width - x.abs()) / (1.0 + width_slope * width_slope).sqrt();

    let bone = smooth_min(surface, side, 0.07);
    let l = if x < 0.0 { spur_length } else { 0.8 * spur_length };
    let osteophyte =
        spur(x.abs(), q, (0.58, 0.055), (0.635 + l, 0.005 + 0.15 * l), 0.040 + 0.15 * l, 0.012 + 0.08 * l);
    smooth_max(bone, osteophyte, 0.05)
}

/// Fibula: its head beside the tibia and the shaft below. `q` as for the tibia, with which it moves.
pub fn fibula(x: f32, q: f32) -> f32 {
    let head = spur(x, q, (0.60, 0.36), (0.66, 0.56), 0.125, 0.10);
    let shaft = spur(x, q, (0.655, 0.52), (0.68, 1.60), 0.085, 0.07);
    smooth_max(head, shaft, 0.06)
}

/// Patella, seen through the femur: an ellipse. `q` as for the femur, with which it moves.
pub fn patella(x: f32, q: f32) -> f32 {
    let (a, b) = (0.34, 0.30);
    let (px, py) = ((x - 0.03) / a, (q + 0.64) / b);
    (1.0 - (px * px + py * py).sqrt()) * b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_of_the_outline_match_finite_differences() {
        for i in -9..=9 {
            let t = i as f32 / 10.0;
            let h = 1e-3;
            let d = (bump(t + h) - bump(t - h)) / (2.0 * h);
            assert!((bump_with_slope(t).1 - d).abs() < 1e-2);
            let d = (joint_line(t + h).0 - joint_line(t - h).0) / (2.0 * h);
            assert!((joint_line(t).1 - d).abs() < 1e-2);
        }
    }

    #[test]
    fn joint_surfaces_meet_at_height_zero_under_both_condyles() {
        for x in [-0.4, -0.35, 0.35, 0.4] {
            let line = joint_line(x).0;
            for shape in [femur, tibia] {
                assert!(shape(x, line, 0.08).abs() < 5e-3, "{x}");
            }
            assert!(femur(x, line - 0.05, 0.08) > 0.02 && tibia(x, line + 0.05, 0.08) > 0.02);
        }
    }

    #[test]
    fn longer_spurs_reach_further_and_leave_the_joint_surfaces_alone() {
        for shape in [femur, tibia] {
            let reach = |l: f32| {
                let inside = |i: &i32| (-24..24).any(|j| shape(*i as f32 / 400.0, j as f32 / 200.0, l) > 0.0);
                (0..400).rev().find(inside).unwrap()
            };
            let reaches = [0.03, 0.06, 0.09, 0.12, 0.18, 0.24].map(reach);
            assert!(reaches.windows(2).all(|r| r[0] < r[1]), "{reaches:?}");
            for (x, q) in [(-0.45, 0.01), (-0.3, -0.02), (0.3, 0.0), (0.45, -0.01)] {
                assert_eq!(shape(x, q, 0.03), shape(x, q, 0.24));
            }
        }
    }

    #[test]
    fn smooth_minimum_is_the_minimum_away_from_the_corner() {
        assert_eq!(smooth_min(0.1, 0.5, 0.2), 0.1);
        assert_eq!(smooth_max(0.1, 0.5, 0.2), 0.5);
        assert!((smooth_min(0.3, 0.3, 0.2) - 0.25).abs() < 1e-6);
    }
}

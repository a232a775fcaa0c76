//! Affine maps of the plane.

use super::params::Sample;

/// `(x, y)` to `(a x + b y + c, d x + e y + f)` as `[[a, b, c], [d, e, f]]`. Angles turn x towards y.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Affine(pub [[f64; 3]; 2]);

impl Affine {
    pub const IDENTITY: Self = Self::scaling(1.0, 1.0);

    const fn scaling(x: f64, y: f64) -> Self {
        Self([[x, 0.0, 0.0], [0.0, y, 0.0]])
    }
    fn rotation(angle: f64) -> Self {
        let (sin, cos) = angle.sin_cos();
        Self([[cos, -sin, 0.0], [sin, cos, 0.0]])
    }
    /// Without the rounding of a sine.
    fn quarter_turns(turns: u8) -> Self {
        let (sin, cos) = [(0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0)][usize::from(turns % 4)];
        Self([[cos, -sin, 0.0], [sin, cos, 0.0]])
    }
    pub fn translation([x, y]: [f64; 2]) -> Self {
        Self([[1.0, 0.0, x], [0.0, 1.0, y]])
    }
    /// Where a point goes.
    pub fn at(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        self.0.map(|[a, b, c]| a * x + b * y + c)
    }
    /// This map, then `next`.
    pub fn then(&self, next: &Self) -> Self {
        let [s, t] = self.0;
        Self(next.0.map(|[a, b, c]| [a * s[0] + b * t[0], a * s[1] + b * t[1], a * s[2] + b * t[2] + c]))
    }
    /// The inverse; the map must have one.
    pub fn inverse(&self) -> Self {
        let [[a, b, c], [d, e, f]] = self.0;
        let det = a * e - b * d;
        let (a, b, d, e) = (e / det, -b / det, -d / det, a / det);
        Self([[a, b, -(a * c + b * f)], [d, e, -(d * c + e * f)]])
    }
    /// Where the content of an image goes by the blitting of its parameters, and by all of them, the image's centre at 0.
    pub fn of(sample: &Sample) -> (Self, Self) {
        let blit = Self::scaling(if sample.flip { -1.0 } else { 1.0 }, 1.0)
            .then(&Self::quarter_turns(sample.quarter_turns))
            .then(&Self::translation(sample.shift.map(f64::from)));
        let all = blit
            .then(&Self::scaling(sample.scale, sample.scale))
            .then(&Self::rotation(sample.rotation[0]))
            .then(&Self::scaling(sample.stretch, 1.0 / sample.stretch))
            .then(&Self::rotation(sample.rotation[1]))
            .then(&Self::translation(sample.translation));
        (blit, all)
    }
}

//! Analysis by synthesis: the code whose picture is nearest to a given one.
//!
//! Levenberg-Marquardt on `sum_p huber(P_p(w) - x_p)` over a set of pixels (Levenberg 1944, Marquardt 1963; the
//! Huber loss by iteratively reweighted least squares, Huber 1964), so that a marker or a foreign bone in the
//! picture does not pull the whole fit.

use crate::factors::{Anatomy, Code, FACTORS, JOINT_SPACE, OSTEOPHYTES, ROTATION};
use crate::render::{Attenuation, Pose, Renderer, develop};

/// Codes are looked for within this many standard deviations; beyond it the picture hardly changes.
const BOUND: f32 = 5.0;
/// Residuals above this count linearly instead of squared.
const HUBER: f32 = 0.1;
/// Step of the forward differences, in standard deviations.
const STEP: f32 = 0.02;
/// A fit stands once no factor moves by more than this.
const CONVERGED: f32 = 2e-4;

type Vector = [f64; FACTORS];
type Matrix = [Vector; FACTORS];

/// A code and how well its picture agrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// The code.
    pub code: Code,
    /// Mean Huber loss over the pixels.
    pub loss: f64,
}

/// Improves `start` in at most `iterations` steps. `pixels` are row-major indices into `image` and into pictures of
/// `renderer`.
pub fn fit(renderer: &Renderer, pixels: &[usize], image: &[f32], start: Code, iterations: usize) -> Fit {
    let mut state = State::new(renderer, pixels, image, start);
    let mut damping = 1e-3;
    for _ in 0..iterations {
        let (hessian, gradient) = state.normal_equations(renderer, pixels);
        let mut moved = 0.0f32;
        // A rejected step costs one rendering; eight in a row mean that the loss is at its floor.
        for _ in 0..8 {
            let step = damped_step(&hessian, &gradient, damping);
            let code: Code = std::array::from_fn(|i| (state.code[i] + step[i] as f32).clamp(-BOUND, BOUND));
            let next = State::new(renderer, pixels, image, code);
            if next.loss < state.loss {
                moved = code.iter().zip(&state.code).fold(0.0, |m, (a, b)| m.max((a - b).abs()));
                state = next;
                damping = (0.1 * damping).max(1e-9);
                break;
            }
            damping *= 8.0;
        }
        if moved < CONVERGED {
            break;
        }
    }
    Fit { code: state.code, loss: state.loss / pixels.len() as f64 }
}

/// A code with its picture at the pixels.
struct State {
    code: Code,
    attenuation: Vec<Attenuation>,
    values: Vec<f32>,
    residuals: Vec<f32>,
    loss: f64,
}

impl State {
    fn new(renderer: &Renderer, pixels: &[usize], image: &[f32], code: Code) -> Self {
        let anatomy = Anatomy::new(&code);
        let attenuation = attenuation(renderer, pixels, &anatomy);
        let values = values(renderer, pixels, &anatomy, &attenuation);
        let residuals: Vec<f32> = values.iter().zip(pixels).map(|(v, &p)| v - image[p]).collect();
        let loss = residuals.iter().map(|&r| f64::from(huber(r))).sum();
        Self { code, attenuation, values, residuals, loss }
    }

    /// `J^T W J` and `J^T W r` with the Huber weights W.
    fn normal_equations(&self, renderer: &Renderer, pixels: &[usize]) -> (Matrix, Vector) {
        let columns: [Vec<f32>; FACTORS] = std::array::from_fn(|factor| {
            let mut code = self.code;
            // Away from the bound, where the squash makes the picture insensitive.
            let step = if code[factor] > 0.0 { -STEP } else { STEP };
            code[factor] += step;
            let anatomy = Anatomy::new(&code);
            let moved = if [JOINT_SPACE, OSTEOPHYTES, ROTATION].contains(&factor) {
                values(renderer, pixels, &anatomy, &attenuation(renderer, pixels, &anatomy))
            } else {
                values(renderer, pixels, &anatomy, &self.attenuation)
            };
            moved.iter().zip(&self.values).map(|(a, b)| (a - b) / step).collect()
        });
        let (mut hessian, mut gradient) = ([[0.0; FACTORS]; FACTORS], [0.0; FACTORS]);
        for (p, &r) in self.residuals.iter().enumerate() {
            let weight = f64::from(HUBER / r.abs().max(HUBER));
            let row: Vector = std::array::from_fn(|i| f64::from(columns[i][p]));
            for i in 0..FACTORS {
                gradient[i] += weight * row[i] * f64::from(r);
                for j in 0..=i {
                    hessian[i][j] += weight * row[i] * row[j];
                }
            }
        }
        (hessian, gradient)
    }
}

fn attenuation(renderer: &Renderer, pixels: &[usize], anatomy: &Anatomy) -> Vec<Attenuation> {
    let pose = Pose::new(anatomy);
    pixels.iter().map(|&p| renderer.attenuation(&pose, p)).collect()
}

fn values(renderer: &Renderer, pixels: &[usize], anatomy: &Anatomy, a: &[Attenuation]) -> Vec<f32> {
    pixels.iter().zip(a).map(|(&p, &a)| develop(anatomy, a, renderer.field()[p])).collect()
}

fn huber(r: f32) -> f32 {
    let r = r.abs();
    if r <= HUBER { 0.5 * r * r } else { HUBER * (r - 0.5 * HUBER) }
}

/// Solves `(H + damping diag(H)) s = -g` by Cholesky's decomposition; H is given by its lower triangle.
fn damped_step(hessian: &Matrix, gradient: &Vector, damping: f64) -> Vector {
    let largest = (0..FACTORS).fold(f64::MIN_POSITIVE, |m, i| m.max(hessian[i][i]));
    let mut l = [[0.0; FACTORS]; FACTORS];
    for i in 0..FACTORS {
        for j in 0..=i {
            let mut sum = hessian[i][j];
            if i == j {
                // The last term keeps a factor without any influence (a black picture's grain) where it is.
                sum += damping * hessian[i][i] + 1e-12 * largest;
            }
            sum -= (0..j).map(|k| l[i][k] * l[j][k]).sum::<f64>();
            l[i][j] = if i == j { sum.max(1e-300).sqrt() } else { sum / l[j][j] };
        }
    }
    let mut s = [0.0; FACTORS];
    for i in 0..FACTORS {
        s[i] = (-gradient[i] - (0..i).map(|k| l[i][k] * s[k]).sum::<f64>()) / l[i][i];
    }
    for i in (0..FACTORS).rev() {
        s[i] = (s[i] - (i + 1..FACTORS).map(|k| l[k][i] * s[k]).sum::<f64>()) / l[i][i];
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_solves_the_damped_equations() {
        let full: Matrix = std::array::from_fn(|i| {
            std::array::from_fn(|j| if i == j { 4.0 + i as f64 } else { 1.0 / (1.0 + (i + j) as f64) })
        });
        let gradient: Vector = std::array::from_fn(|i| i as f64 - 2.5);
        let s = damped_step(&full, &gradient, 0.5);
        for i in 0..FACTORS {
            let left: f64 = (0..FACTORS).map(|j| full[i][j] * s[j]).sum::<f64>() + 0.5 * full[i][i] * s[i];
            assert!((left + gradient[i]).abs() < 1e-9);
        }
    }

    #[test]
    fn a_fit_from_near_by_ends_at_the_truth() {
        let renderer = Renderer::new(64);
        let truth = [0.7, -0.4, 1.1, -0.8, 0.5, 0.9];
        let image = renderer.render(&truth);
        let pixels: Vec<usize> = (0..64 * 64).collect();
        let found = fit(&renderer, &pixels, &image, [0.0; FACTORS], 20);
        assert!(found.code.iter().zip(truth).all(|(a, b)| (a - b).abs() < 5e-3), "{found:?}");
    }
}

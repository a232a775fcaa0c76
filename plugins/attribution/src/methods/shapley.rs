//! Shapley values as a weighted least-squares problem (Lundberg and Lee 2017, theorem 2).
//!
//! For M players and a game v, the Shapley values are the φ that minimise
//!
//! ```text
//! sum over coalitions z of π(z) (v(z) - v(none) - sum_j z_j φ_j)^2,   π(z) = (M - 1) / (C(M, s) s (M - s)), s = |z|
//! ```
//!
//! under `sum_j φ_j = v(all) - v(none)`. With all coalitions the solution is exact; with a sample of them it is an
//! estimate, for which the constraint still holds.

use rand::Rng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use shiftlens_sdk::api::{Error, Result};

/// Weighted coalitions other than none and all, made one by one: no more than one is stored.
///
/// Sizes are gone through in pairs (s, M - s) from the outside, where π is largest. A pair is taken whole if its share
/// of the budget that is left is enough for all of it; the first pair, single players and all but one, always is,
/// which makes the problem's solution unique. The weight of the other sizes is spread over random coalitions, each
/// followed by its complement, as in the authors' implementation.
pub struct Coalitions {
    players: usize,
    /// Sizes from 1 to this, and their complements', are taken whole.
    whole: usize,
    /// Sizes that are drawn from, each with the sum of the masses up to it.
    drawn: Vec<(usize, f64)>,
    /// Random coalitions in all.
    random: usize,
    /// Random coalitions so far.
    done: usize,
    total: usize,
    /// Members of the next coalition of a size taken whole, in lexicographic order.
    members: Vec<usize>,
    /// The coalition whose complement comes next.
    last: Option<Vec<bool>>,
    rng: ChaCha8Rng,
}

/// π summed over all coalitions of one size.
fn mass(players: usize, size: usize) -> f64 {
    (players - 1) as f64 / (size as f64 * (players - size) as f64)
}

/// C(n, k); saturates.
fn binomial(n: usize, k: usize) -> usize {
    let k = k.min(n - k);
    let exact = (0..k).try_fold(1u128, |c, i| Some(c.checked_mul((n - i) as u128)? / (i as u128 + 1)));
    exact.and_then(|c| usize::try_from(c).ok()).unwrap_or(usize::MAX)
}

/// Coalitions of sizes s and `players - s`: how many, and their mass.
fn pair(players: usize, s: usize) -> (usize, f64) {
    let sides = if 2 * s == players { 1 } else { 2 };
    (binomial(players, s).saturating_mul(sides), sides as f64 * mass(players, s))
}

/// All coalitions but none and all; `None` if they cannot be counted.
fn all(players: usize) -> Option<usize> {
    (players < usize::BITS as usize).then(|| (1 << players) - 2)
}

/// The combination after `members` in lexicographic order; false after the last.
fn advance(members: &mut [usize], n: usize) -> bool {
    let k = members.len();
    let Some(i) = (0..k).rev().find(|&i| members[i] < n - k + i) else { return false };
    members[i] += 1;
    for j in i + 1..k {
        members[j] = members[j - 1] + 1;
    }
    true
}

impl Coalitions {
    /// At most `budget` coalitions of `players`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for fewer than 2 players, or a budget that single players and all but one do not fit in.
    pub fn new(players: usize, budget: usize, rng: ChaCha8Rng) -> Result<Self> {
        if players < 2 {
            return Err(Error::invalid("the image falls into a single segment; ask for more `segments`"));
        }
        if pair(players, 1).0 > budget {
            return Err(Error::Invalid(format!(
                "`samples` leaves {budget} coalitions of {players} segments besides none and all, expected at least {}: \
                 raise `samples`, or ask for fewer `segments`",
                pair(players, 1).0
            )));
        }
        let exact = all(players).is_some_and(|n| n <= budget);
        let (mut left, mut whole) = (budget, 0);
        for s in 1..=players / 2 {
            let (size, mass) = pair(players, s);
            let remaining: f64 = (s..=players / 2).map(|s| pair(players, s).1).sum();
            if !(exact || s == 1 || left as f64 * mass / remaining >= size as f64) {
                break;
            }
            left -= size;
            whole = s;
        }
        let mut sum = 0.0;
        let sizes = whole + 1..players - whole;
        let drawn: Vec<(usize, f64)> = sizes
            .map(|s| {
                sum += mass(players, s);
                (s, sum)
            })
            .collect();
        let random = if drawn.is_empty() { 0 } else { left };
        let total = (1..=whole).map(|s| pair(players, s).0).sum::<usize>() + random;
        Ok(Self { players, whole, drawn, random, done: 0, total, members: vec![0], last: None, rng })
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.total
    }

    /// True if these are all coalitions that there are.
    pub fn exact(&self) -> bool {
        self.drawn.is_empty()
    }

    fn complement(&mut self) -> Option<Vec<bool>> {
        Some(self.last.take()?.into_iter().map(|v| !v).collect())
    }

    /// The next coalition of a size that is taken whole.
    fn next_whole(&mut self) -> (Vec<bool>, f64) {
        let (n, size) = (self.players, self.members.len());
        let weight = mass(n, size) / binomial(n, size) as f64;
        if let Some(z) = self.complement() {
            self.step();
            return (z, weight);
        }
        let mut z = vec![false; n];
        self.members.iter().for_each(|&i| z[i] = true);
        // A half's complement is a half: the order meets it by itself.
        if 2 * size == n {
            self.step();
        } else {
            self.last = Some(z.clone());
        }
        (z, weight)
    }

    fn step(&mut self) {
        if !advance(&mut self.members, self.players) {
            self.members = (0..self.members.len() + 1).collect();
        }
    }

    fn next_random(&mut self) -> (Vec<bool>, f64) {
        let total = self.drawn.last().map_or(0.0, |d| d.1);
        let weight = total / self.random as f64;
        self.done += 1;
        if let Some(z) = self.complement() {
            return (z, weight);
        }
        let at = self.rng.random_range(0.0..1.0) * total;
        let size = self.drawn.iter().find(|d| at < d.1).or(self.drawn.last()).map_or(1, |d| d.0);
        let mut z = vec![false; self.players];
        index::sample(&mut self.rng, self.players, size).into_iter().for_each(|i| z[i] = true);
        self.last = Some(z.clone());
        (z, weight)
    }
}

impl Iterator for Coalitions {
    /// Who takes part, and the weight.
    type Item = (Vec<bool>, f64);

    fn next(&mut self) -> Option<Self::Item> {
        if self.members.len() <= self.whole {
            Some(self.next_whole())
        } else if self.done < self.random {
            Some(self.next_random())
        } else {
            None
        }
    }
}

/// The sums of the least-squares problem, gathered coalition by coalition.
pub struct LeastSquares {
    players: usize,
    /// `sum w z z^T`, row-major.
    a: Vec<f64>,
    /// `sum w z (v(z) - v(none))`.
    b: Vec<f64>,
}

impl LeastSquares {
    /// Nothing gathered yet.
    pub fn new(players: usize) -> Self {
        Self { players, a: vec![0.0; players * players], b: vec![0.0; players] }
    }

    /// Adds a coalition with its weight and its gain `v(z) - v(none)`.
    pub fn add(&mut self, z: &[bool], weight: f64, gain: f64) {
        let n = self.players;
        for i in (0..n).filter(|&i| z[i]) {
            self.b[i] += weight * gain;
            (0..n).filter(|&j| z[j]).for_each(|j| self.a[i * n + j] += weight);
        }
    }

    /// The φ that minimise the problem under `sum_j φ_j = total`:
    /// with A and b the gathered sums, `φ = A⁻¹ b - A⁻¹ 1 (1^T A⁻¹ b - total) / (1^T A⁻¹ 1)`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the coalitions leave the solution open.
    pub fn solve(mut self, total: f64) -> Result<Vec<f64>> {
        let n = self.players;
        cholesky(&mut self.a, n).ok_or_else(|| {
            Error::invalid("the coalitions do not determine the segments' values; raise `samples`")
        })?;
        let u = substitute(&self.a, n, &self.b);
        let v = substitute(&self.a, n, &vec![1.0; n]);
        let excess = (u.iter().sum::<f64>() - total) / v.iter().sum::<f64>();
        Ok(u.iter().zip(&v).map(|(u, v)| u - v * excess).collect())
    }
}

/// Replaces the lower triangle of a symmetric `[n, n]` matrix by L with `A = L L^T`; `None` if it is not positive
/// definite to working precision.
fn cholesky(a: &mut [f64], n: usize) -> Option<()> {
    for j in 0..n {
        let scale = a[j * n + j];
        let d = scale - (0..j).map(|k| a[j * n + k].powi(2)).sum::<f64>();
        if d.is_nan() || d <= 1e-12 * scale {
            return None;
        }
        a[j * n + j] = d.sqrt();
        for i in j + 1..n {
            let s: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            a[i * n + j] = (a[i * n + j] - s) / a[j * n + j];
        }
    }
    Some(())
}

/// The x with `L L^T x = b`.
fn substitute(l: &[f64], n: usize, b: &[f64]) -> Vec<f64> {
    let mut x = b.to_vec();
    for i in 0..n {
        let s: f64 = (0..i).map(|k| l[i * n + k] * x[k]).sum();
        x[i] = (x[i] - s) / l[i * n + i];
    }
    for i in (0..n).rev() {
        let s: f64 = (i + 1..n).map(|k| l[k * n + i] * x[k]).sum();
        x[i] = (x[i] - s) / l[i * n + i];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::collections::HashMap;

    fn coalitions(players: usize, budget: usize) -> Coalitions {
        Coalitions::new(players, budget, ChaCha8Rng::seed_from_u64(5)).unwrap()
    }

    fn values(players: usize, budget: usize, game: impl Fn(&[bool]) -> f64) -> Vec<f64> {
        let (none, all) = (game(&vec![false; players]), game(&vec![true; players]));
        let mut problem = LeastSquares::new(players);
        coalitions(players, budget).for_each(|(z, w)| problem.add(&z, w, game(&z) - none));
        problem.solve(all - none).unwrap()
    }

    /// The definition (Shapley 1953): the mean of a player's contribution over all orders.
    fn brute_force(players: usize, game: impl Fn(&[bool]) -> f64) -> Vec<f64> {
        fn orders(left: &mut Vec<usize>, order: &mut Vec<usize>, visit: &mut dyn FnMut(&[usize])) {
            if left.is_empty() {
                visit(order);
            }
            for i in 0..left.len() {
                let p = left.remove(i);
                order.push(p);
                orders(left, order, visit);
                order.pop();
                left.insert(i, p);
            }
        }
        let (mut phi, mut count) = (vec![0.0; players], 0.0);
        orders(&mut (0..players).collect(), &mut Vec::new(), &mut |order| {
            let mut z = vec![false; players];
            let mut before = game(&z);
            for &p in order {
                z[p] = true;
                let after = game(&z);
                phi[p] += after - before;
                before = after;
            }
            count += 1.0;
        });
        phi.iter().map(|v| v / count).collect()
    }

    /// Products, a threshold and a maximum: no player's contribution is the same in all orders.
    fn nonlinear(z: &[bool]) -> f64 {
        let v = |i: usize| f64::from(u8::from(z[i]));
        let many = z.iter().filter(|b| **b).count() >= 4;
        2.0 * v(0) * v(1) - 3.0 * v(2) * v(3) * v(4) + (1.5 * v(5)).max(v(0)) + if many { 0.7 } else { 0.0 }
            - 0.25 * v(3)
    }

    #[test]
    fn all_coalitions_give_the_shapley_values_of_a_nonlinear_game() {
        let expected = brute_force(6, nonlinear);
        let found = values(6, 62, nonlinear);
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() < 1e-10, "{found:?}, expected {expected:?}");
        }
        // Efficiency.
        let sum: f64 = found.iter().sum();
        assert!((sum - (nonlinear(&[true; 6]) - nonlinear(&[false; 6]))).abs() < 1e-12);
    }

    #[test]
    fn a_linear_game_is_found_from_any_sample() {
        let weights: Vec<f64> = (0..20).map(|i| (i as f64 - 7.5) / 3.0).collect();
        let game =
            |z: &[bool]| 4.0 + z.iter().zip(&weights).filter(|(b, _)| **b).map(|(_, w)| w).sum::<f64>();
        for budget in [40, 101, 500] {
            let found = values(20, budget, game);
            assert!(found.iter().zip(&weights).all(|(a, b)| (a - b).abs() < 1e-9), "{budget}: {found:?}");
        }
    }

    #[test]
    fn a_sample_comes_near_and_keeps_the_sum() {
        // Neighbours in pairs: each of a pair gets half of its product.
        let game = |z: &[bool]| {
            (0..14).step_by(2).map(|i| if z[i] && z[i + 1] { 1.0 + i as f64 } else { 0.0 }).sum::<f64>()
        };
        let found = values(14, 2000, game);
        let total: f64 = (0..14).step_by(2).map(|i| 1.0 + i as f64).sum();
        assert!((found.iter().sum::<f64>() - total).abs() < 1e-9);
        for (i, phi) in found.iter().enumerate() {
            let expected = (1 + i / 2 * 2) as f64 / 2.0;
            assert!((phi - expected).abs() < 0.5, "player {i}: {phi}, expected {expected}");
        }
    }

    #[test]
    fn whole_sizes_hold_every_coalition_once_with_the_kernels_weight() {
        for players in 2..=7 {
            let most = all(players).unwrap();
            let c = coalitions(players, most);
            assert!(c.exact() && c.total() == most);
            let seen: HashMap<Vec<bool>, f64> = c.collect();
            assert_eq!(seen.len(), most, "{players} players");
            for (z, w) in seen {
                let s = z.iter().filter(|b| **b).count();
                let expected = (players - 1) as f64 / (binomial(players, s) * s * (players - s)) as f64;
                assert!((w - expected).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn samples_keep_the_budget_and_the_mass() {
        for (players, budget) in [(12, 300), (30, 1022), (30, 61), (70, 999)] {
            let c = coalitions(players, budget);
            assert!(!c.exact() && c.total() == budget);
            let all: Vec<(Vec<bool>, f64)> = c.collect();
            assert_eq!(all.len(), budget);
            let expected: f64 = (1..players).map(|s| mass(players, s)).sum();
            let sum: f64 = all.iter().map(|c| c.1).sum();
            assert!((sum - expected).abs() < 1e-9, "{players}, {budget}: {sum}, expected {expected}");
            let singles = all.iter().filter(|(z, _)| z.iter().filter(|b| **b).count() == 1).count();
            assert_eq!(singles, players);
        }
    }

    #[test]
    fn too_few_samples_and_players_are_refused() {
        let error =
            |p, b| Coalitions::new(p, b, ChaCha8Rng::seed_from_u64(0)).map(|_| ()).unwrap_err().to_string();
        assert!(error(30, 59).contains("expected at least 60"));
        assert!(error(1, 100).contains("single segment"));
        let mut open = LeastSquares::new(2);
        open.add(&[true, true], 1.0, 1.0);
        assert!(open.solve(1.0).unwrap_err().to_string().contains("raise `samples`"));
    }

    #[test]
    fn binomials() {
        assert_eq!(
            [binomial(5, 2), binomial(30, 1), binomial(6, 6), binomial(60, 30)],
            [10, 30, 1, 118_264_581_564_861_424]
        );
        assert_eq!(binomial(300, 150), usize::MAX);
    }
}

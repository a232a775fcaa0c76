//! The first principal component of a layer, by Lanczos' method.

/// Largest error of the eigenpair `(theta, y)`, as `|M y - theta y| / theta`.
const TOLERANCE: f64 = 1e-12;
/// Most steps, each of which passes over the layer twice. A layer of no more positions or channels is solved
/// exactly, since the Krylov space closes. In a larger one the angle to the component falls as `exp(-2 k sqrt(g))`
/// in k steps, g the gap between the two largest eigenvalues over the spectrum's width (Saad 1980): g = 0.1 takes 44
/// steps. Where g is below 10^-3 the bound may be met; no direction between two components so nearly equal says much
/// less than another.
const STEPS: usize = 400;

/// Projects the positions on their first principal component: with X the `[P, K]` matrix of `channels` (which holds
/// it as `[K, P]`, P = `positions`), centred per channel, and v its first right singular vector, `X v`.
///
/// `X v = sigma u` for the first eigenpair `(sigma^2, u)` of `M = X X^T`, which is never formed: Lanczos' method with
/// full reorthogonalisation (Golub and Van Loan, Matrix Computations, section 10.1) needs `M q` alone. It starts
/// from a fixed vector without structure, since one that is orthogonal to u would never find it. The sign is such
/// that the map agrees with the sum of the channels before centring.
pub fn projection(mut channels: Vec<f64>, positions: usize) -> Vec<f64> {
    let mut sum = vec![0.0; positions];
    for channel in channels.chunks_exact_mut(positions) {
        sum.iter_mut().zip(channel.iter()).for_each(|(s, v)| *s += v);
        let mean = channel.iter().sum::<f64>() / positions as f64;
        channel.iter_mut().for_each(|v| *v -= mean);
    }
    let Some((eigenvalue, u)) = largest_eigenpair(&channels, positions) else {
        // Every position is the mean: nothing varies, the map is flat.
        return vec![0.0; positions];
    };
    let sign = if dot(&u, &sum) < 0.0 { -1.0 } else { 1.0 };
    let scale = sign * eigenvalue.max(0.0).sqrt();
    u.into_iter().map(|v| scale * v).collect()
}

/// Of `sum_c x_c x_c^T`, x_c the rows of `rows`, `[K, P]`; `None` if that is 0.
fn largest_eigenpair(rows: &[f64], positions: usize) -> Option<(f64, Vec<f64>)> {
    let apply = |q: &[f64]| {
        let mut y = vec![0.0; positions];
        for x in rows.chunks_exact(positions) {
            add(&mut y, dot(x, q), x);
        }
        y
    };
    // M's trace bounds its largest eigenvalue from above, and P times it from below.
    let trace = dot(rows, rows);
    if trace == 0.0 {
        return None;
    }
    let mut basis = vec![unit(apply(&start(positions)))?];
    let (mut diagonal, mut beside) = (Vec::new(), Vec::new());
    loop {
        let q = &basis[basis.len() - 1];
        let mut r = apply(q);
        diagonal.push(dot(q, &r));
        // Twice: once leaves rounding errors of the size that is to be removed.
        for _ in 0..2 {
            for b in &basis {
                let along = dot(b, &r);
                add(&mut r, -along, b);
            }
        }
        let rest = dot(&r, &r).sqrt();
        let steps = diagonal.len();
        // The Krylov space is closed once nothing but rounding is left.
        let closed = rest <= 8.0 * f64::EPSILON * trace || steps == positions.min(STEPS);
        if closed || steps.is_multiple_of(4) {
            let (theta, s) = largest_of_tridiagonal(&diagonal, &beside);
            if closed || rest * s[steps - 1].abs() <= TOLERANCE * theta {
                let mut u = vec![0.0; positions];
                s.iter().zip(&basis).for_each(|(s, q)| add(&mut u, *s, q));
                return Some((theta, unit(u)?));
            }
        }
        beside.push(rest);
        basis.push(r.into_iter().map(|v| v / rest).collect());
    }
}

/// The largest eigenvalue of a symmetric tridiagonal matrix with positive `beside`, and its unit eigenvector.
///
/// By bisection and inverse iteration. The shift lies just above the largest eigenvalue, so that the matrix less the
/// shift is negative definite and is factored without pivoting; the eigenvector has one sign throughout (Perron and
/// Frobenius), so that a vector of ones is a start that cannot miss it.
fn largest_of_tridiagonal(diagonal: &[f64], beside: &[f64]) -> (f64, Vec<f64>) {
    let n = diagonal.len();
    let side = |i: usize| beside.get(i).copied().unwrap_or(0.0);
    let below = |i: usize| if i == 0 { 0.0 } else { side(i - 1) };
    // The pivots of T - s: all negative if and only if no eigenvalue is at or above s.
    let pivots = |s: f64| {
        let mut all = Vec::with_capacity(n);
        for (i, d) in diagonal.iter().enumerate() {
            let fill = if i == 0 { 0.0 } else { below(i).powi(2) / all[i - 1] };
            let pivot: f64 = d - s - fill;
            if pivot >= 0.0 || pivot.is_nan() {
                return None;
            }
            all.push(pivot);
        }
        Some(all)
    };
    // Gershgorin's bounds.
    let mut low = diagonal.iter().fold(f64::NEG_INFINITY, |a, d| a.max(*d));
    let radius = |i: usize| below(i) + if i + 1 < n { side(i) } else { 0.0 };
    let mut high = (0..n).map(|i| diagonal[i] + radius(i)).fold(low, f64::max);
    high += high.abs().max(f64::MIN_POSITIVE) * 4.0 * f64::EPSILON;
    while high - low > 4.0 * f64::EPSILON * high.abs() {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if pivots(middle).is_some() { high = middle } else { low = middle }
    }
    let mut vector = vec![1.0 / (n as f64).sqrt(); n];
    // Rounding may let the last `high` fail by an ulp; a little above it does not.
    let mut shift = high;
    let factors = loop {
        match pivots(shift) {
            Some(f) => break f,
            None => shift += shift.abs().max(f64::MIN_POSITIVE) * 4.0 * f64::EPSILON,
        }
    };
    for _ in 0..4 {
        for i in 1..n {
            vector[i] -= below(i) / factors[i - 1] * vector[i - 1];
        }
        for i in (0..n).rev() {
            let after = if i + 1 < n { side(i) * vector[i + 1] } else { 0.0 };
            vector[i] = (vector[i] - after) / factors[i];
        }
        let length = dot(&vector, &vector).sqrt();
        vector.iter_mut().for_each(|v| *v /= length);
    }
    (high, vector)
}

/// Values in [-1, 1) without structure: Weyl's sequence of the golden ratio, folded by squaring.
fn start(positions: usize) -> Vec<f64> {
    let value = |p: usize| {
        let w = ((p + 1) as f64 * 0.618_033_988_749_894_9).fract();
        2.0 * (w * w * 1e4).fract() - 1.0
    };
    (0..positions).map(value).collect()
}

/// `v / |v|`; `None` for 0.
fn unit(mut v: Vec<f64>) -> Option<Vec<f64>> {
    let length = dot(&v, &v).sqrt();
    if length == 0.0 {
        return None;
    }
    v.iter_mut().for_each(|v| *v /= length);
    Some(v)
}

/// In four sums side by side, which a processor adds at once.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a4, b4) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = a4.remainder().iter().zip(b4.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0.0; 4];
    for (a, b) in a4.zip(b4) {
        for k in 0..4 {
            sums[k] += a[k] * b[k];
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// `to += factor * v`
fn add(to: &mut [f64], factor: f64, v: &[f64]) {
    to.iter_mut().zip(v).for_each(|(t, v)| *t += factor * v);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_of_rank_one_projects_on_its_pattern() {
        // X = 3 * u v^T with u centred, so the projection is 3 |v| u.
        let u = [0.5, -0.5, 0.5, -0.5];
        let channels = [1.0, 2.0, -2.0].iter().flat_map(|v| u.map(|u| 3.0 * v * u + 7.0)).collect();
        let map = projection(channels, 4);
        for (m, u) in map.iter().zip(u) {
            assert!((m - 9.0 * u).abs() < 1e-9, "{map:?}");
        }
        assert_eq!(projection(vec![2.0; 6], 3), [0.0; 3]);
        assert_eq!(projection(vec![2.0, 5.0], 1), [0.0]);
    }

    #[test]
    fn the_tridiagonal_of_the_second_difference_has_known_eigenpairs() {
        // 2 on the diagonal, 1 beside it: eigenvalues 2 + 2 cos(k pi / (n + 1)), vectors sin(i k pi / (n + 1)).
        for n in [1usize, 2, 5, 40] {
            let (value, vector) = largest_of_tridiagonal(&vec![2.0; n], &vec![1.0; n - 1]);
            let angle = std::f64::consts::PI / (n + 1) as f64;
            assert!((value - (2.0 + 2.0 * angle.cos())).abs() < 1e-13, "{n}: {value}");
            let norm = (0..n).map(|i| ((i + 1) as f64 * angle).sin().powi(2)).sum::<f64>().sqrt();
            for (i, v) in vector.iter().enumerate() {
                assert!((v - ((i + 1) as f64 * angle).sin() / norm).abs() < 1e-10, "{n}: {vector:?}");
            }
        }
    }

    #[test]
    fn close_components_are_told_apart() {
        // X X^T has the eigenvectors cos(2 pi k p / P), k = 1, 2, 3, and eigenvalues 1, 1 - 1e-4 and 0.5.
        let (p, lengths) = (64usize, [1.0, (1.0f64 - 1e-4).sqrt(), 0.5f64.sqrt()]);
        let wave = |k: usize, i: usize| {
            (std::f64::consts::TAU * (k * i) as f64 / p as f64).cos() * (2.0 / p as f64).sqrt()
        };
        let channels = (0..3).flat_map(|k| (0..p).map(move |i| lengths[k] * wave(k + 1, i))).collect();
        let map = projection(channels, p);
        let sign = map[0].signum();
        for (i, m) in map.iter().enumerate() {
            assert!((sign * m - wave(1, i)).abs() < 1e-9, "{i}: {m} {}", wave(1, i));
        }
    }

    #[test]
    fn a_long_spectrum_leaves_the_first_component() {
        // Eigenvalues 1, 1/2, 1/3, … 1/200 of cosines on 1024 positions: no Krylov space closes before the end.
        let p = 1024usize;
        let wave = |k: usize, i: usize| {
            (std::f64::consts::TAU * (k * i) as f64 / p as f64).cos() * (2.0 / p as f64).sqrt()
        };
        let channels = (1..=200).flat_map(|k| (0..p).map(move |i| wave(k, i) / (k as f64).sqrt())).collect();
        let map = projection(channels, p);
        let sign = map[0].signum();
        for (i, m) in map.iter().enumerate() {
            assert!((sign * m - wave(1, i)).abs() < 1e-9, "{i}: {m} {}", wave(1, i));
        }
    }

    #[test]
    fn the_component_is_found_where_the_farthest_position_is_no_part_of_it() {
        // One position far out by itself (eigenvalue about 9), forty less far out together (about 40).
        let mut channels = vec![0.0; 2 * 100];
        channels[0] = 3.0;
        (50..90).for_each(|i| channels[100 + i] = 1.0);
        let map = projection(channels, 100);
        assert!(map[0] < 0.0 && map[60] > 0.5 && (map[60] - map[80]).abs() < 1e-9, "{map:?}");
    }
}

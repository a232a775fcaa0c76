//! The joint gap can be read off the pixels: a few lines of arithmetic measure it, nearly linear in the factor
//! "joint-space width" and nearly blind to the other five. A predictor built on it has a known truth.

use shiftlens_phantom::factors::{Code, FACTORS, JOINT_SPACE};
use shiftlens_phantom::random::Stream;
use shiftlens_phantom::render::Renderer;

/// Mean width of the gap in pixels, of a row-major 128 x 128 picture in [0, 1].
///
/// Under the middle of each condyle, column by column: the run of pixels darker than half way between bone and gap,
/// with both ends interpolated between pixels.
fn gap_width(image: &[f32]) -> f64 {
    let at = |row: usize, column: usize| f64::from(image[row * 128 + column]);
    let columns: Vec<usize> = (30..=44).chain(83..=97).collect();
    // Bone above and below the joint, and the gap's darkest pixel, averaged over the columns.
    let (mut bone, mut dark) = (0.0, 0.0);
    for &c in &columns {
        bone += (44..52).chain(84..92).map(|r| at(r, c)).sum::<f64>() / 16.0;
        dark += (54..=81).map(|r| at(r, c)).fold(f64::INFINITY, f64::min);
    }
    let level = 0.5 * (bone + dark) / columns.len() as f64;
    let mut sum = 0.0;
    for &c in &columns {
        let (mut low, mut value) = (54, at(54, c));
        for r in 55..=81 {
            if at(r, c) < value {
                (low, value) = (r, at(r, c));
            }
        }
        if value >= level {
            continue; // no gap to be seen in this column: width 0
        }
        let (mut top, mut bottom) = (low, low);
        while top > 40 && at(top, c) < level {
            top -= 1;
        }
        while bottom < 95 && at(bottom, c) < level {
            bottom += 1;
        }
        // The outline crosses the level between `top` and `top + 1`, and between `bottom - 1` and `bottom`.
        let start = top as f64 + (at(top, c) - level) / (at(top, c) - at(top + 1, c));
        let end = bottom as f64 - (at(bottom, c) - level) / (at(bottom, c) - at(bottom - 1, c));
        sum += end - start;
    }
    sum / columns.len() as f64
}

fn draws(n: usize, seed: u64) -> Vec<Code> {
    let mut stream = Stream::new(seed);
    (0..n)
        .map(|_| {
            let pairs: [[f64; 2]; FACTORS / 2] = std::array::from_fn(|_| stream.normal_pair());
            std::array::from_fn(|i| pairs[i / 2][i % 2] as f32)
        })
        .collect()
}

/// Solves `a x = b` by Gaussian elimination; `a` is symmetric positive definite.
fn solve<const N: usize>(mut a: [[f64; N]; N], mut b: [f64; N]) -> [f64; N] {
    for i in 0..N {
        let (pivot, below) = a[i..].split_first_mut().expect("i < N");
        for (offset, row) in below.iter_mut().enumerate() {
            let f = row[i] / pivot[i];
            row.iter_mut().zip(pivot.iter()).for_each(|(r, p)| *r -= f * p);
            b[i + 1 + offset] -= f * b[i];
        }
    }
    for i in (0..N).rev() {
        b[i] = (b[i] - (i + 1..N).map(|k| a[i][k] * b[k]).sum::<f64>()) / a[i][i];
    }
    b
}

/// `[1, w]`, the row of a design matrix.
fn row(code: &Code) -> [f64; FACTORS + 1] {
    std::array::from_fn(|i| if i == 0 { 1.0 } else { f64::from(code[i - 1]) })
}

/// Weighted normal equations with a ridge.
fn fit(codes: &[Code], weight: &[f64], rhs: &[f64], ridge: f64) -> [f64; FACTORS + 1] {
    let (mut a, mut b) = ([[0.0; FACTORS + 1]; FACTORS + 1], [0.0; FACTORS + 1]);
    for ((code, w), y) in codes.iter().zip(weight).zip(rhs) {
        let x = row(code);
        for i in 0..=FACTORS {
            b[i] += x[i] * y;
            for j in 0..=FACTORS {
                a[i][j] += w * x[i] * x[j];
            }
        }
    }
    for (i, r) in a.iter_mut().enumerate() {
        r[i] += ridge;
    }
    solve(a, b)
}

fn cosine_to_joint_space(beta: &[f64; FACTORS + 1]) -> f64 {
    beta[JOINT_SPACE + 1] / beta[1..].iter().map(|b| b * b).sum::<f64>().sqrt()
}

#[test]
fn the_gap_measured_from_pixels_is_the_joint_space_factor() {
    let renderer = Renderer::new(128);
    let codes = draws(2000, 11);
    let widths: Vec<f64> = codes.iter().map(|c| gap_width(&renderer.render(c))).collect();
    let n = codes.len() as f64;

    // Correlation with the factor.
    let factor: Vec<f64> = codes.iter().map(|c| f64::from(c[JOINT_SPACE])).collect();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / n;
    let (mf, mw) = (mean(&factor), mean(&widths));
    let cov = |a: &[f64], ma: f64, b: &[f64], mb: f64| {
        a.iter().zip(b).map(|(x, y)| (x - ma) * (y - mb)).sum::<f64>() / n
    };
    let r = cov(&factor, mf, &widths, mw)
        / (cov(&factor, mf, &factor, mf) * cov(&widths, mw, &widths, mw)).sqrt();

    // Linear influence of every factor, in pixels per standard deviation.
    let linear = fit(&codes, &vec![1.0; codes.len()], &widths, 0.0);
    println!("correlation {r:.5}, pixels per sigma {linear:.4?}");
    assert!(r >= 0.995, "correlation {r}");
    for (i, slope) in linear[1..].iter().enumerate().skip(1) {
        assert!(slope.abs() < 0.03 * linear[1 + JOINT_SPACE], "factor {i} moves the measure by {slope} px");
    }

    // Logistic regression of (width >= width at the average code) by Newton's method, ridge 1 (scikit-learn's C = 1).
    let threshold = gap_width(&renderer.render(&[0.0; FACTORS]));
    let labels: Vec<f64> = widths.iter().map(|w| f64::from(*w >= threshold)).collect();
    let mut beta = [0.0; FACTORS + 1];
    for _ in 0..30 {
        let (mut weight, mut rhs) = (Vec::new(), Vec::new());
        for (code, y) in codes.iter().zip(&labels) {
            let eta: f64 = row(code).iter().zip(&beta).map(|(a, b)| a * b).sum();
            let p = 1.0 / (1.0 + (-eta).exp());
            let w = (p * (1.0 - p)).max(1e-9);
            weight.push(w);
            rhs.push(w * eta + y - p);
        }
        beta = fit(&codes, &weight, &rhs, 1.0);
    }
    let cosine = cosine_to_joint_space(&beta);
    println!("width at the average code {threshold:.4}, cosine {cosine:.5}, positives {}", mean(&labels));
    assert!(cosine >= 0.995, "cosine {cosine}");
}

#[test]
fn the_measure_rises_with_the_factor_alone_over_its_whole_range() {
    let renderer = Renderer::new(128);
    for base in draws(5, 3) {
        let widths: Vec<f64> = (-16..=16)
            .map(|i| {
                let mut code = base;
                code[JOINT_SPACE] = i as f32 / 4.0;
                gap_width(&renderer.render(&code))
            })
            .collect();
        assert!(widths.windows(2).all(|w| w[1] > w[0]), "{widths:?}");
    }
}

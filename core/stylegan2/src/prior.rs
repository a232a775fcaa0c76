//! How usual a code is: the space P_N of Zhu et al. 2020 (arXiv 2012.09036, section 3).
//!
//! W is what a leaky ReLU of slope 0.2 makes of nearly normal numbers. Undoing it, `p = w` where w is positive and `5 w`
//! elsewhere, leads to codes that are nearly normal, and whitening those to `v = M (p - mean)`, nearly standard normal. So
//! `|v|^2 / D` is about 1 for the generator's own codes, and larger for codes that it was not trained on, in whatever
//! direction they left: coordinates of w are correlated, and their own spread does not tell.

use candle_core::{DType, Result, Tensor, bail};

/// Share of the mean variance that is added to every coordinate's. Directions in which codes hardly vary would otherwise
/// outweigh all else that a loss asks for.
const SHRINK: f64 = 1e-2;

/// The distribution of W's codes.
pub struct Prior {
    mean: Tensor,
    /// `[D, D]`, for rows: `v = (p - mean) matrix`.
    matrix: Tensor,
}

/// `p`: w with its last leaky ReLU undone.
fn linear(w: &Tensor) -> Result<Tensor> {
    (w * 5.0)? - (w.relu()? * 4.0)?
}

/// The lower triangle L with `L L^T = a`, row-major `[d, d]`.
fn cholesky(a: &[f64], d: usize) -> Result<Vec<f64>> {
    let mut l = vec![0.0; d * d];
    for i in 0..d {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| l[i * d + k] * l[j * d + k]).sum();
            let rest = a[i * d + j] - dot;
            if i != j {
                l[i * d + j] = rest / l[j * d + j];
            } else if rest > 0.0 {
                l[i * d + i] = rest.sqrt();
            } else {
                bail!("codes: the covariance is not positive definite at coordinate {i} ({rest})");
            }
        }
    }
    Ok(l)
}

/// The inverse of a lower triangle.
fn inverse(l: &[f64], d: usize) -> Vec<f64> {
    let mut m = vec![0.0; d * d];
    for j in 0..d {
        m[j * d + j] = 1.0 / l[j * d + j];
        for i in j + 1..d {
            let dot: f64 = (j..i).map(|k| l[i * d + k] * m[k * d + j]).sum();
            m[i * d + j] = -dot / l[i * d + i];
        }
    }
    m
}

impl Prior {
    /// The distribution of `codes` `[n, D]`, drawn as in training; n should be many times D.
    ///
    /// # Errors
    /// If there are fewer than two codes, or one is not finite.
    pub fn fit(codes: &Tensor) -> Result<Self> {
        let (n, d) = codes.dims2()?;
        if n < 2 {
            bail!("codes: {n} are too few for their distribution");
        }
        let p: Vec<f64> = linear(codes)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        if p.iter().any(|v| !v.is_finite()) {
            bail!("codes: not all are finite");
        }
        let mut mean = vec![0.0; d];
        for row in p.chunks_exact(d) {
            mean.iter_mut().zip(row).for_each(|(m, v)| *m += v / n as f64);
        }
        let mut covariance = vec![0.0; d * d];
        let mut off = vec![0.0; d];
        for row in p.chunks_exact(d) {
            off.iter_mut().zip(row.iter().zip(&mean)).for_each(|(o, (v, m))| *o = v - m);
            for i in 0..d {
                let c = &mut covariance[i * d..=i * d + i];
                c.iter_mut().zip(&off).for_each(|(c, v)| *c += off[i] * v / n as f64);
            }
        }
        let trace: f64 = (0..d).map(|i| covariance[i * d + i]).sum();
        for i in 0..d {
            covariance[i * d + i] += (SHRINK * trace / d as f64).max(f64::MIN_POSITIVE);
        }
        let m = inverse(&cholesky(&covariance, d)?, d);
        // The shrinkage makes codes look more usual than they are: their mean square is brought back to 1.
        let mut square = 0.0;
        for row in p.chunks_exact(d) {
            off.iter_mut().zip(row.iter().zip(&mean)).for_each(|(o, (v, m))| *o = v - m);
            for i in 0..d {
                square += m[i * d..=i * d + i].iter().zip(&off).map(|(a, b)| a * b).sum::<f64>().powi(2);
            }
        }
        let scale = (square / (n * d) as f64).sqrt().recip();
        let scale = if scale.is_finite() { scale } else { 1.0 };
        let to = |v: Vec<f64>, shape: &[usize]| {
            Tensor::from_vec(v, shape, &candle_core::Device::Cpu)?
                .to_dtype(codes.dtype())?
                .to_device(codes.device())
        };
        let transposed = (0..d * d).map(|i| scale * m[i % d * d + i / d]).collect();
        Ok(Self { mean: to(mean, &[d])?, matrix: to(transposed, &[d, d])? })
    }

    /// v of codes `[N, rows, D]`, in their shape.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn whiten(&self, w: &Tensor) -> Result<Tensor> {
        let shape = w.shape().clone();
        let p = linear(w)?.broadcast_sub(&self.mean)?;
        p.contiguous()?.reshape(((), self.mean.dim(0)?))?.matmul(&self.matrix)?.reshape(shape)
    }

    /// `max(|v| / sqrt(D) - 1, 0)`, `[N, rows]`: how far beyond the usual length each code of `[N, rows, D]` lies. It grows
    /// with the distance and not with its square, so that codes of a network at its start do not outweigh all else.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn excess(&self, w: &Tensor) -> Result<Tensor> {
        let length = (self.whiten(w)?.sqr()?.mean(2)? + 1e-8)?.sqrt()?;
        (length - 1.0)?.relu()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use candle_core::Device;

    /// Correlated normal numbers through a leaky ReLU, as W is made.
    fn codes(n: usize) -> (Tensor, Vec<f64>) {
        let x = Rng::new(5, 0).normals(n * 2);
        let mut p = Vec::new();
        for pair in x.chunks_exact(2) {
            let (a, b) = (f64::from(pair[0]), f64::from(pair[1]));
            p.extend([a + 0.3, 0.9 * a + 0.4 * b - 0.2]);
        }
        let w = p.iter().map(|v| if *v >= 0.0 { *v } else { 0.2 * v }).collect();
        (Tensor::from_vec(w, (n, 2), &Device::Cpu).unwrap(), p)
    }

    #[test]
    fn codes_become_standard_normal_and_strange_ones_stand_out() {
        let (w, _) = codes(20_000);
        let prior = Prior::fit(&w).unwrap();
        let v = prior.whiten(&w.unsqueeze(1).unwrap()).unwrap().squeeze(1).unwrap();
        let second = v.t().unwrap().matmul(&v).unwrap().affine(1.0 / 2e4, 0.0).unwrap();
        let second = second.to_vec2::<f64>().unwrap();
        // The shrunk covariance leaves the narrow direction, where the variance is 0.085 of 1.97, a little short.
        assert!((second[0][0] + second[1][1] - 2.0).abs() < 1e-9, "{second:?}");
        assert!((second[0][0] - 1.0).abs() < 0.1 && second[0][1].abs() < 0.1, "{second:?}");
        // Each coordinate is one standard deviation from its mean, with the other's sign: unheard of in these codes.
        let odd = |a: f64, b: f64| {
            let p = [a + 0.3, b * 0.9 - 0.2];
            let w = p.map(|v| if v >= 0.0 { v } else { 0.2 * v });
            let w = Tensor::from_slice(&w, (1, 1, 2), &Device::Cpu).unwrap();
            prior.excess(&w).unwrap().to_vec2::<f64>().unwrap()[0][0]
        };
        assert_eq!(odd(0.9, 0.9), 0.0);
        assert!(odd(1.0, -1.0) > 1.5, "{}", odd(1.0, -1.0));
    }

    #[test]
    fn the_length_is_mahalanobis_distance() {
        let (w, p) = codes(500);
        let prior = Prior::fit(&w).unwrap();
        let v = prior.whiten(&w.unsqueeze(1).unwrap()).unwrap().to_vec3::<f64>().unwrap();
        // The covariance and its inverse by hand, in two dimensions.
        let mean = [0, 1].map(|i| p.iter().skip(i).step_by(2).sum::<f64>() / 500.0);
        let mut c = [0.0; 3];
        for q in p.chunks_exact(2) {
            let (a, b) = (q[0] - mean[0], q[1] - mean[1]);
            c[0] += a * a / 500.0;
            c[1] += a * b / 500.0;
            c[2] += b * b / 500.0;
        }
        let more = SHRINK * (c[0] + c[2]) / 2.0;
        let (c0, c2) = (c[0] + more, c[2] + more);
        let det = c0 * c2 - c[1] * c[1];
        let distance = |i: usize| {
            let (a, b) = (p[2 * i] - mean[0], p[2 * i + 1] - mean[1]);
            (c2 * a * a - 2.0 * c[1] * a * b + c0 * b * b) / det
        };
        let found = |i: usize| v[i][0].iter().map(|v| v * v).sum::<f64>();
        let ratio = found(0) / distance(0);
        for i in 1..500 {
            assert!((found(i) / distance(i) - ratio).abs() < 1e-6 * ratio, "{i}");
        }
        assert!((1.0..1.3).contains(&ratio), "{ratio}");
    }
}

//! Adversarial losses. Logits are positive for real.

use candle_core::{DType, Result, Tensor, bail};

/// `log(1 + exp(x))` without overflow: `max(x, 0) + log(1 + exp(-|x|))`.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}

/// G's non-saturating loss `mean softplus(-D(G(z)))` (Goodfellow et al. 2014, section 3).
pub fn logistic_generator(fake: &Tensor) -> Result<Tensor> {
    softplus(&fake.neg()?)?.mean_all()
}

/// D's logistic loss `mean softplus(D(G(z))) + mean softplus(-D(x))`.
pub fn logistic_discriminator(fake: &Tensor, real: &Tensor) -> Result<Tensor> {
    softplus(fake)?.mean_all()? + softplus(&real.neg()?)?.mean_all()?
}

fn sum_over(maps: &[Tensor], f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let mut terms = maps.iter().map(f);
    let Some(first) = terms.next() else { bail!("a loss over no logits") };
    terms.try_fold(first?, |sum, term| sum + term?)
}

/// G's loss against D's hinge: the sum over levels of `-mean D_l(G(z))` (Lim and Ye 2017, arXiv 1705.02894, eq. 9;
/// Sauer et al. 2021, eq. 4 sums over levels).
pub fn hinge_generator(fake: &[Tensor]) -> Result<Tensor> {
    sum_over(fake, |t| t.mean_all()?.neg())
}

/// D's hinge loss: the sum over levels of `mean max(0, 1 + D_l(G(z))) + mean max(0, 1 - D_l(x))` (Lim and Ye 2017,
/// eq. 8).
pub fn hinge_discriminator(fake: &[Tensor], real: &[Tensor]) -> Result<Tensor> {
    let fake = sum_over(fake, |t| (t + 1.0)?.relu()?.mean_all())?;
    fake + sum_over(real, |t| t.affine(-1.0, 1.0)?.relu()?.mean_all())?
}

/// The mean sign of all logits, levels weighing alike: r_t of Karras et al. 2020b (arXiv 2006.06676, eq. 1).
pub fn mean_sign(logits: &[Tensor]) -> Result<f64> {
    let mut sum = 0.0;
    for t in logits {
        let t = t.detach().flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let signs = t.iter().map(|v| if *v == 0.0 { 0.0 } else { v.signum() });
        sum += signs.sum::<f64>() / t.len() as f64;
    }
    Ok(sum / logits.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn maps() -> (Vec<Tensor>, Vec<Tensor>) {
        let new = |v: &[f64]| Tensor::from_slice(v, v.len(), &Device::Cpu).unwrap();
        (vec![new(&[-2.0, 0.5]), new(&[-0.5])], vec![new(&[0.25, 3.0]), new(&[-1.0])])
    }

    fn value(t: Result<Tensor>) -> f64 {
        t.unwrap().to_scalar::<f64>().unwrap()
    }

    #[test]
    fn losses_are_their_formulas() {
        let (fake, real) = maps();
        // (0 + 1.5) / 2 + 0.5, and (0.75 + 0) / 2 + 2
        assert!((value(hinge_discriminator(&fake, &real)) - (1.25 + 2.375)).abs() < 1e-12);
        assert!((value(hinge_generator(&fake)) - (0.75 + 0.5)).abs() < 1e-12);
        let plus = |x: f64| (1.0 + x.exp()).ln();
        let expected = f64::midpoint(plus(2.0), plus(-0.5));
        assert!((value(logistic_generator(&fake[0])) - expected).abs() < 1e-12);
        let expected = f64::midpoint(plus(-2.0), plus(0.5)) + f64::midpoint(plus(-0.25), plus(-3.0));
        assert!((value(logistic_discriminator(&fake[0], &real[0])) - expected).abs() < 1e-12);
        // No overflow far out.
        let far = Tensor::from_slice(&[-800.0, 800.0], 2, &Device::Cpu).unwrap();
        assert_eq!(softplus(&far).unwrap().to_vec1::<f64>().unwrap(), [0.0, 800.0]);
        assert_eq!(mean_sign(&real).unwrap(), 0.0);
        assert_eq!(mean_sign(&fake[..1]).unwrap(), 0.0);
        assert!(hinge_generator(&[]).is_err());
    }
}

//! Single operations on a device, timed: what the choices in the crate's `ops` rest on.

use crate::networks::normal;
use crate::{Done, on};
use candle_core::{Device, Tensor, Var};
use shiftlens_stylegan2::ops::{
    self, Activation, Gather, Precision, first_order, with_gather, with_precision,
};
use std::time::Instant;

/// Batch, channels in and out, side.
const SHAPES: [(usize, usize, usize, usize); 10] = [
    (1, 512, 512, 8),
    (1, 512, 512, 32),
    (1, 256, 256, 64),
    (1, 128, 128, 256),
    (8, 512, 512, 16),
    (8, 512, 512, 32),
    (8, 256, 256, 64),
    (8, 128, 128, 256),
    (32, 256, 256, 64),
    (32, 128, 128, 128),
];
const REHEARSAL: [(usize, usize, usize, usize); 1] = [(2, 8, 6, 16)];

/// Median milliseconds of one run.
fn time(device: &Device, f: impl Fn() -> candle_core::Result<()>) -> Done<f64> {
    let mut all = Vec::new();
    for _ in 0..9 {
        device.synchronize()?;
        let start = Instant::now();
        for _ in 0..3 {
            on(device, &f)?;
        }
        device.synchronize()?;
        all.push(start.elapsed().as_secs_f64() * 1e3 / 3.0);
    }
    all.sort_by(f64::total_cmp);
    Ok(all[all.len() / 2])
}

/// Prints a table.
pub fn run(device: &Device) -> Done<bool> {
    let shapes: &[_] = if device.is_cpu() { &REHEARSAL } else { &SHAPES };
    let precisions: &[Precision] = if device.is_cpu() { &[Precision::F32] } else { &Precision::ALL };
    println!("milliseconds, medians of 9");
    for &p in precisions {
        println!(
            "\n{p}\n{:>22} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "N C K side", "windows", "shifts", "doubling", "halving", "backward", "act", "filter"
        );
        for &(n, c, k, side) in shapes {
            let x = normal(&[n, c, side, side], 1)?.to_device(device)?;
            let w = (normal(&[k, c, 3, 3], 2)? * (1.0 / (9.0 * c as f64).sqrt()))?.to_device(device)?;
            let (style, demod) = (
                Tensor::ones_like(&x.narrow(2, 0, 1)?.narrow(3, 0, 1)?)?.reshape((n, c))?,
                Tensor::ones((n, k), x.dtype(), device)?,
            );
            let bias = Tensor::zeros(c, x.dtype(), device)?;
            let (vx, vw) = (Var::from_tensor(&x)?, Var::from_tensor(&w)?);
            let conv = || ops::conv2d(&x, &w).map(drop);
            let backward = || {
                first_order(|| ops::conv2d(vx.as_tensor(), vw.as_tensor())?.sum_all()?.backward()).map(drop)
            };
            let row = with_precision(p, || -> Done<Vec<f64>> {
                Ok(vec![
                    with_gather(Gather::Windows, || time(device, conv))?,
                    with_gather(Gather::Shifts, || time(device, conv))?,
                    time(device, || ops::modulated_conv2d_double(&x, &style, &w, &demod).map(drop))?,
                    time(device, || ops::conv2d_halve(&x, &w).map(drop))?,
                    time(device, backward)?,
                    time(device, || ops::bias_act(&x, &bias, None, Activation::leaky(1.0)).map(drop))?,
                    time(device, || ops::downsample(&x).map(drop))?,
                ])
            })?;
            print!("{:>22}", format!("{n} {c} {k} {side}"));
            row.iter().for_each(|t| print!(" {t:9.3}"));
            println!();
        }
    }
    Ok(true)
}

//! The custom operations against candle's own on f64, values and gradients of both orders.

use candle_core::{DType, Device, Result, Tensor, Var};
use shiftlens_stylegan2::kernels::conv::fast;
use shiftlens_stylegan2::ops::{self, Activation};
use shiftlens_stylegan2::rng::Rng;

fn random(shape: &[usize], seed: u64) -> Tensor {
    Tensor::from_vec(Rng::new(seed, 0).normals(shape.iter().product()), shape, &Device::Cpu).unwrap()
}

fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn close(what: &str, a: &Tensor, b: &Tensor) {
    assert_eq!(a.dims(), b.dims(), "{what}");
    let (a, b) = (values(a), values(b));
    let norm = b.iter().map(|v| v * v).sum::<f64>().sqrt();
    let diff = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    assert!(diff <= 1e-5 * norm + 1e-7, "{what}: {diff} of {norm}");
}

/// Value, first gradients of `sum(f * c)`, and gradients of the first gradients' energy.
fn orders(f: &dyn Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let vars: Vec<Var> = inputs.iter().map(Var::from_tensor).collect::<Result<_>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tensors)?;
    let c = random(y.dims(), 99).to_dtype(y.dtype())?;
    let first = (&y * &c)?.sum_all()?.backward()?;
    let mut out = vec![y.detach()];
    let mut energy = Tensor::zeros((), y.dtype(), &Device::Cpu)?;
    for (i, v) in vars.iter().enumerate() {
        let g = first.get(v.as_tensor()).expect("every input matters").clone();
        // Different weights, so that terms cannot cancel.
        energy = (energy + (g.sqr()?.sum_all()? * (1.0 + i as f64))?)?;
        out.push(g.detach());
    }
    let second = energy.backward()?;
    for v in &vars {
        out.push(match second.get(v.as_tensor()) {
            Some(g) => g.detach(),
            None => v.as_tensor().zeros_like()?,
        });
    }
    Ok(out)
}

/// f32 takes our kernels, f64 candle's own operations.
fn compare(what: &str, f: &dyn Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor]) {
    shiftlens_stylegan2::enable_second_order();
    let wide: Vec<Tensor> = inputs.iter().map(|t| t.to_dtype(DType::F64).unwrap()).collect();
    let ours = orders(f, inputs).unwrap();
    let theirs = orders(f, &wide).unwrap();
    for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
        close(&format!("{what}, array {i}"), a, b);
    }
}

#[test]
fn convolutions() {
    compare("same", &|t| ops::conv2d(&t[0], &t[1]), &[random(&[3, 5, 7, 6], 1), random(&[4, 5, 3, 3], 2)]);
    compare("1x1", &|t| ops::conv2d(&t[0], &t[1]), &[random(&[2, 3, 4, 4], 3), random(&[9, 3, 1, 1], 4)]);
    let down = [random(&[2, 3, 9, 9], 5), random(&[5, 3, 3, 3], 6)];
    compare("down", &|t| ops::conv2d_down(&t[0], &t[1]), &down);
    compare("up", &|t| ops::conv2d_up(&t[0], &t[1]), &[random(&[2, 3, 4, 4], 7), random(&[5, 3, 3, 3], 8)]);
}

#[test]
fn resampling() {
    let x = || [random(&[2, 3, 8, 8], 9)];
    compare("upsample", &|t| ops::upsample(&t[0]), &x());
    compare("downsample", &|t| ops::downsample(&t[0]), &x());
    compare("blur 2", &|t| ops::blur(&t[0], 2, 1.0), &x());
    compare("blur 1", &|t| ops::blur(&t[0], 1, 2.0), &[random(&[1, 2, 9, 9], 10)]);
}

#[test]
fn modulation_and_activation() {
    let x = random(&[2, 3, 5, 4], 11);
    compare("scale", &|t| ops::scale_channels(&t[0], &t[1]), &[x.clone(), random(&[2, 3], 12)]);
    // Squaring first makes the second order of the piecewise linear activation non-trivial.
    for clamp in [None, Some(1.5)] {
        let act = Activation::leaky(0.7).clamped(clamp);
        let (b, e) = (random(&[3], 13), random(&[2, 1, 5, 4], 14));
        compare("bias_act", &|t| ops::bias_act(&t[0].sqr()?, &t[1], None, act), &[x.clone(), b.clone()]);
        let f = |t: &[Tensor]| ops::bias_act(&t[0].sqr()?, &t[1], Some(&t[2].sqr()?), act);
        compare("noise_bias_act", &f, &[x.clone(), b, e]);
    }
    let linear = |t: &[Tensor]| ops::bias_act(&t[0].sqr()?, &t[1], None, Activation::linear());
    compare("linear", &linear, &[random(&[4, 6], 15), random(&[6], 16)]);
}

#[test]
fn fused_convolutions() {
    let act = Activation::leaky(0.7).clamped(Some(2.0));
    for (down, side) in [(false, 7), (true, 9)] {
        let inputs = [random(&[2, 3, side, side], 20), random(&[5, 3, 3, 3], 21), random(&[5], 22)];
        let f = |t: &[Tensor]| ops::conv2d_bias_act(&t[0].sqr()?, &t[1], &t[2], act, down);
        compare("conv2d_bias_act", &f, &inputs);
    }
    for (up, size) in [(false, 3), (true, 3), (false, 1)] {
        let shapes: [&[usize]; 4] = [&[2, 3, 5, 5], &[2, 3], &[6, 3, size, size], &[2, 6]];
        let inputs: Vec<Tensor> = shapes.iter().enumerate().map(|(i, s)| random(s, 30 + i as u64)).collect();
        let f = |t: &[Tensor]| ops::modulated_conv2d(&t[0], &t[1], &t[2], &t[3], up);
        compare("modulated", &f, &inputs);
        // The fused first-order pass against the composed one.
        let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
        let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let run = || {
            let y = f(&tensors).unwrap();
            let c = random(y.dims(), 40);
            let grads = (y * c).unwrap().sum_all().unwrap().backward().unwrap();
            vars.iter().map(|v| grads.get(v.as_tensor()).unwrap().clone()).collect::<Vec<_>>()
        };
        for (a, b) in ops::first_order(run).iter().zip(run()) {
            close("first order", a, &b);
        }
    }
}

#[test]
fn first_order_passes_cut_the_graph_and_give_the_same_gradients() {
    shiftlens_stylegan2::enable_second_order();
    let x = Var::from_tensor(&random(&[2, 3, 6, 6], 17)).unwrap();
    let w = Var::from_tensor(&random(&[4, 3, 3, 3], 18)).unwrap();
    let run = || {
        let y = ops::conv2d(x.as_tensor(), w.as_tensor()).unwrap().sqr().unwrap().sum_all().unwrap();
        let grads = y.backward().unwrap();
        (grads.get(x.as_tensor()).unwrap().clone(), grads.get(w.as_tensor()).unwrap().clone())
    };
    let (full, cut) = (run(), ops::first_order(run));
    assert!(full.0.track_op() && !cut.0.track_op());
    close("x", &cut.0, &full.0);
    close("w", &cut.1, &full.1);
}

fn with_fast(what: &str, f: &dyn Fn(&[Tensor]) -> Result<Tensor>, inputs: &[Tensor]) {
    compare(what, f, inputs);
    fast(|| compare(&format!("{what}, fast"), f, inputs));
}

/// Sizes that the fast convolutions take: rows of tiles at the border and inside, channels that fill no block.
#[test]
fn fast_convolutions() {
    let same = [random(&[3, 9, 12, 8], 50), random(&[20, 9, 3, 3], 51)];
    with_fast("same", &|t| ops::conv2d(&t[0], &t[1]), &same);
    let down = [random(&[2, 12, 17, 9], 52), random(&[18, 12, 3, 3], 53)];
    with_fast("down", &|t| ops::conv2d_down(&t[0], &t[1]), &down);
    let up = [random(&[2, 12, 4, 8], 54), random(&[18, 12, 3, 3], 55)];
    with_fast("up", &|t| ops::conv2d_up(&t[0], &t[1]), &up);
    let act = Activation::leaky(0.7).clamped(Some(20.0));
    for (down, side) in [(false, 8), (true, 9)] {
        let inputs = [random(&[2, 9, side, side], 56), random(&[10, 9, 3, 3], 57), random(&[10], 58)];
        let f = |t: &[Tensor]| ops::conv2d_bias_act(&t[0].sqr()?, &t[1], &t[2], act, down);
        with_fast("conv2d_bias_act", &f, &inputs);
    }
    for up in [false, true] {
        let shapes: [&[usize]; 4] = [&[2, 9, 8, 4], &[2, 9], &[11, 9, 3, 3], &[2, 11]];
        let inputs: Vec<Tensor> = shapes.iter().enumerate().map(|(i, s)| random(s, 60 + i as u64)).collect();
        with_fast("modulated", &|t| ops::modulated_conv2d(&t[0], &t[1], &t[2], &t[3], up), &inputs);
    }
}

/// Ours in f32 against candle's convolutions and their own gradients of both orders in f64.
#[test]
fn convolutions_are_candles() {
    shiftlens_stylegan2::enable_second_order();
    type Map = fn(&[Tensor]) -> Result<Tensor>;
    let maps: [(&str, Map, Map, [&[usize]; 2]); 3] = [
        (
            "same",
            |t| ops::conv2d(&t[0], &t[1]),
            |t| t[0].conv2d(&t[1], 1, 1, 1, 1),
            [&[2, 16, 8, 12], &[24, 16, 3, 3]],
        ),
        (
            "down",
            |t| ops::conv2d_down(&t[0], &t[1]),
            |t| t[0].conv2d(&t[1], 0, 2, 1, 1),
            [&[2, 16, 9, 17], &[24, 16, 3, 3]],
        ),
        (
            "up",
            |t| ops::conv2d_up(&t[0], &t[1]),
            |t| t[0].conv_transpose2d(&t[1].transpose(0, 1)?.contiguous()?, 0, 0, 2, 1),
            [&[2, 16, 4, 8], &[24, 16, 3, 3]],
        ),
    ];
    for (what, ours, candles, [a, b]) in maps {
        let inputs = [random(a, 70), random(b, 71)];
        let wide: Vec<Tensor> = inputs.iter().map(|t| t.to_dtype(DType::F64).unwrap()).collect();
        let theirs = orders(&candles, &wide).unwrap();
        let (exact, quick) = (orders(&ours, &inputs).unwrap(), fast(|| orders(&ours, &inputs).unwrap()));
        assert!(exact.iter().zip(&quick).any(|(a, b)| values(a) != values(b)), "{what}: the same kernels");
        for (i, b) in theirs.iter().enumerate() {
            close(&format!("{what}, array {i}"), &exact[i], b);
            close(&format!("{what}, fast, array {i}"), &quick[i], b);
        }
    }
}

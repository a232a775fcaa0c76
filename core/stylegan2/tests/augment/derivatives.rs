//! The adjoint, both orders of derivatives, threads and types.

use super::{augment, flat, random, worst};
use candle_core::{DType, Tensor, Var};
use shiftlens_stylegan2::rng::Rng;
use shiftlens_stylegan2::train::augment::{Augment, Params, Pipeline, Preset};

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    flat(a).iter().zip(flat(b)).map(|(a, b)| a * b).sum()
}

/// The gradient of the product of the result with y.
fn adjoint(augment: &Augment, params: &Params, x: &Tensor, y: &Tensor) -> Tensor {
    let x = Var::from_tensor(x).unwrap();
    let out = (augment.apply(x.as_tensor(), params).unwrap() * y).unwrap().sum_all().unwrap();
    out.backward().unwrap().get(x.as_tensor()).unwrap().clone()
}

#[test]
fn the_backward_pass_is_the_adjoint() {
    let presets = [
        Preset::Blit,
        Preset::Geom,
        Preset::Color,
        Preset::Filter,
        Preset::Noise,
        Preset::Cutout,
        Preset::Bgcfnc,
    ];
    for (i, (preset, channels)) in presets.iter().flat_map(|p| [(p, 1), (p, 3)]).enumerate() {
        let side = [8, 13][i % 2];
        let augment = Augment::new(&Pipeline::from(*preset), channels, side).unwrap();
        let mut params = augment.draw(12, 1.0, &mut Rng::new(i as u64, 0));
        if *preset == Preset::Geom {
            // So small that reflections repeat.
            params.samples[0].scale = 0.2;
        }
        let shape = [12, channels, side, side];
        let (x, y) = (random(&shape, 30), random(&shape, 31));
        let zero = x.zeros_like().unwrap();
        let ax = (augment.apply(&x, &params).unwrap() - augment.apply(&zero, &params).unwrap()).unwrap();
        let (left, right) = (dot(&ax, &y), dot(&x, &adjoint(&augment, &params, &x, &y)));
        assert!((left - right).abs() < 1e-10 * dot(&ax, &ax).sqrt() * dot(&y, &y).sqrt(), "{preset:?}");
        // Noise and brightness are not part of A.
        assert_eq!(worst(&adjoint(&augment, &params, &zero, &y), &adjoint(&augment, &params, &x, &y)), 0.0);
    }
}

/// `|d sum(y^3) / dx|^2`, a penalty as R1 is one, with y the augmented x.
fn penalty(augment: &Augment, params: &Params, x: &Tensor) -> Tensor {
    let y = augment.apply(x, params).unwrap();
    let value = (y.sqr().unwrap() * &y).unwrap().sum_all().unwrap();
    let gradient = value.backward().unwrap().get(x).unwrap().clone();
    gradient.sqr().unwrap().sum_all().unwrap()
}

#[test]
fn gradients_of_gradients_are_finite_differences() {
    shiftlens_stylegan2::enable_second_order();
    let augment = augment(3, 6);
    let params = augment.draw(2, 1.0, &mut Rng::new(7, 0));
    let x = random(&[2, 3, 6, 6], 40);
    let var = Var::from_tensor(&x).unwrap();
    let found = penalty(&augment, &params, var.as_tensor()).backward().unwrap();
    let found = found.get(var.as_tensor()).unwrap();
    let value = |x: Tensor| {
        let var = Var::from_tensor(&x).unwrap();
        penalty(&augment, &params, var.as_tensor()).to_scalar::<f64>().unwrap()
    };
    for seed in 0..8 {
        let way = random(&[2, 3, 6, 6], 50 + seed);
        let step = (&way * 1e-5).unwrap();
        let expected = (value((&x + &step).unwrap()) - value((&x - &step).unwrap())) / 2e-5;
        let found = dot(found, &way);
        assert!((found - expected).abs() < 1e-6 * expected.abs().max(1.0), "{seed}: {found} {expected}");
    }
}

#[test]
fn numbers_depend_neither_on_threads_nor_on_the_batch() {
    let augment = augment(3, 16);
    let params = augment.draw(9, 0.7, &mut Rng::new(8, 0));
    let x = random(&[9, 3, 16, 16], 60).to_dtype(DType::F32).unwrap();
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| flat(&augment.apply(&x, &params).unwrap()))
    };
    let all = on(1);
    assert_eq!(all, on(3));
    for i in 0..9 {
        let alone = Params { samples: vec![params.samples[i].clone()] };
        let y = flat(&augment.apply(&x.narrow(0, i, 1).unwrap(), &alone).unwrap());
        assert_eq!(y, all[i * 768..][..768], "image {i}");
    }
    // And in f32 they are those of f64, rounded.
    let wide = augment.apply(&x.to_dtype(DType::F64).unwrap(), &params).unwrap();
    let largest = flat(&wide).iter().fold(1.0, |a: f64, b| a.max(b.abs()));
    assert!(worst(&augment.apply(&x, &params).unwrap(), &wide) < 1e-5 * largest);
}

//! The affine weights that SeFa factorises are what moves the styles.

mod support;

use candle_core::{DType, Device, Tensor};
use shiftlens_stylegan2::net::{GeneratorNet, Noise, Stage};
use shiftlens_stylegan2::weights::Weights;
use shiftlens_stylegan2::{file, sefa};
use std::collections::HashMap;
use std::path::Path;

/// A generator of 16 pixels, six style inputs, with random weights.
fn write(path: &Path) -> GeneratorNet {
    let mut config = support::generator("g32");
    (config.resolution, config.w_dim, config.z_dim, config.channel_max) = (16, 12, 12, 20);
    let weights = Weights::random(3, &Device::Cpu);
    GeneratorNet::new(&config, &weights).unwrap();
    let tensors: HashMap<_, _> = weights.tensors().into_iter().map(|(k, t)| (k, t.detach())).collect();
    file::save_generator(path, &config, &tensors, DType::F32).unwrap();
    GeneratorNet::new(&config, &Weights::frozen(tensors, &Device::Cpu)).unwrap()
}

#[test]
fn a_step_of_the_inputs_moves_the_styles_as_the_matrix_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.safetensors");
    let net = write(&path);
    let step: Vec<f32> = (0..12).map(|j| (j as f32 * 1.7).sin()).collect();
    for inputs in [0..6, 2..4, 5..6] {
        let (d, a) = sefa::style_weights(&path, Some(inputs.clone())).unwrap();
        let expected: Vec<f64> = a
            .chunks_exact(d)
            .map(|row| row.iter().zip(&step).map(|(a, s)| f64::from(*a) * f64::from(*s)).sum())
            .collect();
        let change = |t: f32| {
            let data: Vec<f32> = (0..6)
                .flat_map(|l| step.iter().map(move |s| (l, t * s)))
                .map(|(l, v)| if inputs.contains(&l) { v } else { 0.0 })
                .collect();
            let mut styles = Vec::new();
            let codes = Tensor::from_vec(data, (1, 6, 12), &Device::Cpu).unwrap();
            let see = |_: usize, stage: Stage, t: &Tensor| {
                if matches!(stage, Stage::Style(_)) {
                    styles.extend(support::flat(t));
                }
            };
            net.trace_layers(&codes, Noise::Zero, see).unwrap();
            styles
        };
        let (moved, still) = (change(1.0), change(0.0));
        let found: Vec<f64> = moved.iter().zip(&still).map(|(a, b)| a - b).filter(|v| *v != 0.0).collect();
        assert_eq!(found.len(), expected.len(), "{inputs:?}");
        // All layers share the gain of their equalised learning rate, 1 / sqrt(D).
        for (f, e) in found.iter().zip(&expected) {
            assert!((f - e / 12f64.sqrt()).abs() < 1e-5, "{inputs:?}: {f} {e}");
        }
    }
    let all = sefa::style_weights(&path, None).unwrap();
    assert_eq!(all, sefa::style_weights(&path, Some(0..6)).unwrap());
    let message = sefa::style_weights(&path, Some(4..7)).unwrap_err().to_string();
    assert!(message.contains("the generator has 6"), "{message}");
}

//! The CPU engine against the reference's numbers and against [`GeneratorNet`], whose own tests are in `golden.rs`.

mod support;

use candle_core::{Device, Tensor};
use shiftlens_stylegan2::kernels::Isa;
use shiftlens_stylegan2::net::{Architecture, GeneratorConfig, GeneratorNet, Noise, SynthesisInput};
use shiftlens_stylegan2::synth::{Synthesis, SynthesisOptions};
use shiftlens_stylegan2::weights::Weights;
use support::{Arrays, generator, load};

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn engine(config: &GeneratorConfig, tensors: &Arrays, options: SynthesisOptions) -> Synthesis {
    let get = |name: &str, shape: &[usize]| -> Result<Vec<f32>, String> {
        let t = tensors.get(name).ok_or_else(|| format!("{name} is missing"))?;
        assert_eq!(t.dims(), shape, "{name}");
        Ok(flat(t))
    };
    Synthesis::new(config, options, get).unwrap()
}

/// Largest difference over the rms of `expected`.
fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let rms = (expected.iter().map(|v| v * v).sum::<f32>() / expected.len() as f32).sqrt();
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / rms.max(1e-12)
}

#[track_caller]
fn close(what: &str, found: &[f32], expected: &[f32], limit: f32) {
    let e = error(found, expected);
    println!("{what}: {e:.1e}");
    assert!(e < limit, "{what}: {e} of rms");
}

/// A network with every parameter drawn at random, biases, noise strengths and the mean of w included.
fn random(config: &GeneratorConfig, seed: u64) -> (Arrays, GeneratorNet) {
    let weights = Weights::random(seed, &Device::Cpu);
    GeneratorNet::new(config, &weights).unwrap();
    let mut tensors = Arrays::new();
    for (i, (name, t)) in weights.tensors().into_iter().enumerate() {
        let zero = name.ends_with("noise_strength") || name.ends_with("input.weight");
        let noisy = name.ends_with("bias") || zero;
        let t = if noisy { noise(&t, 0.3, i as u64) } else { t.clone() };
        tensors.insert(name, t.detach());
    }
    let net = GeneratorNet::new(config, &Weights::frozen(tensors.clone(), &Device::Cpu)).unwrap();
    (tensors, net)
}

/// `t` and small deviations.
fn noise(t: &Tensor, size: f32, seed: u64) -> Tensor {
    let values = normals(t.elem_count(), seed).iter().map(|v| v * size).collect::<Vec<_>>();
    (t.detach() + Tensor::from_vec(values, t.dims(), &Device::Cpu).unwrap()).unwrap()
}

fn normals(n: usize, seed: u64) -> Vec<f32> {
    shiftlens_stylegan2::rng::Rng::new(seed, 9).normals(n)
}

fn reference(net: &GeneratorNet, ws: &[f32], noise: bool) -> Vec<f32> {
    let (l, d) = (net.config().num_ws(), net.config().w_dim);
    let ws = Tensor::from_slice(ws, (ws.len() / (l * d), l, d), &Device::Cpu).unwrap();
    flat(&net.synthesize(&ws, if noise { Noise::Constant } else { Noise::Zero }).unwrap())
}

#[test]
fn images_match_the_reference_on_every_instruction_set() {
    for name in ["g32", "g64"] {
        let (Some(weights), Some(io)) =
            (load(&format!("{name}_G.safetensors")), load(&format!("{name}_io.safetensors")))
        else {
            continue;
        };
        for isa in Isa::available() {
            let options = SynthesisOptions { isa, ..SynthesisOptions::default() };
            let g = engine(&generator(name), &weights, options);
            for (ws, noise, image) in [
                ("ws_psi1", true, "img_const_psi1"),
                ("ws_psi1", false, "img_none_psi1"),
                ("ws_psi0.7", true, "img_const_psi0.7"),
                ("ws_psi0.7", false, "img_none_psi0.7"),
                ("ws_mixed", true, "img_const_mixed"),
            ] {
                let x = g.synthesize(&flat(&io[ws]), noise);
                close(&format!("{name} {isa:?} {image}"), &x, &flat(&io[image]), 1e-4);
            }
            let clamped = GeneratorConfig { conv_clamp: Some(0.5), ..generator(name) };
            let x = engine(&clamped, &weights, options).synthesize(&flat(&io["ws_psi1"]), true);
            close(&format!("{name} {isa:?} clamped"), &x, &flat(&io["img_const_psi1_conv_clamp0.5"]), 1e-4);
        }
    }
}

#[test]
fn activations_match_the_reference_block_by_block() {
    let (Some(weights), Some(io), Some(act)) =
        (load("g32_G.safetensors"), load("g32_io.safetensors"), load("g32_activations.safetensors"))
    else {
        return;
    };
    let g = engine(&generator("g32"), &weights, SynthesisOptions::default());
    for n in 0..4 {
        let ws = flat(&io["ws_psi1"].narrow(0, n, 1).unwrap());
        let of = |name: String| flat(&act[&name].narrow(0, n, 1).unwrap());
        g.trace(&ws, true, &|r, x, image| {
            close(&format!("b{r}.x"), x, &of(format!("b{r}.x")), 1e-4);
            close(&format!("b{r}.img"), image, &of(format!("b{r}.img")), 1e-4);
        });
    }
}

#[test]
fn every_shape_of_network_gives_the_images_of_the_plain_one() {
    let base = GeneratorConfig {
        resolution: 32,
        channels: 2,
        z_dim: 7,
        w_dim: 10,
        mapping_layers: 1,
        channel_base: 640,
        channel_max: 37,
        conv_clamp: None,
        architecture: Architecture::Skip,
        input: SynthesisInput::Constant,
        label_dim: 0,
    };
    let mut seed = 0;
    let mut check = |c: GeneratorConfig| {
        seed += 1;
        let (tensors, net) = random(&c, seed);
        let ws = normals(3 * c.num_ws() * c.w_dim, seed);
        let g = engine(&c, &tensors, SynthesisOptions { threads: 2, ..SynthesisOptions::default() });
        for noise in [true, false] {
            let (found, expected) = (g.synthesize(&ws, noise), reference(&net, &ws, noise));
            close(&format!("{c:?} {noise}"), &found, &expected, 1e-4);
        }
    };
    for channels in 1..=4 {
        check(GeneratorConfig { channels, ..base.clone() });
    }
    for resolution in [8, 16, 64, 128] {
        check(GeneratorConfig { resolution, ..base.clone() });
    }
    check(GeneratorConfig { conv_clamp: Some(1.5), ..base.clone() });
    check(GeneratorConfig { input: SynthesisInput::Latent, ..base.clone() });
    for architecture in [Architecture::Resnet, Architecture::Orig] {
        check(GeneratorConfig { architecture, ..base.clone() });
        check(GeneratorConfig { architecture, conv_clamp: Some(1.5), resolution: 8, ..base.clone() });
    }
    check(GeneratorConfig { channel_base: 4096, channel_max: 150, w_dim: 64, ..base });
}

#[test]
fn the_largest_resolution_with_single_feature_maps_gives_the_images_of_the_plain_network() {
    let c = GeneratorConfig { resolution: 1024, channel_base: 1024, channel_max: 3, ..generator("g32") };
    let (tensors, net) = random(&c, 9);
    let ws = normals(c.num_ws() * c.w_dim, 9);
    let g = engine(&c, &tensors, SynthesisOptions { threads: 2, ..SynthesisOptions::default() });
    close("1024 pixels", &g.synthesize(&ws, true), &reference(&net, &ws, true), 1e-4);
}

#[test]
fn an_image_depends_on_neither_threads_nor_its_batch_nor_where_weights_are_kept() {
    let c = GeneratorConfig { channel_base: 8192, channel_max: 64, ..generator("g64") };
    let (tensors, _) = random(&c, 5);
    let (l, d) = (c.num_ws(), c.w_dim);
    let ws = normals(19 * l * d, 3);
    let options = SynthesisOptions { threads: 1, ..SynthesisOptions::default() };
    let expected = engine(&c, &tensors, options).synthesize(&ws, true);
    for threads in [2, 5] {
        let g = engine(&c, &tensors, SynthesisOptions { threads, ..options });
        assert!(g.synthesize(&ws, true) == expected, "{threads} threads");
    }
    let g = engine(&c, &tensors, SynthesisOptions { weight_budget: 0, threads: 2, ..options });
    assert!(g.synthesize(&ws, true) == expected, "weights transformed at every use");
    let alone: Vec<f32> = ws.chunks_exact(l * d).flat_map(|w| g.synthesize(w, true)).collect();
    assert!(alone == expected, "one at a time");
    assert!(g.synthesize(&[], true).is_empty());
}

#[test]
fn a_series_is_the_images_of_its_codes() {
    series_of(Architecture::Skip, SynthesisInput::Constant, 1e-5);
    series_of(Architecture::Skip, SynthesisInput::Latent, 1e-5);
    // Without output skips rounding grows from block to block: these networks' plain images, too, are up to 2e-5 from
    // those of `GeneratorNet`.
    series_of(Architecture::Resnet, SynthesisInput::Constant, 3e-5);
    series_of(Architecture::Orig, SynthesisInput::Constant, 3e-5);
}

fn series_of(architecture: Architecture, input: SynthesisInput, limit: f32) {
    let c = GeneratorConfig { channel_base: 2048, channel_max: 64, architecture, input, ..generator("g64") };
    let (tensors, _) = random(&c, 6);
    let g = engine(&c, &tensors, SynthesisOptions { threads: 2, ..SynthesisOptions::default() });
    let (l, d) = (c.num_ws(), c.w_dim);
    let w = normals(l * d, 1);
    let steps = [-3.0, -1.0, 0.0, 0.25, 2.0];
    for from in 0..=l {
        for to in [from + 1, l] {
            let mut change = vec![0.0; l * d];
            if from < l {
                change[from * d..to.min(l) * d].copy_from_slice(&normals(l * d, 2)[from * d..to.min(l) * d]);
            }
            let codes: Vec<f32> =
                steps.iter().flat_map(|t| w.iter().zip(&change).map(move |(w, c)| w + t * c)).collect();
            let plain = g.synthesize(&codes, true);
            let series = g.series(&w, &change, &steps, true);
            close(&format!("{architecture:?} {input:?} {from}..{to}"), &series, &plain, limit);
        }
    }
    let one = g.series(&w, &normals(l * d, 2), &[1.5], true);
    let code: Vec<f32> = w.iter().zip(normals(l * d, 2)).map(|(w, c)| w + 1.5 * c).collect();
    close("one step", &one, &g.synthesize(&code, true), limit);
}

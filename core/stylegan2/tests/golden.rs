//! Numbers of the reference implementation: those of the 32x32 network stand in `tests/fixtures`, the larger ones in
//! `../shared/golden/stylegan2` beside the repository, where that folder is there. Random weights, made with the
//! reference's CPU operators in f32.

use candle_core::{DType, Device, Tensor, Var};
use shiftlens_stylegan2::net::{
    Architecture, Discriminator, DiscriminatorConfig, GeneratorConfig, GeneratorNet, Noise,
};
use shiftlens_stylegan2::weights::Weights;
use std::collections::HashMap;
use std::path::PathBuf;

type Arrays = HashMap<String, Tensor>;

fn folder() -> Option<PathBuf> {
    let f = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/stylegan2");
    f.is_dir().then_some(f)
}

fn load(name: &str) -> Option<Arrays> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let file = if here.exists() { Some(here) } else { folder().map(|f| f.join(name)) };
    let Some(file) = file else {
        println!("{name} skipped: no ../shared/golden/stylegan2 beside the repository");
        return None;
    };
    Some(candle_core::safetensors::load(file, &Device::Cpu).unwrap())
}

fn configs(name: &str) -> (GeneratorConfig, DiscriminatorConfig) {
    let (resolution, channels, dim, base, max, mapping) = match name {
        "g32" => (32, 1, 64, 2048, 64, 2),
        _ => (64, 3, 128, 4096, 128, 8),
    };
    (
        GeneratorConfig {
            resolution,
            channels,
            z_dim: dim,
            w_dim: dim,
            mapping_layers: mapping,
            channel_base: base,
            channel_max: max,
            conv_clamp: None,
            architecture: Architecture::Skip,
            label_dim: 0,
        },
        DiscriminatorConfig {
            resolution,
            channels,
            channel_base: base,
            channel_max: max,
            mbstd_group: 4,
            mbstd_channels: 1,
            conv_clamp: None,
            architecture: Architecture::Resnet,
            label_dim: 0,
            cmap_dim: None,
            mapping_layers: 8,
        },
    )
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference over the rms of `expected`.
fn error(found: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    let (a, b) = (flat(found), flat(expected));
    let rms = (b.iter().map(|v| v * v).sum::<f32>() / b.len() as f32).sqrt();
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / rms.max(1e-12)
}

/// L2 norm of the difference over the norm of `expected`.
fn relative(found: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    let (a, b) = (flat(found), flat(expected));
    let norm = b.iter().map(|v| v * v).sum::<f32>().sqrt();
    a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt() / norm.max(1e-12)
}

#[track_caller]
fn close(what: &str, found: &Tensor, expected: &Tensor, limit: f32) {
    let e = error(found, expected);
    println!("{what}: {e:.1e}");
    assert!(e < limit, "{what}: {e} of rms");
}

#[test]
fn generator_matches_the_reference() {
    for name in ["g32", "g64"] {
        let (Some(weights), Some(io)) =
            (load(&format!("{name}_G.safetensors")), load(&format!("{name}_io.safetensors")))
        else {
            continue;
        };
        let (config, _) = configs(name);
        let weights = Weights::frozen(weights, &Device::Cpu);
        let g = GeneratorNet::new(&config, &weights).unwrap();
        let w = g.map(&io["z"]).unwrap();
        close("ws_psi1", &g.broadcast(&w).unwrap().contiguous().unwrap(), &io["ws_psi1"], 1e-4);
        let t = g.broadcast(&g.truncate(&w, 0.7).unwrap()).unwrap().contiguous().unwrap();
        close("ws_psi0.7", &t, &io["ws_psi0.7"], 1e-4);
        let image = |ws: &str, n: Noise<'_>| g.synthesize(&io[ws], n).unwrap();
        close("const psi 1", &image("ws_psi1", Noise::Constant), &io["img_const_psi1"], 1e-4);
        close("none psi 1", &image("ws_psi1", Noise::Zero), &io["img_none_psi1"], 1e-4);
        close("const psi 0.7", &image("ws_psi0.7", Noise::Constant), &io["img_const_psi0.7"], 1e-4);
        close("const mixed", &image("ws_mixed", Noise::Constant), &io["img_const_mixed"], 1e-4);
        let clamped = GeneratorConfig { conv_clamp: Some(0.5), ..config };
        let g = GeneratorNet::new(&clamped, &weights).unwrap();
        let x = g.synthesize(&io["ws_psi1"], Noise::Constant).unwrap();
        close("clamped", &x, &io["img_const_psi1_conv_clamp0.5"], 1e-4);
    }
}

#[test]
fn activations_match_the_reference() {
    let (Some(weights), Some(io), Some(act)) =
        (load("g32_G.safetensors"), load("g32_io.safetensors"), load("g32_activations.safetensors"))
    else {
        return;
    };
    let (config, d_config) = configs("g32");
    let g = GeneratorNet::new(&config, &Weights::frozen(weights, &Device::Cpu)).unwrap();
    g.trace(&io["ws_psi1"], Noise::Constant, |r, x, image| {
        close(&format!("b{r}.x"), x, &act[&format!("b{r}.x")], 1e-4);
        close(&format!("b{r}.img"), image, &act[&format!("b{r}.img")], 1e-4);
    })
    .unwrap();
    let weights = Weights::frozen(load("g32_D.safetensors").unwrap(), &Device::Cpu);
    let d = Discriminator::new(&d_config, &weights).unwrap();
    d.trace(&io["img_const_psi1"], |name, x| {
        let expected = &act[&format!("D.{name}")];
        close(name, x, expected, 1e-4);
    })
    .unwrap();
}

#[test]
fn discriminator_and_r1_match_the_reference() {
    shiftlens_stylegan2::enable_second_order();
    for name in ["g32", "g64"] {
        let (Some(weights), Some(io)) =
            (load(&format!("{name}_D.safetensors")), load(&format!("{name}_io.safetensors")))
        else {
            continue;
        };
        let (_, config) = configs(name);
        let weights = Weights::trainable(weights, &Device::Cpu);
        let d = Discriminator::new(&config, &weights).unwrap();
        let x = &io["img_const_psi1"];
        let absolute = |what: &str, found: &Tensor, expected: &Tensor| {
            let e = flat(found).iter().zip(flat(expected)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("{what}: {e:.1e} absolute");
            assert!(e < 1e-4, "{what}: {e}");
        };
        absolute("logits", &d.forward(x).unwrap(), &io["D_logits"]);
        let alone: Vec<Tensor> = (0..4).map(|i| d.forward(&x.narrow(0, i, 1).unwrap()).unwrap()).collect();
        absolute("logits alone", &Tensor::cat(&alone, 0).unwrap(), &io["D_logits_batch_of_1"]);
        absolute("logits of 2", &d.forward(&x.narrow(0, 0, 2).unwrap()).unwrap(), &io["D_logits_first2"]);
        let eight = Tensor::cat(&[x, &io["img_none_psi0.7"]], 0).unwrap();
        absolute("logits of 8", &d.forward(&eight).unwrap(), &io["D_logits_batch_of_8"]);

        let images = Var::from_tensor(x).unwrap();
        let logits = d.forward(images.as_tensor()).unwrap();
        let grads = logits.sum_all().unwrap().backward().unwrap();
        let g = grads.get(images.as_tensor()).unwrap().clone();
        assert!(relative(&g, &io["D_grad_img"]) < 1e-3);
        let penalty = g.sqr().unwrap().sum((1, 2, 3)).unwrap();
        assert!(relative(&penalty, &io["D_r1_penalty"]) < 1e-3);
        if let ("g32", Some(expected)) = (name, load("g32_param_grads.safetensors")) {
            let loss = (penalty.mean_all().unwrap() * 5.0).unwrap();
            let grads = loss.backward().unwrap();
            let mut checked = 0;
            for (name, var) in weights.vars() {
                if let Some(e) = expected.get(&format!("r1.{name}")) {
                    let zero = e.zeros_like().unwrap();
                    let found = grads.get(var.as_tensor()).unwrap_or(&zero);
                    let r = relative(found, e);
                    println!("r1.{name}: {r:.1e}");
                    assert!(r < 1e-3 || flat(e).iter().all(|v| v.abs() < 1e-9), "r1.{name}: {r}");
                    checked += 1;
                }
            }
            assert!(checked > 10, "only {checked} gradients to compare");
        }
    }
}

#[test]
fn generator_gradients_match_the_reference() {
    let (Some(g_weights), Some(d_weights), Some(io), Some(expected)) = (
        load("g32_G.safetensors"),
        load("g32_D.safetensors"),
        load("g32_io.safetensors"),
        load("g32_param_grads.safetensors"),
    ) else {
        return;
    };
    let (config, d_config) = configs("g32");
    let weights = Weights::trainable(g_weights, &Device::Cpu);
    let g = GeneratorNet::new(&config, &weights).unwrap();
    let d = Discriminator::new(&d_config, &Weights::frozen(d_weights, &Device::Cpu)).unwrap();
    let ws = g.broadcast(&g.map(&io["z"]).unwrap()).unwrap();
    let logits = d.forward(&g.synthesize(&ws, Noise::Constant).unwrap()).unwrap();
    // softplus(-x) = log(1 + exp(-x)); the logits here are small
    let loss = (logits.neg().unwrap().exp().unwrap() + 1.0).unwrap().log().unwrap().mean_all().unwrap();
    let grads = loss.backward().unwrap();
    let mut checked = 0;
    for (name, var) in weights.vars() {
        if let Some(e) = expected.get(&format!("gmain.{name}")) {
            let zero = e.zeros_like().unwrap();
            let r = relative(grads.get(var.as_tensor()).unwrap_or(&zero), e);
            println!("gmain.{name}: {r:.1e}");
            assert!(r < 1e-3 || flat(e).iter().all(|v| v.abs() < 1e-9), "gmain.{name}: {r}");
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} gradients to compare");
}

//! Numbers of the reference implementation: those of the 32x32 network stand in `tests/fixtures`, the larger ones in
//! `../shared/golden/stylegan2` beside the repository, where that folder is there. Random weights, made with the
//! reference's CPU operators in f32.
//!
//! Every array is compared: here all of `gNN_io` but its inputs `z` and `pl_noise`, of `g32_activations` and of
//! `g32_param_grads`, which these tests check to be complete; in `golden_ops.rs` the single operators. `loss` values
//! stand in the files' JSON and are copied here.

mod support;

use candle_core::{Device, Tensor, Var};
use shiftlens_stylegan2::kernels::conv::{fast, gathered};
use shiftlens_stylegan2::net::{
    Discriminator, DiscriminatorConfig, GeneratorConfig, GeneratorNet, Noise, Stage,
};
use shiftlens_stylegan2::train::{PathLength, path_lengths};
use shiftlens_stylegan2::weights::Weights;
use support::{close, close_gradients, discriminator, flat, generator, load, relative};

/// A network: its name, and what its JSON says of the path length: the mean after a step from 0 and the loss, then mean,
/// mean after and loss of a warm start.
struct Network {
    name: &'static str,
    path_length: [f64; 5],
}

const NETWORKS: [Network; 2] = [
    Network {
        name: "g32",
        path_length: [
            0.0021292956080287695,
            0.0964403748512268,
            0.1916366070508957,
            0.19184952974319458,
            0.008455590344965458,
        ],
    },
    Network {
        name: "g64",
        path_length: [
            0.0025079548358917236,
            0.1336565613746643,
            0.22571593523025513,
            0.22596673667430878,
            0.011596099473536015,
        ],
    },
];

fn configs(name: &str) -> (GeneratorConfig, DiscriminatorConfig) {
    let g = generator(name);
    let d = discriminator(g.resolution, g.channels, g.channel_base, g.channel_max);
    (g, d)
}

#[test]
fn generator_matches_the_reference() {
    for Network { name, .. } in NETWORKS {
        let (Some(weights), Some(io)) =
            (load(&format!("{name}_G.safetensors")), load(&format!("{name}_io.safetensors")))
        else {
            continue;
        };
        let (config, _) = configs(name);
        let weights = Weights::frozen(weights, &Device::Cpu);
        let g = GeneratorNet::new(&config, &weights).unwrap();
        let w = g.map(&io["z"]).unwrap();
        let wide = g.broadcast(&w).unwrap().contiguous().unwrap();
        close("ws_psi1", &wide, &io["ws_psi1"]);
        let t = g.broadcast(&g.truncate(&w, 0.7).unwrap()).unwrap().contiguous().unwrap();
        close("ws_psi0.7", &t, &io["ws_psi0.7"]);
        close("ws_psi0.7, wide", &g.truncate(&wide, 0.7).unwrap(), &io["ws_psi0.7"]);
        close("cutoff", &g.truncate_first(&wide, 0.5, 3).unwrap(), &io["ws_psi0.5_cutoff3"]);
        let rows = config.num_ws();
        close("no cutoff", &g.truncate_first(&wide, 0.7, rows + 1).unwrap(), &io["ws_psi0.7"]);
        assert_eq!(flat(&g.truncate_first(&wide, 0.7, 0).unwrap()), flat(&wide));
        let half = rows / 2;
        let mixed = [wide.narrow(1, 0, half), wide.narrow(1, half, rows - half)].map(Result::unwrap);
        let late =
            Tensor::cat(&[mixed[1].narrow(0, 2, 2).unwrap(), mixed[1].narrow(0, 2, 2).unwrap()], 0).unwrap();
        close("ws_mixed", &Tensor::cat(&[&mixed[0], &late], 1).unwrap(), &io["ws_mixed"]);

        let image = |ws: &str, n: Noise<'_>| g.synthesize(&io[ws], n).unwrap();
        close("const psi 1", &image("ws_psi1", Noise::Constant), &io["img_const_psi1"]);
        close("none psi 1", &image("ws_psi1", Noise::Zero), &io["img_none_psi1"]);
        close("const psi 0.7", &image("ws_psi0.7", Noise::Constant), &io["img_const_psi0.7"]);
        close("none psi 0.7", &image("ws_psi0.7", Noise::Zero), &io["img_none_psi0.7"]);
        close("const mixed", &image("ws_mixed", Noise::Constant), &io["img_const_mixed"]);
        let clamped = GeneratorConfig { conv_clamp: Some(0.5), ..config };
        let g = GeneratorNet::new(&clamped, &weights).unwrap();
        let x = g.synthesize(&io["ws_psi1"], Noise::Constant).unwrap();
        close("clamped", &x, &io["img_const_psi1_conv_clamp0.5"]);
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
    let mut left: std::collections::BTreeSet<String> = act.keys().cloned().collect();
    let mut compare = |name: String, found: &Tensor| {
        close(&name, found, &act[&name]);
        assert!(left.remove(&name), "{name} was shown twice");
    };
    g.trace_layers(&io["ws_psi1"], Noise::Constant, |r, stage, t| match stage {
        Stage::Style(layer) => compare(format!("b{r}.{}.affine", layer.name()), t),
        Stage::Output(layer) => {
            compare(format!("b{r}.{}.sample0", layer.name()), &t.narrow(0, 0, 1).unwrap())
        }
        Stage::Features => compare(format!("b{r}.x"), t),
        Stage::Image => compare(format!("b{r}.img"), t),
    })
    .unwrap();
    let weights = Weights::frozen(load("g32_D.safetensors").unwrap(), &Device::Cpu);
    let d = Discriminator::new(&d_config, &weights).unwrap();
    d.trace(&io["img_const_psi1"], |name, x| compare(format!("D.{name}"), x)).unwrap();
    assert!(left.is_empty(), "never shown: {left:?}");
    // The older view of the same pass.
    let mut blocks = 0;
    let (x, image) = g
        .trace(&io["ws_psi1"], Noise::Constant, |r, x, image| {
            close("features", x, &act[&format!("b{r}.x")]);
            close("image", image, &act[&format!("b{r}.img")]);
            blocks += 1;
        })
        .unwrap();
    assert_eq!(blocks, 4);
    close("last features", &x, &act["b32.x"]);
    close("last image", &image, &io["img_const_psi1"]);
}

// The fast convolutions are compared in backward passes of both orders, behind forward passes by gathered rows: at an
// input of a leaky ReLU that is 0 but for rounding, the reference's slope is as good as the other, and tells nothing.

#[test]
fn discriminator_and_r1_match_the_reference() {
    discriminator_and_r1();
}

#[test]
fn discriminator_and_r1_match_the_reference_by_fast_convolutions() {
    fast(discriminator_and_r1);
}

fn discriminator_and_r1() {
    shiftlens_stylegan2::enable_second_order();
    for Network { name, .. } in NETWORKS {
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
            let e = flat(found).iter().zip(flat(expected)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
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
        let logits = gathered(|| d.forward(images.as_tensor()).unwrap());
        let grads = logits.sum_all().unwrap().backward().unwrap();
        let g = grads.get(images.as_tensor()).unwrap().clone();
        let penalty = g.sqr().unwrap().sum((1, 2, 3)).unwrap();
        for (what, found, expected) in
            [("D_grad_img", &g, &io["D_grad_img"]), ("D_r1_penalty", &penalty, &io["D_r1_penalty"])]
        {
            let r = relative(found, expected);
            println!("{what}: {r:.1e}");
            assert!(r < 1e-4, "{what}: {r}");
        }
        if let ("g32", Some(expected)) = (name, load("g32_param_grads.safetensors")) {
            let loss = (penalty.mean_all().unwrap() * 5.0).unwrap();
            assert!((flat(&loss)[0] - 0.010589220561087132).abs() < 1e-6);
            let grads = loss.backward().unwrap();
            assert_eq!(close_gradients("r1", &weights.vars(), &grads, &expected), 19);
        }
    }
}

#[test]
fn path_length_matches_the_reference() {
    path_length();
}

#[test]
fn path_length_matches_the_reference_by_fast_convolutions() {
    fast(path_length);
}

fn path_length() {
    shiftlens_stylegan2::enable_second_order();
    for Network { name, path_length: [after, loss, warm, warm_after, warm_loss] } in NETWORKS {
        let (Some(weights), Some(io)) =
            (load(&format!("{name}_G.safetensors")), load(&format!("{name}_io.safetensors")))
        else {
            continue;
        };
        let weights = Weights::trainable(weights, &Device::Cpu);
        let g = GeneratorNet::new(&configs(name).0, &weights).unwrap();
        let ws = Var::from_tensor(&io["ws_psi1"]).unwrap();
        let images = gathered(|| g.synthesize(ws.as_tensor(), Noise::Constant).unwrap());
        let y = &io["pl_noise"];
        let first = (&images * y).unwrap().sum_all().unwrap().backward().unwrap();
        close("pl_grads", first.get(ws.as_tensor()).unwrap(), &io["pl_grads"]);
        let lengths = path_lengths(&images, &ws, y).unwrap();
        close("pl_lengths", &lengths, &io["pl_lengths"]);
        let near = |what: &str, found: f64, expected: f64| {
            assert!((found - expected).abs() < 1e-4 * expected, "{what}: {found}, expected {expected}");
        };
        let mut mean = PathLength { mean: warm };
        close("pl_penalty_warm", &mean.penalties(&lengths).unwrap(), &io["pl_penalty_warm"]);
        near("mean after a warm step", mean.mean, warm_after);
        let again = PathLength { mean: warm }.loss(&lengths).unwrap();
        near("loss of a warm step", flat(&again)[0], warm_loss);
        let mut mean = PathLength::default();
        close("pl_penalty", &mean.penalties(&lengths).unwrap(), &io["pl_penalty"]);
        near("mean", mean.mean, after);
        let total = PathLength::default().loss(&lengths).unwrap();
        near("loss", flat(&total)[0], loss);
        if let ("g32", Some(expected)) = (name, load("g32_param_grads.safetensors")) {
            let grads = total.backward().unwrap();
            assert_eq!(close_gradients("pl", &weights.vars(), &grads, &expected), 49);
        }
    }
}

#[test]
fn generator_gradients_match_the_reference() {
    generator_gradients();
}

#[test]
fn generator_gradients_match_the_reference_by_fast_convolutions() {
    fast(generator_gradients);
}

fn generator_gradients() {
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
    let logits = gathered(|| d.forward(&g.synthesize(&ws, Noise::Constant).unwrap()).unwrap());
    // softplus(-x) = log(1 + exp(-x)); the logits here are small
    let loss = (logits.neg().unwrap().exp().unwrap() + 1.0).unwrap().log().unwrap().mean_all().unwrap();
    assert!((flat(&loss)[0] - 0.4641256332397461).abs() < 1e-5);
    let grads = loss.backward().unwrap();
    assert_eq!(close_gradients("gmain", &weights.vars(), &grads, &expected), 53);
}

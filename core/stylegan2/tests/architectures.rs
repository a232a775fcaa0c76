//! Architectures, labels, channels and sizes that the reference's numbers leave out, against the papers' formulas in
//! float64: `oracle/make.py` wrote `fixtures/oracle`.

mod support;

use candle_core::{Device, Tensor, Var};
use shiftlens_api::{Generator, LatentCodes};
use shiftlens_stylegan2::file::{sample_w, sample_w_of, save_generator};
use shiftlens_stylegan2::net::{
    Architecture, Discriminator, DiscriminatorConfig, GeneratorConfig, GeneratorNet, Noise, Stage, one_hot,
};
use shiftlens_stylegan2::ops;
use shiftlens_stylegan2::rng::Rng;
use shiftlens_stylegan2::train::{PathLength, path_lengths};
use shiftlens_stylegan2::weights::Weights;
use shiftlens_stylegan2::{GeneratorOptions, StyleGan2Generator};
use support::{Arrays, close, close_gradients, fixtures, flat, part, relative};

/// Names and arrays of the cases whose names begin with `kind`, with their configurations as JSON in kebab case.
fn cases(kind: &str) -> Vec<(String, serde_json::Value, Arrays)> {
    let mut names: Vec<String> = std::fs::read_dir(fixtures().join("oracle"))
        .unwrap()
        .filter_map(|f| {
            f.unwrap().file_name().into_string().ok()?.strip_suffix(".safetensors").map(str::to_owned)
        })
        .filter(|n| n.starts_with(kind))
        .collect();
    names.sort();
    let read = |name: String| {
        let bytes = std::fs::read(fixtures().join("oracle").join(format!("{name}.safetensors"))).unwrap();
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let case = metadata.metadata().as_ref().unwrap()["case"].clone();
        let config: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&case).unwrap();
        let config = config.into_iter().map(|(k, v)| (k.replace('_', "-"), v)).collect();
        (name, config, candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap())
    };
    names.into_iter().map(read).collect()
}

#[test]
fn generators_give_the_formulas_values_and_gradients() {
    shiftlens_stylegan2::enable_second_order();
    let all = cases("g_");
    assert_eq!(all.len(), 8);
    for (name, config, a) in all {
        println!("{name}");
        let config: GeneratorConfig = serde_json::from_value(config).unwrap();
        let tensors = part(&a, "G");
        let weights = Weights::trainable(tensors.clone(), &Device::Cpu);
        let g = GeneratorNet::new(&config, &weights).unwrap();
        // Nothing of the reference network is left unused.
        assert_eq!(weights.tensors().len(), tensors.len());

        let w = g.map_labelled(&a["z"], a.get("labels")).unwrap();
        let wide = g.broadcast(&w).unwrap().contiguous().unwrap();
        close("ws", &wide, &a["ws"]);
        close("psi", &g.truncate(&wide, 0.6).unwrap(), &a["ws_psi0.6"]);
        close("cutoff", &g.truncate_first(&wide, 0.6, 2).unwrap(), &a["ws_psi0.6_cutoff2"]);
        let mut shown = 0;
        let image = g
            .trace_layers(&a["ws"], Noise::Constant, |r, stage, t| {
                let name = match stage {
                    Stage::Features => format!("act.b{r}.x"),
                    Stage::Image => format!("act.b{r}.img"),
                    Stage::Style(_) | Stage::Output(_) => return,
                };
                close(&name, t, &a[&name]);
                shown += 1;
            })
            .unwrap();
        assert_eq!(shown, part(&a, "act").len());
        close("img", &image, &a["img"]);
        close("img_plus", &g.synthesize(&a["ws_plus"], Noise::Constant).unwrap(), &a["img_plus"]);
        close("img_plus_none", &g.synthesize(&a["ws_plus"], Noise::Zero).unwrap(), &a["img_plus_none"]);

        let ws = g.broadcast(&w).unwrap();
        let loss =
            (g.synthesize(&ws, Noise::Constant).unwrap() * &a["loss_weights"]).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        let count = close_gradients("grad", &weights.vars(), &grads, &a);
        assert_eq!(count, weights.vars().len());

        let ws = Var::from_tensor(&a["ws_plus"]).unwrap();
        let images = g.synthesize(ws.as_tensor(), Noise::Constant).unwrap();
        let y = (&a["loss_weights"] / config.resolution as f64).unwrap();
        let lengths = path_lengths(&images, &ws, &y).unwrap();
        close("path lengths", &lengths, &a["pl_lengths"]);
        let grads = PathLength::default().loss(&lengths).unwrap().backward().unwrap();
        assert!(close_gradients("plgrad", &weights.vars(), &grads, &a) > 10);
    }
}

#[test]
fn discriminators_give_the_formulas_values_and_gradients() {
    shiftlens_stylegan2::enable_second_order();
    let all = cases("d_");
    assert_eq!(all.len(), 6);
    for (name, config, a) in all {
        println!("{name}");
        let config: DiscriminatorConfig = serde_json::from_value(config).unwrap();
        let tensors = part(&a, "D");
        let weights = Weights::trainable(tensors.clone(), &Device::Cpu);
        let d = Discriminator::new(&config, &weights).unwrap();
        assert_eq!(weights.tensors().len(), tensors.len());
        let images = Var::from_tensor(&a["images"]).unwrap();
        if config.label_dim == 0 {
            let mut shown = 0;
            d.trace(images.as_tensor(), |name, t| {
                if let Some(expected) = a.get(&format!("act.D.{name}")) {
                    close(name, t, expected);
                    shown += 1;
                }
            })
            .unwrap();
            assert_eq!(shown, part(&a, "act").len());
        }
        let logits = d.forward_labelled(images.as_tensor(), a.get("labels")).unwrap();
        close("logits", &logits, &a["logits"]);
        let grads = logits.sum_all().unwrap().backward().unwrap();
        let g = grads.get(images.as_tensor()).unwrap().clone();
        let r = relative(&g, &a["grad_images"]);
        assert!(r < 1e-4, "gradient of the images: {r}");
        let penalty = g.sqr().unwrap().sum((1, 2, 3)).unwrap();
        close("R1", &penalty, &a["r1_penalty"]);
        let grads = (penalty.mean_all().unwrap() * 5.0).unwrap().backward().unwrap();
        assert!(close_gradients("r1", &weights.vars(), &grads, &a) >= 9);
    }
}

/// What a GPU executes gives the same, see `device.rs`.
#[test]
fn every_architecture_runs_on_the_composed_operations() {
    ops::composed(generators_give_the_formulas_values_and_gradients);
    ops::composed(discriminators_give_the_formulas_values_and_gradients);
}

#[test]
fn labels_are_asked_for_where_they_belong() {
    let find = |name: &str| cases(name).remove(0);
    let (_, config, a) = find("g_skip_labels");
    let g: GeneratorConfig = serde_json::from_value(config).unwrap();
    let g = GeneratorNet::new(&g, &Weights::frozen(part(&a, "G"), &Device::Cpu)).unwrap();
    let says = |e: candle_core::Result<Tensor>, words: &str| {
        let e = e.unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    };
    says(g.map(&a["z"]), "class-conditional: labels [N, 3] are missing");
    says(g.map_labelled(&a["z"], Some(&a["z"])), "labels: expected [N, 3], found [2, 6]");
    says(g.map_labelled(&a["labels"], Some(&a["labels"])), "latent codes z: expected [N, 6]");
    says(one_hot(&[0, 3], 3, &Device::Cpu), "class 3: expected an index below 3");
    assert_eq!(flat(&one_hot(&[2, 0], 3, &Device::Cpu).unwrap()), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    let (_, config, b) = find("g_resnet");
    let plain: GeneratorConfig = serde_json::from_value(config).unwrap();
    let plain = GeneratorNet::new(&plain, &Weights::frozen(part(&b, "G"), &Device::Cpu)).unwrap();
    says(plain.map_labelled(&b["z"], Some(&a["labels"])), "knows no classes");
    let (_, config, c) = find("d_skip_clamped_labels");
    let d: DiscriminatorConfig = serde_json::from_value(config).unwrap();
    let d = Discriminator::new(&d, &Weights::frozen(part(&c, "D"), &Device::Cpu)).unwrap();
    says(d.forward(&c["images"]), "labels [N, 3] are missing");
    says(d.forward_labelled(&c["images"], Some(&a["labels"])), "4 images and 2 labels");
    says(d.forward_labelled(&c["labels"], Some(&c["labels"])), "expected [N, 2, 16, 16]");
    let (_, config, c) = find("d_orig");
    let d: DiscriminatorConfig = serde_json::from_value(config).unwrap();
    let d = Discriminator::new(&d, &Weights::frozen(part(&c, "D"), &Device::Cpu)).unwrap();
    says(d.forward_labelled(&c["images"], Some(&a["labels"])), "knows no classes");
}

/// Codes of rows, for comparison with those of a `Generator`.
fn codes(w: &Tensor) -> Vec<f32> {
    w.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn a_generator_samples_the_class_that_it_is_asked_for() {
    let (_, config, a) = cases("g_skip_labels").remove(0);
    let config: GeneratorConfig = serde_json::from_value(config).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.safetensors");
    let tensors = part(&a, "G");
    save_generator(&path, &config, &tensors, candle_core::DType::F32).unwrap();
    let net = GeneratorNet::new(&config, &Weights::frozen(tensors, &Device::Cpu)).unwrap();
    let open = |class: Option<usize>| {
        StyleGan2Generator::load(&path, &GeneratorOptions { class, ..Default::default() })
    };
    let of_class: Vec<LatentCodes> = (0..3).map(|c| open(Some(c)).unwrap().sample(60, 5).unwrap()).collect();
    for (class, w) in of_class.iter().enumerate() {
        assert_eq!(w.as_slice(), codes(&sample_w_of(&net, 60, 5, class).unwrap()));
        assert_eq!(open(Some(class)).unwrap().sample(7, 5).unwrap().as_slice(), &w.as_slice()[..7 * 9]);
    }
    // Without a class each code is that of one of them, all come up, and a smaller draw is the beginning of a larger.
    let mut any = open(None).unwrap();
    let mixed = any.sample(60, 5).unwrap();
    assert_eq!(mixed.as_slice(), codes(&sample_w(&net, 60, 5).unwrap()));
    let mut counts = [0; 3];
    for i in 0..60 {
        let close = |c: &LatentCodes| c.code(i).iter().zip(mixed.code(i)).all(|(a, b)| (a - b).abs() < 1e-5);
        let fits: Vec<usize> = (0..3).filter(|c| close(&of_class[*c])).collect();
        assert_eq!(fits.len(), 1, "code {i}");
        counts[fits[0]] += 1;
    }
    assert!(counts.iter().all(|n| *n > 8), "{counts:?}");
    assert_eq!(any.sample(9, 5).unwrap().as_slice(), &mixed.as_slice()[..9 * 9]);
    assert_ne!(any.sample(9, 6).unwrap().as_slice(), &mixed.as_slice()[..9 * 9]);
    let e = open(Some(3)).err().unwrap().to_string();
    assert!(e.contains("`class` is 3, expected an index from 0 to 2") && e.contains("g.safetensors"), "{e}");

    // Two channels: raw values only.
    let w = LatentCodes::new([2, 1, 9], codes(&a["ws"].narrow(1, 0, 1).unwrap())).unwrap();
    let raw = any.synthesize_raw(&w).unwrap();
    close("raw", &Tensor::from_vec(raw, a["img"].dims(), &Device::Cpu).unwrap(), &a["img"]);
    let e = any.synthesize(&w).unwrap_err().to_string();
    assert!(e.contains("2 channels"), "{e}");
}

#[test]
fn truncation_stops_at_the_cutoff() {
    let (_, config, a) = cases("g_resnet").remove(0);
    let config: GeneratorConfig = serde_json::from_value(config).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.safetensors");
    save_generator(&path, &config, &part(&a, "G"), candle_core::DType::F32).unwrap();
    let sample = |truncation: f32, truncation_cutoff: Option<usize>| {
        let options = GeneratorOptions { truncation, truncation_cutoff, ..Default::default() };
        StyleGan2Generator::load(&path, &options).unwrap().sample(3, 2).unwrap()
    };
    let (full, short) = (sample(1.0, None), sample(0.5, None));
    // Without classes, z is all that a seed stands for.
    let net = GeneratorNet::new(&config, &Weights::frozen(part(&a, "G"), &Device::Cpu)).unwrap();
    let z = Tensor::from_vec(Rng::new(2, 0).normals(15), (3, 5), &Device::Cpu).unwrap();
    assert_eq!(full.as_slice(), codes(&net.map(&z).unwrap()));
    let cut = sample(0.5, Some(2));
    assert_eq!((full.shape(), cut.shape()), ([3, 1, 7], [3, 6, 7]));
    for i in 0..3 {
        for (row, code) in cut.code(i).chunks(7).enumerate() {
            assert_eq!(code, if row < 2 { short.code(i) } else { full.code(i) }, "row {row}");
        }
    }
    // What leaves no layer out, or changes none, keeps codes in W.
    assert_eq!(sample(0.5, Some(6)).as_slice(), short.as_slice());
    assert_eq!(sample(1.0, Some(2)).as_slice(), full.as_slice());
    assert_eq!(sample(0.5, Some(0)).shape(), [3, 6, 7]);
    let e = StyleGan2Generator::load(&path, &GeneratorOptions { class: Some(0), ..Default::default() });
    let e = e.err().unwrap().to_string();
    assert!(e.contains("`class` is 0, but the network is not class-conditional"), "{e}");
}

#[test]
fn sizes_are_checked_and_older_files_load() {
    let text = r#"{"resolution": 16, "channels": 1, "z-dim": 4, "w-dim": 5, "mapping-layers": 2, "channel-base": 64,
                   "channel-max": 8}"#;
    let config: GeneratorConfig = serde_json::from_str(text).unwrap();
    assert_eq!((config.architecture, config.label_dim, config.conv_clamp), (Architecture::Skip, 0, None));
    config.check().unwrap();
    // What older files do not have is not written where it says nothing.
    let written = serde_json::to_string(&config).unwrap();
    assert!(!written.contains("architecture") && !written.contains("label"), "{written}");
    for architecture in Architecture::ALL {
        let other = GeneratorConfig { architecture, label_dim: 3, ..config.clone() };
        let written = serde_json::to_string(&other).unwrap();
        assert_eq!(serde_json::from_str::<GeneratorConfig>(&written).unwrap(), other);
    }
    let d: DiscriminatorConfig = serde_json::from_str(
        r#"{"resolution": 16, "channels": 1, "channel-base": 64, "channel-max": 8, "mbstd-group": 4, "mbstd-channels": 1}"#,
    )
    .unwrap();
    assert_eq!((d.architecture, d.label_dim, d.mapping_layers), (Architecture::Resnet, 0, 8));
    assert!(!serde_json::to_string(&d).unwrap().contains("mapping"));

    let refused = |change: &dyn Fn(&mut GeneratorConfig), words: &str| {
        let mut c = config.clone();
        change(&mut c);
        let e = c.check().unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    };
    refused(&|c| c.resolution = 12, "resolution 12");
    refused(&|c| c.resolution = 2048, "resolution 2048");
    refused(&|c| c.channels = 5, "channels 5: expected 1 to 4");
    refused(&|c| c.channel_base = 15, "channel-base 15: expected at least the resolution, 16");
    refused(&|c| c.channel_max = 0, "channel-max 0");
    refused(&|c| c.z_dim = 0, "z-dim 0");
    refused(&|c| c.mapping_layers = 0, "mapping-layers 0");
    refused(&|c| c.conv_clamp = Some(-1.0), "conv-clamp -1: expected a positive number");
    refused(&|c| c.conv_clamp = Some(f32::NAN), "conv-clamp NaN");
    let refused = |change: &dyn Fn(&mut DiscriminatorConfig), words: &str| {
        let mut d = d.clone();
        change(&mut d);
        let e = d.check().unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    };
    refused(&|d| d.mbstd_channels = 3, "mbstd-channels 3: expected a divisor of the 8");
    refused(&|d| d.mbstd_group = 0, "mbstd-group 0");
    refused(&|d| d.conv_clamp = Some(0.0), "conv-clamp 0: expected a positive number");
    refused(&|d| (d.label_dim, d.cmap_dim) = (2, Some(0)), "cmap-dim");

    // Every resolution, every architecture: as many blocks, images and style rows as the sizes say.
    for resolution in (3..=10).map(|e| 1usize << e) {
        for architecture in Architecture::ALL {
            let c = GeneratorConfig {
                resolution,
                architecture,
                channels: resolution % 4 + 1,
                channel_base: resolution,
                channel_max: 3,
                ..config.clone()
            };
            let weights = Weights::random(1, &Device::Cpu);
            let g = GeneratorNet::new(&c, &weights).unwrap();
            let names: Vec<String> = weights.tensors().into_keys().collect();
            let count = |end: &str| names.iter().filter(|n| n.ends_with(end)).count();
            let blocks = c.resolutions().len();
            let images = if architecture == Architecture::Skip { blocks } else { 1 };
            let past = if architecture == Architecture::Resnet { blocks - 1 } else { 0 };
            assert_eq!(
                (count("conv1.weight"), count("torgb.weight"), count("skip.weight")),
                (blocks, images, past)
            );
            // Rows: one at 4x4, two per further block, one for the last image.
            assert_eq!(c.num_ws(), 2 * blocks);
            if resolution <= 256 {
                let ws = Tensor::zeros((1, c.num_ws(), 5), candle_core::DType::F32, &Device::Cpu).unwrap();
                let x = g.synthesize(&ws, Noise::Constant).unwrap();
                assert_eq!(x.dims(), [1, c.channels, resolution, resolution]);
                assert!(flat(&x).iter().all(|v| v.is_finite()));
            }
        }
    }
}

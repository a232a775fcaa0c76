//! From named tensors to a generator: its sizes, what it must not be, and whether everything in the file is used.

use super::arrays::Arrays;
use super::tree::{Facts, shown};
use crate::net::{Architecture, GeneratorConfig, SynthesisInput};
use candle_core::Tensor;
use shiftlens_api::{Error, Result};

/// The refusal of a network that is no StyleGAN2 generator or one with parts that are not supported; `None` if nothing
/// speaks against it.
pub fn refusal(a: &Arrays<'_>, classes: &[&str]) -> Option<String> {
    let any = |what: &[&str]| a.names().any(|n| what.iter().any(|w| n.contains(w)));
    let class = |what: &str| classes.iter().any(|c| c.eq_ignore_ascii_case(what));
    if any(&["synthesis.input.freqs", "synthesis.input.affine", "synthesis.L0_"]) || class("SynthesisInput") {
        return Some("the network is StyleGAN3; only StyleGAN2 can be imported".into());
    }
    if any(&["g_synthesis.", "g_mapping."]) || (any(&["progression."]) && any(&["adain", "style."])) {
        return Some("the network is StyleGAN (the first version); only StyleGAN2 can be imported".into());
    }
    if any(&["progression.", "scaleLayers.", "toRGBLayers."]) {
        return Some("the network is a progressively grown GAN; only StyleGAN2 can be imported".into());
    }
    if any(&[".fromrgb.", "epilogue."]) || class("Discriminator") {
        return Some("the network is a discriminator; a generator is needed".into());
    }
    if a.shape("synthesis.b4.conv1.weight").is_none() {
        let some: Vec<&str> = a.names().take(4).map(shown).collect();
        return Some(format!("no StyleGAN2 generator: its tensors are called {} and so on", some.join(", ")));
    }
    None
}

fn shape<const N: usize>(a: &Arrays<'_>, name: &str) -> Result<[usize; N]> {
    let found = a.shape(name).ok_or_else(|| Error::Invalid(format!("tensor `{name}` is missing")))?;
    found.try_into().map_err(|_| Error::Shape {
        what: format!("tensor `{name}`"),
        expected: format!("{N} axes"),
        found: found.to_vec(),
    })
}

/// Sizes from the shapes of the tensors, compared with what the network was made with, where the file tells.
///
/// # Errors
/// If a tensor is missing, or the sizes contradict one another.
pub fn config(a: &Arrays<'_>, facts: Option<&Facts<'_, '_>>) -> Result<GeneratorConfig> {
    let mapping_layers = (0..).take_while(|i| a.shape(&format!("mapping.fc{i}.weight")).is_some()).count();
    let [w_dim, inputs] = shape(a, "mapping.fc0.weight")?;
    let (z_dim, label_dim) = latent(a, w_dim, inputs)?;
    let mut widths = Vec::new();
    for exponent in 2..=10 {
        let resolution = 1usize << exponent;
        let name = format!("synthesis.b{resolution}.conv1.weight");
        if a.shape(&name).is_none() {
            break;
        }
        widths.push((resolution, shape::<4>(a, &name)?[0]));
    }
    let resolution = widths.last().map_or(0, |(r, _)| *r);
    let [channels, ..] = shape::<4>(a, &format!("synthesis.b{resolution}.torgb.weight"))?;
    let widest = widths.iter().map(|(_, c)| *c).max().unwrap_or(0);
    // The smallest base that gives every resolution its width, if any does: a width is base / r rounded down.
    let base = widths.iter().map(|(r, c)| r.saturating_mul(*c)).max().unwrap_or(0);
    let mut config = GeneratorConfig {
        resolution,
        channels,
        z_dim,
        w_dim,
        mapping_layers,
        channel_base: base,
        channel_max: widest,
        conv_clamp: None,
        architecture: architecture(a, resolution),
        input: SynthesisInput::Constant,
        label_dim,
    };
    if let Some(facts) = facts {
        declared(&mut config, facts)?;
    }
    config.check().map_err(|e| Error::Unsupported(e.to_string()))?;
    for (r, c) in &widths {
        if config.width(*r) != *c {
            return Err(Error::Unsupported(format!(
                "{c} feature maps at {r}x{r}: expected min({} / {r}, {}) = {}",
                config.channel_base,
                config.channel_max,
                config.width(*r)
            )));
        }
    }
    Ok(config)
}

/// Sizes of z and of labels: the first layer's inputs are z and, where labels are embedded, an embedding of w's size.
fn latent(a: &Arrays<'_>, w_dim: usize, inputs: usize) -> Result<(usize, usize)> {
    if a.shape("mapping.embed.weight").is_none() {
        return Ok((inputs, 0));
    }
    let [embedded, labels] = shape(a, "mapping.embed.weight")?;
    if embedded != w_dim {
        return Err(Error::Unsupported(format!(
            "labels are embedded in {embedded} features; expected the size of w, {w_dim}"
        )));
    }
    match inputs.checked_sub(embedded) {
        Some(z_dim) if z_dim > 0 && labels > 0 => Ok((z_dim, labels)),
        _ => Err(Error::Unsupported(format!(
            "{labels} labels embedded in {embedded} of the mapping network's {inputs} inputs: expected at least one \
             label, and inputs left for z"
        ))),
    }
}

/// A residual network has a convolution past its blocks, one of output skips makes an image in each block.
fn architecture(a: &Arrays<'_>, resolution: usize) -> Architecture {
    let blocks = |part: &str, last: usize| {
        (2..10)
            .map(|e| 1 << e)
            .filter(|r| *r < last)
            .any(|r| a.shape(&format!("synthesis.b{r}.{part}.weight")).is_some())
    };
    match (blocks("skip", 2 * resolution), blocks("torgb", resolution)) {
        (true, _) => Architecture::Resnet,
        (false, true) => Architecture::Skip,
        (false, false) => Architecture::Orig,
    }
}

/// Compares the sizes with the arguments that the network was made with, and takes the two that shapes leave open.
fn declared(config: &mut GeneratorConfig, facts: &Facts<'_, '_>) -> Result<()> {
    let sizes: [(&[&str], Option<usize>, usize); 6] = [
        (&["z_dim"], Some(0), config.z_dim),
        (&["c_dim"], Some(1), config.label_dim),
        (&["w_dim"], Some(2), config.w_dim),
        (&["img_resolution"], Some(3), config.resolution),
        (&["img_channels"], Some(4), config.channels),
        (&["mapping_kwargs", "num_layers"], None, config.mapping_layers),
    ];
    for (path, position, found) in sizes {
        if let Some(said) = facts.argument(path, position)?
            && said != found
        {
            let name = path.join(".");
            return Err(Error::Invalid(format!(
                "{name} is {said} in the network's arguments, {found} in its tensors"
            )));
        }
    }
    // stylegan2-ada-pytorch has them among synthesis_kwargs, stylegan3 among the network's own arguments.
    let width = |name| match facts.argument(&["synthesis_kwargs", name], None)? {
        None => facts.argument(&[name], None),
        found => Ok(found),
    };
    config.channel_base = width("channel_base")?.unwrap_or(config.channel_base);
    config.channel_max = width("channel_max")?.unwrap_or(config.channel_max);
    Ok(())
}

/// The convolutions past residual blocks: linear and never clamped.
fn is_past(path: &str) -> bool {
    path.starts_with("synthesis.") && path.ends_with(".skip")
}

/// `conv_clamp`, which all layers must agree on, those past residual blocks aside; `None` if no layer says it, `Some(None)` if nothing is clamped.
///
/// # Errors
/// If layers differ.
pub fn clamp(facts: &Facts<'_, '_>) -> Result<Option<Option<f32>>> {
    let mut common: Option<(&str, Option<f64>)> = None;
    for (path, id) in facts.all("conv_clamp").filter(|(path, _)| path.starts_with("synthesis.")) {
        let value = if facts.pickle.is_none(id) { None } else { facts.number(id) };
        if value.is_none() && !facts.pickle.is_none(id) || value.is_some_and(|v| !(v > 0.0 && v < 1e30)) {
            return Err(Error::Invalid(format!("`{path}.conv_clamp`: expected a positive number or None")));
        }
        match common {
            _ if is_past(path) => match value {
                None => {}
                Some(c) => {
                    return Err(Error::Unsupported(format!("`{path}.conv_clamp`: expected None, found {c}")));
                }
            },
            Some((other, c)) if c != value => {
                return Err(Error::Unsupported(format!("`{path}` and `{other}` differ in conv_clamp")));
            }
            _ => common = Some((path, value)),
        }
    }
    Ok(common.map(|(_, v)| v.map(|v| v as f32)))
}

/// Refuses layers that do something else than ours, as far as modules tell.
///
/// # Errors
/// The message names the module and the attribute.
pub fn check_modules(facts: &Facts<'_, '_>, architecture: Architecture) -> Result<()> {
    // Styles, embedded labels and what leads past a residual block are linear, whatever the network's activation is.
    let linear = |p: &str| p.ends_with(".affine") || p == "mapping.embed" || is_past(p);
    for (key, usual) in [("architecture", architecture.name()), ("activation", "lrelu")] {
        for (path, id) in facts.all(key) {
            let expected = if key == "activation" && linear(path) { "linear" } else { usual };
            let found = facts.pickle.text(id).unwrap_or("something else");
            if found != expected {
                return Err(Error::Unsupported(format!(
                    "`{path}.{key}`: expected \"{expected}\", found \"{found}\""
                )));
            }
        }
    }
    for (path, id) in facts.all("bias_gain").filter(|(p, _)| p.starts_with("mapping.")) {
        let found = facts.number(id).unwrap_or(f64::NAN);
        let expected = if path == "mapping.embed" { 1.0 } else { 0.01 };
        // Written so that a number that is none is refused.
        let fits = (found - expected).abs() <= 1e-9;
        if !fits {
            return Err(Error::Unsupported(format!(
                "`{path}`: the learning-rate multiplier is {found}, expected {expected}"
            )));
        }
    }
    Ok(())
}

/// Modules that say of themselves that they use no noise.
pub fn without_noise(facts: &Facts<'_, '_>) -> Vec<String> {
    let no = |id| matches!(facts.pickle.node(id), super::pickle::Node::Bool(false));
    facts.all("use_noise").filter(|(_, id)| no(*id)).map(|(path, _)| path.to_owned()).collect()
}

/// Checks that a resampling filter is [1, 3, 3, 1] times itself, summing up to `sum`: no other is supported.
///
/// # Errors
/// If it is another.
pub fn check_filter(name: &str, filter: &Tensor, sum: f32) -> Result<()> {
    let other = || Error::Unsupported(format!("`{name}` is a resampling filter other than [1, 3, 3, 1]"));
    if filter.dims() != [4, 4] {
        return Err(other());
    }
    let values = filter.flatten_all().and_then(|t| t.to_vec1::<f32>()).map_err(|_| other())?;
    let taps = [1.0, 3.0, 3.0, 1.0f32];
    for (i, v) in values.iter().enumerate() {
        if (v - taps[i / 4] * taps[i % 4] / 64.0 * sum).abs() > 1e-5 {
            return Err(other());
        }
    }
    Ok(())
}

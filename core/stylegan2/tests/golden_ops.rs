//! Single operators against the reference's (`tests/fixtures/ops.safetensors`, arguments as in its JSON).
//!
//! Not compared, since no network here has them: filters other than [1, 3, 3, 1] (`*asym*`, `f4x3`, `f121`), upsampling
//! by 3 (`up3_down2_pad3`) or along one axis only (`upxy_21_downxy_12`), activations other than the leaky ReLU and none
//! (`relu`, `swish`). The last test checks that nothing else is left out.

mod support;

use candle_core::{Device, Result, Tensor};
use shiftlens_stylegan2::net::{minibatch_std, normalize_second_moment};
use shiftlens_stylegan2::ops::{self, Activation};
use support::{Arrays, close, load};

/// Cases of `upfirdn2d` with the filter [1, 3, 3, 1]: name, up, down, zeros before and after along x, along y, gain.
type Resampling = (&'static str, usize, usize, [isize; 2], [isize; 2], f64);
const RESAMPLING: [Resampling; 11] = [
    ("plain", 1, 1, [0, 0], [0, 0], 1.0),
    ("pad_1_2_0_3", 1, 1, [1, 2], [0, 3], 1.0),
    ("up2_pad_2_1_2_1_gain4", 2, 1, [2, 1], [2, 1], 4.0),
    ("up2_pad1", 2, 1, [1, 1], [1, 1], 1.0),
    ("down2_pad1", 1, 2, [1, 1], [1, 1], 1.0),
    ("down2_pad_2_1_1_0", 1, 2, [2, 1], [1, 0], 1.0),
    ("up2_down2_pad2", 2, 2, [2, 2], [2, 2], 1.0),
    ("negative_pad", 2, 1, [-1, 2], [3, -2], 1.0),
    ("upsample2d", 2, 1, [2, 1], [2, 1], 4.0),
    ("downsample2d", 1, 2, [1, 1], [1, 1], 1.0),
    ("filter2d", 1, 1, [2, 1], [2, 1], 1.0),
];

const COMPOSED: [&str; 6] = [
    "conv2d_resample.3x3_same",
    "conv2d_resample.3x3_up2",
    "conv2d_resample.3x3_up2_flip_true",
    "conv2d_resample.3x3_down2",
    "conv2d_resample.1x1_down2",
    "conv2d_resample.1x1_up2",
];

const REST: [&str; 13] = [
    "modulated_conv2d.same",
    "modulated_conv2d.up2",
    "modulated_conv2d.nodemod_1x1",
    "bias_act.lrelu",
    "bias_act.lrelu_gain1",
    "bias_act.lrelu_clamp1",
    "bias_act.lrelu_gain_sqrt2_times_sqrt0.5",
    "bias_act.linear",
    "bias_act.linear_clamp0.5",
    "norm2.out",
    "mbstd.group4_ch1",
    "mbstd.group2_ch2",
    "mbstd.groupNone_ch1",
];

fn arrays() -> Arrays {
    load("ops.safetensors").expect("the file is a fixture")
}

/// Zeros around x along axis `d`, by which any padding becomes a part of what the operators here pad.
const AROUND: usize = 4;

/// Cuts out of axis `d` what an operator with `pad` zeros before would give, of one that had `own` in a picture with
/// [`AROUND`] more pixels, each `up` long, keeping every `down`th of `length`.
fn window(
    t: &Tensor,
    d: usize,
    up: usize,
    down: usize,
    own: isize,
    pad: [isize; 2],
    length: usize,
) -> Result<Tensor> {
    let from = (own + (AROUND * up) as isize - pad[0]) as usize;
    let padded = (length * up) as isize + pad[0] + pad[1];
    let n = (padded as usize - 4) / down + 1;
    let index: Vec<u32> = (0..n).map(|i| (from + i * down) as u32).collect();
    t.index_select(&Tensor::new(index, &Device::Cpu)?, d)
}

#[test]
fn resampling() -> Result<()> {
    let a = arrays();
    let x = &a["x"];
    let (_, _, h, w) = x.dims4()?;
    let wide = x.pad_with_zeros(2, AROUND, AROUND)?.pad_with_zeros(3, AROUND, AROUND)?;
    for (name, up, down, along_x, along_y, gain) in RESAMPLING {
        let (y, own) = match up {
            1 => (ops::blur(&wide, 2, 1.0)?, 2),
            _ => ((ops::upsample(&wide)? / 4.0)?, 2),
        };
        let y = window(&y, 2, up, down, own, along_y, h)?;
        let y = (window(&y, 3, up, down, own, along_x, w)? * gain)?;
        close(name, &y, &a[&format!("upfirdn2d.{name}")]);
    }
    // The halving operator too, on sides of either parity.
    close("downsample", &ops::downsample(x)?, &a["upfirdn2d.downsample2d"]);
    close("upsample", &ops::upsample(x)?, &a["upfirdn2d.upsample2d"]);
    Ok(())
}

/// A convolution's weight, turned by 180 degrees.
fn turned(w: &Tensor) -> Result<Tensor> {
    let n = w.dim(2)? as u32;
    let back = Tensor::from_iter((0..n).rev(), &Device::Cpu)?;
    w.index_select(&back, 2)?.index_select(&back, 3)
}

#[test]
fn resampling_convolutions() -> Result<()> {
    let a = arrays();
    let (x, w3, w1) = (&a["x"], &a["w3x3"], &a["w1x1"]);
    // Odd sides: the reference ignores the last row and column of what the filter gives.
    let even = ops::blur(x, 2, 1.0)?;
    let (_, _, h, w) = even.dims4()?;
    let odd = even.narrow(2, 0, (h - 1) / 2 * 2 + 1)?.narrow(3, 0, (w - 1) / 2 * 2 + 1)?;
    let found = [
        ops::conv2d(x, w3)?,
        ops::blur(&ops::conv2d_up(x, w3)?, 1, 2.0)?,
        // A correlation on the picture with zeros between is the transposed convolution with the kernel turned.
        ops::blur(&ops::conv2d_up(x, &turned(w3)?)?, 1, 2.0)?,
        ops::conv2d_down(&odd.contiguous()?, w3)?,
        ops::conv2d(&ops::downsample(x)?, w1)?,
        ops::upsample(&ops::conv2d(x, w1)?)?,
    ];
    for (name, found) in COMPOSED.iter().zip(found) {
        close(name, &found, &a[*name]);
    }
    Ok(())
}

#[test]
fn modulated_convolutions() -> Result<()> {
    let a = arrays();
    let (x, s) = (&a["x_batch3"], &a["styles"]);
    for (case, up, noise) in [("same", false, "noise_9x7"), ("up2", true, "noise_18x14")] {
        let w = &a["w3x3"];
        let energy = w.sqr()?.sum((2, 3))?;
        let demod = (s.sqr()?.matmul(&energy.t()?)? + 1e-8)?.sqrt()?.recip()?;
        let y = ops::modulated_conv2d(x, s, w, &demod, up)?;
        let y = if up { ops::blur(&y, 1, 2.0)? } else { y };
        let name = format!("modulated_conv2d.{case}");
        close(&name, &y.broadcast_add(&a[noise])?, &a[&name]);
    }
    let y = ops::conv2d(&ops::scale_channels(x, s)?, &a["w1x1"])?;
    close("nodemod_1x1", &y, &a["modulated_conv2d.nodemod_1x1"]);
    Ok(())
}

#[test]
fn activations_norms_and_statistics() -> Result<()> {
    let a = arrays();
    let (x, b) = (&a["x"], &a["bias"]);
    let leaky = Activation::leaky(1.0);
    for (case, act) in [
        ("lrelu", leaky),
        ("lrelu_gain1", Activation { gain: 1.0, ..leaky }),
        ("lrelu_clamp1", leaky.clamped(Some(1.0))),
        ("lrelu_gain_sqrt2_times_sqrt0.5", Activation::leaky(std::f32::consts::FRAC_1_SQRT_2)),
        ("linear", Activation::linear()),
        ("linear_clamp0.5", Activation::linear().clamped(Some(0.5))),
    ] {
        close(case, &ops::bias_act(x, b, None, act)?, &a[&format!("bias_act.{case}")]);
    }
    close("norm2", &normalize_second_moment(&a["norm2.in"])?, &a["norm2.out"]);
    for (case, group, channels) in
        [("group4_ch1", 4, 1), ("group2_ch2", 2, 2), ("groupNone_ch1", usize::MAX, 1)]
    {
        close(case, &minibatch_std(&a["mbstd.in"], group, channels)?, &a[&format!("mbstd.{case}")]);
    }
    assert!(minibatch_std(&a["mbstd.in"], 3, 1).is_err() && minibatch_std(&a["mbstd.in"], 4, 4).is_err());
    Ok(())
}

#[test]
fn nothing_but_what_is_named_is_left_out() {
    let inputs = [
        "x",
        "x_batch3",
        "w3x3",
        "w1x1",
        "bias",
        "styles",
        "noise_9x7",
        "noise_18x14",
        "norm2.in",
        "mbstd.in",
    ];
    let compared: Vec<String> = RESAMPLING.iter().map(|r| format!("upfirdn2d.{}", r.0)).collect();
    let known = |name: &str| {
        inputs.contains(&name)
            || name.starts_with("filter.")
            || compared.iter().any(|c| c == name)
            || COMPOSED.contains(&name)
            || REST.contains(&name)
    };
    let mut left: Vec<String> = arrays().into_keys().filter(|n| !known(n)).collect();
    left.sort();
    assert_eq!(
        left,
        [
            "bias_act.relu",
            "bias_act.swish",
            "conv2d_resample.3x3_up2_asym",
            "upfirdn2d.asym_conv",
            "upfirdn2d.asym_flip",
            "upfirdn2d.asym_up2",
            "upfirdn2d.downsample2d_asym",
            "upfirdn2d.f121_down2",
            "upfirdn2d.f4x3_conv",
            "upfirdn2d.up3_down2_pad3",
            "upfirdn2d.upsample2d_asym",
            "upfirdn2d.upxy_21_downxy_12",
        ]
    );
}

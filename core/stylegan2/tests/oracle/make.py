"""Reference numbers for what no published file covers: written from the papers' formulas, in float64, slowly.

usage: make.py FOLDER        (needs torch and safetensors; the fixtures were made with torch 2.15)

Writes one safetensors file per case of CASES below: `G.*` and `D.*` are the random tensors of a network, exact in
float32; all other arrays are what the formulas give for them in float64, rounded to float32 at the end. The
configuration stands in the metadata under `case`.

Sources: S2 = Karras et al. 2020, arXiv 1912.04958; PG = Karras et al. 2018, arXiv 1710.10196; ADA = Karras et al. 2020,
arXiv 2006.06676; PD = Miyato and Koyama 2018, arXiv 1802.05637. Derivatives are autograd's, in float64.
"""

import json
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HALF = math.sqrt(0.5)
G_BASE = {"mapping_layers": 2, "conv_clamp": None, "architecture": "skip", "label_dim": 0}
D_BASE = {"conv_clamp": None, "architecture": "resnet", "label_dim": 0, "cmap_dim": None, "mapping_layers": 2}


def g(resolution, channels, z_dim, w_dim, channel_base, channel_max, **more):
    sizes = dict(resolution=resolution, channels=channels, z_dim=z_dim, w_dim=w_dim)
    return {**G_BASE, **sizes, "channel_base": channel_base, "channel_max": channel_max, **more}


def d(resolution, channels, channel_base, channel_max, mbstd_group, mbstd_channels, **more):
    sizes = dict(resolution=resolution, channels=channels, channel_base=channel_base, channel_max=channel_max)
    return {**D_BASE, **sizes, "mbstd_group": mbstd_group, "mbstd_channels": mbstd_channels, **more}


CASES = {
    "g_resnet": g(16, 3, 5, 7, 96, 8, mapping_layers=3, architecture="resnet"),
    "g_resnet_clamped": g(16, 1, 6, 6, 48, 7, architecture="resnet", conv_clamp=0.6),
    "g_resnet_labels": g(8, 1, 3, 8, 40, 9, architecture="resnet", label_dim=4, mapping_layers=1),
    "g_orig": g(16, 1, 4, 5, 64, 9, architecture="orig", mapping_layers=5),
    "g_orig_labels": g(8, 2, 5, 3, 30, 5, architecture="orig", label_dim=2),
    "g_skip_labels": g(16, 2, 6, 9, 80, 9, label_dim=3),
    "g_skip_4_channels": g(16, 4, 3, 9, 40, 7, mapping_layers=1),
    "g_skip_width_1": g(16, 3, 8, 4, 16, 6, conv_clamp=0.8),
    "d_orig": d(16, 1, 64, 9, 2, 1, architecture="orig"),
    "d_orig_clamped": d(8, 4, 24, 5, 4, 1, architecture="orig", conv_clamp=0.5),
    "d_skip": d(16, 3, 80, 10, 4, 2, architecture="skip"),
    "d_skip_clamped_labels": d(16, 2, 48, 6, 2, 3, architecture="skip", conv_clamp=0.4, label_dim=3, cmap_dim=7),
    "d_resnet_labels": d(16, 4, 56, 8, 4, 1, label_dim=4),
    "d_resnet_clamped": d(16, 2, 40, 7, 4, 0, conv_clamp=0.5),
}


class Tensors:
    """Random tensors by name, float32 values in float64, each a leaf for autograd."""

    def __init__(self, prefix, seed):
        self.prefix, self.rng, self.all = prefix, np.random.default_rng(seed), {}

    def get(self, name, shape, std=1.0, mean=0.0):
        if name not in self.all:
            drawn = (self.rng.standard_normal(shape) * std + mean).astype(np.float32)
            self.all[name] = torch.tensor(drawn, dtype=torch.float64).requires_grad_()
        assert self.all[name].shape == tuple(shape), name
        return self.all[name]

    def stored(self):
        return {f"{self.prefix}.{name}": t for name, t in self.all.items()}


def width(c, r):
    return min(c["channel_base"] // r, c["channel_max"])


def normalise(x):
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


def act(x, gain=1.0, clamp=None, leaky=True):
    """Leaky ReLU of slope 0.2 with gain sqrt(2) (S2, appendix B), times `gain`; the clamp scales with the latter."""
    if leaky:
        x = torch.where(x >= 0, x, 0.2 * x) * math.sqrt(2)
    x = x * gain
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def linear(t, name, x, outputs, multiplier=1.0, bias=0.0):
    """Equalised learning rate (PG, section 4.1)."""
    w = t.get(f"{name}.weight", (outputs, x.shape[1]), 1 / multiplier)
    b = t.get(f"{name}.bias", (outputs,), 0.1 / multiplier, bias)
    return x @ (w * multiplier / math.sqrt(x.shape[1])).T + b * multiplier


def mapping(t, name, z, labels, w_dim, layers):
    """z and the embedded label, both normalised, side by side (ADA)."""
    parts = [] if z is None else [normalise(z)]
    if labels is not None:
        parts.append(normalise(linear(t, f"{name}.embed", labels, w_dim)))
    x = torch.cat(parts, 1)
    for i in range(layers):
        x = act(linear(t, f"{name}.fc{i}", x, w_dim, multiplier=0.01))
    return x


def fir(x, before, after, gain=1.0):
    """Zeros around, then the product of [1, 3, 3, 1] / 8 along both axes, times `gain`."""
    x = F.pad(x, (before, after, before, after))
    taps = [1 / 8, 3 / 8, 3 / 8, 1 / 8]
    h, w = x.shape[2] - 3, x.shape[3] - 3
    y = torch.zeros(*x.shape[:2], h, w, dtype=x.dtype)
    for i, a in enumerate(taps):
        for j, b in enumerate(taps):
            y = y + gain * a * b * x[:, :, i : i + h, j : j + w]
    return y


def double(x):
    """A zero after each value along both axes, then the filter, whose gain of 4 makes up for the zeros."""
    n, c, h, w = x.shape
    y = torch.zeros(n, c, 2 * h, 2 * w, dtype=x.dtype)
    y[:, :, ::2, ::2] = x
    return fir(y, 2, 1, gain=4.0)


def halve(x):
    return fir(x, 1, 1)[:, :, ::2, ::2]


def modulated(x, weight, style, up, demodulate=True):
    """S2, equations 1 and 3, image by image with a weight of its own."""
    out = []
    for i in range(x.shape[0]):
        w = weight * style[i].reshape(1, -1, 1, 1)
        if demodulate:
            w = w / (w.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if not up:
            out.append(F.conv2d(x[i : i + 1], w, padding=w.shape[2] // 2))
            continue
        # Transposed convolution of stride 2: each pixel lays down its product with the kernel.
        _, _, h, width_ = x.shape
        y = torch.zeros(1, w.shape[0], 2 * h + 1, 2 * width_ + 1, dtype=x.dtype)
        for a in range(3):
            for b in range(3):
                y[:, :, a : a + 2 * h : 2, b : b + 2 * width_ : 2] += torch.einsum("nchw,kc->nkhw", x[i : i + 1], w[:, :, a, b])
        out.append(fir(y, 1, 1, gain=4.0))
    return torch.cat(out)


def style(t, name, w, channels):
    return linear(t, f"{name}.affine", w, channels, bias=1.0)


def styled(t, name, x, w, channels, resolution, up, clamp, gain, noise):
    s = style(t, name, w, x.shape[1])
    y = modulated(x, t.get(f"{name}.weight", (channels, x.shape[1], 3, 3)), s, up)
    e = t.get(f"{name}.noise_const", (resolution, resolution)) * t.get(f"{name}.noise_strength", (), 0.3)
    y = y + (e if noise else 0 * e) + t.get(f"{name}.bias", (channels,), 0.1).reshape(1, -1, 1, 1)
    return act(y, gain, clamp)


def to_image(t, name, x, w, channels, clamp):
    s = style(t, name, w, x.shape[1]) / math.sqrt(x.shape[1])
    y = modulated(x, t.get(f"{name}.weight", (channels, x.shape[1], 1, 1)), s, up=False, demodulate=False)
    return act(y + t.get(f"{name}.bias", (channels,), 0.1).reshape(1, -1, 1, 1), 1.0, clamp, leaky=False)


def synthesis(t, c, ws, noise=True, see=lambda name, x: None):
    """S2, figure 7 (a to c, upper row). Two rows of ws per resolution but one at 4x4; one more for the last image."""
    kind, clamp = c["architecture"], c["conv_clamp"]
    x = t.get("synthesis.b4.const", (width(c, 4), 4, 4)).unsqueeze(0).repeat(ws.shape[0], 1, 1, 1)
    image, row, r = None, 0, 4
    while r <= c["resolution"]:
        name, channels, before = f"synthesis.b{r}", width(c, r), x
        if r > 4:
            x = styled(t, f"{name}.conv0", x, ws[:, row], channels, r, True, clamp, 1.0, noise)
            row += 1
        residual = kind == "resnet" and r > 4
        x = styled(t, f"{name}.conv1", x, ws[:, row], channels, r, False, clamp, HALF if residual else 1.0, noise)
        row += 1
        if residual:
            w = t.get(f"{name}.skip.weight", (channels, before.shape[1], 1, 1))
            # Filter first, where the program filters last: on a linear 1x1 convolution the order does not matter.
            x = x + HALF * F.conv2d(double(before), w / math.sqrt(before.shape[1]))
        see(f"b{r}.x", x)
        if kind == "skip" or r == c["resolution"]:
            y = to_image(t, f"{name}.torgb", x, ws[:, row], c["channels"], clamp)
            image = y if image is None else double(image) + y
            see(f"b{r}.img", image)
        r *= 2
    return image


def conv(t, name, x, channels, size, bias=True, down=False, **kind):
    w = t.get(f"{name}.weight", (channels, x.shape[1], size, size)) / math.sqrt(x.shape[1] * size * size)
    if down and size == 1:
        x = F.conv2d(halve(x), w)
    elif down:
        x = F.conv2d(fir(x, 2, 2), w, stride=2)
    else:
        x = F.conv2d(x, w, padding=size // 2)
    if bias:
        x = x + t.get(f"{name}.bias", (channels,), 0.1).reshape(1, -1, 1, 1)
    return act(x, **kind)


def minibatch_std(x, group, channels):
    """PG, section 3; images i, i + N/G, i + 2 N/G .. form a group."""
    n, c = x.shape[:2]
    group = min(group, n)
    maps = torch.zeros(n, channels, *x.shape[2:], dtype=x.dtype)
    for i in range(n):
        members = [j for j in range(n) if j % (n // group) == i % (n // group)]
        deviation = (x[members].var(0, unbiased=False) + 1e-8).sqrt()
        for f in range(channels):
            maps[i, f] = deviation[f * (c // channels) : (f + 1) * (c // channels)].mean()
    return torch.cat([x, maps], 1)


def discriminator(t, c, images, labels, see=lambda name, x: None):
    """S2, figure 7 (a to c, lower row)."""
    kind, clamp, image, x, r = c["architecture"], c["conv_clamp"], images, None, c["resolution"]
    while r > 4:
        name, channels, after = f"b{r}", width(c, r), width(c, r // 2)
        if x is None or kind == "skip":
            y = conv(t, f"{name}.fromrgb", image, channels, 1, clamp=clamp)
            x = y if x is None else x + y
        y = conv(t, f"{name}.conv0", x, channels, 3, clamp=clamp)
        y = conv(t, f"{name}.conv1", y, after, 3, down=True, clamp=clamp, gain=HALF if kind == "resnet" else 1.0)
        if kind == "resnet":
            y = y + conv(t, f"{name}.skip", x, after, 1, bias=False, down=True, leaky=False, gain=HALF)
        x, image = y, halve(image)
        see(f"D.b{r}.x", x)
        r //= 2
    last = width(c, 4)
    if kind == "skip":
        x = x + conv(t, "b4.fromrgb", image, last, 1)
    if c["mbstd_channels"]:
        x = minibatch_std(x, c["mbstd_group"], c["mbstd_channels"])
    x = conv(t, "b4.conv", x, last, 3, clamp=clamp)
    x = act(linear(t, "b4.fc", x.flatten(1), last))
    if labels is None:
        return linear(t, "b4.out", x, 1)
    # PD, equation 3 without its class-independent part; scaled as a product of unit vectors of that size is.
    size = c["cmap_dim"] or last
    m = mapping(t, "mapping", None, labels, size, c["mapping_layers"])
    return (linear(t, "b4.out", x, size) * m).sum(1, keepdim=True) / math.sqrt(size)


def one_hot(rng, n, k):
    return None if k == 0 else F.one_hot(torch.tensor(rng.permutation(np.arange(n) % k)), k).double()


def gradients(prefix, t, loss):
    # Noise pictures and the mean of w are not trained.
    names = [n for n in t.all if not n.endswith(("noise_const", "w_avg"))]
    found = torch.autograd.grad(loss, [t.all[n] for n in names], allow_unused=True)
    return {f"{prefix}.{n}": v for n, v in zip(names, found) if v is not None}


def generator_case(c, seed):
    rng, t = np.random.default_rng(seed + 1000), Tensors("G", seed)
    draw = lambda *shape: torch.tensor(rng.standard_normal(shape).astype(np.float32)).double()
    n, rows = 2, 2 * int(math.log2(c["resolution"])) - 2
    z, labels = draw(n, c["z_dim"]), one_hot(rng, n, c["label_dim"])
    mean = t.get("mapping.w_avg", (c["w_dim"],), 0.3)
    w = mapping(t, "mapping", z, labels, c["w_dim"], c["mapping_layers"])
    wide = w.unsqueeze(1).repeat(1, rows, 1)
    cut = torch.cat([mean + 0.6 * (wide[:, :2] - mean), wide[:, 2:]], 1)
    out = {"z": z, "ws": wide, "ws_psi0.6": mean + 0.6 * (wide - mean), "ws_psi0.6_cutoff2": cut}
    if labels is not None:
        out["labels"] = labels
    images = synthesis(t, c, wide, see=lambda name, x: out.update({f"act.{name}": x}))
    # A code of W+ whose rows all differ, so that each layer must take its own.
    ws = (wide + 0.5 * draw(*wide.shape)).detach().float().double().requires_grad_()
    out.update({"img": images, "ws_plus": ws, "img_plus": synthesis(t, c, ws), "img_plus_none": synthesis(t, c, ws, noise=False)})
    weights = draw(*images.shape)
    out["loss_weights"] = weights
    out.update(gradients("grad", t, (images * weights).sum()))
    # Path length regularisation (S2, section 3.2, equation 4), exponential mean from 0 with decay 0.99, weight 2.
    y = weights / math.sqrt(c["resolution"] ** 2)
    (jacobian,) = torch.autograd.grad((synthesis(t, c, ws) * y).sum(), ws, create_graph=True)
    lengths = jacobian.square().sum(2).mean(1).sqrt()
    loss = 2 * (lengths - 0.01 * lengths.mean()).square().mean()
    out.update({"pl_grads": jacobian, "pl_lengths": lengths})
    out.update(gradients("plgrad", t, loss))
    return {**t.stored(), **out}


def discriminator_case(c, seed):
    rng, t = np.random.default_rng(seed + 1000), Tensors("D", seed)
    n, r = 4, c["resolution"]
    images = torch.tensor(rng.standard_normal((n, c["channels"], r, r)).astype(np.float32)).double().requires_grad_()
    labels = one_hot(rng, n, c["label_dim"])
    out = {"images": images}
    if labels is not None:
        out["labels"] = labels
    logits = discriminator(t, c, images, labels, see=lambda name, x: out.update({f"act.{name}": x}))
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    penalty = gradient.square().sum((1, 2, 3))
    out.update({"logits": logits, "grad_images": gradient, "r1_penalty": penalty})
    out.update(gradients("r1", t, penalty.mean() * 5))
    return {**t.stored(), **out}


def main():
    # More threads add up in another order, and the last bit of a file would depend on the machine.
    torch.set_num_threads(1)
    for i, (name, c) in enumerate(CASES.items()):
        made = (generator_case if name.startswith("g_") else discriminator_case)(c, 100 + i)
        arrays = {k: v.detach().float().contiguous() for k, v in made.items()}
        assert all(v.isfinite().all() for v in arrays.values()), name
        if c["conv_clamp"] is not None:
            clamped = max(float(v.abs().max()) for k, v in arrays.items() if k.startswith("act.") and k.endswith(".x"))
            print(f"{name}: clamp {c['conv_clamp']}, largest feature {clamped:.3f}")
        save_file(arrays, f"{sys.argv[1]}/{name}.safetensors", {"case": json.dumps(c)})


if __name__ == "__main__":
    main()

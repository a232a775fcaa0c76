"""The contender of the batch benchmark: the job of `manifests/knee.toml` as a plain PyTorch script.

Started by `batch.rs` as `batch.py ROOT IMAGES OUT THREADS`: ROOT is the workspace's, IMAGES a folder of PNG files. Weights
are those of the study (`examples/knee`), read from its safetensors and ONNX files. The steps are the study's: sample 5000
codes, ask the classifier, fit a logistic regression; then for every image, eight at a time, encode, ask f about the
reconstruction, search the λ at which f reaches five levels, synthesise nine steps over the calibrated range, Grad-CAM by
pytorch-grad-cam; then pictures, arrays and a record for each image, and one page. What the program does besides (the audit
of the direction, bootstrap intervals, sums of files, resuming) is left out.

The last line on stdout is JSON: seconds by stage, f(x) and f(G(E(x))) of every image, with which the benchmark sees that
both computed the same.
"""

import base64
import io
import json
import os
import sys
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
import numpy as np
import onnx
import torch
import torch.nn.functional as F
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from safetensors.numpy import save_file
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from torch import nn

BATCH, SAMPLES, STEPS = 8, 5000, 9
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
LIMIT, FARTHEST, TOLERANCE, NARROW, ROUNDS = 4.0, 6.0, 0.005, 0.01, 8
ROOT2 = 2.0**0.5


def lrelu(x, gain=ROOT2):
    return F.leaky_relu(x, 0.2) * gain


def taps(gain):
    f = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8.0
    return (torch.outer(f, f) * gain)[None, None]


def fir(x, kernel, pad, down=1):
    """Every channel by itself through the low-pass filter."""
    c = x.shape[1]
    return F.conv2d(F.pad(x, [pad] * 4), kernel.expand(c, 1, 4, 4), stride=down, groups=c)


def linear(t, name, x, lr=1.0):
    w = t[f"{name}.weight"]
    return F.linear(x, w * (lr / w.shape[1] ** 0.5), t[f"{name}.bias"] * lr)


def floats(path):
    return {k: v.float() for k, v in load_file(path).items()}


class Generator:
    """StyleGAN2 with output skips (Karras et al. 2020, section 2), codes of W; the code moves the constant, too."""

    def __init__(self, path):
        self.t = floats(path)
        self.blocks = sorted({int(k.split(".")[1][1:]) for k in self.t if k.startswith("synthesis.b")})
        self.layers = len({k for k in self.t if k.startswith("mapping.fc") and k.endswith("weight")})
        self.up = taps(4.0)

    def sample(self, n, seed):
        x = torch.randn(n, self.t["mapping.fc0.weight"].shape[1], generator=torch.Generator().manual_seed(seed))
        x = x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for i in range(self.layers):
            x = lrelu(linear(self.t, f"mapping.fc{i}", x, 0.01))
        return x

    def styled(self, x, w, name, up):
        weight = self.t[f"{name}.weight"]
        style = linear(self.t, f"{name}.affine", w)
        demod = (style.square() @ weight.square().sum((2, 3)).t() + 1e-8).rsqrt()
        x = x * style[:, :, None, None]
        if up:
            x = fir(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), self.up, 1)
        else:
            x = F.conv2d(x, weight, padding=1)
        noise = self.t[f"{name}.noise_const"] * self.t[f"{name}.noise_strength"]
        return lrelu(x * demod[:, :, None, None] + noise + self.t[f"{name}.bias"][None, :, None, None])

    def image(self, x, w, name):
        weight = self.t[f"{name}.weight"]
        style = linear(self.t, f"{name}.affine", w) * weight.shape[1] ** -0.5
        return F.conv2d(x * style[:, :, None, None], weight, self.t[f"{name}.bias"])

    def __call__(self, w):
        """Codes [N, D] to images [N, 1, R, R] in [0, 1]."""
        const = self.t["synthesis.b4.const"]
        x, image = const + linear(self.t, "synthesis.b4.input", w).view(-1, *const.shape), None
        for r in self.blocks:
            b = f"synthesis.b{r}"
            if r > 4:
                x = self.styled(x, w, f"{b}.conv0", True)
            x = self.styled(x, w, f"{b}.conv1", False)
            y = self.image(x, w, f"{b}.torgb")
            if image is not None:
                y = y + F.conv_transpose2d(image, self.up, stride=2, padding=1)
            image = y
        return (image / 2 + 0.5).clamp(0, 1)


class Encoder:
    """The residual blocks of StyleGAN2's discriminator, each followed by one that keeps the size; a head that reads the last
    features place by place and the mean of every block's, and answers codes in standard units."""

    def __init__(self, path):
        self.t = floats(path)
        self.blocks = sorted((int(r) for r in {k.split(".")[0][1:] for k in self.t} if r.isdigit() and r != "4"), reverse=True)
        self.one = taps(1.0)

    def conv(self, x, name, pad, stride=1):
        w = self.t[f"{name}.weight"]
        gain = 1 / (w.shape[1] * w.shape[2] * w.shape[3]) ** 0.5
        return F.conv2d(x, w * gain, self.t.get(f"{name}.bias"), stride=stride, padding=pad)

    def __call__(self, x):
        """Images [N, 1, R, R] in [0, 1] to codes [N, D]."""
        x = lrelu(self.conv(2 * x - 1, f"b{self.blocks[0]}.fromrgb", 0))
        means = []
        for r in self.blocks:
            past = self.conv(fir(x, self.one, 1, down=2), f"b{r}.skip", 0) * 0.5**0.5
            x = lrelu(self.conv(x, f"b{r}.conv0", 1))
            x = lrelu(self.conv(fir(x, self.one, 2), f"b{r}.conv1", 0, stride=2), 1.0) + past
            y = lrelu(self.conv(x, f"b{r // 2}.res0.conv0", 1))
            x = x * 0.5**0.5 + lrelu(self.conv(y, f"b{r // 2}.res0.conv1", 1), 1.0)
            means.append(x.mean((2, 3)))
        x = torch.cat([lrelu(self.conv(x, "b4.conv", 1)).flatten(1), *means], 1)
        x = linear(self.t, "b4.out", lrelu(linear(self.t, "b4.fc", x)))
        return x * self.t["w_std"] + self.t["w_mean"]


class Classifier(nn.Module):
    """The example classifier, read from its ONNX file: EfficientNet-Lite0 up to stride 16 on the enlarged image, a 1x1
    convolution, the mean, a linear layer. The file's shape arithmetic is constant and folded here."""

    def __init__(self, path):
        super().__init__()
        graph = onnx.load(path).graph
        known = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
        self.weights = nn.ParameterList(torch.from_numpy(w.copy()) for w in known.values())
        weights = dict(zip(known, self.weights))
        self.steps = []
        for node in graph.node:
            a = {x.name: onnx.helper.get_attribute_value(x) for x in node.attribute}
            names = list(node.input)
            if all(n in known for n in names):
                known[node.output[0]] = self.constant(node.op_type, [known[n] for n in names], a)
                continue
            values = [weights[n] if n in weights else torch.from_numpy(np.array(known[n])) if n in known else None for n in names]
            self.steps.append((self.step(node.op_type, values, a), [n for n in names if n and n not in known], node.output[0]))
        self.first, self.last = graph.input[0].name, graph.output[0].name
        # The default layer of Grad-CAM, where a hook finds it.
        self.layer = nn.Identity()
        at = next(i for i, (op, _, _) in enumerate(self.steps) if op is F.relu)
        op, names, out = self.steps[at]
        self.steps[at] = (lambda x: self.layer(op(x)), names, out)

    @staticmethod
    def constant(op, x, a):
        match op:
            case "Constant":
                return onnx.numpy_helper.to_array(a["value"])
            case "ConstantOfShape":
                return np.full(x[0], onnx.numpy_helper.to_array(a["value"])[0])
            case "Concat":
                return np.concatenate(x, a["axis"])
            case "Reshape":
                return x[0].reshape(x[1])
            case "Transpose":
                return x[0].transpose(a["perm"])
            case "Cast":
                return x[0].astype(onnx.helper.tensor_dtype_to_np_dtype(a["to"]))
            case "Slice":
                starts, ends, axes, steps = x[1:]
                place = [slice(None)] * x[0].ndim
                for s, e, axis, step in zip(starts, ends, axes, steps):
                    # As far as the front, counting down, is written as the least number there is.
                    place[axis] = slice(s, None if e < -(2**62) else e, step)
                return x[0][tuple(place)]
        raise ValueError(f"no rule for a constant {op}")

    @staticmethod
    def step(op, v, a):
        match op:
            case "Conv":
                assert not any(a.get("pads", [0])), "padding stands in a node of its own"
                return lambda x: F.conv2d(x, v[1], v[2], a["strides"], 0, a["dilations"], a["group"])
            case "Pad":
                top, left, bottom, right = (v[1][i].item() for i in (2, 3, 6, 7))
                return lambda x: F.pad(x, (left, right, top, bottom))
            case "Clip":
                low, high = v[1].item(), v[2].item()
                return lambda x: x.clamp(low, high)
            case "Resize":
                scales = v[2][2:].tolist()
                return lambda x: F.interpolate(x, scale_factor=scales, mode="bilinear")
            case "Add":
                return torch.add
            case "Relu":
                return F.relu
            case "ReduceMean":
                return lambda x: x.mean((2, 3))
            case "Gemm":
                return lambda x: F.linear(x, v[1], v[2])
            case "Slice":
                start, end, axis = (v[i].item() for i in (1, 2, 3))
                return lambda x: x.narrow(axis, start, min(end, x.shape[axis]) - start)
        raise ValueError(f"no rule for {op}")

    def forward(self, x):
        """Images [N, 1, R, R] in [0, 1] to logits [N, 1]."""
        values = {self.first: (255 * x - 127) / 128}
        for op, names, out in self.steps:
            values[out] = op(*(values[n] for n in names))
        return values[self.last]


class Clock:
    def __init__(self):
        self.seconds, self.since = {}, time.perf_counter()

    def lap(self, stage):
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.since
        self.since = now


def logit(p):
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


def search(ask, w, alpha):
    """λ of each level, and the flip's, for each code: f on a grid, then the Illinois variant of false position on logits
    (Dowell and Jarratt 1971), all images and levels in one call a round."""
    grid = np.linspace(-LIMIT, LIMIT, 9, dtype=np.float32)
    scores = ask((w[:, None] + torch.from_numpy(grid)[None, :, None] * alpha).reshape(-1, w.shape[1])).reshape(len(w), -1)
    found, open_ = {}, []
    for i, row in enumerate(scores):
        for level in LEVELS:
            brackets = [k for k in range(len(grid) - 1) if (row[k] >= level) != (row[k + 1] >= level)]
            cross = lambda k: abs(grid[k] + (grid[k + 1] - grid[k]) * (level - row[k]) / (row[k + 1] - row[k]))
            found[i, level] = None
            if brackets:
                k = min(brackets, key=cross)
                ends = [[grid[j], row[j], logit(row[j]) - logit(level)] for j in (k, k + 1)]
                open_.append({"key": (i, level), "ends": ends, "kept": None})
    step = 0
    while open_:
        still = []
        for b in open_:
            best = min(b["ends"], key=lambda e: abs(e[1] - b["key"][1]))
            if abs(best[1] - b["key"][1]) <= TOLERANCE or b["ends"][1][0] - b["ends"][0][0] <= NARROW:
                found[b["key"]] = float(best[0])
            else:
                still.append(b)
        open_ = still
        if not open_:
            break
        for b in open_:
            (x0, _, f0), (x1, _, f1) = b["ends"]
            at = x0 + (x1 - x0) * f0 / (f0 - f1)
            b["at"] = at if step < ROUNDS and x0 < at < x1 else (x0 + x1) / 2
        at = torch.tensor([b["at"] for b in open_], dtype=torch.float32)
        answers = ask(w[[b["key"][0] for b in open_]] + at[:, None] * alpha)
        for b, s in zip(open_, answers):
            f = logit(s) - logit(b["key"][1])
            gives = int((b["ends"][1][2] >= 0) == (f >= 0))
            b["ends"][gives] = [b["at"], s, f]
            if b["kept"] == 1 - gives:
                b["ends"][1 - gives][2] /= 2
            b["kept"] = 1 - gives
        step += 1
    return scores, found


def ranges(ask, w, alpha, scores, found):
    """Half the width of each series: a quarter more than the flip, within 2 to 6 σ; looked for further out where needed."""
    around = lambda at: min(max(1.25 * abs(at), 2.0), FARTHEST)
    out = [FARTHEST if found[i, 0.5] is None else around(found[i, 0.5]) for i in range(len(w))]
    open_ = [(i, scores[i][0], scores[i][-1]) for i in range(len(w)) if found[i, 0.5] is None]
    inner = LIMIT
    while inner < FARTHEST and open_:
        outer = min(inner + 1, FARTHEST)
        ends = torch.tensor([-outer, outer])[None, :, None] * alpha
        answers = ask((w[[o[0] for o in open_], None] + ends).reshape(-1, w.shape[1])).reshape(-1, 2)
        still = []
        for (i, low, high), (a, b) in zip(open_, answers):
            cross = []
            if (a >= 0.5) != (low >= 0.5):
                cross.append(-outer + (outer - inner) * (0.5 - a) / (low - a))
            if (high >= 0.5) != (b >= 0.5):
                cross.append(inner + (outer - inner) * (0.5 - high) / (b - high))
            if cross:
                out[i] = around(min(cross, key=abs))
            else:
                still.append((i, a, b))
        open_, inner = still, outer
    return out


def picture(values):
    return Image.fromarray((np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8))


def signed(values):
    """Blue below 0, white at 0, red above."""
    v = values / max(np.abs(values).max(), 1e-12)
    rgb = np.stack([1 + np.minimum(v, 0), 1 - np.abs(v), 1 - np.maximum(v, 0)], -1)
    return picture(rgb)


def write(folder, name, x, lambdas, series, scores, code, cam, raw, record):
    """A case's files, the same as the program's."""
    folder.mkdir(parents=True)
    (folder / "series-0").mkdir()
    picture(x).save(folder / "original.png")
    frames = [picture(s) for s in series]
    for k, frame in enumerate(frames):
        frame.save(folder / "series-0" / f"{k:02}.png")
    frames[STEPS // 2].save(folder / "reconstruction-0.png")
    frames[0].save(folder / "series-0.gif", save_all=True, append_images=frames[1:] + frames[-2:0:-1], duration=120, loop=0)
    signed(series[-1] - series[0]).save(folder / "difference-0.png")
    overlay = show_cam_on_image(np.repeat(x[..., None], 3, -1).astype(np.float32), cam, use_rgb=True)
    Image.fromarray(overlay).save(folder / "heatmap-1.png")
    picture(cam).save(folder / "heatmap-1-layer.png")
    signed(raw).save(folder / "heatmap-1-raw.png")
    save_file({"x": x[None], "series.0": series[:, None], "code.0": code, "heatmap.1": raw}, folder / "arrays.safetensors")
    (folder / "case.json").write_text(json.dumps(record, indent=2))


def page(out, records):
    """One page with every case's pictures inside."""
    inline = lambda path: "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    parts = ["<!doctype html><meta charset=utf-8><title>knee osteoarthritis</title>"]
    for r in records:
        folder = out / "cases" / r["id"]
        parts.append(f"<h2>{r['id']}: {r['score']:.3f}</h2>")
        parts.append(f"<img src='{inline(folder / 'original.png')}'><img src='{inline(folder / 'heatmap-1.png')}'>")
        for k, (l, s) in enumerate(zip(r["lambdas"], r["scores"])):
            parts.append(f"<figure><img src='{inline(folder / 'series-0' / f'{k:02}.png')}'><figcaption>{l:.2f} σ: {s:.3f}</figcaption></figure>")
    (out / "report.html").write_text("\n".join(parts))


def main():
    clock = Clock()
    root, images, out, threads = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(threads)
    knee = root / "examples" / "knee"
    g, e = Generator(knee / "generator.safetensors"), Encoder(knee / "encoder.safetensors")
    f = Classifier(knee / "classifier.onnx").eval()
    cam = GradCAM(model=f, target_layers=[f.layer])
    clock.lap("load")

    @torch.inference_mode()
    def ask(codes):
        return torch.cat([torch.sigmoid(f(g(part)))[:, 0] for part in codes.split(32)]).numpy()

    w = g.sample(SAMPLES, 7)
    y = ask(w) >= 0.5
    clock.lap("sample")
    spread = w.std(0).numpy()
    model = LogisticRegression(C=0.01, max_iter=1000).fit((w - w.mean(0)).numpy() / spread, y)
    normal = model.coef_[0] / spread
    alpha = torch.from_numpy((normal / np.linalg.norm(normal)).astype(np.float32))
    alpha = alpha * float((w @ alpha).std())
    clock.lap("fit")

    files = sorted(images.glob("*.png"))
    records = []
    for start in range(0, len(files), BATCH):
        part = files[start : start + BATCH]
        x = torch.from_numpy(np.stack([np.asarray(Image.open(p).convert("L"), np.float32) / 255 for p in part]))[:, None]
        clock.lap("read")
        with torch.inference_mode():
            score = torch.sigmoid(f(x))[:, 0].numpy()
            codes = e(x)
        again = ask(codes)
        clock.lap("encode")
        scores, found = search(ask, codes, alpha)
        half = ranges(ask, codes, alpha, scores, found)
        clock.lap("search")
        lambdas = np.stack([np.linspace(-r, r, STEPS, dtype=np.float32) for r in half])
        with torch.inference_mode():
            series = g((codes[:, None] + torch.from_numpy(lambdas)[..., None] * alpha).reshape(-1, codes.shape[1]))
            under = torch.sigmoid(f(series))[:, 0].numpy().reshape(len(part), STEPS)
            series = series[:, 0].numpy().reshape(len(part), STEPS, *series.shape[2:])
        clock.lap("series")
        maps = cam(input_tensor=x, targets=[ClassifierOutputTarget(0)] * len(part))
        a, d = (t[0].detach().numpy() for t in (cam.activations_and_grads.activations, cam.activations_and_grads.gradients))
        raw = np.einsum("nc,nchw->nhw", d.mean((2, 3)), a).astype(np.float32)
        clock.lap("grad-cam")
        for i, path in enumerate(part):
            record = {
                "id": path.stem,
                "score": float(score[i]),
                "reconstruction": float(again[i]),
                "lambdas": lambdas[i].tolist(),
                "scores": under[i].tolist(),
                "levels": [found[i, level] for level in LEVELS],
            }
            write(out / "cases" / path.stem, path.stem, x[i, 0].numpy(), lambdas[i], series[i], under[i], codes[i].numpy(), maps[i], raw[i], record)
            records.append(record)
        clock.lap("write")
    page(out, records)
    clock.lap("report")
    said = {r["id"]: [r["score"], r["reconstruction"]] for r in records}
    print(json.dumps({"seconds": clock.seconds, "scores": said, "torch": torch.__version__}))


main()

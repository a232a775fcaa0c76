"""PyTorch and ONNX Runtime as contenders of the synthesis benchmark, each in a process of its own.

Started by `main.rs` as `peer.py torch|onnx THREADS NETWORK FOLDER`. NETWORK is a generator's safetensors file, FOLDER/
codes.f32 holds codes of W+ (float32, [N, L, D]). After a line `ready VERSION` it answers one line for each on stdin:

* `prepare BATCH`: the name of the variant that is fastest at that batch, found by timing all of them;
* `check BATCH`: writes the images of the first BATCH codes, float32 in the network's range, to FOLDER/CONTENDER.f32;
* `run BATCH`: the seconds that their synthesis took, the mean of calls behind a first one that is not counted.

The network is written lean: weights are constants, scaled once; the sums of their squares, from which demodulation
factors are made, are computed once; the gain of the activation is part of the factors and of what is added, as are noise
and bias, which are one constant. Modulation scales the input and demodulation the output of a shared convolution.
"""

import itertools
import json
import os
import struct
import sys
import time
import warnings

warnings.filterwarnings("ignore")
import numpy as np
import torch
import torch.nn.functional as F

GAIN = 2.0**0.5
FIR = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4  # gain 2 per axis, as after inserting zeros

# A doubling convolution followed by the filter is four 3x3 convolutions whose results interleave: RULE[p] are the rows of
# kernel p, of output rows 2 i + p, as sums of the rows of the original kernel.
RULE = torch.tensor(
    [
        [[0.0, 0.25, 0.75], [0.75, 0.75, 0.25], [0.25, 0.0, 0.0]],
        [[0.0, 0.0, 0.25], [0.25, 0.75, 0.75], [0.75, 0.25, 0.0]],
    ]
)


def read(path):
    """The configuration and the tensors of a network file."""
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        start = f.tell()
        config = json.loads(header.pop("__metadata__")["shiftlens"])["config"]
        tensors = {}
        for name, entry in header.items():
            assert entry["dtype"] == "F32", f"{name}: {entry['dtype']}, expected F32"
            f.seek(start + entry["data_offsets"][0])
            count = int(np.prod(entry["shape"], dtype=np.int64))
            values = np.fromfile(f, np.float32, count).reshape(entry["shape"])
            tensors[name] = torch.from_numpy(values)
    return config, tensors


class Style(torch.nn.Module):
    def __init__(self, t, gain=1.0):
        super().__init__()
        self.weight = torch.nn.Parameter(t["affine.weight"] * (gain / t["affine.weight"].shape[1] ** 0.5))
        self.bias = torch.nn.Parameter(t["affine.bias"] * gain)

    def forward(self, w):
        return F.linear(w, self.weight, self.bias)


def convolve(x, weight, **more):
    return F.conv2d(x, weight, padding=weight.shape[-1] // 2, **more)


class Layer(torch.nn.Module):
    def __init__(self, t, up, variant):
        super().__init__()
        weight = t["weight"]
        self.style = Style(t)
        self.squares = torch.nn.Parameter(weight.square().sum((2, 3)).t().contiguous())
        noise = t["noise_const"] * t["noise_strength"]
        self.added = torch.nn.Parameter((noise[None] + t["bias"][:, None, None])[None] * GAIN)
        self.how, self.filter = (variant.up, variant.filter) if up else (None, None)
        if self.how == "transpose":
            weight = weight.transpose(0, 1)
            fir = FIR.expand(weight.shape[1], 1, 1, 4)
            self.across = torch.nn.Parameter(fir.contiguous())
            self.down = torch.nn.Parameter(fir.transpose(2, 3).contiguous())
            self.plane = torch.nn.Parameter((self.down * self.across).contiguous())
        elif self.how == "phases":
            # [K, 2, 2, C, 3, 3]: output channel, phase down, phase across, ...
            phases = torch.einsum("pay,qbx,kcyx->kpqcab", RULE, RULE, weight)
            weight = phases.reshape(-1, *weight.shape[1:])
        self.weight = torch.nn.Parameter(weight.contiguous())

    def forward(self, x, w):
        style = self.style(w)
        factors = torch.rsqrt(style.square() @ self.squares + 1e-8) * GAIN
        x = x * style[:, :, None, None]
        if self.how == "transpose":
            x = F.conv_transpose2d(x, self.weight, stride=2)
            channels = x.shape[1]
            if self.filter == "plane":
                x = F.conv2d(x, self.plane, padding=1, groups=channels)
            elif self.filter == "axes":
                x = F.conv2d(x, self.across, padding=(0, 1), groups=channels)
                x = F.conv2d(x, self.down, padding=(1, 0), groups=channels)
            else:
                a, b = float(FIR[0]), float(FIR[1])
                x = F.pad(x, (1, 1, 1, 1))
                x = (x[..., :-3] + x[..., 3:]) * a + (x[..., 1:-2] + x[..., 2:-1]) * b
                x = (x[..., :-3, :] + x[..., 3:, :]) * a + (x[..., 1:-2, :] + x[..., 2:-1, :]) * b
        elif self.how == "phases":
            x = F.pixel_shuffle(convolve(x, self.weight), 2)
        else:
            x = convolve(x, self.weight)
        return F.leaky_relu(torch.addcmul(self.added, x, factors[:, :, None, None]), 0.2)


class ToImage(torch.nn.Module):
    def __init__(self, t):
        super().__init__()
        self.style = Style(t, 1 / t["weight"].shape[1] ** 0.5)
        self.weight = torch.nn.Parameter(t["weight"])
        self.bias = torch.nn.Parameter(t["bias"])

    def forward(self, x, w):
        return F.conv2d(x * self.style(w)[:, :, None, None], self.weight, self.bias)


class Synthesis(torch.nn.Module):
    """Codes [N, L, D] to images [N, C, R, R]."""

    def __init__(self, config, tensors, variant):
        super().__init__()
        part = lambda p: {k[len(p) + 1 :]: v for k, v in tensors.items() if k.startswith(p + ".")}
        self.constant = torch.nn.Parameter(tensors["synthesis.b4.const"][None])
        self.layers, self.images = torch.nn.ModuleList(), torch.nn.ModuleList()
        side = 4
        while side <= config["resolution"]:
            if side > 4:
                self.layers.append(Layer(part(f"synthesis.b{side}.conv0"), True, variant))
            self.layers.append(Layer(part(f"synthesis.b{side}.conv1"), False, variant))
            self.images.append(ToImage(part(f"synthesis.b{side}.torgb")))
            side *= 2
        channels = config["channels"]
        self.fir = torch.nn.Parameter((FIR[:, None] * FIR[None]).expand(channels, 1, 4, 4).contiguous())

    def forward(self, ws):
        x = self.layers[0](self.constant.expand(ws.shape[0], -1, -1, -1), ws[:, 0])
        image = self.images[0](x, ws[:, 1])
        for i in range(1, len(self.images)):
            x = self.layers[2 * i - 1](x, ws[:, 2 * i - 1])
            x = self.layers[2 * i](x, ws[:, 2 * i])
            image = F.conv_transpose2d(image, self.fir, stride=2, padding=1, groups=image.shape[1])
            image = image + self.images[i](x, ws[:, 2 * i + 1])
        return image


class Variant:
    """One way to write the network: how it doubles and filters, the order of axes in memory, and whether TorchScript may
    fold and prepack its weights."""

    def __init__(self, up, filter=None, last=False, frozen=False):
        self.up, self.filter, self.last, self.frozen = up, filter, last, frozen
        words = [up, filter, "channels-last" if last else None, "frozen" if frozen else None]
        self.name = "-".join(w for w in words if w)


def torch_contender(config, tensors, example):
    def make(variant):
        model = Synthesis(config, tensors, variant).eval().requires_grad_(False)
        if variant.last:
            model = model.to(memory_format=torch.channels_last)
        if variant.frozen:
            model = torch.jit.freeze(torch.jit.trace(model, torch.from_numpy(example)))
            model = torch.jit.optimize_for_inference(model)

        def run(ws):
            with torch.inference_mode():
                return model(torch.from_numpy(ws)).numpy()

        return run

    variants = [Variant("transpose", f, last) for f, last in itertools.product(("plane", "axes"), (False, True))]
    variants += [Variant("transpose", "adds", True), Variant("phases")]
    variants += [Variant("transpose", "plane", frozen=True), Variant("transpose", "axes", True, frozen=True)]
    return [(v.name, lambda v=v: make(v)) for v in variants]


def onnx_contender(config, tensors, folder, threads):
    import onnxruntime

    def make(variant):
        path = os.path.join(folder, f"{config['resolution']}-{variant.name}.onnx")
        if not os.path.exists(path):
            model = Synthesis(config, tensors, variant).eval()
            example = torch.randn(2, 2 * len(model.images), config["w-dim"])
            # The exporter prints; stdout belongs to the answers.
            out, sys.stdout = sys.stdout, sys.stderr
            with torch.inference_mode():
                torch.onnx.export(
                    model,
                    example,
                    path + ".part",
                    dynamo=False,
                    opset_version=17,
                    input_names=["codes"],
                    output_names=["images"],
                    dynamic_axes={"codes": {0: "batch"}, "images": {0: "batch"}},
                )
            sys.stdout = out
            os.rename(path + ".part", path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda ws: session.run(None, {"codes": ws})[0]

    variants = [Variant("transpose", "plane"), Variant("transpose", "adds"), Variant("phases")]
    return [(v.name, lambda v=v: make(v)) for v in variants]


# Seconds for which calls are repeated in each turn.
TURN = 0.3


def main():
    contender, threads, network, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.set_num_threads(threads)
    config, tensors = read(network)
    rows = 2 * (config["resolution"].bit_length() - 1) - 2
    codes = np.fromfile(os.path.join(folder, "codes.f32"), np.float32).reshape(-1, rows, config["w-dim"])
    if contender == "torch":
        variants, version = torch_contender(config, tensors, codes[:1]), torch.__version__
    else:
        import onnxruntime

        variants, version = onnx_contender(config, tensors, folder, threads), onnxruntime.__version__
    chosen = {}
    print("ready", version, flush=True)
    for line in sys.stdin:
        what, batch = line.split()
        ws = codes[: int(batch)]
        if what == "prepare":
            models = {name: make() for name, make in variants}
            # TorchScript optimises at the second call.
            for run in [*models.values()] * 2:
                run(ws)
            seconds = {name: float("inf") for name in models}
            # In turns, so that what slows the machine down slows all of them down.
            for _ in range(3):
                for name, run in models.items():
                    start = time.perf_counter()
                    run(ws)
                    seconds[name] = min(seconds[name], time.perf_counter() - start)
            best = min(seconds, key=seconds.get)
            chosen[batch] = models[best]
            del models, run
            print({k: round(1e3 * v / len(ws), 1) for k, v in seconds.items()}, file=sys.stderr)
            print(best, flush=True)
        elif what == "check":
            chosen[batch](ws).astype(np.float32).tofile(os.path.join(folder, contender + ".f32"))
            print("written", flush=True)
        else:
            run = chosen[batch]
            # The first call wakes the process and its core, see worker.rs.
            run(ws)
            start, calls = time.perf_counter(), 0
            while calls == 0 or time.perf_counter() - start < TURN:
                run(ws)
                calls += 1
            print((time.perf_counter() - start) / calls, flush=True)


main()

"""PyTorch's part of the benchmark: StyleGAN2 written lean, on the weights that the other part wrote.

Reads one command a line, answers one line each. Weights are scaled once, before any timing.
"""
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

FOLDER, DEVICE = sys.argv[1], sys.argv[2]
GPU = DEVICE.startswith("cuda")
ROOT2 = 2.0**0.5
torch.manual_seed(0)
torch.backends.cudnn.benchmark = True


def precision(name):
    """TF32 as the name says; bf16 is autocast, which PyTorch's users take."""
    torch.backends.cuda.matmul.allow_tf32 = name != "f32"
    torch.backends.cudnn.allow_tf32 = name != "f32"
    return torch.autocast("cuda" if GPU else "cpu", torch.bfloat16, enabled=name == "bf16")


def lrelu(x, gain=ROOT2):
    return F.leaky_relu(x, 0.2) * gain


def taps(gain):
    f = torch.tensor([1.0, 3.0, 3.0, 1.0], device=DEVICE) / 8.0
    return (torch.outer(f, f) * gain)[None, None]


def fir(x, kernel, pad, up=1, down=1):
    """Every channel by itself: zeros between, around, then the filter."""
    n, c, h, w = x.shape
    if up == 2:
        return F.conv_transpose2d(x, kernel.to(x.dtype).expand(c, 1, 4, 4), stride=2, padding=1, groups=c)
    return F.conv2d(F.pad(x, [pad] * 4), kernel.to(x.dtype).expand(c, 1, 4, 4), stride=down, groups=c)


def energy(w):
    return w.square().sum((2, 3)).t().contiguous()


def half(w):
    return w.bfloat16()


class Net:
    def __init__(self, file, train=False):
        self.t = {k: v.to(DEVICE) for k, v in load_file(f"{FOLDER}/{file}").items()}
        self.train = train
        if train:
            fixed = ("noise_const", "w_avg")
            for k, v in self.t.items():
                v.requires_grad_(not k.endswith(fixed))
        self.parameters = [v for v in self.t.values() if v.requires_grad]
        self.scaled = {}

    def weight(self, name, gain):
        """Scaled by the equalised learning rate; once, unless it is trained."""
        if self.train:
            return self.t[name] * gain
        if name not in self.scaled:
            self.scaled[name] = self.t[name] * gain
        return self.scaled[name]

    def once(self, name, f):
        """What follows from a weight alone: computed once, unless it is trained."""
        if self.train:
            return f(self.t[name])
        key = (name, f)
        if key not in self.scaled:
            self.scaled[key] = f(self.t[name])
        return self.scaled[key]

    def kernel(self, name):
        """Autocast would round it in every call."""
        return self.once(name, half) if torch.is_autocast_enabled() and not self.train else self.t[name]

    def linear(self, x, name, lr=1.0):
        w = self.t[f"{name}.weight"]
        return F.linear(x, self.weight(f"{name}.weight", lr / w.shape[1] ** 0.5), self.weight(f"{name}.bias", lr))


class Generator(Net):
    def __init__(self, file, train=False):
        super().__init__(file, train)
        self.resolutions = sorted({int(k.split(".")[1][1:]) for k in self.t if k.startswith("synthesis.b")})
        self.layers = len({k for k in self.t if k.startswith("mapping.fc") and k.endswith("weight")})
        self.up4 = taps(4.0)

    def map(self, z):
        x = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for i in range(self.layers):
            x = lrelu(self.linear(x, f"mapping.fc{i}", 0.01))
        return x

    def styled(self, x, w, name, up, noise):
        weight = self.kernel(f"{name}.weight")
        style = self.linear(w, f"{name}.affine")
        demod = (style.square() @ self.once(f"{name}.weight", energy) + 1e-8).rsqrt()
        x = x * style[:, :, None, None]
        if up:
            # One matrix layout for both frameworks' sake: [C, K, 3, 3], as conv_transpose2d takes it.
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            x = fir(x, self.up4, 1)
        else:
            x = F.conv2d(x, weight, padding=1)
        x = x * demod[:, :, None, None]
        if noise is None:
            e = self.t[f"{name}.noise_const"]
        else:
            e = torch.randn(x.shape[0], 1, x.shape[2], x.shape[3], device=DEVICE)
        x = x + e * self.t[f"{name}.noise_strength"] + self.t[f"{name}.bias"][None, :, None, None]
        return lrelu(x)

    def rgb(self, x, w, name):
        weight = self.kernel(f"{name}.weight")
        style = self.linear(w, f"{name}.affine") * weight.shape[1] ** -0.5
        return F.conv2d(x * style[:, :, None, None], weight, self.t[f"{name}.bias"])

    def synthesize(self, w, noise=None):
        x = self.t["synthesis.b4.const"].expand(w.shape[0], -1, -1, -1)
        image = None
        for r in self.resolutions:
            b = f"synthesis.b{r}"
            if r > 4:
                x = self.styled(x, w, f"{b}.conv0", True, noise)
            x = self.styled(x, w, f"{b}.conv1", False, noise)
            y = self.rgb(x, w, f"{b}.torgb").float()
            image = y if image is None else fir(image, self.up4, 0, up=2) + y
        return image


class Discriminator(Net):
    def __init__(self, file, train=False):
        super().__init__(file, train)
        names = {k.split(".")[0] for k in self.t}
        self.resolutions = sorted((int(n[1:]) for n in names if n != "b4"), reverse=True)
        self.one = taps(1.0)

    def conv(self, x, name, pad, stride=1):
        w = self.t[f"{name}.weight"]
        gain = 1 / (w.shape[1] * w.shape[2] * w.shape[3]) ** 0.5
        return F.conv2d(x, self.weight(f"{name}.weight", gain), self.t.get(f"{name}.bias"), stride=stride, padding=pad)

    def forward(self, x):
        x = lrelu(self.conv(x, f"b{self.resolutions[0]}.fromrgb", 0))
        for r in self.resolutions:
            y = self.conv(fir(x, self.one, 1, down=2), f"b{r}.skip", 0) * 0.5**0.5
            x = lrelu(self.conv(x, f"b{r}.conv0", 1))
            x = lrelu(self.conv(fir(x, self.one, 2), f"b{r}.conv1", 0, stride=2), 1.0) + y
        n, c, h, w = x.shape
        group = min(4, n)
        s = x.float().reshape(group, -1, c, h, w)
        s = (s - s.mean(0)).square().mean(0).add(1e-8).sqrt().mean((1, 2, 3))
        x = torch.cat([x, s.reshape(-1, 1, 1, 1).repeat(group, 1, h, w).to(x.dtype)], 1)
        x = lrelu(self.conv(x, "b4.conv", 1))
        return self.linear(lrelu(self.linear(x.flatten(1), "b4.fc")), "b4.out").float()


class Training:
    """A step as the other part takes it: G, then D on the same images; `r1` adds the penalty."""

    def __init__(self, name):
        self.g, self.d = Generator(f"{name}_G.safetensors", True), Discriminator(f"{name}_D.safetensors", True)
        self.g_adam = torch.optim.Adam(self.g.parameters, 1e-3, (0.0, 0.99), 1e-8)
        self.d_adam = torch.optim.Adam(self.d.parameters, 1e-3, (0.0, 0.99), 1e-8)
        io = load_file(f"{FOLDER}/{name}_io.safetensors")
        self.real = io["real"].to(DEVICE)
        self.z = io["z"][: len(self.real)].to(DEVICE)

    def step(self, mode, context, r1):
        with context:
            for p in self.d.parameters:
                p.requires_grad_(False)
            noise = None if mode == "check" else "random"
            fake = self.g.synthesize(self.g.map(self.z), noise)
            g_loss = F.softplus(-self.d.forward(fake)).mean()
        self.g_adam.zero_grad(set_to_none=True)
        g_loss.backward()
        self.g_adam.step()
        with context:
            for p in self.d.parameters:
                p.requires_grad_(True)
            d_loss = F.softplus(self.d.forward(fake.detach())).mean() + F.softplus(-self.d.forward(self.real)).mean()
        self.d_adam.zero_grad(set_to_none=True)
        d_loss.backward()
        self.d_adam.step()
        if r1:
            with context:
                x = self.real.detach().requires_grad_()
                (g,) = torch.autograd.grad(self.d.forward(x).sum(), x, create_graph=True)
                loss = g.square().sum() / len(x)
            self.d_adam.zero_grad(set_to_none=True)
            loss.backward()
            self.d_adam.step()
        return g_loss, d_loss


def wait():
    if GPU:
        torch.cuda.synchronize()


def timed(f, times):
    wait()
    start = time.perf_counter()
    for _ in range(times):
        f()
    wait()
    return (time.perf_counter() - start) / times


def main():
    current, function = None, None
    for line in sys.stdin:
        word, *args = line.split()
        if word == "device":
            answer = torch.cuda.get_device_name() if GPU else f"cpu, {torch.get_num_threads()} threads"
            answer = f"PyTorch {torch.__version__}, {answer}"
        elif word == "synthesis":
            name, batch, p = args[0], int(args[1]), args[2]
            if current != name:
                current, net = name, Generator(f"{name}_G.safetensors")
                z = load_file(f"{FOLDER}/{name}_io.safetensors")["z"].to(DEVICE)
            with torch.inference_mode(), precision("f32"):
                w = net.map(z[:batch])

            def function(net=net, w=w, p=p):
                with torch.inference_mode(), precision(p):
                    return net.synthesize(w)

            save_file({"images": function().float().cpu()}, f"{FOLDER}/answer.safetensors")
            answer = "ok"
        elif word == "training":
            name, p = args
            current, run = None, Training(name)
            losses = [run.step("check", precision(p), i == 1) for i in range(3)]
            answer = " ".join(f"{v.item():.9g}" for pair in losses for v in pair)
        elif word in ("step", "r1"):

            def function(run=run, p=p, r1=word == "r1"):
                run.step("time", precision(p), r1)

            answer = "ok"
        elif word == "warm":
            for _ in range(3):
                function()
            answer = f"{timed(function, 1):.9g}"
        elif word == "time":
            answer = f"{timed(function, int(args[0])):.9g}"
        else:
            answer = f"unknown command {word}"
        print(answer, flush=True)


main()

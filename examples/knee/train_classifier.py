#!/usr/bin/env python3
"""Train the example knee classifier: osteoarthritis (KL 2-4) against none (KL 0-1).

Data: knee radiographs of the Osteoarthritis Initiative, Chen (2018), Mendeley Data,
doi:10.17632/56rmx5bjcr.1, CC BY 4.0, as folders `train/{0..4}` and `val/{0..4}` named by
Kellgren-Lawrence (KL) grade; file names start with the patient id (`9001695L.jpg`).

About 10 % of the patients of `train` are held out to choose the epoch. `val` is read only
after that choice, for the reported figures.

Writes `classifier.onnx` (input `image` [N,1,64,64], output `logit` [N,1]),
`classifier.provenance.json` and `classifier.pt` (the same weights for PyTorch) to --out.

Requires: torch, numpy, pillow, onnx, onnxruntime.
Example:  python train_classifier.py --data knee-oai-128 --out out --epochs 14
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
from PIL import Image
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

SIZE = 64
MEAN, STD = 0.5, 0.25
BATCH = 64
AVERAGE = 0.98  # decay per step of the moving average of the weights
OPSET = 17


def load_split(folder):
    """All images of one split: uint8 [N,1,64,64], KL grades [N], patient ids [N]."""
    images, grades, patients = [], [], []
    for grade in range(5):
        for path in sorted((folder / str(grade)).glob("*.jpg")):
            with Image.open(path) as image:
                image = image.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            images.append(np.asarray(image, dtype=np.uint8))
            grades.append(grade)
            patients.append(re.match(r"\d+", path.name).group())
    if not images:
        raise SystemExit(f"{folder}: no images found; expected subfolders 0 to 4 holding *.jpg")
    return torch.from_numpy(np.stack(images))[:, None], np.array(grades), np.array(patients)


def normalise(images):
    return (images.float() / 255 - MEAN) / STD


class Block(nn.Module):
    """Residual block of two 3x3 convolutions (He et al. 2016, basic block)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.skip = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.skip(x))


class KneeNet(nn.Module):
    """64x64 grey image to one logit; the last feature map is 8x8 for useful heatmaps."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.stages = nn.Sequential(
            Block(16, 32, 2),  # 16x16
            Block(32, 32, 1),
            Block(32, 96, 2),  # 8x8
            Block(96, 96, 1),
            Block(96, 96, 1),
        )
        self.head = nn.Linear(96, 1)

    def forward(self, image):
        return self.head(self.stages(self.stem(image)).mean((2, 3)))


def augment(images):
    """Random flip, rotation, scale, shift, contrast, brightness, blur and noise of [N,1,H,W] in
    0..1. Blur matters here: images from a generator are a little smoother than radiographs."""
    n = len(images)
    uniform = lambda low, high: torch.empty(n).uniform_(low, high)
    angle, scale = uniform(-0.14, 0.14), uniform(0.9, 1.1)
    flip = torch.randint(0, 2, (n,)) * 2.0 - 1
    cos, sin = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack(
        [flip * cos, -sin, uniform(-0.1, 0.1), flip * sin, cos, uniform(-0.1, 0.1)], 1
    ).view(n, 2, 3)
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    x = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = (kernel[:, None] * kernel / 16)[None, None]
    blurred = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel)
    x = torch.lerp(x, blurred, (uniform(-1, 1).clamp_(min=0)).view(n, 1, 1, 1))
    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * uniform(0.8, 1.2).view(n, 1, 1, 1) + mean
    x = x + uniform(-0.1, 0.1).view(n, 1, 1, 1)
    return (x + torch.randn_like(x) * uniform(0, 0.03).view(n, 1, 1, 1)).clamp_(0, 1)


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


def evaluate(logits, grades):
    """Discrimination and calibration of raw logits against KL 2-4 (ECE: 10 equal bins)."""
    positive = grades >= 2
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    bins = np.minimum((probability * 10).astype(int), 9)
    gaps = [abs((probability - positive)[bins == b].sum()) for b in range(10)]
    clear = (grades == 0) | (grades >= 3)
    return {
        "images": len(grades),
        "auc_kl_0_1_vs_2_4": round(auc(logits, positive), 4),
        "auc_kl_0_vs_3_4": round(auc(logits[clear], positive[clear]), 4),
        "accuracy_at_0.5": round(float(((logits > 0) == positive).mean()), 4),
        "brier": round(float(((probability - positive) ** 2).mean()), 4),
        "ece_10_bins": round(float(sum(gaps) / len(grades)), 4),
    }


def train(images, grades, held_images, held_grades, epochs):
    """AdamW, one-cycle learning rate; keeps the weight average of the best held-out AUC."""
    model = KneeNet().to(memory_format=torch.channels_last)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE), use_buffers=True)
    targets = torch.from_numpy((grades >= 2).astype(np.float32))[:, None]
    steps = len(images) // BATCH
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=4e-3, total_steps=steps * epochs, pct_start=0.25
    )
    best, best_epoch, best_state = -1.0, 0, None
    done = 0
    try:
        for epoch in range(1, epochs + 1):
            start, total = time.time(), 0.0
            model.train()
            for index in torch.randperm(len(images))[: steps * BATCH].split(BATCH):
                batch = (augment(images[index].float() / 255) - MEAN) / STD
                batch = batch.to(memory_format=torch.channels_last)
                loss = F.binary_cross_entropy_with_logits(model(batch), targets[index])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                average.update_parameters(model)
                total += loss.item()
            score = auc(logits_of(average.module, held_images), held_grades >= 2)
            if score > best:
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
    return model.eval(), best_epoch, done


def export(model, path):
    """TorchScript exporter (batch normalisation folded), batch axis dynamic."""
    model = model.to(memory_format=torch.contiguous_format).eval()
    torch.onnx.export(
        model, (torch.zeros(1, 1, SIZE, SIZE),), str(path), dynamo=False, opset_version=OPSET,
        input_names=["image"], output_names=["logit"],
        dynamic_axes={"image": {0: "batch"}, "logit": {0: "batch"}},
    )


def onnx_logits(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logit"], {"image": normalise(images).numpy()})[0][:, 0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C ends training early
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)

    images, grades, patients = load_split(args.data / "train")
    names = np.random.default_rng(args.seed).permutation(np.unique(patients))
    held = np.isin(patients, names[: len(names) // 10])
    start = time.time()
    model, epoch, done = train(images[~held], grades[~held], images[held], grades[held], args.epochs)
    seconds = time.time() - start
    torch.save(model.state_dict(), args.out / "classifier.pt")
    path = args.out / "classifier.onnx"
    export(model, path)

    val_images, val_grades, val_patients = load_split(args.data / "val")
    if set(val_patients) & set(patients):
        raise SystemExit("train and val share patients; expected disjoint patients")
    logits = logits_of(model, val_images)
    split = lambda g, p: {"images": len(g), "patients": len(set(p)),
                          "images_per_kl_grade": np.bincount(g, minlength=5).tolist()}
    record = {
        "model": "residual network, 11 convolutions of 3x3 and 2 of 1x1, last feature map 8x8, "
                 f"{sum(p.numel() for p in model.parameters())} weights, one logit",
        "task": "osteoarthritis: Kellgren-Lawrence grade 2-4 (positive) against 0-1",
        "data": {"name": "Chen (2018), Knee Osteoarthritis Severity Grading Dataset, 128x128 grey",
                 "doi": "10.17632/56rmx5bjcr.1", "licence": "CC BY 4.0"},
        "split": {"rule": "by patient; 10 % of the patients of train held out to choose the epoch",
                  "train": split(grades[~held], patients[~held]),
                  "held_out": split(grades[held], patients[held]),
                  "val": split(val_grades, val_patients)},
        "preprocessing": {"channels": "1 (grey)", "size": [SIZE, SIZE],
                          "resize": "Pillow BILINEAR (antialiased) on 8-bit grey",
                          "scale": "divide by 255", "mean": [MEAN], "std": [STD]},
        "input": f"image float32 [N,1,{SIZE},{SIZE}]", "output": "logit float32 [N,1], raw",
        "training": {"seed": args.seed, "epochs_planned": args.epochs,
                     "epochs_done": done, "chosen_epoch": epoch,
                     "batch": BATCH, "optimiser": "AdamW, one-cycle, weight average 0.98",
                     "seconds": round(seconds), "threads": args.threads,
                     "hardware": f"CPU {platform.machine()}, {os.cpu_count()} cores"},
        "versions": {"python": platform.python_version()} | {
            name: version(name) for name in ["torch", "numpy", "pillow", "onnx", "onnxruntime"]},
        "held_out": evaluate(logits_of(model, images[held]), grades[held]),
        "val": evaluate(logits, val_grades),
        "onnx": {"opset": OPSET, "bytes": path.stat().st_size,
                 "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                 "max_abs_logit_difference_to_torch_on_val":
                     float(np.abs(onnx_logits(path, val_images) - logits).max())},
    }
    text = json.dumps(record, indent=2)
    (args.out / "classifier.provenance.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()

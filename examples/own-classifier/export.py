"""A PyTorch classifier as an ONNX file, and whether both answer the same.

    pip install torch onnx onnxruntime
    python export.py classifier.onnx [--weights weights.pt]

`build` is the network: put yours in its place. It takes grey images of 64 x 64 pixels, scaled to [-1, 1], and answers the
logit of one class.
"""

import argparse

import numpy as np
import onnxruntime
import torch
from torch import nn

SHAPE = (1, 64, 64)


def build():
    """A small convolutional network, as it stands before or after training."""
    torch.manual_seed(1)
    layers = []
    for inputs, outputs in [(1, 8), (8, 16), (16, 32)]:
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--weights", help="a state dict, as torch.save(model.state_dict(), ...) writes it")
    args = parser.parse_args()

    model = build()
    if args.weights:
        model.load_state_dict(torch.load(args.weights, map_location="cpu", weights_only=True))
    # Dropout off, and batch normalisation by what was learned.
    model.eval()

    # The batch is left open, so that many images can be asked about at once.
    names = {"input_names": ["image"], "output_names": ["logit"]}
    batch = {"image": {0: "batch"}, "logit": {0: "batch"}}
    torch.onnx.export(model, torch.zeros(1, *SHAPE), args.out, dynamic_axes=batch, dynamo=False, **names)

    session = onnxruntime.InferenceSession(args.out, providers=["CPUExecutionProvider"])
    for size in (1, 5):
        x = torch.rand(size, *SHAPE) * 2 - 1
        with torch.no_grad():
            expected = model(x).numpy()
        (found,) = session.run(None, {"image": x.numpy()})
        worst = np.abs(found - expected).max()
        if found.shape != expected.shape or worst > 1e-4:
            raise SystemExit(f"{args.out}: answers {found.shape}, {worst:.2e} from PyTorch's {expected.shape}")
    print(f"{args.out}: answers what PyTorch answers")
    print(f"next: shiftlens init --model {args.out} --images FOLDER --mean 0.5 --std 0.5")


if __name__ == "__main__":
    main()

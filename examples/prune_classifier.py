#!/usr/bin/env python3
"""Make a second version of an ONNX classifier: the same network, its smallest weights set to 0 (magnitude pruning, Han et
al. 2015, arXiv:1506.02626, without training again).

In every convolution and matrix of at least 1000 weights the share of --share that is smallest in magnitude becomes 0; biases
and smaller tensors stay. Nothing else changes, so the version has the original's inputs, outputs and layers.

Writes the model to --out and, beside it, a provenance: both versions' figures on the images of --data (folders named by
Kellgren-Lawrence grade, grey, as train_classifier.py reads them), and how often they decide differently.
Requires: numpy, pillow, onnx, onnxruntime.

Example:  python prune_classifier.py knee/classifier.onnx --share 0.5 --data knee-oai-128/val --out knee/classifier-pruned.onnx
"""

import argparse
import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from PIL import Image

SIZE = 64
SMALLEST = 1000  # weights of a tensor that is pruned


def weights(model):
    """The initialisers that convolutions and matrix products take as their weights."""
    used = {node.input[1] for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")}
    return [t for t in model.graph.initializer if t.name in used and np.prod(t.dims) >= SMALLEST]


def prune(model, share):
    """Sets the smallest weights to 0; answers how many are 0, and of how many."""
    zero, total = 0, 0
    for tensor in weights(model):
        values = numpy_helper.to_array(tensor).copy()
        count = int(round(share * values.size))
        values.flat[np.argsort(np.abs(values), axis=None, kind="stable")[:count]] = 0
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        zero, total = zero + count, total + values.size
    return zero, total


def load(folder):
    """Images as the network takes them, [N,1,64,64], and whether the grade is 2 to 4."""
    images, positive = [], []
    for grade in range(5):
        for path in sorted((folder / str(grade)).glob("*.jpg")):
            with Image.open(path) as image:
                image = image.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            images.append((np.asarray(image, dtype=np.float32)[None] - 127) / 128)
            positive.append(grade >= 2)
    if not images:
        raise SystemExit(f"{folder}: no images found; expected subfolders 0 to 4 holding *.jpg")
    return np.stack(images), np.array(positive)


def logits(model, images):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    parts = [session.run(["logit"], {"image": part})[0][:, 0] for part in np.array_split(images, -(-len(images) // 64))]
    return np.concatenate(parts)


def auc(scores, positive):
    """Area under the ROC curve by the Mann-Whitney statistic; ties count one half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    p, n = positive.sum(), (~positive).sum()
    return float((ranks[positive].sum() - p * (p + 1) / 2) / (p * n))


def figures(scores, positive):
    return {"auc": round(auc(scores, positive), 4),
            "accuracy_at_0.5": round(float(((scores > 0) == positive).mean()), 4)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="the original, an .onnx file")
    parser.add_argument("--share", type=float, required=True, help="share of each tensor's weights that become 0")
    parser.add_argument("--data", type=Path, required=True, help="folders of images by grade that no version learned from")
    parser.add_argument("--out", type=Path, required=True, help="the pruned version, an .onnx file")
    args = parser.parse_args()
    if not 0 < args.share < 1:
        raise SystemExit(f"--share {args.share}: expected a number between 0 and 1")

    model = onnx.load(args.model)
    images, positive = load(args.data)
    before = logits(model, images)
    zero, total = prune(model, args.share)
    onnx.checker.check_model(model)
    after = logits(model, images)
    onnx.save(model, args.out)

    digest = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()
    record = {
        "model": f"{args.model.name} with the smallest {100 * args.share:g} % of the weights of every convolution and matrix "
                 f"of at least {SMALLEST} weights set to 0; not trained again",
        "made_by": f"examples/prune_classifier.py --share {args.share:g}",
        "original": {"file": args.model.name, "sha256": digest(args.model)},
        "weights": {"zero": zero, "of": total},
        "test": {
            "data": "the images of val.csv, which neither version learned from",
            "images": len(positive),
            "original": figures(before, positive),
            "pruned": figures(after, positive),
            "same_decision": round(float(((before > 0) == (after > 0)).mean()), 4),
            "correlation_of_logits": round(float(np.corrcoef(before, after)[0, 1]), 4),
        },
        "versions": {name: version(name) for name in ["numpy", "pillow", "onnx", "onnxruntime"]},
        "onnx": {"bytes": args.out.stat().st_size, "sha256": digest(args.out)},
    }
    text = json.dumps(record, indent=2)
    args.out.with_suffix(".provenance.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()

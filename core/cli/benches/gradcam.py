"""The contender of the Grad-CAM benchmark: pytorch-grad-cam on torchvision's networks with random weights.

Started by `gradcam.rs` as `gradcam.py FOLDER THREADS MODEL...`. It exports each network to FOLDER/MODEL.onnx and then
answers one line for each line on stdin, `forward|cam MODEL BATCH`: the seconds of one call on FOLDER/BATCH.f32
(float32, BATCH x 3 x 224 x 224). After `cam` the raw maps, before the ReLU, lie in FOLDER/MODEL-BATCH.map.
"""

import os
import sys
import time
import warnings

warnings.filterwarnings("ignore")
import numpy as np
import torch
import torchvision
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

# torchvision's DenseNet overwrites the layer that is looked at with its ReLU, and pytorch-grad-cam would take the
# overwritten values for the activations.
relu = torch.nn.functional.relu
torch.nn.functional.relu = lambda x, inplace=False: relu(x)

folder, threads, names = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
CLASS = 3
LAYERS = {"resnet18": lambda m: m.layer4[-1], "densenet121": lambda m: m.features[-1]}


def network(name):
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def export(model, path):
    axes = {"input": {0: "batch"}, "output": {0: "batch"}}
    # The exporter prints; stdout belongs to the answers.
    out, sys.stdout = sys.stdout, sys.stderr
    torch.onnx.export(
        model,
        torch.randn(1, 3, 224, 224),
        path,
        dynamo=False,
        opset_version=17,
        input_names=["input"],
        output_names=["output"],
        dynamic_axes=axes,
    )
    sys.stdout = out


torch.set_num_threads(threads)
models, cams = {}, {}
for name in names:
    models[name] = network(name)
    export(models[name], os.path.join(folder, name + ".onnx"))
    cams[name] = GradCAM(model=models[name], target_layers=[LAYERS[name](models[name])])
print("ready", torch.__version__, flush=True)

for line in sys.stdin:
    what, name, batch = line.split()
    x = torch.from_numpy(np.fromfile(os.path.join(folder, batch + ".f32"), np.float32).reshape(-1, 3, 224, 224))
    if what == "forward":
        with torch.inference_mode():
            start = time.perf_counter()
            models[name](x)
            seconds = time.perf_counter() - start
    else:
        cam = cams[name]
        start = time.perf_counter()
        cam(input_tensor=x, targets=[ClassifierOutputTarget(CLASS)] * len(x))
        seconds = time.perf_counter() - start
        a, g = (t[0].detach().numpy() for t in (cam.activations_and_grads.activations, cam.activations_and_grads.gradients))
        maps = np.einsum("nc,nchw->nhw", g.mean(axis=(2, 3)), a)
        maps.astype(np.float32).tofile(os.path.join(folder, f"{name}-{batch}.map"))
    print(seconds, flush=True)

"""Writes checkpoints with the structure that PyTorch programs give them, from safetensors, without PyTorch.

usage: pack.py FOLDER < lines, each a JSON object: {"from": FILE, "to": NAME, "layout": .., "protocol": .., ..}

Layouts: `nvlabs` (a network pickle: modules as persistent objects, storages as bytes in the older format),
`nvlabs-dict` (state dict under G_ema, same tensors), `zip` and `older` (state dict under g_ema as torch.save wrote and
writes it). Options: `key`, `protocol`, `numbers` (a type), `drop`, `add`, `fill` and `expand` (tensors), `set` (attributes of
modules), and instead of a layout `raw`, a name of RAW below.
"""

import argparse
import collections
import io
import json
import pickle
import struct
import sys
import types
import zipfile


def module(name):
    made = sys.modules.setdefault(name, types.ModuleType(name))
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(module(parent), last, made)
    return made


def function(where, name):
    """A function that pickle writes as a global and nobody calls here."""

    def stub(*_):
        raise AssertionError(f"{where}.{name} was called")

    stub.__module__, stub.__name__, stub.__qualname__ = where, name, name
    setattr(module(where), name, stub)
    return stub


def kind(where, name, bases=(object,), body=None):
    made = type(name, bases, {"__module__": where, **(body or {})})
    setattr(module(where), name, made)
    return made


rebuild_tensor = function("torch._utils", "_rebuild_tensor_v2")
rebuild_parameter = function("torch._utils", "_rebuild_parameter")
load_from_bytes = function("torch.storage", "_load_from_bytes")
reconstruct = function("torch_utils.persistence", "_reconstruct_persistent_obj")
FLOAT = kind("torch", "FloatStorage")
# By the name of a type: class and format of `struct`. bfloat16 is the upper half of a float32.
NUMBERS = {
    "f32": (FLOAT, "f"),
    "f16": (kind("torch", "HalfStorage"), "e"),
    "bf16": (kind("torch", "BFloat16Storage"), None),
    "f64": (kind("torch", "DoubleStorage"), "d"),
    "i64": (kind("torch", "LongStorage"), "q"),
}
EasyDict = kind("dnnlib.util", "EasyDict", (dict,))


class Storage:
    """Numbers; `data` are their bytes."""

    def __init__(self, key, cls, numel, data):
        self.key, self.cls, self.numel, self.data = key, cls, numel, data

    def __reduce__(self):
        return load_from_bytes, (older(self, [self]),)


class Tensor:
    def __init__(self, storage, shape, stride=None, offset=0):
        self.storage, self.shape, self.offset = storage, tuple(shape), offset
        self.stride = tuple(stride) if stride is not None else contiguous(shape)

    def __reduce__(self):
        hooks = collections.OrderedDict()
        return rebuild_tensor, (self.storage, self.offset, self.shape, self.stride, False, hooks)


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        return rebuild_parameter, (self.tensor, True, collections.OrderedDict())


class Persistent:
    """A module that carries its source."""

    def __init__(self, name, **state):
        self.name, self.state = name, state

    def __reduce__(self):
        meta = {"type": "class", "version": 6, "module_src": "raise SystemExit('run')", "class_name": self.name}
        return reconstruct, ({**meta, "state": self.state},)


def contiguous(shape):
    stride, step = [], 1
    for n in reversed(shape):
        stride.append(step)
        step *= n
    return tuple(reversed(stride))


class Out(pickle.Pickler):
    def persistent_id(self, value):
        if isinstance(value, Storage):
            fields = ("storage", value.cls, value.key, "cpu", value.numel)
            return fields + (None,) if self.older else fields
        return None


# As torch.save: its pickles are of protocol 2.
def dump(file, value, is_older):
    out = Out(file, protocol=2)
    out.older = is_older
    out.dump(value)


def older(value, storages):
    file = io.BytesIO()
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    for head in (0x1950A86A20F9469CFC6C, 1001, system):
        pickle.dump(head, file, protocol=2)
    dump(file, value, True)
    storages = sorted(storages, key=lambda s: s.key)
    pickle.dump([s.key for s in storages], file, protocol=2)
    for s in storages:
        file.write(struct.pack("<q", s.numel) + s.data)
    return file.getvalue()


def archive(value, storages):
    file = io.BytesIO()
    body = io.BytesIO()
    dump(body, value, False)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as z:
        z.writestr("network/data.pkl", body.getvalue())
        z.writestr("network/byteorder", "little")
        for s in storages:
            z.writestr(f"network/data/{s.key}", s.data)
        z.writestr("network/version", "3\n")
    return file.getvalue()


def read(path):
    with open(path, "rb") as f:
        (n,) = struct.unpack("<Q", f.read(8))
        head = json.loads(f.read(n))
        data = f.read()
    head.pop("__metadata__", None)
    out = {}
    for name, t in head.items():
        assert t["dtype"] == "F32", t
        a, b = t["data_offsets"]
        out[name] = (t["shape"], data[a:b])
    return out


class Maker:
    def __init__(self, numbers):
        self.numbers, self.storages = numbers, []

    def tensor(self, shape, data, turned=False):
        n = len(data) // 4
        values = struct.unpack(f"<{n}f", data)
        stride, offset = contiguous(shape), 0
        if turned and len(shape) == 2:
            # Column-major, behind two other numbers.
            rows, columns = shape
            values = [0.5, -0.5] + [values[r * columns + c] for c in range(columns) for r in range(rows)]
            stride, offset = (1, rows), 2
        cls, code = NUMBERS[self.numbers]
        if code is None:
            data = b"".join(struct.pack("<f", v)[2:] for v in values)
        elif code == "q":
            data = struct.pack(f"<{len(values)}q", *map(round, values))
        else:
            data = struct.pack(f"<{len(values)}{code}", *values)
        storage = Storage(str(len(self.storages)), cls, len(values), data)
        self.storages.append(storage)
        return Tensor(storage, shape, stride, offset)


    def expanded(self, shape):
        """One number that claims to be many."""
        self.storages.append(Storage(str(len(self.storages)), FLOAT, 1, struct.pack("<f", 1.0)))
        return Tensor(self.storages[-1], shape, [0] * len(shape))


BUFFERS = ("resample_filter", "noise_const", "w_avg")


def tree(tensors, maker, config, changes):
    """Modules as the reference nests them; `changes` sets attributes by path."""
    nodes = {"": {"p": {}, "b": {}, "m": []}}

    def node(path):
        if path not in nodes:
            nodes[path] = {"p": {}, "b": {}, "m": []}
            parent, _, name = path.rpartition(".")
            node(parent)["m"].append(name)
        return nodes[path]

    for name, (shape, data) in tensors.items():
        path, _, leaf = name.rpartition(".")
        tensor = maker.tensor(shape, data, turned=leaf == "weight")
        if leaf in BUFFERS:
            node(path)["b"][leaf] = tensor
        else:
            node(path)["p"][leaf] = Parameter(tensor)

    def build(path):
        n = nodes[path]
        last = path.rpartition(".")[2]
        state = {"training": False, "_backward_hooks": collections.OrderedDict(), "_non_persistent_buffers_set": set()}
        state["_parameters"] = collections.OrderedDict(n["p"], bias=None) if "bias" not in n["p"] else n["p"]
        state["_buffers"] = collections.OrderedDict(n["b"])
        state["_modules"] = collections.OrderedDict()
        name = "Module"
        if path == "":
            name = "Generator"
            state["_init_args"] = ()
            kwargs = {k: config[k] for k in ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")}
            kwargs["mapping_kwargs"] = EasyDict(num_layers=config["mapping_layers"])
            synthesis = {k: config[k] for k in ("channel_base", "channel_max")}
            synthesis.update(num_fp16_res=4, conv_clamp=config["conv_clamp"])
            if config.get("architecture", "skip") != "skip":
                synthesis["architecture"] = config["architecture"]
            # stylegan2-ada-pytorch keeps them together, stylegan3 among the others, the sizes by place.
            if config.get("arguments") == "flat":
                state["_init_args"] = tuple(kwargs.pop(k) for k in ("z_dim", "c_dim", "w_dim"))
                kwargs.update(synthesis)
            else:
                kwargs["synthesis_kwargs"] = EasyDict(synthesis)
            state["_init_kwargs"] = EasyDict(kwargs)
        elif last.startswith("fc"):
            name = "FullyConnectedLayer"
            state.update(activation="lrelu", bias_gain=0.01)
        elif last in ("affine", "embed"):
            name = "FullyConnectedLayer"
            state.update(activation="linear", bias_gain=1)
        elif last.startswith("conv"):
            name = "SynthesisLayer"
            state.update(activation="lrelu", use_noise=True, conv_clamp=config["conv_clamp"])
        elif last == "skip":
            name = "Conv2dLayer"
            state.update(activation="linear", up=2, down=1, conv_clamp=None)
        elif last == "torgb":
            name = "ToRGBLayer"
            state.update(conv_clamp=config["conv_clamp"])
        elif last.startswith("b"):
            name = "SynthesisBlock"
            state.update(architecture=config.get("architecture", "skip"), in_channels=0)
        state.update(changes.get(path, {}))
        name = state.pop("class", name)
        for child in n["m"]:
            full = f"{path}.{child}" if path else child
            state["_modules"][child] = build(full)
        return Persistent(name, **state)

    return build("")


def pack(job):
    tensors = read(job["from"])
    for name in job.get("drop", []):
        tensors = {k: v for k, v in tensors.items() if not k.startswith(name)}
    for name, shape in job.get("add", {}).items():
        n = 1
        for d in shape:
            n *= d
        tensors[name] = (shape, struct.pack(f"<{n}f", *([0.25] * n)))
    for name, value in job.get("fill", {}).items():
        shape, data = tensors[name]
        tensors[name] = (shape, struct.pack("<f", value) * (len(data) // 4))
    maker = Maker(job.get("numbers", "f32"))
    expanded = {k: maker.expanded(v) for k, v in job.get("expand", {}).items()}
    layout, key = job["layout"], job.get("key")
    if layout == "nvlabs":
        network = tree(tensors, maker, job["config"], job.get("set", {}))
        data = {"training_set_kwargs": EasyDict(path="x"), "G": None, "D": None, key or "G_ema": network}
        return pickle.dumps(data, protocol=job["protocol"])
    state = collections.OrderedDict((k, maker.tensor(*v)) for k, v in tensors.items())
    state.update(expanded)
    if layout == "nvlabs-dict":
        return pickle.dumps({"G_ema": state}, protocol=job["protocol"])
    args = argparse.Namespace(size=16, lr=0.002)
    whole = {key or "g_ema": state, "args": args, "d": {}, "ada_aug_p": 0.1}
    if "latent_avg" in state:
        whole["latent_avg"] = state.pop("latent_avg")
    return (archive if layout == "zip" else older)(whole, maker.storages)


def tensorflow(build):
    network = kind("dnnlib.tflib.network", "Network", (object,), {"__reduce_ex__": object.__reduce_ex__})
    g = network()
    g.__dict__.update({"version": 4, "build_func_name": build, "variables": []})
    return pickle.dumps((g, g, g), protocol=2)


class Evil:
    """Runs a command if anything unpickles it."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


def unfolding(depth):
    """Modules that each have the next one twice."""
    made = Persistent("Module", _parameters={}, _buffers={}, _modules={})
    for _ in range(depth):
        made = Persistent("Module", _parameters={}, _buffers={}, _modules={"a": made, "b": made})
    return made


def endless():
    """A module that is its own child."""
    made = Persistent("Module", _parameters={}, _buffers={}, _modules={})
    state = made.state
    state["_modules"]["again"] = Persistent("Module", **state)
    state["_modules"]["again"].state = state
    return made


RAW = {
    "unfolding": lambda job: pickle.dumps({"G_ema": unfolding(60)}, protocol=4),
    "endless": lambda job: pickle.dumps({"G_ema": endless()}, protocol=4),
    "stylegan1-tf": lambda job: tensorflow("G_style"),
    "pggan-tf": lambda job: tensorflow("G_paper"),
    "stylegan2-tf": lambda job: tensorflow("G_main"),
    "evil": lambda job: pickle.dumps({"G_ema": Evil(job["command"])}, protocol=job["protocol"]),
    "list": lambda job: pickle.dumps([1, 2, 3]),
    "other-keys": lambda job: pickle.dumps({"model": {}, "epoch": 3}),
}


def main():
    folder = sys.argv[1]
    for line in sys.stdin:
        job = json.loads(line)
        data = RAW[job["raw"]](job) if "raw" in job else pack(job)
        with open(f"{folder}/{job['to']}", "wb") as f:
            f.write(data)


if __name__ == "__main__":
    main()

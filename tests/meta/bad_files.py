"""Damaged and wrong model files, made by code."""

import struct

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.meta.tiny_models import tiny_model

FLOAT = TensorProto.FLOAT


def healthy():
    """Return a small classifier: a convolution, a ReLU, a mean and a dense layer."""
    random = np.random.default_rng(0)
    shapes = {"w": (4, 3, 3, 3), "v": (5, 4), "c": (5,)}
    nodes = [
        ("Conv", "xw", "a", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        ("Relu", "a", "b", {}),
        ("GlobalAveragePool", "b", "m", {}),
        ("Flatten", "m", "f", {}),
        ("Gemm", "fvc", "y", {"transB": 1}),
    ]
    weights = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    model = tiny_model(*nodes, shape=["n", 3, 8, 8], weights=weights, opset=17)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", FLOAT, ["n", 5]))
    return model


def damaged():
    """Yield (name, content) of the healthy model: truncated at every second byte, or a bit flipped in one.

    The weights stay: any number is one.
    """
    model = healthy()
    data, weights = model.SerializeToString(), set()
    for at in range(0, len(data), 2):
        yield f"truncated-{at:04}", data[:at]
    for tensor in model.graph.initializer:
        start = data.index(tensor.raw_data)
        weights.update(range(start, start + len(tensor.raw_data)))
    for place in sorted({*range(len(data))} - weights):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 7
        yield f"flipped-{place:04}", bytes(flipped)


def changed(change):
    """Return the content of the healthy model after ``change``, which gets the model and its graph."""
    model = healthy()
    change(model, model.graph)
    return model.SerializeToString()


def external(location, **entries):
    """Return a change that moves the first weight to external data."""

    def change(_, graph):
        tensor = graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            tensor.external_data.add(key=key, value=str(value))

    return change


def assign(place, name, value):
    """Return a change that sets a field of the n-th node, weight, input or output."""

    def change(_, graph):
        kind, number = place
        target = getattr(graph, kind)[number]
        if isinstance(value, list):
            del getattr(target, name)[:]
            getattr(target, name).extend(value)
        else:
            setattr(target, name, value)

    return change


def shaped(*dims):
    """Return a change of the declared shape of the input."""

    def change(_, graph):
        graph.input[0].CopyFrom(helper.make_tensor_value_info("x", FLOAT, list(dims)))

    return change


def filled(value):
    """Return a change of one weight."""

    def change(_, graph):
        graph.initializer[0].raw_data = struct.pack("<f", value) + graph.initializer[0].raw_data[4:]

    return change


def reshaped(_, graph):
    """Give the mean a shape of 2 ** 80 values."""
    graph.initializer.append(numpy_helper.from_array(np.array([2**40, 2**40]), "huge"))
    graph.node[3].CopyFrom(helper.make_node("Reshape", ["m", "huge"], ["f"]))


ERRORS = {  # files that no engine may run: each is an error, whatever the engine makes of it
    "opset 999": lambda model, _: setattr(model.opset_import[0], "version", 999),
    "opset 0": lambda model, _: setattr(model.opset_import[0], "version", 0),
    "no opset": lambda model, _: model.ClearField("opset_import"),
    "another domain": assign(("node", 1), "domain", "com.example"),
    "an unknown operator": assign(("node", 1), "op_type", "Rleu"),
    "a missing initialiser": lambda _, graph: graph.initializer.pop(0),
    "a cycle": assign(("node", 0), "input", ["b", "w"]),
    "a node before its input": lambda _, graph: graph.node.insert(0, graph.node.pop(2)),
    "one name for two outputs": assign(("node", 1), "output", ["a"]),
    "an output of no node": assign(("output", 0), "name", "z"),
    "a weight of integers": lambda _, graph: graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.int64), "w")
    ),
    "a weight of an unknown type": assign(("initializer", 0), "data_type", 99),
    "a weight that is too short": assign(("initializer", 0), "raw_data", b"\0" * 8),
    "a weight of 2**62 values": assign(("initializer", 0), "dims", [2**31, 2**31]),
    "a weight of negative size": assign(("initializer", 0), "dims", [-1, 3, 3, 3]),
    "a weight of another rank": assign(("initializer", 0), "dims", [4, 27]),
    "a reshape to 2**80 values": reshaped,
    "images of 10**12 pixels": shaped("n", 3, 10**6, 10**6),
    "images of 0 pixels": shaped("n", 3, 0, 0),
    "an input of 0 dimensions": shaped(),
    "an input of 5 dimensions": shaped("n", 3, 8, 8, 8),
    "another number of channels": shaped("n", 4, 8, 8),
    "one name for two nodes": lambda _, graph: [setattr(node, "name", "same") for node in graph.node],
    "a weight that is not a number": filled(float("nan")),
    "an infinite weight": filled(float("inf")),
    "external data outside its folder": external("../secret.bin"),
    "external data with an absolute path": external("/etc/hostname"),
    "external data that is missing": external("missing.bin"),
    "external data beyond the end": external("weights.bin", offset=10**9),
    "external data of another length": external("weights.bin", length=10**12),
}


def write(folder, content):
    """Write a model with its neighbours; return its path."""
    (folder / "models").mkdir(parents=True)
    (folder / "secret.bin").write_bytes(bytes(432))
    (folder / "models" / "weights.bin").write_bytes(bytes(432))
    path = folder / "models" / "model.onnx"
    path.write_bytes(content)
    return path

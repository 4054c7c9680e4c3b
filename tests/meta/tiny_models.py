"""Models of a few nodes, and their outputs in ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnx.parser
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

IMAGE = ("inputs", TensorProto.FLOAT, ["batch", 3, 32, 32])
SCORES = ("logits", TensorProto.FLOAT, ["batch", 3])


def tiny_model(*nodes, shape, outputs=("y",), weights=None, opset=13, kind=TensorProto.FLOAT):
    """Return a model with the input ``x`` of ``shape``; ``nodes`` are (operator, inputs, outputs, attributes)."""
    made = [helper.make_node(operator, list(given), list(made), **more) for operator, given, made, more in nodes]
    graph = helper.make_graph(
        made,
        "tiny",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def saved(path, *nodes, **options):
    """Write a model and return its path."""
    onnx.save(tiny_model(*nodes, **options), path)
    return path


def doubling(path):
    """Write a model that doubles its input, which ONNX's checker accepts, and return its path."""
    head = '<ir_version: 8, opset_import: ["" : 13]>'
    onnx.save(onnx.parser.parse_model(head + "double (float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Add(x, x) }"), path)
    return path


def model_of(inputs=(IMAGE,), outputs=(SCORES,), nodes=None, **more):
    """Return a model that is only read, never run: its operator does not exist."""
    if nodes is None:
        nodes = [helper.make_node("Custom", [name for name, *_ in inputs], ["logits"])]
    ends = [[helper.make_tensor_value_info(*value) for value in values] for values in (inputs, outputs)]
    return helper.make_model(
        helper.make_graph(nodes, "graph", *ends, **more), opset_imports=[helper.make_opsetid("", 17)]
    )


def by_onnxruntime(model, images):
    """Return all outputs of a file, or of a model in memory, by name; the images take the type of its input."""
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    names = [value.name for value in session.get_outputs()]
    dtype = np.float16 if "float16" in given.type else np.float32
    return dict(zip(names, session.run(names, {given.name: images.astype(dtype)}), strict=True))

"""Edit an ONNX model in memory, so that an engine that runs it computes something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fixtures.precisions import BF16, Format
from fixtures.reference.rounding import rounded

Array = NDArray[np.generic]
MARK = "/planted"  # in the names of tensors that an edit adds


def copy_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy to edit."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def find_nodes(model, operator: str, fits: Callable[[onnx.NodeProto], bool] = lambda _: True) -> list[onnx.NodeProto]:
    """Return the nodes that fit, in order. Raises LookupError if there is none: the fault does not apply."""
    found = [node for node in model.graph.node if node.op_type == operator and fits(node)]
    if not found:
        raise LookupError(f"no {operator} that fits")
    return found


def at_depth(candidates: Sequence, depth: float):
    """Return the candidate at a depth of the network: 0 the first, 1 the last."""
    return candidates[min(len(candidates) - 1, int(depth * len(candidates)))]


def constant(model: onnx.ModelProto, name: str) -> TensorProto:
    """Return an initializer."""
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def edit_constant(model: onnx.ModelProto, name: str, change: Callable[[Array], Array]) -> None:
    """Replace an initializer by a function of its array; its type stays."""
    tensor = constant(model, name)
    array = numpy_helper.to_array(tensor)
    changed = np.ascontiguousarray(change(array.copy())).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(changed, name))


def add_scalar(model: onnx.ModelProto, name: str, value: float) -> str:
    """Add a constant of the model's own type and return its name."""
    model.graph.initializer.append(helper.make_tensor(name, element_type(model), [], [value]))
    return name


def get_attribute(node: onnx.NodeProto, name: str):
    """Return an attribute that the node has."""
    return next(helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name)


def set_attributes(node: onnx.NodeProto, **values: object) -> None:
    """Set or replace attributes."""
    rest = [entry for entry in node.attribute if entry.name not in values]
    del node.attribute[:]
    node.attribute.extend([*rest, *(helper.make_attribute(name, value) for name, value in values.items())])


def insert_after(model: onnx.ModelProto, node: onnx.NodeProto, *steps: tuple, mark: str = MARK) -> str:
    """Insert nodes (operator, further inputs, attributes) after a node and return the name of its output.

    The last step takes over the name; the node's own result is called ``name + mark``.
    """
    output = node.output[0]
    at = next(index for index, entry in enumerate(model.graph.node) if entry == node)
    last = model.graph.node[at].output[0] = f"{output}{mark}"
    for index, (operator, inputs, attributes) in enumerate(steps):
        result = output if index == len(steps) - 1 else f"{output}{mark}{index}"
        name = f"{output}{mark}.{operator}{index}"
        model.graph.node.insert(
            at + 1 + index, helper.make_node(operator, [last, *inputs], [result], name, **attributes)
        )
        last = result
    return output


def element_type(model: onnx.ModelProto) -> int:
    """Return the type of the model's tensors."""
    return int(model.graph.output[0].type.tensor_type.elem_type)


def cast_output(model: onnx.ModelProto, node: onnx.NodeProto, narrow: int, mark: str = MARK) -> str:
    """Cast the result of a node to a narrower type and back."""
    return insert_after(model, node, ("Cast", [], {"to": narrow}), ("Cast", [], {"to": element_type(model)}), mark=mark)


def emulate_bf16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same graph with every tensor and constant in bfloat16, computed by fp32 kernels."""
    copy = copy_model(model)
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            edit_constant(copy, tensor.name, lambda array: narrow(array, BF16))
    for node in list(copy.graph.node):
        if MARK not in node.output[0]:  # a fault is part of the operator that it changes
            cast_output(copy, node, TensorProto.BFLOAT16, "/bf16")
    entry = copy.graph.input[0].name
    for node in copy.graph.node:
        node.input[:] = [f"{entry}/bf16" if name == entry else name for name in node.input]
    copy.graph.node.insert(0, helper.make_node("Cast", [f"{entry}/narrow"], [f"{entry}/bf16"], to=TensorProto.FLOAT))
    copy.graph.node.insert(0, helper.make_node("Cast", [entry], [f"{entry}/narrow"], to=TensorProto.BFLOAT16))
    return copy


def narrow(array: Array, target: Format, *, truncate: bool = False) -> Array:
    """Round fp32 numbers to another format."""
    return rounded(array, target, truncate=truncate).astype(np.float32)


def int8(array: Array) -> Array:
    """Quantise with one symmetric scale."""
    step = np.abs(array).max() / 127
    return np.clip(np.rint(array / step), -127, 127) * step

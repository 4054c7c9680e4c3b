"""Edit an ONNX model in memory, so that an engine that runs it computes something else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.generic]
Change = Callable[[Array], Array]


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model that can be spoilt."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def nodes(model: onnx.ModelProto, kind: str, fits: Callable[[onnx.NodeProto], bool] = lambda _: True):
    """Nodes of a kind that fit, in order. Raises LookupError where there is none: the fault is not of this model."""
    found = [node for node in model.graph.node if node.op_type == kind and fits(node)]
    if not found:
        raise LookupError(f"no {kind} that fits")
    return found


def chosen(candidates, share: float):
    """The candidate at ``share`` (0 the first, 1 the last) of the network's depth."""
    return candidates[min(len(candidates) - 1, int(share * len(candidates)))]


def constant(model: onnx.ModelProto, name: str) -> TensorProto:
    """An initializer."""
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def values(model: onnx.ModelProto, name: str) -> Array:
    """A copy of an initializer's array."""
    return numpy_helper.to_array(constant(model, name)).copy()


def put(model: onnx.ModelProto, name: str, array: Array) -> None:
    """Replace an initializer, its type kept."""
    tensor = constant(model, name)
    kind = numpy_helper.to_array(tensor).dtype
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array).astype(kind), name))


def attribute(node: onnx.NodeProto, name: str, value: object = None) -> object:
    """Read an attribute, or set it where ``value`` is given."""
    for entry in node.attribute:
        if entry.name == name:
            if value is None:
                return helper.get_attribute_value(entry)
            entry.CopyFrom(helper.make_attribute(name, value))
            return value
    if value is not None:
        node.attribute.append(helper.make_attribute(name, value))
    return value


def behind(
    model: onnx.ModelProto, node: onnx.NodeProto, *steps: tuple[str, list[str], dict[str, object]], tag: str = "planted"
) -> None:
    """Put steps behind a node: its output keeps its name, the node's own result gets another."""
    output = node.output[0]
    at = next(index for index, entry in enumerate(model.graph.node) if entry is node or entry == node)
    model.graph.node[at].output[0] = last = f"{output}/{tag}"
    for index, (kind, more, attributes) in enumerate(steps):
        result = output if index == len(steps) - 1 else f"{output}/{tag}{index}"
        step = helper.make_node(kind, [last, *more], [result], name=f"{output}/{tag}.{kind}{index}", **attributes)
        model.graph.node.insert(at + 1 + index, step)
        last = result


def scalar(model: onnx.ModelProto, name: str, value: float, kind: int) -> str:
    """A new constant."""
    model.graph.initializer.append(helper.make_tensor(name, kind, [], [value]))
    return name


def element(model: onnx.ModelProto) -> int:
    """Type of the model's tensors."""
    return int(model.graph.output[0].type.tensor_type.elem_type)


def stored_as(model: onnx.ModelProto, node: onnx.NodeProto, narrow: int, tag: str = "planted") -> None:
    """The node's result passes through a narrower type."""
    behind(model, node, ("Cast", [], {"to": narrow}), ("Cast", [], {"to": element(model)}), tag=tag)


def emulated_bf16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with every tensor and constant kept in bfloat16, computed by fp32 kernels."""
    made = copied(model)
    for tensor in made.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            wide = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(bf16(wide), tensor.name))
    for node in list(made.graph.node):
        if "/planted" not in node.output[0]:  # a fault is part of the operator that it meets
            stored_as(made, node, TensorProto.BFLOAT16, "wide")
    entry = made.graph.input[0].name
    for node in made.graph.node:
        node.input[:] = [f"{entry}/bf16" if name == entry else name for name in node.input]
    made.graph.node.insert(0, helper.make_node("Cast", [f"{entry}/narrow"], [f"{entry}/bf16"], to=TensorProto.FLOAT))
    made.graph.node.insert(0, helper.make_node("Cast", [entry], [f"{entry}/narrow"], to=TensorProto.BFLOAT16))
    return made


def bf16(array: Array) -> Array:
    """To nearest even."""
    pattern = np.ascontiguousarray(array, np.float32).view(np.uint32).astype(np.uint64)
    pattern = (pattern + 0x7FFF + ((pattern >> 16) & 1)) & 0xFFFF0000
    return pattern.astype(np.uint32).view(np.float32).reshape(array.shape)


def cut(array: Array, bits: int) -> Array:
    """The last bits of fp32 numbers made zero."""
    pattern = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return (pattern & np.uint32(2**32 - 2**bits)).view(np.float32).reshape(array.shape)


def put_new(model: onnx.ModelProto, name: str, array: list[int]) -> None:
    """A new constant of whole numbers."""
    model.graph.initializer.append(numpy_helper.from_array(np.array(array, np.int64), name))


def int8(array: Array) -> Array:
    """Per-tensor symmetric."""
    step = np.abs(array).max() / 127
    return np.clip(np.rint(array / step), -127, 127) * step

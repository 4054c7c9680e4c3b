"""Table of engine faults: each changes what ONNX Runtime computes, in the graph that it runs or in how it is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, numpy_helper

from fixtures.precisions import BF16, TF32, precision
from tests.studies.faults.planting import (
    add_scalar,
    at_depth,
    cast_output,
    constant,
    edit_constant,
    find_nodes,
    get_attribute,
    insert_after,
    int8,
    narrow,
    set_attributes,
)

EVERYWHERE = "everywhere"
RUNTIME = "runtime"
WEIGHT, BIAS = 1, 2  # inputs of a convolution or dense layer
GELU_GAIN = 1.7015043497085571


@dataclass(frozen=True)
class Fault:
    """A row: ``plant(model, depth)`` edits the graph and returns the tensor; at level runtime it wraps ``run``."""

    name: str
    level: str
    plant: Callable
    cause: str


def convolutions(model, fits=lambda _: True):
    """Convolutions with a bias, except those of gates: a weight of a dead unit of their ReLU changes nothing."""
    return find_nodes(model, "Conv", lambda node: len(node.input) == 3 and "attn" not in node.name and fits(node))


def gates(model):
    """Sigmoids of the channel gates."""
    return find_nodes(model, "Sigmoid", lambda node: node.name.endswith(".gate"))


def _spatial(model, node):
    return constant(model, node.input[WEIGHT]).dims[-1] > 1


def _square(model, node):
    rows, columns, *_ = constant(model, node.input[WEIGHT]).dims
    return rows == columns


def _conv(change, part=WEIGHT, fits=lambda *_: True):
    """Change the weight or bias of a convolution."""

    def plant(model, depth):
        node = at_depth(convolutions(model, lambda node: fits(model, node)), depth)
        edit_constant(model, node.input[part], change)
        return node.output[0]

    return plant


def _dense(change, part=WEIGHT):
    """Change the weight (outputs, inputs) or bias of a gate or the classifier."""

    def plant(model, depth):
        node = at_depth(find_nodes(model, "Gemm"), depth)
        edit_constant(model, node.input[part], change)
        return node.output[0]

    return plant


def _all_weights(change):
    def plant(model, _depth):
        for node in convolutions(model):
            edit_constant(model, node.input[WEIGHT], change)
        return EVERYWHERE

    return plant


def scale_largest(factor):
    """Multiply the largest value."""

    def change(array):
        array.reshape(-1)[np.abs(array).argmax()] *= factor
        return array

    return change


def _scale_middle(axis, factor):
    def change(array):
        np.moveaxis(array, axis, 0)[array.shape[axis] // 2] *= factor
        return array

    return change


def _swap_rows(array):
    array[:2] = array[1::-1]
    return array


def _weights_of_another_layer(model, depth):
    found = convolutions(model)
    pairs = [
        (node, other)
        for index, node in enumerate(found)
        for other in found[index + 1 :]
        if constant(model, node.input[WEIGHT]).dims == constant(model, other.input[WEIGHT]).dims
    ]
    if not pairs:
        raise LookupError("no two layers of one shape")
    node, other = at_depth(pairs, depth)
    weights = numpy_helper.to_array(constant(model, other.input[WEIGHT]))
    edit_constant(model, node.input[WEIGHT], lambda _: weights)
    return node.output[0]


def _pads(change, fits):
    def plant(model, depth):
        candidates = convolutions(model, lambda node: _spatial(model, node) and fits(list(get_attribute(node, "pads"))))
        node = at_depth(candidates, depth)
        set_attributes(node, **change(list(get_attribute(node, "pads"))))
        return node.output[0]

    return plant


def _permute_groups(model, depth):
    node = at_depth(convolutions(model, lambda node: get_attribute(node, "group") > 1), depth)
    groups = get_attribute(node, "group")
    edit_constant(model, node.input[WEIGHT], lambda array: np.roll(array, len(array) // groups, axis=0))
    return node.output[0]


def _average_with_padding(model, depth):
    node = at_depth(find_nodes(model, "AveragePool"), depth)
    set_attributes(node, pads=[1, 1, 0, 0], count_include_pad=1)
    return node.output[0]


def _activation(operator, **attributes):
    def plant(model, depth):
        node = at_depth(find_nodes(model, "Gelu"), depth)
        node.op_type = operator
        del node.attribute[:]
        set_attributes(node, **attributes)
        return node.output[0]

    return plant


def _clip_activation(model, depth):
    bounds = [add_scalar(model, "planted.low", -2), add_scalar(model, "planted.high", 2)]
    return insert_after(model, at_depth(find_nodes(model, "Gelu"), depth), ("Clip", bounds, {}))


def _scale(find, factor):
    def plant(model, depth):
        return insert_after(
            model, at_depth(find(model), depth), ("Mul", [add_scalar(model, "planted.factor", factor)], {})
        )

    return plant


def _gate_all_one(model, depth):
    node = at_depth(gates(model), depth)
    one = add_scalar(model, "planted.one", 1)
    return insert_after(model, node, ("Sub", [f"{node.output[0]}/planted"], {}), ("Add", [one], {}))


def _gate_of_another_image(model, depth):
    rows = {"starts": [-1], "ends": [-(2**31)], "axes": [0], "steps": [-1]}
    for name, value in rows.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), f"planted.{name}"))
    return insert_after(model, at_depth(gates(model), depth), ("Slice", [f"planted.{name}" for name in rows], {}))


def _pass_through(operator, index, fits=lambda _: True):
    """Replace a node by one of its inputs."""

    def plant(model, depth):
        node = at_depth(find_nodes(model, operator, fits), depth)
        node.op_type, node.input[:] = "Identity", [node.input[index]]
        return node.output[0]

    return plant


def _one_in(element):
    return lambda model, depth: cast_output(model, at_depth(convolutions(model), depth), element)


def _all_in(element):
    def plant(model, _depth):
        for node in convolutions(model):
            cast_output(model, node, element)
        return EVERYWHERE

    return plant


def _all_followed_by(operator, *values):
    """Insert an operator with constant inputs after every convolution."""

    def plant(model, _depth):
        names = [add_scalar(model, f"planted.{index}", value) for index, value in enumerate(values)]
        for node in convolutions(model):
            insert_after(model, node, (operator, names, {}))
        return EVERYWHERE

    return plant


def _round_down(model, depth):
    unit_roundoff = precision(model.doc_string).unit_roundoff
    return _all_followed_by("Mul", 1 - unit_roundoff)(model, depth)


def _nan_to_zero(model, _depth):
    zero = add_scalar(model, "planted.zero", 0)
    for node in convolutions(model):
        insert_after(model, node, ("IsNaN", [], {}), ("Where", [zero, f"{node.output[0]}/planted"], {}))
    return EVERYWHERE


def _result(change):
    """Change a copy of the logits."""
    return lambda run: lambda images: change(run(images).copy())


def _set_row(row, value):
    def change(logits):
        logits[row] = value(logits)
        return logits

    return change


def _set_tail(logits):
    logits[:, -8:] = 3e4
    return logits


def _stale(run):
    results = []

    def faulty(images):
        results.append(run(images))
        same_shape = len(results) > 1 and results[-2].shape == results[-1].shape
        return results[-2] if same_shape else run(images * np.float32(0.5))

    return faulty


def _race(run):
    random = np.random.default_rng(3)

    def faulty(images):
        logits = run(images).copy()
        logits.reshape(-1)[random.integers(0, logits.size, 5)] *= 1.5
        return logits

    return faulty


def _stride(logits):
    return logits.reshape(-1)[: logits.size // 2].repeat(2).reshape(logits.shape)


W, B, A, S, N, R = "weights", "biases", "attributes", "activations", "numerics", RUNTIME

CATALOGUE = (
    Fault("largest weight doubled", W, _conv(scale_largest(2)), "one value of thousands"),
    Fault("largest weight lost", W, _conv(scale_largest(0)), "a pruned value"),
    Fault("largest weight's sign", W, _conv(scale_largest(-1)), "a flipped bit"),
    Fault("one filter negated", W, _conv(_scale_middle(0, -1)), "one output channel"),
    Fault("one filter lost", W, _conv(_scale_middle(0, 0)), "one output channel never written"),
    Fault("two filters swapped", W, _conv(_swap_rows), "layout of outputs"),
    Fault("one input channel lost", W, _conv(_scale_middle(1, 0)), "a tail of the sum left out"),
    Fault("kernel transposed", W, _conv(lambda a: a.swapaxes(2, 3), fits=_spatial), "height and width exchanged"),
    Fault("kernel rotated", W, _conv(lambda a: a[:, :, ::-1, ::-1], fits=_spatial), "convolution, not correlation"),
    Fault("kernel shifted by one column", W, _conv(lambda a: np.roll(a, 1, 3), fits=_spatial), "wrong tap"),
    Fault("weights of another layer", W, _weights_of_another_layer, "a wrong name"),
    Fault("weights in int8", W, _conv(int8), "silently quantised"),
    Fault("weights in bf16", W, _conv(lambda a: narrow(a, BF16)), "silently narrowed"),
    Fault("weights times 1.01", W, _conv(lambda a: a * 1.01), "a folded scale slightly wrong"),
    Fault("alpha not folded", W, _conv(lambda a: a * 5), "stale constant"),
    Fault("weights in tf32", W, _conv(lambda a: narrow(a, TF32, truncate=True)), "tensor core in one layer"),
    Fault("beta of another block", W, _conv(lambda a: a * 0.9), "stale constant"),
    Fault("largest weight of a dense layer lost", W, _dense(scale_largest(0)), "a pruned value"),
    Fault("two rows of a dense layer swapped", W, _dense(_swap_rows), "layout of outputs"),
    Fault("inputs of a dense layer off by one", W, _dense(lambda a: np.roll(a, 1, 1)), "offset"),
    Fault("a dense layer in int8", W, _dense(int8), "silently quantised"),
    Fault("channel axes exchanged", W, _conv(lambda a: a.swapaxes(0, 1), fits=_square), "wrong axis"),
    Fault("bias lost", B, _conv(lambda a: a * 0, BIAS), "not fused"),
    Fault("bias negated", B, _conv(lambda a: -a, BIAS), "sign"),
    Fault("bias shifted by a channel", B, _conv(lambda a: np.roll(a, 1), BIAS), "index"),
    Fault("one channel's bias lost", B, _conv(_scale_middle(0, 0), BIAS), "tail"),
    Fault("bias twice", B, _conv(lambda a: a * 2, BIAS), "fused, and added again"),
    Fault("bias of a dense layer lost", B, _dense(lambda a: a * 0, BIAS), "not fused"),
    Fault("padding mirrored", A, _pads(lambda p: {"pads": p[2:] + p[:2]}, lambda p: p[:2] != p[2:]), "SAME_LOWER"),
    Fault("padding shifted", A, _pads(lambda _: {"pads": [0, 0, 2, 2]}, lambda p: p == [1] * 4), "SAME at stride 1"),
    Fault(
        "dilation of two",
        A,
        _pads(lambda _: {"pads": [2] * 4, "dilations": [2, 2]}, lambda p: p == [1] * 4),
        "attribute misread",
    ),
    Fault("groups permuted", A, _permute_groups, "group index"),
    Fault("average counts its padding", A, _average_with_padding, "count_include_pad and ceil mode"),
    Fault("tanh GELU", S, _activation("Gelu", approximate="tanh"), "a fast form that was not requested"),
    Fault("ReLU instead of GELU", S, _activation("Relu"), "wrong kernel"),
    Fault("activation missing", S, _activation("Identity"), "lost in fusion"),
    Fault("sigmoid instead of GELU", S, _activation("Sigmoid"), "half of x sigmoid(x)"),
    Fault("activation clipped at 2", S, _clip_activation, "ReLU6-like"),
    Fault("GELU gain missing", S, _scale(lambda m: find_nodes(m, "Gelu"), 1 / GELU_GAIN), "gamma not folded"),
    Fault("gate without its scale", S, _pass_through("Mul", 0, lambda n: n.name.endswith(".scaled")), "factor 2 lost"),
    Fault("gate all one", S, _gate_all_one, "attention not computed"),
    Fault("gate one percent off", S, _scale(gates, 1.01), "fast sigmoid"),
    Fault("gate of the wrong image", S, _gate_of_another_image, "batch index"),
    Fault("residual branch lost", S, _pass_through("Add", 1), "the sum's other operand"),
    Fault("one layer in fp16", N, _one_in(TensorProto.FLOAT16), "narrow output"),
    Fault("one layer in bf16", N, _one_in(TensorProto.BFLOAT16), "narrower output"),
    Fault("one layer in fp8", N, _one_in(TensorProto.FLOAT8E4M3FN), "narrowest output"),
    Fault("all layers in fp16", N, _all_in(TensorProto.FLOAT16), "lower precision than requested"),
    Fault("all layers in bf16", N, _all_in(TensorProto.BFLOAT16), "lower precision than requested"),
    Fault("all weights in tf32", N, _all_weights(lambda a: narrow(a, TF32, truncate=True)), "lower precision"),
    Fault("all weights truncated to bf16", N, _all_weights(lambda a: narrow(a, BF16, truncate=True)), "not rounded"),
    Fault("every convolution rounded down", N, _round_down, "toward zero, not to nearest"),
    Fault("fp16's range", N, _all_followed_by("Clip", -65504, 65504), "saturates where fp32 and bf16 do not"),
    Fault("NaN becomes zero", N, _nan_to_zero, "a class for an image that has none"),
    Fault("stale output", R, _stale, "the run before"),
    Fault("rows swapped", R, _result(_swap_rows), "batch index"),
    Fault("one row copied", R, _result(_set_row(-1, lambda logits: logits[0])), "batch stride zero"),
    Fault("last row lost", R, _result(_set_row(-1, lambda _: 0)), "incomplete batch dropped"),
    Fault("first row everywhere", R, _result(lambda a: a[:1].repeat(len(a), 0)), "batch ignored"),
    Fault("wrong stride", R, _result(_stride), "stride"),
    Fault("channels off by one", R, _result(lambda a: np.roll(a, 1, 1)), "offset"),
    Fault("uninitialised tail", R, _result(_set_tail), "not written"),
    Fault("output in bf16", R, _result(lambda a: narrow(a, BF16)), "narrowed on the way to the host"),
    Fault("race", R, _race, "a few random values"),
)

"""Table of engine faults: each changes what ONNX Runtime computes, by the graph that it runs or by how it is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto
from planting import (
    attribute,
    behind,
    bf16,
    chosen,
    constant,
    cut,
    element,
    int8,
    nodes,
    put,
    put_new,
    scalar,
    stored_as,
    values,
)

from fixtures.precisions import precision

EVERYWHERE = "everywhere"


@dataclass(frozen=True)
class Fault:
    """A row: ``plant(model, share)`` edits the graph and names the node, or wraps ``run`` at runtime level."""

    name: str
    level: str
    plant: Callable
    why: str


def _convs(model, fits=lambda _: True):
    return nodes(model, "Conv", lambda node: len(node.input) == 3 and "attn" not in node.name and fits(node))


def _kernel(model, node):
    return constant(model, node.input[1]).dims[-1]


def _weight(change, part=1, fits=lambda *_: True):
    def plant(model, share):
        node = chosen(_convs(model, lambda node: fits(model, node)), share)
        put(model, node.input[part], change(values(model, node.input[part])))
        return node.output[0]

    return plant


def _dense(change, part=0):
    """A weight (outputs, inputs) or a bias of a gate or the classifier; the layer's own output turns the product."""

    def plant(model, share):
        node = chosen(nodes(model, "Gemm"), share)
        put(model, node.input[part], change(values(model, node.input[part])))
        return next(reader.output[0] for reader in model.graph.node if node.output[0] in reader.input)

    return plant


def _at(array, index, factor):
    array.reshape(-1)[index(np.abs(array))] *= factor
    return array


def _rows(array, order):
    array[: len(order)] = array[order]
    return array


def _channel(array, axis, value):
    np.moveaxis(array, axis, 0)[array.shape[axis] // 2] *= value
    return array


def _neighbour(model, share):
    found = _convs(model)
    pairs = [
        (a, b)
        for i, a in enumerate(found)
        for b in found[i + 1 :]
        if list(constant(model, a.input[1]).dims) == list(constant(model, b.input[1]).dims)
    ]
    if not pairs:
        raise LookupError("no two layers of one shape")
    node, other = chosen(pairs, share)
    put(model, node.input[1], values(model, other.input[1]))
    return node.output[0]


def _spatial(model, node):
    return _kernel(model, node) > 1


def _pads(change, fits):
    def plant(model, share):
        node = chosen(_convs(model, lambda node: _spatial(model, node) and fits(attribute(node, "pads"))), share)
        attribute(node, "pads", change(list(attribute(node, "pads"))))
        return node.output[0]

    return plant


def _average(model, share):
    node = chosen(nodes(model, "AveragePool"), share)
    attribute(node, "pads", [1, 1, 0, 0])
    attribute(node, "count_include_pad", 1)
    return node.output[0]


def _dilation(model, share):
    node = chosen(_convs(model, lambda node: _spatial(model, node) and list(attribute(node, "pads")) == [1] * 4), share)
    attribute(node, "dilations", [2, 2])
    attribute(node, "pads", [2] * 4)
    return node.output[0]


def _shuffle(model, share):
    def fits(node):
        return attribute(node, "group") > 1

    node = chosen(_convs(model, fits), share)
    weight, groups = values(model, node.input[1]), attribute(node, "group")
    put(model, node.input[1], np.roll(weight, weight.shape[0] // groups, axis=0))
    return node.output[0]


def _activation(kind, **attributes):
    def plant(model, share):
        node = chosen(nodes(model, "Gelu"), share)
        node.op_type = kind
        del node.attribute[:]
        for name, value in attributes.items():
            attribute(node, name, value)
        return node.output[0]

    return plant


def _clip(high):
    def plant(model, share):
        node = chosen(nodes(model, "Gelu"), share)
        low = scalar(model, "planted.low", -high, element(model))
        behind(model, node, ("Clip", [low, scalar(model, "planted.high", high, element(model))], {}))
        return node.output[0].removesuffix("/planted")

    return plant


def _scale(pick, factor):
    def plant(model, share):
        node = chosen(pick(model), share)
        name = node.output[0]
        behind(model, node, ("Mul", [scalar(model, "planted.factor", factor, element(model))], {}))
        return name

    return plant


def _gate(model, share):
    node = chosen(nodes(model, "Sigmoid", lambda node: node.name.endswith(".gate")), share)
    name = node.output[0]
    behind(
        model, node, ("Sub", [f"{name}/planted"], {}), ("Add", [scalar(model, "planted.one", 1, element(model))], {})
    )
    return name


def _gates(model):
    return nodes(model, "Sigmoid", lambda node: node.name.endswith(".gate"))


def _gate_lost(model, share):
    node = chosen(nodes(model, "Mul", lambda node: node.name.endswith(".scaled")), share)
    node.op_type, node.input[:] = "Identity", [node.input[0]]
    return node.output[0]


def _branch_lost(model, share):
    node = chosen(nodes(model, "Add"), share)
    node.op_type, node.input[:] = "Identity", [node.input[1]]
    return node.output[0]


def _narrow(kind):
    def plant(model, share):
        node = chosen(_convs(model), share)
        name = node.output[0]
        stored_as(model, node, kind)
        return name

    return plant


def _all_narrow(kind):
    def plant(model, share):
        del share
        for node in _convs(model):
            stored_as(model, node, kind)
        return EVERYWHERE

    return plant


def _all_behind(*steps):
    """Steps behind every convolution; a number in them becomes a constant of the model's type."""

    def plant(model, share):
        del share
        for index, node in enumerate(_convs(model)):
            made = [
                (
                    kind,
                    [
                        scalar(model, f"planted.{index}.{kind}.{at}", value, element(model))
                        for at, value in enumerate(more)
                    ],
                    {},
                )
                for kind, *more in steps
            ]
            behind(model, node, *made)
        return EVERYWHERE

    return plant


def _rounded_down(model, share):
    """Less by one rounding, which goes to nearest then."""
    unit = precision(model.doc_string or "fp32").unit_roundoff
    return _all_behind(("Mul", 1 - unit))(model, share)


def _no_nan(model, share):
    del share
    zero = scalar(model, "planted.zero", 0, element(model))
    for node in _convs(model):
        behind(model, node, ("IsNaN", [], {}), ("Where", [zero, f"{node.output[0]}/planted"], {}))
    return EVERYWHERE


def _square(model, node):
    rows, columns, *_ = constant(model, node.input[1]).dims
    return rows == columns


def _all_weights(change):
    def plant(model, share):
        del share
        for node in _convs(model):
            put(model, node.input[1], change(values(model, node.input[1])))
        return EVERYWHERE

    return plant


def _gate_of_another(model, share):
    node = chosen(_gates(model), share)
    name = node.output[0]
    rows = {"starts": [-1], "ends": [-(2**31)], "axes": [0], "steps": [-1]}
    for key, value in rows.items():
        put_new(model, f"planted.{key}", value)
    behind(model, node, ("Slice", [f"planted.{key}" for key in rows], {}))
    return name


def _rows_of(change):
    return lambda run: lambda images: change(run(images).copy())


def _stale(run):
    last = []

    def spoilt(images):
        last.append(run(images))
        return last[-2] if len(last) > 1 and last[-2].shape == last[-1].shape else run(images * np.float32(0.5))

    return spoilt


def _race(run):
    calls = np.random.default_rng(3)

    def spoilt(images):
        good = run(images).copy()
        good.reshape(-1)[calls.integers(0, good.size, 5)] *= 1.5
        return good

    return spoilt


def _put_row(good, row, value):
    good[row] = value
    return good


def _tail(good):
    good[:, -8:] = 3e4
    return good


W, B, A, N, R = "weights", "biases", "attributes", "numerics", "runtime"
S = "activations"

CATALOGUE = (
    Fault("largest weight doubled", W, _weight(lambda a: _at(a, np.argmax, 2)), "one value of thousands"),
    Fault("largest weight lost", W, _weight(lambda a: _at(a, np.argmax, 0)), "a pruned value"),
    Fault("largest weight's sign", W, _weight(lambda a: _at(a, np.argmax, -1)), "a flipped bit"),
    Fault("one filter negated", W, _weight(lambda a: _channel(a, 0, -1)), "one output channel"),
    Fault("one filter lost", W, _weight(lambda a: _channel(a, 0, 0)), "one output channel never written"),
    Fault("two filters swapped", W, _weight(lambda a: _rows(a, [1, 0])), "layout of outputs"),
    Fault("one input channel lost", W, _weight(lambda a: _channel(a, 1, 0)), "a tail of the sum left out"),
    Fault("kernel transposed", W, _weight(lambda a: a.swapaxes(2, 3), fits=_spatial), "height and width mixed up"),
    Fault("kernel rotated", W, _weight(lambda a: a[:, :, ::-1, ::-1], fits=_spatial), "convolution, not correlation"),
    Fault("kernel shifted by one column", W, _weight(lambda a: np.roll(a, 1, 3), fits=_spatial), "wrong tap"),
    Fault("weights of another layer", W, _neighbour, "a name mixed up"),
    Fault("weights in int8", W, _weight(int8), "silently quantised"),
    Fault("weights in bf16", W, _weight(bf16), "silently narrowed"),
    Fault("weights times 1.01", W, _weight(lambda a: a * 1.01), "a folded scale slightly wrong"),
    Fault("alpha not folded", W, _weight(lambda a: a * 5), "stale constant"),
    Fault("weights in tf32", W, _weight(lambda a: cut(a, 13)), "inputs of a tensor core, in one layer"),
    Fault("beta of another block", W, _weight(lambda a: a * 0.9), "stale constant"),
    Fault("largest weight of a dense layer lost", W, _dense(lambda a: _at(a, np.argmax, 0)), "a pruned value"),
    Fault("two rows of a dense layer swapped", W, _dense(lambda a: _rows(a, [1, 0])), "layout of outputs"),
    Fault("inputs of a dense layer off by one", W, _dense(lambda a: np.roll(a, 1, 1)), "offset"),
    Fault("a dense layer in int8", W, _dense(int8), "silently quantised"),
    Fault("channel axes exchanged", W, _weight(lambda a: a.swapaxes(0, 1), fits=_square), "wrong axis"),
    Fault("bias lost", B, _weight(lambda a: a * 0, 2), "not fused"),
    Fault("bias negated", B, _weight(lambda a: -a, 2), "sign"),
    Fault("bias shifted by a channel", B, _weight(lambda a: np.roll(a, 1), 2), "index"),
    Fault("one channel's bias lost", B, _weight(lambda a: _channel(a, 0, 0), 2), "tail"),
    Fault("bias twice", B, _weight(lambda a: a * 2, 2), "fused and kept"),
    Fault("bias of a dense layer lost", B, _dense(lambda a: a * 0, 2), "not fused"),
    Fault("padding mirrored", A, _pads(lambda p: [*p[2:], *p[:2]], lambda p: list(p[:2]) != list(p[2:])), "SAME_LOWER"),
    Fault("padding shifted", A, _pads(lambda _: [0, 0, 2, 2], lambda p: list(p) == [1] * 4), "SAME at stride 1"),
    Fault("dilation of two", A, _dilation, "attribute misread"),
    Fault("groups permuted", A, _shuffle, "group index"),
    Fault("average counts its padding", A, _average, "count_include_pad and ceil mode"),
    Fault("tanh GELU", S, _activation("Gelu", approximate="tanh"), "a fast form nobody asked for"),
    Fault("ReLU instead of GELU", S, _activation("Relu"), "wrong kernel"),
    Fault("activation missing", S, _activation("Identity"), "lost in fusion"),
    Fault("sigmoid instead of GELU", S, _activation("Sigmoid"), "half of x sigmoid(x)"),
    Fault("activation clipped at 2", S, _clip(2), "ReLU6-like"),
    Fault("GELU gain missing", S, _scale(lambda m: nodes(m, "Gelu"), 1 / 1.7015043497085571), "gamma not folded"),
    Fault("gate without its scale", S, _gate_lost, "factor two and alpha lost"),
    Fault("gate all one", S, _gate, "attention not computed"),
    Fault("gate one percent off", S, _scale(_gates, 1.01), "fast sigmoid"),
    Fault("gate of the wrong image", S, _gate_of_another, "batch index"),
    Fault("residual branch lost", S, _branch_lost, "the sum's other half"),
    Fault("one layer in fp16", N, _narrow(TensorProto.FLOAT16), "narrow output"),
    Fault("one layer in bf16", N, _narrow(TensorProto.BFLOAT16), "narrower output"),
    Fault("one layer in fp8", N, _narrow(TensorProto.FLOAT8E4M3FN), "narrowest output"),
    Fault("all layers in fp16", N, _all_narrow(TensorProto.FLOAT16), "precision lower than asked"),
    Fault("all layers in bf16", N, _all_narrow(TensorProto.BFLOAT16), "precision lower than asked"),
    Fault("all weights in tf32", N, _all_weights(lambda a: cut(a, 13)), "precision lower than asked"),
    Fault("all weights cut to bf16", N, _all_weights(lambda a: cut(a, 16)), "cut, not rounded"),
    Fault("every convolution rounded down", N, _rounded_down, "towards zero, not to nearest"),
    Fault("fp16's range", N, _all_behind(("Clip", -65504, 65504)), "saturates where fp32 and bf16 go on"),
    Fault("NaN becomes zero", N, _no_nan, "an answer from nothing"),
    Fault("stale output", R, _stale, "the run before"),
    Fault("rows swapped", R, _rows_of(lambda g: _rows(g, range(len(g))[1::-1])), "batch index"),
    Fault("one row copied", R, _rows_of(lambda g: _put_row(g, -1, g[0])), "batch stride zero"),
    Fault("last row lost", R, _rows_of(lambda g: _put_row(g, -1, 0)), "incomplete batch dropped"),
    Fault("first row everywhere", R, _rows_of(lambda g: g[:1].repeat(len(g), 0)), "batch ignored"),
    Fault("wrong stride", R, _rows_of(lambda g: g.reshape(-1)[: g.size // 2].repeat(2).reshape(g.shape)), "stride"),
    Fault("channels off by one", R, _rows_of(lambda g: np.roll(g, 1, 1)), "offset"),
    Fault("uninitialised tail", R, _rows_of(_tail), "not written"),
    Fault("output in bf16", R, _rows_of(bf16), "narrowed on the way to the host"),
    Fault("race", R, _race, "a few random values"),
)

"""Hypothesis strategies: nodes that move, choose or make values."""

import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto

from tests.meta.operator_examples import FLOAT, Example, integers, ints, maybe, numbers, one_of, shapes


@st.composite
def reshaped(draw):
    """Operators that change the shape only."""
    kind = draw(
        st.sampled_from(("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Expand", "Tile", "Shape", "Size", "Identity"))
    )
    opset = draw(st.integers(8, 22))
    x = numbers(draw, *draw(shapes(1, 3)))
    if kind == "Reshape":
        shape = one_of(draw, [-1], [0, -1], [x.size, 1], [*x.shape, 1, -1])
        return Example(kind, (x, ints(shape)), {}, opset)
    if kind == "Transpose":
        return Example(kind, (x,), maybe(draw, perm=draw(st.permutations(range(x.ndim)))), opset)
    if kind in {"Expand", "Tile"}:
        wanted = [2, *x.shape] if kind == "Expand" else [draw(st.integers(1, 3)) for _ in x.shape]
        return Example(kind, (x, ints(wanted)), {}, opset)
    if kind == "Shape" and opset >= 15:
        return Example(kind, (x,), maybe(draw, start=one_of(draw, 0, 1, -1, -9), end=one_of(draw, 1, -1, 9)), opset)
    if kind in {"Shape", "Size", "Identity"}:
        return Example(kind, (x,), {}, opset)
    axes = [0, x.ndim] if kind == "Unsqueeze" else [0, 2]
    x = x if kind == "Unsqueeze" else numbers(draw, 1, 3, 1)
    return Example(kind, (x,), {"axes": axes}, opset) if opset < 13 else Example(kind, (x, ints(axes)), {}, opset)


def _slice(draw, x, axis):
    opset = draw(st.integers(8, 22))
    starts, ends = [draw(st.integers(-9, 9))], [one_of(draw, -9, -1, 1, 2, 99)]
    if opset < 10:
        return Example("Slice", (x,), {"starts": starts, "ends": ends, "axes": [axis % x.ndim]}, opset)
    more = (ints(starts), ints(ends), ints([axis]), ints([one_of(draw, 1, 2, -1, -2)]))
    return Example("Slice", (x, *more), {}, opset)


def _pad(draw, x, _):
    mode, opset = one_of(draw, "constant", "edge", "reflect"), draw(st.integers(8, 22))
    lowest = [-1 if mode == "constant" and length > 2 else 0 for length in x.shape * 2]
    pads = [draw(st.integers(low, length - 1)) for low, length in zip(lowest, x.shape * 2, strict=True)]
    if opset < 11:
        return Example("Pad", (x,), {"mode": mode, "pads": pads, **maybe(draw, value=2.0)}, opset)
    value = (np.array(1.5, FLOAT),) if mode == "constant" and draw(st.booleans()) else ()
    return Example("Pad", (x, ints(pads), *value), {"mode": mode}, opset)


CUT = {
    "Slice": _slice,
    "Split": lambda draw, _, axis: _split(draw, axis),
    "Concat": lambda draw, x, axis: Example("Concat", (x, x, x), {"axis": axis}, draw(st.integers(11, 22))),
    "Pad": _pad,
    "Compress": lambda draw, x, axis: Example(
        "Compress", (x, integers(draw, x.shape[axis], high=2).astype(bool)), {"axis": axis}, 11
    ),
    "Trilu": lambda draw, x, _: Example(
        "Trilu", (x, *one_of(draw, (), (np.array(1),), (np.array(-1),))), maybe(draw, upper=0), 14
    ),
}


@st.composite
def cut(draw):
    """Operators that take parts or join them."""
    x = numbers(draw, *draw(shapes(2, 3)))
    return draw(st.sampled_from([*CUT.values()]))(draw, x, draw(st.integers(-x.ndim, x.ndim - 1)))


def _split(draw, axis):
    x, opset = numbers(draw, 6, 6, 6), draw(st.integers(8, 22))
    axis = axis if opset >= 11 else axis % 3
    if draw(st.booleans()):
        sizes = one_of(draw, [1, 2, 3], [2, 2, 2], [0, 5, 1])
        form = ((x,), {"split": sizes}) if opset < 13 else ((x, ints(sizes)), {})
        return Example("Split", form[0], {"axis": axis, **form[1]}, opset, 3)
    count = one_of(draw, 2, 3, 4) if opset >= 18 else one_of(draw, 2, 3)
    return Example("Split", (x,), {"axis": axis, **({"num_outputs": count} if opset >= 18 else {})}, opset, count)


def _index(draw, *shape, length):
    return integers(draw, *shape, low=-length, high=length)


def _scatter_elements(draw, x, axis):
    places = np.argsort(numbers(draw, *x.shape), axis=axis) - one_of(draw, 0, x.shape[axis])
    return (x, places, numbers(draw, *x.shape)), {"axis": axis}


def _one_hot(draw, *_):
    return (integers(draw, 3, low=-5, high=5), np.array(5), np.array([2, 7], FLOAT)), {"axis": one_of(draw, 0, -1)}


INDEXED = {  # functions that return inputs and attributes
    "Gather": lambda draw, x, axis: ((x, _index(draw, 2, 3, length=x.shape[axis])), {"axis": axis}),
    "GatherElements": lambda draw, x, axis: ((x, _index(draw, *x.shape, length=x.shape[axis])), {"axis": axis}),
    "GatherND": lambda draw, x, _: ((x, _index(draw, 2, one_of(draw, 1, 2, 3), length=3)), {}),
    "ScatterElements": _scatter_elements,
    "ScatterND": lambda draw, x, _: ((x, ints([[0, 1], [-1, -2]]), numbers(draw, 2, 3)), {}),
    "TopK": lambda draw, x, axis: ((x, ints([draw(st.integers(1, 3))])), {"axis": axis, **maybe(draw, largest=0)}),
    "OneHot": _one_hot,
    "ReverseSequence": lambda _, x, __: ((x, ints([1, 3, 2, 2])), {"batch_axis": 1, "time_axis": 0}),
    "Where": lambda draw, x, _: ((integers(draw, 3, 4, 3, high=2).astype(bool), x, -x), {}),
    "NonZero": lambda draw, *_: ((integers(draw, 3, 4, 3, high=2).astype(FLOAT),), {}),
}


@st.composite
def indexed(draw):
    """Operators that read or write at indices; negative ones count from the end."""
    kind = draw(st.sampled_from(sorted(INDEXED)))
    inputs, attributes = INDEXED[kind](draw, numbers(draw, 3, 4, 3), draw(st.integers(-3, 2)))
    return Example(kind, inputs, attributes, draw(st.integers(13, 22)), 2 if kind == "TopK" else 1)


def _range(draw, _):
    values = (draw(st.integers(-3, 3)), 9, draw(st.integers(1, 4)))
    dtype = one_of(draw, FLOAT, np.int64)
    return tuple(np.array(value, dtype) for value in values), {}


def _cast(draw, x):
    names = ("INT64", "INT32", "BOOL", "FLOAT", "UINT8")
    return (np.abs(x),), {"to": getattr(TensorProto, one_of(draw, *names))}


def _clip(draw, x):
    limits = one_of(draw, (-1, 1), (-1,), (None, 1), ())
    return (x, *(None if limit is None else np.array(limit, FLOAT) for limit in limits)), {}


def _not_finite(draw, x):
    value = one_of(draw, np.nan, np.inf, -np.inf)
    return (np.where(integers(draw, *x.shape, high=2), x, value).astype(FLOAT),), {}


MADE = {  # functions that return inputs and attributes
    "Range": _range,
    "ConstantOfShape": lambda draw, _: ((ints(draw(shapes())),), {}),
    "EyeLike": lambda _, x: ((x[0, 0],), {}),
    "Cast": _cast,
    "Clip": _clip,
    "DepthToSpace": lambda draw, x: ((x,), {"blocksize": 2, **maybe(draw, mode="CRD")}),
    "SpaceToDepth": lambda _, x: ((x,), {"blocksize": 2}),
    "Dropout": lambda _, x: ((x,), {}),
    "IsNaN": _not_finite,
    "IsInf": _not_finite,
    "Not": lambda _, x: ((x > 0,), {}),
    "And": lambda _, x: ((x > 0, x[:1] > 1), {}),
}


@st.composite
def made(draw):
    """Operators that make values, change types, or rearrange channels."""
    kind = draw(st.sampled_from(sorted(MADE)))
    inputs, attributes = MADE[kind](draw, numbers(draw, 2, 8, 4, 4))
    return Example(kind, inputs, attributes, draw(st.integers(13, 22)))


@st.composite
def resized(draw):
    """Resize and Upsample in the modes of exporters, and GridSample."""
    kind = draw(st.sampled_from(("Resize", "Resize", "Upsample", "GridSample")))
    x = numbers(draw, 1, 2, draw(st.integers(2, 5)), draw(st.integers(2, 5)))
    if kind == "Upsample":
        return Example(kind, (x, np.array([1, 1, 2, 3], FLOAT)), {"mode": one_of(draw, "nearest", "linear")}, 9)
    if kind == "GridSample":
        grid = numbers(draw, 1, 3, 4, 2, low=-1.2, high=1.2)
        modes = {"padding_mode": one_of(draw, "zeros", "border", "reflection"), "align_corners": one_of(draw, 0, 1)}
        return Example(kind, (x, grid), {"mode": one_of(draw, "nearest", "linear"), **modes}, draw(st.integers(20, 22)))
    mode = one_of(draw, "nearest", "linear", "cubic")
    ways = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    attributes = {"mode": mode, "coordinate_transformation_mode": one_of(draw, *ways)}
    if mode == "nearest":
        attributes |= maybe(draw, nearest_mode=one_of(draw, "floor", "ceil", "round_prefer_floor", "round_prefer_ceil"))
    opset, factors = draw(st.integers(10, 22)), one_of(draw, (1, 1, 2, 2), (1, 1, 0.5, 3))
    if opset == 10:
        return Example(kind, (x, np.array(factors, FLOAT)), {"mode": one_of(draw, "nearest", "linear")}, opset)
    if draw(st.booleans()):
        return Example(kind, (x, np.zeros(0, FLOAT), np.array(factors, FLOAT)), attributes, opset)
    sizes = ints([1, 2, draw(st.integers(1, 7)), draw(st.integers(1, 7))])
    empty = np.zeros(0, FLOAT) if opset < 13 else None
    return Example(kind, (x, empty, empty, sizes), attributes, opset)


@st.composite
def attention(draw):
    """Attention, LSTM, GRU and RNN."""
    kind = draw(st.sampled_from(("Attention", "LSTM", "GRU", "RNN")))
    if kind == "Attention":
        q, k = numbers(draw, 2, 3, 4, 8), numbers(draw, 2, 3, 5, 8)
        return Example(
            kind, (q, k, numbers(draw, 2, 3, 5, 8)), maybe(draw, is_causal=1, scale=0.3), draw(st.integers(23, 24))
        )
    gates, hidden = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], draw(st.integers(1, 3))
    x = numbers(draw, 4, 2, 3)
    inputs = (x, numbers(draw, 1, gates * hidden, 3), numbers(draw, 1, gates * hidden, hidden))
    bias = (numbers(draw, 1, 2 * gates * hidden),) if draw(st.booleans()) else ()
    return Example(
        kind, (*inputs, *bias), {"hidden_size": hidden}, draw(st.integers(14, 21)), 3 if kind == "LSTM" else 2
    )

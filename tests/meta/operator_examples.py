"""Hypothesis strategies: nodes of every operator, with attributes, shapes, types and opsets that ONNX allows."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

FLOAT = np.float32


@dataclass(frozen=True)
class Example:
    """A node and its inputs."""

    kind: str
    inputs: tuple  # arrays; None for one that is left out
    attributes: dict = field(default_factory=dict)
    opset: int = 20
    outputs: int = 1
    domain: str = ""


def numbers(draw, *shape, low=-3.0, high=3.0):
    """Draw an array of floats with few repetitions."""
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    return random.uniform(low, high, shape).astype(FLOAT)


def integers(draw, *shape, low=0, high=9, dtype=np.int64):
    """Draw an array of integers."""
    return np.random.default_rng(draw(st.integers(0, 2**16))).integers(low, high, shape, dtype)


def ints(values):
    """Return a list as ONNX has it in an input."""
    return np.array(values, np.int64)


def shapes(smallest=1, largest=4, longest=5):
    """Strategy of shapes."""
    return st.lists(st.integers(1, longest), min_size=smallest, max_size=largest).map(tuple)


def one_of(draw, *values):
    """Draw one of the values."""
    return draw(st.sampled_from(values))


def maybe(draw, **attributes):
    """Draw a subset of the attributes."""
    return {name: value for name, value in attributes.items() if draw(st.booleans())}


UNARY = {  # first opset, and the interval of its inputs
    **dict.fromkeys(("Abs", "Ceil", "Exp", "Floor", "Neg", "Sigmoid", "Tanh", "Relu"), (7, -3, 3)),
    **dict.fromkeys(("Softplus", "Softsign", "Identity", "Elu", "Selu", "LeakyRelu", "HardSigmoid"), (7, -3, 3)),
    **dict.fromkeys(("Log", "Sqrt", "Reciprocal"), (7, 0.1, 3)),
    **dict.fromkeys(("Acos", "Asin", "Atanh", "Atan", "Cos", "Sin", "Tan"), (9, -0.9, 0.9)),
    **dict.fromkeys(("Sinh", "Cosh", "Asinh", "Erf", "Sign"), (13, -2, 2)),
    **dict.fromkeys(("Round", "ThresholdedRelu"), (11, -3, 3)),
    "Acosh": (9, 1.1, 3),
    "Celu": (12, -3, 3),
    "HardSwish": (14, -4, 4),
    "Mish": (18, -4, 4),
    "Gelu": (20, -4, 4),
    "Swish": (24, -4, 4),
}
UNARY_ATTRIBUTES = {
    "Elu": {"alpha": 0.7},
    "Selu": {"alpha": 1.5, "gamma": 1.1},
    "LeakyRelu": {"alpha": 0.2},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
    "ThresholdedRelu": {"alpha": 0.5},
    "Celu": {"alpha": 2.0},
    "Gelu": {"approximate": "tanh"},
}


@st.composite
def unary(draw):
    """Functions of one tensor."""
    kind = draw(st.sampled_from(sorted(UNARY)))
    first, low, high = UNARY[kind]
    x = numbers(draw, *draw(shapes()), low=low, high=high)
    return Example(kind, (x,), maybe(draw, **UNARY_ATTRIBUTES.get(kind, {})), draw(st.integers(first, 24)))


@st.composite
def binary(draw):
    """Functions of two tensors that broadcast."""
    kinds = ("Add", "Sub", "Mul", "Div", "Pow", "PRelu", "Greater", "Less", "Equal", "Min", "Max", "Mean", "Sum", "Mod")
    kind = draw(st.sampled_from((*kinds, "GreaterOrEqual", "LessOrEqual")))
    shape = draw(shapes())
    other = tuple(one_of(draw, 1, length) for length in shape)[draw(st.integers(0, len(shape) - 1)) :]
    x, y = numbers(draw, *shape, low=0.3), numbers(draw, *other, low=0.3)
    if kind in {"Greater", "Less", "Equal", "GreaterOrEqual", "LessOrEqual"}:
        x, y = np.round(x), np.round(y)
    first = {"GreaterOrEqual": 16, "LessOrEqual": 16, "Equal": 11, "Greater": 9, "Less": 9, "Mod": 13}.get(kind, 8)
    attributes = {"fmod": 1} if kind == "Mod" else {}
    return Example(kind, (x, y), attributes, draw(st.integers(first, 22)))


@st.composite
def reduced(draw):
    """Reductions: axes are an attribute, and later an input."""
    kind = "Reduce" + draw(
        st.sampled_from(("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"))
    )
    x = numbers(draw, *draw(shapes()), low=0.2)
    opset, change = draw(st.integers(7, 22)), 13 if kind == "ReduceSum" else 18
    axes = sorted(draw(st.sets(st.integers(0, x.ndim - 1), max_size=x.ndim)))
    axes = [axis - one_of(draw, 0, x.ndim if opset >= 11 else 0) for axis in axes]
    attributes = maybe(draw, keepdims=0)
    if opset < change:
        return Example(kind, (x,), {**attributes, **({"axes": axes} if axes else {})}, opset)
    inputs = (x, ints(axes)) if axes or draw(st.booleans()) else (x,)
    return Example(kind, inputs, {**attributes, **maybe(draw, noop_with_empty_axes=1)}, opset)


@st.composite
def of_an_axis(draw):
    """Operators along one axis."""
    kind = draw(
        st.sampled_from(
            ("Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin", "CumSum", "Flatten", "LpNormalization")
        )
    )
    x = numbers(draw, *draw(shapes(2)))
    first = {"CumSum": 11}.get(kind, 7)
    opset = draw(st.integers(first, 22))
    axis = draw(st.integers(0, x.ndim - 1)) - (x.ndim if opset >= 13 and draw(st.booleans()) else 0)
    if kind == "CumSum":
        return Example(kind, (x, np.array(axis)), maybe(draw, exclusive=1, reverse=1), opset)
    more = {"LpNormalization": maybe(draw, p=1), "ArgMax": maybe(draw, keepdims=0), "ArgMin": maybe(draw, keepdims=0)}
    return Example(kind, (x,), {**maybe(draw, axis=axis), **more.get(kind, {})}, opset)


def _spatial(draw, channels, longest=7):
    rank = draw(st.integers(1, 2))
    sizes = [draw(st.integers(4, longest)) for _ in range(rank)]
    return numbers(draw, draw(st.integers(1, 2)), channels, *sizes), rank


def _window(draw, rank, *, dilated=True):
    """Draw the attributes of a sliding window over at least 4 values."""
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    found = {"kernel_shape": kernel, **maybe(draw, strides=[draw(st.integers(1, 3)) for _ in range(rank)])}
    if draw(st.booleans()):
        found["auto_pad"] = one_of(draw, "SAME_UPPER", "SAME_LOWER", "VALID")
        if "strides" in found:  # SAME with a longer stride pads by less than nothing in ONNX Runtime
            found["strides"] = [min(pair) for pair in zip(found["strides"], kernel, strict=True)]
        return found
    pads = [draw(st.integers(0, size - 1)) for size in kernel * 2]
    if dilated and all(size < 3 for size in kernel):
        found |= maybe(draw, dilations=[draw(st.integers(1, 2)) for _ in range(rank)])
    return {**found, **maybe(draw, pads=pads)}


@st.composite
def convolution(draw):
    """Conv with groups, strides, dilations and every padding."""
    groups, per = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    x, rank = _spatial(draw, groups * per)
    attributes = _window(draw, rank)
    weight = numbers(draw, groups * draw(st.integers(1, 2)), per, *attributes["kernel_shape"])
    bias = (numbers(draw, len(weight)),) if draw(st.booleans()) else ()
    return Example("Conv", (x, weight, *bias), {**attributes, "group": groups}, draw(st.integers(7, 22)))


@st.composite
def transposed_convolution(draw):
    """ConvTranspose."""
    groups, per = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    x, rank = _spatial(draw, groups * per, 5)
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    weight = numbers(draw, groups * per, draw(st.integers(1, 2)), *kernel)
    strides = [draw(st.integers(1, 2)) for _ in range(rank)]
    attributes = maybe(
        draw, pads=[min(1, size - 1) for size in kernel * 2], output_padding=[step - 1 for step in strides]
    )
    return Example(
        "ConvTranspose", (x, weight), {**attributes, "strides": strides, "group": groups}, draw(st.integers(11, 21))
    )


@st.composite
def pooling(draw):
    """Pools over windows, and over everything."""
    kind = draw(st.sampled_from(("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool")))
    x, rank = _spatial(draw, draw(st.integers(1, 3)))
    opset = draw(st.integers(19 if kind == "AveragePool" else 12, 21))
    if kind.startswith("Global"):
        return Example(kind, (x,), {}, opset)
    attributes = _window(draw, rank, dilated=kind == "MaxPool")
    if "auto_pad" not in attributes and kind != "LpPool":
        attributes |= maybe(draw, ceil_mode=1)
    if kind == "AveragePool":
        attributes |= maybe(draw, count_include_pad=1)
    return Example(kind, (x,), attributes, opset)


@st.composite
def normalization(draw):
    """Normalisations, at the opsets that have them."""
    kinds = {"BatchNormalization": 7, "InstanceNormalization": 7, "LayerNormalization": 17, "GroupNormalization": 21}
    kinds |= {"LRN": 7, "MeanVarianceNormalization": 13, "RMSNormalization": 23}
    kind = draw(st.sampled_from(sorted(kinds)))
    opset = draw(st.integers(kinds[kind], 23))
    x, _ = _spatial(draw, 4)
    if kind == "LRN":
        channels = draw(st.integers(1, 5))  # onnx is right only where there are as many images
        x = numbers(draw, one_of(draw, channels, 2), channels, 3, 3)
        return Example(kind, (x,), {"size": one_of(draw, 1, 3, 5), **maybe(draw, alpha=0.1, beta=0.5, bias=2.0)}, opset)
    if kind == "MeanVarianceNormalization":
        return Example(kind, (numbers(draw, 2, 3, 4, 4),), {}, opset)
    if kind in {"LayerNormalization", "RMSNormalization"}:
        axis = draw(st.integers(1, x.ndim - 1))
        parameters = [numbers(draw, *x.shape[axis:]) for _ in range(2 if kind[0] == "L" and draw(st.booleans()) else 1)]
        return Example(kind, (x, *parameters), {"axis": axis, **maybe(draw, epsilon=0.1)}, opset)
    more = {"num_groups": one_of(draw, 1, 2, 4)} if kind == "GroupNormalization" else {}
    parameters = [numbers(draw, 4) for _ in range(2)]
    if kind == "BatchNormalization":
        parameters += [numbers(draw, 4), numbers(draw, 4, low=0.1)]
        training = opset >= 15 and draw(st.booleans())
        more = {"training_mode": 1, "momentum": 0.3} if training else {}
        return Example(kind, (x, *parameters), {**more, **maybe(draw, epsilon=0.1)}, opset, 3 if training else 1)
    return Example(kind, (x, *parameters), {**more, **maybe(draw, epsilon=0.1)}, opset)


@st.composite
def product(draw):
    """Gemm, MatMul, Einsum."""
    kind = draw(st.sampled_from(("Gemm", "MatMul", "Einsum")))
    m, k, n = (draw(st.integers(1, 5)) for _ in range(3))
    if kind == "MatMul":
        left, right = one_of(
            draw, ((m, k), (k, n)), ((2, m, k), (k, n)), ((m, k), (3, k, n)), ((2, 1, m, k), (3, k, n)), ((k,), (k, n))
        )
        return Example(kind, (numbers(draw, *left), numbers(draw, *right)), {}, draw(st.integers(9, 22)))
    if kind == "Einsum":
        return Example(kind, (numbers(draw, 2, m, k), numbers(draw, 2, k, n)), {"equation": "bij,bjk->bik"}, 17)
    attributes = maybe(draw, transA=1, transB=1, alpha=0.5, beta=2.0)
    left = (k, m) if "transA" in attributes else (m, k)
    right = (n, k) if "transB" in attributes else (k, n)
    bias = (numbers(draw, *one_of(draw, (n,), (1, n), (m, 1), (m, n))),) if draw(st.booleans()) else ()
    return Example(kind, (numbers(draw, *left), numbers(draw, *right), *bias), attributes, draw(st.integers(11, 22)))


@st.composite
def quantization(draw):
    """To and from 8 bits, and products of 8 bits."""
    kinds = (
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearMatMul",
        "MatMulInteger",
        "ConvInteger",
        "QLinearConv",
    )
    kind = draw(st.sampled_from(kinds))
    dtype = one_of(draw, np.uint8, np.int8)
    opset, scale = one_of(draw, 13, 19, 21, 22), np.array(one_of(draw, 0.5, 0.25), FLOAT)

    def bytes_of(*shape):
        return integers(draw, *shape, low=0, high=100, dtype=dtype)

    zero = np.array(draw(st.integers(0, 9)), dtype)
    if kind == "DynamicQuantizeLinear":
        return Example(kind, (numbers(draw, 2, 5),), {}, opset, 3)
    if kind in {"QuantizeLinear", "DequantizeLinear"}:
        if along := draw(st.booleans()):
            scale, zero = numbers(draw, 3, low=0.1), bytes_of(3)
        x = numbers(draw, 2, 3, 4, high=90) if kind[0] == "Q" else bytes_of(2, 3, 4)
        return Example(kind, (x, scale, *((zero,) if draw(st.booleans()) else ())), {"axis": 1} if along else {}, opset)
    if kind == "QLinearMatMul":
        return Example(
            kind, (bytes_of(2, 3), scale, zero, bytes_of(3, 4), scale, zero, np.array(64, FLOAT), zero), {}, opset
        )
    if kind == "MatMulInteger":
        return Example(kind, (bytes_of(2, 3), bytes_of(3, 4), zero, zero), {}, opset)
    x, weight = integers(draw, 1, 2, 5, 5, high=99, dtype=np.uint8), integers(draw, 3, 2, 3, 3, high=99, dtype=np.uint8)
    zero = zero.astype(np.uint8)
    if kind == "ConvInteger":
        return Example(kind, (x, weight, zero, zero), {"pads": [1] * 4}, opset)
    return Example(kind, (x, scale, zero, weight, scale, zero, np.array(512, FLOAT), zero), {}, opset)

"""Small classifiers of every shape, as exporters and users make them: ``model(name)`` for each name in ``MODELS``."""

from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import onnx.parser
from onnx import helper, numpy_helper

FORM = """<ir_version: {ir}, opset_import: [{opsets}]>
    classifier ({image}) => ({outputs}) {{ {nodes} }}"""
CONV = "Conv <pads = [1, 1, 1, 1]>"
DOMAINS = ("com.microsoft", "com.example")
SHAPES = {"w": (8, 3, 3, 3), "b": (8,), "d": (8, 10), "e": (10, 10)}


def features(convolution, *, between="", pooled="a"):
    """Return the nodes from a convolution, ``c``, to the features ``f``, with others after the activation."""
    return f"{convolution} a = Relu(c) {between} p = GlobalAveragePool({pooled}) f = Flatten(p) "


def layers(image="x", scores="y", **more):
    """Return the nodes that lead from ``image`` to ``scores``."""
    return features(f"c = {CONV} ({image}, w, b)", **more) + f"{scores} = MatMul(f, d) "


def quantised(count=4):
    """Return the nodes and the weights of a static int8 network, as onnxruntime.quantization writes them."""
    random, name, width, nodes = np.random.default_rng(1), "x", 3, ""
    constants = {"s": np.float32(0.03), "z": np.int8(0), "head": 0.2 * random.standard_normal((16, 10)).astype("f")}
    for at in range(count):
        nodes += f"q{at} = QuantizeLinear({name}, s, z) x{at} = DequantizeLinear(q{at}, s, z) "
        nodes += f"d{at} = DequantizeLinear(w{at}, s{at}, z) "
        nodes += f"c{at} = Conv <pads = [1, 1, 1, 1], strides = [{1 + at % 2}, {1 + at % 2}]> (x{at}, d{at}) "
        nodes += f"r{at} = Relu(c{at}) "
        constants[f"w{at}"] = random.integers(-127, 128, (16, width, 3, 3)).astype(np.int8)
        constants[f"s{at}"] = np.float32(1.8 / 127 / np.sqrt(width * 9))
        name, width = f"r{at}", 16
    nodes += f"q = QuantizeLinear({name}, s, z) x{count} = DequantizeLinear(q, s, z) "
    return nodes + f"p = GlobalAveragePool(x{count}) f = Flatten(p) y = MatMul(f, head)", constants


@dataclass(frozen=True)
class Row:
    """Nodes, constants and the other parts of a model; random weights get a ``scale``."""

    nodes: str
    constants: dict = field(default_factory=dict)
    image: str = "float[n, 3, 16, 16] x"
    outputs: str = "float[n, 10] y"
    opset: int = 13
    scale: dict = field(default_factory=dict)


def statistics(gain, shift, mean, variance):
    """Return scale, bias, mean and variance of 8 channels."""
    values = {"gain": gain, "shift": shift, "mean": mean, "variance": variance}
    return {name: np.full(8, value, "f") for name, value in values.items()}


RANDOM = np.random.default_rng(2)
MODELS = {
    # BatchNormalization in training mode on a weight, as exports of timm's ScaledStdConv2d have it
    "standardised_weight": Row(
        "v = Reshape(w, flat)"
        " n, m, u = BatchNormalization <training_mode = 1, epsilon = 1e-6> (v, gain, shift, mean, variance)"
        f" standard = Reshape(n, shape) {features(f'c = {CONV} (x, standard, b)')} y = MatMul(f, d)",
        {"flat": [1, 8, 27], "shape": [8, 3, 3, 3], **statistics(0.3, 0, 0, 1)},
        opset=17,
    ),
    "dropout": Row(layers(scores="l") + "y = Dropout(l, r, t)", {"r": np.float32(0.5), "t": True}),
    "int8_without_zero_point": Row(
        "q = QuantizeLinear <output_dtype = 3> (x, s) t = DequantizeLinear(q, s) " + layers("t"),
        {"s": np.float32(0.03)},
        opset=21,
    ),
    "further_outputs": Row(
        layers() + "k = ArgMax <axis = 1, keepdims = 0> (y) g = Greater(y, zero)",
        {"zero": np.float32(0)},
        outputs="float[n, 10] y, float[n, 8] f, int64[n] k, bool[n, 10] g",
    ),
    "imprecise_output": Row(
        layers() + "sum = Add(y, large) imprecise = Sub(sum, large)",
        {"large": np.float32(3000)},
        outputs="float[n, 10] y, float[n, 10] imprecise",
    ),
    "only_a_class": Row(layers() + "k = ArgMax <axis = 1, keepdims = 0> (y)", outputs="int64[n] k"),
    "mean_of_the_batch": Row(
        layers() + "m = ReduceMean <axes = [0], keepdims = 0> (f)", outputs="float[n, 10] y, float[8] m"
    ),
    # a number, a weight, nothing, and text
    "number_and_weight": Row(
        layers() + "e = Slice(y, none, none, one) s = ReduceMean <keepdims = 0> (f)"
        " i = ArgMax <axis = 1, keepdims = 0> (y) t = Gather(names, i)",
        {"none": [0], "one": [1], "names": np.array([f"class {at}" for at in range(10)], object)},
        outputs="float[n, 10] y, float s, float[8, 10] d, float[n, 0] e, string[n] t",
    ),
    "sequence": Row(layers() + "s = SequenceConstruct(y, y)", outputs="float[n, 10] y, seq(float[n, 10]) s"),
    "only_a_sequence": Row(layers() + "s = SequenceConstruct(y, y)", outputs="seq(float[n, 10]) s"),
    "one_row": Row(layers(scores="l") + "y = Reshape(l, s)", {"s": [1, -1]}, outputs="float[1, m] y"),
    "batch_of_two": Row(layers(scores="l") + "y = Reshape(l, s)", {"s": [2, -1]}),
    "sparse_weight": Row(layers()),
    "cropped": Row("t = Pad(x, widths) " + layers("t"), {"widths": [0, 0, -1, -2, 0, 0, -3, 1]}),
    "resized": Row('t = Resize <mode = "linear"> (x, , s) ' + layers("t"), {"s": np.array([1, 1, 2, 2], "f")}),
    # onnx and ONNX Runtime round the length differently
    "disputed": Row(
        't = Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> (x, , s) ' + layers("t"),
        {"s": np.array([1, 1, 0.5, 0.5], "f")},
        image="float[n, 3, 15, 15] x",
    ),
    "normalised": Row(layers(between="l = LRN <size = 5> (a)", pooled="l")),
    # the last image gets a value: images of a batch affect each other
    "written_at_minus_one": Row(
        layers(between="s = ScatterND(a, i, u)", pooled="s"),
        {"i": [[-1, 0, 0, 0]], "u": np.array([5], "f")},
        opset=16,
    ),
    # less their mean over the two images that the graph fixes, and a bias that is not a constant
    "centred": Row(
        f"row = Reshape(shift, s0) shifted = Add(x, row) {features(f'c = {CONV} (shifted, w, b)')}"
        " pair = Reshape(f, s1) mean = ReduceMean <axes = [0]> (pair) centred = Sub(pair, mean) y = MatMul(centred, d)",
        {"shift": 0.2 * RANDOM.standard_normal(3).astype("f"), "s0": [1, 3, 1, 1], "s1": [2, -1]},
        image="float[2, 3, 16, 16] x",
    ),
    "channels_last": Row("t = Transpose <perm = [0, 3, 1, 2]> (x) " + layers("t"), image="float[n, 16, 16, 3] x"),
    "open_size": Row(layers(), image="float[n, 3, h, w] x"),
    "one_channel": Row(
        layers(), {"w": 0.2 * RANDOM.standard_normal((8, 1, 3, 3)).astype("f")}, image="float[n, 1, 16, 16] x"
    ),
    "of_bytes": Row(
        "i = Cast <to = 1> (x) t = Mul(i, s) " + layers("t"), {"s": np.float32(1 / 255)}, image="uint8[n, 3, 16, 16] x"
    ),
    "several_inputs": Row(
        layers(scores="l") + "t = Mul(l, temperature) y = Add(t, offsets)",
        image="float[n, 3, 16, 16] x, float temperature, float[n, 10] offsets",
    ),
    "overflowing": Row(layers(), scale={"w": 5e4, "d": 5e-5}),
    "overflowing_in_half": Row(
        layers(), image="float16[n, 3, 16, 16] x", outputs="float16[n, 10] y", scale={"w": 5e4, "d": 5e-5}
    ),
    # scores of -inf for most classes before a Softmax, as attention masks have them
    "masked": Row(
        layers(scores="l") + "m = Where(mask, lowest, l) s = Softmax <axis = 1> (m) y = MatMul(s, e)",
        {"mask": np.arange(10) < 7, "lowest": np.float32(-np.inf)},
    ),
    "mostly_nan": Row(layers(scores="l") + "y = Mul(l, s)", {"s": np.array([np.nan] * 8 + [1] * 2, "f")}),
    # channels as scores, one of which is NaN before its Relu
    "nan_in_a_channel": Row(
        f"c = {CONV} (x, w, b) a = Relu(c) p = GlobalAveragePool(a) y = Flatten(p)",
        {"b": np.where(np.arange(8) == 2, np.nan, 0.1).astype("f")},
        outputs="float[n, 8] y",
    ),
    "added_in_bf16": Row(layers(scores="l") + "g = Cast <to = 16> (l) h = Add(g, g) y = Cast <to = 1> (h)"),
    "all_equal": Row(layers(scores="l") + "y = Mul(l, s)", {"s": np.float32(0)}),
    "quantised": Row(*quantised()),
    # round scales, so that many values are at ties
    "quantised_operators": Row(
        "q = QuantizeLinear(x, s, z) i = QLinearConv <pads = [1, 1, 1, 1]> (q, s, z, w, s0, z0, s, z, b)"
        " m = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (i) "
        + features("c = DequantizeLinear(m, s, z)")
        + "y = MatMul(f, d)",
        {
            "s": np.float32(0.05),
            "s0": np.float32(0.01),
            "z": np.uint8(0),
            "z0": np.int8(0),
            "w": RANDOM.integers(-100, 100, (8, 3, 3, 3)).astype(np.int8),
            "b": RANDOM.integers(-100, 100, 8).astype(np.int32),
        },
    ),
    # a scale for each block of 16 weights, as quantisers of large models write it
    "weights_in_4_bits": Row(
        f"g = DequantizeLinear <block_size = 16, axis = 0> (d, s) {features(f'c = {CONV} (x, w, b)')} y = MatMul(f, g)",
        {
            "w": 0.2 * RANDOM.standard_normal((64, 3, 3, 3)).astype("f"),
            "b": 0.2 * RANDOM.standard_normal(64).astype("f"),
            "d": RANDOM.integers(-8, 8, (64, 10)).astype(ml_dtypes.int4),
            "s": 0.01 * RANDOM.standard_normal((4, 10)).astype("f"),
        },
        opset=21,
    ),
    # as quantize_dynamic writes it; ONNX Runtime 1.23 has no kernel for signed weights
    "dynamically_quantised": Row(
        "q, s, z = DynamicQuantizeLinear(x) i = ConvInteger <pads = [1, 1, 1, 1]> (q, w, z, middle)"
        " j = Cast <to = 1> (i) t = Mul(s, s0) " + features("c = Mul(j, t)") + "y = MatMul(f, d)",
        {
            "middle": np.uint8(128),
            "s0": np.float32(0.002),
            "w": RANDOM.integers(1, 256, (8, 3, 3, 3)).astype(np.uint8),
        },
    ),
    "batch_normalised": Row(
        f"h = {CONV} (x, w) {features('c = BatchNormalization(h, gain, shift, mean, variance)')}"
        " l = MatMul(f, d) y = Mul(l, s)",
        {**statistics(*np.abs(RANDOM.standard_normal((4, 8))) + 0.1), "s": np.float32(0.3)},
    ),
    "standardised_images": Row(
        "m = Sub(x, mean) i = Div(m, deviation) " + layers("i"),
        {name: np.array([0.5, 0.3, 0.7], "f").reshape(1, 3, 1, 1) for name in ("mean", "deviation")},
    ),
    "contributed": Row(layers(scores="l") + "y = com.microsoft.QuickGelu <alpha = 1.0> (l)"),
    "unknown": Row(layers(scores="l") + "y = com.example.Own(l)"),
}


def model(name):
    """Return a model of the table."""
    row, random = MODELS[name], np.random.default_rng(1)
    ir = helper.find_min_ir_version_for([helper.make_opsetid("", row.opset)])
    opsets = [f'"" : {row.opset}', *(f'"{domain}" : 1' for domain in DOMAINS if domain in row.nodes)]
    made = onnx.parser.parse_model(FORM.format(ir=ir, opsets=", ".join(opsets), **vars(row)))
    dtype = np.float16 if "float16" in row.image else np.float32
    known = {key: 0.2 * row.scale.get(key, 1) * random.standard_normal(shape) for key, shape in SHAPES.items()}
    known = {key: values.astype(dtype) for key, values in known.items()} | row.constants
    used = {key for node in made.graph.node for key in node.input}
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(known[key]), key) for key in known if key in used)
    if name == "sparse_weight":
        make_sparse(made.graph)
    return made


def make_sparse(graph):
    """Replace the last weight by one of which three values are stored."""
    graph.initializer.pop()
    values = numpy_helper.from_array(np.random.default_rng(1).standard_normal(3).astype("f"), "d")
    places = numpy_helper.from_array(np.array([[0, 1], [4, 3], [7, 9]]), "d_places")
    graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [8, 10]))

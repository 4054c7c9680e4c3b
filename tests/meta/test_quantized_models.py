"""Derived quantised models: against ONNX Runtime's own quantiser, and against formulas written out here."""

from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fixtures.onnx_file import inspect
from fixtures.onnx_quantization import quantized_tensors
from fixtures.precisions import QUANTIZED_TYPES, QuantizationRule
from fixtures.quantization.derive import decompose, quantized_model
from fixtures.quantization.fold import fold
from fixtures.records import Case, ModelSpec, QuantizedTensor
from fixtures.reference.evaluator import GraphEvaluator
from fixtures.run.compare import compare
from fixtures.run.quantization import NOT_QUANTIZED, UNEXPECTED, compare_quantization

SPEC = ModelSpec("test_nfnet", None, (32, 32))
INT8, FP8 = QUANTIZED_TYPES["int8"], QUANTIZED_TYPES["float8e4m3fn"]
RNG = np.random.default_rng(4)


@pytest.fixture(scope="module")
def conv(tmp_path_factory):
    """A convolution with a bias, GELU, and a dense layer."""
    path = tmp_path_factory.mktemp("models") / "conv.onnx"
    model = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 20]>
        small (float[batch, 2, 3, 3] x) => (float[batch, 4] y)
        <float[5, 2, 3, 3] w, float[5] b, float[4, 5] d, float[4] c> {
            h = Conv(x, w, b)
            a = Gelu(h)
            f = Flatten(a)
            y = Gemm <transB = 1> (f, d, c)
        }
    """)
    for name, shape in (("w", (5, 2, 3, 3)), ("b", (5,)), ("d", (4, 5)), ("c", (4,))):
        values = RNG.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.save(model, path)
    return inspect(path)


IMAGES = RNG.standard_normal((4, 2, 3, 3)).astype(np.float32)


def evaluated(model, feeds, *names):
    """Tensors of a model in memory, by default its outputs."""
    return GraphEvaluator(Path("model.onnx"), model).evaluate({"x": np.float64(feeds)}, names or None)


@pytest.mark.parametrize(("kind", "numpy_type"), [(INT8, np.int8), (FP8, ml_dtypes.float8_e4m3fn)])
def test_quantised_convolution_follows_the_formula(conv, kind, numpy_type):
    """Scale times the rounded and clipped quotient, for the images and for the weights."""

    def narrow(values, largest):
        scale = np.float32(largest) / np.float32(kind.largest)
        clipped = np.clip(values / scale, kind.smallest, kind.largest)
        steps = np.rint(clipped) if kind is INT8 else clipped
        return steps.astype(numpy_type).astype(np.float64) * scale

    model = quantized_model(conv, IMAGES, QuantizationRule(kind))
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(conv.path).graph.initializer}
    given = IMAGES * np.float32(1.5)  # some are beyond the calibrated range
    x, w = narrow(given, np.abs(IMAGES).max()), narrow(weights["w"], np.abs(weights["w"]).max())
    expected = np.einsum("nchw,ochw->no", x, w) + weights["b"]
    assert np.allclose(evaluated(model, given, "h")["h"][..., 0, 0], expected, rtol=1e-12, atol=1e-12)


NORMALISE = "BatchNormalization (a, g, v, b, g)"
FOLDED = {  # nodes after a product -> what is left of them
    f"a = Conv(x, w, v) y = {NORMALISE}": ["Conv"],
    f"a = Conv(x, w) y = {NORMALISE}": ["Conv", "Add"],
    "a = Conv(x, w, v) c = Div(a, s) y = Mul(s, c)": ["Conv"],
    "c = Conv(x, w) a = Mul(c, m) y = Relu(a)": ["Conv", "Relu"],
    "f = Flatten(x) a = MatMul(f, d) y = Mul(a, b)": ["Flatten", "MatMul"],
    "f = Flatten(x) a = Gemm <transB = 1> (f, e, b) y = Div(a, b)": ["Flatten", "Gemm"],
    "a = Conv(x, w) c = Mul(a, s) y = Add(a, c)": ["Conv", "Mul", "Add"],  # the product is read twice
    "a = Conv(x, w) y = Mul(a, r)": ["Conv", "Mul"],  # a factor for each column
    "a = Conv(x, w) c = Mul(x, x) z = Conv(c, w) y = Mul(a, z)": ["Conv", "Mul", "Conv", "Mul"],
}


@pytest.mark.parametrize("nodes", FOLDED)
def test_constants_after_a_product_are_folded(tmp_path, nodes):
    """The outputs stay the same; other readers of a weight read the old one."""
    shapes = {"w": (5, 2, 3, 3), "v": (5,), "b": (5,), "g": (5,), "m": (1, 5, 1, 1), "s": (), "r": (3,)}
    shapes |= {"d": (18, 5), "e": (5, 18)}
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 20]> g (float[n, 2, 3, 3] x) => (float y) {{ {nodes} }}'
    )
    for name, shape in shapes.items():
        values = np.abs(RNG.standard_normal(shape)).astype(np.float32) + 0.5
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
    before = evaluated(model, IMAGES)["y"]
    fold(model, tmp_path)
    assert [node.op_type for node in model.graph.node] == FOLDED[nodes]
    assert np.allclose(evaluated(model, IMAGES)["y"], before, 1e-5, 1e-6)


def test_scales_have_the_smallest_value_of_the_rule(conv):
    """MIGraphX has one since 2.15."""
    model = quantized_model(conv, IMAGES * np.float32(1e-9), QuantizationRule(INT8, smallest_scale=1e-3))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert constants["x/scale"] == np.float32(1e-3)
    assert constants["w/scale"] > 1e-3


def test_derived_model_is_what_onnxruntime_quantises(context):
    """Which tensors, types, axes, zero points, and scales; the two share no code."""
    case = Case("onnxruntime:cpu", SPEC, "int8", 2)
    derived = onnx.load(context.model_store.onnx_file(context.program_pool.reference_model(case)).path)
    reported = context.program_pool.program(case).quantization
    assert len(reported) == len(quantized_tensors(derived)) > 20
    assert compare_quantization(quantized_tensors(derived), reported) == []


def test_every_step_of_a_decomposed_operator_is_quantised(conv):
    """As MIGraphX does at fp8: 3 products and sums, 5 steps of GELU, each with two inputs but erf."""
    plain = onnx.load(conv.path)
    decompose(plain)
    exact = evaluated(onnx.load(conv.path), IMAGES, "y")["y"]
    assert np.allclose(evaluated(plain, IMAGES, "y")["y"], exact, rtol=1e-7)
    model = quantized_model(conv, IMAGES, QuantizationRule(FP8, inputs="all"))
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    computing = [node for node in model.graph.node if node.op_type in {"Add", "Conv", "Erf", "MatMul", "Mul"}]
    assert len(computing) == 9
    assert all(makers[name] == "DequantizeLinear" for node in computing for name in node.input)


def test_shared_rule_changes_every_reader_and_quantises_biases(conv):
    """As ONNX Runtime's QDQ does."""
    rule = QuantizationRule(INT8, shared=True, int32_bias=True, per_channel=True)
    model = quantized_model(conv, IMAGES, rule)
    (product,) = (node for node in model.graph.node if node.op_type == "Conv")
    assert product.input[2] == "h/bias"
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert constants["h/bias_quantized"].dtype == np.int32
    assert np.array_equal(constants["h/bias/scale"], constants["x/scale"] * constants["w/scale"])
    assert constants["w/scale"].shape == (5,)
    assert "w" not in constants


ROWS = (
    QuantizedTensor("x", "int8", (0.02,)),
    QuantizedTensor("w", "int8", (0.1, 0.3), (0, 0), 0),
    QuantizedTensor("h", "int8", (0.5,)),
)
UNNAMED = tuple(QuantizedTensor("", row.element_type, row.scales, row.zero_points, row.axis) for row in ROWS)


def changed(rows, index, **values):
    """The rows with one of them changed; removed if nothing is given."""
    new = [QuantizedTensor(**{**vars(rows[index]), **values})] if values else []
    return [*rows[:index], *new, *rows[index + 1 :]]


@pytest.mark.parametrize("rows", [ROWS, UNNAMED], ids=["named", "unnamed"])
@pytest.mark.parametrize(
    ("index", "change", "text"),
    [
        (0, {"scales": (0.0202,)}, "1.00% off"),
        (2, {}, NOT_QUANTIZED),
        (2, {"zero_points": (1,)}, "zero points [1]"),
        (1, {"scales": (0.3,), "zero_points": (0,), "axis": None}, "one scale"),
        (1, {"scales": (0.1, 0.31)}, "channel 1"),
        (0, {"element_type": "uint8"}, "uint8"),
    ],
)
def test_every_difference_is_reported_with_its_tensor(rows, index, change, text):
    """With and without names of the engine's tensors."""
    (found,) = compare_quantization(ROWS, changed(rows, index, **change))
    assert found.tensor == ROWS[index].name
    assert text in found.text


def test_scales_within_the_printed_digits_are_no_difference():
    near = [
        QuantizedTensor("", row.element_type, tuple(scale * 1.0005 for scale in row.scales), row.zero_points, row.axis)
        for row in ROWS
    ]
    assert compare_quantization(ROWS, near[::-1]) == []


def test_a_tensor_that_should_not_be_quantised_is_reported():
    (found,) = compare_quantization(ROWS[:2], UNNAMED)
    assert found.text == UNEXPECTED


def test_a_model_that_quantises_by_itself_is_judged_at_fp32_only(conv, context, tmp_path):
    """Its own scales count: a calibrated precision would quantise it twice."""
    path = tmp_path / "quantised.onnx"
    onnx.save(quantized_model(conv, IMAGES, QuantizationRule(INT8)), path)
    case = Case("onnxruntime:cpu", ModelSpec(path=path), "fp32", 4)
    assert compare(case, context).passed
    assert "quantised already" in context.program_pool.unsupported(replace(case, precision="int8"))

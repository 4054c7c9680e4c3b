"""Graphs of every form agree with ONNX Runtime: control flow, local functions, sparse weights, other domains."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fixtures.reference.evaluator import GraphEvaluator
from tests.meta.tiny_models import by_onnxruntime, saved, tiny_model

HEADER = '<ir_version: 9, opset_import: ["" : 20, "local" : 1]>'
MODELS = {
    "If": """agraph (float[N, 3] x) => (float[N, 3] y) {
        two = Constant <value_float = 2.0> ()
        total = ReduceSum <keepdims = 0> (x)
        positive = Greater (total, two)
        y = If (positive) <
            then_branch = one () => (float[N, 3] a) { a = Mul (x, two) },
            else_branch = other () => (float[N, 3] b) { half = Constant <value_float = 0.5> () b = Mul (x, half) }>
    }""",
    "Loop": """agraph (float[N, 3] x) => (float[N, 3] y, rows) {
        trips = Constant <value = int64 {3}> ()
        go = Constant <value = bool {1}> ()
        y, rows = Loop (trips, go, x) <body =
            body (int64 i, bool c, float[N, 3] s) => (bool k, float[N, 3] t, float[N, 3] r) {
            k = Identity (c)
            number = Cast <to = 1> (i)
            t = Add (s, number)
            r = Mul (t, x)
        }>
    }""",
    "Loop that ends": """agraph (float[N, 3] x) => (float y, rows) {
        go = Constant <value = bool {1}> ()
        zero = Constant <value = float {0}> ()
        five = Constant <value = float {5}> ()
        y, rows = Loop (, go, zero) <body = body (int64 i, bool c, float s) => (bool k, float t, float r) {
            one = Constant <value = float {2}> ()
            t = Add (s, one)
            r = Mul (t, t)
            k = Less (t, five)
        }>
    }""",
    "Scan": """agraph (float[N, 3] x) => (float[N] y, float[N, 3] rows) {
        zero = Constant <value_float = 0.0> ()
        start = ReduceSum <keepdims = 0> (x, axes)
        y, rows = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [1], scan_output_axes = [1],
            body = body (float[N] s, float[N] column) => (float[N] t, float[N] r) {
            t = Add (s, column)
            r = Mul (t, t)
        }> (start, x)
    }""",
    "local function": """agraph (float[N, 3] x) => (float[N, 3] y) {
        a = local.twice <by = 3.0> (x)
        y = local.twice <by = 0.5> (a)
    }
    <domain: "local", opset_import: ["" : 17]>
    twice <by> (x) => (y) { factor = Constant <value_float: float = @by> () y = Mul (x, factor) }""",
}


def assert_agrees(model, tmp_path, x):
    """Compare all outputs."""
    onnx.save(model, tmp_path / "model.onnx")
    expected = by_onnxruntime(model, x)
    actual = GraphEvaluator(tmp_path / "model.onnx").evaluate({"x": x})
    for name, want in expected.items():
        assert actual[name].shape == want.shape
        assert np.allclose(actual[name], want, rtol=1e-5, atol=1e-6), name


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("sign", [1, -1])
def test_graphs_inside_graphs_agree_with_onnxruntime(tmp_path, name, sign):
    """Also tensors that a body reads from outside, iterations that are joined, and both branches."""
    text = MODELS[name].replace("=> (float[N, 3] y, rows)", "=> (float[N, 3] y, float[K, N, 3] rows)")
    text = text.replace("(float y, rows)", "(float y, float[K] rows)")
    model = onnx.parser.parse_model(HEADER + text)
    if name == "Scan":
        model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axes"))
    assert_agrees(model, tmp_path, x=sign * np.arange(6, dtype=np.float32).reshape(2, 3))


@pytest.mark.parametrize("places", [np.array([1, 5]), np.array([[0, 1], [1, 2]])], ids=["positions", "coordinates"])
def test_sparse_weights_are_read(tmp_path, places):
    model = tiny_model(("MatMul", ["x", "w"], ["y"], {}), shape=["n", 2])
    values = numpy_helper.from_array(np.array([2, 3], np.float32), "w")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(places, ""), [2, 3])
    model.graph.sparse_initializer.append(sparse)
    assert_agrees(model, tmp_path, x=np.array([[1, 2], [3, 4]], np.float32))


def test_an_operator_that_onnx_lacks_is_computed_by_onnxruntime(tmp_path):
    model = tiny_model(("FusedMatMul", ["x", "x"], ["y"], {"transB": 1, "domain": "com.microsoft"}), shape=["n", 2])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert_agrees(model, tmp_path, x=np.array([[1, 2], [3, 4]], np.float32))


@pytest.mark.parametrize("name", ["FLOAT8E4M3FN", "FLOAT8E5M2", "INT4", "UINT16"])
@pytest.mark.parametrize("zero_point", [True, False])
@pytest.mark.parametrize("block", [0, 2])
def test_every_type_is_quantised_and_dequantised(tmp_path, name, zero_point, block):
    """By a zero point or ``output_dtype``, per tensor or in blocks."""
    kind = getattr(TensorProto, name)
    scale = np.array([[0.5, 2.0], [1.0, 0.25]] if block else 0.5, np.float32)
    more = {"axis": 1, "block_size": block} if block else {}
    names = ["s", "z"] if zero_point else ["s"]
    zero = helper.make_tensor("z", kind, scale.shape, [0] * scale.size)
    quantize = ("QuantizeLinear", ["x", *names], ["q"], more if zero_point else {**more, "output_dtype": kind})
    nodes = (quantize, ("DequantizeLinear", ["q", *names], ["y"], more))
    model = tiny_model(*nodes, shape=[2, 4], weights={"s": scale}, opset=21)
    model.ir_version = 10
    if zero_point:
        model.graph.initializer.append(zero)
    assert_agrees(model, tmp_path, x=np.array([[0.3, -1.3, 700.0, 4.0], [0.0, 2.0, -9.0, 0.1]], np.float32))


def test_training_mode_uses_the_statistics_of_the_batch(tmp_path):
    names = ["x", "scale", "bias", "mean", "variance"]
    weights = {name: np.array([1.0, 2.0], np.float32) for name in names[1:]}
    node = ("BatchNormalization", names, ["y", "m", "v"], {"training_mode": 1})
    x = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    path = saved(tmp_path / "one.onnx", node, shape=[3, 2, 2], outputs=("y", "m"), weights=weights, opset=15)
    got = GraphEvaluator(path).evaluate({"x": x})
    mean, variance = x.mean(axis=(0, 2), keepdims=True), x.var(axis=(0, 2), keepdims=True)
    assert np.allclose(got["y"], (x - mean) / np.sqrt(variance + 1e-5) * [[[1], [2]]] + [[[1], [2]]])
    assert np.allclose(got["m"], 0.9 * weights["mean"] + 0.1 * mean.ravel())

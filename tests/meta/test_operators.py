"""Every operator agrees with ONNX Runtime's on generated nodes; the suite's own ones agree with onnx's, too."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, assume, given, settings
from onnx import helper
from packaging.version import Version

from fixtures.reference.arithmetic_operators import ARITHMETIC_OPERATORS
from fixtures.reference.evaluator import GraphEvaluator
from fixtures.reference.operators import OLD_OPERATORS, OPERATORS
from tests.meta import operator_examples as numeric
from tests.meta import operator_examples_shape as shape
from tests.meta.evaluator import onnx_evaluator

STRATEGIES = {
    "unary": numeric.unary(),
    "binary": numeric.binary(),
    "reduced": numeric.reduced(),
    "of_an_axis": numeric.of_an_axis(),
    "convolution": numeric.convolution(),
    "transposed_convolution": numeric.transposed_convolution(),
    "pooling": numeric.pooling(),
    "normalization": numeric.normalization(),
    "product": numeric.product(),
    "quantization": numeric.quantization(),
    "reshaped": shape.reshaped(),
    "cut": shape.cut(),
    "indexed": shape.indexed(),
    "made": shape.made(),
    "resized": shape.resized(),
    "attention": shape.attention(),
}
ROUNDED_LENGTHS = {"align_corners", "pytorch_half_pixel"}  # modes in which the two differ, see CHANGELOG.md
OWN = {*OPERATORS, *ARITHMETIC_OPERATORS}
WRONG_IN_ONNX = {  # onnx 1.23's own implementation, by operator and inputs
    "AveragePool": lambda attributes, *_: "ceil_mode" in attributes,  # pads on both sides
    "GlobalMaxPool": lambda _, x: x.ndim != 4,  # the maximum of the last two dimensions
    "LRN": lambda _, x: x.shape[0] < x.shape[1],  # as many channels as there are images
    "LpNormalization": lambda attributes, _: attributes.get("p") == 1,  # a sum without absolute values
    "MaxPool": lambda attributes, _: (
        bool({"auto_pad", "ceil_mode"} & {*attributes}) or len({*attributes.get("pads", ())}) > 1
    ),
    "Slice": lambda _, x, *ranges: bool(ranges) and ranges[3] < 0 and ranges[0] < -x.shape[int(ranges[2][0])],
}
CLOSE = {
    "DynamicQuantizeLinear": 1e-7,
    "GroupNormalization": 1e-5,
    "LayerNormalization": 1e-5,
    "LRN": 1e-7,
}  # onnx has steps in float32
CLOSEST = 1e-12
LACKS = (
    "NOT_IMPLEMENTED",
    "Could not find an implementation",
    "Unsupported model IR version",  # up to 1.23, which ends at opset 23
    "Cannot split using values in 'split' attribute",  # as six values in four parts: 2, 2, 2, 0
)
IS_OLD = Version(onnxruntime.__version__) < Version("1.24")  # 1.23 is the last for Python 3.10
WRONG_IF_OLD = {"noop_with_empty_axes", "count_include_pad"}
RELATIVE, ABSOLUTE = 1e-4, 1e-5  # of sums in fp32


def model_of(example):
    """Return a model of one node, and its feeds."""
    names = ["" if array is None else f"x{index}" for index, array in enumerate(example.inputs)]
    feeds = {name: array for name, array in zip(names, example.inputs, strict=True) if name}
    outputs = [f"y{index}" for index in range(example.outputs)]
    node = helper.make_node(example.kind, names, outputs, domain=example.domain, **example.attributes)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    graph = helper.make_graph([node], "one", inputs, [onnx.ValueInfoProto(name=name) for name in outputs])
    opset = helper.make_opsetid("", example.opset)
    return helper.make_model(graph, opset_imports=[opset], ir_version=helper.find_min_ir_version_for([opset])), feeds


def is_disputed(example, outputs):
    """Whether onnx and ONNX Runtime are known to differ: a resized length that is rounded, or 1."""
    mode = example.attributes.get("coordinate_transformation_mode")
    if example.kind != "Resize" or mode not in ROUNDED_LENGTHS:
        return False
    factors = example.inputs[2] if len(example.inputs) == 3 else np.ones(4)
    return 1 in outputs[0].shape[2:] or np.any(np.array(example.inputs[0].shape) * factors % 1)


def by_onnxruntime(model, feeds):
    """Return the outputs; examples that ONNX Runtime rejects for a known reason do not count."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, feeds)
    except Exception as error:
        assume(not any(reason in str(error) for reason in LACKS))
        raise


def assert_agrees_with_onnx(example, model, feeds, actual):
    """The suite's own operators agree with onnx's in float64; return whether onnx has one that is right."""
    if example.opset < OLD_OPERATORS.get(example.kind, (0,))[0]:
        return False
    if example.kind in WRONG_IN_ONNX and WRONG_IN_ONNX[example.kind](example.attributes, *example.inputs):
        return False
    for value in model.graph.input:
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    wide = {name: array.astype(np.float64) if array.dtype == np.float32 else array for name, array in feeds.items()}
    try:
        expected = onnx_evaluator(model).run(None, wide)
    except (RuntimeError, TypeError, ValueError, LookupError):  # it does not implement every attribute and opset
        return False
    for got, want in zip(actual.values(), expected, strict=True):
        assert np.allclose(got.astype(np.float64), want.astype(np.float64), *[CLOSE.get(example.kind, CLOSEST)] * 2)
    return True


@pytest.mark.parametrize("name", STRATEGIES)
def test_operators_agree_with_onnxruntime(tmp_path_factory, name):
    path = tmp_path_factory.mktemp("one") / "one.onnx"
    tried, compared = set(), set()

    @settings(deadline=None, max_examples=60, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(STRATEGIES[name])
    def check(example):
        model, feeds = model_of(example)
        assume(not (IS_OLD and WRONG_IF_OLD & {*example.attributes}))
        expected = by_onnxruntime(model, feeds)
        assume(not is_disputed(example, expected))
        onnx.save(model, path)
        actual = GraphEvaluator(path).evaluate(feeds)
        if example.kind in OWN:
            tried.add(example.kind)
            compared.update({example.kind} if assert_agrees_with_onnx(example, model, feeds, actual) else ())
        for got, want in zip(actual.values(), expected, strict=True):
            assert got.shape == want.shape
            assert np.allclose(got, want, RELATIVE, ABSOLUTE * max(1, np.abs(want).max(initial=0)), equal_nan=True)

    check()
    assert tried == compared

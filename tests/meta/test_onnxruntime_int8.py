"""int8 on ONNX Runtime: every product is quantised with the given images, or the case is an error."""

from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime import quantization

from fixtures.accuracy.calibration import SYNTHETIC
from fixtures.engines.base import CompileRequest
from fixtures.engines.onnxruntime import int8
from fixtures.engines.onnxruntime.int8 import memoized_quantised, quantised
from fixtures.engines.registry import open_engine, target_of
from fixtures.errors import CompileError, RequestNotHonouredError
from fixtures.onnx_file import inspect
from fixtures.onnx_quantization import quantized_tensors
from fixtures.onnx_weights import weight
from fixtures.quantization.derive import quantized_model
from fixtures.records import Case, EngineOptions, ModelSpec
from fixtures.run.quantization import compare_quantization
from tests.meta.tiny_models import saved

SPEC = ModelSpec("test_nfnet", None, (64, 64))
CASE = Case("onnxruntime:cpu", SPEC, "int8", 2)


@pytest.fixture(scope="module")
def model(context):
    """The fp32 file of the case."""
    return context.model_store.onnx_file(SPEC).path


@pytest.fixture(scope="module")
def calibration(context):
    """The calibration batches of the case."""
    return context.program_pool.calibration(CASE)


@pytest.fixture(scope="module")
def quantised_model(model, calibration):
    """The QDQ model of the case."""
    return onnx.load_from_string(quantised(model, calibration))


def tensors(model):
    """Names and values of the weights, wherever they are stored."""
    return {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in model.graph.initializer}


def test_every_product_takes_int8_and_gives_fp32(quantised_model):
    """Convolutions, gates and classifier; a result is quantised only for the next product."""
    nodes = quantised_model.graph.node
    products = [node for node in nodes if node.op_type in int8.PRODUCTS]
    dequantised = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    assert all(dequantised.issuperset(node.input[:2]) for node in products)
    assert dequantised.issuperset(name for node in products for name in node.input[2:])
    results = {name for node in products for name in node.output}
    requantised = {node.input[0] for node in nodes if node.op_type == "QuantizeLinear"} & results
    assert not requantised & {name for node in products for name in node.input}


def dequantised_types(model):
    """Element types of what is dequantised, other than products' factors in 8 bits."""
    given = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    return {given.get(node.input[0], given[node.input[2]]) for node in nodes}


def test_cuda_gets_only_what_its_provider_dequantises(model, calibration, quantised_model):
    """Its kernels take 8 bits; a bias in int32 would run on the CPU."""
    rule = target_of("onnxruntime:cuda").rule("int8")
    made = onnx.load_from_string(quantised(model, calibration, int32_bias=rule.int32_bias))
    assert dequantised_types(quantised_model) == {onnx.TensorProto.INT8, onnx.TensorProto.INT32}
    assert dequantised_types(made) == {onnx.TensorProto.INT8}
    derived = quantized_model(inspect(model), np.concatenate(calibration), rule)
    assert not compare_quantization(quantized_tensors(derived), quantized_tensors(made))


def test_rule_of_cuda_agrees_with_its_derived_model(runner):
    """The CPU provider runs what CUDA would get."""
    plugin = (
        "from fixtures.engines.onnxruntime import descriptor\n"
        "descriptor.PRECISIONS['int8'] = descriptor.ON_CUDA['int8']\n"
    )
    tests = ("tests/conformance/test_agreement.py", "tests/conformance/test_quantization.py")
    runner.small(*tests, "--precision", "int8", "--batch", "2", plugin=plugin)


def test_program_reports_its_quantisation(model, calibration):
    """Both factors of each product: activations with one scale, weights with one for each output channel."""
    engine, options = open_engine("onnxruntime:cpu"), EngineOptions()
    program = engine.prepare(CompileRequest(model, (2, 3, 64, 64), "int8", options, tuple(calibration)))
    products = [node for node in onnx.load(model).graph.node if node.op_type in int8.PRODUCTS]
    weights = {tensor.name: weight(tensor, model.parent) for tensor in onnx.load(model).graph.initializer}
    reported = {tensor.name: tensor for tensor in program.quantization}
    assert {name for node in products for name in node.input[:2]} == set(reported)
    for name, tensor in reported.items():
        largest = np.float32(max(np.abs(batch).max() for batch in calibration)) if name == "inputs" else None
        if name in weights:
            assert tensor.axis == 0
            largest = np.abs(weights[name]).reshape(len(weights[name]), -1).max(axis=1)
        if largest is not None:
            assert np.array_equal(np.float32(tensor.scales), np.atleast_1d(largest / np.float32(127)))
        assert (tensor.element_type, set(tensor.zero_points)) == ("int8", {0})
    rule = engine.target.rule("int8")
    assert (rule.type.name, rule.inputs, rule.shared, rule.per_channel) == ("int8", "products", True, True)
    assert engine.target.rule("fp32") is None


def test_every_batch_is_calibrated_with_the_same_images(context):
    for batch in (1, 2, 3):
        arrays = context.program_pool.calibration(Case("onnxruntime:cpu", SPEC, "int8", batch))
        assert {array.shape[0] for array in arrays} == {batch}
        assert len(np.unique(np.concatenate(arrays), axis=0)) == SYNTHETIC
    assert context.program_pool.calibration(Case("onnxruntime:cpu", SPEC, "fp32", 2)) == ()


def test_missing_calibration_is_an_error(model):
    """The engine invents no range."""
    with pytest.raises(CompileError, match="int8"):
        open_engine("onnxruntime:cpu").prepare(CompileRequest(model, (2, 3, 64, 64), "int8"))


def test_weights_with_two_hard_links_are_quantised(model, calibration, tmp_path):
    """Localisation makes them for a model with external weights; onnx itself refuses such a file."""
    path = tmp_path / "model.onnx"
    onnx.save(onnx.load(model), path, save_as_external_data=True, location="data", size_threshold=0)
    single = quantised(path, calibration)
    (tmp_path / "second").hardlink_to(tmp_path / "data")
    assert quantised(path, calibration) == single


def test_calibration_that_does_not_fit_is_a_compile_error(model):
    with pytest.raises(CompileError, match="Got: 4 Expected: 3"):
        quantised(model, [np.zeros((1, 4, 64, 64), np.float32)])


def one_convolution(path, images, *, size=1.0, opset=17):
    """Save a convolution with weights of a size and a bias of 1."""
    weights = {"w": np.full((2, 3, 1, 1), size, np.float32), "b": np.ones(2, np.float32)}
    return saved(path, ("Conv", ("x", "w", "b"), ("y",), {}), shape=images.shape, weights=weights, opset=opset)


def test_file_of_an_older_opset_gets_scales_by_channel(tmp_path):
    """The quantiser itself would write a model that ONNX Runtime rejects."""
    images = np.ones((1, 3, 2, 2), np.float32)
    path = one_convolution(tmp_path / "old.onnx", images, opset=11)
    program = open_engine("onnxruntime:cpu").prepare(CompileRequest(path, images.shape, "int8", calibration=(images,)))
    assert np.allclose(program.run({"x": images})["y"], 4, rtol=0.01)


def test_quantised_weights_are_no_inputs(tmp_path):
    """Files of old versions list their weights there, too."""
    images = np.ones((1, 3, 2, 2), np.float32)
    path = one_convolution(tmp_path / "old.onnx", images)
    old = onnx.load(path)
    weights = old.graph.initializer
    old.graph.input.extend(helper.make_tensor_value_info(row.name, row.data_type, row.dims) for row in weights)
    onnx.save(old, path)
    derived = quantized_model(inspect(path), images, target_of("onnxruntime:cpu").rule("int8"))
    assert [value.name for value in derived.graph.input] == ["x"]


def test_scales_of_small_weights_leave_room_for_the_bias(tmp_path):
    """It is a multiple of both factors' scales, in int32."""
    images = np.ones((1, 3, 2, 2), np.float32)
    path = one_convolution(tmp_path / "small.onnx", images, size=1e-9)
    made = quantized_tensors(onnx.load_from_string(quantised(path, [images])))
    derived = quantized_tensors(quantized_model(inspect(path), images, target_of("onnxruntime:cpu").rule("int8")))
    assert not compare_quantization(derived, made)
    assert derived[1].scales[0] > 2 * 1e-9 / 127
    gone = [replace(tensor, scales=tuple(0.0 for _ in tensor.scales)) for tensor in derived]
    assert len(compare_quantization(gone, made)) == len(made)


def test_model_without_products_is_not_accepted_as_int8(tmp_path):
    path = saved(tmp_path / "relu.onnx", ("Relu", ("x",), ("y",), {}), shape=(1, 3, 2, 2), opset=17)
    images = np.ones((1, 3, 2, 2), np.float32)
    with pytest.raises(RequestNotHonouredError, match="no tensor is quantised"):
        open_engine("onnxruntime:cpu").prepare(CompileRequest(path, images.shape, "int8", calibration=(images,)))


def test_unread_calibration_is_detected(model, calibration, monkeypatch):
    """A quantiser that calibrates on something else is not trusted."""
    monkeypatch.setattr(quantization, "quantize_static", lambda *_, **__: None)
    with pytest.raises(RequestNotHonouredError, match=f"{len(calibration)} of {len(calibration)}"):
        quantised(model, calibration)


def test_model_above_protobufs_limit_is_quantised_with_external_weights(
    model, calibration, monkeypatch, quantised_model
):
    """To the same model; here every model is above the limit."""
    monkeypatch.setattr(int8, "EXTERNAL_ABOVE", 0)
    quantize = Mock(wraps=quantization.quantize_static)
    monkeypatch.setattr(quantization, "quantize_static", quantize)
    made = onnx.load_from_string(quantised(model, calibration))
    assert quantize.call_args.kwargs["use_external_data_format"]
    assert tensors(made) == tensors(quantised_model)


def test_quantised_model_is_memoized_for_any_division_into_batches(model, calibration, tmp_path, monkeypatch):
    first = memoized_quantised(model, calibration, tmp_path)
    quantize = Mock(wraps=quantised)
    monkeypatch.setattr(int8, "quantised", quantize)
    assert memoized_quantised(model, [image[None] for batch in calibration for image in batch], tmp_path) == first
    quantize.assert_not_called()
    assert memoized_quantised(model, [2 * batch for batch in calibration], tmp_path) != first

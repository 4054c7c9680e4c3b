"""int8 on ONNX Runtime: every product is quantised with the images that were given, or the case is an error."""

from unittest.mock import Mock

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

from fixtures.accuracy.calibration import SYNTHETIC
from fixtures.engines.onnxruntime import int8 as onnxruntime_int8
from fixtures.engines.onnxruntime.engine import PROVIDER_OPTIONS, OnnxRuntimeEngine, open_engine
from fixtures.engines.onnxruntime.int8 import memoized_quantised, quantised, quantised_products
from fixtures.errors import CompileError, EvaluationError, RequestNotHonouredError
from fixtures.records import Case, EngineOptions, ModelSpec
from fixtures.reference.arithmetic import arithmetic
from fixtures.reference.evaluator import GraphEvaluator
from fixtures.reference.float64 import Float64Reference
from fixtures.run.compare import judge_outputs

SPEC = ModelSpec("test_nfnet", None, (64, 64))
CASE = Case("onnxruntime:cpu", SPEC, "int8", 2)


@pytest.fixture(scope="module")
def quantised_model(context):
    """The QDQ model of the case."""
    return onnx.load_from_string(
        quantised(context.model_store.onnx_file(SPEC).path, context.program_pool.calibration(CASE))
    )


def test_every_product_takes_int8(quantised_model):
    """Convolutions, gates and classifier; what they make stays fp32."""
    products = [node for node in quantised_model.graph.node if node.op_type in onnxruntime_int8.QUANTISED]
    assert quantised_products(quantised_model) == (len(products), len(products))
    made = {name for node in products for name in node.output}
    quantised_again = [
        node for node in quantised_model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] in made
    ]
    inputs = {name for node in products for name in node.input}
    assert all(node.input[0] not in inputs for node in quantised_again)


@pytest.mark.parametrize("level", ["disable", "all"])
def test_the_engine_lies_near_the_computed_floor(context, level):
    """The oracle quantises as the engine does: neither far above nor far below."""
    case = Case("onnxruntime:cpu", SPEC, "int8", 2, EngineOptions(graph_optimization=level))
    found = judge_outputs(
        case,
        context,
        actual=context.program_pool.run(case, context.model_store.images(SPEC, 2)),
        expected=context.tolerances.exact(SPEC, 2),
    )
    assert found.passed
    assert 0.5 < found.worst.relative_l2 / found.tolerance.noise_floor < 2


def test_the_same_images_calibrate_every_batch(context):
    """So that one floor serves all."""
    for batch in (1, 2, 3):
        arrays = context.program_pool.calibration(Case("onnxruntime:cpu", SPEC, "int8", batch))
        rows = np.concatenate(arrays)
        assert {array.shape[0] for array in arrays} == {batch}
        assert len(np.unique(rows, axis=0)) == SYNTHETIC
    assert context.program_pool.calibration(Case("onnxruntime:cpu", SPEC, "fp32", 2)) == ()


def test_without_images_nothing_is_quantised(context):
    """No range is made up, neither by the engine nor by the oracle."""
    path = context.model_store.onnx_file(SPEC).path
    with pytest.raises(CompileError, match="int8 needs calibration images, none were given"):
        open_engine("cpu").prepare(path, shape=(2, 3, 64, 64), precision="int8", options=EngineOptions())
    with pytest.raises(EvaluationError, match="no calibration images"):
        Float64Reference(context.model_store.onnx_file(SPEC), context.cache).noise_floors(
            context.model_store.images(SPEC, 1), arithmetic("int8")
        )
    with pytest.raises(EvaluationError, match="'inputs'"):
        GraphEvaluator(path).evaluate({"inputs": context.model_store.images(SPEC, 1)}, None, arithmetic("int8"))


def test_weights_with_two_hard_links_are_quantised(context, tmp_path):
    """As locality makes them for a model whose weights are in a file of their own; onnx itself refuses such a file."""
    path, images = tmp_path / "model.onnx", context.program_pool.calibration(CASE)
    onnx.save(
        onnx.load(context.model_store.onnx_file(SPEC).path),
        path,
        save_as_external_data=True,
        location="data",
        size_threshold=0,
    )
    alone = quantised(path, images)
    (tmp_path / "second").hardlink_to(tmp_path / "data")
    assert quantised(path, images) == alone


def test_images_that_do_not_fit_are_a_compile_error(context):
    """With the quantiser's reason."""
    with pytest.raises(CompileError, match="quantisation failed: "):
        quantised(context.model_store.onnx_file(SPEC).path, [np.zeros((1, 4, 64, 64), np.float32)])


def test_a_model_without_products_is_not_passed_off_as_int8(tmp_path):
    """There is nothing to quantise."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "none",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 2, 2])],
    )
    path = tmp_path / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(RequestNotHonouredError, match="0 of 0 convolutions and matrix products take int8"):
        quantised(path, [np.ones((1, 3, 2, 2), np.float32)])


def test_images_that_went_unread_are_an_error(context, monkeypatch):
    """A quantiser that calibrates on something else is not believed."""
    monkeypatch.setattr(quantization, "quantize_static", lambda *_, **__: None)
    with pytest.raises(RequestNotHonouredError, match="0 of 1 calibration batches were read"):
        quantised(context.model_store.onnx_file(SPEC).path, context.program_pool.calibration(CASE))


@pytest.mark.parametrize(
    ("precision", "words"),
    [("fp8", "makes int8, not fp8"), ("tf32", "CPUs compute fp32 in full"), ("bf16", "do not compute in bf16")],
)
def test_what_the_cpu_has_not_is_said(precision, words):
    """Each with its reason."""
    assert words in open_engine("cpu").unsupported(precision)


@pytest.mark.parametrize(
    ("precision", "words"),
    [("fp8", "makes int8, not fp8"), ("tf32", "no switch for it"), ("bf16", "the suite writes no bf16 files")],
)
def test_what_the_gpus_provider_has_not_is_said(precision, words):
    """bf16 for want of a file, not of kernels."""
    engine = OnnxRuntimeEngine(onnxruntime, "migraphx", "MIGraphXExecutionProvider")
    assert words in engine.unsupported(precision)


def test_a_model_past_protobufs_limit_is_quantised_with_its_weights_beside(context, monkeypatch, quantised_model):
    """To the same model; here every model is past it."""
    monkeypatch.setattr(onnxruntime_int8, "FEW_WEIGHTS", 0)
    asked = Mock(wraps=quantization.quantize_static)
    monkeypatch.setattr(quantization, "quantize_static", asked)
    made = onnx.load_from_string(
        quantised(context.model_store.onnx_file(SPEC).path, context.program_pool.calibration(CASE))
    )
    assert asked.call_args.kwargs["use_external_data_format"]
    assert tensors(made) == tensors(quantised_model)


def tensors(model):
    """Names and values of the weights, wherever they were stored."""
    return {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in model.graph.initializer}


def test_cuda_computes_tf32_where_it_is_asked_for_only():
    """Its default is on, which would pass for fp32."""
    assert PROVIDER_OPTIONS["CUDAExecutionProvider", ""] == {"use_tf32": "0"}
    assert PROVIDER_OPTIONS["CUDAExecutionProvider", "tf32"] == {"use_tf32": "1"}


def test_quantised_model_is_memoized_for_any_batch(context, monkeypatch, tmp_path):
    """The same images in other batches are the same; others have a model of their own."""
    model, images = context.model_store.onnx_file(SPEC).path, context.program_pool.calibration(CASE)
    quantise = Mock(wraps=quantised)
    monkeypatch.setattr(onnxruntime_int8, "quantised", quantise)
    single = [image[None] for batch in images for image in batch]
    first, second = (memoized_quantised(model, row, tmp_path) for row in (images, single))
    assert first == second
    assert quantise.call_count == 1
    assert memoized_quantised(model, [2 * batch for batch in images], tmp_path) != first
    assert memoized_quantised(model, images, None) == first
    assert quantise.call_count == 3

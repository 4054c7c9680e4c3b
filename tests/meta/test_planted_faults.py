"""Faults planted in the file or around the engine are found; the clean model is not accused, however it is run.

The faulty file plays the engine, ONNX Runtime runs both sides, so that nothing but the fault is judged.
"""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from fixtures.records import Case, EngineOptions, ModelSpec
from fixtures.run.compare import compare, judge_outputs
from fixtures.verdict.message import failure_message

SPEC = ModelSpec("test_nfnet", None, (64, 64))
FOUR = 4


def logits(model, images):
    """What ONNX Runtime makes of a model in memory."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"inputs": images})[0]


def verdict_of(context, actual, spec=SPEC):
    """Hold logits against the reference, as a case on ONNX Runtime at fp32."""
    case = Case("onnxruntime:cpu", spec, "fp32", len(actual))
    return judge_outputs(
        case, context, actual={"logits": actual}, expected=context.reference.expected(spec, len(actual))
    )


def weight(model, layer, part="weight"):
    """The constant of a layer."""
    (found,) = [tensor for tensor in model.graph.initializer if tensor.name == f"{layer}.{part}"]
    return found


def change(model, layer, function, part="weight"):
    """Replace a constant by a function of itself."""
    tensor = weight(model, layer, part)
    array = numpy_helper.to_array(tensor).copy()
    function(array)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def layers(model):
    """Names of the convolutions, gates aside: a weight that feeds a dead unit of their ReLU changes nothing at all."""
    return [node.name for node in model.graph.node if node.op_type == "Conv" and "attn" not in node.name]


def double_largest(array):
    """One weight out of thousands."""
    array.reshape(-1)[np.abs(array).argmax()] *= 2


def negate_one_filter(array):
    """One output channel."""
    array[array.shape[0] // 2] *= -1


def zero(array):
    """Everything is lost."""
    array[...] = 0


def mirror_padding(model):
    """SAME padding of stride-2 convolutions at the wrong end."""
    found = 0
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Conv" and attribute.name == "pads" and list(attribute.ints) == [0, 0, 1, 1]:
                attribute.ints[:] = [1, 1, 0, 0]
                found += 1
    assert found


def tanh_gelu(model):
    """The approximation instead of the exact form."""
    found = [node for node in model.graph.node if node.op_type == "Gelu"]
    assert found
    for node in found:
        node.attribute.append(onnx.helper.make_attribute("approximate", "tanh"))


def drop_gate(model):
    """A channel gate that is not applied: its product passes the features on."""
    node = next(
        node for node in model.graph.node if node.op_type == "Mul" and "attn" in node.name + "".join(node.input)
    )
    features = node.input[0] if "attn" not in node.input[0] else node.input[1]
    node.op_type = "Identity"
    node.input[:] = [features]


CONSTANTS = {
    "largest weight doubled": (double_largest, "weight"),
    "one filter negated": (negate_one_filter, "weight"),
    "bias lost": (zero, "bias"),
}
STRUCTURE = {
    "padding mirrored": (mirror_padding, "dm_nfnet_f0"),
    "tanh GELU": (tanh_gelu, "dm_nfnet_f0"),
    "gate dropped": (drop_gate, "test_nfnet"),
}


@pytest.fixture(scope="module")
def clean(context):
    """The file in memory, the images."""
    return onnx.load(context.model_store.onnx_file(SPEC).path), context.model_store.images(SPEC, FOUR)


@pytest.mark.parametrize("fault", CONSTANTS)
def test_a_wrong_constant_in_any_layer_is_found(context, clean, fault):
    """Convolution by convolution; the message says by how much of what is allowed."""
    function, part = CONSTANTS[fault]
    for layer in layers(clean[0]):
        model = onnx.ModelProto()
        model.CopyFrom(clean[0])
        change(model, layer, function, part)
        found = verdict_of(context, logits(model, clean[1]))
        assert not found.passed, layer
        assert f"{found.units:.4g}" in failure_message(found, reference="ONNX Runtime at fp32")


@pytest.mark.slow
@pytest.mark.parametrize("fault", STRUCTURE)
def test_a_wrong_attribute_is_found(context, fault):
    """Padding at the wrong end, the other GELU, a gate that is not there."""
    plant, variant = STRUCTURE[fault]
    spec = ModelSpec(variant, None, (64, 64))
    model, images = onnx.load(context.model_store.onnx_file(spec).path), context.model_store.images(spec, 1)
    plant(model)
    found = verdict_of(context, logits(model, images), spec)
    assert not found.passed
    assert found.units > 2 * found.tolerance.units


RUNTIME = {
    "swapped": (lambda good, _: good[[1, 0, 2, 3]], "image 0 got the answer of image 1"),
    "stale": (lambda _, other: other, "disagrees"),
    "zeros": (lambda good, _: good * 0, "all zeros: never written?"),
    "one row lost": (lambda good, _: good * (np.arange(FOUR) != 2)[:, None], "image 2 is all zeros"),
    "NaN": (lambda good, _: good * np.nan, "NaN throughout"),
    "first row everywhere": (lambda good, _: np.repeat(good[:1], FOUR, axis=0), "every image got the same answer"),
    "uninitialised tail": (lambda good, _: np.where(np.arange(1000) >= 990, 3e8, good), "of 1000 values of image"),
    "wrong stride": (lambda good, _: good.reshape(-1)[: FOUR * 500].repeat(2).reshape(good.shape), "disagrees"),
    "cut to fp16": (lambda good, _: good.astype(np.float16).astype(np.float32), "disagrees"),
}


@pytest.mark.parametrize("fault", RUNTIME)
def test_faults_of_the_runtime_are_found(context, clean, fault):
    """Right numbers at the wrong place, old ones, or none; those with a face are called by name."""
    good = logits(clean[0], clean[1])
    other = logits(clean[0], clean[1][::-1].copy() * 0.5)
    function, words = RUNTIME[fault]
    found = verdict_of(context, function(good, other).astype(np.float32))
    assert not found.passed
    assert words in failure_message(found, reference="ONNX Runtime at fp32")


@pytest.mark.parametrize("level", ["disable", "basic", "extended", "all"])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_clean_model_is_not_accused(context, level, threads):
    """Every way to run it is within the tolerance, at every precision that ONNX Runtime has."""
    options = EngineOptions(threads=threads, graph_optimization=level)
    for precision in ("fp32", "fp16"):
        for batch in (1, 5):
            found = compare(Case("onnxruntime:cpu", SPEC, precision, batch, options), context)
            assert found.passed, found.units


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("size", "opset"), [((64, 64), 13), ((97, 131), 20)])
def test_other_seeds_sizes_and_opsets_are_not_accused(context, seed, size, opset):
    """The tolerance is not made for one model."""
    for precision in ("fp32", "fp16"):
        case = Case("onnxruntime:cpu", ModelSpec("test_nfnet", None, size, seed, opset), precision, 2)
        assert compare(case, context).passed

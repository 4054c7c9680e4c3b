"""The error that a saved run keeps of its answers, on a real engine."""

from types import SimpleNamespace

import numpy as np
import pytest

from fixtures.onnx_file import weight_count
from fixtures.plugin.figures import PEAKS, Figures
from fixtures.records import Case, ModelSpec
from fixtures.run.context import RunContext
from fixtures.run.reference import BATCH as REFERENCE_CHUNK

SPEC = ModelSpec("test_nfnet", None, (64, 64))
PARAMETERS = 378_640  # of timm's test_nfnet, its gains and the standardisation's included; folded ones are fewer


@pytest.fixture(scope="module")
def context(runner):
    """Engines and models of these tests."""
    with RunContext.create(runner.cache) as context:
        yield context


def figures(context, batch=2, precision="fp32"):
    """Figures of a case."""
    config = SimpleNamespace(stash={PEAKS: {}})
    return Figures(config, context, Case("onnxruntime:cpu", SPEC, precision, batch))


def outputs(context, batch=2):
    """What is expected, to be spoilt."""
    return {name: array.copy() for name, array in context.reference.expected(SPEC, batch).items()}


def test_the_error_is_that_of_the_worst_image_in_u(context):
    """An eighth of a percent of the second image's norm, in roundings of fp32 and of fp16."""
    off = outputs(context)
    for array in off.values():
        array[1] *= 1.00125
    assert figures(context).error(off) == pytest.approx(0.00125 * 2**24, rel=0.01)
    assert figures(context, precision="fp16").error(off) == pytest.approx(0.00125 * 2**11, rel=0.01)
    assert figures(context).error(outputs(context)) == 0.0


def test_of_a_large_batch_the_first_images_are_compared(context):
    """The reference computes a few images once, whatever the batches are."""
    case = Case("onnxruntime:cpu", SPEC, "fp32", 3 * REFERENCE_CHUNK)
    answers = context.program_pool.run(case, context.model_store.images(SPEC, case.batch))
    assert 0 <= figures(context, case.batch).error(answers) < 20
    for array in answers.values():
        array[REFERENCE_CHUNK:] = 7
    assert figures(context, case.batch).error(answers) < 20


@pytest.mark.parametrize("spoilt", [lambda array: array * np.nan, lambda array: array[:, 1:]])
def test_where_no_numbers_can_be_compared_there_is_no_error(context, spoilt):
    """NaN, or another shape: other tests say what is wrong."""
    off = {name: spoilt(array) for name, array in outputs(context).items()}
    assert figures(context).error(off) is None


def test_weights_are_counted_from_the_file(context):
    """Between a tenth less and a tenth more than timm's network has, for gains are folded into biases."""
    assert weight_count(context.model_store.onnx_file(SPEC).path) == pytest.approx(PARAMETERS, rel=0.1)


def test_a_precision_without_a_peak_has_no_floor(context):
    """On a CPU nobody measured eight bits."""
    found = figures(context, precision="int8")
    program = context.program_pool.program(Case("onnxruntime:cpu", SPEC, "fp32", 2))
    assert "no peak is known at int8" in found.roofline(program)["unknown"]

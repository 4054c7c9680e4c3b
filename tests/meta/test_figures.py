"""The error that a saved run keeps of its answers, on a real engine."""

from types import SimpleNamespace

import numpy as np
import pytest

from fixtures.onnx_file import weight_count
from fixtures.pipeline import REFERENCE_CHUNK, Laboratory
from fixtures.plugin.figures import PEAKS, Figures
from fixtures.records import Case, ModelSpec

SPEC = ModelSpec("test_nfnet", None, (64, 64))
PARAMETERS = 378_640  # of timm's test_nfnet, its gains and the standardisation's included; folded ones are fewer


@pytest.fixture(scope="module")
def laboratory(runner):
    """Engines and models of these tests."""
    with Laboratory(runner.cache) as laboratory:
        yield laboratory


def figures(laboratory, batch=2, precision="fp32"):
    """Figures of a case."""
    config = SimpleNamespace(stash={PEAKS: {}})
    return Figures(config, laboratory, Case("onnxruntime:cpu", SPEC, precision, batch))


def outputs(laboratory, batch=2):
    """What is expected, to be spoilt."""
    return {name: array.copy() for name, array in laboratory.expected(SPEC, batch).items()}


def test_the_error_is_that_of_the_worst_image_in_u(laboratory):
    """An eighth of a percent of the second image's norm, in roundings of fp32 and of fp16."""
    off = outputs(laboratory)
    for array in off.values():
        array[1] *= 1.00125
    assert figures(laboratory).error(off) == pytest.approx(0.00125 * 2**24, rel=0.01)
    assert figures(laboratory, precision="fp16").error(off) == pytest.approx(0.00125 * 2**11, rel=0.01)
    assert figures(laboratory).error(outputs(laboratory)) == 0.0


def test_of_a_large_batch_the_first_images_are_compared(laboratory):
    """The reference computes a few images once, whatever the batches are."""
    case = Case("onnxruntime:cpu", SPEC, "fp32", 3 * REFERENCE_CHUNK)
    answers = laboratory.run(case, laboratory.images(SPEC, case.batch))
    assert 0 <= figures(laboratory, case.batch).error(answers) < 20
    for array in answers.values():
        array[REFERENCE_CHUNK:] = 7
    assert figures(laboratory, case.batch).error(answers) < 20


@pytest.mark.parametrize("spoilt", [lambda array: array * np.nan, lambda array: array[:, 1:]])
def test_where_no_numbers_can_be_compared_there_is_no_error(laboratory, spoilt):
    """NaN, or another shape: other tests say what is wrong."""
    off = {name: spoilt(array) for name, array in outputs(laboratory).items()}
    assert figures(laboratory).error(off) is None


def test_weights_are_counted_from_the_file(laboratory):
    """Between a tenth less and a tenth more than timm's network has, for gains are folded into biases."""
    assert weight_count(laboratory.model(SPEC).path) == pytest.approx(PARAMETERS, rel=0.1)


def test_a_precision_without_a_peak_has_no_floor(laboratory):
    """On a CPU nobody measured eight bits."""
    found = figures(laboratory, precision="int8")
    program = laboratory.program(Case("onnxruntime:cpu", SPEC, "fp32", 2))
    assert "no peak is known at int8" in found.roofline(program)["unknown"]

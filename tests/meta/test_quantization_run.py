"""The quantisation of a case in runs of the suite."""

import re
from dataclasses import replace

import pytest

from fixtures.engines.onnxruntime.descriptor import INT8
from fixtures.onnx_file import load_model
from fixtures.onnx_quantization import quantized_tensors
from fixtures.precisions import QUANTIZED_TYPES, QuantizationRule
from fixtures.records import ModelSpec
from fixtures.run.quantization import NOT_AS_DERIVED, blocks_of_tensors
from fixtures.verdict.known_failures import QUANTIZATION
from tests.meta.faulty_comparison import OTHER_SCALE

TEST = "tests/conformance/test_quantization.py"
FLAT = "tests/conformance/test_isolation.py::test_flat_images_match_the_float64_reference"
WORDS = (TEST, "--precision", "int8,fp32", "--batch", "1", "--batch", "2")
FP8_EVERYWHERE = QuantizationRule(QUANTIZED_TYPES["float8e4m3fn"], inputs="all")
COST = r"^  onnxruntime:cpu-test_nfnet@64-int8-b1 +distance from fp32 0\.\d+, same top-1 class on \d of \d images$"
KNOWN = f"""
from fixtures.verdict import known_failures
known_failures.KNOWN_FAILURES = (
    known_failures.KnownFailure("onnxruntime:*", {QUANTIZATION!r}, "another scale", "issue 7"),)
"""


def test_calibrated_case_is_checked_once(runner):
    """At its smallest batch; the summary has what quantisation costs."""
    done = runner.small(*WORDS)
    assert re.search(r"\b1 passed in", done.out)
    assert re.search(COST, done.out, re.MULTILINE)


def test_other_quantisation_than_derived_fails(runner):
    done = runner.small(*WORDS, plugin=OTHER_SCALE, code=1)
    assert f"{NOT_AS_DERIVED}: 1\n" in done.out
    assert re.search(r"^  \S+  \S+: scale .*, expected .* \(1\.00% off\)$", done.out, re.MULTILINE)
    assert re.search(COST, done.out, re.MULTILINE)
    assert re.search(r"^FAIL onnxruntime:cpu-\S+-int8-b1 +no number: the quantisation", done.out, re.MULTILINE)


def test_other_quantisation_can_be_a_known_failure(runner):
    done = runner.small(*WORDS, plugin=OTHER_SCALE + KNOWN)
    assert re.search(r"\b1 xfailed in", done.out)


def test_floating_point_case_is_deselected(runner):
    done = runner.small(TEST, "--precision", "fp32", "--batch", "1", code=pytest.ExitCode.NO_TESTS_COLLECTED)
    assert "1 deselected" in done.out


def test_no_flat_image_of_a_calibrated_case_is_skipped(runner):
    """Values at ties are equal in a whole flat image, so its own noise floor is high; it counts where it is needed."""
    words = ("--variant", "digits_nfnet", "--precision", "int8", "--batch", "1")
    done = runner.pytest(FLAT, "--engine", "onnxruntime:cpu", *words)
    assert re.search(r"\b5 passed in", done.out)


def test_noise_floor_of_flat_images_counts_where_that_of_the_model_is_exceeded(runner):
    """That of the model is far too low here."""
    low = "from fixtures.run.tolerances import Tolerances\nTolerances._model_floor = lambda *_: 1e-9\n"
    done = runner.small(FLAT, "--precision", "fp32", "--batch", "1", plugin=low)
    assert re.search(r"\b5 passed", done.out)


@pytest.mark.parametrize("rule", [INT8, FP8_EVERYWHERE], ids=["int8", "fp8"])
def test_every_quantised_tensor_has_a_block(context, rule):
    """Weights, and tensors within the steps of an operator, too."""
    spec = ModelSpec("test_nfnet", size=(64, 64))
    graph, derived = (context.model_store.onnx_file(model).path for model in (spec, replace(spec, quantization=rule)))
    blocks = blocks_of_tensors(graph, derived)
    assert {row.name for row in quantized_tensors(load_model(derived))} <= blocks.keys()

"""Engine faults of a catalogue are detected and located; an engine without fault is never flagged.

A fast part of the study in tests/studies/faults. ONNX Runtime plays the faulty engine.
"""

import numpy as np
import onnx
import pytest

from fixtures.records import Case, ModelSpec
from fixtures.run.compare import compare, judge_outputs
from tests.meta.tiny_models import by_onnxruntime
from tests.studies.faults import power
from tests.studies.faults.catalogue import CATALOGUE, RUNTIME, convolutions
from tests.studies.faults.planting import copy_model

SMALL, SPEC = ModelSpec("test_nfnet", None, (32, 32)), ModelSpec("test_nfnet", None, (64, 64))
FAULTS = {fault.name: fault for fault in CATALOGUE}
SHARE = 0.25  # of the catalogue in a fast test


@pytest.fixture
def bench(context, tmp_path):
    """Make a bench: a model at a precision."""
    return lambda precision, spec=SMALL: power.Bench(context, spec, precision, tmp_path)


def missed(rows):
    """Faults that are visible in the logits and were not caught."""
    assert rows
    return [row for row in rows if row.visible and not row.caught]


@pytest.mark.parametrize("precision", power.PRECISIONS)
def test_visible_faults_are_caught_and_no_clean_engine_is_flagged(bench, precision):
    """A part of the catalogue; with and without optimisation, with one thread and two; blocks and nodes."""
    made = bench(precision)
    assert missed(power.study(made, share=SHARE)) == []
    assert power.false_alarms(made, levels=2)["this suite"] == 0
    assert made.search_clean()[0].clean


def test_fp32_instead_of_int8_is_found_by_the_request_check(bench):
    """Its numbers are more accurate than requested."""
    rows = {row.fault: row for row in power.study(bench("int8"), share=0)}
    assert rows["fp32 instead of int8"].by_request_check
    assert rows["calibration ignored"].caught


@pytest.mark.parametrize("name", ["largest weight doubled", "one filter negated", "bias lost"])
def test_fault_in_any_convolution_is_caught_in_the_logits(context, name):
    clean, images = onnx.load(context.model_store.onnx_file(SPEC).path), context.model_store.images(SPEC, 4)
    count = len(convolutions(clean))
    for index in range(count):
        faulty = copy_model(clean)
        place = FAULTS[name].plant(faulty, index / count)
        assert not verdict(context, by_onnxruntime(faulty, images)["logits"]).passed, place


@pytest.mark.parametrize("name", [fault.name for fault in CATALOGUE if fault.level == RUNTIME and fault.name != "race"])
def test_faults_of_the_runtime_are_caught_in_the_logits(context, name):
    """Correct values in the wrong place, old ones, or none."""
    model, images = onnx.load(context.model_store.onnx_file(SPEC).path), context.model_store.images(SPEC, 4)
    run = FAULTS[name].plant(lambda images: by_onnxruntime(model, images)["logits"])
    run(images * np.float32(0.5))
    assert not verdict(context, run(images)).passed


def verdict(context, actual, spec=SPEC):
    """Judge logits as those of a case on ONNX Runtime at fp32."""
    case = Case("onnxruntime:cpu", spec, "fp32", len(actual))
    return judge_outputs(case, context, actual={"logits": actual}, expected=context.reference.expected(case))


@pytest.mark.parametrize(("seed", "size", "opset"), [(1, (64, 64), 13), (2, (97, 131), 20), (3, (97, 131), 13)])
def test_clean_engine_passes_with_other_seeds_sizes_and_opsets(context, seed, size, opset):
    """The tolerance is not tuned for one model."""
    for precision in ("fp32", "fp16"):
        assert compare(
            Case("onnxruntime:cpu", ModelSpec("test_nfnet", None, size, seed, opset), precision, 2), context
        ).passed

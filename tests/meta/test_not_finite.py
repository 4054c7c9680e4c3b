"""Classifiers whose correct outputs are not all finite: a masked class, an overflow, NaN throughout."""

import numpy as np
import pytest

from fixtures.accuracy.predictions import min_flip_errors, rank_classes
from fixtures.errors import EvaluationError
from fixtures.localize.score import score_tensor
from fixtures.precisions import FP16, FP32
from fixtures.records import Case, ModelSpec
from fixtures.reference.distance import relative_errors
from fixtures.run.context import RunContext
from tests.meta.tiny_models import saved

CLASSES = 10


def classifier(folder, added, factor=1.0):
    """Save a classifier whose logits are multiplied by ``factor``; ``added`` is added to the last one."""
    weights = {
        "w": np.random.default_rng(0).standard_normal((CLASSES, 192)).astype(np.float32),
        "factor": np.float32(factor),
        "added": np.where(np.arange(CLASSES) == CLASSES - 1, added, 0).astype(np.float32),
    }
    nodes = (
        ("Flatten", ["x"], ["flat"], {}),
        ("Gemm", ["flat", "w"], ["products"], {"transB": 1}),
        ("Mul", ["products", "factor"], ["scaled"], {}),
        ("Add", ["scaled", "added"], ["y"], {}),
    )
    return saved(folder / "classifier.onnx", *nodes, shape=["batch", 3, 8, 8], weights=weights)


@pytest.mark.parametrize("added", [-np.inf, np.inf, np.nan])
def test_conformance_tests_pass_for_a_class_that_is_never_finite(runner, tmp_path, added):
    """The other classes are compared as usual."""
    model = f"--model={classifier(tmp_path, added)}"
    done = runner.pytest(
        "tests/conformance", "--engine", "onnxruntime:cpu", model, "--precision", "fp32", "--batch", "1,3"
    )
    assert done.code == 0, done.text
    assert "pass onnxruntime:cpu-classifier-fp32-b3" in done.out


@pytest.mark.parametrize(("added", "factor"), [(0, 1e38), (0, np.nan)])
def test_there_is_no_tolerance_if_rounding_itself_overflows(tmp_path, added, factor):
    """An infinite noise floor would allow anything."""
    case = Case("onnxruntime:cpu", ModelSpec(path=classifier(tmp_path, added, factor)), "fp32", 2)
    with RunContext.create(tmp_path) as context:
        for images in (None, context.model_store.images(case.model, 2)):
            with pytest.raises(EvaluationError):
                context.tolerances.tolerance(case, images)


def test_comparison_does_not_judge_an_overflow(runner, tmp_path):
    """Exit code 2."""
    path = classifier(tmp_path, 0, 1e38)
    done = runner.compare("--engine", "onnxruntime:cpu", f"--model={path}", "--inputs", "2")
    assert done.code == 2, done.text
    assert "AGREE" not in done.text


def test_masked_class_ranks_last_and_an_image_with_nan_has_no_ranking():
    """Nor has one with +Inf, or without any finite logit."""
    logits = np.array([[1.0, 2.0, -np.inf], [np.nan, 1.0, 2.0], [np.inf, 1.0, 2.0], [-np.inf] * 3])
    assert rank_classes(logits) == [(1, 0, 2), (), (), ()]
    assert min_flip_errors(logits[:1], [(0, 1, 2)]) == pytest.approx(1 / np.sqrt(2) / np.linalg.norm([1.0, 2.0]))
    assert min_flip_errors(logits[:1], [(2, 1, 0)]) == np.inf


def test_image_without_finite_outputs_does_not_change_the_input_rounding_error(tmp_path):
    """Nothing changes where no value is finite on either side."""
    spec = ModelSpec(path=classifier(tmp_path, 0))
    with RunContext.create(tmp_path) as context:
        images = context.model_store.images(spec, 2)
        plain = context.tolerances.float64(spec).input_rounding_error(images)
        images[1] = np.nan
        assert 0 < context.tolerances.float64(spec).input_rounding_error(images) <= plain < 1e-5


@pytest.mark.parametrize(
    ("actual", "error"), [([1.0, 3.0, 2.0], np.inf), ([1.0, np.nan, np.inf], np.inf), ([1.0, np.nan, 2.0], 0.0)]
)
def test_score_is_infinite_where_only_one_side_is_finite(actual, error):
    """Where neither side is, the other values are compared."""
    exact = np.array([[1.0, np.nan, 2.0]])
    rounding = [np.where(np.isnan(exact), 0.0, 1e-7)]
    found = score_tensor("x", actual=np.array([actual]), exact=exact, rounding_errors=rounding, stored=FP32, among=1)
    assert found.error == error


def test_score_passes_where_rounding_itself_overflows():
    """Beside a channel of zeros."""
    exact = np.zeros((1, 2, 4))
    exact[0, 0] = 7e4
    rounding = [np.where(exact, np.inf, 0.0)]
    assert not score_tensor("x", actual=exact, exact=exact, rounding_errors=rounding, stored=FP16, among=1).failed


def test_relative_error_is_infinite_where_only_one_side_is_finite():
    """Where both sides have the same NaN or Inf, the finite values are measured."""
    exact = np.array([[3.0, 4.0, np.inf], [3.0, 4.0, np.nan], [3.0, 4.0, -np.inf], [3.0, 4.0, 0.0], [np.nan] * 3])
    actual = exact.copy()
    actual[:, 0] = 3.5
    actual[2, 2], actual[3, 2] = np.inf, np.nan
    actual[4] = np.nan
    assert relative_errors({"x": actual}, {"x": exact}).tolist() == [0.1, 0.1, np.inf, np.inf, np.inf]

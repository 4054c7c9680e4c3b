"""Classifiers whose right outputs are not all finite: a masked class, an overflow, NaN throughout."""

import numpy as np
import pytest

from fixtures.accuracy.predictions import min_flip_errors, rank_classes
from fixtures.errors import EvaluationError
from fixtures.images.labels import top_k
from fixtures.localize.score import score_tensor
from fixtures.precisions import FP16, FP32
from fixtures.records import Case, ModelSpec
from fixtures.reference.float64 import relative_errors
from fixtures.run.context import RunContext
from tests.meta.faulty_comparison import fault
from tests.meta.tiny_models import saved

CLASSES = 10
LAST = np.arange(CLASSES) == CLASSES - 1


def classifier(folder, added, factor=1.0):
    """Ten scores of an image, times ``factor``, plus ``added``."""
    weights = np.random.default_rng(0).standard_normal((CLASSES, 192)).astype(np.float32)
    constants = {"w": weights, "f": np.array(factor, np.float32), "a": np.where(LAST, added, 0).astype(np.float32)}
    nodes = [
        ("Flatten", "x", ["flat"], {}),
        ("Gemm", ["flat", "w"], ["products"], {"transB": 1}),
        ("Mul", ["products", "f"], ["scaled"], {}),
        ("Add", ["scaled", "a"], "y", {}),
    ]
    return saved(folder / "classifier.onnx", *nodes, shape=["batch", 3, 8, 8], weights=constants)


@pytest.mark.parametrize("added", [-np.inf, np.nan])
def test_class_that_is_never_finite_fails_no_test(runner, tmp_path, added):
    """All tests of the suite pass on a correct engine; the other classes are still compared."""
    options = ["--engine", "onnxruntime:cpu", "--precision", "fp32", "--batch", "1,3"]
    done = runner.pytest("tests/conformance", *options, f"--model={classifier(tmp_path, added)}")
    assert "pass onnxruntime:cpu-classifier-fp32-b3" in done.out


@pytest.mark.parametrize(("added", "factor"), [(0, 1e38), (0, np.nan)])
def test_model_without_finite_outputs_has_no_noise_floor(tmp_path, added, factor):
    """An infinite one would allow anything."""
    case = Case("onnxruntime:cpu", ModelSpec(path=classifier(tmp_path, added, factor)), "fp32", 2)
    with RunContext.create(tmp_path, isolation=None) as context:
        for images in (None, context.model_store.images(case.model, 2)):
            with pytest.raises(EvaluationError):
                context.tolerances.tolerance(case, images)


def test_signalling_nan_is_an_ordinary_failure(runner, tmp_path):
    """Uninitialised memory may hold one, and converting it raises a warning."""
    spoil = "next(iter(results.values())).view(np.uint32).flat[3] = 0x7F800001"
    words = ("--engine", "onnxruntime:cpu", f"--model={classifier(tmp_path, 0)}", "--inputs", "2", "--explain")
    done = runner.compare(*words, patch='import warnings\nwarnings.simplefilter("error")' + fault(spoil), code=1)
    assert "1 NaN and 0 Inf, expected 0 NaN and 0 Inf; first at [0, 3]" in done.out
    assert "localisation failed" not in done.out
    scores = np.array([[1, 0x7F800001, 3]], np.uint32).view(np.float32)
    assert rank_classes(scores) == [()]
    assert top_k(scores[0], 2, ["a", "b", "c"]) == ()


def test_masked_class_is_ranked_last():
    """An image with NaN, Inf or nothing finite has no ranking."""
    logits = np.array([[1.0, 2.0, -np.inf], [np.nan, 1.0, 2.0], [np.inf, 1.0, 2.0], [-np.inf] * 3])
    assert rank_classes(logits) == [(1, 0, 2), (), (), ()]
    assert min_flip_errors(logits[:1], [(0, 1, 2)]) == pytest.approx(1 / np.sqrt(2) / np.linalg.norm([1.0, 2.0]))
    assert min_flip_errors(logits[:1], [(2, 1, 0)]) == np.inf


def test_image_without_finite_outputs_does_not_change_the_input_rounding_error(tmp_path):
    spec = ModelSpec(path=classifier(tmp_path, 0))
    with RunContext.create(tmp_path, isolation=None) as context:
        images = context.model_store.images(spec, 2)
        plain = context.tolerances.float64(spec).input_rounding_error(images)
        images[1] = np.nan
        assert 0 < context.tolerances.float64(spec).input_rounding_error(images) <= plain < 1e-5


def test_tensor_with_a_nonfinite_value_on_one_side_has_an_infinite_error():
    """If both sides have it, the other values are compared."""
    exact = np.array([[1.0, np.nan, 2.0]])
    rounding = [np.where(np.isnan(exact), 0.0, 1e-7)]
    facts = {"exact": exact, "rounding_errors": rounding, "stored": FP32, "among": 1}
    for actual, error in (([[1.0, 3.0, 2.0]], np.inf), ([[1.0, np.nan, np.inf]], np.inf), (exact, 0.0)):
        assert score_tensor("x", actual=np.array(actual), **facts).error == error


def test_block_whose_rounding_overflows_passes():
    """A channel of zeros beside it does not matter."""
    exact = np.zeros((1, 2, 4))
    exact[0, 0] = 7e4
    rounding = [np.where(exact, np.inf, 0.0)]
    assert not score_tensor("x", actual=exact, exact=exact, rounding_errors=rounding, stored=FP16, among=1).failed


def test_any_error_of_zero_is_infinite():
    """So an image of which rounding alone changes an output of zero has no noise floor, and is not judged."""
    zeros = np.zeros((2, 3))
    assert relative_errors({"x": np.array([[0, 0, 0], [0, 1e-30, 0]])}, {"x": zeros}).tolist() == [0, np.inf]


def test_relative_error_is_infinite_only_where_nonfinite_values_differ():
    """The finite values are compared without them."""
    exact = np.array([[3.0, 4.0, np.inf], [3.0, 4.0, np.nan], [3.0, 4.0, -np.inf], [3.0, 4.0, 0.0], [np.nan] * 3])
    actual = exact.copy()
    actual[:, 0] = 3.5
    actual[2, 2], actual[3, 2] = np.inf, np.nan
    actual[4] = np.nan
    assert relative_errors({"x": actual}, {"x": exact}).tolist() == [0.1, 0.1, np.inf, np.inf, np.inf]

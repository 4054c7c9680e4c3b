"""Classifiers whose right answers are not all finite: a masked class, an overflow, NaN throughout."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from fixtures.accuracy.predictions import min_flip_errors, rank_classes
from fixtures.errors import EvaluationError
from fixtures.localize.score import score_tensor
from fixtures.precisions import FP16, FP32
from fixtures.records import Case, ModelSpec
from fixtures.reference.distance import relative_errors
from fixtures.run.context import RunContext

CLASSES = 10
LAST = np.arange(CLASSES) == CLASSES - 1


def classifier(folder, added, factor=1.0):
    """Ten scores of an image, times ``factor``, plus ``added``."""
    weights = np.random.default_rng(0).standard_normal((CLASSES, 192)).astype(np.float32)
    constants = {"w": weights, "f": np.float32(factor), "a": np.where(LAST, added, 0).astype(np.float32)}
    nodes = [
        helper.make_node("Flatten", ["inputs"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["products"], transB=1),
        helper.make_node("Mul", ["products", "f"], ["scaled"]),
        helper.make_node("Add", ["scaled", "a"], ["scores"]),
    ]
    ends = [("inputs", ["batch", 3, 8, 8]), ("scores", ["batch", CLASSES])]
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends)
    known = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "classifier", [given], [made], known)
    path = folder / "classifier.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("added", [-np.inf, np.inf, np.nan])
def test_a_class_that_is_never_finite_accuses_nobody(runner, tmp_path, added):
    """All tests of the suite, on a clean engine; the other classes are judged as ever."""
    done = runner.pytest(
        "tests/conformance",
        "--engine",
        "onnxruntime:cpu",
        f"--model={classifier(tmp_path, added)}",
        "--precision",
        "fp32",
        "--batch",
        "1,3",
    )
    assert done.code == 0, done.text
    assert "pass onnxruntime:cpu-classifier-fp32-b3" in done.out


@pytest.mark.parametrize(("added", "factor"), [(0, 1e38), (0, np.nan)])
def test_where_rounding_itself_gives_no_numbers_nothing_is_judged(tmp_path, added, factor):
    """A floor without bounds would allow anything."""
    case = Case("onnxruntime:cpu", ModelSpec(path=classifier(tmp_path, added, factor)), "fp32", 2)
    with RunContext.create(tmp_path) as context:
        for images in (None, context.model_store.images(case.model, 2)):
            with pytest.raises(EvaluationError, match="no noise floor"):
                context.tolerances.tolerance(case, images)


def test_the_shell_does_not_call_that_agreement(runner, tmp_path):
    """Exit code 2, and what to do."""
    path = classifier(tmp_path, 0, 1e38)
    done = runner.compare("--engine", "onnxruntime:cpu", f"--model={path}", "--inputs", "2")
    assert done.code == 2, done.text
    assert "could not judge: " in done.text
    assert "no noise floor" in done.text
    assert "AGREE" not in done.text


def test_a_masked_class_is_the_last_answer():
    """An image that has other answers has them; one that has none, or too much of one, has no answer."""
    logits = np.array([[1.0, 2.0, -np.inf], [np.nan, 1.0, 2.0], [np.inf, 1.0, 2.0], [-np.inf] * 3])
    assert rank_classes(logits) == [(1, 0, 2), (), (), ()]
    needed = min_flip_errors(logits[:1], [(0, 1, 2)])
    assert needed == pytest.approx(1 / np.sqrt(2) / np.linalg.norm([1.0, 2.0]))
    assert min_flip_errors(logits[:1], [(2, 1, 0)]) == np.inf


def test_an_image_without_an_answer_is_not_the_inputs_fault(tmp_path):
    """Where nothing is finite on either side nothing has moved."""
    spec = ModelSpec(path=classifier(tmp_path, 0))
    with RunContext.create(tmp_path) as context:
        images = context.model_store.images(spec, 2)
        plain = context.tolerances.float64(spec).input_rounding_error(images)
        images[1] = np.nan
        assert 0 < context.tolerances.float64(spec).input_rounding_error(images) <= plain < 1e-5


def test_a_number_where_there_is_none_is_all_wrong():
    """As the other way about; where both have none the rest is judged."""
    exact, kind = np.array([[1.0, np.nan, 2.0]]), FP32
    rounding = [np.where(np.isnan(exact), 0.0, 1e-7)]
    for actual, floors in (([[1.0, 3.0, 2.0]], np.inf), ([[1.0, np.nan, np.inf]], np.inf), (exact, 0.0)):
        assert (
            score_tensor(
                "x", actual=np.array(actual), exact=exact, rounding_errors=rounding, stored=kind, among=1
            ).error
            == floors
        )


def test_a_block_whose_rounding_overflows_is_no_crash():
    """Beside a channel of zeros."""
    exact = np.zeros((1, 2, 4))
    exact[0, 0] = 7e4
    found = score_tensor(
        "x", actual=exact, exact=exact, rounding_errors=[np.where(exact, np.inf, 0.0)], stored=FP16, among=1
    )
    assert not found.failed


def test_errors_of_numbers_that_are_not_finite():
    """Alike on both sides none, else infinite; the finite ones are measured without them."""
    exact = np.array([[3.0, 4.0, np.inf], [3.0, 4.0, np.nan], [3.0, 4.0, -np.inf], [3.0, 4.0, 0.0], [np.nan] * 3])
    actual = exact.copy()
    actual[:, 0] = 3.5
    actual[2, 2], actual[3, 2] = np.inf, np.nan
    actual[4] = np.nan
    assert relative_errors({"x": actual}, {"x": exact}).tolist() == [0.1, 0.1, np.inf, np.inf, np.inf]

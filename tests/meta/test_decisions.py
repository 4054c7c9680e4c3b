"""Decisions may differ only where the margin is within the tolerance: ArgMax, TopK, comparisons."""

import numpy as np
import pytest

from fixtures.reference.decisions import sources, undecided
from fixtures.reference.evaluator import GraphEvaluator
from fixtures.verdict.tolerances import Tolerance
from fixtures.verdict.verdict import DECISION, compare_outputs
from tests.meta.tiny_models import saved

X = np.array([[1.0, 5.0, 2.0, 5.0 + 1e-7], [4.0, 1.0, 3.0, 2.0]])
MARGINS = np.full(2, 1e-6)
NODES = {
    "ArgMax": [("ArgMax", ["x2"], ["y"], {"axis": 1, "keepdims": 0})],
    "TopK": [("TopK", ["x2", "k"], ["v", "y"], {})],
    "Greater": [("Greater", ["x2", "t"], ["y"], {})],
    "after a cast": [("ArgMax", ["x2"], ["a"], {"axis": 1}), ("Cast", ["a"], ["y"], {"to": 6})],
}
OPEN = {"ArgMax": [True, False], "TopK": [[True, True, False], [False] * 3], "after a cast": [[True], [False]]}


@pytest.mark.parametrize("name", NODES)
def test_only_near_ties_are_undecided(tmp_path, name):
    """Through the nodes after the decision, too."""
    weights = {"k": np.array([3]), "t": np.array(5.0 + 5e-8, np.float32), "one": np.array(1, np.float32)}
    nodes = (("Mul", ["x", "one"], ["x2"], {}), *NODES[name])
    evaluator = GraphEvaluator(saved(tmp_path / "one.onnx", *nodes, shape=[2, 4], weights=weights))
    made_from = sources(evaluator, {"x": X})
    assert made_from == {"y": ["x2"]}
    found = undecided(evaluator, {"x": X}, MARGINS, made_from)["y"]
    expected = OPEN.get(name, (np.abs(X - 5) < 1e-6).tolist())
    assert found.tolist() == expected


@pytest.mark.parametrize(("actual", "passes"), [([3, 0], True), ([1, 0], True), ([3, 2], False)])
def test_a_decision_differs_only_where_it_is_undecided(actual, passes):
    """However small the numbers are: a class is no quantity."""
    sides = {"actual": {"k": np.array(actual)}, "expected": {"k": np.array([3, 0])}}
    tolerance = Tolerance("fp32", "fp32", 1.0)
    undecided_places = {"k": np.array([True, False])}
    verdict = compare_outputs(case_id="", precision="fp32", tolerance=tolerance, undecided=undecided_places, **sides)
    assert verdict.failed_check != DECISION if passes else verdict.failed_check == DECISION
    assert verdict.failing_images == (() if passes else (1,))

"""Scores of locality are computed once: the same tensors of an engine are not held against the oracle again."""

import numpy as np
import onnxruntime
import pytest

from fixtures.localize.search import explain
from fixtures.records import ModelSpec
from fixtures.reference.arithmetic import arithmetic
from fixtures.reference.evaluator import GraphEvaluator

SPEC = ModelSpec("test_nfnet", None, (64, 64))


class CountingOracle(GraphEvaluator):
    """The oracle, with a count of what it was asked."""

    asked = 0

    def evaluate(self, *words, **names):
        """Count, and evaluate."""
        self.asked += 1
        return super().evaluate(*words, **names)


@pytest.fixture
def look(context, tmp_path):
    """Look with a new oracle; what was found, and how often the oracle was asked."""
    file = context.model_store.onnx_file(SPEC).path
    session = onnxruntime.InferenceSession

    def run(path, images):
        made = session(str(path), providers=["CPUExecutionProvider"])
        names = [value.name for value in made.get_outputs()]
        return dict(zip(names, made.run(names, {"inputs": images}), strict=True))

    def found(change=lambda _: None, precision="fp32", **more):
        def changed(path, images):
            results = run(path, images)
            change(results)
            return results

        oracle = CountingOracle(file)
        row = arithmetic(precision)
        images = context.model_store.images(SPEC, 1)
        return explain(
            changed, file, oracle, images, row, case_id="kept", scratch=tmp_path / "scratch", cache=tmp_path, **more
        ), oracle.asked

    return found


def test_the_second_look_asks_the_oracle_nothing(look):
    """And finds the same, to the last bit; blocks, and nodes where they are looked at."""
    first, asked = look()
    second, again = look()
    assert asked > 0
    assert again == 0
    assert first == second
    assert first.nodes


def test_other_tensors_or_another_arithmetic_are_looked_at_anew(look):
    """One bit of one tensor is enough."""
    look()

    def one_bit(results):
        value = results["stages.1.0"]
        value[(0,) * value.ndim] = np.nextafter(value[(0,) * value.ndim], np.float32(np.inf))

    assert look(one_bit)[1] > 0
    assert look(precision="fp16")[1] > 0


def test_what_was_not_finished_is_not_kept(look):
    """Where time runs out the next look begins anew."""
    late, asked = look(seconds=0)
    assert (late.clean, asked) == (False, 0)
    assert look()[1] > 0


def test_a_fault_is_found_again(look):
    """What is kept accuses as what was computed does, infinities included."""

    def wrong(results):
        results["stages.1.0"][...] = np.inf

    (first, asked), (second, again) = look(wrong), look(wrong)
    assert first.first == "stages.1.0"
    assert first == second
    assert again < asked

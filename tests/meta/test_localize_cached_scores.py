"""Scores of the localisation are computed once for the same tensors of an engine."""

import numpy as np
import pytest

from fixtures.localize.search import Localizer
from fixtures.records import ModelSpec
from fixtures.reference.arithmetic import arithmetic
from fixtures.reference.evaluator import GraphEvaluator
from tests.meta.localizing import run

SPEC = ModelSpec("test_nfnet", None, (64, 64))


class CountingEvaluator(GraphEvaluator):
    """The float64 reference, with a count of its evaluations."""

    count = 0

    def evaluate(self, *arguments, **options):
        """Count, and evaluate."""
        self.count += 1
        return super().evaluate(*arguments, **options)


@pytest.fixture
def localise(context, tmp_path):
    """Localise with a new evaluator; return what was found, and the number of evaluations."""
    file = context.model_store.onnx_file(SPEC).path

    def found(change=lambda _: None, precision="fp32", **options):
        def changed(path, images):
            results = run(path, images)
            change(results)
            return results

        evaluator, images = CountingEvaluator(file), context.model_store.images(SPEC, 1)
        options |= {"scratch": tmp_path / "scratch", "cache": tmp_path}
        search = Localizer(changed, file, evaluator, images, arithmetic(precision), **options)
        return search.localize(), evaluator.count

    return found


def test_second_localisation_evaluates_nothing(localise):
    """And finds the same blocks and nodes, to the last bit."""
    first, count = localise()
    second, again = localise()
    assert count > 0
    assert again == 0
    assert first == second
    assert first.nodes


def test_other_tensors_or_arithmetic_are_evaluated_again(localise):
    """One bit of one tensor is enough."""
    localise()

    def one_bit(results):
        value = results["stages.1.0"]
        value[(0,) * value.ndim] = np.nextafter(value[(0,) * value.ndim], np.float32(np.inf))

    assert localise(one_bit)[1] > 0
    assert localise(precision="fp16")[1] > 0


def test_unfinished_localisation_is_not_cached(localise):
    """The next one starts from the beginning."""
    late, count = localise(seconds=0)
    assert (late.clean, count) == (False, 0)
    assert localise()[1] > 0


def test_fault_is_found_from_cached_scores(localise):
    """Also one with infinities."""

    def wrong(results):
        results["stages.1.0"][...] = np.inf

    (first, count), (second, again) = localise(wrong), localise(wrong)
    assert first.first_block == "stages.1.0"
    assert first == second
    assert again < count

"""Outputs that have nothing to do with the model fail at every precision of every default case."""

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from fixtures.accuracy import digits
from fixtures.engines.migraphx.engine import MIGraphXEngine
from fixtures.engines.registry import open_engine, target_of
from fixtures.records import Case, ModelSpec
from fixtures.run import programs
from fixtures.run.compare import judge_outputs
from fixtures.verdict.tolerances import LARGEST_TOLERANCE

ENGINES = ("onnxruntime:cpu", "migraphx:ref")
IMAGES = 2
TRAINED = {"weights": "trained", "weights_path": digits.WEIGHTS}
WRONG = {
    "zeros": np.zeros_like,
    "noise": lambda logits: logits.std() * np.random.default_rng(0).standard_normal(logits.shape),
    "negated": np.negative,
    "shuffled over classes": lambda logits: np.random.default_rng(0).permutation(logits, axis=1),
    "shuffled between images": lambda logits: np.roll(logits, 1, axis=0),
}


def cases():
    """Yield the default cases with two images; dm_nfnet_f0 takes minutes."""
    for engine in ENGINES:
        workload = target_of(engine).matrix("full")[0]
        for variant, size in workload.models:
            trained = TRAINED if variant == digits.VARIANT else {}
            for precision in workload.precisions:
                case = Case(engine, ModelSpec(variant, size=(size, size), **trained), precision, IMAGES)
                marks = [] if trained else [pytest.mark.slow]
                yield pytest.param(case, id=case.id, marks=marks)


@pytest.fixture(scope="module")
def context(context):
    """A context in which MIGraphX need not be installed: only how it rounds and what it quantises is asked."""

    def opened(name, *rest):
        return (
            MIGraphXEngine(name, Mock(version="2.14.0", path=Path("/nonexistent/libmigraphx_c.so.3")), Mock(), None)
            if name in ENGINES[1:]
            else open_engine(name, *rest)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "open_engine", opened)
        yield context


@pytest.mark.parametrize("default", list(cases()))
def test_wrong_outputs_fail_at_every_precision(context, default):
    """Against both references. The tolerance of the case is never above the largest one; the right outputs pass."""
    assert context.tolerances.tolerance(default).relative_error <= LARGEST_TOLERANCE
    exact = context.tolerances.exact(default)
    for expected in (exact, context.reference.expected(default)):

        def judge(logits, expected=expected):
            actual = {"logits": logits.astype(np.float32)}
            return judge_outputs(default, context, actual=actual, expected=expected)

        assert judge(exact["logits"]).passed
        for name, wrong in WRONG.items():
            assert judge(wrong(expected["logits"])).wrong, name

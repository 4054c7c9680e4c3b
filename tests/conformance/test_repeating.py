"""The engine gives the same answer twice."""

import numpy as np
import pytest

pytestmark = pytest.mark.conformance


def test_same_input_gives_the_same_output(case, program_pool, run, images, assert_agrees):
    """Bit by bit where the engine promises it, else within the tolerance; a run in between changes nothing."""
    first = run(images)
    run(images * np.float32(0.5))
    second = run(images)
    assert_agrees(second, first, reference="the same engine, run before", images=images)
    if program_pool.engine(case.engine).target.deterministic:
        for name, array in first.items():
            assert np.array_equal(array, second[name], equal_nan=True), f"{name!r} differs in the last bits"

"""Does the engine give the same answer twice?"""

import numpy as np
import pytest

pytestmark = pytest.mark.conformance


def test_same_input_twice_gives_the_same_answer(check, context, case):
    """To the bit where the engine promises it, within the tolerance elsewhere; a run in between changes nothing."""
    images = context.model_store.images(case.model, case.batch)
    first = check.run(images)
    check.run(images * np.float32(0.5))
    second = check.run(images)
    check.agrees(second, first, reference="the same engine, run before", images=images)
    if context.program_pool.engine(case.engine).deterministic:
        for name, array in first.items():
            assert np.array_equal(array, second[name], equal_nan=True), f"{name!r} differs in the last bits"

"""A saved program loads unchanged, and a second program of a case is the same."""

import contextlib

import numpy as np
import pytest

pytestmark = pytest.mark.conformance


def assert_identical(first, second):
    """Fail unless both have the same outputs, bit by bit."""
    assert list(first) == list(second)
    for name, array in first.items():
        assert np.array_equal(array, second[name], equal_nan=True), f"{name!r} differs in the last bits"


@pytest.mark.cached
def test_saved_program_loads_unchanged(case, program_pool, program, run, images, assert_agrees, tmp_path):
    """The file holds all of the program: numbers, precision and layout."""
    saved, expected = tmp_path / "program", run(images)
    program.save(saved)
    engine = program_pool.engine(case.engine)
    with contextlib.closing(engine.load_program(saved, program_pool.request(case))) as loaded:
        actual = loaded.run({loaded.inputs[0].name: images})
    assert_agrees(actual, expected, reference="the same program before it was saved", images=images)
    if engine.target.deterministic:
        assert_identical(actual, expected)


@pytest.mark.smallest_case
def test_second_program_gives_the_same_outputs(case, program_pool, run, images, assert_agrees):
    """One from the cache is compared with one that was compiled in this run, so the cache cannot hide a change."""
    expected = run(images)
    with contextlib.closing(program_pool.second_program(case)) as second:
        actual = second.run({second.inputs[0].name: images})
    assert_agrees(actual, expected, reference="another program of the case", images=images)
    if program_pool.engine(case.engine).target.deterministic:
        assert_identical(actual, expected)

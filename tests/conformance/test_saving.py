"""A saved program loads unchanged, and compiling twice gives the same program."""

import contextlib
import functools

import numpy as np
import pytest

pytestmark = pytest.mark.conformance


def assert_identical(first, second):
    """Fail unless both have the same outputs, bit by bit."""
    assert list(first) == list(second)
    for name, array in first.items():
        assert np.array_equal(array, second[name], equal_nan=True), f"{name!r} differs in the last bits"


@pytest.fixture(scope="module")
def recompiled(program_pool, case):
    """A function that returns the case's program, compiled now and not loaded from the cache; once per module."""
    compile_once = functools.cache(lambda: program_pool.request(case).compile())
    yield compile_once
    if compile_once.cache_info().currsize:
        compile_once().close()


@pytest.mark.cached
def test_saved_program_loads_unchanged(case, program_pool, images, recompiled, assert_agrees, tmp_path):
    """The file holds all of the program: numbers, precision and layout."""
    saved, program = tmp_path / "program", recompiled()
    expected = program.run({program.inputs[0].name: images})
    program.save(saved)
    with contextlib.closing(program_pool.request(case).load(saved)) as loaded:
        actual = loaded.run({loaded.inputs[0].name: images})
    assert_agrees(actual, expected, reference="the same program before it was saved", images=images)
    if program_pool.engine(case.engine).deterministic:
        assert_identical(actual, expected)


def test_compiling_twice_gives_the_same_program(case, program_pool, run, images, recompiled, assert_agrees):
    """A program from the cache is compared with one compiled now, so the cache cannot hide a change."""
    program = recompiled()
    actual, expected = program.run({program.inputs[0].name: images}), run(images)
    assert_agrees(actual, expected, reference="the same engine, compiled before", images=images)
    if program_pool.engine(case.engine).deterministic:
        assert_identical(actual, expected)

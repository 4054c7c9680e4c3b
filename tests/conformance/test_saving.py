"""Does a program survive being written to disk, and does compiling give the same program twice?"""

import contextlib
import functools

import numpy as np
import pytest

pytestmark = pytest.mark.conformance


def identical(first, second, what):
    """Fail unless both have the same outputs to the bit."""
    assert list(first) == list(second)
    for name, array in first.items():
        assert np.array_equal(array, second[name], equal_nan=True), f"{name!r} differs in the last bits {what}"


@pytest.fixture(scope="module")
def anew(context, case):
    """Gives the case's program, compiled now whatever the cache has of it; once for the tests below."""
    made = functools.cache(lambda: context.program_pool.compile(case))
    yield made
    if made.cache_info().currsize:
        made().close()


def test_saved_and_loaded_program_gives_the_same_bits(check, context, case, anew, tmp_path):
    """What is written to disk is all of the program: numbers, precision and layout."""
    images = context.model_store.images(case.model, case.batch)
    saved, program = tmp_path / "program", check.of_the_suite(anew)
    expected = check.of_the_suite(lambda: program.run({program.inputs[0].name: images}))
    check.of_the_suite(lambda: program.save(saved))
    with contextlib.closing(check.of_the_suite(lambda: context.program_pool.load(saved, case))) as loaded:
        actual = check.of_the_suite(lambda: loaded.run({loaded.inputs[0].name: images}))
    check.agrees(actual, expected, reference="the same program before it was saved", images=images)
    if context.program_pool.engine(case.engine).deterministic:
        identical(actual, expected, "once saved and loaded")


def test_compiled_twice_gives_the_same_program(check, context, case, anew):
    """To the bit where the engine is deterministic, within the tolerance elsewhere.

    A program that came from the cache is held against one of now: nothing that is kept can hide that compiling fails.
    """
    images = context.model_store.images(case.model, case.batch)
    again = check.of_the_suite(anew)
    actual = check.of_the_suite(lambda: again.run({again.inputs[0].name: images}))
    expected = check.run(images)
    check.agrees(actual, expected, reference="the same engine, compiled before", images=images)
    if context.program_pool.engine(case.engine).deterministic:
        identical(actual, expected, "when compiled again")

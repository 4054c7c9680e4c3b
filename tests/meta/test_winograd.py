"""Winograd's convolution is a convolution, and its larger error is part of the floor where an engine may take it."""

import numpy as np
import pytest

from fixtures.records import ModelSpec
from fixtures.reference import winograd
from fixtures.reference.arithmetic import EXACT
from fixtures.reference.convolution import convolve
from fixtures.reference.noise_floors import CUT_CONSTANTS, NEAREST, arithmetic, other_ways, relative_errors
from fixtures.run.context import RunContext

RNG = np.random.default_rng(11)


@pytest.mark.parametrize(("size", "pads"), [((8, 8), (1, 1)), ((9, 14), (1, 1)), ((3, 5), (0, 0)), ((6, 4), (0, 2))])
@pytest.mark.parametrize("groups", [1, 4])
def test_it_is_the_same_convolution(size, pads, groups):
    """Within fp32, at sizes that do and do not fill the tiles, but not to the last bit."""
    x, weight = RNG.standard_normal((2, 8, *size)), RNG.standard_normal((12, 8 // groups, 3, 3))
    attributes = {"group": groups, "pads": [pads[0], pads[0], pads[1], pads[1]]}
    expected = convolve(x, weight, attributes, np.matmul)
    got = winograd.convolve(x, weight, [pads, pads], groups)
    assert got.shape == expected.shape
    error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
    assert 2.0**-26 < error < 2.0**-19


def test_only_what_libraries_compute_so_is_fit():
    """3x3, stride 1, not dilated."""
    small, large = np.zeros((1, 1, 3, 3)), np.zeros((1, 1, 5, 5))
    assert winograd.is_fit(small, {})
    assert winograd.is_fit(small, {"strides": [1, 1], "dilations": [1, 1]})
    assert not winograd.is_fit(small, {"strides": [2, 2]})
    assert not winograd.is_fit(small, {"dilations": [2, 2]})
    assert not winograd.is_fit(large, {})


@pytest.mark.parametrize(("name", "count"), [("fp32", 1), ("fp16", 0), ("bf16", 0), ("tf32", 0), ("int8", 0)])
def test_strict_fp32_alone_grants_it(name, count):
    """Everywhere else the rounding of tensors or factors is larger."""
    assert len(other_ways(arithmetic(name, NEAREST))) == count
    assert len(other_ways(arithmetic(name, CUT_CONSTANTS))) == count


def test_an_engine_that_takes_it_is_within_its_budget(tmp_path):
    """With room to spare: the floor knows of it."""
    spec = ModelSpec("test_nfnet", None, (64, 64))
    with RunContext.create(tmp_path) as context:
        truth, images = context.tolerances.float64(spec), context.model_store.images(spec, 2)
        row = arithmetic("fp32", NEAREST)
        (fast,) = other_ways(row)
        exact, plain, made = (truth.outputs(images, way) for way in (EXACT, row, fast))
        errors = [relative_errors(outputs, exact) for outputs in (plain, made)]
        assert (errors[1] > errors[0]).any()
        assert np.allclose(truth.floors(images, row), np.hypot(*errors))

"""Winograd convolution is a convolution, and its larger error is part of the noise floor at fp32."""

import numpy as np
import pytest

from fixtures import precisions
from fixtures.records import ModelSpec
from fixtures.reference import winograd
from fixtures.reference.arithmetic import EXACT, alternatives, arithmetic
from fixtures.reference.convolution import convolve, windows
from fixtures.reference.float64 import relative_errors
from fixtures.run.context import RunContext

RNG = np.random.default_rng(11)


@pytest.mark.parametrize(("size", "pads"), [((8, 8), (1, 1)), ((9, 14), (1, 1)), ((3, 5), (0, 0)), ((6, 4), (0, 2))])
@pytest.mark.parametrize("groups", [1, 4])
def test_winograd_matches_direct_convolution_within_fp32(size, pads, groups):
    """At sizes that fill the tiles and sizes that do not, but not bit by bit."""
    x, weight = RNG.standard_normal((2, 8, *size)), RNG.standard_normal((12, 8 // groups, 3, 3))
    over = windows(size, (3, 3), pads=[pads[0], pads[0], pads[1], pads[1]])
    expected = convolve(x, weight, over, groups, np.matmul)
    got = winograd.convolve(x, weight, over.pads, groups)
    assert got.shape == expected.shape
    assert 2.0**-26 < np.linalg.norm(got - expected) / np.linalg.norm(expected) < 2.0**-19


@pytest.mark.parametrize(
    ("kernel", "attributes", "applies"),
    [
        ((3, 3), {}, True),
        ((3, 3), {"strides": [1, 1], "dilations": [1, 1]}, True),
        ((3, 3), {"strides": [2, 2]}, False),
        ((3, 3), {"dilations": [2, 2]}, False),
        ((5, 5), {}, False),
        ((3,), {}, False),
    ],
)
def test_winograd_applies_to_undilated_3x3_convolutions_of_stride_1(kernel, attributes, applies):
    """As GPU libraries use it."""
    assert winograd.applies_to(windows([9] * len(kernel), kernel, **attributes)) is applies


@pytest.mark.parametrize(("name", "count"), [("fp32", 1), ("fp16", 0), ("bf16", 0), ("tf32", 0)])
@pytest.mark.parametrize("rounding", precisions.ROUNDINGS, ids=lambda row: row.name)
def test_only_fp32_allows_for_winograd(name, count, rounding):
    """Elsewhere the rounding of tensors or factors is larger."""
    assert len(alternatives(arithmetic(name, rounding))) == count


def test_the_noise_floor_at_fp32_includes_winograd(tmp_path):
    """The two errors add up as independent ones."""
    spec = ModelSpec("test_nfnet", None, (64, 64))
    with RunContext.create(tmp_path, isolation=None) as context:
        float64, images = context.tolerances.float64(spec), context.model_store.images(spec, 2)
        row = arithmetic("fp32")
        (fast,) = alternatives(row)
        exact, *made = (float64.outputs(images, way) for way in (EXACT, row, fast))
        errors = [relative_errors(outputs, exact) for outputs in made]
        assert (errors[1] > errors[0]).any()
        assert np.allclose(float64.noise_floors(images, row), np.hypot(*errors))

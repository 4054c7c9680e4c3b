"""Error metrics of two arrays, against formulas written in another way."""

import math

import numpy as np
import pytest

from fixtures.verdict.metrics import image_metrics, non_finite, structure, ulp_size

RNG = np.random.default_rng(11)


def metrics(actual, expected):
    """Metrics of each image at fp32."""
    return image_metrics(actual=np.asarray(actual), expected=np.asarray(expected), significand_bits=24)


@pytest.mark.parametrize(
    ("actual", "expected", "part"),
    [
        ({"a": np.ones((1, 2))}, {"b": np.ones((1, 2))}, "['a'] instead of ['b']"),
        ({}, {"a": np.ones((1, 2))}, "[] instead of ['a']"),
        ({}, {}, "no output"),
        ({"a": np.ones((1, 2))}, {"a": np.ones((2, 2))}, "[1, 2] instead of [2, 2]"),
        ({"a": np.ones((0, 2))}, {"a": np.ones((0, 2))}, "empty"),
        ({"a": np.float32(1)}, {"a": np.float32(1)}, "empty"),
        ({"a": np.ones((1, 2), int)}, {"a": np.ones((1, 2))}, "int64 instead of float64"),
    ],
)
def test_structure_names_wrong_outputs_shapes_and_types(actual, expected, part):
    (problem,) = structure(actual=actual, expected=expected)
    assert part in problem


@pytest.mark.parametrize(
    ("actual", "expected", "places"),
    [
        ([1.0, np.nan], [1.0, np.nan], 0),
        ([1.0, np.nan], [1.0, 2.0], 1),
        ([1.0, 2.0], [np.nan, 2.0], 1),
        ([np.inf, 2.0], [np.inf, 2.0], 0),
        ([-np.inf, 2.0], [np.inf, 2.0], 1),
        ([np.inf, np.nan], [np.nan, np.inf], 2),
        ([np.inf, np.inf], [1.0, 1.0], 2),
    ],
)
def test_nan_and_infinity_are_compared_by_place_and_sign(actual, expected, places):
    """The description has the counts of both sides and the first places that differ."""
    images, text = non_finite("y", actual=np.array([actual]), expected=np.array([expected]))
    assert images == ([0] if places else [])
    assert text.count("[0, ") == places
    assert f"{np.isnan(actual).sum()} NaN and {np.isinf(actual).sum()} Inf, expected " in text
    assert f"expected {np.isnan(expected).sum()} NaN and {np.isinf(expected).sum()} Inf; " in text


@pytest.mark.parametrize("shape", [(3, 10), (2, 4, 5, 6), (1, 1), (5, 1)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_errors_of_each_image_match_python_sums(shape, dtype):
    expected = RNG.standard_normal(shape).astype(dtype)
    actual = (expected + 0.01 * RNG.standard_normal(shape)).astype(dtype)
    for row, got, want in zip(metrics(actual, expected), actual, expected, strict=True):
        pairs = [(float(a), float(b)) for a, b in zip(got.ravel(), want.ravel(), strict=True)]
        norm = math.sqrt(math.fsum(b * b for _, b in pairs))
        assert row.relative_l2 == pytest.approx(math.sqrt(math.fsum((a - b) ** 2 for a, b in pairs)) / norm, rel=1e-12)
        assert row.max_abs == max(abs(a - b) for a, b in pairs)


@pytest.mark.parametrize(("dtype", "bits"), [(np.float32, 24), (np.float16, 11)])
def test_ulp_size_matches_numpy_spacing(dtype, bits):
    """At powers of two, between them, and on both sides of zero."""
    values = np.concatenate([2.0 ** np.arange(-10, 11), RNG.uniform(1e-3, 1e3, 200)]).astype(dtype)
    for signed in (values, -values):
        assert np.array_equal(ulp_size(signed.astype(np.float64), bits), np.spacing(values).astype(np.float64))


def test_worst_values_come_first_with_index_and_ulp():
    expected = np.ones((1, 2, 3))
    actual = expected.copy()
    actual[0, 1, 2] += 2.0**-20
    actual[0, 0, 1] -= 2.0**-22
    (row,) = metrics(actual, expected)
    assert [value.index for value in row.worst[:2]] == [(1, 2), (0, 1)]
    assert (row.worst[0].ulp, row.worst[0].expected) == (2.0**-20 / 2.0**-23, 1.0)


@pytest.mark.parametrize(
    ("actual", "expected", "error"),
    [
        ([0.0, 0.0], [0.0, 0.0], 0),
        ([0.0, 1e-30], [0.0, 0.0], math.inf),
        ([np.nan, 1.0, 2.0], [np.nan, 1.0, 1.0], 1 / math.sqrt(2)),
    ],
)
def test_relative_error_of_zeros_and_of_nan(actual, expected, error):
    """NaN on both sides leaves the other values."""
    (row,) = metrics([actual], [expected])
    assert row.relative_l2 == pytest.approx(error)


@pytest.mark.parametrize(
    ("actual", "expected", "top1", "margin"),
    [
        ([4.0, 5.0, 3.0, 0.5], [5.0, 4.0, 3.0, 0.0], (1, 0), 1 / math.sqrt(50)),
        ([1.0, 1.0], [1.0, 1.0], (0, 0), 0),
        ([3.0], [3.0], (0, 0), 0),
    ],
    ids=["flip", "tie", "one class"],
)
def test_top1_and_margin(actual, expected, top1, margin):
    """A tie has the first class on both sides."""
    (row,) = metrics([actual], [expected])
    assert (row.top1_actual, row.top1_expected) == top1
    assert row.margin == pytest.approx(margin)

"""How far two arrays are apart, against formulas written another way."""

import math

import numpy as np
import pytest

from fixtures.verdict.metrics import cosine, image_metrics, non_finite, structure, ulp_size

RNG = np.random.default_rng(11)
FP32 = 24


def rows(actual, expected, bits=FP32):
    """Metrics of each image."""
    return image_metrics(actual=np.asarray(actual), expected=np.asarray(expected), significand_bits=bits)


@pytest.mark.parametrize(
    ("actual", "expected", "problem"),
    [
        ({"a": np.ones((1, 2))}, {"b": np.ones((1, 2))}, "outputs ['a'] instead of ['b']"),
        ({}, {"a": np.ones((1, 2))}, "outputs [] instead of ['a']"),
        ({}, {}, "no output"),
        ({"a": np.ones((1, 2))}, {"a": np.ones((2, 2))}, "has shape [1, 2] instead of [2, 2]"),
        ({"a": np.ones((0, 2))}, {"a": np.ones((0, 2))}, "is empty"),
        ({"a": np.float32(1)}, {"a": np.float32(1)}, "is empty"),
        ({"a": np.ones((1, 2), int)}, {"a": np.ones((1, 2))}, "has type int64 instead of float64"),
    ],
)
def test_structure_comes_in_words(actual, expected, problem):
    """Names, shapes, kinds of types."""
    (found,) = structure(actual=actual, expected=expected)
    assert problem in found


def test_a_narrower_float_is_the_same_structure():
    """Engines may return fp16 where fp32 was expected; the numbers decide."""
    assert structure(actual={"a": np.ones((1, 2), np.float16)}, expected={"a": np.ones((1, 2), np.float32)}) == []


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
    """The first places that differ are kept."""
    found = non_finite("y", actual=np.array([actual]), expected=np.array([expected]))
    assert len(found.first) == places
    assert found.agree == (places == 0)
    assert found.nan_actual == np.isnan(actual).sum()
    assert found.inf_expected == np.isinf(expected).sum()


@pytest.mark.parametrize("shape", [(3, 10), (2, 4, 5, 6), (1, 1), (5, 1)])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_errors_are_those_of_the_textbook(shape, kind):
    """Relative L2, largest difference and cosine of each image by itself."""
    expected = RNG.standard_normal(shape).astype(kind)
    actual = (expected + 0.01 * RNG.standard_normal(shape)).astype(kind)
    for row, got, want in zip(rows(actual, expected), actual, expected, strict=True):
        pairs = [(float(a), float(b)) for a, b in zip(got.ravel(), want.ravel(), strict=True)]
        norm = math.sqrt(math.fsum(b * b for _, b in pairs))
        assert row.relative_l2 == pytest.approx(math.sqrt(math.fsum((a - b) ** 2 for a, b in pairs)) / norm, rel=1e-12)
        assert row.max_abs == max(abs(a - b) for a, b in pairs)
        other = math.sqrt(math.fsum(a * a for a, _ in pairs))
        assert row.cosine == pytest.approx(math.fsum(a * b for a, b in pairs) / norm / other, rel=1e-12)


def test_one_image_does_not_touch_another():
    """Each row is what it is alone."""
    expected, actual = RNG.standard_normal((4, 7)), RNG.standard_normal((4, 7))
    together = rows(actual, expected)
    for index, row in enumerate(together):
        (alone,) = rows(actual[index : index + 1], expected[index : index + 1])
        assert (alone.relative_l2, alone.max_ulp, alone.worst) == (row.relative_l2, row.max_ulp, row.worst)
        assert row.image == index


@pytest.mark.parametrize(("kind", "bits"), [(np.float32, 24), (np.float16, 11)])
def test_an_ulp_is_numpys_spacing(kind, bits):
    """At powers of two, between them, and on both sides of zero."""
    values = np.concatenate([2.0 ** np.arange(-10, 11), RNG.uniform(1e-3, 1e3, 200)]).astype(kind)
    for signed in (values, -values):
        assert np.array_equal(ulp_size(signed.astype(np.float64), bits), np.spacing(values).astype(np.float64))


def test_the_worst_values_come_first_with_their_index():
    """Index within the image, both values, distance in ulp."""
    expected = np.ones((1, 2, 3))
    actual = expected.copy()
    actual[0, 1, 2] += 2.0**-20
    actual[0, 0, 1] -= 2.0**-22
    (row,) = rows(actual, expected)
    assert [offender.index for offender in row.worst[:2]] == [(1, 2), (0, 1)]
    assert row.worst[0].ulp == 2.0**-20 / 2.0**-23
    assert row.worst[0].expected == 1.0


def test_an_expected_row_of_zeros():
    """Equal is no error, anything else is infinitely far."""
    equal, other = rows([[0.0, 0.0], [0.0, 1e-30]], np.zeros((2, 2)))
    assert equal.relative_l2 == 0
    assert other.relative_l2 == math.inf


def test_nan_at_the_same_place_leaves_the_other_values():
    """Their place was compared before; the rest still counts."""
    (row,) = rows([[np.nan, 1.0, 2.0]], [[np.nan, 1.0, 1.0]])
    assert row.relative_l2 == pytest.approx(1 / math.sqrt(2))


@pytest.mark.parametrize(
    ("left", "right", "want"),
    [([1, 0], [0, 1], 0), ([1, 2], [2, 4], 1), ([1, 0], [-3, 0], -1), ([0, 0], [0, 0], 1), ([0, 0], [1, 0], 0)],
)
def test_cosine_at_its_edges(left, right, want):
    """Two zero vectors point the same way, one does not."""
    assert cosine(actual=np.array(left, float), expected=np.array(right, float)) == pytest.approx(want)


def test_answers_and_margin():
    """Top-1 and how sure the expected side is."""
    expected = np.array([[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
    actual = np.array([[4.0, 5.0, 3.0, 2.0, 1.0, 0.5]])
    (row,) = rows(actual, expected)
    assert (row.top1_actual, row.top1_expected, row.top1_agree) == (1, 0, False)
    assert row.margin == pytest.approx(1 / np.linalg.norm(expected))


def test_ties_go_to_the_first():
    """So that equal outputs have equal answers."""
    (row,) = rows([[1.0, 1.0]], [[1.0, 1.0]])
    assert (row.top1_actual, row.top1_expected, row.margin) == (0, 0, 0)


def test_one_class_has_an_answer():
    """A margin over nothing is nothing."""
    (row,) = rows([[3.0]], [[3.0]])
    assert (row.top1_agree, row.margin) == (True, 0)

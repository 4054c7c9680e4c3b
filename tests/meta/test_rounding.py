"""Rounding and quantisation, against the conversions of numpy and ml_dtypes."""

import ml_dtypes
import numpy as np
import pytest

from fixtures.precisions import BF16, FP8, FP16, FP32, QUANTIZED_TYPES, TF32
from fixtures.reference.rounding import quantized, rounded

TYPES = [(FP32, np.float32), (FP16, np.float16), (BF16, ml_dtypes.bfloat16), (FP8, ml_dtypes.float8_e4m3fn)]
RNG = np.random.default_rng(2)


def samples(target):
    """Return numbers of every size that a format has, midpoints between neighbours, and numbers beyond the largest."""
    wide = np.ldexp(RNG.uniform(-2, 2, 20000), RNG.integers(target.min_exponent - target.bits - 2, 8, 20000))
    exact = np.sort(rounded(wide, target))
    middle = (exact[1:] + exact[:-1]) / 2
    edges = target.max_value * np.array([1, 1 + 2.0**-target.bits, 1 - 2.0**-target.bits, 1.5, 4])
    return np.concatenate([wide, middle, edges, -edges, [0.0, -0.0, np.inf, -np.inf, np.nan]])


@pytest.mark.parametrize(("target", "dtype"), TYPES, ids=lambda value: getattr(value, "name", ""))
def test_rounding_to_nearest_matches_the_conversion_of_the_type(target, dtype):
    """Ties to even, subnormal numbers, overflow, NaN and signed zeros included."""
    values = samples(target)
    with np.errstate(all="ignore"):
        narrow = values if target is FP32 else values.astype(np.float32)  # ml_dtypes converts from fp32
        want = narrow.astype(dtype).astype(np.float64)
    got = rounded(narrow, target)
    assert np.array_equal(got, want, equal_nan=True)
    real = ~np.isnan(want)
    assert np.array_equal(np.signbit(got[real]), np.signbit(want[real]))


@pytest.mark.parametrize("target", [FP32, TF32, FP16, BF16, FP8], ids=lambda target: target.name)
def test_truncation_goes_toward_zero_by_less_than_one_unit(target):
    values = samples(target)
    values = values[np.abs(values) <= target.max_value]
    got = rounded(values, target, truncate=True)
    step = np.maximum(np.ldexp(1.0, np.frexp(values)[1] - target.bits), 2.0 ** (target.min_exponent - target.bits + 1))
    assert (np.abs(got) <= np.abs(values)).all()
    assert (np.abs(values - got) < step).all()
    assert np.array_equal(rounded(got, target, truncate=True), got)
    assert np.array_equal(rounded(got, target), got)


def test_tf32_has_the_significand_of_fp16_and_the_range_of_fp32():
    """Numpy has no such type."""
    values = RNG.standard_normal(1000)
    assert np.array_equal(rounded(values, TF32), rounded(values, FP16))
    assert rounded(np.array([1e30]), TF32)[0] == pytest.approx(1e30, rel=2.0**-11)


def test_integers_saturate_and_ties_go_to_even():
    """At the limits of the type, which are not symmetric."""
    assert quantized([-200, -127.6, 0.5, 1.5, 2.5, 127.6], QUANTIZED_TYPES["int8"]).tolist() == [
        -128,
        -128,
        0,
        2,
        2,
        127,
    ]


def test_fp8_quantisation_matches_the_conversion_of_the_type():
    """Beyond the largest number it saturates."""
    row = QUANTIZED_TYPES["float8e4m3fn"]
    values = np.concatenate([RNG.standard_normal(5000) * 99, np.ldexp(RNG.standard_normal(99), -9)])
    expected = np.clip(values, row.smallest, row.largest).astype(row.numpy).astype(np.float64)
    assert np.array_equal(quantized(values, row), expected)

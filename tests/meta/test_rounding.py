"""Rounding and quantisation, against the conversions of numpy and ml_dtypes."""

import ml_dtypes
import numpy as np
import pytest

from fixtures.precisions import BF16, FP8, FP16, FP32, TF32, Quantizer
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
    """Numbers of the format stay as they are."""
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


def test_rounding_keeps_shapes_and_leaves_its_input_alone():
    """Scalars, empty arrays and transposed views too."""
    values = RNG.standard_normal((3, 4)).T
    before = values.copy()
    assert rounded(values, BF16).shape == (4, 3)
    assert np.array_equal(values, before)
    assert rounded(np.float64(0.1), FP16) == np.float16(0.1)
    assert rounded(np.zeros((0, 2)), FP16).shape == (0, 2)


@pytest.mark.parametrize("largest", [1e-3, 1.0, 37.5])
def test_integer_quantisation_has_255_steps_and_clips(largest):
    """From minus to plus the calibrated range, ties to even, as MIGraphX and ONNX Runtime do it."""
    values = np.concatenate([RNG.standard_normal(1000) * largest, [largest, -largest, 9 * largest, 0.0]])
    step = largest / 127
    expected = np.clip(np.rint(values / step), -127, 127) * step
    assert np.array_equal(quantized(values, Quantizer(127), largest), expected)
    halves = (np.arange(-5, 5) + 0.5) * step
    assert (np.rint(quantized(halves, Quantizer(127), largest) / step) % 2 == 0).all()


def test_fp8_quantisation_matches_scaled_numbers_of_the_type():
    """Beyond the calibrated range it clips."""
    values, quantizer = RNG.standard_normal(5000) * 3, Quantizer(448, FP8)
    largest = np.abs(values).max()
    expected = (values / (largest / 448)).astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * (largest / 448)
    assert np.array_equal(quantized(values, quantizer, largest), expected)
    assert np.abs(quantized(values * 9, quantizer, 1.0)).max() == 1.0


def test_a_tensor_of_zeros_is_quantised_to_zeros():
    """Its range is no divisor."""
    assert not quantized(np.zeros(3), Quantizer(127), 0.0).any()

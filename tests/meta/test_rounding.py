"""Rounding to narrow formats, against numpy's and ml_dtypes' own conversions."""

import ml_dtypes
import numpy as np
import pytest

from fixtures.reference.rounding import FORMATS, Steps, rounded

TYPES = {
    "fp32": np.float32,
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "fp8e4m3fn": ml_dtypes.float8_e4m3fn,
    "fp8e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "fp8e5m2": ml_dtypes.float8_e5m2,
}
RNG = np.random.default_rng(2)


def samples(kind):
    """Numbers of every size that the format knows, its neighbours' midpoints, and what is beyond."""
    wide = np.ldexp(RNG.uniform(-2, 2, 20000), RNG.integers(kind.least_exponent - kind.bits - 2, 8, 20000))
    exact = rounded(wide, kind)
    middle = np.sort(exact)
    middle = (middle[1:] + middle[:-1]) / 2
    edges = kind.greatest * np.array([1, 1 + 2.0**-kind.bits, 1 - 2.0**-kind.bits, 1.5, 4])
    return np.concatenate([wide, middle, edges, -edges, [0.0, -0.0, np.inf, -np.inf, np.nan]])


@pytest.mark.parametrize("name", TYPES)
def test_nearest_is_the_conversion_of_the_type(name):
    """Ties to even, subnormal numbers, overflow, NaN and signed zeros included."""
    values = samples(FORMATS[name])
    with np.errstate(all="ignore"):
        narrow = values.astype(np.float32) if name != "fp32" else values  # ml_dtypes converts from fp32
        want = narrow.astype(TYPES[name]).astype(np.float64)
    got = rounded(narrow, FORMATS[name])
    assert np.array_equal(got, want, equal_nan=True)
    if name != "fp8e4m3fnuz":  # it has no negative zero
        real = ~np.isnan(want)
        assert np.array_equal(np.signbit(got[real]), np.signbit(want[real]))


@pytest.mark.parametrize("name", FORMATS)
def test_cutting_goes_towards_zero(name):
    """Never larger, less than one unit off, and exact numbers stay."""
    kind = FORMATS[name]
    values = samples(kind)
    values = values[np.abs(values) <= kind.greatest]
    got = rounded(values, kind, cut=True)
    step = np.maximum(np.ldexp(1.0, np.frexp(values)[1] - kind.bits), 2.0 ** (kind.least_exponent - kind.bits + 1))
    assert (np.abs(got) <= np.abs(values)).all()
    assert (np.abs(values - got) < step).all()
    assert np.array_equal(rounded(got, kind, cut=True), got)
    assert np.array_equal(rounded(got, kind), got)


def test_tf32_is_fp16s_precision_with_fp32s_range():
    """There is no numpy type to compare with."""
    values = RNG.standard_normal(1000)
    assert np.array_equal(rounded(values, FORMATS["tf32"]), rounded(values, FORMATS["fp16"]))
    assert rounded(np.array([1e30]), FORMATS["tf32"])[0] == pytest.approx(1e30, rel=2.0**-11)


def test_shapes_and_layouts_are_kept():
    """Scalars, empty arrays, transposed views; the given array is not touched."""
    values = RNG.standard_normal((3, 4)).T
    before = values.copy()
    assert rounded(values, FORMATS["bf16"]).shape == (4, 3)
    assert np.array_equal(values, before)
    assert rounded(np.float64(0.1), FORMATS["fp16"]) == np.float16(0.1)
    assert rounded(np.zeros((0, 2)), FORMATS["fp16"]).shape == (0, 2)


@pytest.mark.parametrize("largest", [1e-3, 1.0, 37.5])
def test_whole_steps_are_what_migraphx_and_onnxruntime_compute(largest):
    """255 numbers from minus to plus the calibrated range; ties to even, beyond is clipped."""
    values = np.concatenate([RNG.standard_normal(1000) * largest, [largest, -largest, 9 * largest, 0.0]])
    step = largest / 127
    expected = np.clip(np.rint(values / step), -127, 127) * step
    assert np.array_equal(Steps(127).quantised(values, largest), expected)
    halves = (np.arange(-5, 5) + 0.5) * step
    assert (np.rint(Steps(127).quantised(halves, largest) / step) % 2 == 0).all()


def test_steps_of_fp8_are_the_formats_numbers_at_a_scale():
    """Against another implementation of the format."""
    values = RNG.standard_normal(5000) * 3
    scale = np.abs(values).max() / 448
    expected = (values / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * scale
    assert np.array_equal(Steps(448, FORMATS["fp8e4m3fn"]).quantised(values, np.abs(values).max()), expected)
    assert np.abs(Steps(448, FORMATS["fp8e4m3fn"]).quantised(values * 9, 1.0)).max() == 1.0


def test_a_tensor_of_zeros_has_steps_too():
    """No division by its range."""
    assert not Steps(127).quantised(np.zeros(3), 0.0).any()

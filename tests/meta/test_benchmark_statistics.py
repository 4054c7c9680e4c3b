"""Percentiles, drift and modes of synthetic samples with known answers."""

import numpy as np
import pytest

from fixtures.benchmark.statistics import drift, summary, two_modes, warnings


def normal(seed, count, scale=0.01):
    """Samples around 1."""
    return 1 + scale * np.random.default_rng(seed).standard_normal(count)


def test_summary_has_percentiles_and_relative_iqr():
    """Of the numbers 1 to 101."""
    found = summary(range(1, 102))
    assert (found.count, found.p50, found.p90, found.p99) == (101, 51, 91, 100)
    assert found.relative_iqr == pytest.approx(50 / 51)


def test_drift_is_seen_and_noise_is_not():
    """Five percent from the first sample to the last."""
    assert drift(normal(2, 60) * np.linspace(1, 1.05, 60)) == pytest.approx(0.033, abs=0.01)
    assert abs(drift(normal(2, 60))) < 0.01
    assert drift([1.0, 2.0, 3.0]) == 0.0


@pytest.mark.parametrize("shape", ["normal", "uniform", "outliers", "constant", "few"])
def test_one_mode_is_not_two(shape):
    """Nor are a few outliers a mode."""
    rng = np.random.default_rng(3)
    samples = {
        "normal": normal(3, 500),
        "uniform": rng.uniform(1, 2, 500),
        "outliers": np.concatenate([normal(3, 480), 1 + rng.uniform(1, 9, 20)]),
        "constant": np.ones(50),
        "few": np.array([1.0] * 5 + [2.0] * 5),
    }[shape]
    assert two_modes(samples) is None


def test_two_modes_are_found():
    """A machine that runs at two speeds."""
    low, high = two_modes(np.concatenate([normal(4, 300), 1.7 * normal(5, 200)]))
    assert (low, high) == (pytest.approx(1, rel=0.01), pytest.approx(1.7, rel=0.01))


def test_warnings_name_drift_and_two_modes():
    """A steady run has none."""
    steady, moving = normal(6, 60), normal(6, 60) * np.linspace(1, 1.2, 60)
    assert warnings(steady) == []
    (warning,) = warnings(moving)
    assert "+13." in warning
    mixed = np.stack([steady, 2 * steady]).T.ravel()
    (warning,) = warnings(mixed)
    assert "100.0%" in warning

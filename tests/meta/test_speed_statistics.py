"""Percentiles, intervals, drift, modes: on synthetic samples whose answer is known."""

import numpy as np
import pytest
from scipy.stats import binom

from fixtures.benchmark.statistics import (
    autocorrelation,
    between_runs,
    drift,
    independent,
    median_interval,
    modes,
    summary,
    unstable,
    wandering,
)


def normal(seed, count, scale=0.01):
    """Samples around 1."""
    return 1 + scale * np.random.default_rng(seed).standard_normal(count)


def mood(seed, count, memory=0.95):
    """Samples that remember their past."""
    rng, value, values = np.random.default_rng(seed), 0.0, []
    for _ in range(count):
        value = memory * value + rng.standard_normal()
        values.append(1 + 0.01 * value)
    return values


def test_a_summary_says_the_percentiles():
    """Of the numbers 1 to 101."""
    found = summary(range(1, 102))
    assert (found.count, found.p50, found.p90, found.p99) == (101, 51, 91, 100)
    assert found.spread == pytest.approx(50 / 51)
    assert found.low < 51 < found.high


@pytest.mark.parametrize("count", [9, 20, 51])
def test_the_interval_holds_the_median_as_often_as_it_says(count):
    """99 % or more of 2000 trials, whatever the distribution."""
    rng = np.random.default_rng(count)
    for draw, median in ((rng.standard_normal, 0.0), (rng.standard_exponential, np.log(2))):
        hits = [low <= median <= high for low, high in (median_interval(draw(count)) for _ in range(2000))]
        assert np.mean(hits) >= 0.985  # 99 % less three standard deviations of 2000 trials


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_the_interval_ends_where_scipys_quantile_does(confidence):
    """At every number of values."""
    for count in range(1, 300):
        first = max(0, int(binom.ppf((1 - confidence) / 2, count, 0.5)) - 1)
        assert median_interval(np.arange(count), confidence) == (first, count - 1 - first)


def test_values_that_are_worth_fewer_have_a_wider_interval():
    """The interval of as many as they are worth, in their own range."""
    values = np.arange(401)
    assert median_interval(values) == median_interval(values, worth=401)
    low, high = median_interval(values, worth=101)
    few = median_interval(np.arange(101))
    assert (low, high) == (4 * few[0], 4 * few[1])


def test_too_few_values_give_their_range():
    """No interval of 99 % exists for three values."""
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


def test_neighbours_that_resemble_each_other_are_merged():
    """Moods of the machine are few, whatever the number of samples; independent ones all count."""
    assert len(independent(normal(1, 128))) == 128
    assert len(independent(mood(1, 128))) <= 32
    assert len(independent(mood(1, 15))) == 15
    assert autocorrelation([1.0, 1.0, 1.0]) == 0.0


def test_drift_is_seen_and_noise_is_not():
    """Five percent from begin to end."""
    assert drift(normal(2, 60) * np.linspace(1, 1.05, 60)) == pytest.approx(0.033, abs=0.01)
    assert abs(drift(normal(2, 60))) < 0.01
    assert drift([1.0, 2.0, 3.0]) == 0.0


def test_wandering_there_and_back_is_seen():
    """A run that ends as it began has no drift; in between it was slower all the same."""
    there_and_back = normal(2, 60, 0.001) * np.concatenate([np.linspace(1, 1.2, 30), np.linspace(1.2, 1, 30)])
    assert abs(drift(there_and_back)) < 0.01
    assert wandering(there_and_back) == pytest.approx(0.13, abs=0.02)
    assert wandering(normal(2, 60)) < 0.015
    assert wandering([1.0, 2.0, 3.0]) == 0.0


def test_a_short_run_may_wander_too():
    """A slow case has ten blocks; their parts are pairs."""
    assert wandering([1.0] * 4 + [1.2] * 4) == pytest.approx(0.2)


@pytest.mark.parametrize(("blocks", "exceed"), [(60, 0.02), (12, 0.02), (8, 0.03), (4, 0.06)])
def test_runs_that_wander_so_differ_by_less(blocks, exceed):
    """Of pairs of runs one in a hundred differs by more, of the shortest one in twenty."""
    runs = 1 + 0.01 * np.random.default_rng(5).standard_normal((1000, 2, blocks))
    differ = [abs(np.median(one) / np.median(other) - 1) > max(map(between_runs, (one, other))) for one, other in runs]
    assert 0 < np.mean(differ) < exceed
    assert between_runs([1.0] * 3) == 0.0


def test_few_samples_have_no_modes():
    """Of ten normal ones a third would seem to have two."""
    assert modes([1.0] * 5 + [2.0] * 5) is None
    assert modes([1.0] * 10 + [2.0] * 10) == (1.0, 2.0)


@pytest.mark.parametrize("shape", ["normal", "uniform", "spikes", "constant", "few"])
def test_one_mode_is_not_two(shape):
    """Nor are a few spikes a mode."""
    rng = np.random.default_rng(3)
    samples = {
        "normal": normal(3, 500),
        "uniform": rng.uniform(1, 2, 500),
        "spikes": np.concatenate([normal(3, 480), 1 + rng.uniform(1, 9, 20)]),
        "constant": np.ones(50),
        "few": np.array([1.0, 2.0]),
    }[shape]
    assert modes(samples) is None


def test_two_modes_are_found():
    """A machine that runs at two speeds."""
    low, high = modes(np.concatenate([normal(4, 300), 1.7 * normal(5, 200)]))
    assert (low, high) == (pytest.approx(1, rel=0.01), pytest.approx(1.7, rel=0.01))


def test_a_distrusted_run_says_why():
    """Drift and two modes, in words; a quiet run has no reasons."""
    steady, moving = normal(6, 60), normal(6, 60) * np.linspace(1, 1.2, 60)
    assert unstable(steady, steady, 0.05) == []
    assert unstable(steady, moving, 0.05) == ["drift of +13.0% between its first and last third"]
    assert unstable(np.concatenate([steady, 2 * steady]), steady, 0.05) == ["two modes, 100.0% apart"]

"""Sampling with a fake clock: warm-up, samples, when each ends, and what the samples say."""

import gc
import itertools
from dataclasses import replace

import numpy as np
import pytest

from fixtures.benchmark.sampling import MIN_SAMPLES, SECOND, WARMUP_SHARE, Samples, sample, time_calls

MILLISECOND = SECOND // 1000


class Clock:
    """Advances by ``tick`` when read, and by the next of ``durations`` when the callable runs."""

    def __init__(self, durations, tick=1):
        self.now, self.tick, self.durations = 0, tick, iter(durations)

    def __call__(self):
        """Read the clock."""
        self.now += self.tick
        return self.now

    def work(self):
        """The callable that is timed."""
        self.now += next(self.durations)


def test_samples_take_the_given_time():
    clock = Clock(itertools.repeat(10 * MILLISECOND))
    taken = sample(clock.work, 2.0, clock)
    assert taken.warmup_calls == 200 * WARMUP_SHARE
    assert len(taken.ns) == 200
    assert set(taken.seconds) == {0.010000001}


def test_slow_call_is_sampled_a_few_times():
    clock = Clock(itertools.repeat(5 * SECOND))
    taken = sample(clock.work, 2.0, clock)
    assert len(taken.ns) == MIN_SAMPLES
    assert taken.warmup_calls == 1


def test_time_calls_ends_after_the_time_and_the_least_number():
    clock = Clock(itertools.repeat(30), tick=0)
    assert time_calls(clock.work, 100, clock=clock) == [30, 30, 30, 30]
    assert time_calls(clock.work, 0, clock=clock) == [30]
    assert time_calls(clock.work, 0, 3, clock) == [30, 30, 30]


def test_garbage_is_not_collected_while_sampling():
    seen = []
    sample(lambda: seen.append(gc.isenabled()), 0.01)
    assert seen
    assert not any(seen)
    assert gc.isenabled()


def test_error_of_the_call_is_raised_and_the_collector_enabled_again():
    with pytest.raises(ZeroDivisionError):
        sample(lambda: 1 / 0, 0.1)
    assert gc.isenabled()


def samples(seconds, **changes):
    """Samples of a steady call without external load."""
    ns = tuple(int(value * SECOND) for value in seconds)
    return replace(Samples(ns, 20, external_load=0.0), **changes)


def test_percentiles_are_in_seconds():
    """Of the numbers 1 to 101."""
    found = samples(range(1, 102)).percentiles
    assert (found["p50"], found["p90"], found["p99"]) == (51, 91, 100)
    assert found["relative_iqr"] == pytest.approx(50 / 51)


def test_warnings_name_drift_and_load():
    """A noisy run has none; the median of a drifting one changes from its first third to its last."""
    noisy = 1 + 0.01 * np.random.default_rng(2).standard_normal(60)
    assert samples(noisy).warnings == []
    drifting = samples(noisy * np.linspace(1, 1.2, 60), external_load=0.25)
    assert drifting.drift == pytest.approx(0.13, abs=0.02)
    drift, load = drifting.warnings
    assert f"{drifting.drift:+.1%}" in drift
    assert "25%" in load
    assert samples([1.0, 2.0, 3.0]).drift == 0.0

"""Outcomes of the A/B comparison on synthetic blocks whose slowdown is known."""

import numpy as np
import pytest

from fixtures.benchmark.ab import MAX_LAUNCHES
from fixtures.benchmark.ab_statistics import INCONCLUSIVE, MIN_VALUES, NOT_SLOWER, SLOWER, effective_count, judge

PAIRS = 600  # of all launches
TRIALS = 50


def launches(seed, slowdown, count, *, noise=0.01, deviation=0.0):
    """Blocks of head and base; the latencies of a launch deviate as a whole."""
    random = np.random.default_rng(seed)
    level = np.exp(deviation * random.standard_normal((count, 2, 1)))
    blocks = level * np.exp(noise * random.standard_normal((count, 2, PAIRS // count)))
    return [((1 + slowdown) * head, base) for head, base in blocks]


def disturbed(seed, slowdown, count):
    """Blocks of which other processes slow every second one, by a lot."""
    random = np.random.default_rng(seed)
    shape = (count, 2, PAIRS // count)
    slow = (random.random(shape) < 0.5) * random.exponential(1.0, shape)
    blocks = np.exp(0.01 * random.standard_normal(shape) + slow)
    return [((1 + slowdown) * head, base) for head, base in blocks]


def drifting(seed, slowdown, count):
    """The machine becomes half as fast during each launch."""
    trend = np.linspace(1, 2, PAIRS // count)
    return [(head * trend, base * trend) for head, base in launches(seed, slowdown, count)]


CONDITIONS = {
    "quiet": launches,
    "noisy": lambda *words: launches(*words, noise=0.1),
    "launches deviate": lambda *words: launches(*words, deviation=0.01),
    "disturbed": disturbed,
    "drifting": drifting,
}


@pytest.mark.parametrize("count", [3, MAX_LAUNCHES])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_five_percent_are_found_and_nothing_is_no_slowdown(condition, count):
    """At least 47 times in 50, and never."""
    outcomes = {
        slowdown: [judge(CONDITIONS[condition](seed, slowdown, count)).outcome for seed in range(TRIALS)]
        for slowdown in (0.0, 0.05)
    }
    assert outcomes[0.05].count(SLOWER) >= 47
    assert outcomes[0.0].count(SLOWER) == 0
    assert outcomes[0.0].count(NOT_SLOWER) >= 45


@pytest.mark.parametrize(("count", "deviation"), [(1, 0.007), (3, 0.007), (8, 0.0), (8, 0.02), (MAX_LAUNCHES, 0.02)])
def test_interval_contains_the_true_ratio(count, deviation):
    """In 97 of 100 trials. Few launches are assumed to deviate by 1 %, which is 0.7 % of either side."""
    found = [judge(launches(seed, 0.03, count, deviation=deviation)) for seed in range(100)]
    assert sum(row.low <= 1.03 <= row.high for row in found) >= 97


def test_only_slowdowns_above_the_threshold_are_reported():
    quiet = {"count": MAX_LAUNCHES, "noise": 0.001}
    assert judge(launches(0, 0.02, **quiet)).outcome == NOT_SLOWER
    assert judge(launches(0, 0.03, **quiet)).outcome == SLOWER
    assert judge(launches(0, -0.5, **quiet)).outcome == NOT_SLOWER


def test_too_few_pairs_are_inconclusive():
    """The median of seven values has no interval of 99 %."""
    pairs = np.ones(MIN_VALUES)
    assert judge([(1.1 * pairs, pairs)]).outcome == SLOWER
    found = judge([(1.1 * pairs[1:], pairs[1:])])
    assert (found.outcome, found.low, found.high) == (INCONCLUSIVE, 0.0, np.inf)


def test_noise_is_inconclusive():
    """The interval contains both 1 and twice the threshold."""
    assert judge(launches(0, 0.03, 2, noise=0.6)).outcome == INCONCLUSIVE


def test_correlated_neighbours_count_less():
    """A moving average of 20 values has about a twentieth of them."""
    random = np.random.default_rng(1)
    steps = random.standard_normal(400)
    assert effective_count(steps) > 300
    assert effective_count(np.convolve(steps, np.ones(20), "valid")) < 40
    assert effective_count(np.ones(50)) == 50

"""The gate over launches that differ, and over more blocks than fit in memory."""

import re
import tracemalloc

import numpy as np
import pytest

from fixtures.benchmark.ab import LAUNCHES
from fixtures.benchmark.gate import INCONCLUSIVE, NOT_SLOWER, SLOWER, judge, judge_launches
from fixtures.benchmark.thresholds import Threshold

LIMIT = Threshold("*", 2.5, "of these tests")


def test_a_launch_that_does_not_agree_makes_it_inconclusive():
    """Five percent in three of four launches, as where a process lands well or badly in memory; hidden in noise."""
    random = np.random.default_rng(5)

    def launch(slower):
        noise = np.exp(0.03 * random.standard_normal((2, 200)))
        return slower * noise[0], noise[1]

    found = judge_launches([launch(value) for value in (1.05, 1.05, 0.99, 1.05)], LIMIT)
    assert found.outcome == INCONCLUSIVE
    assert re.search(r"launches differ: \+\d\.\d%, \+\d\.\d%, -\d\.\d%, \+\d\.\d%$", str(found))
    assert found.advice(60) == "sample for --speed-seconds 120 (now 60), both runs"
    found = judge_launches([launch(value) for value in (1.1, 1.0, 1.0, 1.0)], LIMIT)
    assert found.outcome == INCONCLUSIVE
    assert "launches differ: +" in str(found)
    assert judge_launches([launch(1.05) for _ in range(4)], LIMIT).outcome == SLOWER
    assert judge_launches([launch(1.0) for _ in range(4)], LIMIT).outcome == NOT_SLOWER


@pytest.mark.parametrize("count", [5, LAUNCHES])
@pytest.mark.parametrize(("slower", "least", "most"), [(1.0, 0, 2), (1.05, 90, 100)])
def test_processes_that_land_in_two_kinds_of_memory(slower, least, most, count):
    """Three percent apart by chance, as the whole life of a process: of one launch a quarter would be called slower."""
    assert least <= called_slower(slower, count, noise=0.02, kinds=0.03) <= most


@pytest.mark.parametrize(("slower", "least", "most"), [(1.0, 0, 1), (1.05, 95, 100)])
def test_launches_that_only_noise_tells_apart(slower, least, most):
    """By three percent: some then seem faster where all are slower by five."""
    assert least <= called_slower(slower, LAUNCHES, noise=0.15) <= most


def called_slower(slower, launches, noise, kinds=0.0):
    """How many of 100 times, for 600 pairs from so many launches."""
    called = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        places = 1 + kinds * random.integers(0, 2, (launches, 2, 1))
        blocks = places * np.exp(noise * random.standard_normal((launches, 2, 600 // launches)))
        called += judge_launches([(slower * new, old) for new, old in blocks], LIMIT).outcome == SLOWER
    return called


@pytest.mark.parametrize(
    ("count", "apart"), [(1, 0.0), (1, 0.01), (3, 0.01), (8, 0.0), (8, 0.02), (LAUNCHES, 0.0), (LAUNCHES, 0.02)]
)
def test_the_interval_tells_by_how_much_launches_differ(count, apart):
    """99 times in 100 it holds the truth, though two launches are some percent apart while they live.

    Of one launch nobody sees that: it is taken to be as it was measured.
    """
    holds = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        places = np.exp(apart * random.standard_normal((count, 1, 1)) * [[[1], [0]]])
        blocks = places * np.exp(0.01 * random.standard_normal((count, 2, 200 // count)))
        found = judge_launches([(1.03 * new, old) for new, old in blocks], LIMIT).ratio
        holds += found.low <= 1.03 <= found.high
    assert holds >= 194


def test_hours_of_blocks_are_judged_as_minutes_are():
    """The pairs of all of them would fill the memory."""
    rng = np.random.default_rng(0)
    new, old = (level * np.exp(0.01 * rng.standard_normal(30_001)) for level in (1.05, 1.0))
    tracemalloc.start()
    found = judge(new, old, LIMIT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**28
    assert found.outcome == SLOWER
    assert found.ratio.low < 1.05 < found.ratio.high


@pytest.mark.parametrize(("new", "old"), [(600, 24_000), (24_000, 600)])
@pytest.mark.parametrize(("slower", "outcome"), [(1.0, NOT_SLOWER), (1.05, SLOWER)])
def test_a_long_run_is_held_against_a_short_one(new, old, slower, outcome):
    """Though some blocks are slow by the others' doing: both have as many of them."""
    rng = np.random.default_rng(1)

    def blocks(count):
        return np.exp(0.004 * rng.standard_normal(count)) * np.where(rng.random(count) < 0.12, 1.45, 1.0)

    assert judge(slower * blocks(new), blocks(old), LIMIT).outcome == outcome

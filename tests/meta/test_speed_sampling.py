"""Sampling with a clock that a test turns: warm-up, batches, blocks, the end by rule."""

import gc
import itertools

import pytest

from fixtures.benchmark.sampling import (
    BLOCK_CALLS,
    LEAST_SAMPLES,
    SECOND,
    TICKS_A_SAMPLE,
    Plan,
    Samples,
    block,
    block_length,
    resolution,
    sample,
)
from fixtures.benchmark.yardstick import yardstick
from fixtures.plugin import speed


class Clock:
    """Turns by ``tick`` when read and by the next of ``durations`` when the callable runs."""

    def __init__(self, durations, tick=1):
        self.now, self.tick, self.durations, self.calls = 0, tick, iter(durations), 0

    def __call__(self):
        """Read."""
        self.now += self.tick
        return self.now

    def work(self):
        """The callable that is timed."""
        self.calls += 1
        self.now += next(self.durations)


def steady(nanoseconds):
    """The same again and again."""
    return itertools.repeat(nanoseconds)


def test_the_budget_ends_it():
    """Two seconds of a call of ten milliseconds, in twenty blocks or so."""
    clock = Clock(steady(10_000_000))
    taken = sample(clock.work, Plan(seconds=2.0), clock)
    assert taken.settled
    assert taken.warmup_calls == 20  # 0.2 s
    assert taken.calls == 1
    assert 2.0 <= taken.seconds < 2.2
    assert 18 <= len(taken.blocks) <= 20
    assert taken.yards == ()
    assert taken.levels == taken.block_ns
    assert set(taken.block_ns) == {10_000_001.0}
    assert len(taken.per_call_ns) == sum(map(len, taken.blocks))


def test_a_slow_call_is_sampled_three_times_all_the_same():
    """One run of a reference target takes longer than the tolerance."""
    clock = Clock(steady(5 * SECOND))
    taken = sample(clock.work, Plan(seconds=2.0), clock)
    assert len(taken.per_call_ns) == LEAST_SAMPLES
    assert not taken.settled


def test_enough_is_enough():
    """A steady call is known to a percent after the fewest blocks that allow an interval."""
    clock = Clock(steady(10_000_000))
    taken = sample(clock.work, Plan(seconds=60.0, target=0.01), clock)
    assert taken.seconds < 10


def test_a_restless_call_takes_the_budget():
    """The rule asks for a median known to a percent, and this one wanders by half."""
    clock = Clock(10_000_000 + 1_000_000 * (step // 40 % 7) for step in itertools.count())
    assert sample(clock.work, Plan(seconds=10.0, target=0.001), clock).seconds >= 10


def test_fast_calls_are_batched():
    """A sample lasts a thousand steps of the clock, and is given back a call."""
    clock = Clock(steady(50), tick=10)
    taken = sample(clock.work, Plan(seconds=0.001, warmup_seconds=0.00001), clock)
    assert taken.calls * 60 >= TICKS_A_SAMPLE * 10
    assert taken.block_ns[0] == pytest.approx(50, rel=0.01)


def test_warm_up_waits_until_it_settles():
    """The first calls get faster: none of them is among the samples."""
    falling = [100_000_000 - 5_000_000 * step for step in range(18)]
    clock = Clock(itertools.chain(falling, steady(10_000_000)))
    taken = sample(clock.work, Plan(seconds=20.0), clock)
    assert taken.settled
    assert taken.warmup_calls > len(falling)
    assert max(taken.per_call_ns) < 11_000_000


def test_a_call_that_never_settles_says_so():
    """It is sampled all the same."""
    clock = Clock(2_000_000 * 1.1**step for step in itertools.count())
    assert not sample(clock.work, Plan(seconds=1.0), clock).settled


def test_garbage_is_not_collected_meanwhile():
    """And is again afterwards."""
    seen = []
    sample(lambda: seen.append(gc.isenabled()), Plan(seconds=0.01, warmup_seconds=0.001))
    assert not any(seen)
    assert gc.isenabled()


def test_an_error_of_the_call_is_the_callers():
    """The collector is on again."""
    with pytest.raises(ZeroDivisionError):
        sample(lambda: 1 / 0, Plan())
    assert gc.isenabled()


def test_a_block_takes_its_time():
    """At least one sample, and no sample begins after the end."""
    clock = Clock(steady(30), tick=0)
    assert block(clock.work, 2, 100, clock) == (60, 60)
    assert block(clock.work, 1, 0, clock) == (30,)


@pytest.mark.parametrize(("call", "length"), [(7e6, 0.1), (2e8, BLOCK_CALLS * 0.2), (99e9, 2.0)])
def test_blocks_have_some_calls_where_time_allows(call, length):
    """A call of milliseconds, a slow one, and one that is longer than the tolerance bears."""
    assert block_length(call, seconds=0.1, most=2.0) == pytest.approx(length * SECOND)


def test_a_yardstick_stands_beside_each_block():
    """The machine becomes half as fast: blocks do, in yardsticks they do not; the call after a yardstick is dropped."""
    clock = Clock(steady(0))

    def work(nanoseconds):
        def call():
            clock.now += nanoseconds * (1 + (clock.now > SECOND))

        return call

    taken = sample(work(10_000_000), Plan(seconds=2.0, yardstick=work(1_000_000)), clock)
    assert len(taken.yards) == len(taken.blocks)
    assert max(taken.block_ns) == pytest.approx(2 * min(taken.block_ns), rel=0.01)
    assert (
        sum(level == pytest.approx(10, rel=0.01) for level in taken.levels) >= len(taken.levels) - 1
    )  # one is in both
    assert len(taken.blocks[0]) == 9


def test_what_runs_on_processors_has_a_yardstick():
    """A GPU's moods are its own."""
    assert yardstick("migraphx:gpu") is None
    assert yardstick("onnxruntime:migraphx") is None
    for engine in ("onnxruntime:cpu", "migraphx:ref", "migraphx:cpu"):
        yardstick(engine)()


def test_the_real_clock_has_a_step():
    """Below a hundredth of a millisecond."""
    assert 0 < resolution() < 10_000
    assert resolution(lambda: 7) == 1


@pytest.mark.parametrize(("warmup", "settled", "told"), [(1, False, []), (50, True, []), (50, False, [speed.RESTLESS])])
def test_only_who_had_the_time_to_settle_is_called_restless(warmup, settled, told):
    """Calls that take as long as the warm-up say nothing of it."""
    assert speed._restless(Samples(((1,),), (0.0,), (), 1, warmup, settled, 1.0)) == told

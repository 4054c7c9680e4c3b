"""The gate on synthetic noise: moods of the machine, spikes, drift; three verdicts, each with its text."""

import json

import numpy as np
import pytest

from fixtures.benchmark import baseline, thresholds
from fixtures.benchmark.gate import (
    INCONCLUSIVE,
    NOT_SLOWER,
    SLOWER,
    judge,
    judge_pairs,
    paired_ratio,
    ratio,
    undisturbed,
)
from fixtures.benchmark.thresholds import THRESHOLDS, Threshold, threshold
from fixtures.errors import BenchmarkError

LIMIT = Threshold("*", 2.5, "of these tests")
TRIALS = 200


def run(seed, count=60, *, mood=0.004, spikes=0.03, memory=0.9):
    """Block medians of a noisy machine: correlated neighbours, and now and then somebody else's work."""
    rng = np.random.default_rng(seed)
    values, state = [], 0.0
    for _ in range(count):
        state = memory * state + np.sqrt(1 - memory**2) * rng.standard_normal()
        values.append(1e6 * np.exp(mood * state) * (1 + (rng.random() < spikes) * rng.exponential(0.5)))
    return np.array(values)


def outcomes(slowdown, judged=judge):
    """Verdicts of pairs of runs, the second of which is slower."""
    return [judged((1 + slowdown) * run(2 * at), run(2 * at + 1), LIMIT).outcome for at in range(TRIALS)]


def test_a_slowdown_of_the_limit_is_found():
    """At least 95 times in 100."""
    assert outcomes(0.05).count(SLOWER) >= 0.95 * TRIALS


def test_no_change_is_no_alarm():
    """At most once in 100, though neighbouring blocks are no independent samples."""
    found = outcomes(0.0)
    assert found.count(SLOWER) <= 0.01 * TRIALS
    assert found.count(NOT_SLOWER) >= 0.95 * TRIALS


def test_less_than_the_threshold_is_not_called_slower():
    """However surely it is there."""
    quiet = {"mood": 0.0001, "spikes": 0.0}
    assert judge(1.02 * run(1, **quiet), run(2, **quiet), LIMIT).outcome == NOT_SLOWER
    assert judge(1.03 * run(1, **quiet), run(2, **quiet), LIMIT).outcome == SLOWER
    assert judge(1.03 * run(1, **quiet), run(2, **quiet), Threshold("*", 3.5, "")).outcome == NOT_SLOWER


def test_faster_is_not_slower():
    """However much."""
    assert judge(0.5 * run(1), run(2), LIMIT).outcome == NOT_SLOWER


def test_a_verdict_in_words():
    """Estimate, interval and threshold."""
    text = str(judge(1.1 * run(1), run(2), LIMIT))
    assert text.startswith("slower: +")
    assert "99 % interval" in text
    assert text.endswith("slower from 2.5 %)")


def test_too_few_blocks_settle_nothing():
    """No interval of 99 % exists for three of each; more would help, and how many."""
    found = judge([1.0, 1.1, 1.2], [1.0, 1.1, 1.2], LIMIT)
    assert found.outcome == INCONCLUSIVE
    assert found.ratio.high == float("inf")
    assert found.advice(2.0) == "sample for --speed-seconds 8 (now 2), both runs"


def test_noise_makes_it_inconclusive_and_more_time_settles_it():
    """The advice is a number of seconds; whoever takes it has a verdict soon."""
    count, advised = 20, 0
    noisy = {"mood": 0.08, "spikes": 0.0, "memory": 0.0}
    found = judge_pairs(run(11, count, **noisy), run(12, count, **noisy), LIMIT)
    assert found.outcome == INCONCLUSIVE
    assert found.advice(10.0).startswith("sample for --speed-seconds ")
    while found.outcome == INCONCLUSIVE and advised < 5:
        count, advised = int(count * found.more), advised + 1
        found = judge_pairs(run(11, count, **noisy), run(12, count, **noisy), LIMIT)
    assert found.outcome == NOT_SLOWER


def test_a_drifting_run_is_not_believed():
    """Eight percent within a run: four percent between runs may be the same wandering, twenty may not."""
    moving = run(1, spikes=0.0) * np.linspace(1, 1.09, 60)
    found = judge(moving, run(2, spikes=0.0), LIMIT)
    assert found.outcome == INCONCLUSIVE
    assert str(found).endswith("; this run wandered, and so two may differ by 5.5%")
    assert found.advice(30.0) == "make the machine quieter, or compare both installations in one run with --ab"
    found = judge(1.09 * run(2, spikes=0.0), moving, LIMIT)
    assert str(found).endswith("; the baseline wandered, and so two may differ by 5.5%")
    assert found.advice(30.0).startswith("save the baseline again while the machine is quiet, or compare")
    assert judge(1.2 * moving, run(2), LIMIT).outcome == SLOWER


def test_most_of_what_a_run_wandered_is_no_effect():
    """Eight percent from its fastest sixth to its slowest: slower by seven as a whole is believed, by five not."""
    moving = run(1, spikes=0.0) * np.linspace(1, 1.09, 60) / 1.045
    assert judge(1.07 * moving, run(2, spikes=0.0), LIMIT).outcome == SLOWER
    assert judge(1.05 * moving, run(2, spikes=0.0), LIMIT).outcome == INCONCLUSIVE


def test_so_few_blocks_that_nobody_knows_how_they_wander():
    """More of them is what helps."""
    few = np.array([1, 1.012, 0.996, 1.018, 1.01])
    found = judge(few, few[:4], LIMIT)
    assert found.outcome == INCONCLUSIVE
    assert found.advice(10.0) == "sample for --speed-seconds 30 (now 10), both runs"
    assert judge(few[:3] * 1.1, run(1), LIMIT).outcome == judge(run(1) * 1.1, few[:3], LIMIT).outcome == INCONCLUSIVE


def test_blocks_that_others_disturbed_are_left_out():
    """Where half are left, and eight; else all are shown and none believed."""
    blocks, foreign = [1.0] * 10 + [9.0] * 5, [0.02] * 10 + [0.8] * 5
    assert undisturbed(blocks, foreign, 0.1) == ([1.0] * 10, "")
    most = undisturbed(blocks * 2 + [9.0] * 15, foreign * 2 + [0.8] * 15, 0.1)
    assert most[1] == "others used 80% of the processors, at most 10% is borne"
    kept, why = undisturbed(blocks[5:], foreign[5:], 0.1)
    assert kept == blocks[5:]
    assert why == "others used 41% of the processors, at most 10% is borne"
    found = judge(2 * run(1), run(2), LIMIT, why)
    assert found.outcome == INCONCLUSIVE
    assert str(found).endswith(f"; {why}")
    assert found.advice(30.0).startswith("make the machine quieter")
    found = judge(2 * run(1), run(2), LIMIT, "", why)
    assert found.outcome == INCONCLUSIVE
    assert str(found).endswith(f"; at the baseline's time {why}")
    assert found.advice(30.0).startswith("save the baseline again")
    both = judge(2 * run(1), run(2), LIMIT, why, why).advice(30.0)
    assert both.startswith("make the machine quieter and save the baseline again, or compare")


def test_pairs_do_not_mind_drift():
    """What the machine does to both sides cancels."""
    trend = np.linspace(1, 2, 60)
    assert judge_pairs(1.05 * run(1) * trend, run(2) * trend, LIMIT).outcome == SLOWER
    assert judge_pairs(run(1) * trend, run(2) * trend, LIMIT).outcome == NOT_SLOWER


def busy(seed, count=300):
    """Blocks of which others slow every second one, by a lot."""
    rng = np.random.default_rng(seed)
    slow = (rng.random(count) < 0.5) * rng.exponential(1.0, count)
    return 1e6 * np.exp(0.01 * rng.standard_normal(count) + slow)


@pytest.mark.parametrize(("slowdown", "least", "most"), [(0.05, 0.95, 1), (0.0, 0, 0.01)])
def test_pairs_do_not_mind_what_others_do_to_one_of_them(slowdown, least, most):
    """The limit is found, and no change is no alarm; Hodges and Lehmann's estimate finds a third of them here."""
    pairs = [((1 + slowdown) * busy(2 * at), busy(2 * at + 1)) for at in range(TRIALS)]
    found = [judge_pairs(new, old, LIMIT).outcome for new, old in pairs]
    assert least * TRIALS <= found.count(SLOWER) <= most * TRIALS


@pytest.mark.parametrize("seven", [False, True])
def test_eight_pairs_are_the_fewest(seven):
    """Of seven the median has no interval of 99 %."""
    pairs = run(1, 7 if seven else 8, mood=0.0, spikes=0.0)
    found = paired_ratio(1.1 * pairs, pairs)
    assert found.value == pytest.approx(1.1)
    assert (found.high == float("inf")) == seven


@pytest.mark.parametrize("found", [ratio, paired_ratio])
def test_the_interval_holds_the_truth(found):
    """99 times in 100, for blocks that are independent."""
    pairs = [(run(at, memory=0.0), run(TRIALS + at, memory=0.0)) for at in range(TRIALS)]
    rows = [found(1.03 * new, old) for new, old in pairs]
    assert sum(row.low <= 1.03 <= row.high for row in rows) >= 0.97 * TRIALS


def test_the_limits_are_a_table():
    """In percent with decimals; the first row that fits decides, and a row fits everything."""
    assert threshold("test_latency[migraphx:ref-test_nfnet@64-fp32-b1]").percent == 5.0
    assert threshold("test_latency[onnxruntime:cpu-test_nfnet@64-fp32-b1]").percent == 2.5
    assert THRESHOLDS[-1].pattern == "*"
    assert threshold("anything").effect == threshold("anything").limit / 2


def test_a_row_may_name_one_benchmark():
    """Brackets are part of its name; what a row cannot mean is refused."""
    name = "test_latency[onnxruntime:cpu-digits_nfnet@32+trained-fp32-b1]"
    row = Threshold(name, 0.5, "")
    assert row.fits(name)
    assert not row.fits(name.replace("b1", "b2"))
    assert Threshold("test_latency[*-b?]", 0.5, "").fits(name)


@pytest.mark.parametrize("percent", [0, -5, float("nan"), "5", None])
def test_a_threshold_is_a_percentage(percent):
    """Else the gate would say anything."""
    with pytest.raises(BenchmarkError, match="for a name -> give a percentage above 0"):
        Threshold("a name", percent, "")


def test_a_table_without_an_end(monkeypatch):
    """Says what it lacks."""
    monkeypatch.setattr(thresholds, "THRESHOLDS", ())
    with pytest.raises(BenchmarkError, match=r"no threshold fits x -> end the table in .* with a row \*"):
        threshold("x")


def saved(folder, number=1, name="before", machine=None, rows=None, when=""):
    """A file as pytest-benchmark writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:04}_{name}.json"
    extra = [
        {"fullname": key, "extra_info": {"speed": {"block_ns": value, "foreign": [0] * len(value)}}}
        for key, value in (rows or {}).items()
    ]
    facts = {"cpu": "A", "cores": "2", "gpus": "none"} if machine is None else machine
    path.write_text(json.dumps({"machine_info": {"nfnet": facts}, "benchmarks": extra, "datetime": when}))
    return path


def test_a_baseline_is_found_by_name_number_or_path(tmp_path):
    """The newest where several have the name, the newest of all where none is given."""
    first, second, other = (saved(tmp_path / "x", at, name) for at, name in ((1, "a"), (2, "a"), (3, "b")))
    assert baseline.find(tmp_path, "a") == second
    assert baseline.find(tmp_path, "") == other
    assert baseline.find(tmp_path, "0001") == first
    assert baseline.find(tmp_path, "0001_a") == first
    assert baseline.find(tmp_path, str(first)) == first


def test_a_damaged_run_may_be_the_newest(tmp_path):
    """It is named, not passed over; other names are had all the same."""
    saved(tmp_path / "x", 1, "a")
    other = saved(tmp_path / "x", 2, "b")
    (tmp_path / "x" / "0003_a.json").write_text("{")
    for name in ("a", ""):
        with pytest.raises(BenchmarkError, match=r"0003_a\.json: this saved run cannot be read, and may be the newest"):
            baseline.find(tmp_path, name)
    assert baseline.find(tmp_path, "b") == other


def test_the_newest_baseline_is_newest_by_time(tmp_path):
    """Each version of Python counts its runs by itself, in a folder of its own."""
    old = saved(tmp_path / "x" / "CPython-3.10", 9, "a", when="2025-01-01T00:00:00+00:00")
    new = saved(tmp_path / "x" / "CPython-3.13", 1, "a", when="2025-02-01T00:00:00+00:00")
    assert baseline.find(tmp_path, "") == baseline.find(tmp_path, "a") == new
    assert baseline.find(tmp_path, "0009") == old
    new.write_text('{"datetime": "2024-01-01T00:00:00+00:00", "benchmarks": [' + "1, " * 5000 + "1]}")
    assert baseline.find(tmp_path, "") == old  # wherever the date stands


def test_a_damaged_run_that_tells_its_date_is_refused_when_it_is_read(tmp_path):
    """It is the newest, and is not passed over."""
    saved(tmp_path, 1, "a", when="2025-01-01T00:00:00+00:00")
    damaged = tmp_path / "0002_a.json"
    damaged.write_text('{"benchmarks": [, "datetime": "2025-02-01T00:00:00+00:00"}')
    assert baseline.find(tmp_path, "a") == damaged
    with pytest.raises(BenchmarkError, match=r"0002_a\.json: not a saved run: JSONDecodeError"):
        baseline.load(damaged)


def test_a_baseline_that_is_missing(tmp_path):
    """What there is, and what there is of other hardware, is named."""
    saved(tmp_path / "here", 1, "a")
    saved(tmp_path / "there", 1, "before")
    with pytest.raises(
        BenchmarkError, match=r"no saved run before: it has 0001_a; of other hardware there is there/0001_b"
    ):
        baseline.find(tmp_path / "here", "before")
    with pytest.raises(BenchmarkError, match=r"no saved run at all: it has none; .* -> save one on this machine with"):
        baseline.find(tmp_path / "nowhere", "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a saved run: JSONDecodeError"),
        ("[]", "not a saved run: TypeError"),
        ("{}", "not a saved run: KeyError"),
        ("[" * 200_000, "not a saved run: RecursionError"),
        ('{"machine_info": {"nfnet": [1]}, "benchmarks": []}', "not a saved run: AttributeError"),
        ('{"machine_info": {}, "benchmarks": []}', "without the samples that the gate needs"),
    ],
)
def test_a_file_that_is_no_baseline(tmp_path, text, reason):
    """Broken, foreign, or saved before there was a gate."""
    path = tmp_path / "0001_x.json"
    path.write_text(text)
    with pytest.raises(BenchmarkError, match=reason):
        baseline.load(path)


@pytest.mark.parametrize(
    ("blocks", "foreign", "yards"),
    [
        ([], [], []),
        ([1.0, 2.0], [0.0], []),
        ([1.0, 2.0], [0.0, 0.0], [1.0]),
        ([1.0], [0.0], [0.0]),
        ([1.0], [0.0], [1.0]),  # of no yardstick
        ([0.0], [0.0], []),
        ([-1.0], [0.0], []),
        ([float("nan")], [0.0], []),
        ([float("inf")], [0.0], []),
        ([10**400], [0.0], []),
    ],
)
def test_blocks_that_cannot_be_are_no_baseline(tmp_path, blocks, foreign, yards):
    """None at all, of two lengths, or numbers that are no times."""
    path = saved(tmp_path, rows={"x": blocks})
    run = json.loads(path.read_text())
    run["benchmarks"][0]["extra_info"]["speed"].update(foreign=foreign, yard_ns=yards)
    path.write_text(json.dumps(run))
    with pytest.raises(BenchmarkError, match=r"not a saved run: (ValueError: impossible blocks of x|OverflowError)"):
        baseline.load(path)


def test_a_baseline_that_has_lost_what_its_yardstick_took_is_none(tmp_path):
    """Nanoseconds would be held against multiples of it, and nothing were ever slower."""
    path = saved(tmp_path, rows={"x": [1.0, 2.0]})
    run = json.loads(path.read_text())
    run["benchmarks"][0]["extra_info"]["speed"]["yardstick"] = "a"
    path.write_text(json.dumps(run))
    with pytest.raises(BenchmarkError, match="not a saved run: ValueError: impossible blocks of x"):
        baseline.load(path)


def test_other_hardware_is_refused(tmp_path):
    """With the difference, and what to do."""
    known = baseline.load(saved(tmp_path, rows={"x": [1.0]}))
    assert known.of("x") == baseline.Blocks((1.0,), (0.0,), (), "")
    known.check_hardware({"cpu": "A", "cores": "2", "gpus": "none", "kernel": "another"})
    with pytest.raises(
        BenchmarkError, match="other hardware: gpus: none there, gfx942 here -> save one on this machine"
    ):
        known.check_hardware({"cpu": "A", "cores": "2", "gpus": "gfx942"})
    with pytest.raises(BenchmarkError, match="the baseline has no benchmark y"):
        known.of("y")


def test_another_yardstick_is_no_baseline():
    """Quotients of different things; without one on either side nanoseconds are compared."""
    blocks = baseline.Blocks((6.0, 8.0), (0.0, 0.0), (2.0, 4.0), "a")
    assert blocks.levels("a") == [3.0, 2.0]
    assert baseline.Blocks((6.0,), (0.0,), (), "").levels("") == [6.0]
    with pytest.raises(BenchmarkError, match="has another yardstick: a then, b now -> save one on this machine"):
        blocks.levels("b")
    with pytest.raises(BenchmarkError, match="none then, b now"):
        baseline.Blocks((6.0,), (0.0,), (), "").levels("b")

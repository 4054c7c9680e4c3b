"""Steps and drift over saved runs, on pasts whose truth is known."""

import json

import numpy as np
import pytest

from fixtures.speed.history import drift, histories, report, steps

NAMES = [f"{at:04}_nightly" for at in range(40)]


def past(seed, levels, scale=0.01):
    """Values of 40 runs: noise around levels of equal length, and one outlier."""
    rng = np.random.default_rng(seed)
    values = np.repeat(levels, 40 // len(levels)) * np.exp(scale * rng.standard_normal(40))
    values[7] *= 1.5
    return values


@pytest.mark.parametrize("seed", range(10))
def test_a_step_is_named(seed):
    """The run where the case became eight percent slower, within one run, though another was an outlier."""
    (step,) = steps(past(seed, [1.0, 1.08]), NAMES)
    assert NAMES.index(step.run) in {19, 20, 21}
    assert step.change == pytest.approx(0.08, abs=0.02)


def test_a_step_in_words():
    """Change and run."""
    values = [1.0] * 10 + [1.2] * 10
    assert [str(step) for step in steps(values, NAMES)] == ["+20.0% since 0010_nightly"]


def test_two_steps_are_two():
    """Slower, then repaired."""
    found = steps(past(3, [1.0, 1.2, 1.0, 1.0]), NAMES)
    assert [NAMES.index(step.run) for step in found] == [10, 20]


def test_noise_is_no_step():
    """At most one past in fifty has one."""
    assert sum(bool(steps(past(seed, [1.0]), NAMES)) for seed in range(50)) <= 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_runs_have_no_history(count):
    """No step, no drift."""
    assert steps([1.0, 2.0, 3.0][:count], NAMES) == []
    assert drift([1.0, 2.0, 3.0][:count]) is None


def test_slow_drift_is_seen():
    """Four percent over forty runs, each of which passes; noise alone is none, and a step is a step."""
    noise = np.exp(0.01 * np.random.default_rng(1).standard_normal(40))
    found = drift(np.linspace(1, 1.04, 40) * noise)
    assert found.change == pytest.approx(0.04, abs=0.02)
    assert str(found).endswith("over all runs, slowly")
    assert drift(noise) is None
    assert drift(past(1, [1.0, 1.2])) is None


def test_histories_are_read_from_saved_runs(tmp_path):
    """By benchmark, in the order of the runs' numbers; what has no blocks is left out."""
    for at, value in ((2, 4.0), (1, 3.0)):
        rows = [{"fullname": "a", "extra_info": {"speed": {"block_ns": [value, value, 9]}}},
                {"fullname": "b", "extra_info": {}}]  # fmt: skip
        (tmp_path / f"{at:04}_x.json").write_text(json.dumps({"benchmarks": rows}))
    assert histories(tmp_path) == {"a": (["0001_x", "0002_x"], [3.0, 4.0])}


def test_the_report_names_what_changed(tmp_path):
    """A line a change; where there was none, how much was looked at."""
    assert report(tmp_path) == ["no change in 0 benchmarks over 0 runs"]
    for at in range(1, 21):
        values = {"steady": 5.0, "broken": 5.0 if at < 11 else 6.0, "creeping": 5.0 * 1.01**at}
        rows = [{"fullname": key, "extra_info": {"speed": {"block_ns": [value]}}} for key, value in values.items()]
        (tmp_path / f"{at:04}_x.json").write_text(json.dumps({"benchmarks": rows}))
    assert report(tmp_path) == ["broken: +20.0% since 0011_x", "creeping: +20.8% over all runs, slowly"]

"""Steps and drift over saved runs, on pasts whose truth is known."""

import json

import numpy as np
import pytest

from fixtures.benchmark.history import ERROR_OF_A_RUN, LEAST_ERROR, drift, histories, latest, report, steps

NAMES = [f"{at:04}_nightly" for at in range(60)]
HERE = {"cpu": "A", "cores": "2", "gpus": "none"}


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


@pytest.mark.parametrize("runs", [6, 20, 40])
def test_an_engine_that_repeats_to_the_bit_has_steps_of_its_error(runs):
    """Half as much again is one, though no run differs from its neighbours otherwise; one percent is none."""
    half = runs // 2
    (step,) = steps([2.0] * half + [3.0] * half, NAMES, ERROR_OF_A_RUN)
    assert (step.run, step.change) == (NAMES[half], pytest.approx(0.5))
    assert steps([2.0] * half + [2.02] * half, NAMES, ERROR_OF_A_RUN) == []
    assert steps([2.0] * (runs - 2) + [3.0] * 2, NAMES, ERROR_OF_A_RUN)[0].run == NAMES[runs - 2]
    assert drift([2.0] * runs, ERROR_OF_A_RUN) is None
    assert steps([2.0] * runs, NAMES, ERROR_OF_A_RUN) == []


def test_an_error_that_grows_slowly_is_told_and_one_that_hardly_does_is_not():
    """Two percent a run over forty runs; a tenth of a percent over all of them."""
    assert drift(1.02 ** np.arange(40), ERROR_OF_A_RUN).change == pytest.approx(1.02**39 - 1, rel=0.01)
    assert drift(1.001 ** np.arange(40), ERROR_OF_A_RUN) is None


def test_a_lucky_run_is_no_step_of_the_error():
    """One run alone is an outlier."""
    assert steps([2.0] * 9 + [9.0] + [2.0] * 10, NAMES, ERROR_OF_A_RUN) == []


def speed(blocks, yardstick="", yard=None):
    """Facts of a benchmark with these blocks, each beside a yardstick where one is named."""
    yards = [yard] * len(blocks) if yardstick else []
    return {"speed": {"block_ns": blocks, "foreign": [0.0] * len(blocks), "yard_ns": yards, "yardstick": yardstick}}


def saved(folder, at, benchmarks, when=""):
    """A saved run with these facts of its benchmarks."""
    rows = [{"fullname": name, "extra_info": facts} for name, facts in benchmarks.items()]
    run = {"benchmarks": rows, "machine_info": {"nfnet": HERE}, "datetime": when}
    (folder / f"{at:04}_x.json").write_text(json.dumps(run))


def test_histories_are_told_apart():
    """By benchmark, in the order of the runs' numbers; what has no blocks is left out, no error is nearly none."""
    rows = [
        ("0001_x", "a", {**speed([3.0, 3.0, 9]), "error_units": 0.0}),
        ("0001_x", "b", {}),
        ("0002_x", "a", {**speed([4.0]), "error_units": None}),
        ("0003_x", "a", {"error_units": 2}),
    ]
    assert histories(rows) == {"a": (["0001_x", "0002_x"], [3.0, 4.0])}
    assert histories(rows, ERROR_OF_A_RUN) == {"a": (["0001_x", "0003_x"], [LEAST_ERROR, 2.0])}


def test_times_are_told_at_the_usual_speed_of_the_yardstick():
    """A run on a slower clock is as the others; runs without a yardstick, and each yardstick by itself, stay as are."""
    yards = [None, ("one", 10.0), ("one", 13.0), ("one", 10.0), ("other", 7.0)]
    blocks = [100.0, 100.0, 130.0, 110.0, 100.0]
    facts = [speed([block] * 3, *(yard or ())) for block, yard in zip(blocks, yards, strict=True)]
    rows = [(NAMES[at], "a", row) for at, row in enumerate(facts)]
    (values,) = [values for _, values in histories(rows).values()]
    assert values == pytest.approx([100.0, 100.0, 100.0, 110.0, 100.0])


def test_a_slower_clock_is_no_step(tmp_path):
    """Ten runs on a machine that is a fifth slower, with its yardstick; a slower engine is one all the same."""
    for at in range(1, 21):
        clock = 1.2 if at > 10 else 1.0
        blocks = {"steady": 5.0 * clock, "slower": 5.0 * clock * (1.1 if at > 10 else 1.0)}
        saved(tmp_path, at, {key: speed([value], "one", clock) for key, value in blocks.items()})
    assert report(tmp_path, HERE) == ["slower: +10.0% since 0011_x"]


def test_the_report_names_what_changed(tmp_path):
    """A line a change; where there was none, how much was looked at."""
    assert report(tmp_path, HERE) == ["a change needs 4 saved runs of a benchmark to be seen, there are 0"]
    for at in range(1, 21):
        values = {"steady": 5.0, "broken": 5.0 if at < 11 else 6.0, "creeping": 5.0 * 1.01**at}
        saved(tmp_path, at, {key: speed([value]) for key, value in values.items()})
    assert report(tmp_path, HERE) == ["broken: +20.0% since 0011_x", "creeping: +20.8% over all runs, slowly"]


def calm(seed, count=19):
    """Runs that only noise tells apart."""
    return list(np.exp(0.01 * np.random.default_rng(seed).standard_normal(count)))


def test_a_newest_run_that_stands_alone_is_told_and_is_no_step():
    """From the fifth run on, unless a run before it was as far off, or the runs are as restless as that."""
    found = latest([*calm(3), 1.5], NAMES[:20])
    assert found.change == pytest.approx(0.5, abs=0.02)
    assert str(found) == f"{found.change:+.1%} in 0019_nightly alone, the newest: one run is no step"
    assert latest([*calm(3), 1.02], NAMES[:20]) is None
    assert latest([*calm(3, 9), 1.6, *calm(4, 9), 1.5], NAMES[:20]) is None
    assert latest([1.0, 1.0, 1.0, 2.0], NAMES[:4]) is None
    assert latest([1.0, 1.0, 1.0, 1.0, 2.0], NAMES[:5]).change == pytest.approx(1.0)
    assert latest([*[1.0] * 10, *[2.0] * 9, 1.0], NAMES[:20]).change == pytest.approx(-0.5)


def test_a_steady_past_has_no_surprising_end():
    """Of many ends that are as restless as all else hardly one is told."""
    assert sum(latest(calm(seed, 20), NAMES[:20]) is not None for seed in range(200)) <= 2


def test_runs_of_two_pythons_have_two_names(tmp_path):
    """Each counts from one, in a folder of its own."""
    for python, time in (("a", 1.0), ("b", 2.0)):
        (tmp_path / python).mkdir()
        for at in range(1, 7):
            saved(tmp_path / python, at, {"x": speed([time])}, when=f"{python}{at}")
    assert report(tmp_path, HERE) == ["x: +100.0% since b/0001_x"]


def test_the_report_tells_speed_and_accuracy_apart(tmp_path):
    """As fast as ever, and worse since the eleventh run; the other creeps; each run passed by itself."""
    for at in range(1, 21):
        errors = {"worse": 1.0 if at < 11 else 1.5, "creeping": 1.02**at, "steady": 1.0 + 0.01 * (at > 10)}
        facts = {key: {**speed([7.0]), "error_units": value} for key, value in errors.items()}
        saved(tmp_path, at, facts)
    assert report(tmp_path, HERE) == [
        "worse: error +50.0% since 0011_x",
        "creeping: error +45.7% over all runs, slowly",
    ]


def run_of(facts):
    """A run whose one benchmark has these facts."""
    return json.dumps({"benchmarks": [{"fullname": "a", "extra_info": facts}], "machine_info": {"nfnet": HERE}})


NO_RUNS = [
    "",
    "[]",
    "{}",
    '{"benchmarks": [{"fullname": "a"}]}',
    *map(
        run_of,
        (
            speed([0.0]),
            speed([10**400]),
            {"speed": None},
            {"speed": []},
            {"error_units": -1},
            {"error_units": "x"},
            {"error_units": [1]},
            {"error_units": float("nan")},
        ),
    ),
    json.dumps({"benchmarks": [], "machine_info": {"nfnet": [1]}}),
    json.dumps({"benchmarks": []}),
]


@pytest.mark.parametrize("text", NO_RUNS)
def test_a_file_that_is_no_run_is_left_out_and_named(tmp_path, text):
    """The others are read all the same."""
    saved(tmp_path, 1, {"a": speed([1.0])})
    (tmp_path / "0002_y.json").write_text(text)
    first, second = report(tmp_path, HERE)
    assert first.startswith("0002_y.json was left out, it is no saved run: ")
    assert second == "a change needs 4 saved runs of a benchmark to be seen, there are 1"


def test_runs_of_other_hardware_are_left_out(tmp_path):
    """However they came into the folder."""
    saved(tmp_path, 1, {"a": speed([1.0])})
    text = (tmp_path / "0001_x.json").read_text().replace('"cpu": "A"', '"cpu": "B"')
    (tmp_path / "0002_y.json").write_text(text)
    first, second = report(tmp_path, HERE)
    assert first == "0002_y.json was left out, it is of other hardware: cpu: B there, A here"
    assert second == "a change needs 4 saved runs of a benchmark to be seen, there are 1"


def test_disturbed_runs_say_nothing_of_speed(tmp_path):
    """They are named, and are no step; their errors count as any."""
    for at in range(1, 21):
        facts = {**speed([7.0 if at > 10 else 5.0]), "error_units": 3 if at > 10 else 2}
        facts["speed"]["foreign"] = [0.5 if at > 10 else 0.0]
        saved(tmp_path, at, {"a": facts})
    *left_out, last = report(tmp_path, HERE)
    assert left_out[0] == "0011_x: 1 times do not count, others used more than 10% of the processors"
    assert len(left_out) == 10
    assert last == "a: error +50.0% since 0011_x"


@pytest.mark.parametrize("share", [0.2, 0.35, 0.5])
@pytest.mark.parametrize("count", [20, 60])
def test_two_kinds_of_runs_without_an_order_are_no_step(share, count):
    """As where a process lands in one of two layouts of memory: at most one past in ten has one."""
    found = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        values = (1 + 0.08 * (rng.random(count) < share)) * np.exp(0.002 * rng.standard_normal(count))
        found += bool(steps(values, NAMES))
    assert found <= 3


@pytest.mark.parametrize(("first", "second"), [(0.8, 1.05), (0.5, 1.1), (2.0, 1.1)])
def test_a_large_step_does_not_hide_a_later_one(first, second):
    """What the large one explains is no noise."""
    for seed in range(5):
        noise = np.exp(0.005 * np.random.default_rng(seed).standard_normal(60))
        found = steps(np.repeat([1.0, first, first * second], 20) * noise, NAMES)
        assert [NAMES.index(step.run) for step in found] == [20, 40]


def test_an_episode_is_two_steps():
    """Slower for a few runs in the middle of others."""
    values = np.exp(0.005 * np.random.default_rng(0).standard_normal(40))
    values[20:25] *= 1.1
    assert [NAMES.index(step.run) for step in steps(values, NAMES)] == [20, 25]


@pytest.mark.parametrize(
    "runs",
    [(6, 6, 6, 6), (6, 6, 6, 6, 6), (10, 5, 10, 5), (20, 3, 20), (20, 5, 20, 3)],
    ids=lambda runs: "-".join(map(str, runs)),
)
@pytest.mark.parametrize("slower", [1.1, 1.5])
def test_levels_that_come_and_go_are_steps(runs, slower):
    """Each of them, the one that still stands first of all."""
    levels = np.repeat([slower if at % 2 else 1.0 for at in range(len(runs))], runs)
    for seed in range(3):
        found = steps(levels * np.exp(0.003 * np.random.default_rng(seed).standard_normal(len(levels))), range(100))
        assert [step.run for step in found] == list(np.cumsum(runs)[:-1])


@pytest.mark.parametrize("before", [5, 10, 30])
def test_the_second_run_of_a_step_does_not_stand_alone(before):
    """A step is told, and nothing that contradicts it."""
    values = [*calm(1, before), 1.2, 1.21]
    assert [NAMES.index(step.run) for step in steps(values, NAMES)] == [before]
    assert latest(values, NAMES[: len(values)]) is None
    assert latest([*values, 1.8], NAMES[: len(values) + 1]).change == pytest.approx(0.49, abs=0.02)


def test_two_new_runs_of_two_levels_are_no_step(tmp_path):
    """Their middle would be one that no run has."""
    for at, time in enumerate([*calm(1, 30), 1.2, 1.5], 1):
        saved(tmp_path, at, {"x": speed([time])})
    (line,) = report(tmp_path, HERE)
    assert line.endswith(" in 0032_x alone, the newest: one run is no step")


def test_a_run_that_does_not_tell_its_machine_counts(tmp_path):
    """It lies in this machine's folder."""
    saved(tmp_path, 1, {"a": speed([1.0])})
    run = json.loads((tmp_path / "0001_x.json").read_text())
    run["machine_info"] = {}
    (tmp_path / "0002_y.json").write_text(json.dumps(run))
    assert report(tmp_path, HERE) == ["a change needs 4 saved runs of a benchmark to be seen, there are 2"]


def test_less_than_matters_is_not_told():
    """One percent, however sure."""
    assert steps([1.0] * 20 + [1.01] * 20, NAMES) == []

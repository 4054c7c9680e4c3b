"""The power experiment: its table and files of a recording that was made up, and a real recording that is too short."""

import json
import re

import numpy as np

from fixtures.benchmark.ab import LAUNCHES

RUNS = 8  # a block


def noisy(rng, sides, mood):
    """Samples of blocks of these sides: 5 % more of the third, noise, and the machine's mood of each."""
    noise = np.exp(0.01 * rng.standard_normal((len(sides), RUNS)))
    return (1e6 * mood[:, None] * (1 + 0.05 * (sides[:, None] == 2)) * noise).astype(np.int64).ravel()


def made_up(path, rounds=400, launches=LAUNCHES + 5, pairs=25):
    """A recording of a quiet machine, whose mood the yardstick shares."""
    rng = np.random.default_rng(0)
    side = np.tile([0, 1, 2, 3], rounds)
    mood = np.repeat(1 + (np.arange(rounds) > rounds // 2), 4)
    lived = np.repeat(np.arange(rounds) * 0.75e9, 4)
    session = np.stack([side, lived, np.full(4 * rounds, RUNS), np.full(4 * rounds, 0.01)], axis=1)
    launched = np.tile([0, 1, 2], launches * pairs)
    rows = np.stack([np.repeat(np.arange(launches), 3 * pairs), launched, np.full(len(launched), RUNS)], axis=1)
    np.savez(
        path,
        session_rows=session,
        session_samples=noisy(rng, side, mood),
        launch_rows=rows,
        launch_samples=noisy(rng, launched, np.ones(len(launched))),
        about=np.array(json.dumps({"case": "made up"})),
    )


def test_the_experiment_counts_what_it_should(runner, tmp_path):
    """On a quiet machine the gate finds five percent always and nothing where there is nothing."""
    path = tmp_path / "recording.npz"
    made_up(path)
    done = runner.python("tests/studies/speed_power.py", "judge", "--file", path)
    assert done.code == 0, done.text
    gates = re.findall(r"^  the gate  +(\d+) .* +(\d+) +\d+ +\d+$", done.out, re.MULTILINE)
    assert gates == [("0", "100"), ("0", "100")]  # in turns and apart: at 0 and at 5 %
    assert done.out.count("really slowed: {'slower': 100}") == 2
    assert re.search(r"a run of the twin lasts [+-]0\.\d% ", done.out)
    assert re.search(
        r"a run of the slowed lasts \+(4\.[5-9]|5\.[0-4])% \(\+\d\.\d% to \+\d\.\d% in 8 of 10\)$",
        done.out,
        re.MULTILINE,
    )
    found = json.loads(path.with_suffix(".json").read_text())
    assert found["in turns"]["0.05"]["pytest-benchmark mean:5%"]
    assert len(found["longer"]["twin"]) == found["about"]["launches"] == LAUNCHES + 5
    assert path.with_suffix(".svg").exists() or "no plot: matplotlib is not installed" in done.out


def test_a_recording_that_is_too_short_is_refused(runner, tmp_path):
    """Real launches and a real process, for some seconds."""
    path = tmp_path / "short.npz"
    done = runner.python("tests/studies/speed_power.py", "record", "--seconds", "2", "--file", path)
    assert done.code == 0, done.text
    assert re.search(r"recorded 1 launches and \d+ rounds of a process in .*short\.npz", done.out)
    with np.load(path) as saved:
        assert set(saved["launch_rows"][:, 1]) == {0, 1, 2}
        assert saved["launch_rows"][:, 2].sum() == len(saved["launch_samples"])
        assert set(saved["session_rows"][:, 0]) == {0, 1, 2, 3}
    judged = runner.python("tests/studies/speed_power.py", "judge", "--file", path)
    assert judged.code == 1
    assert re.search(rf"short\.npz: 1 launches of {LAUNCHES}, \d s of 120 -> record longer", judged.err)

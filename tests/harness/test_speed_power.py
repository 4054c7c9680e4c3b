"""The power experiment on a recording that was made up: its table and its files."""

import json
import re

import numpy as np


def test_the_experiment_counts_what_it_should(runner, tmp_path):
    """On a quiet machine the gate finds five percent always and nothing where there is nothing."""
    rng = np.random.default_rng(0)
    rounds, runs = 400, 20
    side = np.tile([0, 1, 2, 3], rounds)
    share = np.full(4 * rounds, 0.01)
    rows = np.stack([side, np.repeat(np.arange(rounds) * 0.75, 4), np.full(4 * rounds, runs), share], axis=1)
    mood = np.repeat(1 + (np.arange(rounds) > rounds // 2), 4 * runs)  # that the yardstick shares
    noise = np.exp(0.01 * rng.standard_normal(4 * rounds * runs))
    samples = 1e6 * mood * (1 + 0.05 * (np.repeat(side, runs) == 2)) * noise
    path = tmp_path / "recording.npz"
    np.savez(path, rows=rows, samples=samples.astype(np.int64), about=np.array(json.dumps({"case": "made up"})))
    done = runner.python("tests/performance/power.py", "judge", "--file", path)
    assert done.code == 0, done.text
    gates = re.findall(r"^  the gate  +(\d+) .* +(\d+) +\d+ +\d+$", done.out, re.MULTILINE)
    assert gates == [("0", "100"), ("0", "100")]  # in turns and apart: at 0 and at 5 %
    assert done.out.count("really slowed: {'slower': 100}") == 2
    assert re.search(
        r"a run of the twin lasts [+-]0\.\d%, of the slowed \+(4\.[5-9]|5\.[0-4])%$", done.out, re.MULTILINE
    )
    found = json.loads(path.with_suffix(".json").read_text())
    assert found["in turns"]["0.05"]["pytest-benchmark mean:5%"]
    assert path.with_suffix(".svg").exists() or "no plot: matplotlib is not installed" in done.out

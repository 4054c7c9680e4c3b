"""How often does --ab report a slowdown, and how often ``--benchmark-compare-fail=min:5%``? Measured on a real engine.

    python tests/studies/speed_power.py record --seconds 600   # ONNX Runtime on this machine as it is
    python tests/studies/speed_power.py judge                  # trials from the recording: a table and power.json

Three installations of one model are recorded: two alike, and one that is slowed by busy waiting for a share of each
run. Half of the time they are launched again and again and interleaved, by the code of --ab. The other half all three
live in one process and take turns there.

A trial takes at most a minute of sampling. For --ab it is as many successive launches as that has. For a stored
baseline it is two windows of the one process that do not overlap. The times of the second installation are multiplied
by the slowdown of the trial; the third one shows that this is honest.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pytest_benchmark.utils import parse_compare_fail

sys.path.insert(0, str(Path(__file__).parents[2]))

from fixtures.benchmark.ab import MAX_LAUNCHES, MIN_PAIRS, block_latency, interleave
from fixtures.benchmark.ab_statistics import SLOWER, judge
from fixtures.benchmark.sampling import SECOND, external_cpu_seconds, no_garbage_collection, time_calls
from fixtures.cache import cache_folder
from fixtures.engines.worker_process import Installation, Isolation
from fixtures.options import AB_SECONDS
from fixtures.plugin.ab_comparison import timed_side
from fixtures.records import Case, ModelSpec
from fixtures.run.context import RunContext

PLAIN, TWIN, SLOWED = range(3)
SIDES = 3
INJECTED = 0.05
SLOWDOWNS = (0.0, 0.02, 0.03, 0.05, 0.08, 0.1)
PHASE = 60.0  # seconds: launches and the process that lives on see the same load of the machine
SESSION_BLOCK = 0.05  # seconds of a block of the process that lives on
SPIN_SECONDS = 0.2  # for which the threads of engines spin after a run
WINDOW = 45.0  # seconds of a stored run, all sides together
TRIALS = 100
AB, MIN = "--ab", "min:5%"
CHECK = parse_compare_fail(MIN)


# Makes each run of ONNX Runtime busy for a longer share of its time, in every Python that finds this module.
SLOWED_SITE = f"""
import time
import onnxruntime
run = onnxruntime.InferenceSession.run
def slowed(*words):
    begun = time.perf_counter_ns()
    results = run(*words)
    now = time.perf_counter_ns()
    end = now + (now - begun) * {INJECTED}
    while now < end:
        now = time.perf_counter_ns()
    return results
onnxruntime.InferenceSession.run = slowed
"""


def slow_down(call):
    """Return a call followed by busy waiting for a share of the time that it took."""

    def slowed():
        begun = time.perf_counter_ns()
        call()
        now = time.perf_counter_ns()
        end = now + (now - begun) * INJECTED
        while now < end:
            now = time.perf_counter_ns()

    return slowed


def run_of(case):
    """Return a run of the case in this process."""
    context = RunContext.create(cache_folder(), isolation=None)
    images = context.model_store.images(case.model, case.batch)
    return lambda: context.program_pool.run(case, images)


class Launches:
    """Three installations interleaved as --ab does with two; rows are (launch, side, 10 % quantile, minimum)."""

    def __init__(self, case):
        self.rows, self.count, self._case = [], 0, case
        self._context = RunContext.create(cache_folder(), isolation=None)
        folder = cache_folder() / "power" / "slowed"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sitecustomize.py").write_text(SLOWED_SITE)
        slowed = Installation(environment={"PYTHONPATH": str(folder)})
        self._installations = (Installation(), Installation(), slowed)

    def take(self):
        """Launch all three once."""
        with ExitStack() as stack:
            sides = [
                stack.enter_context(timed_side(self._case, self._context, installation, None, Isolation()))[1]
                for installation in self._installations
            ]
            seconds = AB_SECONDS / MAX_LAUNCHES * SIDES / 2
            found = interleave(sides, seconds, self.count, -(-MIN_PAIRS // MAX_LAUNCHES))
        for blocks in zip(*found, strict=True):
            self.rows += [(self.count, side, block_latency(ns), min(ns)) for side, ns in enumerate(blocks)]
        self.count += 1


class Session:
    """The three in one process that lives on; rows are (side, seconds, 10 % quantile, minimum, external load)."""

    def __init__(self, case):
        self.rows = []
        self._calls = [run_of(case), run_of(case), slow_down(run_of(case))]
        self._order, self._seconds = random.Random(0), 0.0  # noqa: S311  no secret

    def take(self):
        """Take a block of each in random order."""
        with no_garbage_collection():
            for side in self._order.sample(range(SIDES), SIDES):
                begun, before = time.monotonic(), external_cpu_seconds()
                ns = time_calls(self._calls[side], int(SESSION_BLOCK * SECOND))
                took = time.monotonic() - begun
                load = (external_cpu_seconds() - before) / took
                self.rows.append((side, self._seconds, block_latency(ns), min(ns), load))
                self._seconds += took
                time.sleep(SPIN_SECONDS)


def record(case, seconds, path):
    """Record launches and the process, in turns of PHASE seconds."""
    launches, session = Launches(case), Session(case)
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        for part in (launches, session):
            end = time.monotonic() + min(PHASE, seconds / 2)
            while time.monotonic() < end:
                part.take()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, launches=launches.rows, session=session.rows, about=case.id)
    print(f"recorded {launches.count} launches and {len(session.rows) // SIDES} rounds of a process in {path}")


@dataclass(frozen=True)
class Recording:
    """Latencies and minima of blocks, as (sides, blocks); those of one index were taken in one round."""

    launches: list  # of (latencies, minima)
    minima: np.ndarray  # of the process that lives on
    start: np.ndarray  # of each round, seconds of sampling
    load: np.ndarray  # external, of each block


def load(path):
    """Read a recording."""
    with np.load(path) as saved:
        rows, session = saved["launches"], saved["session"]
    launches = []
    for launch in range(int(rows[-1, 0]) + 1):
        part = rows[rows[:, 0] == launch]
        launches.append((part[:, 2].reshape(-1, SIDES).T, part[:, 3].reshape(-1, SIDES).T))
    ordered = session.reshape(-1, SIDES, 5)
    by_side = np.take_along_axis(ordered, ordered[:, :, :1].argsort(axis=1), axis=1)
    return Recording(launches, by_side[:, :, 3].T, ordered[:, 0, 1], session[:, 4])


def interleaved_trial(recording, rng, slowdown, side):
    """Return what both methods say of successive launches: whether ``side`` is slower than PLAIN."""
    first = rng.integers(len(recording.launches) - MAX_LAUNCHES + 1)
    launches = recording.launches[first : first + MAX_LAUNCHES]
    pairs = [(latency[side] * (1 + slowdown), latency[PLAIN]) for latency, _ in launches]
    now, before = (min(minima[at].min() for _, minima in launches) for at in (side, PLAIN))
    return {AB: judge(pairs).outcome == SLOWER, MIN: fails(now * (1 + slowdown), before)}


def stored_trial(recording, rng, slowdown, side):
    """Return what pytest-benchmark says of a run and a stored baseline."""
    while True:
        first, second = rng.uniform(0, recording.start[-1] - WINDOW, 2)
        if abs(first - second) >= WINDOW:
            break
    before, now = (slice(*np.searchsorted(recording.start, (at, at + WINDOW))) for at in (first, second))
    minima = recording.minima
    return {MIN: fails(minima[side, now].min() * (1 + slowdown), minima[PLAIN, before].min())}


def fails(now, before):
    """Return whether pytest-benchmark's own check calls it a regression."""
    return CHECK.fails({"min": now}, {"min": before}) is not None


SETTINGS = {"interleaved": interleaved_trial, "stored baseline": stored_trial}


def count_slower(recording, setting, slowdown, side=TWIN):
    """Return method -> number of trials that it called slower."""
    rng, found = np.random.default_rng(7), Counter()
    for _ in range(TRIALS):
        found.update(SETTINGS[setting](recording, rng, slowdown, side))
    return {name: int(count) for name, count in found.items()}


def report(recording):
    """Print the table, and return it for JSON."""
    found = {}
    print(f"called slower, of {TRIALS} trials".ljust(40) + "".join(f"{value:>8.0%}" for value in SLOWDOWNS))
    for setting in SETTINGS:
        counts = {slowdown: count_slower(recording, setting, slowdown) for slowdown in SLOWDOWNS}
        found[setting] = {name: [row[name] for row in counts.values()] for name in counts[0.0]}
        for name, row in found[setting].items():
            print(f"  {name}, {setting}".ljust(40) + "".join(f"{count:>8}" for count in row))
        found[f"{setting}, really slowed"] = slowed = count_slower(recording, setting, 0.0, SLOWED)
        print(f"  really slowed by {INJECTED:.0%} or more, {setting}: {slowed}")
    for name, side in (("twin", TWIN), ("slowed", SLOWED)):
        longer = [np.median(latency[side] / latency[PLAIN]) - 1 for latency, _ in recording.launches]
        low, middle, high = np.percentile(longer, (10, 50, 90))
        print(f"in a launch a run of the {name} takes {middle:+.1%} ({low:+.1%} to {high:+.1%} in 8 of 10)")
    print("external CPU load (10, 50, 90 %):", np.percentile(recording.load, (10, 50, 90)).round(2).tolist())
    return found


def main():
    """Record or judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("record", "judge"))
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--variant", default="test_nfnet")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--file", type=Path, default=cache_folder() / "power" / "recording.npz")
    options = parser.parse_args()
    if options.what == "record":
        size = (options.image_size, options.image_size)
        record(
            Case("onnxruntime:cpu", ModelSpec(options.variant, None, size), "fp32", 1), options.seconds, options.file
        )
    else:
        recording = load(options.file)
        if len(recording.launches) < MAX_LAUNCHES or recording.start[-1] < 2 * WINDOW:
            sys.exit(
                f"{options.file}: {len(recording.launches)} launches, {recording.start[-1]:.0f} s -> record longer"
            )
        options.file.with_name("power.json").write_text(json.dumps(report(recording), indent=1))


if __name__ == "__main__":
    main()

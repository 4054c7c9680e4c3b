"""How often does the gate find a slowdown, and how often does it cry wolf? Measured on a real engine.

    python tests/studies/speed_power.py record --seconds 900   # ONNX Runtime beside itself, on this machine as it is
    python tests/studies/speed_power.py judge                  # trials from the recording: table, power.json, power.svg

Recorded are three installations of one model: two alike, and one that is really made slower by waiting busily for a
share of each run. That costs more than the wait: what it costs is measured, and told. Half of the time they are
launched again and again and sampled in turns, as ``--ab`` does, with the same code; the other half all three live in
one process, in turns with the yardstick. A trial takes at most a minute of sampling: as many launches as ``--ab`` has,
one after the other, or two windows of the process that do not overlap, for a saved run and a later one. The second
installation's times are multiplied by the slowdown of the trial. Whether that is honest is seen from the third.
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

from fixtures.benchmark.ab import FEWEST_PAIRS, LAUNCHES, Child, Installation, interleave
from fixtures.benchmark.environment import facts, foreign_seconds
from fixtures.benchmark.gate import INCONCLUSIVE, NOT_SLOWER, QUIET, SLOWER, judge, judge_launches, undisturbed
from fixtures.benchmark.placement import rest, spread
from fixtures.benchmark.sampling import SECOND, block, typical, without_collector
from fixtures.benchmark.thresholds import threshold
from fixtures.benchmark.yardstick import yardstick
from fixtures.cache import cache_folder
from fixtures.plugin import timed
from fixtures.plugin.ab_comparison import SECONDS
from fixtures.plugin.timed import prepared, question, warmed
from fixtures.records import Case, ModelSpec
from fixtures.run.context import RunContext

ROOT = Path(__file__).parents[2]
PLAIN, TWIN, SLOWED, YARD = range(4)
SIDES = 4
INJECTED = 0.05
SLOWDOWNS = (0.0, 0.02, 0.03, 0.05, 0.08, 0.1)
PHASE = 60.0  # seconds: launches and the process that lives on share the machine's moods
SESSION_BLOCK = 0.05  # seconds of a block of the process that lives on
APART_SECONDS = 60.0  # of four in turns: each is sampled for a quarter of it
TRIALS = 100
CHECKS = {f"pytest-benchmark {word}": parse_compare_fail(word) for word in ("min:5%", "mean:5%")}


def slowed(call):
    """The call, and busy waiting for a share of the time that it took."""

    def longer():
        begun = time.perf_counter_ns()
        call()
        now = time.perf_counter_ns()
        end = now + (now - begun) * INJECTED
        while now < end:
            now = time.perf_counter_ns()

    return longer


def slowed_case(context, case):
    """What is timed, slowed."""
    call, about = prepared(context, case)
    return slowed(call), about


CHILDREN = {"child": prepared, "slowed-child": slowed_case}


def record(case, seconds, path):
    """Launches and runs of a process, by turns of PHASE seconds, into ``path``."""
    launches, session = Launches(case), Session(case)
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        for part in (launches, session):
            end = time.monotonic() + min(PHASE, seconds / 2)
            while (now := time.monotonic()) < end:
                if sys.stdout.isatty():
                    print(f"\r{now - begun:.0f} of {seconds:g} s", end="", flush=True)
                part.take()
    path.parent.mkdir(parents=True, exist_ok=True)
    about = json.dumps({"case": case.id, "seconds": seconds, "machine": facts()})
    saved = {
        f"{name}_{what}": np.array(values)
        for name, part in (("launch", launches), ("session", session))
        for what, values in (("rows", part.rows), ("samples", part.samples))
    }
    np.savez_compressed(path, about=np.array(about), **saved)
    print(f"recorded {launches.count} launches and {len(session.rows) // SIDES} rounds of a process in {path}")


class Launches:
    """Three installations in turns as ``--ab`` has two, each launch new processes."""

    def __init__(self, case):
        self.rows, self.samples, self.count = [], [], 0
        self._question = question(case, cache_folder())

    def take(self):
        """One launch: rows (launch, side, runs)."""
        with ExitStack() as stack:
            children = [
                stack.enter_context(Child(Installation(sys.executable, {}), [__file__, word], ROOT))
                for word in ("child", "child", "slowed-child")
            ]
            for child in children:
                child.ask(self._question)
            seconds = SECONDS / LAUNCHES * len(children) / 2
            found = interleave(children, seconds, self.count, -(-FEWEST_PAIRS // LAUNCHES))
        for at in range(len(found[PLAIN])):
            for side, blocks in enumerate(found):
                self.rows.append((self.count, side, len(blocks[at])))
                self.samples.extend(blocks[at])
        self.count += 1


class Session:
    """The same in one process that lives on, with the yardstick."""

    def __init__(self, case):
        self.rows, self.samples = [], []
        laboratories = [RunContext.create(cache_folder()) for _ in range(3)]
        calls = [prepared(context, case)[0] for context in laboratories]
        self._calls = [*calls[:SLOWED], slowed(calls[SLOWED]), yardstick(case.engine)]
        self._order, self._lived = random.Random(0), 0  # noqa: S311  no secret
        self._threads = [*map(warmed, self._calls[:YARD]), []]

    def take(self):
        """One round: rows (side, nanoseconds of sampling before, runs, share of the processors that others used)."""
        with without_collector():
            for side in self._order.sample(range(SIDES), SIDES):
                begun, before = time.perf_counter_ns(), foreign_seconds()
                with spread(self._threads[side]):
                    taken = block(self._calls[side], 1, int(SESSION_BLOCK * SECOND))
                took, others = time.perf_counter_ns() - begun, foreign_seconds() - before
                rest()
                self.rows.append((side, self._lived, len(taken), others * SECOND / took))
                self.samples.extend(taken)
                self._lived += took


@dataclass(frozen=True)
class Blocks:
    """Blocks by side; those of one index were taken in one round."""

    typical: np.ndarray  # (sides, rounds), nanoseconds
    mean: np.ndarray

    @classmethod
    def of(cls, sides, counts, samples, width):
        """From the side and the runs of each block, and all runs."""
        found = np.empty((2, width, len(sides) // width))
        blocks = np.split(samples, np.cumsum(counts)[:-1])
        for at, (side, part) in enumerate(zip(sides, blocks, strict=True)):
            found[:, side, at // width] = typical(part), part.mean()
        return cls(*found)

    def longer(self, side):
        """By how much a block of this side takes longer than one of the plain one, in the middle."""
        return float(np.median(self.typical[side] / self.typical[PLAIN]) - 1)


@dataclass(frozen=True)
class Recording:
    """What was recorded."""

    launches: list  # of Blocks
    session: Blocks
    start: np.ndarray  # of each round of the session, seconds
    foreign: np.ndarray  # share of the processors that others used, the round's mean
    about: dict

    def in_turns(self, rng):
        """LAUNCHES launches that followed each other."""
        first = rng.integers(len(self.launches) - LAUNCHES + 1)
        return self.launches[first : first + LAUNCHES]

    def apart(self, rng):
        """Two slices of the session's rounds that do not overlap."""
        while True:
            first, second = rng.uniform(0, self.start[-1] - APART_SECONDS, 2)
            if abs(first - second) >= APART_SECONDS:
                return tuple(slice(*np.searchsorted(self.start, (at, at + APART_SECONDS))) for at in (first, second))


def load(path):
    """A recording from its file."""
    with np.load(path) as saved:
        (launch, side, count), lived, about = saved["launch_rows"].T, saved["session_rows"], str(saved["about"])
        samples = np.split(saved["launch_samples"], np.cumsum(np.bincount(launch, count).astype(int))[:-1])
        session = Blocks.of(lived[:, 0].astype(int), lived[:, 2].astype(int), saved["session_samples"], SIDES)
    launches = [Blocks.of(side[launch == at], count[launch == at], part, SIDES - 1) for at, part in enumerate(samples)]
    shares = lived[:, 3].reshape(-1, SIDES).mean(axis=1)
    return Recording(launches, session, lived[::SIDES, 1] / SECOND, shares, json.loads(about))


def verdict(recording, baseline, run, limit):
    """What ``--speed-gate`` says: disturbed blocks are left out."""
    (old, why_then), (new, why) = (undisturbed(row, recording.foreign[at], QUIET) for at, row in (baseline, run))
    return judge(new, old, limit, why, why_then).outcome


def in_turns(recording, rng, slowdown, side):
    """The gate's verdict on one window, and what pytest-benchmark sees of both sides: (typical, mean) of each block."""
    window = recording.in_turns(rng)
    pairs = [(part.typical[side] * (1 + slowdown), part.typical[PLAIN]) for part in window]
    new, old = (
        (np.concatenate([part.typical[at] for part in window]), np.concatenate([part.mean[at] for part in window]))
        for at in (side, PLAIN)
    )
    return judge_launches(pairs, threshold(recording.about["case"])).outcome, new, old


def apart(recording, rng, slowdown, side):
    """The same of a run and a stored baseline."""
    first, second = recording.apart(rng)
    times = recording.session.typical
    old, new = times[PLAIN, first] / times[YARD, first], times[side, second] / times[YARD, second] * (1 + slowdown)
    outcome = verdict(recording, (first, old), (second, new), threshold(recording.about["case"]))
    seen = ((times[at, part], recording.session.mean[at, part]) for at, part in ((side, second), (PLAIN, first)))
    return outcome, *seen


SETTINGS = {"in turns": in_turns, "apart": apart}


def trials(recording, slowdown, setting, *, other=TWIN, count=TRIALS):
    """How each method judged ``count`` windows: method -> outcome -> how often."""
    found = {name: Counter() for name in ("the gate", *CHECKS)}
    rng = np.random.default_rng(7)
    for _ in range(count):
        outcome, new, old = SETTINGS[setting](recording, rng, slowdown, other)
        found["the gate"][outcome] += 1
        more = [
            {"min": fast.min() * by, "mean": mean.mean() * by} for (fast, mean), by in ((new, 1 + slowdown), (old, 1))
        ]
        for name, check in CHECKS.items():
            found[name][SLOWER if check.fails(*more) else NOT_SLOWER] += 1
    return {name: dict(counter) for name, counter in found.items()}


def experiment(recording):
    """The curves in turns and apart, and the session that was really slowed, beside the multiplied one."""
    sides = (("twin", TWIN), ("slowed", SLOWED))
    return {
        "about": {
            **recording.about,
            "launches": len(recording.launches),
            "trials": TRIALS,
            "foreign": np.percentile(recording.foreign, (10, 50, 90)).round(3).tolist(),
        },
        **{
            setting: {str(slowdown): trials(recording, slowdown, setting) for slowdown in SLOWDOWNS}
            for setting in SETTINGS
        },
        "really slowed": {setting: trials(recording, 0.0, setting, other=SLOWED) for setting in SETTINGS},
        "longer": {name: [part.longer(side) for part in recording.launches] for name, side in sides},
    }


def table(found):
    """Lines: how often each method called each slowdown slower."""
    for setting in SETTINGS:
        yield f"called slower, of {TRIALS} ({setting})    " + "".join(f"{value:>8.0%}" for value in SLOWDOWNS)
        for name in ("the gate", *CHECKS):
            counts = (found[setting][str(value)][name] for value in SLOWDOWNS)
            yield f"  {name:<36}" + "".join(f"{count.get(SLOWER, 0):>8}" for count in counts)
        counts = (found[setting][str(value)]["the gate"] for value in SLOWDOWNS)
        yield f"  {'the gate, inconclusive':<36}" + "".join(f"{count.get(INCONCLUSIVE, 0):>8}" for count in counts)
        yield f"  really slowed: {found['really slowed'][setting]['the gate']}"
    for name, longer in found["longer"].items():
        low, middle, high = np.percentile(longer, (10, 50, 90))
        yield f"in a launch a run of the {name} lasts {middle:+.1%} ({low:+.1%} to {high:+.1%} in 8 of 10)"
    yield f"others used of the processors (10, 50, 90 % of the rounds): {found['about']['foreign']}"


def plot(found, path):
    """Power against slowdown."""
    from matplotlib.figure import Figure  # noqa: PLC0415  only to draw

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, setting in zip(figure.subplots(1, 2, sharey=True), SETTINGS, strict=True):
        for name in ("the gate", *CHECKS):
            power = [found[setting][str(value)][name].get(SLOWER, 0) for value in SLOWDOWNS]
            axes.plot([100 * value for value in SLOWDOWNS], power, marker="o", label=name)
        axes.set(title=f"two installations {setting}", xlabel="slowdown, %", ylim=(-3, 103))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(f"called slower, of {TRIALS}")
    figure.axes[0].legend()
    figure.savefig(path)


def main():
    """Record or judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("record", "judge", *CHILDREN), metavar="record|judge")
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--variant", default="test_nfnet")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--file", type=Path, default=cache_folder() / "power" / "recording.npz")
    words = parser.parse_args()
    if words.what in CHILDREN:
        timed.main(CHILDREN[words.what])
        return
    if words.what == "record":
        size = (words.image_size, words.image_size)
        case = Case("onnxruntime:cpu", ModelSpec(words.variant, None, size), "fp32", 1)
        record(case, words.seconds, words.file)
        return
    recording = load(words.file)
    if len(recording.launches) < LAUNCHES or recording.start[-1] < 2 * APART_SECONDS:
        sys.exit(
            f"{words.file}: {len(recording.launches)} launches of {LAUNCHES}, {recording.start[-1]:.0f} s of "
            f"{2 * APART_SECONDS:.0f} -> record longer"
        )
    found = experiment(recording)
    print(*table(found), sep="\n")
    words.file.with_suffix(".json").write_text(json.dumps(found, indent=1))
    print(f"written: {words.file.with_suffix('.json')}")
    try:
        plot(found, words.file.with_suffix(".svg"))
    except ImportError:
        print("no plot: matplotlib is not installed")


if __name__ == "__main__":
    main()

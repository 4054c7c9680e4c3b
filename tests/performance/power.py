"""How often does the gate find a slowdown, and how often does it cry wolf? Measured on a real engine.

    python tests/performance/power.py record --seconds 900   # ONNX Runtime beside itself, on this machine as it is
    python tests/performance/power.py judge                  # trials from the recording: table, power.json, power.svg

Recorded are three sessions of one model in turns with the yardstick: two alike, and one that is really made slower by
waiting busily for a share of each run. That costs more than the wait: what it costs is measured, and told. A trial
takes at most a minute of sampling: one window of that recording for two installations in turns, two windows that do
not overlap for a saved run and a later one. The second session's times are multiplied by the slowdown of the trial.
Whether that is honest is seen from the third session, which is judged like the second one.
"""

import argparse
import gc
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pytest_benchmark.utils import parse_compare_fail

sys.path.insert(0, str(Path(__file__).parents[2]))

from fixtures.cache import cache_folder
from fixtures.pipeline import Laboratory
from fixtures.plugin.timed import prepared
from fixtures.records import Case, ModelSpec
from fixtures.speed.ab import BLOCK_SECONDS
from fixtures.speed.environment import facts, foreign_seconds
from fixtures.speed.gate import INCONCLUSIVE, NOT_SLOWER, QUIET, SLOWER, judge, judge_pairs, undisturbed
from fixtures.speed.sampling import SECOND, block, typical
from fixtures.speed.thresholds import threshold
from fixtures.speed.yardstick import yardstick

PLAIN, TWIN, SLOWED, YARD = range(4)
SIDES = 4
INJECTED = 0.05
SLOWDOWNS = (0.0, 0.02, 0.03, 0.05, 0.08, 0.1)
WINDOW_SECONDS = {"in turns": 120.0, "apart": 60.0}  # of four in turns: each is sampled for a quarter of it
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


def record(case, seconds, path):
    """Blocks of the three sessions in random order, round by round, into ``path``."""
    laboratories = [Laboratory(cache_folder()) for _ in range(3)]
    calls = [prepared(laboratory, case)[0] for laboratory in laboratories]
    calls = [*calls[:SLOWED], slowed(calls[SLOWED]), yardstick(case.engine)]
    for call in calls * 20:
        call()
    rows, samples, order = [], [], random.Random(0)  # noqa: S311  no secret
    gc.disable()
    begun = time.perf_counter_ns()
    while (now := time.perf_counter_ns()) - begun < seconds * SECOND:
        print(f"\r{(now - begun) / SECOND:.0f} of {seconds:g} s", end="", flush=True)
        for side in order.sample(range(SIDES), SIDES):
            start, before = time.perf_counter_ns(), foreign_seconds()
            taken = block(calls[side], 1, int(BLOCK_SECONDS * SECOND))
            share = (foreign_seconds() - before) * SECOND / (time.perf_counter_ns() - start)
            samples.extend(taken)
            rows.append((side, (start - begun) / SECOND, len(taken), share))
    gc.enable()
    path.parent.mkdir(parents=True, exist_ok=True)
    about = json.dumps({"case": case.id, "seconds": seconds, "machine": facts()})
    np.savez_compressed(path, rows=np.array(rows), samples=np.array(samples), about=np.array(about))
    print(f"\nrecorded {len(samples)} runs in {path}")


@dataclass(frozen=True)
class Recording:
    """Blocks by session; those of one index were taken in one round."""

    start: np.ndarray  # of each round
    typical: np.ndarray  # (sides, rounds), nanoseconds
    mean: np.ndarray
    foreign: np.ndarray  # share of the processors that others used, the round's mean
    about: dict

    def windows(self, rng, count, setting):
        """Slices of a window and of another one, the same ``in turns``; ``apart`` they do not overlap."""
        apart, width = setting == "apart", WINDOW_SECONDS[setting]
        while count:
            first, second = rng.uniform(0, self.start[-1] - width, 2)
            if apart and abs(first - second) < width:
                continue
            count -= 1
            yield self._slice(first, width), self._slice(second if apart else first, width)

    def _slice(self, begin, width):
        return slice(*np.searchsorted(self.start, (begin, begin + width)))


def load(path):
    """A recording from its file."""
    with np.load(path) as saved:
        rows, samples, about = saved["rows"], saved["samples"], json.loads(str(saved["about"]))
    rounds = len(rows) // SIDES
    ends = np.cumsum(rows[:, 2].astype(int))
    fast, mean = np.empty((SIDES, rounds)), np.empty((SIDES, rounds))
    for at in range(SIDES * rounds):
        part = samples[ends[at] - int(rows[at, 2]) : ends[at]]
        fast[int(rows[at, 0]), at // SIDES], mean[int(rows[at, 0]), at // SIDES] = typical(part), part.mean()
    shares = rows[: SIDES * rounds, 3].reshape(rounds, SIDES).mean(axis=1)
    return Recording(rows[: SIDES * rounds : SIDES, 1], fast, mean, shares, about)


def verdict(recording, baseline, run, limit):
    """What ``--speed-gate`` says: disturbed blocks are left out."""
    (old, why_then), (new, why) = (undisturbed(row, recording.foreign[at], QUIET) for at, row in (baseline, run))
    return judge(new, old, limit, tuple(filter(None, (why, why_then)))).outcome


def trials(recording, slowdown, setting, *, other=TWIN, count=TRIALS):
    """How each method judged ``count`` windows: method -> outcome -> how often."""
    found = {name: Counter() for name in ("the gate", *CHECKS)}
    limit = threshold(recording.about["case"])
    for first, second in recording.windows(np.random.default_rng(7), count, setting):
        old, new = recording.typical[PLAIN, first], recording.typical[other, second] * (1 + slowdown)
        if setting == "in turns":
            outcome = judge_pairs(new, old, limit).outcome
        else:
            yards = recording.typical[YARD, first], recording.typical[YARD, second]
            outcome = verdict(recording, (first, old / yards[0]), (second, new / yards[1]), limit)
        found["the gate"][outcome] += 1
        stats = [
            {"min": fast.min(), "mean": mean.mean()}
            for fast, mean in (
                (new, recording.mean[other, second] * (1 + slowdown)), (old, recording.mean[PLAIN, first])
            )
        ]  # fmt: skip
        for name, check in CHECKS.items():
            found[name][SLOWER if check.fails(*stats) else NOT_SLOWER] += 1
    return {name: dict(counter) for name, counter in found.items()}


def experiment(recording):
    """The curves in turns and apart, and the session that was really slowed, beside the multiplied one."""
    return {
        "about": {**recording.about, "window_seconds": WINDOW_SECONDS, "trials": TRIALS,
                  "foreign": np.percentile(recording.foreign, (10, 50, 90)).round(3).tolist()},
        **{setting: {str(slowdown): trials(recording, slowdown, setting) for slowdown in SLOWDOWNS}
           for setting in WINDOW_SECONDS},
        "really slowed": {setting: trials(recording, 0.0, setting, other=SLOWED) for setting in WINDOW_SECONDS},
        "longer": {name: float(np.median(recording.typical[side] / recording.typical[PLAIN]) - 1)
                   for name, side in (("twin", TWIN), ("slowed", SLOWED))},
    }  # fmt: skip


def table(found):
    """Lines: how often each method called each slowdown slower."""
    for setting in WINDOW_SECONDS:
        yield f"called slower, of {TRIALS} ({setting})    " + "".join(f"{value:>8.0%}" for value in SLOWDOWNS)
        for name in ("the gate", *CHECKS):
            counts = (found[setting][str(value)][name] for value in SLOWDOWNS)
            yield f"  {name:<36}" + "".join(f"{count.get(SLOWER, 0):>8}" for count in counts)
        counts = (found[setting][str(value)]["the gate"] for value in SLOWDOWNS)
        yield f"  {'the gate, inconclusive':<36}" + "".join(f"{count.get(INCONCLUSIVE, 0):>8}" for count in counts)
        yield f"  really slowed: {found['really slowed'][setting]['the gate']}"
    twin, slowed_one = found["longer"].values()
    yield f"over the whole recording a run of the twin lasts {twin:+.1%}, of the slowed {slowed_one:+.1%}"
    yield f"others used of the processors (10, 50, 90 % of the rounds): {found['about']['foreign']}"


def plot(found, path):
    """Power against slowdown."""
    from matplotlib.figure import Figure  # noqa: PLC0415  only to draw

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, setting in zip(figure.subplots(1, 2, sharey=True), WINDOW_SECONDS, strict=True):
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
    parser.add_argument("what", choices=("record", "judge"))
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--variant", default="test_nfnet")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--file", type=Path, default=cache_folder() / "power" / "recording.npz")
    words = parser.parse_args()
    if words.what == "record":
        size = (words.image_size, words.image_size)
        case = Case("onnxruntime:cpu", ModelSpec(words.variant, None, size), "fp32", 1)
        record(case, words.seconds, words.file)
        return
    found = experiment(load(words.file))
    print(*table(found), sep="\n")
    words.file.with_suffix(".json").write_text(json.dumps(found, indent=1))
    print(f"written: {words.file.with_suffix('.json')}")
    try:
        plot(found, words.file.with_suffix(".svg"))
    except ImportError:
        print("no plot: matplotlib is not installed")


if __name__ == "__main__":
    main()

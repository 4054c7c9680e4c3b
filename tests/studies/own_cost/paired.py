"""Sides in turns, so that a busy machine slows all of them; what is told are ratios, never seconds."""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path


class NotMeasured(Exception):
    """What would be measured cannot be; the message says why."""


ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent


def in_turns(sides, rounds):
    """What each side returns (seconds, or a record), a list a side; every other round goes backwards."""
    found, shown = {name: [] for name in sides}, sys.stderr.isatty()
    for at in range(rounds):
        for name in list(sides)[:: 1 if at % 2 == 0 else -1]:
            found[name].append(sides[name]())
            if shown:
                print(f"\r  round {at + 1} of {rounds}: {name:<40}", end="", file=sys.stderr, flush=True)
    if shown:
        print(file=sys.stderr)
    return found


def ratios(above, below):
    """Quotients of two sides, round by round."""
    return [one / other for one, other in zip(above, below, strict=True)]


def told(what, values, limit, *, least):
    """Print the median of ratios beside what is claimed; True where that holds."""
    middle = statistics.median(values)
    holds = middle >= limit if least else middle <= limit
    spread = f"({min(values):.3g} to {max(values):.3g}, {len(values)} rounds)" if len(values) > 1 else ""
    claim = f"{'at least' if least else 'at most'} {limit:g}: {'holds' if holds else 'DOES NOT HOLD'}"
    print(f"{what:<60} {middle:6.3g} {spread:<32} {claim}", flush=True)
    return holds


def missing(peer, why):
    """Say that a peer is not measured; None, which is no outcome."""
    print(f"NOT MEASURED {peer}: {why}", flush=True)


def wall(command, **environment):
    """Seconds of a whole process, from its start to its end. Raises NotMeasured with its last words where it fails."""
    start = time.perf_counter()
    output(command, **environment)
    return time.perf_counter() - start


def output(command, **environment):
    """What a process prints. Raises NotMeasured with its last words where it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = " ".join(map(str, command))
        raise NotMeasured(f"{words} ended with exit code {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def child(script, *words):
    """The record that a script of this folder prints as its last line."""
    return json.loads(output([sys.executable, HERE / script, *words]).splitlines()[-1])

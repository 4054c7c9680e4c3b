"""Whoever's turn it is not is at rest, and who works has the processors for itself."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.benchmark import baseline, placement, sampling
from fixtures.benchmark.ab import Child, Installation, interleave
from fixtures.benchmark.gate import INCONCLUSIVE, NOT_SLOWER
from fixtures.benchmark.placement import PATIENCE, THREADS, rest, spread, thread_seconds, threads_at_work
from fixtures.benchmark.sampling import Plan
from fixtures.benchmark.yardstick import NAME
from fixtures.cache import cache_folder
from fixtures.errors import BenchmarkError
from fixtures.hardware import processors
from fixtures.plugin import speed
from fixtures.plugin.timed import question
from fixtures.records import Case, EngineOptions, ModelSpec
from fixtures.run.context import RunContext

ROOT = Path(__file__).parents[2]
SPINNING = """
import json, os, sys, threading, time
threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()
for line in sys.stdin:
    print(json.dumps({"ns": [1], "ran": time.process_time(), "pid": os.getpid()}), flush=True)
"""
PARENT = """
import sys, time
from pathlib import Path
from fixtures.plugin.timed import question
from fixtures.records import Case, ModelSpec
from fixtures.benchmark.ab import Child, Installation
child = Child(Installation(sys.executable, {}), ["-m", "fixtures.plugin.timed"], Path.cwd())
child.ask(question(Case("onnxruntime:cpu", ModelSpec("test_nfnet", None, (64, 64)), "fp32", 1), Path(sys.argv[1])))
child.rest()
print(child._process.pid, flush=True)
time.sleep(100)
"""


def spinning():
    """A child one of whose threads never rests by itself."""
    return Child(Installation(sys.executable, {}), ["-c", SPINNING], Path("/"))


def stat(pid):
    """Fields of proc(5) behind the name of a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def state(pid):
    """One letter, empty where there is no such process."""
    try:
        return stat(pid)[placement.STATE]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def ticks(pid):
    """Of the processors, that all threads of a process have used."""
    return sum(map(int, stat(pid)[placement.USER : placement.SYSTEM + 1]))


def becomes(pid, states):
    """The process has one of these states within some seconds."""
    end = time.monotonic() + 10
    while state(pid) not in states and time.monotonic() < end:
        time.sleep(0.01)
    return state(pid) in states


def test_a_child_at_rest_uses_no_processor():
    """None of its threads does; it goes on when it is asked."""
    with spinning() as child:
        child.ask({})
        child.rest()
        assert becomes(child._process.pid, {"T"})
        before = ticks(child._process.pid)
        time.sleep(0.3)
        assert ticks(child._process.pid) == before
        ran = child.ask({})["ran"]
        assert child.ask({})["ran"] > ran


def test_all_rest_but_the_one_whose_turn_it_is():
    """Before the first block, and after the last."""
    with spinning() as one, spinning() as other:
        one.ask({}), other.ask({})
        pids = [child._process.pid for child in (one, other)]
        interleave((one, other), seconds=0.05, seed=0)
        assert all(becomes(pid, {"T"}) for pid in pids)
    assert [state(pid) for pid in pids] == ["", ""]


def test_what_a_script_has_started_rests_with_it(tmp_path):
    """A target of ``--ab`` may be a script that prepares an environment."""
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\ntrue\n')
    script.chmod(0o755)
    with Child(Installation(str(script), {}), ["-c", SPINNING], Path("/")) as child:
        pid = child.ask({})["pid"]
        assert state(pid) not in {"", "T"}
        child.rest()
        assert becomes(pid, {"T"})
        assert child.ask({})["pid"] == pid
    assert becomes(pid, {"", "Z"})


def test_a_child_that_ends_while_it_rests_is_told():
    """Nobody waits for its answer."""
    with spinning() as child:
        child.ask({})
        child.rest()
        os.kill(child._process.pid, signal.SIGKILL)
        with pytest.raises(BenchmarkError, match="the child process broke down"):
            child.block(1)


def test_the_threads_of_a_child_are_apart_while_it_is_timed():
    """Each on a processor, where the engine fills them."""
    case = Case("onnxruntime:cpu", ModelSpec("test_nfnet", None, (64, 64)), "fp32", 1)
    with Child(Installation(sys.executable, {}), ["-m", "fixtures.plugin.timed"], ROOT) as child:
        placed = child.ask(question(case, cache_folder()))["spread"]
        child.block(1)
        homes = [os.sched_getaffinity(int(path.name)) for path in Path(f"/proc/{child._process.pid}/task").iterdir()]
    assert placed in {0, len(processors())}
    alone = sorted(min(home) for home in homes if len(home) == 1)
    assert placed == 0 or len(processors()) == 1 or alone == processors()


def test_a_child_at_rest_ends_with_its_parent():
    """Even where the parent is killed, and can tell nobody."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(cache_folder())], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    pid = int(parent.stdout.readline())
    assert becomes(pid, {"T"})
    parent.kill()
    parent.communicate()
    assert becomes(pid, {"", "Z"})


class Workers:
    """So many threads that work without Python's lock until the block is left."""

    def __init__(self, count):
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(count)]

    def _work(self):
        data = bytes(1 << 20)
        while not self._over.is_set():
            hashlib.sha256(data).digest()

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def homes(self):
        """Where each may run."""
        return {thread.native_id: os.sched_getaffinity(thread.native_id) for thread in self._threads}


def test_threads_have_a_processor_each():
    """No two of them share one, and none of the others is bound; afterwards they run where they did."""
    ours, everywhere = os.sched_getaffinity(0), set(processors())
    with Workers(len(everywhere)) as workers:
        with spread(list(workers.homes)):
            homes = workers.homes
        assert sorted(homes.values(), key=min) == [{at} for at in sorted(everywhere)]
        assert all(home == everywhere for home in workers.homes.values())
    assert os.sched_getaffinity(0) == ours


def test_a_thread_that_works_is_found():
    """By what the kernel says that it has run."""
    with threads_at_work() as threads, Workers(len(processors())) as workers:
        time.sleep(1.0)
        names = list(workers.homes)
    assert not threads or threads == sorted(names)  # none where one had less than a quarter of the time
    with Workers(1) as workers:
        before = thread_seconds()
        time.sleep(1.0)
        (name,) = workers.homes
        assert thread_seconds()[name] > before[name]


EVERYWHERE, BOUND = {0, 1, 2}, {1}


@pytest.mark.parametrize(
    ("ran", "homes", "found"),
    [
        ({7: 1.0, 8: 0.9, 9: 0.8}, {}, [7, 8, 9]),
        ({9: 1.0, 7: 0.9, 8: 0.8, 5: 0.001}, {}, [7, 8, 9]),  # one that hardly ran
        ({7: 1.0, 8: 0.9}, {}, []),  # fewer
        ({6: 1.0, 7: 1.0, 8: 0.9, 9: 0.8}, {}, []),  # more
        ({7: 1.0, 8: 0.9, 9: 0.8}, {8: BOUND}, []),
        ({7: 1.0, 8: 0.9, 9: 0.8}, {8: set()}, []),  # ended
        ({}, {}, []),
    ],
)
def test_threads_that_fill_the_processors_are_meant(monkeypatch, ran, homes, found):
    """The scheduler makes the best of fewer and of more, and an engine that binds one of its own knows better."""
    before = dict.fromkeys(list(ran)[:1], 5.0)
    readings = iter([before, {name: before.get(name, 0.0) + ran[name] for name in ran}])
    monkeypatch.setattr(placement, "thread_seconds", lambda: next(readings))
    monkeypatch.setattr(placement, "processors", lambda: sorted(EVERYWHERE))
    monkeypatch.setattr(placement, "_homes", lambda thread: homes.get(thread, EVERYWHERE))
    monkeypatch.setattr(placement, "rest", set)
    with threads_at_work() as threads:
        time.sleep(0.1)
    assert threads == found


def test_threads_run_anywhere_again_after_an_error():
    """Also where a number is no thread's any more."""
    everywhere = processors()
    with pytest.raises(ZeroDivisionError), spread([threading.get_native_id(), 1 << 30]):
        1 / (len(processors()) - 1)
    assert processors() == everywhere


def test_others_work_and_the_yardstick_are_not_bound_with_the_caller(monkeypatch):
    """What others used is read, and the yardstick is timed, where every processor counts."""
    seen = set()

    @contextmanager
    def ours():
        yield [threading.get_native_id()]

    def look(what):
        return lambda: seen.add((what, len(processors()))) or 0.0

    everywhere = len(processors())
    monkeypatch.setattr(sampling, "threads_at_work", ours)
    plan = Plan(seconds=0.01, warmup_seconds=0.001, yardstick=look("yard"))
    taken = sampling.sample(look("call"), plan, foreign=look("others"))
    warm_up = ("call", everywhere)
    assert seen == {warm_up, ("call", 1), ("others", everywhere), ("yard", everywhere)}
    assert taken.spread == 1


def test_the_reference_does_not_spin_beside_what_is_judged(tmp_path):
    """ONNX Runtime's other sessions do, as they do for their users."""
    spec, ran = ModelSpec("test_nfnet", None, (64, 64)), {}
    with RunContext.create(tmp_path) as context:
        images = context.model_store.images(spec, 1)
        for options in (replace(context.reference.options, threads=2), EngineOptions(threads=2)):
            program = context.program_pool.program(Case("onnxruntime:cpu", spec, "fp32", 1, options))
            for _ in range(5):
                program.run({program.inputs[0].name: images})
            before = time.process_time()
            time.sleep(0.1)
            ran[options.spin] = time.process_time() - before
    assert ran[False] < ran[True] / 3


def test_others_are_timed_once_this_process_rests():
    """Soon where its threads stop, and not for ever where they do not, however busy the machine is."""
    with Workers(1) as workers:
        assert rest() == set(workers.homes)
        begun = time.monotonic()
        assert rest(set(workers.homes)) == set()
        assert time.monotonic() - begun < PATIENCE
    end = time.monotonic() + 0.1
    worker = threading.Thread(target=lambda: [None for _ in iter(lambda: time.monotonic() < end, False)])
    worker.start()
    assert rest() == set()
    assert time.monotonic() > end
    worker.join()


def test_a_thread_that_never_rests_is_told_and_waited_for_once():
    """Else each block would cost half a second more."""
    with Workers(1):
        begun = time.monotonic()
        plan = Plan(seconds=0.2, warmup_seconds=0.01, yardstick=lambda: None)
        taken = sampling.sample(lambda: time.sleep(0.002), plan)
        assert time.monotonic() - begun < 0.2 + 0.01 + 2 * PATIENCE + 1.0
    assert len(taken.blocks) > 3
    assert taken.stubborn == 1
    assert speed.SPINNING in speed._restless(taken)


@pytest.mark.parametrize(("then", "now"), [(0, 0), (1, 0), (0, 1)])
def test_a_run_beside_its_own_threads_is_not_believed(then, now):
    """The yardstick was slowed by them, so that the engine seems faster."""
    many = tuple([1.0] * 20)
    known = baseline.Baseline(Path("x"), {}, {"x": baseline.Blocks(many, many, many, NAME, {}, then)})
    taken = sampling.Samples(tuple((1,) for _ in many), tuple(0.0 for _ in many), many, 1, 1, True, 1.0, now)
    found = speed.Gate(known, 1.0).judge("x", taken)
    assert found.outcome == (INCONCLUSIVE if then or now else NOT_SLOWER)
    assert (speed.SPINNING in str(found)) == bool(then or now)
    assert found.advice(30.0) == (speed.IN_TURNS if then or now else "")


def test_a_kernel_that_does_not_tell(tmp_path):
    """No thread is known to have run."""
    assert thread_seconds(tmp_path) == {}
    assert threading.get_native_id() in thread_seconds(THREADS)

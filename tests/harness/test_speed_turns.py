"""Whoever's turn it is not is at rest, and who works has the processors for itself."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fixtures.cache import cache_folder
from fixtures.hardware import processors
from fixtures.speed.ab import Child, Installation, interleave
from fixtures.speed.placement import THREADS, at_work, rest, spread, thread_seconds

ROOT = Path(__file__).parents[2]
SPINNING = """
import json, sys, threading, time
threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()
for line in sys.stdin:
    print(json.dumps({"ns": [1], "ran": time.process_time()}), flush=True)
"""
PARENT = """
import sys, time
from pathlib import Path
from fixtures.plugin.timed import question
from fixtures.records import Case, ModelSpec
from fixtures.speed.ab import Child, Installation
child = Child(Installation(sys.executable, {}), ["-m", "fixtures.plugin.timed"], Path.cwd())
child.ask(question(Case("onnxruntime:cpu", ModelSpec("test_nfnet", None, (64, 64)), "fp32", 1), Path(sys.argv[1])))
child.rest()
print(child._process.pid, flush=True)
time.sleep(100)
"""


def spinning():
    """A child one of whose threads never rests by itself."""
    return Child(Installation(sys.executable, {}), ["-c", SPINNING], Path("/"))


def state(pid):
    """One letter of proc(5), empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def becomes(pid, states):
    """The process has one of these states within some seconds."""
    end = time.monotonic() + 10
    while state(pid) not in states and time.monotonic() < end:
        time.sleep(0.01)
    return state(pid) in states


def test_a_child_at_rest_uses_no_processor():
    """None of its threads does; it goes on when it is asked."""
    with spinning() as child:
        before = child.ask({})["ran"]
        time.sleep(0.3)
        awake = child.ask({})["ran"] - before
        child.rest()
        before = child.ask({})["ran"]
        child.rest()
        time.sleep(0.3)
        assert child.ask({})["ran"] - before < awake / 2


def test_all_rest_but_the_one_whose_turn_it_is():
    """Before the first block, and after the last."""
    with spinning() as one, spinning() as other:
        one.ask({}), other.ask({})
        pids = [child._process.pid for child in (one, other)]
        interleave((one, other), seconds=0.05, seed=0)
        assert all(becomes(pid, {"T"}) for pid in pids)
    assert [state(pid) for pid in pids] == ["", ""]


def test_a_child_at_rest_ends_with_its_parent():
    """Even where the parent is killed, and can tell nobody."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(cache_folder())], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    pid = int(parent.stdout.readline())
    assert becomes(pid, {"T"})
    parent.kill()
    parent.communicate()
    assert becomes(pid, {"", "Z"})


def bound(count, seconds):
    """Threads at work, and where each of so many threads may run while they are apart; afterwards anywhere."""
    over = threading.Event()

    def work():
        data = bytes(1 << 20)
        while not over.is_set():
            hashlib.sha256(data).digest()  # without Python's lock

    before, workers = thread_seconds(), [threading.Thread(target=work) for _ in range(count)]
    for worker in workers:
        worker.start()
    time.sleep(seconds)
    threads = at_work(before, seconds * min(1, len(processors()) / count))
    with spread(threads):
        found = {worker.native_id: os.sched_getaffinity(worker.native_id) for worker in workers}
    assert all(os.sched_getaffinity(worker.native_id) == set(processors()) for worker in workers)
    over.set()
    for worker in workers:
        worker.join()
    return threads, found


def test_threads_that_fill_the_processors_have_one_each():
    """No two of them share one, and none of the others is bound."""
    ours = os.sched_getaffinity(0)
    placed, homes = bound(len(processors()), 0.5)
    assert sorted(placed) == sorted(homes)
    assert sorted(homes.values(), key=min) == [{at} for at in processors()]
    assert os.sched_getaffinity(0) == ours


def test_more_threads_than_processors_share_them_evenly():
    """In turns."""
    placed, homes = bound(2 * len(processors()), 1.0)
    assert sorted(placed) == sorted(homes)
    assert sorted(map(min, homes.values())) == sorted(2 * processors())
    assert {len(home) for home in homes.values()} == {1}


@pytest.mark.skipif(len(processors()) < 2, reason="one thread fills one processor")
def test_fewer_threads_than_processors_are_left_alone():
    """The scheduler has room to evade others."""
    placed, homes = bound(1, 0.3)
    assert placed == []
    assert list(homes.values()) == [set(processors())]


def test_a_kernel_that_does_not_tell(tmp_path):
    """No thread is known to have run."""
    assert thread_seconds(tmp_path) == {}
    assert threading.get_native_id() in thread_seconds(THREADS)


def test_a_thread_that_its_engine_has_bound_stays_there():
    """Whoever binds one knows better, so that none is moved."""
    over, data = threading.Event(), bytes(1 << 20)

    def work():
        os.sched_setaffinity(0, {processors()[0]})
        while not over.is_set():
            hashlib.sha256(data).digest()

    before, workers = thread_seconds(), [threading.Thread(target=work) for _ in range(len(processors()) + 1)]
    for worker in workers:
        worker.start()
    time.sleep(0.5)
    found = at_work(before, 0.1)
    over.set()
    for worker in workers:
        worker.join()
    assert found == ([] if len(processors()) > 1 else sorted(worker.native_id for worker in workers))


def test_others_are_timed_once_this_process_rests():
    """Soon where its threads stop, and not for ever where they do not."""
    end = time.monotonic() + 0.1
    worker = threading.Thread(target=lambda: [None for _ in iter(lambda: time.monotonic() < end, False)])
    worker.start()
    assert rest()
    assert time.monotonic() > end
    over = threading.Event()
    worker = threading.Thread(target=lambda: [None for _ in iter(over.is_set, True)])
    worker.start()
    assert not rest()
    over.set()
    worker.join()

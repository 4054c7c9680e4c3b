"""Threads that fill the CPUs get one each while they are timed."""

import hashlib
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest

from fixtures.benchmark import pinning, sampling
from fixtures.benchmark.pinning import LOOK_SECONDS, MAX_WAIT_SECONDS, busy_threads, pinned, wait_until_idle
from fixtures.records import Case, EngineOptions, ModelSpec
from fixtures.run.context import RunContext


class Workers:
    """Threads that use CPU time, without Python's lock, until the block is left."""

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
    def cpus(self):
        """CPUs of each thread, by its id."""
        return {thread.native_id: os.sched_getaffinity(thread.native_id) for thread in self._threads}


def test_each_thread_is_pinned_to_a_cpu_and_released():
    """The caller is not pinned with them."""
    everywhere = os.sched_getaffinity(0)
    with Workers(len(everywhere)) as workers:
        with pinned(list(workers.cpus)):
            during = list(workers.cpus.values())
        assert sorted(during, key=min) == [{cpu} for cpu in sorted(everywhere)]
        assert all(cpus == everywhere for cpus in workers.cpus.values())
    assert os.sched_getaffinity(0) == everywhere


def test_threads_are_released_after_an_error():
    """One of them has ended by then."""
    everywhere = os.sched_getaffinity(0)
    with pytest.raises(ZeroDivisionError), pinned([threading.get_native_id(), 1 << 30]):
        1 / (len(os.sched_getaffinity(0)) - 1)
    assert os.sched_getaffinity(0) == everywhere


EVERYWHERE = {0, 1, 2}


@pytest.mark.parametrize(
    ("ran", "cpus", "found"),
    [
        ({7: 1.0, 8: 0.9, 9: 0.8}, {}, [7, 8, 9]),
        ({9: 1.0, 7: 0.9, 8: 0.8, 5: 0.001}, {}, [7, 8, 9]),  # one hardly ran
        ({7: 1.0, 8: 0.9}, {}, []),  # fewer than CPUs
        ({6: 1.0, 7: 1.0, 8: 0.9, 9: 0.8}, {}, []),  # more
        ({7: 1.0, 8: 0.9, 9: 0.8}, {8: {1}}, []),  # the engine has pinned one
        ({7: 1.0, 8: 0.9, 9: 0.8}, {8: set()}, []),  # one has ended
        ({}, {}, []),
    ],
)
def test_threads_that_fill_the_cpus_are_found(monkeypatch, ran, cpus, found):
    """The scheduler is left alone with fewer or more threads, and with an engine that pins its own."""
    before = dict.fromkeys(list(ran)[:1], 5.0)
    readings = iter([before, {thread: before.get(thread, 0.0) + ran[thread] for thread in ran}])
    monkeypatch.setattr(pinning, "_thread_seconds", lambda: next(readings))
    monkeypatch.setattr(pinning.os, "sched_getaffinity", lambda _: EVERYWHERE)
    monkeypatch.setattr(pinning, "_affinity", lambda thread: cpus.get(thread, EVERYWHERE))
    monkeypatch.setattr(pinning, "wait_until_idle", lambda: None)
    with busy_threads() as threads:
        time.sleep(0.1)
    assert threads == found


def test_sampled_call_is_pinned_and_external_load_is_read_on_all_cpus(monkeypatch):
    """The warm-up runs before the threads are known."""
    seen = {}

    @contextmanager
    def this_thread():
        yield [threading.get_native_id()]

    def look(what):
        return lambda: seen.setdefault(what, []).append(len(os.sched_getaffinity(0))) or 0.0

    everywhere = len(os.sched_getaffinity(0))
    monkeypatch.setattr(sampling, "busy_threads", this_thread)
    monkeypatch.setattr(sampling, "external_cpu_seconds", look("external"))
    taken = sampling.sample(look("call"), 0.01)
    assert seen["external"] == [everywhere, everywhere]
    assert seen["call"] == [everywhere] * taken.warmup_calls + [1] * len(taken.ns)
    assert taken.pinned_threads == 1


@pytest.mark.parametrize("busy", [0, 3, 99])
def test_process_is_waited_for_until_idle_with_a_limit(monkeypatch, busy):
    """The process uses a whole CPU during so many looks of LOOK_SECONDS."""
    readings = [LOOK_SECONDS * value for look in range(busy) for value in (look, look + 1)] + [2.0, 2.0]
    monkeypatch.setattr(pinning.time, "process_time", lambda: readings.pop(0))
    begun = time.monotonic()
    wait_until_idle()
    if busy < MAX_WAIT_SECONDS / LOOK_SECONDS:
        assert readings == []
    else:
        assert readings
        assert time.monotonic() - begun >= MAX_WAIT_SECONDS


def test_reference_does_not_spin_after_a_run(tmp_path):
    """Its threads would disturb what is timed next; those of other sessions do spin."""
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

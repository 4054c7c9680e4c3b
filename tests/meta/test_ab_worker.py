"""Workers of an A/B comparison: another Python, paused while they are inactive, and all that they started."""

import os
import signal
import sys
import time

import psutil
import pytest

from fixtures.benchmark.ab import interleave
from fixtures.engines.isolated import NO_PACKAGES, IsolatedEngine
from fixtures.engines.worker_process import Installation, Isolation
from fixtures.errors import BenchmarkError, CrashError, EngineUnavailable
from fixtures.plugin.ab_comparison import timed_side
from fixtures.records import Case, ModelSpec
from fixtures.run.context import RunContext
from tests.meta import crashing
from tests.meta.leftovers import still_running
from tests.meta.tiny_models import doubling

BUSY = "import threading; threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()"


@pytest.fixture
def double(tmp_path):
    """A case whose model doubles its input."""
    return Case("onnxruntime:cpu", ModelSpec(path=doubling(tmp_path / "double.onnx")), "fp32", 1)


@pytest.fixture
def side(double, tmp_path):
    """A function that starts a side in an environment, with an interpreter."""
    with RunContext.create(tmp_path, isolation=None) as context:

        def starter(environment=None, python=sys.executable, isolation=None):
            installation = Installation(str(python), environment or {})
            return timed_side(double, context, installation, None, isolation or Isolation())

        yield starter


def cpu_time(process):
    """Seconds that all threads of a process have used."""
    times = process.cpu_times()
    return times.user + times.system


def becomes(process, status):
    """Whether the process has a status within some seconds."""
    end = time.monotonic() + 10
    while process.status() != status and time.monotonic() < end:
        time.sleep(0.01)
    return process.status() == status


def executable(path, text):
    """A script."""
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_paused_side_uses_no_cpu_and_answers_again(side, tmp_path):
    """None of its threads runs, though one of them never waits."""
    with side(crashing.environment(tmp_path, at_compile=BUSY)) as (_, program):
        worker = psutil.Process(program.pid)
        assert len(program.time_block(10**6)) >= 1
        assert becomes(worker, psutil.STATUS_STOPPED)
        before = cpu_time(worker)
        time.sleep(0.3)
        assert cpu_time(worker) == before
        program.time_block(10**8)
        assert cpu_time(worker) > before


def test_both_sides_are_paused_after_interleaving_and_end_with_it(side):
    with side() as (_, head), side() as (_, base):
        workers = [psutil.Process(program.pid) for program in (head, base)]
        interleave((head, base), seconds=0.05, seed=0)
        assert all(becomes(worker, psutil.STATUS_STOPPED) for worker in workers)
    assert not any(worker.is_running() for worker in workers)


def test_what_a_script_has_started_is_paused_and_ended_with_it(side, tmp_path):
    """A target of ``--ab`` may be a script that prepares an environment."""
    script = executable(tmp_path / "python", f'#!/bin/sh\n"{sys.executable}" "$@"\ntrue\n')
    with side(python=script) as (_, program):
        (worker,) = psutil.Process(program.pid).children()
        program.pause()
        assert becomes(worker, psutil.STATUS_STOPPED)
        program.time_block(1)
    assert not still_running([worker])


def test_side_that_ended_while_paused_is_an_error(side):
    """Its answer is not waited for; other errors say which Python it is, too."""

    def kill_it():
        with side() as (_, program):
            program.pause()
            os.kill(program.pid, signal.SIGKILL)
            program.time_block(1)

    with pytest.raises(BenchmarkError, match="SIGKILL") as error:
        kill_it()
    assert error.value.where.startswith(sys.executable)
    assert isinstance(error.value.__cause__, CrashError)


def test_python_without_the_packages_gets_a_hint(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['numpy'] = None")
    with pytest.raises(EngineUnavailable, match="numpy") as error:
        IsolatedEngine(
            "onnxruntime:cpu", None, tmp_path, Isolation(), Installation(environment={"PYTHONPATH": str(tmp_path)})
        )
    assert error.value.hint == NO_PACKAGES


def test_side_has_its_own_environment(side, tmp_path, monkeypatch):
    monkeypatch.setenv("NFNET_MIGRAPHX", "/here")
    text = "open({!r}, 'w').write(str([os.environ.get(name) for name in ('NFNET_MIGRAPHX', 'X')]))"
    env = crashing.environment(tmp_path, at_compile=text.format(str(tmp_path / "seen")))
    for environment in ({"NFNET_MIGRAPHX": None, "X": "1"}, {"NFNET_MIGRAPHX": "/there", "X": None}):
        with side({**environment, **env}):
            assert (tmp_path / "seen").read_text() == str(list(environment.values()))

"""Child processes of an A/B comparison: paused while they are inactive, and every way in which one can fail."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fixtures.benchmark.ab import interleave
from fixtures.benchmark.child_process import ChildProcess, Installation
from fixtures.cache import cache_folder
from fixtures.errors import BenchmarkError
from fixtures.records import Case, ModelSpec

ROOT = Path(__file__).parents[2]
HERE = Installation(sys.executable, {})
BUSY = """
import json, os, sys, threading, time
threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()
for line in sys.stdin:
    print(json.dumps({"ns": [1], "ran": time.process_time(), "pid": os.getpid()}), flush=True)
"""
PARENT = """
import sys, time
from pathlib import Path
from fixtures.benchmark.child_process import ChildProcess, Installation
from fixtures.plugin.ab_worker import first_request
from fixtures.records import Case, ModelSpec
case = Case("onnxruntime:cpu", ModelSpec("test_nfnet", None, (64, 64)), "fp32", 1)
child = ChildProcess(Installation(sys.executable, {}), ["-m", "fixtures.plugin.ab_worker"], Path.cwd())
child.request(first_request(case, Path(sys.argv[1])))
child.pause()
print(child._process.pid, flush=True)
time.sleep(100)
"""
CASE = Case("onnxruntime:cpu", ModelSpec("test_nfnet", None, (64, 64)), "fp32", 1)


def child(code, installation=HERE, folder=Path("/")):
    """A child that runs some Python."""
    return ChildProcess(installation, ["-c", code], folder)


def fields(pid):
    """Fields of proc(5) behind the name of a process; none if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def becomes(pid, states):
    """Whether the process has one of these states within some seconds; an empty one if it has ended."""
    end = time.monotonic() + 10
    while (state := (fields(pid) or [""])[0]) not in states and time.monotonic() < end:
        time.sleep(0.01)
    return state in states


def ticks(pid):
    """CPU time that all threads of a process have used."""
    return sum(map(int, fields(pid)[11:13]))


def test_paused_child_uses_no_cpu_and_answers_again():
    """None of its threads runs, though one of them never waits."""
    with child(BUSY) as busy:
        pid = busy.request({})["pid"]
        busy.pause()
        assert becomes(pid, {"T"})
        before = ticks(pid)
        time.sleep(0.3)
        assert ticks(pid) == before
        ran = busy.request({})["ran"]
        assert busy.request({})["ran"] > ran


def test_all_children_are_paused_after_interleaving_and_end_with_it():
    """Also the side that was measured last."""
    with child(BUSY) as head, child(BUSY) as base:
        pids = [side.request({})["pid"] for side in (head, base)]
        interleave((head, base), seconds=0.05, seed=0)
        assert all(becomes(pid, {"T"}) for pid in pids)
    assert all(becomes(pid, {""}) for pid in pids)


def test_what_a_script_has_started_is_paused_and_ended_with_it(tmp_path):
    """A target of ``--ab`` may be a script that prepares an environment."""
    script = executable(tmp_path / "python", f'#!/bin/sh\n"{sys.executable}" "$@"\ntrue\n')
    with child(BUSY, Installation(str(script), {})) as started:
        pid = started.request({})["pid"]
        assert fields(pid)[0] != "T"
        started.pause()
        assert becomes(pid, {"T"})
        assert started.request({})["pid"] == pid
    assert becomes(pid, {"", "Z"})


def test_child_that_ended_while_paused_is_an_error():
    """Its answer is not waited for."""
    with child(BUSY) as busy:
        pid = busy.request({})["pid"]
        busy.pause()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(BenchmarkError):
            busy.time_block(1)


def test_paused_child_ends_with_a_killed_parent():
    """A killed parent cannot end it."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(cache_folder())], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    pid = int(parent.stdout.readline())
    assert becomes(pid, {"T"})
    parent.kill()
    parent.communicate()
    assert becomes(pid, {"", "Z"})


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("input(); raise SystemExit('no such GPU')", "no such GPU"),
        ("input(); print('hello')", "Expecting value"),
        ("input(); print(1)", "answered '1'"),
        ('input(); print(\'{"error": "out of memory"}\')', "out of memory"),
    ],
)
def test_child_that_fails_says_why(code, text):
    """Its standard error, what it answered instead of JSON, or the error that it reports."""
    with child(code) as broken, pytest.raises(BenchmarkError, match=text):
        broken.request({})


def test_child_that_is_late_is_an_error():
    """The deadline ends the wait."""
    with child("input(); input()") as silent, pytest.raises(BenchmarkError, match=r"within 0\.2 s"):
        silent.request({}, deadline=0.2)


def test_child_with_children_of_its_own_is_not_waited_for(tmp_path):
    """They are killed with it."""
    script = executable(tmp_path / "python", "#!/bin/sh\necho '{}'\nsleep 100\n")
    begun = time.monotonic()
    with child("", Installation(str(script), {})) as started:
        assert started.request({}) == {}
    assert time.monotonic() - begun < 50


def test_interpreter_that_cannot_be_started_is_an_error(tmp_path):
    """With the system's reason."""
    (tmp_path / "python").touch()
    with pytest.raises(BenchmarkError, match="Permission denied"):
        child("", Installation(str(tmp_path / "python"), {}))


def test_python_without_the_packages_gets_a_hint():
    """The error is one line, without a traceback."""
    with child("input(); import no_such_package") as there, pytest.raises(BenchmarkError) as error:
        there.request({})
    assert "no_such_package" in error.value.what
    assert "requirements_nfnet.txt" in error.value.hint


def test_child_has_its_own_environment_and_absolute_paths(tmp_path, monkeypatch):
    """A variable that is None is removed; the child works in another folder."""
    monkeypatch.setenv("NFNET_MIGRAPHX", "/here")
    monkeypatch.chdir(tmp_path)
    code = (
        "import json, os; given = json.loads(input())\n"
        "print(json.dumps({**given, **{name: os.environ.get(name) for name in ('NFNET_MIGRAPHX', 'X')}}))"
    )
    for environment in ({"NFNET_MIGRAPHX": None, "X": "1"}, {"NFNET_MIGRAPHX": "/there", "X": None}):
        with child(code, Installation(sys.executable, environment)) as there:
            assert there.request({"path": Path("rocm")}) == {"path": str(tmp_path / "rocm"), **environment}


def executable(path, text=""):
    """A file that can be run."""
    path.write_text(text)
    path.chmod(0o755)
    return path

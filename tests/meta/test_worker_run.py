"""Whole runs with engines in workers: a crash, a deadline or an interrupt loses nothing."""

import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import psutil
import pytest

from fixtures.cli.comparison import FAILED_TEXT
from fixtures.engines.isolated import ENDED_BEFORE
from fixtures.engines.worker_process import LATE
from fixtures.plugin.failures import CANNOT_JUDGE
from fixtures.report.records import FAILED
from fixtures.report.results_file import read_results
from tests.meta import crashing
from tests.meta.conftest import ROOT, SMALL
from tests.meta.leftovers import still_running

AGREEMENT = "tests/conformance/test_agreement.py"
# Tests of a batch of one also run a batch of two.
TWO_BATCHES = ("--precision", "fp32", "--batch", "1,3", "--explain", "never")
CASE = "onnxruntime:cpu-test_nfnet@64-fp32-b"
OBEY = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
sys.argv[:] = sys.argv[1:]
(runpy.run_path if sys.argv[0].endswith(".py") else runpy.run_module)(sys.argv[0], run_name="__main__")
"""
LATEST_END = 2.0  # seconds after a signal, the time aside in which the process waits for a CPU that others use
ATTEMPTS = 3  # it also waits for the disk and for other processes


def test_crash_fails_one_case_and_the_run_goes_on(runner, tmp_path):
    """The first test of the case fails, its others are not judged, and the other case passes.

    The results have the output of the engine's process, and the script that shows the crash again.
    """
    env = crashing.environment(tmp_path, at_run=crashing.ABORT, condition="batch == 3")
    junit, saved = tmp_path / "junit.xml", tmp_path / "results.json"
    places = (AGREEMENT, "tests/conformance/test_repeating.py")
    words = (f"--junit-xml={junit}", f"--results={saved}")
    done = runner.small(*places, *TWO_BATCHES, *words, env=env, isolated=True, code=1)
    assert len(set(re.findall(rf"^{CASE}3: failed at run: .*SIGABRT.*axis < rank.*$", done.out, re.MULTILINE))) == 1
    assert re.search(rf"^pass {CASE}1 ", done.out, re.MULTILINE)
    assert re.search(rf"^FAIL {CASE}3 .* tests failed: 1$", done.out, re.MULTILINE)
    tests = ET.parse(junit)  # noqa: S314  our own file
    messages = {tag: [row.get("message") for row in tests.iter(tag)] for tag in ("failure", "error", "skipped")}
    assert [len(found) for found in messages.values()] == [1, 0, 2]  # though the program runs in a fixture
    assert all(ENDED_BEFORE in message for message in messages["skipped"])
    assert "ERROR at setup" not in done.out
    (report,) = [item.bug_report for item in read_results(saved).items if item.bug_report]
    assert "Assertion `axis < rank` failed." in report.texts["README.txt"]
    assert "open_engine" in report.texts["repro.py"]
    assert report.sizes["data.npz"]


def test_crash_under_xdist_is_the_same(runner, tmp_path):
    """No process of pytest-xdist ends, and all know what crashed. The saved message is that of the suite alone."""
    env = crashing.environment(tmp_path, at_run="time.sleep(1); os.abort()", condition="batch == 3")
    places = (AGREEMENT, "tests/conformance/test_repeating.py", "tests/conformance/test_isolation.py")
    saved = tmp_path / "results.json"
    done = runner.small(*places, *TWO_BATCHES, "-n", "2", f"--results={saved}", env=env, isolated=True, code=1)
    assert re.search(rf"^pass {CASE}1 ", done.out, re.MULTILINE)
    (failed,) = re.findall(rf"^FAIL {CASE}3 .* tests failed: (\d)$", done.out, re.MULTILINE)
    assert int(failed) <= 2  # both may have begun before one crashed
    assert ENDED_BEFORE in done.out
    assert "crashed while running" not in done.out
    assert all(item.message.startswith(f"{CASE}3: ") for item in read_results(saved).items if item.outcome == FAILED)


DEVICES = """
from pathlib import Path
from fixtures import hardware
node = Path({root!r}, hardware.NODES)
for number in (1, 2):
    (node / str(number)).mkdir(parents=True, exist_ok=True)
    (node / str(number) / "properties").write_text("gfx_target_version 90402\\n")
hardware.ROOT = Path({root!r})
"""


def test_each_process_of_xdist_has_its_own_gpu(runner, tmp_path):
    """Two stand-in devices: ``-n auto`` starts two processes, and their workers see one each."""
    seen = tmp_path / "seen"
    seen.mkdir()
    statement = f"open({str(seen)!r} + '/' + os.environ['HIP_VISIBLE_DEVICES'], 'w')"
    env = crashing.environment(tmp_path, at_compile=statement)
    plugin = tmp_path / "two_devices.py"
    plugin.write_text(DEVICES.format(root=str(tmp_path / "root")))
    env["HIP_VISIBLE_DEVICES"] = "1,0"
    done = runner.small(AGREEMENT, *TWO_BATCHES, "-n", "auto", env=env, plugin=plugin, isolated=True)
    assert "2 workers" in done.out
    assert {path.name for path in seen.iterdir()} == {"0", "1"}


def test_late_run_is_an_error_and_not_the_engines_failure(runner, tmp_path):
    """So is one that the system killed, or that had too little memory."""
    at_run = "time.sleep(99) if batch == 3 else (os.write(2, b'what(): std::bad_alloc'), os.abort())"
    env = crashing.environment(tmp_path, at_run=at_run, condition="batch > 2")
    words = (*TWO_BATCHES[:2], "--batch", "1,3,4", "--run-seconds", "1")
    done = runner.small(AGREEMENT, *words, env=env, isolated=True, code=1)
    assert re.search(rf"^{CASE}3: {CANNOT_JUDGE}: .*{LATE} 1 s", done.out, re.MULTILINE)
    assert re.search(rf"^{CASE}4: {CANNOT_JUDGE}: .*SIGABRT.*std::bad_alloc", done.out, re.MULTILINE)
    assert re.search(rf"^pass {CASE}1 ", done.out, re.MULTILINE)


def test_crash_of_the_reference_says_nothing_about_the_engine(runner, tmp_path):
    """The engine that is judged runs in another worker."""
    env = crashing.environment(tmp_path, at_run="os.abort()", judged="==")
    done = runner.small(AGREEMENT, *TWO_BATCHES, env=env, isolated=True, code=1)
    assert re.search(rf"^{CASE}1: {CANNOT_JUDGE}: .*the reference: .*SIGABRT", done.out, re.MULTILINE), done.text
    assert "failed at" not in done.out


def test_crash_on_the_command_line_is_one_line(runner, tmp_path):
    """The engine failed; the line names the script that shows it again."""
    env = crashing.environment(tmp_path, at_compile="import ctypes; ctypes.string_at(0)")
    done = runner.compare(*SMALL, env=env, isolated=True, code=1)
    assert done.err.splitlines()[-1].startswith(f"{FAILED_TEXT}: ")
    assert "at compile: SIGSEGV" in done.err.splitlines()[-1]
    assert "repro.py" in done.err.splitlines()[-1]
    assert "Traceback" not in done.text


def test_leak_in_the_worker_is_noticed(runner, tmp_path):
    """The memory is measured where the program runs."""
    env = crashing.environment(tmp_path, at_run="time.leaked = [getattr(time, 'leaked', None), bytes(2**18)]")
    place = "tests/conformance/test_coexistence.py"
    done = runner.small(place, *TWO_BATCHES, "-k", "leak", env=env, isolated=True, code=1)
    assert "memory grew by" in done.out


def test_latency_is_sampled_in_the_worker(runner, tmp_path):
    """Around the engine's own call."""
    report = tmp_path / "report.json"
    words = ("tests/performance/test_latency.py", "--precision", "fp32", "--batch", "1", "--speed-seconds", "0.2")
    runner.small(*words, f"--benchmark-json={report}", isolated=True)
    assert '"warmup_calls"' in report.read_text()


def ended(runner, words, env, mark, number):
    """Send a command a signal once ``mark`` exists; return its exit code, its output and the seconds to its end."""
    mark.unlink(missing_ok=True)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    command = [sys.executable, "-c", OBEY, *map(str, words)]
    process = subprocess.Popen(command, cwd=ROOT, env=runner.environment(env), **streams)
    while not mark.exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    workers = psutil.Process(process.pid).children(recursive=True)
    begun = time.monotonic() - seconds_without_cpu(process.pid)
    process.send_signal(number)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    seconds = time.monotonic() - seconds_without_cpu(process.pid) - begun
    out, _ = process.communicate()
    assert workers
    assert not still_running(workers, seconds=1.0)
    return process.returncode, out, seconds


def seconds_without_cpu(pid):
    """How long a process has waited for a CPU; Linux's documentation of scheduler statistics."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


SIGNALS = {
    "SIGINT to pytest": ("pytest", signal.SIGINT, 2),
    "SIGTERM to pytest": ("pytest", signal.SIGTERM, 2),
    "SIGTERM to pytest -n 2": ("pytest -n 2", signal.SIGTERM, 2),
    "SIGINT to ort_comparison.py": ("ort_comparison", signal.SIGINT, 130),
    "SIGTERM to ort_comparison.py": ("ort_comparison", signal.SIGTERM, 143),
}


@pytest.mark.parametrize(("tool", "number", "code"), SIGNALS.values(), ids=SIGNALS)
def test_signal_ends_everything_and_keeps_the_results(runner, tmp_path, tool, number, code):
    """Within two seconds, whatever the engine is doing."""
    mark, junit = tmp_path / "hangs", tmp_path / "junit.xml"
    hang = f"open({str(mark)!r}, 'w'); time.sleep(99)"
    if tool != "ort_comparison":
        env = crashing.environment(tmp_path, at_run=hang, condition="batch == 3")
        words = (*tool.split(), "-p", "no:cacheprovider", *SMALL, AGREEMENT, *TWO_BATCHES, f"--junit-xml={junit}")
    else:
        env = crashing.environment(tmp_path, at_run=hang, condition="self.runs == 3")
        words = ("ort_comparison.py", *SMALL)
    for _ in range(ATTEMPTS):
        found, out, seconds = ended(runner, words, env, mark, number)
        if seconds < LATEST_END:
            break
    assert seconds < LATEST_END
    assert found == code, out
    if tool == "pytest":
        assert re.search(rf"^pass {CASE}1 ", out, re.MULTILINE), out
        assert len(list(ET.parse(junit).iter("testcase"))) >= 2  # noqa: S314  our own file
    if tool == "ort_comparison":
        assert len(re.findall(r"^ +[01]  ", out, re.MULTILINE)) == 2, out

"""The option --ab: which installations it takes, process launches, and real comparisons."""

import contextlib
import re
import subprocess
import sys
import time
import venv
import xml.etree.ElementTree as ET
from importlib import metadata
from pathlib import Path

import pytest

from fixtures.benchmark.ab import MAX_LAUNCHES, MIN_PAIRS, interleave, sample_launches
from fixtures.benchmark.ab_statistics import NOT_SLOWER, SLOWER
from fixtures.benchmark.sampling import SECOND
from fixtures.engines.worker_process import Installation
from fixtures.errors import BenchmarkError
from fixtures.plugin.ab_comparison import TITLE, WITHOUT_MIGRAPHX, installation
from fixtures.plugin.latency_benchmark import IN_PARALLEL

ROOT = Path(__file__).parents[2]
TEST = "tests/performance/test_ab.py"
CASE = ("--precision", "fp32", "--batch", "1")


class Steady:
    """A side whose blocks are all alike."""

    def __init__(self, fast):
        self.block = [fast, fast, 9]

    def time_block(self, ns):
        """Return the block after a while."""
        time.sleep(ns / SECOND)
        return self.block

    def pause(self):
        """Do nothing: there is no process."""


SIDES = (Steady(7), Steady(8))


def test_blocks_of_both_sides_are_taken_in_pairs():
    head, base = interleave(SIDES, seconds=0.1, seed=0)
    assert len(head) == len(base) >= MIN_PAIRS
    assert all(block == [7, 7, 9] for block in head)
    assert all(block == [8, 8, 9] for block in base)


@pytest.mark.parametrize(("start_seconds", "most"), [(0.0, MAX_LAUNCHES), (0.1, 3), (0.3, 1)])
def test_processes_are_launched_as_often_as_time_allows(start_seconds, most):
    """The fast samples stand for a block; even one launch has enough pairs."""
    begun = []

    @contextlib.contextmanager
    def start():
        begun.append(time.monotonic())
        time.sleep(start_seconds)
        yield SIDES

    launches = sample_launches(start, seconds=0.5, seed=0)
    assert 1 <= len(launches) <= most
    assert 1 <= len(begun) - len(launches) <= 2  # to see how long one takes, again if it was slow
    assert sum(len(head) for head, _ in launches) >= MIN_PAIRS
    for head, base in launches:
        assert (set(head), set(base)) == ({7.0}, {8.0})


def test_first_launch_that_compiles_does_not_count():
    """Later ones load what it compiled."""
    seconds = iter([1.0, *[0.0] * MAX_LAUNCHES, 0.0])

    @contextlib.contextmanager
    def start():
        time.sleep(next(seconds))
        yield SIDES

    assert len(sample_launches(start, seconds=2.0, seed=0)) > 1


def executable(path):
    """A file that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    path.chmod(0o755)
    return path


def test_installation_is_a_python_a_venv_or_a_migraphx(tmp_path, monkeypatch):
    """Relative paths count from the working folder; the libraries of a MIGraphX come before all others."""
    monkeypatch.chdir(tmp_path)
    python = executable(tmp_path / "venv" / "bin" / "python")
    other = executable(tmp_path / "pypy3")
    library = executable(tmp_path / "lib" / "libmigraphx_c.so.3")
    for place, found in ((tmp_path / "venv", python), (Path("venv"), python), (python, python), (other, other)):
        assert installation(place) == Installation(str(found), {"NFNET_MIGRAPHX": None})
    monkeypatch.setenv("LD_LIBRARY_PATH", "/other")
    for place in (library, library.parent, library.parents[1]):
        environment = {"NFNET_MIGRAPHX": str(place), "LD_LIBRARY_PATH": f"{library.parent}:/other"}
        assert installation(place) == Installation(sys.executable, environment)


def test_other_targets_are_refused(tmp_path):
    """Otherwise this installation would be compared with itself."""
    (tmp_path / "file").touch()
    for place in ("/nowhere", 300 * "x", str(tmp_path), str(tmp_path / "file")):
        with pytest.raises(BenchmarkError, match=re.escape(place)) as error:
            installation(Path(place))
        assert error.value.hint


def test_same_installation_twice(runner, tmp_path):
    """Both children run the case; JUnit has the outcome, whatever this machine's noise makes of it."""
    junit = tmp_path / "junit.xml"
    done = runner.small(
        TEST, f"--ab={sys.executable}", *CASE, "--speed-seconds", "1", f"--junit-xml={junit}", code=None
    )
    assert done.code in {0, 1}, done.text
    version = metadata.version("onnxruntime")
    assert TITLE in done.out
    assert f"onnxruntime:cpu {version}, base {version} of {sys.executable}" in done.out
    (case,) = ET.parse(junit).iter("testcase")  # noqa: S314  our own file
    (outcome,) = (row.get("value") for row in case.iter("property") if row.get("name") == "speed")
    assert "99 % interval" in outcome
    assert (case.find("failure") is None) == outcome.startswith(NOT_SLOWER)


@pytest.mark.parametrize(("slowed", "code", "outcome"), [("head", 1, SLOWER), ("base", 0, NOT_SLOWER)])
def test_slower_head_fails_and_slower_base_passes(runner, tmp_path, slowed, code, outcome):
    """One side sleeps 30 ms in every run of ONNX Runtime."""
    (tmp_path / "sitecustomize.py").write_text(
        "import onnxruntime, time\n"
        "run = onnxruntime.InferenceSession.run\n"
        "onnxruntime.InferenceSession.run = lambda *words: (time.sleep(0.03), run(*words))[1]\n"
    )
    path = tmp_path if slowed == "base" else ""
    base = executable(tmp_path / "python")
    base.write_text(f'#!/bin/sh\nPYTHONPATH={path} exec "{sys.executable}" "$@"\n')
    env = {"PYTHONPATH": str(tmp_path)} if slowed == "head" else {}
    done = runner.small(TEST, f"--ab={base}", *CASE, "--speed-seconds", "1", env=env, code=code)
    assert f"fp32-b1: {outcome}: " in done.out


@pytest.mark.slow
def test_two_versions_of_onnxruntime(runner, tmp_path):
    """The newest one that is older than ours, in a venv of its own: both are named, and compared."""
    ours = metadata.version("onnxruntime")
    python = tmp_path / "venv" / "bin" / "python"
    venv.create(tmp_path / "venv", with_pip=True)
    wanted = ("-r", str(ROOT / "requirements_nfnet.txt"), f"onnxruntime<{ours}")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    ask = [python, "-c", "from importlib.metadata import version; print(version('onnxruntime'))"]
    theirs = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
    assert theirs != ours
    done = runner.small(TEST, f"--ab={tmp_path / 'venv'}", *CASE, "--speed-seconds", "20", code=None)
    assert done.code in {0, 1}, done.text  # either may be the faster one
    assert f"onnxruntime:cpu {ours}, base {theirs} of " in done.out
    assert "99 % interval" in done.out


def test_engine_without_migraphx_is_skipped_for_another_migraphx(runner, tmp_path):
    """Comparing nothing is not a success."""
    executable(tmp_path / "libmigraphx_c.so.3")
    done = runner.small(TEST, f"--ab={tmp_path}", *CASE, code=6)
    assert WITHOUT_MIGRAPHX in done.out, done.text
    assert "1 skipped" in done.out


def test_precision_that_the_engine_lacks_is_skipped(runner):
    done = runner.small(TEST, f"--ab={sys.executable}", "--precision", "bf16", "--batch", "1", "-rs", code=None)
    assert "1 skipped" in done.out, done.text
    assert "bf16" in done.out


@pytest.mark.parametrize(
    ("words", "message"), [(("--ab=/nowhere",), "/nowhere"), ((f"--ab={sys.executable}", "-n", "2"), IN_PARALLEL)]
)
def test_comparison_that_is_impossible_is_a_usage_error(runner, words, message):
    done = runner.small(TEST, *words, code=4)
    assert message in done.text

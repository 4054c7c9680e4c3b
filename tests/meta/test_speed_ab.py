"""Two installations in turns: real children, and every way in which one can fail."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import venv
import xml.etree.ElementTree as ET
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import pytest

from fixtures.benchmark.ab import FEWEST_PAIRS, LAUNCHES, Child, Installation, interleave, launched
from fixtures.benchmark.environment import foreign_seconds
from fixtures.errors import BenchmarkError
from fixtures.plugin.ab_comparison import installation
from fixtures.plugin.timed import case_of
from fixtures.records import Case, EngineOptions, ModelSpec

ROOT = Path(__file__).parents[2]
HERE = Installation(sys.executable, {})
STEADY = "import json, sys; [print(json.dumps({'ns': [7, 7, 9]}), flush=True) for line in sys.stdin]"


def child(code, home=HERE):
    """A child that runs a line of Python."""
    return Child(home, ["-c", code], Path("/"))


def test_blocks_are_taken_in_turns():
    """As many of one as of the other; its fast samples stand for a block."""
    with child(STEADY) as ours, child(STEADY.replace("7", "8")) as theirs:
        new, old = interleave((ours, theirs), seconds=0.1, seed=0)
    assert len(new) == len(old) >= FEWEST_PAIRS
    assert all(block == [7, 7, 9] for block in new)
    assert all(block == [8, 8, 9] for block in old)


def test_fast_samples_stand_for_a_block():
    """Of either side."""

    @contextlib.contextmanager
    def start():
        with child(STEADY) as ours, child(STEADY.replace("7", "8")) as theirs:
            yield ours, theirs

    for new, old in launched(start, seconds=0.2, seed=0):
        assert (set(new), set(old)) == ({7.0}, {8.0})


@pytest.mark.parametrize(("slow", "count"), [(0.0, LAUNCHES), (0.1, 3), (0.3, 1)])
def test_both_are_launched_again_where_that_is_cheap(slow, count):
    """So that one launch's place in memory does not decide; the sampling is shared, no launch is without pairs."""
    begun = []

    @contextlib.contextmanager
    def start():
        begun.append(time.monotonic())
        time.sleep(slow)
        with child(STEADY) as ours, child(STEADY) as theirs:
            yield ours, theirs

    found = launched(start, seconds=0.5, seed=0)
    assert len(found) <= count
    timed_first = (1, 2) if len(found) == LAUNCHES else (2,)  # again where the first one was slow
    assert len(begun) - len(found) in timed_first
    assert sum(len(new) for new, _ in found) >= FEWEST_PAIRS


def test_a_first_launch_that_compiles_does_not_count():
    """Later ones load what it kept: they are as many as they would be the next time."""
    slow = iter([1.0, *[0.0] * LAUNCHES, 0.0])

    @contextlib.contextmanager
    def start():
        time.sleep(next(slow))
        with child(STEADY) as ours, child(STEADY) as theirs:
            yield ours, theirs

    assert len(launched(start, seconds=2.0, seed=0)) > 1


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("input(); raise SystemExit('no such GPU')", "the child process broke down: no such GPU"),
        ("input(); print('hello')", "the child process broke down: Expecting value"),
        ('input(); print(\'{"error": "out of memory"}\')', ": out of memory"),
    ],
)
def test_a_child_that_fails_says_why(code, text):
    """Its last words, what it answered instead of JSON, or the error that it reports."""
    with child(code) as broken, pytest.raises(BenchmarkError, match=text):
        broken.ask({})


def test_a_child_that_is_late():
    """Is not waited for for ever."""
    with child("input(); input()") as silent, pytest.raises(BenchmarkError, match=r"no answer within 0\.2 s"):
        silent.ask({}, deadline=0.2)


def test_an_interpreter_that_cannot_be_started(tmp_path):
    """The system's reason."""
    fake = tmp_path / "python"
    fake.write_text("")
    with pytest.raises(BenchmarkError, match="cannot be started: Permission denied"):
        Child(Installation(str(fake), {}), [], tmp_path)


def executable(path, text=""):
    """A file that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_what_an_installation_may_be(tmp_path, monkeypatch):
    """A venv, a Python whatever its name, a folder or library of MIGraphX."""
    python = executable(tmp_path / "venv" / "bin" / "python")
    other = executable(tmp_path / "pypy3")
    library = executable(tmp_path / "lib" / "libmigraphx_c.so.3")
    for place, found in ((tmp_path / "venv", python), (python, python), (other, other)):
        assert installation(str(place)) == Installation(str(found), {"NFNET_MIGRAPHX": None})
    monkeypatch.setenv("LD_LIBRARY_PATH", "/other")
    for place in (library, library.parent, library.parents[1]):
        own = {"NFNET_MIGRAPHX": str(place), "LD_LIBRARY_PATH": f"{library.parent}:/other"}
        assert installation(str(place)) == Installation(sys.executable, own)


def test_an_installation_has_its_own_environment(monkeypatch):
    """What is None is not there: a Python is not told of this one's MIGraphX."""
    monkeypatch.setenv("NFNET_MIGRAPHX", "/here")
    code = (
        "import json, os; input(); print(json.dumps({name: os.environ.get(name) for name in ('NFNET_MIGRAPHX', 'X')}))"
    )
    for environment in ({"NFNET_MIGRAPHX": None, "X": "1"}, {"NFNET_MIGRAPHX": "/there", "X": None}):
        with child(code, Installation(sys.executable, environment)) as there:
            assert there.ask({}) == environment


def test_what_is_no_installation(tmp_path):
    """Else this installation would be held against itself."""
    with pytest.raises(BenchmarkError, match="there is no '/nowhere' -> name a Python, a venv"):
        installation("/nowhere")
    with pytest.raises(BenchmarkError, match=r"'~nobody-of-that-name/venv': .* -> name a Python"):
        installation("~nobody-of-that-name/venv")
    (tmp_path / "file").touch()
    with pytest.raises(BenchmarkError, match=r"^there is no 'xxx"):
        installation(300 * "x")
    for place in (tmp_path, tmp_path / "file"):
        with pytest.raises(BenchmarkError, match="is no Python and no venv, and there is no MIGraphX in the place"):
            installation(str(place))


def test_an_installation_may_be_named_from_where_one_stands(tmp_path, monkeypatch):
    """The child works in the suite's folder."""
    monkeypatch.chdir(tmp_path)
    python = executable(tmp_path / "venv" / "bin" / "python")
    assert installation("venv").python == str(python)
    echo = "import sys\nfor line in sys.stdin: print(line, flush=True)"
    with Child(Installation(sys.executable, {}), ["-c", echo], Path("/")) as there:
        assert there.ask({"place": Path("rocm"), "none": None}) == {"place": str(tmp_path / "rocm"), "none": None}


def test_an_answer_that_is_none_of_ours_and_a_child_with_children(tmp_path):
    """It is told, and nothing is waited for that the child has started."""
    python = executable(tmp_path / "python", "#!/bin/sh\necho 1\nsleep 100\n")
    begun = time.monotonic()
    with (
        Child(Installation(str(python), {}), [], tmp_path) as there,
        pytest.raises(BenchmarkError, match="answers '1'"),
    ):
        there.ask({})
    assert time.monotonic() - begun < 50


def test_a_python_without_the_packages_is_told_what_to_do(tmp_path):
    """One line instead of a traceback."""
    code = "input(); import no_such_package"
    with (
        Child(Installation(sys.executable, {}), ["-c", code], tmp_path) as there,
        pytest.raises(
            BenchmarkError,
            match=r"python\S*: ModuleNotFoundError: No module named 'no_such_package' -> that Python needs",
        ),
    ):
        there.ask({})


def test_an_engine_that_is_the_same_in_both_is_not_judged(runner, tmp_path):
    """Another MIGraphX changes nothing of ONNX Runtime on the processor."""
    executable(tmp_path / "libmigraphx_c.so.3")
    done = runner.small("tests/performance/test_ab.py", f"--ab={tmp_path}", "--precision", "fp32", "--batch", "1")
    assert "is a MIGraphX, this engine is the same with it" in done.out, done.text
    assert "1 skipped" in done.out
    assert done.code == 6


def test_a_precision_that_the_engine_has_not_is_skipped(runner):
    """As in every other test."""
    words = (f"--ab={sys.executable}", "--precision", "bf16", "--batch", "1", "-rs")
    done = runner.small("tests/performance/test_ab.py", *words)
    assert "1 skipped" in done.out, done.text
    assert "ONNX Runtime's CPU kernels do not compute in bf16" in done.out


def test_a_case_survives_the_way_to_the_child():
    """Tuples and paths come back as what they were."""
    trained = ModelSpec("digits_nfnet", None, (32, 32), weights="trained", weights_path=Path("/a/b.safetensors"))
    for model in (ModelSpec("test_nfnet", None, (64, 96), 3, 17), ModelSpec(path=Path("/a/b.onnx")), trained):
        case = Case("migraphx:ref", model, "fp16", 2, EngineOptions(fast_math=True))
        assert case_of(json.loads(json.dumps(asdict(case), default=str))) == case


def test_the_same_installation_twice(runner, tmp_path):
    """Both children run the case; the verdict is a test of its own in JUnit, whatever this machine's noise says."""
    junit = tmp_path / "junit.xml"
    words = ("--precision", "fp32", "--batch", "1", "--speed-seconds", "3", f"--junit-xml={junit}")
    done = runner.small("tests/performance/test_ab.py", f"--ab={sys.executable}", *words)
    assert done.code in {0, 1}
    assert "speed: two installations in turns" in done.out
    assert re.search(
        r"onnxruntime:cpu 1\S* here, 1\S* in .*, the same engine on both sides(, threads had a processor each in some "
        r"launches only)?, \d+ launches of each",
        done.out,
    )
    (case,) = ET.parse(junit).iter("testcase")  # noqa: S314  our own file
    (verdict,) = (row.get("value") for row in case.iter("property") if row.get("name") == "speed")
    assert "99 % interval" in verdict
    assert (case.find("failure") is None) == verdict.startswith("not slower")


@pytest.mark.slow
def test_two_versions_of_onnxruntime(runner, tmp_path):
    """The newest one that is older than ours, in a venv of its own (from PyPI): both are named, and one is judged."""
    ours = metadata.version("onnxruntime")
    python = tmp_path / "venv" / "bin" / "python"
    venv.create(tmp_path / "venv", with_pip=True)
    wanted = ("-r", str(ROOT / "requirements_nfnet.txt"), f"onnxruntime<{ours}")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    ask = [python, "-c", "from importlib.metadata import version; print(version('onnxruntime'))"]
    theirs = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
    assert theirs != ours
    words = ("--precision", "fp32", "--batch", "1", "--speed-seconds", "20")
    done = runner.small("tests/performance/test_ab.py", f"--ab={tmp_path / 'venv'}", *words)
    assert done.code in {0, 1}, done.text  # either may be the faster one
    assert f"onnxruntime:cpu {ours} here, {theirs} in " in done.out
    assert "99 % interval" in done.out


def test_an_installation_that_lacks_the_engine_fails_the_test(runner, tmp_path):
    """With the child's own words: here, a Python that finds nothing to import."""
    bare = tmp_path / "python"
    bare.write_text(f"#!/bin/sh\nexec {sys.executable} -S -E -c 'import numpy'\n")
    bare.chmod(0o755)
    done = runner.small("tests/performance/test_ab.py", f"--ab={bare}", "--precision", "fp32", "--batch", "1")
    assert done.code == 1, done.text
    assert "ModuleNotFoundError: No module named 'numpy'" in done.out


def test_an_installation_that_does_not_exist_is_a_usage_error(runner):
    """Before anything runs."""
    done = runner.small("tests/performance", "--ab=/nowhere")
    assert done.code == 4
    assert "--ab: there is no '/nowhere'" in done.err


def test_nothing_is_timed_in_parallel(runner):
    """A usage error under xdist."""
    pytest.importorskip("xdist")
    done = runner.small("tests/performance", f"--ab={sys.executable}", "-n", "2")
    assert done.code == 4
    assert "--ab: nothing is timed in parallel -> leave out -n" in done.text


def test_without_ab_there_is_nobody_to_compare_with(runner):
    """The test is not collected."""
    assert "test_ab" not in runner.small("tests/performance", "--collect-only", "-q").out


def test_work_of_others_is_seen(tmp_path):
    """Busy ticks of the kernel less our own; 0 where the machine does not tell."""
    assert foreign_seconds(tmp_path) == 0.0
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu  100000000 0 0 5 5 0 0 100000000 0 0\n")
    expected = 200_000_000 / os.sysconf("SC_CLK_TCK") / os.cpu_count()
    assert foreign_seconds(tmp_path) == pytest.approx(expected, rel=0.01)

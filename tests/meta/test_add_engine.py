"""An engine is added by the steps of fixtures/engines/README.md, from outside of the suite."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from fixtures import health
from fixtures.engines.isolated import TRACEBACK
from fixtures.engines.plugins import HOOK, REPAIR
from fixtures.engines.registry import engine_names
from fixtures.engines.reproduce import script
from fixtures.errors import UsageError
from fixtures.machine import ENGINE_FILES
from fixtures.plugin.failures import CANNOT_JUDGE
from tests.meta.tiny_models import saved

ROOT = Path(__file__).parents[2]
README = ROOT / "fixtures/engines/README.md"
CASE = ("--variant", "test_nfnet", "--image-size", "64", "--precision", "fp32", "--batch", "1")
AGREEMENT = "tests/conformance/test_agreement.py"
NAME = "example:cpu-test_nfnet@64-fp32-b1"
GOOD = f"""
from fixtures.engines.descriptor import Descriptor, EnginePrecision, Target
from fixtures.records import EngineStatus
def {HOOK}(): return [Descriptor(NAME, TARGETS, STATUS, None, OPTIONS)]
NAME, OPTIONS = "example", ()
TARGETS = (Target("cpu", {{"fp32": EnginePrecision("float")}}),)
def STATUS(*_): return EngineStatus("example:cpu")
"""


def documented(language):
    """The code of a block of the README."""
    (block,) = re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return block


@pytest.fixture
def folder(tmp_path):
    """A folder outside of the suite with the documented file and the engine that it opens."""
    (tmp_path / "example.py").write_text(documented("python"))
    shutil.copy(ROOT / "tests/meta/example_engine.py", tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", documented("sh").splitlines())
def test_documented_commands_find_the_engine(runner, folder, command):
    env, words = dict(re.findall(r"^(\w+)=(\S+) ", command)), command.split()
    env["PYTHONPATH"] = str(folder)
    if "pytest" in words:
        selected = (AGREEMENT, *words[words.index("tests/conformance") + 1 :], *CASE)
        done = runner.pytest(*selected, f"--results={folder / 'results.json'}", env=env, isolated=True)
        assert NAME in done.out
        assert f"env {ENGINE_FILES}={folder / 'example.py'} pytest" in (folder / "results.json").read_text()
    else:
        more = () if "doctor" in words else (*CASE, "--inputs", "1")
        options = {"env": env, "cwd": folder, "isolated": True, "code": None if "doctor" in words else 0}
        done = runner.compare(*words[words.index("ort_comparison.py") + 1 :], *more, **options)
        assert re.search(r"(?m)^AGREE: example:cpu|^ok +example:cpu", done.out)


def test_engine_of_a_conftest_runs_under_xdist(runner, folder):
    """The engine's own workers are grandchildren there."""
    (folder / "example.py").rename(folder / "conftest.py")
    (folder / "test_nothing.py").touch()
    place = (AGREEMENT, folder, f"--rootdir={ROOT}", f"--config-file={ROOT / 'pytest.ini'}", "-n", "1")
    words = ("--engine", "example:cpu", "--require-engine", "example:cpu", *CASE)
    runner.pytest(*place, *words, env={"PYTHONPATH": str(folder)}, isolated=True)


def test_entry_point_is_found(runner, folder):
    """Of an installed package; here its metadata are beside the module."""
    metadata = folder / "example-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[nfnet_engines]\nany = example\n")
    words = ("--engine", "example:cpu", *CASE, "--inputs", "1")
    runner.compare(*words, env={"PYTHONPATH": str(folder)}, isolated=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import nosuch_runtime", "nosuch_runtime"),
        ("raise SystemExit(3)", "SystemExit"),
        ("x = 1", HOOK),
        (f"def {HOOK}(): return [1]", HOOK),
        (GOOD + 'NAME = "onnxruntime"', "the suite itself has an engine 'onnxruntime' too"),
        (GOOD + 'NAME = "a-b"', "a-b"),
        (GOOD + "TARGETS = ()", "no target"),
        (GOOD + "TARGETS *= 2", "no target"),
        (GOOD + 'OPTIONS = ("warp",)', "warp"),
        (GOOD + 'TARGETS = (Target("cpu", {"fp5": EnginePrecision("float")}),)', "fp5"),
        (GOOD + 'TARGETS = (Target("cpu", {"int8": EnginePrecision("i8")}),)', "rule"),
        (GOOD + 'TARGETS = (Target("cpu", {"bf16": EnginePrecision("i8", file="bf16")}),)', "bf16"),
        (GOOD + 'TARGETS = ("cpu",)', "AttributeError"),
    ],
)
def test_broken_plug_in_is_named_with_the_reason(tmp_path, monkeypatch, text, reason):
    file = tmp_path / "broken.py"
    file.write_text(text)
    monkeypatch.setenv(ENGINE_FILES, str(file))
    with pytest.raises(UsageError) as caught:
        engine_names()
    assert str(file) in caught.value.what
    assert reason in caught.value.what
    assert caught.value.hint


def test_broken_plug_in_stops_pytest_before_collection(runner, tmp_path):
    done = runner.small(AGREEMENT, env={ENGINE_FILES: str(tmp_path / "nosuch.py")}, code=pytest.ExitCode.USAGE_ERROR)
    assert [REPAIR in line for line in done.err.splitlines() if line] == [True], done.text


def test_doctor_reports_a_broken_plug_in(tmp_path, monkeypatch):
    monkeypatch.setenv(ENGINE_FILES, str(tmp_path / "nosuch.py"))
    (check,) = health._plugins(None)
    assert (check.state, check.hint) == (health.PROBLEM, REPAIR)
    assert "nosuch.py" in check.text


@pytest.mark.parametrize(("shape", "code"), [((1, 3, 1, 1), 1), ((1, 3), 2)])
def test_script_of_a_bug_report_runs_the_engine(runner, folder, monkeypatch, shape, code):
    """Through the suite, where the model has the shape of images; wrong outputs are expected, so the fault shows."""
    monkeypatch.setenv(ENGINE_FILES, str(folder / "example.py"))
    facts = {"engine": "example:cpu", "precision": "fp32", "fast_math": "False", "graph_optimization": "all"}
    (folder / "repro.py").write_text(script(facts, "y", None, 0.1))
    saved(folder / "block.onnx", ("Relu", ("x",), ("y",), {}), shape=shape)
    ones = np.ones(shape, np.float32)
    np.savez(folder / "data.npz", **{"input/x": ones, "expected": 2 * ones, "actual": ones})
    env = {"PYTHONPATH": str(folder), ENGINE_FILES: str(folder / "example.py")}
    done = runner.forked(folder / "repro.py", env=env, cwd=folder, code=code)
    assert re.search(
        "(?m)^example at fp32 +relative error 5.000e-01$" if code == 1 else "(?m)^example was not run: ", done.out
    )


@pytest.mark.parametrize(
    ("place", "statement", "outcome"),
    [("def run", "len(3)", "failed at run"), ("def prepare", "raise MemoryError", CANNOT_JUDGE)],
)
def test_any_exception_of_an_engine_ends_its_case(runner, folder, place, statement, outcome):
    """With the stage, the line that raised it and the traceback; want of memory is an error, not a failure."""
    head, _, tail = (folder / "example_engine.py").read_text().partition(place)
    signature, _, body = tail.partition("\n")
    (folder / "example_engine.py").write_text(f"{head}{place}{signature}\n        {statement}\n{body}")
    env = {"PYTHONPATH": str(folder), ENGINE_FILES: str(folder / "example.py")}
    done = runner.pytest(
        AGREEMENT, "--engine", "example:cpu", *CASE, "-k", "onnxruntime", env=env, isolated=True, code=1
    )
    assert re.search(rf"{NAME}: {outcome}: .*example_engine.py:\d+: (Type|Memory)Error:.* -> {TRACEBACK}", done.out)
    assert "Traceback" in done.out


@pytest.mark.parametrize("fault", ["STATUS = None", ""])
def test_engine_that_cannot_be_opened_is_missing(runner, tmp_path, fault):
    """It was named, so the run fails at that engine, with the reason; here STATUS or the opener is None."""
    file = tmp_path / "failing.py"
    file.write_text(GOOD + fault)
    done = runner.compare("--engine", "example:cpu", *CASE, env={ENGINE_FILES: str(file)}, code=2)
    (line,) = [line for line in done.text.splitlines() if REPAIR in line]
    assert "example:cpu" in line
    assert "TypeError" in line

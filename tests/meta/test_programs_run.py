"""Kept programs in runs of the suite and of ort_comparison.py: who says what, and what a timed program has cost."""

import json
import re
from importlib import util

import pytest

from fixtures.engines.registry import engine_status
from fixtures.errors import EngineUnavailable
from fixtures.plugin.policy import absent
from fixtures.plugin.results import PROGRAMS, Ledger
from fixtures.plugin.terminal import programs
from fixtures.programs.programs import KEPT, LOADED, NOT_KEPT

AGREEMENT = "tests/conformance/test_agreement.py"
KEEPS = """
from fixtures.engines.onnxruntime.engine import OnnxRuntimeEngine
OnnxRuntimeEngine.should_cache = lambda *_: True
OnnxRuntimeEngine.identity = lambda self, *_: {"engine": self.name, "version": self.version}
"""
REF = ("--engine", "migraphx:ref", "--variant", "test_nfnet", "--image-size", "32", "--precision", "fp32")


@pytest.fixture
def plugin(tmp_path):
    """Makes ONNX Runtime's programs worth keeping."""
    path = tmp_path / "keeps.py"
    path.write_text(KEEPS)
    return path


@pytest.fixture
def fresh(tmp_path, runner):
    """The session's models in a cache without programs."""
    runner.small(AGREEMENT, "--precision", "fp32", "--batch", "1")
    place = tmp_path / "cache"
    place.mkdir()
    for path in runner.cache.iterdir():
        if path.name != "programs":
            (place / path.name).symlink_to(path)
    return f"--cache-dir={place}"


@pytest.fixture
def migraphx(pytestconfig):
    """Options that name the real one."""
    place = pytestconfig.option.migraphx
    status = engine_status("migraphx:ref", place)
    if not status.usable:
        absent(pytestconfig, status.name, EngineUnavailable(status.missing, where=status.name, hint=status.hint))
    return ("--migraphx", place) if place else ()


def test_the_second_run_loads_and_says_so(runner, plugin, fresh):
    """Verdicts are the same; one process or several; switched off, nothing is loaded and nothing is said.

    A session takes any batch, so that the first run loads the second batch's too.
    """
    words = (AGREEMENT, "--precision", "fp32", "--batch", "1", "--batch", "2", fresh)
    several = ("-n", "2") if util.find_spec("xdist") else ()
    runs = [runner.small(*words, *more, plugin=plugin) for more in ((), (), several, ("--no-program-cache",))]
    assert [done.code for done in runs] == [0] * 4, [done.text for done in runs]
    said = [re.findall(r"^\d of \d from the cache, \d compiled now$", done.out, re.MULTILINE) for done in runs]
    assert said == [["1 of 2 from the cache, 1 compiled now"], *[["2 of 2 from the cache, 0 compiled now"]] * 2, []]
    verdicts = [sorted(re.findall(r"^pass .* comparisons$", done.out, re.MULTILINE)) for done in runs]
    assert verdicts == [verdicts[0]] * 4
    assert len(verdicts[0]) == 2


def test_a_timed_program_has_the_costs_of_its_compilation(runner, plugin, fresh, tmp_path):
    """Marked where it was loaded; nothing that the gate compares differs."""
    found = []
    for name in ("first", "second"):
        place = tmp_path / f"{name}.json"
        words = ("--precision", "fp32", "--batch", "1", "--speed-seconds", "0.1", f"--benchmark-json={place}", fresh)
        done = runner.small("tests/performance", *words, plugin=plugin)
        assert done.code == 0, done.text
        found.append(json.loads(place.read_text())["benchmarks"][0]["extra_info"])
    first, second = (row["costs"] for row in found)
    assert (first["cached"], first["load_seconds"]) == (False, None)
    assert (second["cached"], second["load_seconds"] > 0) == (True, True)
    assert first["compile_seconds"] == second["compile_seconds"] > 0
    assert found[0]["facts"] == found[1]["facts"]


def test_what_is_not_simply_loaded_or_kept_is_told():
    """A line for each such case; a case that was compiled by one test and loaded by the next was compiled."""
    ledger = Ledger()
    for rows in ({"a": KEPT, "b": LOADED}, {"a": LOADED, "c": f"{NOT_KEPT}: full"}):
        report = pytest.TestReport(
            "x", ("x", 0, "x"), {}, "passed", None, "teardown", user_properties=[(PROGRAMS, rows)]
        )
        ledger.pytest_runtest_logreport(report)
    assert list(programs(ledger.programs)) == ["1 of 3 from the cache, 2 compiled now", f"c: {NOT_KEPT}: full"]


@pytest.mark.migraphx
def test_migraphx_loads_in_the_second_run(runner, fresh, migraphx):
    """The header says where programs are kept; another setting, or none wanted, compiles."""
    words = (*REF, *migraphx, "--batch", "1", AGREEMENT, fresh)
    runs = [
        runner.pytest(*words),
        runner.pytest(*words),
        runner.pytest(*words, env={"MIGRAPHX_TRACE_EVAL": "0"}),
        runner.pytest(*words, "--no-program-cache"),
    ]
    assert [done.code for done in runs] == [0] * 4, [done.text for done in runs]
    compiled = [re.findall(r"(\d) compiled now", done.out) for done in runs]
    assert compiled == [["1"], ["0"], ["1"], []]
    assert "programs: compiled ones are kept there (of ONNX Runtime large ones), at most 20 GB; --no-pro" in runs[0].out
    assert "programs: all are compiled now, none is kept" in runs[3].out


@pytest.mark.migraphx
def test_the_comparison_from_a_shell_loads_too(runner, fresh, migraphx):
    """The same answers; a line says how the program was had."""
    words = (*REF, *migraphx, "--inputs", "2", fresh)
    runs = [runner.compare(*words), runner.compare(*words), runner.compare(*words, "--no-program-cache")]
    assert [done.code for done in runs] == [0] * 3, [done.text for done in runs]
    how = [re.findall(r"^program +(.*)$", done.out, re.MULTILINE) for done in runs]
    assert how == [[KEPT], [LOADED], []]
    answers = [re.findall(r"^ +\d.*$", done.out, re.MULTILINE) for done in runs]
    assert answers == [answers[0]] * 3
    assert len(answers[0]) == 2

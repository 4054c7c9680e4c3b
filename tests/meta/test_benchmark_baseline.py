"""A saved run as the baseline of another one: what fails, what is saved, what is refused."""

import json
import shutil
import xml.etree.ElementTree as ET

import pytest

from fixtures.machine import machine_facts
from fixtures.plugin.benchmark_baseline import (
    FACTS,
    NOT_MEASURED,
    NOT_SAVED,
    NOTHING_TO_COMPARE,
    PASSED,
    pytest_benchmark_compare_machine_info,
)
from fixtures.plugin.latency_benchmark import IN_PARALLEL
from fixtures.report.summary import LATENCIES

WORDS = ("tests/performance/test_latency.py", "--precision", "fp32", "--speed-seconds", "0.2")
NAME = "tests/performance/test_latency.py::test_latency[onnxruntime:cpu-test_nfnet@64-fp32-b{}]"
HERE = machine_facts()
COMPARE = ("--benchmark-compare=0001", "--benchmark-compare-fail=min:5%")


def run(runner, storage, *words, batch="1,2", **options):
    """Benchmarks of a small network."""
    return runner.small(*WORDS, "--batch", batch, f"--benchmark-storage=file://{storage}", *words, **options)


@pytest.fixture(scope="module")
def saved(runner, tmp_path_factory):
    """A folder with one saved run; tests work on copies of it."""
    folder = tmp_path_factory.mktemp("saved")
    run(runner, folder, "--benchmark-save=before")
    return folder


@pytest.fixture
def storage(saved, tmp_path):
    """A copy of the folder with the saved run."""
    return shutil.copytree(saved, tmp_path / "storage")


def rewrite(storage, change):
    """Change the saved run."""
    (path,) = storage.rglob("0001_before.json")
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def scaled(factor, batches=("b1", "b2")):
    """The baseline was ``factor`` times as slow, and has only these batches."""

    def change(content):
        content["benchmarks"] = [
            row for row in content["benchmarks"] if row["name"].endswith((*(f"{b}]" for b in batches),))
        ]
        for row in content["benchmarks"]:
            for name in ("min", "max", "mean", "median"):
                row["stats"][name] *= factor

    return change


def failures(path):
    """Name -> text of the failure in a JUnit file."""
    cases = ET.parse(path).iter("testcase")  # noqa: S314  our own file
    return {case.get("name"): case.find("failure") for case in cases if case.find("failure") is not None}


def test_run_that_is_not_slower_passes_and_is_saved(runner, storage):
    """Other versions are what one compares; they are reported."""

    def change(content):
        scaled(1e4)(content)
        content["machine_info"]["nfnet"]["onnxruntime"] = "0.1"
        content["machine_info"]["cpu"]["hz_actual_friendly"] = "1 Hz"

    rewrite(storage, change)
    done = run(runner, storage, *COMPARE, "--benchmark-save=after")
    assert "onnxruntime: 0.1 there, " in done.out
    assert "(0001_before)" in done.out
    assert "Warning" not in done.text
    assert list(storage.rglob("0002_after.json"))


def test_regression_fails_each_benchmark_in_terminal_and_junit(runner, storage, tmp_path):
    """Without a traceback; the report is written and cannot become a baseline."""
    rewrite(storage, scaled(1e-4))
    junit, report = tmp_path / "junit.xml", tmp_path / "report.json"
    outputs = (f"--junit-xml={junit}", f"--benchmark-json={report}")
    done = run(runner, storage, *COMPARE, "--benchmark-save=after", *outputs, code=1)
    assert "Traceback" not in done.text
    assert "INTERNALERROR" not in done.text
    found = failures(junit)
    for batch in (1, 2):
        assert f"FAILED {NAME.format(batch)}" in done.out
        assert "0001_before.json" in found[NAME.format(batch).partition("::")[2]].text
    assert len(found) == 2
    assert LATENCIES in done.out
    assert NOT_SAVED in done.out
    assert not list(storage.rglob("*_after.json"))
    assert len(json.loads(report.read_text())["benchmarks"]) == 2
    run(runner, storage, f"--benchmark-compare={report}", *COMPARE[1:], code=4)


def test_benchmark_that_only_the_baseline_has_is_a_failure(runner, storage, tmp_path):
    """One that only the run has is named; the baseline has batches 1 and 2, the run 1 and 4."""
    rewrite(storage, scaled(1e4))
    junit = tmp_path / "junit.xml"
    done = run(runner, storage, *COMPARE, "--benchmark-save=after", f"--junit-xml={junit}", batch="1,4", code=1)
    assert f"FAILED {NAME.format(2)}" in done.out
    ((name, failure),) = failures(junit).items()
    assert name == NAME.format(2).partition("::")[2]
    assert NOT_MEASURED in (failure.text or failure.get("message"))
    assert any(NAME.format(4) in line for line in done.out.splitlines() if "baseline lacks" in line)
    assert not list(storage.rglob("*_after.json"))


@pytest.mark.parametrize("words", [("--benchmark-disable",), ("-k", "no_such_test")])
def test_run_that_measured_nothing_does_not_pass(runner, storage, words):
    done = run(runner, storage, *COMPARE, *words, code=1)
    assert done.out.count(NOT_MEASURED) >= 2


@pytest.mark.parametrize(
    ("saved", "reason"),
    [
        ({"machine_info": {FACTS: {**HERE, "cpu": "Another CPU"}}}, "Another CPU there"),
        ({"machine_info": {FACTS: {**HERE, "gpus": "gfx942 0x74a1, 304 units"}}}, "gfx942 0x74a1, 304 units there"),
        ({"machine_info": {FACTS: HERE}, PASSED: False}, "its run failed"),
        ({"machine_info": {}}, "it is no saved run of this suite"),
        ({"machine_info": "x"}, "it is no saved run of this suite"),
    ],
    ids=["other CPU", "other GPU", "failed", "no machine", "machine of another shape"],
)
def test_baseline_that_cannot_be_compared_is_a_usage_error(saved, reason):
    """A regression is compared with the same hardware only."""
    with pytest.raises(pytest.UsageError, match=f"^--benchmark-compare: .*{reason}"):
        pytest_benchmark_compare_machine_info(None, {FACTS: HERE}, saved)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--benchmark-compare=9", *COMPARE[1:]), NOTHING_TO_COMPARE),
        (COMPARE[1:], NOTHING_TO_COMPARE),
        ((*COMPARE, "-n", "2"), IN_PARALLEL),
    ],
    ids=["no such run", "no run named", "parallel"],
)
def test_limit_without_a_comparison_is_a_usage_error(runner, storage, words, message):
    """Otherwise the run would pass without being compared."""
    done = run(runner, storage, *words, code=4)
    assert message in done.text


@pytest.mark.parametrize(("words", "code"), [(("--require-engine", "migraphx:gpu"), 1), (("-k", "no_such_test"), 5)])
def test_run_that_did_not_succeed_is_not_saved(runner, storage, words, code):
    done = run(runner, storage, *words, "--benchmark-save=after", batch="1", code=code)
    assert "Traceback" not in done.text
    assert not list(storage.rglob("*_after.json"))


def test_interrupted_run_shows_what_it_measured_and_is_not_saved(runner, storage):
    """What was not measured is no failure then."""
    plugin = "def pytest_runtest_setup(item):\n    if 'b2]' in item.nodeid: raise KeyboardInterrupt\n"
    rewrite(storage, scaled(1e4))
    done = run(runner, storage, *COMPARE, "--benchmark-save=after", plugin=plugin, code=2)
    assert LATENCIES in done.out
    assert "Traceback" not in done.text
    assert NOT_MEASURED not in done.text
    assert not list(storage.rglob("*_after.json"))

"""The gate in real runs: what fails, what is saved, what is refused."""

import argparse
import json
import re
import shutil
import xml.etree.ElementTree as ET
from importlib import util

import pytest

from fixtures.arguments import positive
from tests.meta.conftest import SMALL

WORDS = ("tests/performance/test_latency.py", "--precision", "fp32", "--speed-seconds", "0.3", "--speed-quiet", "900")
LATENCY = "tests/performance/test_latency.py::test_latency[onnxruntime:cpu-test_nfnet@64-fp32-b{}]"
SURELY = ("--speed-seconds", "2")  # enough for a verdict on a machine that does much else
COMPLETE = "every_benchmark_of_the_baseline_was_measured"


def run(runner, storage, *words, batch="1"):
    """Benchmarks of a small network."""
    return runner.small(*WORDS, "--batch", batch, f"--benchmark-storage=file://{storage}", *words)


@pytest.fixture(scope="module")
def before(runner, tmp_path_factory):
    """The path of a saved run, made once; tests work on copies of its folder."""
    folder = tmp_path_factory.mktemp("saved")
    done = run(runner, folder, *SURELY, "--benchmark-save=before", batch="1,2")
    assert done.code == 0, done.text
    (path,) = folder.rglob("0001_before.json")
    return path


@pytest.fixture
def storage(before, tmp_path):
    """A copy of the storage."""
    return shutil.copytree(before.parents[2], tmp_path / "storage")


def rewrite(storage, change):
    """Change the saved run."""
    (path,) = storage.rglob("0001_before.json")
    saved = json.loads(path.read_text())
    change(saved)
    path.write_text(json.dumps(saved))
    return path


def scaled(factor, keep=lambda _: True):
    """The past was ``factor`` times as slow; some benchmarks may be forgotten."""

    def change(saved):
        saved["benchmarks"] = [row for row in saved["benchmarks"] if keep(row["fullname"])]
        for row in saved["benchmarks"]:
            speed = row["extra_info"]["speed"]
            speed["block_ns"] = [value * factor for value in speed["block_ns"]]

    return change


def results(path):
    """Name -> text of the failure, None where it passed or was skipped."""
    found = {}
    for case in ET.parse(path).iter("testcase"):  # noqa: S314  our own file
        failure = case.find("failure")
        found[case.get("name")] = None if failure is None else failure.text
    return found


def test_a_saved_run_knows_its_machine_and_its_blocks(before):
    """Kept in a folder of its device."""
    saved = json.loads(before.read_text())
    machine = saved["machine_info"]["nfnet"]
    assert {"cpu", "cores", "gpus", "governor", "gpu_clocks", "gpu_driver", "onnxruntime"} <= set(machine)
    assert before.parents[1].name.endswith(machine["gpus"])
    for row in saved["benchmarks"]:
        speed = row["extra_info"]["speed"]
        assert len(speed["block_ns"]) >= 4  # eight where the machine is not starved
        assert speed["percentiles"]["p50"] <= speed["percentiles"]["p90"] <= speed["percentiles"]["p99"]
        assert speed["percentiles"]["p50"] == pytest.approx(row["stats"]["median"])
        assert speed["percentiles"]["count"] == row["stats"]["rounds"]


def test_a_run_that_is_not_slower_passes_and_is_saved(runner, storage):
    """Held against a past that was a hundred times slower, on another kernel, which is said."""

    def change(saved):
        scaled(10_000)(saved)
        saved["machine_info"]["nfnet"]["kernel"] = "0.1"

    rewrite(storage, change)
    done = run(runner, storage, *SURELY, "--speed-gate=before", "--benchmark-save=after", batch="1,2")
    assert done.code == 0, done.text
    assert "differs: kernel: 0.1 there, " in done.out
    assert "is not saved" not in done.out
    assert "not slower: -9" in done.out
    assert list(storage.rglob("0002_after.json"))


def test_a_slower_run_fails_its_tests_and_is_not_saved(runner, storage, tmp_path):
    """The verdict is a failed test in JUnit, with what else differs; --benchmark-json is written all the same."""

    def change(saved):
        scaled(0.0001)(saved)
        saved["machine_info"]["nfnet"]["onnxruntime"] = "0.1"
        for row in saved["benchmarks"]:
            row["extra_info"]["facts"]["intra_op_threads"] = "99"

    rewrite(storage, change)
    junit, report = tmp_path / "junit.xml", tmp_path / "report.json"
    done = run(
        runner,
        storage,
        *SURELY,
        "--speed-gate=before",
        "--benchmark-save=after",
        f"--junit-xml={junit}",
        f"--benchmark-json={report}",
        batch="1,2",
    )
    assert done.code == 1, done.text
    found = results(junit)
    for batch in (1, 2):
        text = found[LATENCY.format(batch).partition("::")[2]]
        assert "slower: +" in text
        assert "slower from 2.5 %" in text
        assert "0001_before.json" in text
        assert "differs: onnxruntime: 0.1 there, " in text
        assert "differs: engine's intra_op_threads: 99 there, " in text
    assert found[COMPLETE] is None
    assert "this run is not saved: it did not pass" in done.out
    assert not list(storage.rglob("*_after.json"))
    assert len(json.loads(report.read_text())["benchmarks"]) == 2
    again = run(runner, storage, f"--speed-gate={report}", batch="1,2")
    assert again.code == 4
    refused = "report.json: this run was judged against a baseline and did not pass -> save one on this machine"
    assert refused in again.err


@pytest.mark.parametrize("gate", [(), ("--speed-gate=before",)], ids=["alone", "gate"])
def test_a_run_that_pytest_benchmark_fails_is_no_baseline_either(runner, storage, gate):
    """The gate's past is slow, the compared one fast."""

    def change(saved):
        scaled(10_000)(saved)
        for row in saved["benchmarks"]:
            row["stats"].update(dict.fromkeys(("min", "mean", "median"), 1e-9))

    rewrite(storage, change)
    words = ("--benchmark-compare=0001", "--benchmark-compare-fail=min:5%", "--benchmark-save=after")
    done = run(runner, storage, *SURELY, *gate, *words, batch="1,2")
    assert done.code == 1, done.text
    assert done.text.count("Performance has regressed:") == 1
    assert "this run is not saved: it did not pass" in done.out
    assert not list(storage.rglob("*_after.json"))


def test_too_few_samples_are_inconclusive_and_say_what_would_settle_it(runner, storage, tmp_path):
    """A baseline of three blocks supports no verdict."""

    def change(saved):
        for row in saved["benchmarks"]:
            for name in ("block_ns", "foreign", "yard_ns"):
                row["extra_info"]["speed"][name] = row["extra_info"]["speed"][name][:1]

    rewrite(storage, change)
    junit = tmp_path / "junit.xml"
    done = run(runner, storage, "--speed-gate=before", "--benchmark-save=after", f"--junit-xml={junit}", batch="1,2")
    assert done.code == 1, done.text
    text = results(junit)[LATENCY.format(1).partition("::")[2]]
    assert "inconclusive: " in text
    assert "to settle it: " in text
    assert not list(storage.rglob("*_after.json"))


def test_a_disturbed_baseline_is_not_believed(runner, storage):
    """However large the difference: others used the machine when it was made."""

    def change(saved):
        scaled(0.0001)(saved)
        for row in saved["benchmarks"]:
            row["extra_info"]["speed"]["foreign"] = [9.5 for _ in row["extra_info"]["speed"]["foreign"]]

    rewrite(storage, change)
    done = run(runner, storage, "--speed-gate=before", batch="1")
    assert done.code == 1, done.text
    assert "at the baseline's time others used 950% of the processors, at most 900% is borne" in done.out
    wanted = "to settle it: (make the machine quieter and )?save the baseline again"  # it may wander too
    assert re.search(wanted, done.out)


def test_a_benchmark_that_is_missing_is_an_error_on_either_side(runner, storage, tmp_path):
    """The baseline lacks batch 4, the run lacks batch 2."""
    rewrite(storage, scaled(10_000))
    junit = tmp_path / "junit.xml"
    done = run(runner, storage, "--speed-gate=before", f"--junit-xml={junit}", batch="1,4")
    assert done.code == 1, done.text
    found = results(junit)
    assert f"the baseline has no benchmark {LATENCY.format(4)}" in found[LATENCY.format(4).partition("::")[2]]
    assert f"that this run did not measure: {LATENCY.format(2)}" in found[COMPLETE]


def test_other_hardware_is_refused_before_anything_runs(runner, storage):
    """A usage error that names the difference."""
    path = rewrite(storage, lambda saved: saved["machine_info"]["nfnet"].update(cpu="Another CPU"))
    done = run(runner, storage, f"--speed-gate={path}")
    assert done.code == 4
    assert "the baseline was made on other hardware: cpu: Another CPU there" in done.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--speed-gate=never",), "no saved run never: it has 0001_before"),
        (("--speed-gate=before", "--benchmark-disable"), "cannot judge where benchmarks are disabled"),
        pytest.param(
            ("--speed-gate=before", "-n", "2"),
            "cannot judge where benchmarks are disabled",
            marks=pytest.mark.skipif(util.find_spec("xdist") is None, reason="pip install pytest-xdist"),
        ),
    ],
)
def test_what_cannot_be_judged_is_a_usage_error(runner, storage, words, text):
    """One line, exit code 4."""
    done = run(runner, storage, *words)
    assert done.code == 4
    assert text in done.err


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf"])
def test_seconds_are_above_zero(text):
    """Else a usage error."""
    assert positive("0.5") == 0.5
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not a number above zero"):
        positive(text)


def test_disabled_benchmarks_run_once(runner, storage):
    """As under xdist: the call is made, nothing is recorded."""
    done = run(runner, storage, "--benchmark-disable", "--benchmark-save=after")
    assert done.code == 0, done.text
    assert not list(storage.rglob("*_after.json"))


def test_pytest_benchmarks_compare_keeps_working(runner, storage):
    """pytest-benchmark's own options see the replayed samples."""
    done = run(runner, storage, "--benchmark-compare=0001", "--benchmark-compare-fail=min:10000%", batch="1,2")
    assert done.code == 0, done.text
    assert "0001_before" in done.out


@pytest.mark.parametrize("words", [("--benchmark-compare=0001",), ("--benchmark-compare",), ("--benchmark-compare=9",)])
def test_a_compared_run_may_be_of_another_machine_or_missing(runner, storage, words):
    """Another version is what one compares with; it is told, and the run is whole."""

    def change(saved):
        saved["machine_info"]["nfnet"]["onnxruntime"] = "0.1"
        saved["machine_info"]["cpu"]["hz_actual_friendly"] = "1 Hz"

    rewrite(storage, change)
    done = run(runner, storage, *words)
    assert done.code == 0, done.text
    if "9" in words[0]:
        assert "PytestBenchmarkWarning: Can't compare. No benchmark files in " in done.text
    else:
        assert "\ncompared run differs: onnxruntime: 0.1 there, " in done.out
        assert "0001_before" in done.out.partition("Name (time in")[2]


NOT_RUNS = {
    "AttributeError: 'list' object has no attribute 'items'": lambda saved: saved["machine_info"].update(nfnet=[1]),
    "AttributeError: 'str' object": lambda saved: saved.update(machine_info="x"),
    "KeyError: 'fullname'": lambda saved: [row.pop("fullname") for row in saved["benchmarks"]],
}


@pytest.mark.parametrize("why", NOT_RUNS)
def test_a_compared_file_that_is_no_saved_run_is_a_wrong_option(runner, storage, why):
    """Before anything is measured."""
    rewrite(storage, NOT_RUNS[why])
    done = run(runner, storage, "--benchmark-compare=0001")
    assert done.code == 4, done.text
    assert f"ERROR: --benchmark-compare: not a saved run: {why}" in done.text
    assert "-> name another, or remove it" in done.text


@pytest.mark.parametrize("words", [("--benchmark-skip",), ("-k", "no_such_test"), ("--collect-only",)])
def test_where_nothing_was_measured_nothing_is_saved(runner, storage, words):
    """And that is no traceback."""
    done = run(runner, storage, *words, "--benchmark-save=after")
    assert "Traceback" not in done.text
    assert not list(storage.rglob("*_after.json"))


def test_an_interrupted_run_tells_what_it_has(runner, storage, tmp_path):
    """Exit code 2, the table of what was measured, no traceback; what is not judged to its end is not saved."""
    plugin = tmp_path / "interrupting.py"
    plugin.write_text(
        "from fixtures.benchmark import sampling\n"
        "sample, seen = sampling.sample, []\n"
        "def interrupted(call, plan):\n"
        "    seen.append(call)\n"
        "    if len(seen) == 2: raise KeyboardInterrupt\n"
        "    return sample(call, plan)\n"
        "sampling.sample = interrupted\n"
    )
    words = (*SURELY, "--batch", "1,2", "--speed-gate=before", "--benchmark-save=after")
    rewrite(storage, scaled(10_000))
    done = runner.small(*WORDS, f"--benchmark-storage=file://{storage}", *words, plugin=plugin)
    assert done.code == 2, done.text
    assert "latency and throughput, host to host" in done.out
    assert "test_nfnet@64-fp32-b1]: not slower" in done.out
    assert "Traceback" not in done.text
    assert not list(storage.rglob("*_after.json"))


def test_a_benchmark_that_fails_is_one_failure(runner, tmp_path):
    """pytest-benchmark's complaint that it was not used is no second one."""
    plugin = tmp_path / "broken_run.py"
    plugin.write_text(
        "from fixtures.engines.onnxruntime.engine import OnnxRuntimeProgram\n"
        "from fixtures.errors import RunError\n"
        "def run(self, feeds): raise RunError('no more memory')\n"
        "OnnxRuntimeProgram.run = run\n"
    )
    done = runner.small(*WORDS, "--batch", "1", plugin=plugin)
    assert done.code == 1
    assert "1 failed" in done.out
    assert "error" not in done.out.splitlines()[-1]


def test_every_sample_is_saved(before):
    """Not only what they were condensed to."""
    (row, _) = json.loads(before.read_text())["benchmarks"]
    assert len(row["stats"]["data"]) == row["stats"]["rounds"]


def test_a_histogram_is_drawn(runner, storage, tmp_path):
    """With what the requirements install."""
    done = run(runner, storage, f"--benchmark-histogram={tmp_path / 'drawn'}")
    assert done.code == 0, done.text
    assert list(tmp_path.glob("drawn*.svg"))


@pytest.mark.parametrize(
    "words", [("--benchmark-storage=file:///proc/nowhere", "--benchmark-save=x"), ("--benchmark-json=/proc/x/y.json",)]
)
def test_what_cannot_be_saved_is_not_measured(runner, words):
    """Said at once."""
    done = runner.small(*WORDS, "--batch", "1", *words)
    assert done.code == 4
    assert f"{words[0].partition('=')[0]}: /proc/" in done.err
    assert "cannot be written: " in done.err


def test_without_the_recorder_nothing_runs(runner):
    """One line."""
    done = runner.small(*WORDS, "-p", "no:benchmark")
    assert done.code == 4
    assert "the suite records with pytest-benchmark -> leave out -p no:benchmark" in done.err


def test_last_failed_is_a_part_only(runner, storage, tmp_path):
    """What was not measured is missing, whatever was chosen; and the question is asked last."""
    rewrite(storage, scaled(10_000, lambda name: "b1" not in name))  # of batch 1 there is no baseline
    words = (
        "-m",
        "pytest",
        *SMALL,
        *WORDS,
        *SURELY,
        "--batch",
        "1,2",
        f"--benchmark-storage=file://{storage}",
        "--speed-gate=before",
        "-o",
        f"cache_dir={tmp_path / 'last'}",
        "--benchmark-save=after",
    )
    first = runner.python(*words)
    assert first.code == 1, first.text
    rewrite(storage, scaled(1, lambda _: True))
    again = runner.python(*words, "--lf")
    assert again.code == 1, again.text
    assert f"that this run did not measure: {LATENCY.format(2)}" in again.out
    assert not list(storage.rglob("*_after.json"))


def test_a_run_that_compared_nothing_is_not_saved(runner, storage):
    """The gate has nothing against it, but exit code 6 is no success."""
    rewrite(storage, scaled(10_000, lambda name: "b1" in name))
    words = ("tests/conformance/test_batching.py", "--speed-gate=before", "--benchmark-save=after")
    done = run(runner, storage, *SURELY, *words)
    assert done.code == 6, done.text
    assert "this run is not saved: it did not pass" in done.out
    assert not list(storage.rglob("*_after.json"))


def test_other_settings_of_an_engine_are_told_of_a_run_that_passes(runner, storage):
    """Whoever reads the verdict must know that it is of two different things; another model may have the same name."""

    def change(saved):
        scaled(10_000)(saved)
        for row in saved["benchmarks"]:
            row["extra_info"]["facts"]["intra_op_threads"] = "99"
            row["extra_info"]["model_sha256"] = "abc"

    rewrite(storage, change)
    done = run(runner, storage, *SURELY, "--speed-gate=before", batch="1,2")
    assert done.code == 0, done.text
    assert done.out.count("differs: engine's intra_op_threads: 99 there, ") == 1
    assert len(re.findall(r"differs: model: abc there, [0-9a-f]{64} here", done.out)) == 1


def test_the_history_of_the_saved_runs_is_shown(runner, storage):
    """One run is too few."""
    done = run(runner, storage, "--speed-history", "--collect-only")
    assert "a change needs 4 saved runs of a benchmark to be seen, there are 1" in done.out

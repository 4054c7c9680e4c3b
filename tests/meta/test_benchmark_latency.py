"""Latency benchmarks in real runs: what is recorded, and when nothing is measured."""

import json

import pytest

from fixtures.plugin.latency_benchmark import IN_PARALLEL

WORDS = ("tests/performance/test_latency.py", "--precision", "fp32", "--speed-seconds", "0.3")


@pytest.fixture(scope="module")
def report(runner, tmp_path_factory):
    """The report of a run of two batches."""
    folder = tmp_path_factory.mktemp("latency")
    path = folder / "report.json"
    storage = f"--benchmark-storage={folder / 'storage'}"
    runner.small(*WORDS, "--batch", "1,2", storage, f"--benchmark-json={path}")
    assert not (folder / "storage").exists()  # nothing was saved there
    return json.loads(path.read_text())


def test_each_case_is_recorded_with_what_was_measured(report):
    rows = report["benchmarks"]
    assert [row["extra_info"]["batch"] for row in rows] == [1, 2]
    for row in rows:
        info = row["extra_info"]
        assert (info["engine"], info["model"], info["precision"]) == ("onnxruntime:cpu", "test_nfnet@64", "fp32")
        assert info["version"]
        assert info["variant"] == "test_nfnet"
        assert len(info["model_sha256"]) == 64
        assert {"provider", "graph_optimization", "intra_op_threads"} <= set(info["facts"])
        assert info["costs"]["compile_seconds"] > 0
        assert row["group"] == "test_nfnet@64"


def test_statistics_are_those_of_the_saved_samples(report):
    """Throughput is images over the time that they took, not the batch over the median."""
    for row in report["benchmarks"]:
        latency, data = row["extra_info"]["latency"], row["stats"]["data"]
        assert row["stats"]["rounds"] == len(data) >= 3
        assert latency["p50"] <= latency["p90"] <= latency["p99"]
        assert latency["p50"] == pytest.approx(row["stats"]["median"])
        assert latency["images_per_second"] == pytest.approx(row["extra_info"]["batch"] * len(data) / sum(data))
        assert latency["first_run_seconds"] > 0


def test_disabled_benchmarks_run_once_and_are_not_recorded(runner, tmp_path):
    runner.small(*WORDS, "--batch", "1", "--benchmark-disable", f"--benchmark-json={tmp_path / 'report.json'}")
    assert not (tmp_path / "report.json").exists()


def test_nothing_is_measured_in_parallel_and_it_is_skipped(runner):
    done = runner.small(*WORDS, "--batch", "1,2", "-n", "2")
    assert "2 skipped" in done.out, done.text
    assert IN_PARALLEL in done.out


def test_benchmark_that_cannot_run_is_one_failure(runner):
    """pytest-benchmark's warning that it was not used is no second one."""
    plugin = (
        "from fixtures.engines.onnxruntime.engine import OnnxRuntimeProgram\n"
        "from fixtures.errors import RunError\n"
        "def run(self, feeds): raise RunError('no more memory')\n"
        "OnnxRuntimeProgram.run = run\n"
    )
    done = runner.small(*WORDS, "--batch", "1", plugin=plugin, code=1)
    assert "1 failed" in done.out
    assert "error" not in done.out.splitlines()[-1]


def test_suite_needs_pytest_benchmark(runner):
    done = runner.small(*WORDS, "-p", "no:benchmark", code=4)
    assert "-p no:benchmark" in done.err

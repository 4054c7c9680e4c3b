"""Latencies are kept by pytest-benchmark, with enough beside them to know what was timed."""

import json

import pytest

WORDS = ("tests/performance", "--precision", "fp32", "--batch", "1,2")
ANYTHING_GOES = "min:100000%"


@pytest.fixture(scope="module")
def storage(runner, tmp_path_factory):
    """A folder with one saved run."""
    folder = tmp_path_factory.mktemp("benchmarks")
    done = runner.small(*WORDS, f"--benchmark-storage=file://{folder}", "--benchmark-save=before")
    assert done.code == 0, done.text
    return folder


def saved(folder):
    """The file of the run."""
    (path,) = folder.rglob("*_before.json")
    return path


def test_each_case_is_kept_with_what_was_timed(storage):
    """Engine, version, model, precision, batch and the settings that really ran."""
    rows = json.loads(saved(storage).read_text())["benchmarks"]
    assert [row["extra_info"]["batch"] for row in rows] == [1, 2]
    for row in rows:
        facts = row["extra_info"]
        assert (facts["engine"], facts["model"], facts["precision"]) == ("onnxruntime:cpu", "test_nfnet@64", "fp32")
        assert facts["version"]
        assert facts["variant"] == "test_nfnet"
        assert facts["costs"]["program_bytes"] is None  # only programs that can be cached have a size
        assert facts["first_run_seconds"] > 0
        assert {"provider", "graph_optimization", "intra_op_threads"} <= set(facts["facts"])
        assert 0 < facts["error_units"] < 100
        assert row["group"] == "test_nfnet@64"
        assert row["stats"]["rounds"] >= 3


def test_each_case_is_kept_with_its_distance_from_the_floor(storage):
    """Work, the floor in seconds, and the share of it; the peaks are the machine's."""
    saved_run = json.loads(saved(storage).read_text())
    peak = saved_run["machine_info"]["nfnet_peaks"]["onnxruntime:cpu"]
    assert peak["operations"]["fp32"] > 0
    one, two = (row["extra_info"]["roofline"] for row in saved_run["benchmarks"])
    assert one["multiply_adds"] == saved_run["benchmarks"][0]["extra_info"]["multiply_adds"]
    assert two["multiply_adds"] == 2 * one["multiply_adds"]
    assert one["bytes"] < two["bytes"] < 2 * one["bytes"]  # weights are moved once a run
    for row in saved_run["benchmarks"]:
        found, median = row["extra_info"]["roofline"], row["extra_info"]["speed"]["percentiles"]["p50"]
        assert found["percent"] == pytest.approx(100 * found["seconds"] / median)
        assert found["device"] == peak["device"]


def test_each_case_is_kept_with_its_memory(storage):
    """Of this process, where the kernel tells; there is no GPU to have any."""
    for row in json.loads(saved(storage).read_text())["benchmarks"]:
        memory = row["extra_info"]["memory"]
        assert memory["host_peak"] is None or memory["host_peak"] >= memory["host_before"] > 1 << 20
        assert len(memory["devices"]) == len(memory["devices_before"])


def test_what_has_no_floor_says_why(runner, tmp_path):
    """A model of the user's, whose multiply-adds nobody counted; the table has a dash."""
    model = next((runner.cache / "models").rglob("test_nfnet@64-fp32.onnx"))
    report = tmp_path / "report.json"
    done = runner.pytest(
        "tests/performance/test_latency.py",
        "--engine",
        "onnxruntime:cpu",
        f"--model={model}",
        "--image-size",
        "64",
        "--precision",
        "fp32",
        "--batch",
        "1",
        "--speed-seconds",
        "0.2",
        f"--benchmark-json={report}",
    )
    assert done.code == 0, done.text
    (row,) = json.loads(report.read_text())["benchmarks"]
    assert "the model's multiply-adds were not counted" in row["extra_info"]["roofline"]["unknown"]


def compare(runner, storage, limit):
    """A second run, held against the saved one."""
    return runner.small(
        *WORDS, f"--benchmark-storage=file://{storage}", "--benchmark-compare", f"--benchmark-compare-fail={limit}"
    )


def test_a_run_that_is_as_fast_passes(runner, storage):
    """The limit is far above any machine's noise."""
    assert compare(runner, storage, ANYTHING_GOES).code == 0


def test_a_run_that_is_slower_fails(runner, storage, tmp_path):
    """Held against a past that was a million times faster."""
    past = json.loads(saved(storage).read_text())
    for row in past["benchmarks"]:
        for name in ("min", "max", "mean", "median"):
            row["stats"][name] /= 1e6
    copy = tmp_path / saved(storage).relative_to(storage)
    copy.parent.mkdir(parents=True)
    copy.write_text(json.dumps(past))
    done = compare(runner, tmp_path, "min:10%")
    assert done.code != 0
    assert "Performance has regressed" in done.text

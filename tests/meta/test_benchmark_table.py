"""The table at the end of a run of benchmarks, and the chart of a report."""

import re
import xml.etree.ElementTree as ET

import pytest

from fixtures.report.figures import by_series, plot
from fixtures.report.records import Latency
from fixtures.report.summary import BEST, LATENCIES, latencies

POINTS = [
    Latency("ort fp32", 8, 0.010, 0.011, 0.012, 0.05, 790.0, 1.5),
    Latency("ort fp32", 1, 0.002, 0.003, 0.004, 0.1, 450.0, None, ("drift of +9.0%",)),
    Latency("migraphx fp16", 1, 0.001, 0.001, 0.001, 0.0, 990.0),
]
WORDS = ("tests/performance/test_latency.py", "--precision", "fp32", "--speed-seconds", "0.2")
ROW = re.compile(r"^  onnxruntime:cpu-test_nfnet@64-fp32 +(\d+)(?: +[\d.]+){3,4} +[\d.]+% +[\d.]+(.*)$", re.MULTILINE)


def test_table_marks_the_best_batch_and_shows_warnings():
    """A series of one batch has no best one; the slowest comes first."""
    assert [row[:3] + row[5:] for row in latencies(POINTS).rows] == [
        ("ort fp32", "8", "10.000", "1500.000", "5.0%", "790.0", BEST),
        ("ort fp32", "1", "2.000", "", "10.0%", "450.0", "drift of +9.0%"),
        ("migraphx fp16", "1", "1.000", "", "0.0%", "990.0", ""),
    ]


def test_plot_has_room_for_many_series(tmp_path):
    """Whatever characters the name of a file has."""
    pytest.importorskip("matplotlib")
    many = [
        Latency(rf"onnxruntime:cpu-a${index}\foo$b-fp32", batch, 0.1, 0.1, 0.1, 0.0, 10.0)
        for index in range(60)
        for batch in (1, 8)
    ]
    figure = plot(many)
    figure.savefig(tmp_path / "sweep.svg")
    height = ET.parse(tmp_path / "sweep.svg").getroot().get("height")  # noqa: S314  our own file
    assert 600 < float(height.removesuffix("pt")) < 1000
    assert list(by_series(POINTS)) == ["migraphx fp16", "ort fp32"]


def test_run_of_two_batches_ends_with_one_table(runner):
    """pytest-benchmark's own table is not shown."""
    done = runner.small(*WORDS, "--batch", "1,2")
    assert LATENCIES in done.out
    assert "Rounds" not in done.out  # a column of pytest-benchmark's table
    rows = ROW.findall(done.out)
    assert sorted(batch for batch, _ in rows) == ["1", "2"]
    assert sum(BEST in notes for _, notes in rows) == 1


def test_pytest_benchmarks_own_table_and_histogram_are_shown_on_request(runner, tmp_path):
    """Labels of the histogram are short enough to be told apart."""
    prefix = tmp_path / "drawn"
    done = runner.small(*WORDS, "--batch", "1,2", "--benchmark-columns=min,rounds", f"--benchmark-histogram={prefix}")
    assert "Rounds" in done.out
    assert LATENCIES in done.out
    (drawn,) = tmp_path.glob("drawn*.svg")
    assert {"b1 fp32 onnxruntime:cpu", "b2 fp32 onnxruntime:cpu"} <= set(ET.parse(drawn).getroot().itertext())  # noqa: S314


def test_benchmarks_of_a_user_keep_their_table(runner, tmp_path):
    path = tmp_path / "test_own.py"
    path.write_text("def test_own(benchmark):\n    benchmark(int)\n")
    done = runner.pytest(path, "--rootdir", tmp_path, "-c", "pytest.ini", "--benchmark-max-time=0.01", isolated=True)
    assert "test_own" in done.out
    assert "Rounds" in done.out


def test_device_latency_of_an_engine_that_copies_is_skipped(runner):
    """Although buffers should stay on the device."""
    words = ("tests/performance", "--precision", "fp32", "--batch", "1", "--no-offload-copy", "-k", "device")
    done = runner.small(*words)
    assert "1 skipped" in done.out, done.text

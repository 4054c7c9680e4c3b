"""The end of a sweep: one table, one plot."""

import re
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import pytest

from fixtures.benchmark.sweep import ABOVE_PEAK, Point, lines, plot, table
from fixtures.plugin.sweep import NO_PLOT, points

POINTS = [
    Point("ort fp32", 8, 0.010, 0.011, 0.012, 0.05, (), 1.5, 41.26),
    Point("ort fp32", 1, 0.002, 0.003, 0.004, 0.1, ("two modes, 9.0% apart",)),
    Point("migraphx fp16", 1, 0.001, 0.001, 0.001, 0.0),
]


def test_the_table_marks_the_best_batch_and_what_is_unstable():
    """A block a line, a row a batch; a line of one batch has no best; what is not known is a dash."""
    head, *rows = table(POINTS)
    assert head.split() == [
        "batch",
        "p50",
        "ms",
        "p90",
        "ms",
        "p99",
        "ms",
        "spread",
        "images/s",
        "first",
        "s",
        "of",
        "peak",
    ]
    assert [row.split() for row in rows] == [
        ["migraphx", "fp16"],
        ["1", "1.000", "1.000", "1.000", "0.0%", "1000.0", "-", "-"],
        ["ort", "fp32"],
        ["1", "2.000", "3.000", "4.000", "10.0%", "500.0", "-", "-"],
        ["two", "modes,", "9.0%", "apart"],
        ["8", "10.000", "11.000", "12.000", "5.0%", "800.0", "1.500", "41.3%", "best"],
    ]


def test_the_table_fits_a_narrow_terminal():
    """80 columns, with the longest name of a line and a run of minutes."""
    name = "onnxruntime:migraphx-eca_nfnet_l3@1024x1024+opset20+pretrained-bf16-fast_math"
    why = ("drift of +133.0% between its first and last third",)
    slow = [Point(name, batch, 100.0, 200.0, 300.0, 2.5, why, 999.0, 103.4) for batch in (512, 1024)]
    assert max(map(len, table(slow))) <= 80


def test_what_is_faster_than_the_peak_says_how_that_can_be():
    """Or a reader thinks that the table is wrong; what is just as fast is not remarked upon."""
    fast = [
        Point("ort fp32", batch, 0.001, 0.001, 0.001, 0.0, (), None, peak) for batch, peak in ((1, 103.0), (2, 100.4))
    ]
    (remark,) = (line.strip() for line in table(fast) if "peak" in line and "p50" not in line)
    assert remark == ABOVE_PEAK


def test_the_plot_is_a_picture(tmp_path):
    """SVG, with a line for each engine."""
    pytest.importorskip("matplotlib")
    path = tmp_path / "new" / "sweep.svg"
    plot(POINTS, path)
    assert ET.parse(path).getroot().tag.endswith("svg")  # noqa: S314  our own file
    assert list(lines(POINTS)) == ["migraphx fp16", "ort fp32"]


def test_a_plot_of_many_lines_has_room_for_their_names(tmp_path):
    """Of all variants at two precisions; whatever signs a file's name has."""
    pytest.importorskip("matplotlib")
    many = [
        Point(rf"onnxruntime:cpu-a${at}\foo$b-fp32", batch, 0.1, 0.1, 0.1, 0.0) for at in range(60) for batch in (1, 8)
    ]
    plot(many, tmp_path / "sweep.svg")
    height = ET.parse(tmp_path / "sweep.svg").getroot().get("height")  # noqa: S314  our own file
    assert 600 < float(height.removesuffix("pt")) < 1000


def test_only_latencies_without_errors_are_points():
    """Of the same recorder come benchmarks of other things."""
    percentiles = {"p50": 0.1, "p90": 0.2, "p99": 0.3, "spread": 0.0}
    info = {"batch": 4, "speed": {"percentiles": percentiles, "unstable": []}}

    def row(name, **changes):
        return SimpleNamespace(**{"name": name, "extra_info": info, "has_error": False, **changes})

    more = {**info, "first_run_seconds": 0.5, "roofline": {"percent": 7.0}}
    rows = [
        row("test_latency[e-m-fp32-b4]"),
        row("test_latency[e-m-fp16-b4]", has_error=True),
        row("test_latency[e-m-bf16-b4]", extra_info={}),
        row("test_others[e-m-fp32-b4]"),
        row("test_latency"),
        row("test_device_latency[e-m-b1-fp16-b4-fast_math]", extra_info=more),
    ]
    assert list(points(SimpleNamespace(benchmarks=rows))) == [
        Point("e-m-fp32", 4, 0.1, 0.2, 0.3, 0.0),
        Point("e-m-b1-fp16-fast_math (device)", 4, 0.1, 0.2, 0.3, 0.0, (), 0.5, 7.0),
    ]


def test_a_sweep_ends_with_a_table_and_a_plot(runner):
    """Two batches; the plot lies in the cache folder."""
    words = ("tests/performance/test_latency.py", "--precision", "fp32", "--batch", "1,2", "--speed-seconds", "0.2")
    done = runner.small(*words)
    assert done.code == 0, done.text
    assert "latency and throughput, host to host" in done.out
    assert "Rounds" not in done.out  # of pytest-benchmark's table: a sweep ends with one
    assert re.search(r"^peak of onnxruntime:cpu: \d+ threads, .* GFLOP/s, .* GB/s$", done.out, re.MULTILINE)
    rows = re.findall(r"^ +([12])(?: +[\d.]+){3} +[\d.]+%(?: +[\d.]+){2} +[\d.]+%(  best)?$", done.out, re.MULTILINE)
    assert sorted(rows) in ([("1", ""), ("2", "  best")], [("1", "  best"), ("2", "")])
    assert list((runner.cache / "sweeps").glob("*.svg"))


def test_whoever_asks_for_pytest_benchmarks_table_has_it(runner):
    """Beside ours."""
    words = ("tests/performance/test_latency.py", "--precision", "fp32", "--batch", "1", "--speed-seconds", "0.2")
    done = runner.small(*words, "--benchmark-columns=min,rounds")
    assert done.code == 0, done.text
    assert "Rounds" in done.out
    assert "latency and throughput, host to host" in done.out


def test_other_benchmarks_keep_their_table(runner, tmp_path):
    """A user's own, which has no case."""
    path = tmp_path / "test_own.py"
    path.write_text("def test_own(benchmark):\n    benchmark(int)\n")
    done = runner.pytest(path, "--rootdir", tmp_path, "-c", "pytest.ini", "--benchmark-max-time=0.01")
    assert done.code == 0, done.text
    assert "test_own" in done.out
    assert "Rounds" in done.out


def test_without_matplotlib_there_is_no_plot(runner, tmp_path):
    """And the run says why."""
    plugin = tmp_path / "nodrawing.py"
    plugin.write_text("import sys\nsys.modules['matplotlib'] = None\n")
    words = ("tests/performance/test_latency.py", "--precision", "fp32", "--batch", "1,2", "--speed-seconds", "0.2")
    done = runner.small(*words, plugin=plugin)
    assert done.code == 0, done.text
    assert NO_PLOT in done.out


def test_a_plot_that_cannot_be_written_is_said(runner, tmp_path):
    """The run stands."""
    (tmp_path / "sweeps").touch()
    words = ("tests/performance/test_latency.py", "--precision", "fp32", "--batch", "1,2", "--speed-seconds", "0.2")
    done = runner.small(*words, f"--cache-dir={tmp_path}")
    assert done.code == 0, done.text
    assert "no plot: [Errno " in done.out


def test_a_plot_that_fails_decides_nothing(runner, tmp_path):
    """All was measured, and is told."""
    plugin = tmp_path / "spoiling.py"
    plugin.write_text("""
import matplotlib.figure
def savefig(*words, **more): raise RuntimeError("first line\\nsecond line")
matplotlib.figure.Figure.savefig = savefig
""")
    words = ("tests/performance/test_latency.py", "--precision", "fp32", "--batch", "1,2", "--speed-seconds", "0.2")
    done = runner.small(*words, plugin=plugin)
    assert done.code == 0, done.text
    assert re.search(r"^no plot: first line.*second line$", done.out, re.MULTILINE)


def test_device_latency_is_collected_where_buffers_stay_on_the_device(runner):
    """Elsewhere there is nothing to measure; an engine that copies all the same is skipped with the reason."""
    words = ("tests/performance", "--precision", "fp32", "--batch", "1", "--collect-only", "-q")
    assert "test_device_latency" not in runner.small(*words).out
    done = runner.small(*words[:-2], "--no-offload-copy", "-k", "device")
    assert "onnxruntime:cpu copies inside its run" in done.out

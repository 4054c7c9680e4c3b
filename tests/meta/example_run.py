"""A run with every outcome, and one before it that was faster."""

from dataclasses import replace

from fixtures.localize.records import Localization, SubgraphScore, TensorScore
from fixtures.records import EngineStatus
from fixtures.report.records import (
    ERRED,
    FAILED,
    KNOWN,
    PASSED,
    UNJUDGED,
    VERSION,
    Accuracy,
    BugReport,
    CaseRecord,
    ComparisonRecord,
    ItemRecord,
    Latency,
    RunRecord,
)
from fixtures.verdict.attribution import ENGINE, Attribution
from fixtures.verdict.metrics import ImageMetrics
from fixtures.verdict.tolerances import FactorRow, Tolerance
from fixtures.verdict.verdict import ERROR, Verdict

TOO_WIDE = "the tolerance is too large"
LITTLE_MEMORY = "note    memory      1.0 GB free"
MISSING, HOSTILE = "not found", "<script>alert('|`x`')</script> & \x1b[31m"
TOLERANCE = Tolerance("fp16", "fp16", 0.01, FactorRow(4.0, "test"))
OUTCOMES = {1: PASSED, 2: FAILED, 4: UNJUDGED, 8: ERRED, 16: KNOWN}  # by batch, at fp16


def verdict(errors, *, failed_check=""):
    """A verdict on images with these relative errors."""
    images = tuple(ImageMetrics(at, error, 0.0, 0.0, 1, 1, 0.5, 10, ()) for at, error in enumerate(errors))
    return Verdict("case", "fp16", TOLERANCE, failed_check, output="logits", images=images)


def item(case, outcome, error=0.02, **more):
    """The record of one test."""
    judged = verdict([error / 2, error], failed_check="" if error <= 0.04 else ERROR)
    numbers = judged.units, judged.allowed_units, judged.passed
    found = ComparisonRecord(case.engine, case.id, *numbers, reference="ONNX Runtime", verdict=judged)
    compared = () if outcome in {UNJUDGED, ERRED} else (found,)
    return ItemRecord(
        f"test_x.py::test[{case.id}]", outcome, 1.0, case.id, command=f"pytest {case.id}", comparisons=compared, **more
    )


def case_of(precision, batch, engine="migraphx:gpu"):
    """A case."""
    return CaseRecord(f"{engine}-net-{precision}-b{batch}", engine, "net", precision, batch, {"fast_math": False})


def latency(batch, p50, series="migraphx:gpu-net-fp32"):
    """A latency with little spread."""
    return Latency(series, batch, p50, 1.1 * p50, 1.2 * p50, 0.01, batch / p50, nanoseconds=(int(p50 * 1e9),) * 3)


def example_run():
    """A run with every outcome, localisation, accuracy, latencies, and an engine that is missing."""
    cases = {batch: case_of("fp16", batch) for batch in OUTCOMES}
    fp32 = [case_of("fp32", batch) for batch in (1, 2)]
    blocks = tuple(SubgraphScore(f"block{at}", "block", (TensorScore("t", None, at, 2.0, at),)) for at in (1, 3))
    found = Localization(blocks, first_block="block3", report="/cache/failures/block3")
    report = BugReport(found.report, {"README.txt": "facts", "repro.py": HOSTILE}, {"block.onnx": 2_000_000})
    evidence = {"attribution": Attribution(ENGINE, "evidence"), "localization": found, "bug_report": report}
    wrong = {"message": HOSTILE, **evidence}
    items = [
        item(cases[1], PASSED, 0.036),
        item(cases[2], FAILED, 0.08, **wrong),
        item(cases[2], FAILED, 0.07, message="same", same_cause=f"test_x.py::test[{cases[2].id}]"),
        item(cases[4], UNJUDGED, message="operator is not supported"),
        item(cases[8], ERRED, message="out of memory"),
        item(cases[16], KNOWN, 0.08, message="issue 7"),
        *(item(case, PASSED, 0.01) for case in fp32),
        ItemRecord("test_speed.py::test", PASSED, 2.0, fp32[0].id, latencies=(latency(1, 0.001), latency(2, 0.003))),
        ItemRecord("test_top1.py::test", PASSED, 2.0, accuracy=Accuracy(fp32[0].id, True, "top-1 90 %", 100, 90, 99)),
        *(item(cases[1], UNJUDGED, message=f"{TOO_WIDE}\nmore") for _ in range(2)),
    ]
    return RunRecord(
        VERSION,
        "2026-01-02T03:04:05+00:00",
        9.0,
        1,
        "pytest --engine all",
        {"gpus": "gfx942 0x74a1, 304 units", "rocm": "7.1.0", "gpu_driver": "6.14"},
        {"engine": "all"},
        (
            EngineStatus("migraphx:gpu", "2.16", not_supported={"fp8": "no fp8 on gfx90a"}),
            EngineStatus("migraphx:cpu", missing=MISSING, hint="install it"),
        ),
        (*cases.values(), *fp32),
        tuple(items),
        {},
        {"migraphx:gpu-net-int8-b1": "relative distance 0.1"},
        (LITTLE_MEMORY,),
    )


def faster(run):
    """The run with half its latencies."""
    items = (replace(one, latencies=tuple(replace(row, p50=row.p50 / 2) for row in one.latencies)) for one in run.items)
    return replace(run, items=tuple(items))

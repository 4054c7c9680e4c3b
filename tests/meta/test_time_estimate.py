"""The header's estimates: from recorded times of this machine, else from the table."""

import re
from dataclasses import replace

import pytest

from fixtures.engines.registry import target_of
from fixtures.plugin.cases import Plan
from fixtures.plugin.time_estimate import (
    COMPILATION,
    EXPOSING,
    FILE,
    FROM_TABLE,
    LABELLED,
    LIMIT,
    MEASURED,
    RECOMPILING,
    REFERENCE,
    RUNS,
    TimeTable,
    work_of,
)
from fixtures.records import Case, EngineStatus, ModelSpec

SPEC = ModelSpec("digits_nfnet", None, (32, 32))
CASE = Case("migraphx:gpu", SPEC, "fp16", 1)
TEST = "test_agrees"


@pytest.fixture
def table(tmp_path):
    """Return a function: the table of a machine with these times and this GPU."""

    def make(times=None, gpu="gfx90a"):
        made = TimeTable(tmp_path / FILE, Plan((EngineStatus(CASE.engine, "2.14", gpu=gpu),), (CASE,), {}))
        made.times = {made.key(*row): (seconds, made.from_table(*row)) for row, seconds in (times or {}).items()}
        return made

    return make


@pytest.mark.parametrize(
    ("name", "pixels", "multiply_adds", "outputs"),
    [
        ("dm_nfnet_f0", 192, 7.21e9, 10.16e6),
        ("nf_resnet50", 256, 5.46e9, 14.52e6),
        ("nf_regnet_b1", 256, 0.82e9, 7.27e6),
        ("eca_nfnet_l0", 224, 4.35e9, 10.47e6),
    ],
)
def test_work_is_what_timm_publishes(name, pixels, multiply_adds, outputs):
    """In ``results/benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv``, columns infer_gmacs and infer_macts."""
    _, *found = work_of(ModelSpec(name, None, (pixels, pixels)))
    assert found == pytest.approx([outputs, multiply_adds], rel=0.05)


@pytest.mark.parametrize("gpu", ["gfx90a", "gfx1100", ""])
def test_time_of_a_first_run_is_from_the_table(table, gpu):
    """By engine and architecture; the images of a batch add to the engine's runs only."""
    _, compilation, rate = target_of(CASE.engine).speed[not gpu.startswith("gfx9")]
    made, several = table(gpu=gpu), replace(CASE, batch=4)
    assert made.expect(CASE, COMPILATION) == (compilation, False)
    more = 3 * RUNS * work_of(SPEC)[-1] / rate
    assert made.expect(several, LABELLED) == made.expect(CASE, LABELLED)
    assert made.expect(several, TEST) == (pytest.approx(made.expect(CASE, TEST)[0] + more, rel=1e-12), False)


def test_recorded_time_is_used(table):
    """That of the case; else the table's times the ratio for the same precision, else the test, else the engine."""
    fp16, other, fp32 = CASE, replace(CASE, batch=16), replace(CASE, precision="fp32")
    times = table({(fp16, TEST): 3.0, (fp32, TEST): 10.0, (fp32, COMPILATION): 50.0})
    one, several = times.from_table(fp16, TEST), times.from_table(other, TEST)
    assert times.expect(fp16, TEST) == (3.0, True)
    assert times.expect(other, TEST) == (pytest.approx(3.0 * several / one), True)
    assert times.expect(replace(other, precision="bf16"), TEST) == (pytest.approx(6.5 * several / one), True)
    assert times.expect(other, COMPILATION) == (50.0, True)
    ratio = 63.0 / (2 * one + times.from_table(fp32, COMPILATION))
    assert times.expect(fp16, "test_other") == (pytest.approx(ratio * one), True)


def test_program_of_an_earlier_run_is_compiled_only_to_be_compared(table):
    """The smallest one of each precision; all of them without the cache."""
    cases = [CASE, replace(CASE, batch=16), replace(CASE, precision="fp32"), replace(CASE, engine="onnxruntime:cpu")]
    tests = [(case, TEST) for case in cases]
    more = [(case, test) for case in (cases[0], cases[2]) for test in (EXPOSING, RECOMPILING)]
    assert table().compilations(tests, cached=True) == cases[:3]
    assert table().compilations([*tests, *more], cached=True) == [*cases[:3], cases[0], cases[2]]
    full = table({(case, COMPILATION): 60.0 for case in cases[:3]})
    assert full.compilations(tests, cached=True) == []
    assert set(full.compilations([*tests, *more], cached=True)) == {cases[0], cases[2]}
    assert full.compilations([*tests, *more], cached=False) == table().compilations([*tests, *more], cached=True)


@pytest.mark.parametrize("content", [None, b"", b"[1]", b'{"a": 1}', b'{"a": ["x", 1]}', b"\xff"])
def test_damaged_file_is_no_file(table, content):
    made = table()
    if content is not None:
        made.path.write_bytes(content)
    made.read()
    assert made.times == {}


def report(test, case, seconds, properties=(), outcome="passed", when="teardown"):
    """A report of pytest."""
    more = {"records": [("command", {"case": case.id}), *(properties or [(REFERENCE, {"seconds": 0.0})])]}
    place = f"x.py::{test}[{case.id}]"
    return pytest.TestReport(place, ("", 0, ""), {}, outcome, None, when, [], seconds, **more)


def test_times_of_a_run_are_kept_without_compilations_and_reference(table):
    """Those of complete tests; the newest entries stay, and the reference's from before it was cached."""
    made = table()
    made.times = {str(number): (1.0, 1.0) for number in range(LIMIT)}
    compiled, computed = ("compile seconds", {CASE.id: 60.0, "another": 1.0}), (REFERENCE, {"seconds": 20.0})
    complete = [report(TEST, CASE, 3.0, when="call"), report(TEST, CASE, 81.0, [compiled, computed])]
    made.add([complete, [report("test_failing", CASE, 9.0, outcome="failed")]])
    again = table()
    again.read()
    assert len(again.times) == LIMIT
    again.add([[report(TEST, CASE, 4.0)]])
    again.read()
    assert [again.expect(CASE, name) for name in (TEST, COMPILATION, REFERENCE + TEST)] == [
        (4.0, True),
        (60.0, True),
        (20.0, True),
    ]
    assert again.key(CASE, "test_failing") not in again.times


def test_second_run_is_estimated_from_the_first(runner, tmp_path):
    words = ("tests/conformance/test_repeating.py", "--precision", "fp32", f"--cache-dir={tmp_path}", "--batch")
    first, second = (runner.small(*words, batch) for batch in ("1", "2"))
    assert re.search(rf"^compilations: 0, expected time: [\d:]+ \({FROM_TABLE}\)$", first.out, re.MULTILINE)
    assert re.search(rf"^compilations: 0, expected time: [\d:]+ \({MEASURED}\)$", second.out, re.MULTILINE)

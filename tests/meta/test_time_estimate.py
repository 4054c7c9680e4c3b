"""The header's estimates: from recorded times of this machine, else from the table."""

import re
from dataclasses import replace

import pytest

from fixtures.engines.registry import target_of
from fixtures.plugin.cases import Plan
from fixtures.plugin.time_estimate import (
    COMPILATION,
    FILE,
    FROM_TABLE,
    LIMIT,
    MEASURED,
    TABLE_WORK,
    TimeTable,
    duration,
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
        made.times = {
            made.key(case, test): (seconds, work_of(case, test)) for (case, test), seconds in (times or {}).items()
        }
        return made

    return make


@pytest.mark.parametrize("gpu", ["gfx90a", "gfx1100", ""])
def test_time_of_a_first_run_is_from_the_table(table, gpu):
    """By engine and architecture, scaled by the work."""
    real = replace(CASE, model=ModelSpec("dm_nfnet_f0", None, (192, 192)))
    row = target_of("migraphx:gpu").seconds[not gpu.startswith("gfx9")]
    assert work_of(real, TEST) == pytest.approx(TABLE_WORK, rel=0.01)
    assert table(gpu=gpu).expect(real, COMPILATION) == (pytest.approx(row[1], rel=0.01), False)
    assert table(gpu=gpu).expect(real, TEST) == (pytest.approx(row[2], rel=0.01), False)


def test_recorded_time_is_used(table):
    """That of the case, else the median of the same precision, else of the test; scaled by the root of the work."""
    fp16, other, fp32 = CASE, replace(CASE, batch=16), replace(CASE, precision="fp32")
    times = table({(fp16, TEST): 3.0, (fp32, TEST): 10.0, (fp32, COMPILATION): 50.0})
    assert times.expect(fp16, TEST) == (3.0, True)
    assert times.expect(other, TEST) == (pytest.approx(12.0), True)
    assert times.expect(replace(other, precision="bf16"), TEST) == (pytest.approx(4 * 6.5), True)
    assert times.expect(other, COMPILATION) == (50.0, True)
    assert table({(fp16, TEST): 3.0}).expect(fp16, "test_other")[1] is False


def test_program_of_an_earlier_run_is_compiled_only_to_be_compared(table):
    """The smallest one of each precision; all of them without the cache."""
    cases = [CASE, replace(CASE, batch=16), replace(CASE, precision="fp32"), replace(CASE, engine="onnxruntime:cpu")]
    assert table().compilations(cases, cached=True) == [*cases[:3], cases[0], cases[2]]
    full = table({(case, COMPILATION): 60.0 for case in cases[:3]})
    assert set(full.compilations(cases, cached=True)) == {cases[0], cases[2]}
    assert full.compilations(cases, cached=False) == table().compilations(cases, cached=True)


@pytest.mark.parametrize("content", [None, b"", b"[1]", b'{"a": 1}', b'{"a": ["x", 1]}', b"\xff"])
def test_damaged_file_is_no_file(table, content):
    """The estimate is then from the table."""
    made = table()
    if content is not None:
        made.path.write_bytes(content)
    made.read()
    assert made.times == {}


def report(test, case, seconds, properties=(), outcome="passed", when="teardown"):
    """A report of pytest."""
    more = {"records": [("command", {"case": case.id}), *properties]}
    place = f"x.py::{test}[{case.id}]"
    return pytest.TestReport(place, ("", 0, ""), {}, outcome, None, when, [], seconds, **more)


def test_times_of_a_run_are_kept_without_compilations(table):
    """Those of complete tests; the newest entries stay."""
    made = table()
    made.times = {str(number): (1.0, 1.0) for number in range(LIMIT)}
    compiled = ("compile seconds", {CASE.id: 60.0, "another": 1.0})
    complete = [report(TEST, CASE, 3.0, when="call"), report(TEST, CASE, 61.0, [compiled])]
    made.add([complete, [report("test_failing", CASE, 9.0, outcome="failed")]])
    again = table()
    again.read()
    assert len(again.times) == LIMIT
    assert (again.expect(CASE, TEST), again.expect(CASE, COMPILATION)) == ((3.0, True), (60.0, True))
    assert again.expect(CASE, "test_failing")[1] is False


@pytest.mark.parametrize(("seconds", "text"), [(0, "1 s"), (40.4, "40 s"), (900, "15 min"), (12600, "3.5 h")])
def test_duration_is_readable(seconds, text):
    """Two digits are enough."""
    assert duration(seconds) == text


def test_second_run_is_estimated_from_the_first(runner, tmp_path):
    """Also a batch that the first run did not have."""
    words = ("tests/conformance/test_repeating.py", "--precision", "fp32", f"--cache-dir={tmp_path}", "--batch")
    first, second = (runner.small(*words, batch) for batch in ("1", "2"))
    assert (first.code, second.code) == (0, 0), first.text + second.text
    assert re.search(rf"^compilations: 0, expected time: \d+ \w+ \({FROM_TABLE}\)$", first.out, re.MULTILINE)
    assert re.search(rf"^compilations: 0, expected time: \d+ \w+ \({MEASURED}\)$", second.out, re.MULTILINE)

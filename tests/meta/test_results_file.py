"""``results.json``: complete, valid, and refused where it cannot be understood."""

import json
import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from types import SimpleNamespace

import jsonschema
import pytest

from fixtures.errors import UsageError
from fixtures.plugin.results import LONGEST_TEXT, RECORDS, REPEATED, attach_bug_report, item_record
from fixtures.plugin.results_file import FOLDER, NOT_SAVED, SAVED, SAVED_RUNS, SUMMARY_OF_JOB, prune
from fixtures.report.records import FAILED, PASSED, VERSION, BugReport, ComparisonRecord, ItemRecord, RunRecord
from fixtures.report.results_file import SCHEMA, read_results, schema, write_results
from fixtures.report.summary import FAILURES
from fixtures.verdict.attribution import ENGINE
from tests.meta.faulty_comparison import fault

WORDS = ("tests/conformance/test_agreement.py", "--precision", "fp16", "--batch", "2")
INTERRUPTED = """
def pytest_runtest_call(item):
    if "float64_reference" in item.nodeid: raise KeyboardInterrupt
"""
EMPTY = RunRecord(VERSION, "", 0.0, 0, "pytest", {}, {}, (), (), (), {}, {})


@pytest.fixture(scope="module")
def interrupted(runner, tmp_path_factory):
    """The folder of a run whose first test fails, and whose second one is interrupted."""
    folder = tmp_path_factory.mktemp("run")
    plugin = fault("results['logits'][1] *= 1.5") + INTERRUPTED
    (folder / "job.md").write_text("before\n")
    files = {"results": "r.json", "junitxml": "j.xml", "report-html": "r.html", "report-markdown": "r.md"}
    words = [f"--{option}={folder / name}" for option, name in files.items()]
    done = runner.small(
        *WORDS, *words, plugin=plugin, env={SUMMARY_OF_JOB: str(folder / "job.md")}, code=pytest.ExitCode.INTERRUPTED
    )
    assert all(f"{SAVED}: {folder / name}" in done.out for name in ("r.json", "r.html", "r.md", "job.md"))
    return folder


def test_file_of_a_run_fits_the_schema(interrupted):
    """The schema in the repository, not one that is made for the test."""
    jsonschema.validate(json.loads((interrupted / "r.json").read_bytes()), json.loads(SCHEMA.read_bytes()))


def test_schema_is_that_of_the_records():
    """After a change of the records: fixtures/report/README.md says how to write it, and when to raise the version."""
    assert schema() == SCHEMA.read_bytes()


def test_interrupted_run_keeps_what_it_found(interrupted):
    """Metrics of each image, the faulty side, the first wrong block, and the command of the test."""
    run = read_results(interrupted / "r.json")
    (item,) = run.items
    (comparison,) = item.comparisons
    assert (run.exit_code, item.outcome, item.case) == (pytest.ExitCode.INTERRUPTED, FAILED, run.cases[0].id)
    assert [row.relative_l2 > 0.1 for row in comparison.verdict.images] == [False, True]
    assert comparison.share > 1
    assert (comparison.units, comparison.allowed) == (comparison.verdict.units, comparison.verdict.allowed_units)
    assert item.attribution.faulty_side == ENGINE
    assert item.localization.blocks
    report = item.bug_report
    assert (set(report.texts), set(report.sizes)) == ({"README.txt", "repro.py"}, {"block.onnx", "data.npz"})
    assert item.localization.table() in report.texts["README.txt"]
    assert "test_agreement.py::test_logits_match_onnxruntime" in item.command
    assert item.command in item.message
    assert {"cpu", "python", "onnxruntime"} <= set(run.environment)
    assert (run.options["precision"], run.options["image_size"]) == ("fp16", "64x64")


def test_bug_report_is_saved_once_for_each_cause(tmp_path):
    """Nothing is saved of a folder that is gone, and of a long text its size."""
    (tmp_path / "README.txt").write_text("facts")
    (tmp_path / "repro.py").write_text("#" * (LONGEST_TEXT + 1))
    item = SimpleNamespace(stash=pytest.Stash())
    for folder in (tmp_path / "gone", tmp_path):
        attach_bug_report(item, folder)
    report = pytest.TestReport(
        "test", ("test", 0, "test"), {}, "failed", "message", "call", records=item.stash[RECORDS]
    )
    expected = BugReport(str(tmp_path), {"README.txt": "facts"}, {"repro.py": LONGEST_TEXT + 1})
    assert item_record([report]).bug_report == expected
    report.records.append((REPEATED, {REPEATED: "other"}))
    assert (item_record([report]).bug_report, item_record([report]).same_cause) == (None, "other")


def test_junit_has_plain_values(interrupted):
    """Numbers, not Python's text of a record; of the whole run the engine and the machine."""
    file = ET.parse(interrupted / "j.xml")  # noqa: S314 - our own
    whole = {row.get("name"): row.get("value") for row in file.find("testsuite/properties")}
    assert {"onnxruntime:cpu", "cpu", "python"} <= set(whole)
    assert all(whole.values())
    first = next(file.iter("testcase"))
    values = {row.get("name"): row.get("value") for row in first.iter("property")}
    assert float(values["error_of_worst"]) > float(values["tolerance"]) > 0
    assert values["unit"] == "u"
    assert "{" not in "".join(values.values())


def test_reports_are_made_at_the_end_of_a_run(interrupted):
    """The summary of a job of GitHub Actions is appended to what is there."""
    markdown = (interrupted / "r.md").read_text()
    assert (interrupted / "job.md").read_text() == f"before\n{markdown}"
    assert FAILURES in markdown
    assert "<!DOCTYPE html>" in (interrupted / "r.html").read_text()


def test_numbers_that_json_lacks_survive(tmp_path):
    """NaN, infinities, and bytes of a file name."""
    numbers = (math.inf, -math.inf, math.nan)
    item = read_item(tmp_path, tuple(ComparisonRecord("e\udcff", "c", units, 1.0, passed=False) for units in numbers))
    assert [row.units for row in item.comparisons[:2]] == [math.inf, -math.inf]
    assert math.isnan(item.comparisons[2].units)
    assert item.comparisons[0].engine == "e\\udcff"


def read_item(folder, comparisons):
    """Write and read a run of one test."""
    path = folder / "results.json"
    write_results(path, replace(EMPTY, items=(ItemRecord("test", PASSED, 1.0, comparisons=comparisons),)))
    jsonschema.validate(json.loads(path.read_bytes()), json.loads(SCHEMA.read_bytes()))
    return read_results(path).items[0]


def test_unknown_fields_are_ignored(tmp_path):
    """A later suite may add fields without a new version."""
    path = tmp_path / "results.json"
    write_results(path, EMPTY)
    path.write_text(json.dumps({**json.loads(path.read_text()), "later": 1}))
    assert read_results(path) == EMPTY


@pytest.mark.parametrize(
    "text",
    [None, "", "[]", '{"version": 1}', f'{{"version": {VERSION + 1}}}', "{}", "\x00", '{"version": 1, "items": 3}'],
    ids=repr,
)
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "other.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=r"other\.json"):
        read_results(path)


def test_last_runs_are_kept(tmp_path):
    """The names of their folders begin with the time."""
    for number in range(SAVED_RUNS + 3):
        (tmp_path / FOLDER / f"20260101-{number:06}").mkdir(parents=True)
    prune(tmp_path / FOLDER)
    assert min(path.name for path in (tmp_path / FOLDER).iterdir()) == "20260101-000003"


def test_results_that_cannot_be_saved_fail_the_run(runner, tmp_path):
    (tmp_path / "file").touch()
    words = ("tests/conformance/test_engines.py", "--precision", "fp16", f"--results={tmp_path / 'file' / 'r.json'}")
    done = runner.small(*words, code=pytest.ExitCode.INTERNAL_ERROR)
    assert NOT_SAVED in done.out

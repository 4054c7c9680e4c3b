"""Rows of the known failures match the cases that they name, and no row is dead."""

import re
from dataclasses import replace
from fnmatch import fnmatchcase

import pytest

from fixtures.engines.registry import OWN_NAMES
from fixtures.errors import UsageError
from fixtures.nfnet.variants import BY_NAME as VARIANTS
from fixtures.plugin.results_file import NOT_SAVED, SAVED
from fixtures.precisions import BY_NAME as PRECISIONS
from fixtures.records import Case, EngineStatus, ModelSpec
from fixtures.verdict.known_failures import (
    KNOWN_FAILURES,
    NO_ROW,
    STAGES,
    UPDATE_ROW,
    KnownFailure,
    find,
    read,
    wrong_stage,
)
from tests.meta.faulty_comparison import fault

ROW = KnownFailure(
    "migraphx:*", "compile", "no kernel", "issue 1", "dm_nfnet_f?", "fp16", 8, "2.14", "gfx90?", "test_agrees*"
)
STATUS = EngineStatus("migraphx:gpu", "2.14.0", gpu="gfx90a")
CASE = Case("migraphx:gpu", ModelSpec("dm_nfnet_f3", None, (64, 64)), "fp16", 8)
GPUS = ("gfx908", "gfx90a", "gfx942", "gfx950", "gfx1030", "gfx1100", "gfx1151", "gfx1200", "gfx1201")
NAMES = {"engine": OWN_NAMES, "variant": VARIANTS, "precision": PRECISIONS, "stage": STAGES, "gpu": GPUS}


def dead_fields(row):
    """Fields of a row that match no name that exists."""
    return [
        field for field, names in NAMES.items() if not any(fnmatchcase(name, getattr(row, field)) for name in names)
    ]


def test_row_matches_its_case():
    assert ROW.matches(CASE, STATUS, "test_agrees_with_onnxruntime")


@pytest.mark.parametrize(
    ("other", "status", "test"),
    [
        (replace(CASE, engine="onnxruntime:cpu"), STATUS, "test_agrees_x"),
        (replace(CASE, model=ModelSpec("nfnet_f3")), STATUS, "test_agrees_x"),
        (replace(CASE, precision="bf16"), STATUS, "test_agrees_x"),
        (replace(CASE, batch=1), STATUS, "test_agrees_x"),
        (CASE, replace(STATUS, version="2.13.1"), "test_agrees_x"),
        (CASE, replace(STATUS, version=None), "test_agrees_x"),
        (CASE, replace(STATUS, gpu="gfx942"), "test_agrees_x"),
        (CASE, replace(STATUS, gpu=""), "test_agrees_x"),
        (CASE, STATUS, "test_batch"),
    ],
)
def test_row_matches_no_other_case_status_or_test(other, status, test):
    assert not ROW.matches(other, status, test)


def test_first_matching_row_is_found():
    """The order of the table is the order of precedence."""
    wide = KnownFailure("*", "run", "wide", "issue 2")
    assert find(CASE, STATUS, "test_agrees", [wide, ROW]) is wide
    assert find(CASE, STATUS, "test_agrees", [ROW, wide]) is ROW
    assert find(CASE, STATUS, "test_agrees", []) is None


@pytest.mark.parametrize(("stage", "advice"), [("run", UPDATE_ROW.format(stage="run")), ("reference", NO_ROW)])
def test_failure_at_another_stage_names_both_stages_and_what_to_do(stage, advice):
    """The float64 reference belongs to the suite: no row can expect its stage."""
    text = wrong_stage(ROW, stage, "it crashed")
    assert all(part in text for part in ("'compile'", repr(stage), ROW.reason, ROW.issue, "it crashed"))
    assert text.endswith(advice)


def test_table_has_no_dead_row_and_each_row_has_a_reason_and_an_issue():
    """A row for a name that no longer exists must be removed."""
    assert [(row, dead_fields(row)) for row in KNOWN_FAILURES if dead_fields(row)] == []
    assert all(row.reason and row.issue for row in KNOWN_FAILURES)


GOOD = 'engine = "*"\nstage = "run"\nreason = "r"\nissue = "i"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[known_failure", "cannot be read"),
        ("\xff", "cannot be read"),
        ("a = " + 9999 * "[", "cannot be read"),
        ("x = 1", "other content"),
        ("known_failure = [1]", "other content"),
        ("[[known_failure]]\n" + GOOD + "engin = 'x'", "unknown field 'engin' -> choose from engine, stage"),
        ("[[known_failure]]\n" + GOOD.replace('"i"', '""'), "'issue' is missing"),
        ("[[known_failure]]\n" + GOOD + "batch = '8'", "'batch' has the wrong type"),
        ("[[known_failure]]\n" + GOOD.replace('"run"', '"runs"'), "unknown stage 'runs' -> choose from parse"),
    ],
)
def test_wrong_file_is_a_usage_error(tmp_path, text, message):
    file = tmp_path / "known.toml"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        read(file)
    assert str(caught.value).startswith(str(file))
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path)


def test_written_failures_are_expected_strictly(runner, tmp_path):
    """One parameter of one test fails: the run writes it, expects it in the next run, and fails once it is repaired."""
    words = ("tests/conformance/test_isolation.py", "--precision", "fp32", "--batch", "2", "--explain", "never")
    faulty = fault("x = np.isnan(next(iter(feeds.values())))\nif x.any() and not x.all(): results['logits'] += 1")
    file = tmp_path / "known.toml"
    first = runner.small(*words, f"--write-known-failures={file}", plugin=faulty, code=1)
    assert f"{SAVED}: {file}" in first.out
    again = runner.small(*words, f"--known-failures={file}", f"--write-known-failures={file}", plugin=faulty)
    assert " 1 xfailed" in again.out
    (row,) = read(file)
    assert (row.test, row.stage) == ("test_extreme_image_leaves_the_others_unchanged-NaN", "accuracy")
    words = (*words, f"--known-failures={file}", f"--write-known-failures={file}/none")
    repaired = runner.small(*words, code=1)
    assert "XPASS(strict)" in repaired.out
    assert f"{NOT_SAVED}: {file}/none: " in repaired.out

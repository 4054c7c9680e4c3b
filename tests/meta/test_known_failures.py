"""Rows of the known failures fit what they say, and none of them is dead."""

from dataclasses import replace

import pytest

from fixtures.engines.registry import KNOWN
from fixtures.nfnet.variants import BY_NAME as VARIANTS
from fixtures.precisions import BY_NAME as PRECISIONS
from fixtures.records import Case, ModelSpec
from fixtures.verdict.known_failures import KNOWN_FAILURES, KnownFailure, dead_rows, find, moved

ROW = KnownFailure("migraphx:*", "compile", "no kernel", "issue 1", "dm_nfnet_f?", "fp16", 8, "2.14", "test_agrees*")
CASE = Case("migraphx:gpu", ModelSpec("dm_nfnet_f3", None, (64, 64)), "fp16", 8)
NAMES = {"engines": KNOWN, "variants": tuple(VARIANTS), "precisions": tuple(PRECISIONS)}


def test_a_row_fits_its_cases():
    """All fields together."""
    assert ROW.fits(CASE, "2.14.0", "test_agrees_with_onnxruntime")


@pytest.mark.parametrize(
    "other",
    [
        replace(CASE, engine="onnxruntime:cpu"),
        replace(CASE, model=ModelSpec("nfnet_f3")),
        replace(CASE, precision="bf16"),
        replace(CASE, batch=1),
    ],
)
def test_a_row_fits_no_other_case(other):
    """One field that differs is enough."""
    assert not ROW.fits(other, "2.14.0", "test_agrees_with_onnxruntime")


@pytest.mark.parametrize(
    ("version", "test"), [("2.13.1", "test_agrees_x"), ("", "test_agrees_x"), ("2.14", "test_batch")]
)
def test_a_row_fits_no_other_version_or_test(version, test):
    """A new release is judged anew."""
    assert not ROW.fits(CASE, version, test)


def test_the_first_row_is_found():
    """CompileRequest in the table is order of precedence."""
    wide = KnownFailure("*", "run", "wide", "issue 2")
    assert find(CASE, "2.14", "test_agrees", [wide, ROW]) is wide
    assert find(CASE, "2.14", "test_agrees", [ROW, wide]) is ROW
    assert find(CASE, "2.14", "test_agrees", []) is None


def test_a_failure_elsewhere_says_where_and_what_to_do():
    """Known stage, new stage, the row's file."""
    text = moved(ROW, "run", "it crashed")
    assert "known to fail at 'compile' (no kernel, issue 1), but failed at 'run': it crashed" in text
    assert "set stage='run' in its row of fixtures/verdict/known_failures.py" in text


def test_a_failure_that_no_row_can_expect():
    """The oracle is the suite's own: to write its stage into a row would make the row dead."""
    text = moved(ROW, "oracle", "it crashed")
    assert text.endswith("no row can expect that: look for a fault of the suite or the machine")


@pytest.mark.parametrize("field", ["engine", "variant", "precision", "stage"])
def test_a_typo_is_a_dead_row(field):
    """A row that can never fit names the field that is to attribute."""
    (text,) = dead_rows([ROW, replace(ROW, **{field: "typo"})], **NAMES)
    assert f"no {field} fits 'typo'" in text


def test_the_table_has_no_dead_row():
    """And every row says why and where it is tracked."""
    assert dead_rows(KNOWN_FAILURES, **NAMES) == []
    assert all(row.reason and row.issue for row in KNOWN_FAILURES)

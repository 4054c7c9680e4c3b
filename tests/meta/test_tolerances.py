"""The table of tolerance factors: which row a case gets, and that every row can be used."""

from itertools import product

import onnx
import pytest

from fixtures.engines.registry import OWN_NAMES
from fixtures.nfnet.variants import VARIANTS
from fixtures.precisions import precision
from fixtures.records import Case, ModelSpec
from fixtures.verdict import tolerances
from fixtures.verdict.tolerances import DEFAULT, FACTORS, FactorRow, Tolerance, find_factor

SPEC = ModelSpec("test_nfnet", None, (32, 32))
ROWS = {
    "engine": FactorRow(5.0, "an engine", engine="migraphx:*"),
    "variant": FactorRow(6.0, "a variant", variant="eca_*"),
    "operator": FactorRow(7.0, "an operator", operator="Gelu"),
    "all three": FactorRow(8.0, "all three", "onnxruntime:cpu", "test_nfnet", "Conv"),
}


def test_every_row_of_the_table_can_be_used():
    """One that never matches is misspelled, or below a row that matches as much. The last row is the default."""
    operators = {schema.name for schema in onnx.defs.get_all_schemas()}
    names = product(OWN_NAMES, [row.name for row in VARIANTS], [(name,) for name in operators])
    assert {find_factor(*each, FACTORS) for each in names} == {*FACTORS}
    assert FACTORS[-1] == DEFAULT


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("migraphx:gpu", "eca_nfnet_l0", {"Conv", "Gelu"}), "engine"),
        (("onnxruntime:cpu", "eca_nfnet_l0", {"Conv"}), "variant"),
        (("onnxruntime:cpu", "nfnet_f0", {"Conv", "Gelu"}), "operator"),
        (("onnxruntime:cpu", "test_nfnet", {"Conv"}), "all three"),
        (("onnxruntime:cpu", "nfnet_f0", {"Conv"}), None),
    ],
)
def test_the_first_row_that_matches_is_used(names, expected):
    assert find_factor(*names, [*ROWS.values(), DEFAULT]) == ROWS.get(expected, DEFAULT)


def test_a_row_changes_the_tolerance_of_its_cases_and_gives_its_reason(context, monkeypatch):
    case = Case("onnxruntime:cpu", SPEC, "fp32", 1)
    plain = context.tolerances.tolerance(case)
    monkeypatch.setattr(tolerances, "FACTORS", (ROWS["all three"], DEFAULT))
    changed = context.tolerances.tolerance(case)
    assert changed.relative_error == 2 * plain.relative_error
    assert ROWS["all three"].reason in changed.explanation
    assert DEFAULT.reason not in plain.explanation


@pytest.mark.parametrize("name", ["fp32", "fp16", "int8"])
def test_tolerance_is_the_factor_times_the_noise_floor(name):
    """In relative error and in unit roundoffs; an image's own noise floor counts if it is higher."""
    row = Tolerance(name, name, 0.01, image_noise_floors=(0.001, 0.03))
    assert row.relative_error == 4 * 0.01
    assert row.units == pytest.approx(row.relative_error / precision(name).unit_roundoff)
    assert [row.of_image(image) for image in range(2)] == [4 * 0.01, 4 * 0.03]

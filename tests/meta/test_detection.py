"""Engine faults of a catalogue against the rule: what is visible at the logits is caught, nothing clean accused."""

import sys
from pathlib import Path

import numpy as np
import pytest

from fixtures.records import ModelSpec

sys.path.insert(0, str(Path(__file__).parents[1] / "studies" / "faults"))
import power
from catalogue import CATALOGUE

SMALL, SPEC = ModelSpec("test_nfnet", None, (32, 32)), ModelSpec("test_nfnet", None, (64, 64))
OTHER_SEED = ModelSpec("test_nfnet", None, (64, 64), seed=1)
QUICK = 0.25  # of the catalogue


def test_the_catalogue_has_forty_faults_at_six_levels():
    """Each with a name of its own and a reason."""
    assert len(CATALOGUE) >= 40
    assert len({fault.name for fault in CATALOGUE}) == len(CATALOGUE)
    assert len({fault.level for fault in CATALOGUE}) == 6
    assert all(fault.why for fault in CATALOGUE)


@pytest.mark.parametrize("precision", power.PRECISIONS)
def test_what_is_visible_at_the_logits_is_caught(context, precision, tmp_path):
    """A part of the catalogue: every fault beyond the multiple of the floor and the engine's own error."""
    rows = power.study(power.Bench(context, SMALL, precision, tmp_path), some=QUICK)
    assert rows
    assert not [row for row in rows if row.visible and not row.caught]


@pytest.mark.slow
@pytest.mark.parametrize("precision", power.PRECISIONS)
def test_all_that_is_visible_at_the_logits_is_caught(context, precision, tmp_path):
    """The whole catalogue."""
    rows = power.study(power.Bench(context, SPEC, precision, tmp_path), seed=1)
    assert len(rows) >= 40
    assert not [row for row in rows if row.visible and not row.caught]


@pytest.mark.parametrize("precision", power.PRECISIONS)
def test_no_clean_engine_is_accused(context, precision, tmp_path):
    """Not optimised and fully optimised, with one thread and two."""
    assert power.false_alarms(power.Bench(context, SMALL, precision, tmp_path), levels=2)["ours"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("spec", [SPEC, OTHER_SEED, ModelSpec("dm_nfnet_f0", None, (64, 64))], ids=str)
@pytest.mark.parametrize("precision", power.PRECISIONS)
def test_no_clean_engine_is_accused_at_any_level(context, spec, precision, tmp_path):
    """Two models and two seeds at four optimisation levels, with one thread and two."""
    assert power.false_alarms(power.Bench(context, spec, precision, tmp_path))["ours"] == 0


def test_fp32_passed_off_as_int8_is_found_by_what_was_treated(context, tmp_path):
    """Numbers alone would praise it: it is nearer to the truth than was asked."""
    rows = {row.fault: row for row in power.study(power.Bench(context, SMALL, "int8", tmp_path), some=0)}
    assert rows["fp32 passed off as int8"].by_treatment
    assert rows["calibration ignored"].caught


def test_an_edit_that_changes_no_bit_is_not_counted(context, tmp_path):
    """Casts to the type that a tensor has plant nothing."""
    bench = power.Bench(context, SMALL, "fp16", tmp_path)
    fault = next(fault for fault in CATALOGUE if fault.name == "all layers in fp16")
    assert power._studied(bench, fault, 0.5, local=False) == []
    assert np.isfinite(bench.own_error)


@pytest.mark.parametrize("precision", power.PRECISIONS)
def test_locality_accuses_no_clean_engine(context, precision, tmp_path):
    """Neither a block nor a node of it."""
    assert power.Bench(context, SMALL, precision, tmp_path).search_clean() == ""

"""Engine faults of a catalogue against the rule: what is visible at the logits is caught, nothing clean accused."""

import sys
from pathlib import Path

import pytest

from fixtures.pipeline import Laboratory
from fixtures.records import ModelSpec

sys.path.insert(0, str(Path(__file__).parent / "faults"))
import power
from catalogue import CATALOGUE

SPEC = ModelSpec("test_nfnet", None, (64, 64))
VISIBLE = power.VISIBLE + 1.3  # what the engine itself adds is on top of the fault, or against it


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    """One for all."""
    with Laboratory(tmp_path_factory.mktemp("detection")) as made:
        yield made


def test_the_catalogue_has_forty_faults_at_six_levels():
    """Each with a name of its own and a reason."""
    assert len(CATALOGUE) >= 40
    assert len({fault.name for fault in CATALOGUE}) == len(CATALOGUE)
    assert len({fault.level for fault in CATALOGUE}) == 6
    assert all(fault.why for fault in CATALOGUE)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_what_is_visible_at_the_logits_is_caught(laboratory, precision, tmp_path):
    """Every fault in the middle of the network whose effect alone is beyond the budget and the engine's own error."""
    rows = power.study(power.Bench(laboratory, SPEC, precision), tmp_path, power.SHARES[1:2])
    assert len(rows) >= 40
    assert not [row for row in rows if row.logits_floors >= VISIBLE and not row.caught]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_no_clean_engine_is_accused(laboratory, precision):
    """At every optimisation level, with one thread and two."""
    assert power.false_alarms(power.Bench(laboratory, SPEC, precision))["ours"] == 0

"""Many cases in one process, with faults between them: no memory, descriptor, process or file is left over."""

from pathlib import Path

import pytest

from tests.meta.conftest import ROOT

STUDY = Path(ROOT, "tests/studies/long_run.py")


@pytest.mark.migraphx
def test_nothing_grows(runner, ref_engine):
    """The shortest version of the study, which is run by hand for an hour."""
    runner.forked(STUDY, "--engine", ref_engine.name, "--minutes", "0")

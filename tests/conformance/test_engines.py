"""The engines of this run can be opened."""

import pytest

pytestmark = pytest.mark.engines


def test_engine_opens_and_reports_its_version(engine_name, program_pool):
    """A default engine that is missing is skipped with the reason; one that the user named fails."""
    engine = program_pool.engine(engine_name)
    assert engine.name == engine_name
    assert any(character.isdigit() for character in engine.version), f"no version: {engine.version!r}"


def test_machine_computes_in_every_default_precision(engine_name, plan):
    """One that it lacks is in no case: this skip says why."""
    status = plan.status(engine_name)
    planned = {case.precision for case in plan.cases if case.engine == engine_name}
    assert not planned.intersection(status.not_supported)
    if status.usable and status.lacks:
        pytest.skip(f"{engine_name}: {status.lacks}")

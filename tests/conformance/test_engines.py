"""The engines themselves: those that should be here are here."""

import pytest

from fixtures.errors import EngineUnavailable
from fixtures.plugin.policy import absent


def test_engine_opens(engine_name, context, pytestconfig):
    """The engine and its target can be loaded; a default one that is missing is skipped with the reason."""
    try:
        engine = context.program_pool.engine(engine_name)
    except EngineUnavailable as error:
        absent(pytestconfig, engine_name, error)
    assert engine.name == engine_name
    assert engine.version


pytestmark = pytest.mark.engines

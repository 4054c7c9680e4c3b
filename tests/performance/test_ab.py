"""Is this installation slower than another one? Runs with --ab only."""

import pytest

pytestmark = pytest.mark.performance


def test_latency_ab(duel, request):
    """Host to host, in two processes, blocks in turns."""
    duel.settle(request.node)

"""Is this installation slower than another one? Collected with --ab only."""

import pytest

pytestmark = pytest.mark.performance


def test_latency_ab(ab_comparison):
    """Latency from host to host, in interleaved blocks of two processes."""
    ab_comparison()

"""Each block of the network is correct, not only the logits."""

import pytest


@pytest.mark.conformance
@pytest.mark.smallest_batch
def test_every_block_matches_the_float64_reference(assert_agrees):
    """Each block from the engine's own input shows what later blocks would hide."""
    assert_agrees.blocks()

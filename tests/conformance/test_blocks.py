"""Is each part of the network right, and not only the answer?"""

import pytest


@pytest.mark.conformance
@pytest.mark.smallest_batch
def test_every_block_agrees_with_the_oracle(check):
    """Each block from the engine's own input: what a sum or the many blocks after it would hide shows here."""
    check.blocks_agree()

"""The engine quantises the model as its rule and the calibration images say."""

import pytest


@pytest.mark.conformance
@pytest.mark.calibrated
@pytest.mark.smallest_batch
def test_quantisation_is_the_derived_one(assert_agrees):
    """Tensors, element types, scales, zero points and axes; derived independently of the engine."""
    assert_agrees.quantization()

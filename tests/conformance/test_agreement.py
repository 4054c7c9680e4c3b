"""The engine computes the network."""

import pytest

pytestmark = pytest.mark.conformance


def test_logits_match_onnxruntime(case, reference, images, outputs, assert_agrees):
    """Logits match ONNX Runtime within the precision's tolerance, image by image."""
    expected = reference.expected(case)
    assert_agrees(outputs, expected, reference=reference.name(case), images=images, attribute_error=True)


def test_logits_match_the_float64_reference(case, tolerances, images, outputs, assert_agrees):
    """The float64 reference shares no code with any engine."""
    expected = tolerances.exact(case)
    assert_agrees(outputs, expected, reference="the float64 reference", images=images)

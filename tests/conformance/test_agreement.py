"""The engine computes the network."""

import pytest

pytestmark = pytest.mark.conformance


def test_logits_match_onnxruntime(case, context, images, outputs, assert_agrees):
    """Logits match ONNX Runtime within the precision's tolerance, image by image."""
    expected = context.reference.expected(case)
    assert_agrees(outputs, expected, reference=context.reference.name(case), images=images, attribute_error=True)


def test_logits_match_the_float64_reference(case, context, images, outputs, assert_agrees):
    """The float64 reference shares no code with any engine."""
    expected = context.tolerances.exact(case)
    assert_agrees(outputs, expected, reference="the float64 reference", images=images)

"""Does the engine compute the network?"""

import pytest

pytestmark = pytest.mark.conformance


def test_agrees_with_onnxruntime(check, laboratory, case):
    """Every image's logits are those of ONNX Runtime at fp32, within what the precision must cost."""
    images = laboratory.images(case.model, case.batch)
    expected = laboratory.expected(case.model, case.batch)
    check.agrees(check.run(images), expected, reference="ONNX Runtime at fp32", images=images)

"""Does the engine name real images as rightly as it should? The network in the box on digits, or ``--imagenet``."""

import pytest

pytestmark = [pytest.mark.conformance, pytest.mark.decisions]


def test_decisions_are_those_of_onnxruntime(judge):
    """Where the first answer is not ONNX Runtime's, the two classes are so close that rounding explains it."""
    judge.explained()


def test_no_accuracy_is_lost(judge):
    """Not significantly fewer images are named rightly than by ONNX Runtime, or than was published."""
    judge.as_right()

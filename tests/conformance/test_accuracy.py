"""Real images are classified as well as by ONNX Runtime: the bundled digits, or ``--imagenet``."""

import pytest

pytestmark = [pytest.mark.conformance, pytest.mark.labelled]


def test_top1_flips_are_within_tolerance(accuracy_check):
    """Where the top-1 class is not ONNX Runtime's, the two classes are so close that rounding explains it."""
    accuracy_check.assert_flips_within_tolerance()


def test_top1_accuracy_is_not_lower(accuracy_check):
    """Neither than ONNX Runtime's, nor than the published one, in an exact test."""
    accuracy_check.assert_accuracy_not_lower()

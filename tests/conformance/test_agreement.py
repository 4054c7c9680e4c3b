"""Does the engine compute the network?"""

import pytest

pytestmark = pytest.mark.conformance


def test_agrees_with_onnxruntime(check, context, case):
    """Every image's logits are those of ONNX Runtime at the file's precision, within what the case's must cost."""
    images = context.model_store.images(case.model, case.batch)
    expected = context.reference.expected(case.model, case.batch)
    name = context.reference.name(case.model)
    check.agrees(check.answer(), expected, reference=name, images=images, by_onnxruntime=True)


def test_agrees_with_the_oracle(check, context, case):
    """Every image's logits are those of the float64 oracle, which shares no code with any engine."""
    images = context.model_store.images(case.model, case.batch)
    expected = check.of_the_suite(lambda: context.tolerances.exact(case.model, case.batch))
    check.agrees(check.answer(), expected, reference="the float64 oracle", images=images)

"""Does an image's answer depend on the batch it is in?"""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = [pytest.mark.conformance, pytest.mark.batched]


def test_batch_agrees_with_single_images(check, context, case):
    """A batch of N gives what N batches of one give, or of one image repeated where the file fixes the batch."""
    images = context.model_store.images(case.model, case.batch)
    alone = replace(case, batch=context.model_store.onnx_file(case.model).fixed_batch or 1)
    singles = [check.run(np.repeat(image[np.newaxis], alone.batch, axis=0), alone) for image in images]
    expected = {name: np.concatenate([single[name][:1] for single in singles]) for name in singles[0]}
    check.agrees(check.answer(), expected, reference="the same engine, image by image", images=images)


def test_permuted_batch_permutes_the_answers(check, context, case):
    """Turning the batch around turns the answers around, and changes nothing else."""
    images = context.model_store.images(case.model, case.batch)
    expected = {name: array[::-1] for name, array in check.answer().items()}
    turned = np.ascontiguousarray(images[::-1])
    check.agrees(check.run(turned), expected, reference="the same engine, batch in the other order", images=turned)

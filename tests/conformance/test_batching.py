"""The answer for an image does not depend on its batch."""

from dataclasses import replace

import numpy as np
import pytest

pytestmark = [pytest.mark.conformance, pytest.mark.batched]


def test_batch_matches_single_images(case, model_store, program_pool, images, outputs, assert_agrees):
    """A batch of N gives what N batches of one give; one image is repeated where the file fixes the batch."""
    single = replace(case, batch=model_store.onnx_file(case.model).fixed_batch or 1)
    answers = [program_pool.run(single, np.repeat(image[np.newaxis], single.batch, axis=0)) for image in images]
    expected = {name: np.concatenate([answer[name][:1] for answer in answers]) for name in answers[0]}
    assert_agrees(outputs, expected, reference="the same engine, image by image", images=images)


def test_permuted_batch_permutes_the_outputs(run, images, outputs, assert_agrees):
    """Reversing the batch reverses the outputs and changes nothing else."""
    expected = {name: array[::-1] for name, array in outputs.items()}
    permuted = np.ascontiguousarray(images[::-1])
    assert_agrees(run(permuted), expected, reference="the same engine, batch in the other order", images=permuted)

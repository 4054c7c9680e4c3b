"""Images in a batch do not affect each other, and unusual images are computed correctly."""

import numpy as np
import pytest

pytestmark = pytest.mark.conformance
EXTREMES = {"NaN": np.nan, "infinite": np.inf, "huge": 1e30}
BRIGHTNESS = {"fp32": 1e5, "tf32": 1e5, "bf16": 1e5}  # other precisions overflow soon
FLAT = {
    "zeros": lambda images, _: 0 * images,
    "black": lambda images, _: 0 * images - 1,
    "saturated": lambda images, _: np.sign(images) * 2.6,
    "stripes": lambda images, _: 0 * images + np.arange(images.shape[-1]) % 2 * 2.0 - 1,
    "bright": lambda images, precision: images * BRIGHTNESS.get(precision, 2.0),
}


def select(outputs, rows):
    """Those rows of all outputs."""
    return {name: array[rows] for name, array in outputs.items()}


@pytest.mark.batched
@pytest.mark.parametrize("kind", EXTREMES)
def test_extreme_image_leaves_the_others_unchanged(case, run, images, assert_agrees, kind):
    """An image of NaN, Inf or huge values changes its own row only."""
    changed, extreme = images.copy(), case.batch // 2
    changed[extreme] = EXTREMES[kind]
    others = [image for image in range(case.batch) if image != extreme]
    actual, expected = select(run(changed), others), select(run(images), others)
    assert_agrees(actual, expected, reference="the same engine without the extreme image", images=changed, rows=others)


@pytest.mark.batched
def test_equal_images_have_equal_outputs(case, run, images, assert_agrees):
    """One image repeated gives one answer repeated, at every place in the batch."""
    repeated = np.repeat(images[:1], case.batch, axis=0)
    actual = run(repeated)
    expected = {name: np.repeat(array[:1], case.batch, axis=0) for name, array in actual.items()}
    assert_agrees(actual, expected, reference="the same engine, first row of the batch", images=repeated)


@pytest.mark.smallest_batch
@pytest.mark.parametrize("kind", FLAT)
def test_flat_images_match_the_float64_reference(case, tolerances, run, images, assert_agrees, kind):
    """Images without the variety of photographs, or far brighter; they have a noise floor of their own."""
    flat = FLAT[kind](images, case.precision).astype(images.dtype)
    expected = tolerances.of_case(case).outputs(flat)
    assert_agrees(run(flat), expected, reference="the float64 reference", images=flat, own_noise_floor=True)


@pytest.mark.floating
@pytest.mark.smallest_batch
def test_image_of_nan_gives_nan(case, tolerances, run, images, assert_agrees):
    """An engine that hides a NaN reports a class for an image that has none."""
    images[...] = np.nan
    expected = tolerances.of_case(case).outputs(images)
    if not any(np.isnan(array).any() for array in expected.values()):
        pytest.skip("the answer to NaN is not NaN: the network has integers, or an operator that drops it")
    assert_agrees(run(images), expected, reference="the float64 reference", images=images)

"""Does what is in one image, or in none, spoil the others?"""

import numpy as np
import pytest

pytestmark = pytest.mark.conformance
EXTREMES = {"NaN": np.nan, "infinite": np.inf, "huge": 1e30}
BRIGHT = {"fp32": 1e5, "tf32": 1e5, "bf16": 1e5}  # whose exponents are fp32's; the others' range ends near
PLAIN = {
    "zeros": lambda images, _: 0 * images,
    "constant": lambda images, _: 0 * images + 0.7,
    "saturated": lambda images, _: np.sign(images) * 2.6,
    "stripes": lambda images, _: 0 * images + np.arange(images.shape[-1]) % 2 * 2.0 - 1,
    "bright": lambda images, precision: images * BRIGHT.get(precision, 2.0),
}


def only(outputs, rows):
    """Those rows of all outputs."""
    return {name: array[rows] for name, array in outputs.items()}


@pytest.mark.batched
@pytest.mark.parametrize("kind", EXTREMES)
def test_a_spoiled_image_leaves_the_others_alone(check, context, case, kind):
    """One row of NaN, infinite or huge pixels changes that row only."""
    images = context.model_store.images(case.model, case.batch)
    spoiled = images.copy()
    spoiled[case.batch // 2] = EXTREMES[kind]
    others = [image for image in range(case.batch) if image != case.batch // 2]
    actual, expected = (only(check.run(given), others) for given in (spoiled, images))
    check.agrees(actual, expected, reference="the same engine without the spoiled image", images=spoiled, rows=others)


@pytest.mark.batched
def test_equal_images_have_equal_answers(check, context, case):
    """A batch of one image repeated gives one answer repeated, wherever in the batch."""
    images = np.repeat(context.model_store.images(case.model, case.batch)[:1], case.batch, axis=0)
    actual = check.run(images)
    expected = {name: np.repeat(array[:1], case.batch, axis=0) for name, array in actual.items()}
    check.agrees(actual, expected, reference="the same engine, first row of the batch", images=images)


@pytest.mark.smallest_batch
@pytest.mark.parametrize("kind", PLAIN)
def test_plain_images_agree_with_the_oracle(check, context, case, kind):
    """Images without the variety of photographs, or far brighter, judged by the floor of their own."""
    images = context.model_store.images(case.model, case.batch)
    images = PLAIN[kind](images, case.precision).astype(images.dtype)
    expected = check.of_the_suite(lambda: context.tolerances.float64(case.model).outputs(images))
    check.agrees(check.run(images), expected, reference="the float64 oracle", images=images, own_floor=True)


@pytest.mark.floating
@pytest.mark.smallest_batch
def test_an_image_of_nan_has_no_answer(check, context, case):
    """NaN comes out as NaN: an engine that hides it answers from nothing."""
    images = context.model_store.images(case.model, case.batch)
    images[...] = np.nan
    expected = check.of_the_suite(lambda: context.tolerances.float64(case.model).outputs(images))
    check.agrees(check.run(images), expected, reference="the float64 oracle", images=images)

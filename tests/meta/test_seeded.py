"""Seeded numbers and images: drawn by name, in a known range, different from each other."""

import numpy as np
import pytest

from fixtures.inputs import synthetic_images
from fixtures.seeded import bell, uniform

DRAWS = {"bell": bell, "uniform": lambda key, shape: uniform(key, shape, -1.0, 3.0)}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_draw_is_a_function_of_its_name(draw):
    """The shape only arranges the numbers, more of them begin alike, and other draws in between change nothing."""
    long = draw("name", (24,))
    draw("other", (5,))
    np.testing.assert_array_equal(draw("name", (2, 3, 4)).ravel(), long)
    np.testing.assert_array_equal(draw("name", (7,)), long[:7])
    assert draw("name", ()) == long[0]
    assert draw("name", (0, 3)).shape == (0, 3)
    assert long.dtype == np.float32


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_names_that_look_alike_draw_unlike_numbers(draw):
    """Numbers of neighbouring names are uncorrelated."""
    columns = np.stack([draw(f"stages.0.{index}", (10_000,)) for index in range(10)])
    correlation = np.corrcoef(columns)
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 0.05


def test_bell_numbers_have_the_shape_that_is_promised():
    """Mean 0, deviation 1, never beyond 3.47, two thirds within one deviation."""
    numbers = bell("shape", (100_000,)).astype(np.float64)
    assert abs(numbers.mean()) < 0.02
    assert numbers.std() == pytest.approx(1, abs=0.02)
    assert 3 < np.abs(numbers).max() <= 3.47
    assert (np.abs(numbers) < 1).mean() == pytest.approx(0.67, abs=0.02)


def test_uniform_numbers_fill_their_range():
    """Every tenth of the range gets its tenth of the numbers."""
    numbers = uniform("range", (100_000,), -1.0, 3.0)
    counts, _ = np.histogram(numbers, bins=10, range=(-1, 3))
    assert counts.sum() == numbers.size
    assert np.abs(counts / numbers.size - 0.1).max() < 0.01


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 97, 131), (3, 1, 7), (1, 5, 64)])
def test_a_batch_begins_with_every_smaller_batch(shape):
    """Image i depends on the label and on i, so results at different batch sizes can be held against each other."""
    eight = synthetic_images("label", (8, *shape))
    np.testing.assert_array_equal(synthetic_images("label", (4, *shape)), eight[:4])
    np.testing.assert_array_equal(synthetic_images("label", (1, *shape)), eight[:1])
    assert not np.array_equal(synthetic_images("another", (8, *shape)), eight)
    assert np.isfinite(eight).all()
    assert (eight.dtype, np.abs(eight).max() < 8) == (np.float32, True)


def test_no_two_images_or_channels_are_alike():
    """An engine that swaps images or channels, or repeats one, cannot go unseen."""
    planes = synthetic_images("alike", (16, 3, 64, 64)).reshape(48, -1)
    correlation = np.corrcoef(planes)
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 0.8
    assert planes.std(axis=1).min() > 0.5

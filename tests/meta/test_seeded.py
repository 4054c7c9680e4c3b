"""Seeded numbers, weights and images: reproducible everywhere, in a known range, and different from each other."""

import hashlib

import numpy as np
import pytest

from fixtures.inputs import synthetic_images
from fixtures.nfnet.weights import SeededWeights
from fixtures.seeded import normal, uniform

DRAWS = {"normal": normal, "uniform": lambda key, shape: uniform(key, shape, -1.0, 3.0)}

# First twelve digits of the SHA-256 of the bytes. A change here changes every golden file and every user's baselines.
DIGESTS = {
    "normal": (lambda: normal("digest", (1000,)), "d5d3e40d9e68"),
    "uniform": (lambda: uniform("digest", (1000,), 0.75, 1.25), "edb820446590"),
    "head": (lambda: SeededWeights("test_nfnet", 0)["head.fc.weight"], "4b4d72f869b0"),
    "gain": (lambda: SeededWeights("dm_nfnet_f0", 7)["stages.0.0.skipinit_gain"], "fdb9b6d3b21a"),
    "images": (lambda: synthetic_images("digest", (2, 3, 33, 47)), "03f331e3ee65"),
}


@pytest.mark.parametrize(("draw", "expected"), DIGESTS.values(), ids=DIGESTS)
def test_numbers_have_the_same_bytes_everywhere(draw, expected):
    """They are those that were drawn when the golden logits were written."""
    assert hashlib.sha256(draw().astype("<f4").tobytes()).hexdigest()[:12] == expected


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_draw_depends_only_on_its_name(draw):
    """The shape only arranges the numbers, a longer draw begins alike, and draws in between change nothing."""
    long = draw("name", (24,))
    draw("other", (5,))
    np.testing.assert_array_equal(draw("name", (2, 3, 4)).ravel(), long)
    np.testing.assert_array_equal(draw("name", (7,)), long[:7])
    assert draw("name", ()) == long[0]
    assert draw("name", (0, 3)).shape == (0, 3)
    assert long.dtype == np.float32


@pytest.mark.parametrize("variant", ["dm_nfnet_f0", "nfnet_l0", "eca_nfnet_l0", "nf_regnet_b1"])
def test_gains_and_biases_are_not_near_zero(variant):
    """A branch that is multiplied by zero would hide every fault in it."""
    weights = SeededWeights(variant, 5)
    for name in weights:
        if name.endswith("gain"):
            assert np.abs(weights[name]).min() > 0.3, name
        elif name.endswith("bias"):
            assert weights[name].std() > 0.05, name


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 97, 131), (3, 1, 7), (1, 5, 64)])
def test_image_depends_on_key_and_index_only(shape):
    """So that results at different batch sizes can be compared."""
    eight = synthetic_images("key", (8, *shape))
    np.testing.assert_array_equal(synthetic_images("key", (4, *shape)), eight[:4])
    np.testing.assert_array_equal(synthetic_images("key", (3, *shape), first=5), eight[5:])
    assert not np.array_equal(synthetic_images("other key", (8, *shape)), eight)
    assert np.isfinite(eight).all()
    assert eight.dtype == np.float32
    assert np.abs(eight).max() < 8

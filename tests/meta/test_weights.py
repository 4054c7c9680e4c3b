"""Seeded weights and inputs."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from fixtures.inputs import synthetic_images
from fixtures.nfnet.weights import SeededWeights
from fixtures.seeded import bell, uniform

# sha256 of the bytes, first twelve digits. A change here changes every golden file and everybody's baselines.
DIGESTS = {
    "bell": (lambda: bell("digest", (1000,)), "d5d3e40d9e68"),
    "uniform": (lambda: uniform("digest", (1000,), 0.75, 1.25), "edb820446590"),
    "head": (lambda: SeededWeights("test_nfnet", 0)["head.fc.weight"], "4b4d72f869b0"),
    "gain": (lambda: SeededWeights("dm_nfnet_f0", 7)["stages.0.0.skipinit_gain"], "fdb9b6d3b21a"),
    "images": (lambda: synthetic_images("digest", (2, 3, 33, 47)), "03f331e3ee65"),
}


def digest(array):
    """Short hash of the values in little-endian float32."""
    return hashlib.sha256(array.astype("<f4").tobytes()).hexdigest()[:12]


@pytest.mark.parametrize("name", DIGESTS)
def test_numbers_are_the_same_bytes_everywhere(name):
    """The bytes are those that were drawn when the golden logits were written."""
    make, expected = DIGESTS[name]
    assert digest(make()) == expected


def test_numbers_do_not_depend_on_the_process():
    """Hash randomisation and the order of draws have no say."""
    code = "from fixtures.nfnet.weights import SeededWeights as W; w = W('test_nfnet', 3); "
    code += "print(sum(float(w[n].astype('f8').sum()) for n in sorted(w)).hex())"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    weights = SeededWeights("test_nfnet", 3)
    here = sum(float(weights[name].astype("f8").sum()) for name in sorted(weights, reverse=True))
    assert runs[0].stdout == runs[1].stdout
    assert float.fromhex(runs[0].stdout) == pytest.approx(here, rel=1e-12)


def test_variant_seed_and_name_all_matter():
    """No two tensors share their numbers."""
    name = "stages.0.0.conv1.weight"
    first = SeededWeights("nfnet_f0", 0)[name]
    assert not np.array_equal(first, SeededWeights("nfnet_f0", 1)[name])
    assert not np.array_equal(first, SeededWeights("dm_nfnet_f0", 0)[name])
    assert not np.array_equal(first[:, :8], SeededWeights("nfnet_f0", 0)["stages.1.0.conv1.weight"][:128, :8])


@pytest.mark.parametrize("variant", ["dm_nfnet_f0", "nfnet_l0", "eca_nfnet_l0", "nf_regnet_b1"])
def test_no_gain_bias_or_scalar_is_near_zero(variant):
    """A branch that is multiplied by nothing would hide every fault in it."""
    weights = SeededWeights(variant, 5)
    for name in weights:
        if name.endswith("gain"):
            assert np.abs(weights[name]).min() > 0.3, name
        elif name.endswith("bias"):
            assert weights[name].std() > 0.05, name


def test_image_i_does_not_depend_on_the_batch():
    """A batch of three holds the images of a batch of one and two."""
    three = synthetic_images("batch", (3, 3, 40, 33))
    assert np.array_equal(three[:2], synthetic_images("batch", (2, 3, 40, 33)))


def test_images_look_like_normalised_photographs():
    """Near zero mean and unit variance over many images, and no two alike."""
    images = synthetic_images("statistics", (32, 3, 64, 64))
    assert abs(images.mean()) < 0.1
    assert images.std() == pytest.approx(1.0, abs=0.1)
    flat = images.reshape(32, -1)
    distance = np.linalg.norm(flat[:, None] - flat[None], axis=-1) + 1e9 * np.eye(32)
    assert distance.min() > 0.5 * np.linalg.norm(flat, axis=1).mean()

"""Images that int8 and fp8 are calibrated with: real ones where there are any, and none that accuracy counts."""

import numpy as np
import pytest
from PIL import Image

from fixtures.accuracy import digits
from fixtures.accuracy.calibration import Calibration
from fixtures.accuracy.labelled_images import CALIBRATING, Digits, apart, digits_apart, measured
from fixtures.errors import ImageError
from fixtures.images.labels import synset_ids
from fixtures.inputs import synthetic_images
from fixtures.records import ModelSpec

TRAINED = ModelSpec("digits_nfnet", None, (32, 32), weights="trained")
FILE = ModelSpec(size=(48, 40))
SHAPE = (1, 3, 48, 40)


@pytest.fixture
def folder(tmp_path):
    """ImageNet's folders with 30 photographs of two classes."""
    for at in range(30):
        place = tmp_path / "val" / synset_ids()[at % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((60, 50, 3), at * 8, np.uint8)).save(place / f"{at:02}.png")
    return tmp_path / "val"


def test_the_trained_network_has_digits_that_accuracy_leaves_out():
    """The same ones every time, whatever folders are named."""
    numbers = digits_apart()
    assert len(numbers) == CALIBRATING
    assert not {str(number) for number in numbers} & set(Digits().labels)
    assert len(Digits().labels) + CALIBRATING == len(digits.held_out()[1])
    found = Calibration().images(TRAINED, (1, 3, 32, 32), None)
    np.testing.assert_array_equal(found, digits.as_input(digits.held_out()[0][numbers]))
    assert Calibration().describe(TRAINED) == "8 digits that accuracy is not measured on"


def test_imagenet_gives_up_to_a_tenth(folder):
    """Those that calibrate are not measured."""
    source = Calibration(imagenet=folder)
    assert source.describe(FILE) == f"3 photographs of {folder}"
    assert source.images(FILE, SHAPE, None).shape == (3, 3, 48, 40)
    assert sorted(apart(range(30)) + measured(range(30))) == list(range(30))


def test_a_folder_of_the_user_comes_first(folder, tmp_path):
    """A choice of its photographs; a fixed batch is filled by repeating."""
    source = Calibration(folder, tmp_path / "nowhere")
    assert source.describe(FILE) == f"{CALIBRATING} photographs of {folder}"
    found = source.images(FILE, SHAPE, 11)
    np.testing.assert_array_equal(found[:3], found[8:])


@pytest.mark.parametrize("spec", [FILE, ModelSpec("digits_nfnet", None, (32, 32))], ids=["few", "other classes"])
def test_else_images_are_made_up(folder, spec):
    """Where nothing is named, for too few photographs, and for a network that knows no photographs."""
    for path in sorted(folder.rglob("*.png"))[:25]:
        path.unlink()
    source = Calibration(imagenet=folder)
    assert source.describe(spec) == "synthetic images"
    found = source.images(spec, SHAPE, None)
    np.testing.assert_array_equal(found, synthetic_images(f"calibration/{spec.label}", (2, 3, 48, 40)))


def test_folders_that_cannot_be_used(folder, tmp_path):
    """Missing, or without a usable image."""
    with pytest.raises(ImageError, match="is not there -> name a folder of photographs"):
        Calibration(tmp_path / "nowhere").images(FILE, SHAPE, None)
    for path in folder.rglob("*.png"):
        path.write_bytes(b"none")
    with pytest.raises(ImageError, match=r"cannot be calibrated: none of 8 images could be used; .* -> name a"):
        Calibration(folder).images(FILE, SHAPE, None)


def test_the_header_says_which(runner, folder):
    """A line a model, where a precision needs it; a path that is no folder is a usage error."""
    words = ("--collect-only", "-q", "-v", "--precision", "int8", f"--calibration={folder}")
    done = runner.small(*words)
    assert f"calibration of test_nfnet@64: {CALIBRATING} photographs of {folder}" in done.out, done.text
    for name in ("nowhere", "n" * 300):
        done = runner.small(*words[:-1], f"--calibration={name}")
        assert done.code == 4
        assert f"--calibration={name} is no folder -> name a folder of photographs" in done.err


def test_from_a_shell(runner, folder):
    """int8 with photographs, and the introduction says so."""
    words = ("--engine", "onnxruntime:cpu", "--variant", "test_nfnet", "--image-size", "64", "--inputs", "1")
    done = runner.compare(*words, "--weights", "seeded", "--precision", "int8", "--calibration", folder)
    assert done.code == 0, done.text
    assert f"calibrated {CALIBRATING} photographs of {folder}\n" in done.out
    assert "calibration_images=8" in done.out

"""int8 and fp8 are calibrated with real images if there are any, and never with those that accuracy is measured on."""

import numpy as np
import pytest
from PIL import Image

from fixtures.accuracy import digits
from fixtures.accuracy.calibration import Calibration
from fixtures.accuracy.labelled_images import (
    CALIBRATION_IMAGES,
    Digits,
    calibration_digits,
    calibration_split,
    evaluation_split,
)
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


def test_trained_network_is_calibrated_with_digits_that_accuracy_leaves_out(folder):
    """The same ones every time, also if folders are named."""
    numbers = calibration_digits()
    assert len(numbers) == CALIBRATION_IMAGES
    assert not {str(number) for number in numbers} & set(Digits().labels)
    assert len(Digits().labels) + CALIBRATION_IMAGES == len(digits.held_out()[1])
    for source in (Calibration(), Calibration(folder, folder)):
        found = source.images(TRAINED, (1, 3, 32, 32), None)
        np.testing.assert_array_equal(found, digits.as_input(digits.held_out()[0][numbers]))
        assert f"{CALIBRATION_IMAGES} digits" in source.describe(TRAINED)


def test_imagenet_gives_at_most_a_tenth_of_its_images(folder):
    source = Calibration(imagenet=folder)
    assert source.describe(FILE) == f"3 photographs of {folder}"
    assert source.images(FILE, SHAPE, None).shape == (3, 3, 48, 40)
    assert sorted(calibration_split(range(30)) + evaluation_split(range(30))) == list(range(30))


def test_calibration_folder_takes_precedence_over_imagenet(folder, tmp_path):
    """A fixed batch is filled by repeating."""
    source = Calibration(folder, tmp_path / "missing")
    assert source.describe(FILE) == f"{CALIBRATION_IMAGES} photographs of {folder}"
    found = source.images(FILE, SHAPE, 11)
    np.testing.assert_array_equal(found[:3], found[8:])


@pytest.mark.parametrize("spec", [FILE, ModelSpec("digits_nfnet", None, (32, 32))], ids=["few", "other classes"])
def test_synthetic_images_are_the_default(folder, spec):
    """For too few photographs, and for a network of other classes."""
    for path in sorted(folder.rglob("*.png"))[:25]:
        path.unlink()
    source = Calibration(imagenet=folder)
    assert source.describe(spec) == Calibration().describe(spec) == "synthetic images"
    found = source.images(spec, SHAPE, None)
    np.testing.assert_array_equal(found, synthetic_images(f"calibration/{spec.label}", (2, 3, 48, 40)))


def test_calibration_folder_that_cannot_be_used_is_an_error(folder, tmp_path):
    with pytest.raises(ImageError) as caught:
        Calibration(tmp_path / "missing").images(FILE, SHAPE, None)
    assert caught.value.where == str(tmp_path / "missing")
    for path in folder.rglob("*.png"):
        path.write_bytes(b"none")
    with pytest.raises(ImageError, match=r"none of 8 images .*--calibration"):
        Calibration(folder).images(FILE, SHAPE, None)


def test_header_describes_the_calibration_images(runner, folder):
    done = runner.small("--collect-only", "-q", "-v", "--precision", "int8", f"--calibration={folder}")
    assert f"calibration of test_nfnet@64: {CALIBRATION_IMAGES} photographs of {folder}" in done.out, done.text


def test_command_line_calibrates_with_a_folder(runner, folder):
    words = ("--engine", "onnxruntime:cpu", "--variant", "test_nfnet", "--image-size", "64", "--inputs", "1")
    done = runner.compare(*words, "--weights", "seeded", "--precision", "int8", "--calibration", folder)
    assert f"{CALIBRATION_IMAGES} photographs of {folder}\n" in done.out
    assert "calibration_images=8" in done.out

"""A quantised model is made once for its model and images, and a damaged copy is never believed."""

import hashlib

import pytest

from fixtures.engines.onnxruntime.int8_kept import FOLDER, quantised
from fixtures.records import Case, ModelSpec

SPEC = ModelSpec("test_nfnet", None, (64, 64))


@pytest.fixture
def made(context, tmp_path):
    """The model, its images, the bytes that were made, and the file in which they are."""
    model, images = (
        context.model_store.onnx_file(SPEC).path,
        context.program_pool.calibration(Case("onnxruntime:cpu", SPEC, "int8", 2)),
    )
    data = quantised(model, images, tmp_path)
    (file,) = (tmp_path / FOLDER).iterdir()
    return model, images, data, file


def test_the_second_time_it_is_read(made, tmp_path):
    """Shown by a file that holds something else; the same images in other batches are the same."""
    model, images, _, file = made
    file.write_bytes(hashlib.sha256(b"other").digest() + b"other")
    assert quantised(model, images, tmp_path) == b"other"
    assert quantised(model, [image[None] for batch in images for image in batch], tmp_path) == b"other"


@pytest.mark.parametrize("kept", [slice(0), slice(-1), slice(40, None)])
def test_a_damaged_file_is_made_again(made, tmp_path, kept):
    """Empty, cut short, or without its beginning."""
    model, images, data, file = made
    file.write_bytes(file.read_bytes()[kept])
    assert quantised(model, images, tmp_path) == data
    assert file.read_bytes().endswith(data)


def test_other_images_are_another_model(made, tmp_path):
    """With ranges of their own."""
    model, images, data, _ = made
    assert quantised(model, [2 * batch for batch in images], tmp_path) != data
    assert len(list((tmp_path / FOLDER).iterdir())) == 2


def test_what_cannot_be_kept_is_made_all_the_same(made, tmp_path):
    """A file is where the folder should be."""
    model, images, data, _ = made
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / FOLDER).touch()
    assert quantised(model, images, tmp_path / "none") == data == quantised(model, images, None)

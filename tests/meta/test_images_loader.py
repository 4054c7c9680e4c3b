"""Images are found, and decoded by threads into batches, in order; unusable ones are skipped and reported."""

import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.accuracy import imagenet
from fixtures.errors import ImageError
from fixtures.images import loader
from fixtures.images.loader import NoUsableImageError, find_images, load_batches
from fixtures.images.transform import evaluation_transform
from fixtures.nfnet.variants import BY_NAME
from tests.meta.unprivileged import unprivileged_user

COUNT = 11


def red_value(image):
    """A transform that shows which image it got: its first red value."""
    return np.full((3, 2, 2), image.getpixel((0, 0))[0], np.float32)


@pytest.fixture
def folder(tmp_path):
    """Eleven images; the red value of image i is 10 i."""
    for index in range(COUNT):
        Image.new("RGB", (8, 8), (10 * index, 0, 0)).save(tmp_path / f"{index:02}.png")
    return tmp_path


def damage(folder, *numbers):
    """Overwrite some of the images."""
    for number in numbers:
        (folder / f"{number:02}.png").write_bytes(b"rubbish")


def image_numbers(batches):
    """Return which images the batches contain."""
    return [[int(value) for value in batch.images[:, 0, 0, 0] / 10] for batch in batches]


def loader_threads():
    """Return the living threads of a loader."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("images")]


@pytest.mark.parametrize("chunk", [1, 3, 32])
@pytest.mark.parametrize("size", [1, 4, 11, 50])
def test_batches_are_in_order_and_the_last_may_be_smaller(folder, monkeypatch, size, chunk):
    """Also if threads finish out of order, and for larger batches than there are images."""
    monkeypatch.setattr(loader, "CHUNK", chunk)
    paths = find_images([folder])

    def uneven(image):
        time.sleep(0.002 * (image.getpixel((0, 0))[0] % 30 == 0))
        return red_value(image)

    batches = list(load_batches(paths, uneven, size))
    assert image_numbers(batches) == [list(range(start, min(start + size, COUNT))) for start in range(0, COUNT, size)]
    assert [path for batch in batches for path in batch.paths] == paths
    assert all(batch.images.dtype == np.float32 and not batch.skipped for batch in batches)
    assert not loader_threads()


def test_unusable_images_are_skipped_and_reported(folder):
    """At the start, between batches and at the end; each is reported once, with its file."""
    damage(folder, 0, 4, 5, 10)
    batches = list(load_batches(find_images([folder]), red_value, 3))
    assert image_numbers(batches) == [[1, 2, 3], [6, 7, 8], [9]]
    skipped = [[Path(error.where).name for error in batch.skipped] for batch in batches]
    assert skipped == [["00.png", "04.png", "05.png"], [], ["10.png"]]


def test_image_that_the_transform_refuses_is_skipped_with_its_name(folder):
    """The transform does not know the file; the loader does."""
    Image.new("RGB", (1, 100_000)).save(folder / "05.png")
    (batch,) = load_batches(find_images([folder]), evaluation_transform(BY_NAME["nfnet_f0"], (256, 256)), 20)
    assert [error.where for error in batch.skipped] == [str(folder / "05.png")]


def test_no_usable_image_is_an_error(folder):
    """A run that saw no image must not look like one that saw all."""
    damage(folder, *range(COUNT))
    with pytest.raises(NoUsableImageError, match=f"none of {COUNT} images") as caught:
        list(load_batches(find_images([folder]), red_value, 4))
    assert caught.value.where == str(folder / "00.png")
    assert len(caught.value.skipped) == COUNT


def test_at_most_two_chunks_are_decoded_ahead(folder, monkeypatch):
    """So memory is bounded; leaving early ends the threads."""
    monkeypatch.setattr(loader, "CHUNK", 3)
    decoded = []

    def count(image):
        decoded.append(1)
        return red_value(image)

    for _ in load_batches(find_images([folder]), count, 1):
        break
    assert 2 <= len(decoded) <= 6
    assert not loader_threads()


@pytest.mark.parametrize("error", [ZeroDivisionError("bug"), KeyboardInterrupt(), MemoryError()])
def test_other_errors_are_raised(folder, error):
    """A bug in a transform is not a damaged image."""

    def fail(image):
        if image.getpixel((0, 0))[0] == 50:
            raise error
        return red_value(image)

    batches = []
    with pytest.raises(type(error)):
        batches.extend(load_batches(find_images([folder]), fail, 2))
    assert image_numbers(batches) == [[0, 1], [2, 3]]
    assert not loader_threads()


def test_images_are_found_in_sorted_order(tmp_path):
    """In subfolders and linked ones, each once even in a cycle, without hidden files and other suffixes."""
    for name in ("b/2.JPEG", "a/1.png", "a/deep/3.webp", "a/notes.txt", "a/.hidden.png", ".git/4.png", "other/5.gif"):
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    root = tmp_path / "root"
    (root / "other").rename(tmp_path / "outside")
    (root / "linked").symlink_to(tmp_path / "outside")
    (root / "a" / "cycle").symlink_to(root)
    found = [str(path.relative_to(root)) for path in find_images([root])]
    assert found == ["a/1.png", "a/deep/3.webp", "b/2.JPEG", "linked/5.gif"]
    named = root / "a" / "notes.txt"
    assert find_images([named, root / "b"]) == [named, root / "b" / "2.JPEG"]


def test_unreadable_folder_is_refused(public_folder):
    """At any depth: a run over the other images would look like a complete one. A named file in it is skipped."""
    good, closed = public_folder / "good.png", public_folder / "closed"
    Image.new("RGB", (8, 8)).save(good)
    closed.mkdir(0)
    with unprivileged_user():
        for search in (find_images, lambda places: imagenet.read_labels(places[0])):
            with pytest.raises(ImageError, match="Permission denied"):
                search([closed])
        with pytest.raises(ImageError, match="Permission denied"):
            find_images([public_folder])
        (batch,) = load_batches([closed / "x.png", good], red_value, 1)
    assert [error.where for error in batch.skipped] == [str(closed / "x.png")]


def test_folder_without_images_is_refused(tmp_path):
    with pytest.raises(ImageError, match=re.escape(str(tmp_path))):
        find_images([tmp_path])

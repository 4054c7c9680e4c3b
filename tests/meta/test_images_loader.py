"""Images come in order, in batches, by threads, in bounded memory; what is wrong with one is said, never a crash."""

import itertools
import os
import re
import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.accuracy import imagenet
from fixtures.errors import ImageError, UsageError
from fixtures.images.loader import Batch, find_images, load
from fixtures.images.transform import transform_of
from fixtures.nfnet.variants import BY_NAME
from tests.meta.ordinary import ordinary_user

NOT_SEEN = "cannot be decoded: (Permission denied|File name too long)|does not exist"  # the latter by newer Pythons
SMALL = transform_of(BY_NAME["test_nfnet"], 16)


def shade(image):
    """A transform that keeps which image it was: its first red value."""
    return np.full((3, 2, 2), image.getpixel((0, 0))[0], np.float32)


@pytest.fixture
def folder(tmp_path):
    """Eleven images, the value of number i being 10 i."""
    for index in range(11):
        Image.new("RGB", (8, 8), (10 * index, 0, 0)).save(tmp_path / f"{index:02}.png")
    return tmp_path


def values(batches):
    """Which images the batches hold."""
    return [[int(value) for value in batch.images[:, 0, 0, 0] / 10] for batch in batches]


def threads_alive():
    """Threads of a loader."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("images")]


@pytest.mark.parametrize("threads", [None, 1, 2, 7, 32])
@pytest.mark.parametrize("batch", [1, 4, 11, 50])
def test_order_is_kept_and_the_last_batch_is_what_is_left(folder, batch, threads):
    """With more threads than images and batches larger than all."""
    paths = find_images([folder])

    def unevenly(image):
        time.sleep(0.002 * (image.getpixel((0, 0))[0] % 30 == 0))
        return shade(image)

    batches = list(load(paths, unevenly, batch=batch, threads=threads))
    assert values(batches) == [list(range(start, min(start + batch, 11))) for start in range(0, 11, batch)]
    assert [path for each in batches for path in each.paths] == paths
    assert all(each.images.dtype == np.float32 and not each.skipped for each in batches)
    assert not threads_alive()


def test_tensors_are_those_of_the_transform(folder):
    """Threads change nothing."""
    paths = find_images([folder])
    (batch,) = load(paths, SMALL, batch=11, threads=4)
    expected = np.stack([SMALL(Image.open(path).convert("RGB")) for path in paths])
    assert np.array_equal(batch.images, expected)


def damaged(folder, *names):
    """Spoil some of the files."""
    for name in names:
        (folder / f"{name:02}.png").write_bytes(b"rubbish")


def test_damaged_images_are_skipped_and_named_with_their_batch(folder):
    """At the start, between batches, at the end: each is named once, with its file and why."""
    damaged(folder, 0, 4, 5, 10)
    batches = list(load(find_images([folder]), shade, batch=3))
    assert values(batches) == [[1, 2, 3], [6, 7, 8], [9]]
    assert [[skipped.path.name for skipped in each.skipped] for each in batches] == [
        ["00.png", "04.png", "05.png"],
        [],
        ["10.png"],
    ]
    error = batches[0].skipped[0].error
    assert str(error).startswith(f"{folder / '00.png'}: is no image that can be read -> ")


def test_a_shape_that_the_transform_refuses_is_named_too(folder):
    """The transform does not know the file; the loader does."""
    Image.new("RGB", (1, 100_000)).save(folder / "05.png")
    batches = list(load(find_images([folder]), transform_of(BY_NAME["nfnet_f0"], 256), batch=20))
    (skipped,) = batches[0].skipped
    assert skipped.path == folder / "05.png"
    assert str(skipped.error).startswith(f"{folder / '05.png'}: an image of 1x100000 pixels would be enlarged")


@pytest.mark.parametrize("bad", [0, 1, 5, 6, 7])
def test_a_damaged_image_is_refused_where_that_was_asked_for(folder, bad):
    """In its turn: all images before it are given first."""
    damaged(folder, bad)
    given = []
    with pytest.raises(ImageError, match=rf"0{bad}\.png: is no image"):
        given.extend(load(find_images([folder]), shade, batch=3, on_error="refuse"))
    assert [value for each in values(given) for value in each] == list(range(bad))
    assert not threads_alive()


def test_where_nothing_can_be_used_that_is_an_error(folder):
    """A run that saw no image must not look like one that saw all."""
    damaged(folder, *range(11))
    with pytest.raises(ImageError, match=r"00\.png: none of 11 images could be used; the first: is no image"):
        list(load(find_images([folder]), shade, batch=4))


def test_no_paths_give_no_batches():
    """Nothing asked for, nothing given."""
    assert list(load([], shade, batch=4)) == []


def test_memory_is_bounded(folder):
    """An endless source is read only a batch and the threads ahead of what was taken."""
    paths = itertools.cycle(find_images([folder]))
    asked = itertools.count()
    source = (path for path in paths if next(asked) >= 0)
    stream = load(source, shade, batch=4, threads=2)
    for taken in range(1, 6):
        next(stream)
        read = int(repr(asked)[6:-1])
        assert 4 * taken <= read <= 4 * (taken + 1) + 2 + 2
    stream.close()
    assert not threads_alive()


def test_nothing_starts_before_the_first_batch_is_asked_for(folder):
    """A loader that nobody uses costs nothing."""
    stream = load(find_images([folder]), shade, batch=2)
    assert not threads_alive()
    del stream


def test_leaving_early_leaves_no_threads(folder):
    """A break closes the stream; what was not begun is not begun any more."""
    count = []

    def slow(image):
        count.append(1)
        time.sleep(0.01)
        return shade(image)

    for _ in load(find_images([folder]), slow, batch=1, threads=1):
        break
    assert not threads_alive()
    assert len(count) < 6


@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), KeyboardInterrupt(), MemoryError()])
def test_other_errors_pass_through_and_leave_no_threads(folder, error):
    """A bug in a transform is no damaged image."""

    def fails(image):
        if image.getpixel((0, 0))[0] == 50:
            raise error
        return shade(image)

    given = []
    with pytest.raises(type(error)):
        given.extend(load(find_images([folder]), fails, batch=2, threads=2))
    assert values(given) == [[0, 1], [2, 3]]
    assert not threads_alive()


def test_an_error_of_the_consumer_leaves_no_threads(folder):
    """The engine fails in the middle."""
    with pytest.raises(RuntimeError, match="engine"):  # noqa: PT012
        for _ in load(find_images([folder]), shade, batch=2):
            raise RuntimeError("engine")
    assert not threads_alive()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch": 0}, "batch 0 with None threads -> give at least 1 of each"),
        ({"threads": 0}, "batch 1 with 0 threads"),
        ({"on_error": "ignore"}, "unknown value 'ignore' -> choose from skip, refuse"),
        ({"reading": "raw"}, "unknown value 'raw' -> choose from seen, timm"),
    ],
)
def test_wrong_settings_are_refused_at_the_call(wrong, message):
    """Not at the first batch."""
    with pytest.raises(UsageError, match=message):
        load([], shade, **{"batch": 1} | wrong)


def test_the_reading_reaches_the_decoder(tmp_path):
    """Transparency is white as a person sees it, and what is behind it as timm reads it."""
    path = tmp_path / "clear.png"
    Image.new("RGBA", (4, 4), (70, 0, 0, 0)).save(path)
    assert [values(load([path], shade, batch=1, reading=name)) for name in ("seen", "timm")] == [[[25]], [[7]]]


def test_a_short_batch_can_be_filled_up():
    """The last image again, for an engine whose batch is fixed; a full one stays the same array."""
    images = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    batch = Batch(images, ())
    assert batch.padded(2) is images
    assert np.array_equal(batch.padded(4), images[[0, 1, 1, 1]])


def test_images_are_found_in_order(tmp_path):
    """Below folders and linked ones, each once even in a circle, without hidden files and other suffixes."""
    for name in ("b/2.JPEG", "a/1.png", "a/deep/3.webp", "a/notes.txt", "a/.hidden.png", ".git/4.png", "other/5.gif"):
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    root = tmp_path / "root"
    (root / "other").rename(tmp_path / "outside")
    (root / "linked").symlink_to(tmp_path / "outside")
    (root / "a" / "circle").symlink_to(root)
    found = [str(path.relative_to(root)) for path in find_images([root])]
    assert found == ["a/1.png", "a/deep/3.webp", "b/2.JPEG", "linked/5.gif"]
    named = root / "a" / "notes.txt"
    assert find_images([named, root / "b"]) == [named, root / "b" / "2.JPEG"]


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
def test_a_folder_that_cannot_be_read_is_refused():
    """At any depth: a run over the others would look like one over all. What is in it is named as damaged."""
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    closed = folder / "closed"
    try:
        closed.mkdir()
        folder.chmod(0o755)
        Image.new("RGB", (8, 8)).save(folder / "good.png")
        closed.chmod(0)
        with ordinary_user():
            for place in (folder, closed):
                with pytest.raises(ImageError, match=r"closed: cannot be read: Permission denied -> check its perm"):
                    find_images([place])
            with pytest.raises(ImageError, match=r"closed: cannot be read: Permission denied -> check its name and"):
                imagenet.labelled(closed)
            paths = find_images([closed / "x.png", folder / "good.png"])
            (batch,) = load(paths, shade, batch=1)
        (skipped,) = batch.skipped
        assert skipped.path == closed / "x.png"
        assert re.fullmatch(NOT_SEEN, skipped.error.what)
    finally:
        shutil.rmtree(folder)


def test_names_that_cannot_be_are_no_crash(tmp_path):
    """Longer than any file system takes."""
    long = tmp_path / ("a" * 300)
    assert find_images([long]) == [long]
    with pytest.raises(ImageError) as caught:
        list(load([long], shade, batch=1))
    assert re.search(NOT_SEEN, str(caught.value))
    with pytest.raises(ImageError, match=r"cannot be read: File name too long|is no folder"):
        imagenet.labelled(long)


def test_a_folder_without_images_is_refused(tmp_path):
    """Else a run over it would judge nothing."""
    with pytest.raises(ImageError, match=r"holds no images -> name a folder with files that end in \.bmp"):
        find_images([tmp_path])

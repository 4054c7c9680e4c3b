"""Labels of ImageNet are read from the folder layouts in common use, here with three images."""

import numpy as np
import pytest
from PIL import Image

from fixtures.accuracy import imagenet
from fixtures.accuracy.labelled_images import Photographs
from fixtures.errors import ImageError
from fixtures.images.labels import synset_ids
from fixtures.images.transform import evaluation_transform
from fixtures.nfnet.variants import variant

read_labels = imagenet.read_labels.__wrapped__  # without its cache
NAMES = tuple(f"ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2, 3))
FIRST, LAST = (synset_ids()[at] for at in (0, 999))
LABELS = dict(zip(NAMES, (999, 0, 1), strict=True))
LISTS = {
    "val.txt": "".join(f"{name} {label}\n" for name, label in LABELS.items()),
    "val_map.txt": "".join(f"val/{name} {synset_ids()[label]}\n" for name, label in LABELS.items()),
    "LOC_val_solution.csv": "ImageId,PredictionString\n"
    + "".join(f"{name[:-5]},{synset_ids()[label]} 1 2 3 4 {FIRST} 5 6 7 8\n" for name, label in LABELS.items()),
}


def save_photograph(path, seed=0):
    """Save a small JPEG of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "JPEG")


@pytest.fixture
def flat(tmp_path):
    """Three images in one folder."""
    for seed, name in enumerate(NAMES):
        save_photograph(tmp_path / "val" / name, seed)
    return tmp_path / "val"


def test_folder_names_are_classes(tmp_path):
    for name in (f"{LAST}/b.JPEG", f"{FIRST}/z.png", f"{FIRST}/a.jpeg", "other/c.JPEG"):
        save_photograph(tmp_path / name)
    (tmp_path / FIRST / "notes.txt").write_text("no image")
    assert read_labels(tmp_path) == {f"{FIRST}/a.jpeg": 0, f"{FIRST}/z.png": 0, f"{LAST}/b.JPEG": 999}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(("place", "windows"), [(".", False), ("..", False), (".", True)])
def test_list_of_names_and_classes_is_read(flat, name, place, windows):
    """With indices and synsets, a byte order mark and CRLF, beside hidden files; Kaggle's boxes are ignored."""
    text = LISTS[name].encode()
    (flat / place / name).write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n") if windows else text)
    (flat / f"._{NAMES[0]}").write_bytes(b"macOS")
    assert read_labels(flat) == LABELS


def test_only_images_that_exist_and_are_listed_have_labels(flat):
    (flat / "val.txt").write_text(f"{NAMES[0]} 7\nelsewhere.JPEG 8\n")
    assert read_labels(flat) == {NAMES[0]: 7}


@pytest.mark.parametrize("name", LISTS)
def test_list_that_is_not_utf8_is_refused(flat, name):
    (flat / name).write_bytes("1\n2\n3\n".encode("utf-16"))
    with pytest.raises(ImageError) as caught:
        read_labels(flat)
    assert caught.value.where == str(flat / name)


@pytest.mark.parametrize("word", ["1000", "-1", "cat", ""])
def test_unknown_class_is_refused(flat, word):
    (flat / "val.txt").write_text(f"{NAMES[0]} {word}\n")
    with pytest.raises(ImageError, match=f"'{word}'"):
        read_labels(flat)


def test_folder_without_labels_is_refused(flat):
    for folder in (flat, flat / "missing"):
        with pytest.raises(ImageError) as caught:
            read_labels(folder)
        assert caught.value.where == str(folder)


def test_unusable_photographs_are_left_out_and_reported(flat):
    """The others come in batches, transformed; it is no error if none is left."""
    (flat / NAMES[1]).write_bytes(b"not a JPEG")
    images = Photographs(flat, dict.fromkeys(NAMES, 0), evaluation_transform(variant("test_nfnet"), (64, 64)))
    batches = list(images.batches(NAMES, 1))
    assert [names for names, _ in batches] == [[NAMES[0]], [NAMES[2]]]
    assert {tensors.shape for _, tensors in batches} == {(1, 3, 64, 64)}
    assert [error.where for error in images.skipped] == [str(flat / NAMES[1])]
    (flat / NAMES[2]).write_bytes(b"")
    assert list(images.batches(NAMES[1:], 2)) == []
    assert [error.where for error in images.skipped[1:]] == [str(flat / name) for name in NAMES[1:]]
    assert list(images.batches([], 4)) == []

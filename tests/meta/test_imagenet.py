"""ImageNet's folders as people have them, made small."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from fixtures.accuracy import imagenet
from fixtures.accuracy.labelled_images import Photographs
from fixtures.errors import ImageError
from fixtures.images.labels import synset_ids
from fixtures.images.transform import transform_of
from fixtures.nfnet.variants import variant

NAMES = tuple(f"ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2, 3))
FIRST, SECOND, LAST = (synset_ids()[at] for at in (0, 1, 999))


def photograph(path, seed=0):
    """A small JPEG of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "JPEG")


@pytest.fixture
def flat(tmp_path):
    """Three images in one folder."""
    for seed, name in enumerate(NAMES):
        photograph(tmp_path / "val" / name, seed)
    return tmp_path / "val"


def test_a_folder_a_class(tmp_path):
    """The folder's name is the class; other folders and files are left alone."""
    for name in (f"{LAST}/b.JPEG", f"{FIRST}/z.png", f"{FIRST}/a.jpeg", "other/c.JPEG"):
        photograph(tmp_path / name)
    (tmp_path / FIRST / "notes.txt").write_text("no image")
    assert imagenet.labelled(tmp_path) == {f"{FIRST}/a.jpeg": 0, f"{FIRST}/z.png": 0, f"{LAST}/b.JPEG": 999}


LISTS = {
    "val.txt": "".join(f"{name} {label}\n" for name, label in zip(NAMES, (999, 0, 1), strict=True)),
    "val_map.txt": "".join(f"{name} {label}\n" for name, label in zip(NAMES, (LAST, FIRST, SECOND), strict=True)),
    "LOC_val_solution.csv": "ImageId,PredictionString\n"
    + "".join(
        f"{name[:-5]},{label} 1 2 3 4 {FIRST} 5 6 7 8\n"
        for name, label in zip(NAMES, (LAST, FIRST, SECOND), strict=True)
    ),
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("beside", [False, True])
def test_a_list_of_names_and_classes(flat, name, beside):
    """In the folder or beside it; numbers and synsets; boxes after the class do not matter."""
    ((flat.parent if beside else flat) / name).write_text(LISTS[name])
    assert imagenet.labelled(flat) == dict(zip(NAMES, (999, 0, 1), strict=True))


@pytest.mark.parametrize("name", LISTS)
def test_a_list_from_another_system(flat, name):
    """A mark at the beginning and other ends of lines; the hidden files of macOS are no images."""
    (flat / name).write_bytes(b"\xef\xbb\xbf" + LISTS[name].replace("\n", "\r\n").encode())
    (flat / f"._{NAMES[0]}").write_bytes(b"macOS")
    assert imagenet.labelled(flat) == dict(zip(NAMES, (999, 0, 1), strict=True))


@pytest.mark.parametrize("name", [*LISTS, imagenet.DEVKIT])
def test_a_list_that_is_no_text_is_refused(flat, name):
    """In one line with its name."""
    (flat / name).write_bytes("1\n2\n3\n".encode("utf-16"))
    with pytest.raises(ImageError, match=rf"{name}: cannot be read: .* -> save it as plain text in UTF-8"):
        imagenet.labelled(flat)


def test_a_table_that_is_none_is_refused(flat):
    """A quotation mark that nobody closes."""
    (flat / "LOC_val_solution.csv").write_text('ImageId,PredictionString\n"' + "a" * 200_000)
    with pytest.raises(ImageError, match=r"LOC_val_solution\.csv: cannot be read: .* -> take Kaggle's table"):
        imagenet.labelled(flat)


def test_a_list_may_name_more_than_there_is(flat):
    """Only images that are there are asked; those that nobody lists are not."""
    (flat / "val.txt").write_text(f"{NAMES[0]} 7\nelsewhere.JPEG 8\n")
    assert imagenet.labelled(flat) == {NAMES[0]: 7}


def devkit(place, numbers, classes, **options):
    """The devkit's two files: ``classes`` are pairs of its own number and the synset."""
    place.mkdir(parents=True, exist_ok=True)
    (place / imagenet.DEVKIT).write_text("".join(f"{number}\n" for number in numbers))
    rows = np.array(classes, dtype=[("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("words", "O")])
    savemat(place / imagenet.META, {"synsets": rows.reshape(-1, 1)}, **options)


@pytest.mark.parametrize("place", [".", "..", "../ILSVRC2012_devkit_t12/data"])
def test_the_devkits_numbers_are_translated(flat, place):
    """The devkit counts classes from 1 in an order of its own; ``meta.mat`` says which synset is which."""
    (flat / f"._{NAMES[0]}").write_bytes(b"macOS puts such files beside others")
    devkit(flat / place, (2, 1, 3), [(1, LAST, "x"), (2, FIRST, "y"), (3, SECOND, "z"), (1001, "n00001740", "entity")])
    assert imagenet.labelled(flat) == dict(zip(NAMES, (0, 999, 1), strict=True))


def test_a_devkit_without_its_table_is_refused(flat):
    """Its numbers would be taken for other classes."""
    (flat / imagenet.DEVKIT).write_text("1\n2\n3\n")
    with pytest.raises(ImageError, match=r"meta\.mat: is missing: .* -> put the devkit's meta\.mat beside"):
        imagenet.labelled(flat)
    devkit(flat, (1, 2, 3), [(at, synset, "word") for at, synset in enumerate(synset_ids(), 1)], do_compression=True)
    whole = (flat / imagenet.META).read_bytes()
    for cut in range(0, len(whole), 97):
        (flat / imagenet.META).write_bytes(whole[:cut])
        with pytest.raises(ImageError, match=r"meta\.mat: cannot be read: "):
            imagenet.labelled(flat)
    (flat / imagenet.META).write_bytes(b"no matrix at all, and long enough to have a header" * 9)
    with pytest.raises(ImageError, match=r"meta\.mat: cannot be read: .* -> unpack the devkit again"):
        imagenet.labelled(flat)


def test_a_devkit_for_other_images_is_refused(flat):
    """A line an image, or none can be trusted."""
    devkit(flat, (1, 2), [(1, FIRST, "x"), (2, LAST, "y")])
    with pytest.raises(ImageError, match=rf"has 2 lines, and {NAMES[2]} is the image of none -> give the images the"):
        imagenet.labelled(flat)
    (flat / NAMES[2]).rename(flat / "cat.JPEG")
    with pytest.raises(ImageError, match=r"cat\.JPEG is the image of none"):
        imagenet.labelled(flat)


def test_a_devkit_serves_a_part_of_the_images(flat):
    """The image's own number says which line is its."""
    devkit(flat, (1, 1, 2), [(1, FIRST, "x"), (2, LAST, "y")])
    (flat / NAMES[0]).unlink()
    assert imagenet.labelled(flat) == {NAMES[1]: 0, NAMES[2]: 999}


@pytest.mark.parametrize(("text", "word"), [("1000", "1000"), ("cat", "cat"), ("", "")])
def test_an_unknown_class_is_named(flat, text, word):
    """Number, word, or nothing at all."""
    (flat / "val.txt").write_text(f"{NAMES[0]} {text}\n")
    with pytest.raises(ImageError, match=f"val.txt: '{word}' is no class -> a class is 0 to 999, or a synset"):
        imagenet.labelled(flat)


def test_a_folder_that_says_nothing_is_refused(flat):
    """Images without labels; no folder at all."""
    with pytest.raises(ImageError, match=r"val: holds no images of known class -> one folder a synset .* beside it"):
        imagenet.labelled(flat)
    with pytest.raises(ImageError, match="is no folder -> name the folder of ImageNet's"):
        imagenet.labelled(flat / "absent")


def test_unusable_files_are_left_out_and_named(flat):
    """The others come in batches, transformed."""
    (flat / NAMES[1]).write_bytes(b"not a JPEG")
    pictures = Photographs(flat, dict.fromkeys(NAMES, 0), transform_of(variant("test_nfnet"), 64))
    batches = list(pictures.batches(NAMES, 1))
    assert [names for names, _ in batches] == [[NAMES[0]], [NAMES[2]]]
    assert {images.shape for _, images in batches} == {(1, 3, 64, 64)}
    assert [error.where for error in pictures.skipped] == [str(flat / NAMES[1])]
    (flat / NAMES[2]).write_bytes(b"")
    assert list(pictures.batches(NAMES[1:], 2)) == []
    assert [error.what for error in pictures.skipped[1:]] == ["is no image that can be read", "is empty"]
    assert list(pictures.batches([], 4)) == []

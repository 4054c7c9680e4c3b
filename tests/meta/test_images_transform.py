"""The transform is timm's, bit by bit; the names are ImageNet's; answers are probabilities."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.errors import ImageError, RunError, UsageError
from fixtures.images.labels import class_names, synset_ids, top
from fixtures.images.transform import Transform, prepared_as, transform_of
from fixtures.nfnet.variants import BY_NAME
from fixtures.records import ModelSpec
from tests.meta import golden_images as golden

FILE = Path(__file__).parent / "golden" / "images.json"
F0 = BY_NAME["dm_nfnet_f0"]


@pytest.fixture(scope="module")
def sources():
    """The seeded images."""
    return {name: golden.source(name) for name in golden.SHAPES}


@pytest.fixture(scope="module")
def computed():
    """Checksums by image and transform: many variants share one."""
    return {}


@pytest.mark.parametrize("row", golden.TIMMS, ids=lambda row: row.name)
def test_every_tensor_is_timms_bit_by_bit(sources, computed, row):
    """At the training, test and an odd size, for every shape of image."""
    expected = golden.load(FILE, golden.era())
    for case in golden.goldens(row):
        transform = transform_of(row, case.size)
        key = (case.image, transform)
        if key not in computed:
            tensor = transform(sources[case.image])
            assert tensor.shape == (3, *case.size)
            computed[key] = golden.checksum(tensor)
        assert computed[key] == expected[case.key], f"{case.key}; a new Pillow? tests/meta/golden/make_images.py tells"


@pytest.mark.parametrize("era", golden.ERAS)
def test_the_goldens_are_complete(era):
    """None is missing and none left over."""
    assert sorted(golden.load(FILE, era)) == sorted(case.key for case in golden.every())


@pytest.mark.parametrize(
    ("version", "era"), [("10.0.0", 10), ("12.3.0", 10), ("13.0.0", 13), ("99.1", 13), ("9.5", 10)]
)
def test_a_pillow_belongs_to_the_last_change_before_it(version, era):
    """A newer one is taken for the newest known, and the goldens say whether that is true."""
    assert golden.era(version) == era


def test_a_wrong_bit_changes_the_checksum():
    """So do shape and type."""
    tensor = np.zeros((3, 4, 5), np.float32)
    other = tensor.copy()
    other[2, 3, 4] = -0.0
    sums = {golden.checksum(each) for each in (tensor, other, tensor.reshape(3, 5, 4), tensor.astype(np.float64))}
    assert len(sums) == 4


def test_sizes_follow_the_variant():
    """The test size by default; below it the light variants take the crop fraction of their training."""
    light = BY_NAME["nfnet_l0"]
    assert transform_of(F0).size == (256, 256)
    assert transform_of(F0, 192).size == (192, 192)
    assert transform_of(F0, (97, 131)).size == (97, 131)
    assert transform_of(light).crop_fraction == 1.0
    assert transform_of(light, 224).crop_fraction == 0.9
    assert transform_of(F0, 192).crop_fraction == 0.9


def test_squash_keeps_the_edges_that_center_cuts_off():
    """A wide image with a red left end: squashed it is seen, cropped it is gone."""
    image = Image.new("RGB", (400, 100), "white")
    image.paste((255, 0, 0), (0, 0, 80, 100))
    settings = {"size": (50, 50), "crop_fraction": 1.0, "mean": (0, 0, 0), "std": (1, 1, 1)}
    squashed = Transform(crop_mode="squash", **settings)(image)
    centred = Transform(crop_mode="center", **settings)(image)
    assert squashed[1, 25, 0] == 0
    assert (centred == 1).all()


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1)])
def test_a_sliver_is_refused_where_it_would_be_enlarged_to_gigabytes(size):
    """Centre crops enlarge its short side; the message names both sizes. Squashed, it is an image like another."""
    image = Image.new("RGB", size)
    with pytest.raises(ImageError, match=rf"{size[0]}x{size[1]} pixels would be enlarged to \d+x\d+ -> crop it"):
        transform_of(BY_NAME["nfnet_f0"])(image)
    assert transform_of(F0)(image).shape == (3, 256, 256)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"crop_mode": "border"}, "unknown crop mode 'border' -> choose from center, squash"),
        ({"crop_fraction": 0}, "a crop fraction of 0"),
        ({"crop_fraction": 1.1}, "a crop fraction of 1.1"),
        ({"crop_fraction": float("nan")}, "a crop fraction of nan"),
        ({"size": (0, 5)}, "an image size of 0x5"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong, message):
    """At once, not at the first image."""
    right = {"size": (5, 5), "crop_fraction": 1.0, "crop_mode": "center", "mean": (0, 0, 0), "std": (1, 1, 1)}
    with pytest.raises(UsageError, match=message):
        Transform(**right | wrong)


def test_imagenets_names_are_in_class_order():
    """A thousand different ids in rising order, as its training sorted the folders; some that everybody knows."""
    names, ids = class_names(1000), synset_ids()
    assert len(names) == len(set(ids)) == 1000
    assert list(ids) == sorted(ids)
    assert all(len(each) == 9 and each[0] == "n" and each[1:].isdigit() for each in ids)
    assert all(name and name == name.strip() for name in names)
    assert (ids[0], names[0]) == ("n01440764", "tench, Tinca tinca")
    assert "goldfish" in names[1]
    assert "tabby" in names[281]
    assert "toilet" in names[999]


def test_other_networks_have_numbered_classes():
    """No name is better than a wrong one."""
    assert class_names(3) == ("class 0", "class 1", "class 2")


def test_the_likeliest_come_first():
    """Softmax probabilities; of equals the lower index; huge logits do not overflow; fp16 is widened."""
    logits = np.log([0.1, 0.6, 0.2, 0.1])
    best = top(logits, 3, "abcd")
    assert [each.name for each in best] == ["b", "c", "a"]
    assert [each.probability for each in best] == pytest.approx([0.6, 0.2, 0.1])
    assert str(best[0]) == " 60.0%  b"
    assert top(logits + 1e4, 1, "abcd")[0].probability == pytest.approx(0.6)
    assert len(top(logits.astype(np.float16), 9, "abcd")) == 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_have_no_answer(value):
    """NaN would sort somewhere and be printed as an answer."""
    with pytest.raises(RunError, match="the logits hold NaN or Inf: there is no likeliest class -> judge the engine"):
        top([1.0, value], 1, "ab")


@pytest.mark.parametrize(("logits", "count"), [([[1.0, 2.0]], 1), ([1.0, 2.0, 3.0], 1), ([1.0, 2.0], 0)])
def test_answers_need_one_image_and_a_name_for_each_class(logits, count):
    """A batch, a missing name, or nothing asked for."""
    with pytest.raises(UsageError, match=rf"the top {count} of logits \(.*\) with 2 names"):
        top(logits, count, "ab")


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (ModelSpec("test_nfnet", size=(64, 64)), "test_nfnet"),
        (ModelSpec(path=Path("fetched/dm_nfnet_f0.onnx")), "dm_nfnet_f0"),
        (ModelSpec(path=Path("nfnet_f1-opset17.onnx")), "nfnet_f1"),
        (ModelSpec(path=Path("nfnet_f12.onnx")), "nf_resnet50"),
        (ModelSpec(path=Path("resnet50.onnx")), "nf_resnet50"),
    ],
)
def test_a_model_file_takes_the_images_of_its_namesake(spec, name):
    """MIGraphX's example is called dm_nfnet_f0.onnx; a file that says nothing gets the usual transform."""
    assert prepared_as(spec).name == name

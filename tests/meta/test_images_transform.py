"""The transform is bit-identical to timm's; class names are ImageNet's; predictions are probabilities."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.errors import ImageError
from fixtures.images.labels import class_names, class_scores, synset_ids, top_k
from fixtures.images.transform import evaluation_transform, evaluation_variant
from fixtures.nfnet.variants import BY_NAME
from fixtures.records import ModelSpec
from tests.meta import golden_images as golden

F0 = BY_NAME["dm_nfnet_f0"]


@pytest.fixture(scope="module")
def sources():
    """The seeded images."""
    return {name: golden.source(name) for name in golden.SHAPES}


@pytest.fixture(scope="module")
def computed():
    """Checksums by image and transform, which many variants share."""
    return {}


@pytest.mark.parametrize("row", golden.TIMM_VARIANTS, ids=lambda row: row.name)
def test_transform_is_bit_identical_to_timm(sources, computed, row):
    """At the training, test and a non-square size, for every shape of image."""
    expected = golden.load()
    for case in golden.cases(row):
        transform = evaluation_transform(row, case.size)
        key = (case.image, transform)
        if key not in computed:
            tensor = transform(sources[case.image])
            assert tensor.shape == (3, *case.size)
            computed[key] = golden.checksum(tensor)
        assert computed[key] == expected[case.key], f"{case.key}; new Pillow? see tests/studies/golden_make_images.py"


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1)])
def test_long_thin_image_is_refused_if_it_would_be_enlarged_to_gigabytes(size):
    """A center crop enlarges the short side; squash does not."""
    image = Image.new("RGB", size)
    with pytest.raises(ImageError, match=rf"{size[0]}x{size[1]} pixels"):
        evaluation_transform(BY_NAME["nfnet_f0"], (256, 256))(image)
    assert evaluation_transform(F0, (256, 256))(image).shape == (3, 256, 256)


def test_imagenet_names_are_in_class_order():
    """A thousand sorted ids, as published networks number them; some well-known classes."""
    names, ids = class_names(1000), synset_ids()
    assert len(names) == len(set(ids)) == 1000
    assert list(ids) == sorted(ids)
    assert (ids[0], names[0]) == ("n01440764", "tench, Tinca tinca")
    assert "tabby" in names[281]
    assert class_names(3) == ("class 0", "class 1", "class 2")


def test_class_scores_have_two_axes():
    """Trailing axes of length one are dropped, also for one image with one class."""
    for shape in ((2, 5), (2, 5, 1), (2, 5, 1, 1)):
        assert class_scores({"y": np.zeros(shape), "other": np.zeros(1)}).shape == (2, 5)
    assert class_scores({"y": np.zeros((1, 1, 1, 1))}).shape == (1, 1)


def test_top_k_gives_softmax_probabilities_in_order():
    """Of equal classes the lower index is first; large logits do not overflow; fp16 is widened."""
    logits = np.log([0.1, 0.6, 0.2, 0.1])
    best = top_k(logits, 3, "abcd")
    assert [each.name for each in best] == ["b", "c", "a"]
    assert [each.probability for each in best] == pytest.approx([0.6, 0.2, 0.1])
    assert str(best[0]) == " 60.0%  b"
    assert top_k(logits + 1e4, 1, "abcd")[0].probability == pytest.approx(0.6)
    assert len(top_k(logits.astype(np.float16), 9, "abcd")) == 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_top_k_of_nan_and_inf_is_empty(value):
    """NaN would be sorted somewhere and reported as a prediction."""
    assert top_k([1.0, value], 1, "ab") == ()


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
def test_model_file_gets_the_transform_of_the_variant_in_its_name(spec, name):
    """MIGraphX's example is called dm_nfnet_f0.onnx; other files get the default transform."""
    assert evaluation_variant(spec).name == name

"""Weights from a file: what is missing, left over, misshapen or of another type is named before anything is built."""

import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from fixtures.cache import file_sha256
from fixtures.errors import ModelError, UsageError
from fixtures.nfnet import weights_file as weightsfile
from fixtures.nfnet.architecture import network, parameter_shapes
from fixtures.nfnet.store import built_model
from fixtures.nfnet.variants import variant
from fixtures.nfnet.weights import SeededWeights
from fixtures.nfnet.weights_file import FileWeights, check_fits, content_hash, fitting_variants
from fixtures.precisions import precision
from fixtures.records import ModelSpec

NAME = "test_nfnet"


def tensors(seed=0, name=NAME):
    """Seeded weights as plain arrays."""
    return {key: np.ascontiguousarray(value) for key, value in SeededWeights(name, seed).items()}


@pytest.fixture
def saved(tmp_path):
    """Writes tensors into a file."""

    def save(arrays, name="net.safetensors"):
        save_file(arrays, tmp_path / name)
        return tmp_path / name

    return save


def test_a_file_gives_what_was_saved(saved):
    """Every tensor by timm's name, as float32."""
    arrays = tensors()
    weights = FileWeights(saved(arrays), NAME)
    assert set(weights) == set(arrays)
    assert len(weights) == len(arrays)
    for key, array in arrays.items():
        assert weights[key].dtype == np.float32
        np.testing.assert_array_equal(weights[key], array)
    with pytest.raises(KeyError):
        weights["nothing"]


def test_the_model_is_the_same_as_from_memory(saved, tmp_path):
    """A file of seeded weights builds the very file that the seed builds."""
    path = saved(tensors(seed=3))
    seeded = ModelSpec(NAME, None, (32, 32), 3)
    filed = ModelSpec(NAME, None, (32, 32), weights=path.name, weights_path=path)
    first, second = (built_model(spec, precision("fp32"), tmp_path) for spec in (seeded, filed))
    assert first.read_bytes() == second.read_bytes()
    assert second.parent != first.parent
    assert filed.label == "test_nfnet@32+net.safetensors"


def test_other_contents_are_another_model(saved, tmp_path):
    """The cache goes by contents, not by names."""
    built = []
    for seed in (1, 2):
        path = saved(tensors(seed))
        built.append(
            built_model(ModelSpec(NAME, None, (32, 32), weights="x", weights_path=path), precision("fp32"), tmp_path)
        )
        assert content_hash(path) == file_sha256(path)
    assert built[0].parent != built[1].parent


def test_half_becomes_single(saved):
    """float16 is taken without loss."""
    arrays = {key: value.astype(np.float16) for key, value in tensors().items()}
    weights = FileWeights(saved(arrays), NAME)
    assert weights["stem.conv1.weight"].dtype == np.float32
    np.testing.assert_array_equal(weights["stem.conv1.weight"], arrays["stem.conv1.weight"])


def changed(change):
    """Tensors after ``change``."""
    arrays = tensors()
    change(arrays)
    return arrays


def drop(*names):
    """A change that takes tensors away."""
    return lambda arrays: [arrays.pop(name) for name in names]


CHANGES = [
    (drop("head.fc.bias"), "1 missing (head.fc.bias)"),
    (
        drop(*(f"stem.conv{i}.bias" for i in range(1, 5))),
        "4 missing (stem.conv1.bias, stem.conv2.bias, stem.conv3.bias, ...)",
    ),
    (lambda arrays: arrays.update(momentum=np.zeros(3, np.float32)), "1 unknown (momentum)"),
    (lambda arrays: arrays.update({"\x1b[2J": np.zeros(3, np.float32)}), r"1 unknown (\x1b[2J)"),
    (
        lambda arrays: arrays.update({"head.fc.weight": np.zeros((10, 192), np.float32)}),
        "1 of another shape (head.fc.weight [10, 192] instead of [1000, 192])",
    ),
    (lambda arrays: arrays.update({"head.fc.bias": np.zeros(1000, float)}), "1 of another type (head.fc.bias F64)"),
    (lambda arrays: arrays.update({"head.fc.bias": np.zeros(1000, int)}), "1 of another type (head.fc.bias I64)"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES, ids=lambda value: value if isinstance(value, str) else "")
def test_what_does_not_fit_is_named(saved, change, words):
    """The first few by name, and how many."""
    with pytest.raises(ModelError) as error:
        FileWeights(saved(changed(change)), NAME)
    assert f"these are not the weights of {NAME}: {words} -> " in str(error.value)


def test_several_faults_are_told_at_once(saved):
    """Missing and unknown."""
    arrays = tensors()
    arrays["fc.bias"] = arrays.pop("head.fc.bias")
    with pytest.raises(ModelError, match=r"1 missing \(head.fc.bias\); 1 unknown \(fc.bias\)"):
        check_fits(saved(arrays), NAME)


def test_the_variant_that_was_meant_is_told(saved):
    """Names and shapes say it; without a variant it is found by them."""
    path = saved(tensors())
    with pytest.raises(ModelError, match=f"it fits --variant {NAME}"):
        check_fits(path, "dm_nfnet_f0")
    assert fitting_variants(path) == (NAME,)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(saved, tmp_path, value):
    """Refused by name when they are read; no model is left."""
    arrays = tensors()
    arrays["stages.1.0.conv2.weight"][0, 0, 0, 0] = value
    path = saved(arrays)
    with pytest.raises(ModelError, match=r"'stages.1.0.conv2.weight' holds values that are not finite"):
        built_model(ModelSpec(NAME, None, (32, 32), weights="x", weights_path=path), precision("fp32"), tmp_path)
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_file_that_is_another_one_meanwhile(saved, monkeypatch):
    """Someone fetched it again while it was read: an error of the weights, not of a library."""
    monkeypatch.setattr(weightsfile, "MAPPED_BYTES", -1)  # mapped anew at every tensor
    path = saved(tensors())
    weights = FileWeights(path, NAME)
    save_file({"a": np.zeros(3, np.float32)}, path)
    with pytest.raises(ModelError, match=r"not a safetensors file, or one that was cut short: .*head.fc.bias"):
        weights["head.fc.bias"]


def bfloat16(path):
    """A file whose tensors are bfloat16, written by hand."""
    shapes, header, at = parameter_shapes(network(variant(NAME))), {}, 0
    for key, shape in shapes.items():
        end = at + 2 * int(np.prod(shape, dtype=int))
        header[key] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))


def test_bfloat16_is_refused(tmp_path):
    """It has lost what a comparison at fp32 needs; the hint says what to store instead."""
    path = tmp_path / "net.safetensors"
    bfloat16(path)
    with pytest.raises(ModelError, match=r"of another type \(.* BF16, .*\) -> store them as F32 or F16"):
        check_fits(path, NAME)


class Bomb:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return open, (str(Bomb.path), "w")


@pytest.mark.parametrize("kind", ["stream", "zip", "name", "hidden"])
def test_a_pickle_is_never_opened(tmp_path, kind):
    """Told by its first bytes or its name, and refused with the hint."""
    Bomb.path = tmp_path / "exploded"
    path = tmp_path / {"hidden": "net.safetensors", "name": "net.pth"}.get(kind, "net.bin")
    data = pickle.dumps(Bomb())
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", data)
    else:
        path.write_bytes(b"anything" if kind == "name" else data)
    with pytest.raises(ModelError, match=r"this is a pickle, which could run any .* -> take the model.safetensors"):
        FileWeights(path, NAME)
    assert not Bomb.path.exists()


@pytest.mark.parametrize("cut", [0, 4, 100, 5000, -1], ids=str)
def test_a_file_that_is_cut(saved, cut):
    """Wherever it ends."""
    path = saved(tensors())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelError, match=r"not a safetensors file, or one that was cut short: .* -> get the"):
        FileWeights(path, NAME)


def test_files_that_cannot_be_read(tmp_path):
    """Missing, a link to itself, a folder, a pipe that would be waited for."""
    (tmp_path / "loop").symlink_to("loop")
    for name, words in (("none", "No such file"), ("loop", "Too many levels")):
        with pytest.raises(ModelError, match=f"cannot read the weights: {words}.*check the path"):
            check_fits(tmp_path / name, NAME)
    os.mkfifo(tmp_path / "pipe")
    for name in (".", "pipe"):
        with pytest.raises(ModelError, match="weights are a file, this is not -> name the safetensors file itself"):
            check_fits(tmp_path / name, NAME)
    with pytest.raises(ModelError, match="cannot read the weights: No such file"):
        content_hash(tmp_path / "none")


def test_weights_that_were_not_fetched_build_nothing(tmp_path):
    """Cases can be listed without them."""
    with pytest.raises(UsageError, match="the weights were not fetched"):
        built_model(ModelSpec(NAME, None, (32, 32), weights="pretrained"), precision("fp32"), tmp_path)

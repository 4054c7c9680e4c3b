"""Weights from a file: names, shapes, types and values are checked before anything is built."""

import os
import pickle
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from fixtures.errors import ModelError, UsageError
from fixtures.nfnet.store import built_model
from fixtures.nfnet.weights import SeededWeights
from fixtures.nfnet.weights_file import DOWNLOAD_AGAIN, FileWeights, check_fits, fitting_variants
from fixtures.precisions import precision
from fixtures.records import ModelSpec

NAME = "test_nfnet"


def tensors(seed=0):
    """Return seeded weights as plain arrays."""
    return {key: np.ascontiguousarray(value) for key, value in SeededWeights(NAME, seed).items()}


@pytest.fixture
def save(tmp_path):
    """Write tensors to a file and return its path."""

    def saver(arrays, name="net.safetensors"):
        save_file(arrays, tmp_path / name)
        return tmp_path / name

    return saver


def build(path, folder, seed=0):
    """Build the model of a weights file."""
    return built_model(ModelSpec(NAME, None, (32, 32), seed, weights="x", weights_path=path), precision("fp32"), folder)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_file_returns_the_saved_tensors(save, dtype):
    arrays = {key: value.astype(dtype) for key, value in tensors().items()}
    weights = FileWeights(save(arrays), NAME)
    for key, array in arrays.items():
        assert weights[key].dtype == np.float32
        np.testing.assert_array_equal(weights[key], array)


def test_model_is_the_same_from_file_and_from_seed(save, tmp_path):
    """The same bytes in another folder of the cache."""
    path = save(tensors(seed=3))
    seeded = built_model(ModelSpec(NAME, None, (32, 32), 3), precision("fp32"), tmp_path)
    from_file = build(path, tmp_path)
    assert seeded.read_bytes() == from_file.read_bytes()
    assert seeded.parent != from_file.parent
    assert ModelSpec(NAME, None, (32, 32), weights=path.name).label == "test_nfnet@32+net.safetensors"


def test_built_models_are_cached_by_content(save, tmp_path):
    built = []
    for seed in (1, 2):
        path = save(tensors(seed))
        built.append(build(path, tmp_path))
    assert built[0].parent != built[1].parent


def without(*names):
    """Return a change that removes tensors."""
    return lambda arrays: [arrays.pop(name) for name in names]


def replaced(**arrays):
    """Return a change that sets tensors; ``__`` stands for a dot."""
    return lambda tensors: tensors.update({name.replace("__", "."): array for name, array in arrays.items()})


CHANGES = {
    "missing": (without("head.fc.bias"), "1 missing (head.fc.bias)"),
    "missing-many": (
        without(*(f"stem.conv{i}.bias" for i in range(1, 5))),
        "4 missing (stem.conv1.bias, stem.conv2.bias, stem.conv3.bias, ...)",
    ),
    "unknown": (replaced(momentum=np.zeros(3, np.float32)), "1 unknown (momentum)"),
    "escape": (lambda arrays: arrays.update({"\x1b[2J": np.zeros(3, np.float32)}), r"1 unknown (\x1b[2J)"),
    "renamed": (
        lambda arrays: arrays.update({"fc.bias": arrays.pop("head.fc.bias")}),
        "1 missing (head.fc.bias); 1 unknown (fc.bias)",
    ),
    "shape": (
        replaced(head__fc__weight=np.zeros((10, 192), np.float32)),
        "1 of another shape (head.fc.weight [10, 192] instead of [1000, 192])",
    ),
    "float64": (replaced(head__fc__bias=np.zeros(1000, float)), "1 of another type (head.fc.bias F64)"),
    "int64": (replaced(head__fc__bias=np.zeros(1000, int)), "1 of another type (head.fc.bias I64)"),
}


@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES)
def test_tensors_that_do_not_fit_are_named(save, change, words):
    arrays = tensors()
    change(arrays)
    with pytest.raises(ModelError) as error:
        FileWeights(save(arrays), NAME)
    assert f"{NAME}: {words} -> " in str(error.value)


def test_fitting_variant_is_suggested(save):
    path = save(tensors())
    with pytest.raises(ModelError, match=f"-> the names and shapes fit {NAME};"):
        check_fits(path, "dm_nfnet_f0")
    assert fitting_variants(path) == (NAME,)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_values_are_refused(save, tmp_path, value):
    arrays = tensors()
    arrays["stages.1.0.conv2.weight"][0, 0, 0, 0] = value
    with pytest.raises(ModelError, match=r"'stages.1.0.conv2.weight'"):
        build(save(arrays), tmp_path)
    assert not list(tmp_path.rglob("*.onnx"))


def test_file_replaced_while_it_is_read_is_a_model_error(save):
    path = save(tensors())
    weights = FileWeights(path, NAME)
    save_file({"a": np.zeros(3, np.float32)}, path)
    with pytest.raises(ModelError, match=r"head.fc.bias"):
        weights["head.fc.bias"]


class Bomb:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return open, (str(Bomb.path), "w")


@pytest.mark.parametrize("zipped", [False, True])
def test_pickle_is_refused_without_opening_it(tmp_path, zipped):
    Bomb.path = tmp_path / "exploded"
    path = tmp_path / "net.bin"
    path.write_bytes(pickle.dumps(Bomb()))
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    with pytest.raises(ModelError, match=r" -> .*model\.safetensors.* pickles"):
        FileWeights(path, NAME)
    assert not Bomb.path.exists()


@pytest.mark.parametrize("size", [0, 4, 100, 5000, -1])
def test_truncated_file_is_refused(save, size):
    path = save(tensors())
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match=f"truncated.* -> {DOWNLOAD_AGAIN}"):
        FileWeights(path, NAME)


def test_unreadable_files_are_refused(tmp_path):
    """Missing, a link to itself, a folder, a pipe (which would block)."""
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for name in ("none", "loop", ".", "pipe"):
        with pytest.raises(ModelError, match=f"^{tmp_path / name}: .* -> "):
            check_fits(tmp_path / name, NAME)


def test_weights_that_were_not_fetched_are_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="--collect-only"):
        build(None, tmp_path)

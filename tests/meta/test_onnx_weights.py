"""Weights of ONNX models: external data is complete and inside the model's folder, wherever in the graph it is used."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fixtures.errors import ModelError
from fixtures.onnx_file import inspect
from fixtures.onnx_weights import external_files, weight
from tests.meta.tiny_models import model_of

FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64


def external(dims=(4,), data_type=FLOAT, **facts):
    """Return a tensor ``weight`` with external data."""
    tensor = TensorProto(name="weight", dims=dims, data_type=data_type, data_location=TensorProto.EXTERNAL)
    for key, value in facts.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def model_with(tensor):
    """Return a model with ``tensor`` as a weight."""
    return model_of(nodes=[helper.make_node("Custom", ["inputs", tensor.name], ["logits"])], initializer=[tensor])


def models_with(tensor):
    """Return a model for every place where a tensor may be, by the name of the place."""
    constant = helper.make_node("Constant", [], ["weight"], value=tensor)
    image = helper.make_node("Custom", ["inputs"], ["logits"])
    branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("weight", FLOAT, [4])])
    indices = numpy_helper.from_array(np.arange(4, dtype=np.int64), "indices")
    sparse = onnx.SparseTensorProto(values=tensor, indices=indices, dims=[8])
    function = helper.make_function("own", "F", [], ["weight"], [constant], [helper.make_opsetid("", 17)])
    in_function = model_of()
    in_function.functions.append(function)
    return {
        "weight": model_with(tensor),
        "constant": model_of(nodes=[constant, image]),
        "subgraph": model_of(nodes=[helper.make_node("Custom", ["inputs"], ["logits"], then_branch=branch)]),
        "list": model_of(nodes=[helper.make_node("Custom", ["inputs"], ["logits"], many=[tensor, tensor])]),
        "sparse": model_of(sparse_initializer=[sparse]),
        "function": in_function,
    }


PLACES = tuple(models_with(external()))


def check_refused(path, *words):
    """Check that the model is refused in one line with the folder, the words and a hint."""
    with pytest.raises(ModelError) as caught:
        inspect(path)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert caught.value.hint
    for word in words:
        assert word in text


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "facts", [{"length": 16}, {}, {"offset": 8, "length": 16}, {"offset": 8}], ids=["length", "bare", "both", "offset"]
)
def test_external_data_beside_the_model_is_accepted(write, place, facts):
    write(b"\0" * 24, "model.data")
    assert inspect(write(models_with(external(location="model.data", **facts))[place]))


LOCATIONS = {
    "parent": ("../secret.data", "outside"),
    "down-and-up": ("below/../../secret.data", "outside"),
    "absolute-outside": ("{folder}/../secret.data", "outside"),
    "absolute-inside": ("{folder}/model.data", "outside"),
    "link": ("link.data", "outside"),
    "link-to-folder": ("link/secret.data", "outside"),
    "missing": ("gone.data", "no such file"),
    "folder": ("below", "no such file"),
    "empty": ("", "no such file"),
    "memory-address": ("*/_ORT_MEM_ADDR_/*", "no such file"),
    "nul": ("nul\0byte", "weight"),
    "loop": ("loop.data", "weight"),
    "long": ("x" * 300, "weight"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("location", "reason"), LOCATIONS.values(), ids=LOCATIONS)
def test_external_data_outside_the_folder_is_refused(write, tmp_path, location, reason, place):
    """No model reads a file outside its folder; missing data is reported."""
    folder = write(b"\0" * 64, "model.data").parent
    (tmp_path / "secret.data").write_bytes(b"\0" * 64)
    (folder / "below").mkdir()
    (folder / "link.data").symlink_to(tmp_path / "secret.data")
    (folder / "link").symlink_to(tmp_path)
    (folder / "loop.data").symlink_to("loop.data")
    path = write(models_with(external(location=location.format(folder=folder), length=16))[place])
    check_refused(path, "'weight'", reason)


EXTENTS = [
    {"length": 16, "offset": 1},
    {"length": 17},
    {"offset": 1},
    {"offset": 10**30},
    {"length": 12},
    {"offset": -4, "length": 16},
    {"offset": 16, "length": -16},
    {"offset": "abc", "length": 16},
    {"offset": "0", "length": "1e1"},
    {"offset": "", "length": 16},
]


@pytest.mark.parametrize("facts", EXTENTS, ids=str)
def test_external_data_of_a_wrong_extent_is_refused(write, facts):
    """Offset and length are numbers, not negative, cover the whole tensor and lie within the file."""
    write(b"\0" * 16, "model.data")
    check_refused(write(model_with(external(location="model.data", **facts))), "'weight'")


@pytest.mark.parametrize(
    ("data_type", "size"), [(FLOAT, 16), (HALF, 8), (TensorProto.BFLOAT16, 8), (TensorProto.DOUBLE, 32), (INT64, 32)]
)
def test_external_data_without_length_needs_the_bytes_of_its_type(write, data_type, size):
    path = write(model_with(external(location="model.data", data_type=data_type)))
    write(b"\0" * size, "model.data")
    assert inspect(path)
    write(b"\0" * (size - 1), "model.data")
    check_refused(path, f"{size - 1} bytes", f"{size} are needed")


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "external"])
@pytest.mark.parametrize("kind", [FLOAT, HALF, INT64, TensorProto.BFLOAT16, TensorProto.BOOL, TensorProto.UINT16])
def test_weight_values_are_read(write, kind, inline):
    """From the model or from its data file, at an offset that is no multiple of a page."""
    array = np.random.default_rng(1).integers(-9, 9, (2, 50)).astype(helper.tensor_dtype_to_np_dtype(kind))
    tensor = numpy_helper.from_array(array, "weight")
    path = write(b"\0" * 8 + tensor.raw_data, "model.data")
    if not inline:
        tensor = external(array.shape, kind, location="model.data", offset=8)
    values = weight(tensor, path.parent)
    assert values.shape == array.shape
    assert np.array_equal(values.astype(np.float64), array.astype(np.float64))
    assert external_files(model_with(tensor), path.with_name("model.onnx")) == (() if inline else (path,))


def test_empty_external_weight_is_read(write):
    path = write(b"", "model.data")
    assert weight(external((0, 3), location="model.data"), path.parent).shape == (0, 3)


def test_weight_whose_file_was_removed_is_a_model_error(write):
    path = write(b"\0" * 16, "model.data")
    path.unlink()
    with pytest.raises(ModelError, match=r"'weight'.*no such file"):
        weight(external(location="model.data"), path.parent)

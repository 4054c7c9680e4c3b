"""Weights in a file of their own: within the model's folder, of the right extent, wherever in the graph they are."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fixtures.errors import ModelError
from fixtures.onnx_file import LARGE, external_files, inspect, read_header, weight

FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64


def model_of(nodes=None, **more):
    """Make a model that is only read, never run: its operator does not exist."""
    graph = helper.make_graph(
        nodes or [helper.make_node("Custom", ["inputs"], ["logits"])],
        "graph",
        [helper.make_tensor_value_info("inputs", FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", FLOAT, ["batch", 3])],
        **more,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def external(name="weight", dims=(4,), data_type=FLOAT, **facts):
    """Make a tensor that says its data is elsewhere."""
    tensor = TensorProto(name=name, dims=dims, data_type=data_type, data_location=TensorProto.EXTERNAL)
    for key, value in facts.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def weighted(tensor):
    """Make a model with ``tensor`` as a weight."""
    return model_of([helper.make_node("Custom", ["inputs", tensor.name], ["logits"])], initializer=[tensor])


def carriers(tensor):
    """Every place of a model where a tensor may be, by name."""
    constant = helper.make_node("Constant", [], ["weight"], value=tensor)
    image = helper.make_node("Custom", ["inputs"], ["logits"])
    branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("weight", FLOAT, [4])])
    indices = numpy_helper.from_array(np.arange(4, dtype=np.int64), "indices")
    sparse = onnx.SparseTensorProto(values=tensor, indices=indices, dims=[8])
    function = helper.make_function("own", "F", [], ["weight"], [constant], [helper.make_opsetid("", 17)])
    in_function = model_of()
    in_function.functions.append(function)
    return {
        "weight": weighted(tensor),
        "constant": model_of([constant, image]),
        "subgraph": model_of([helper.make_node("Custom", ["inputs"], ["logits"], then_branch=branch)]),
        "list": model_of([helper.make_node("Custom", ["inputs"], ["logits"], many=[tensor, tensor])]),
        "sparse": model_of(sparse_initializer=[sparse]),
        "function": in_function,
    }


CARRIERS = tuple(carriers(external()))


@pytest.fixture
def write(tmp_path):
    """Write a model or bytes to a file of its own folder and return the path."""

    def writer(content, name="model.onnx"):
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
        return path

    return writer


def refused(path, *words):
    """Check that the model is refused in one line with the path, the words and a hint."""
    with pytest.raises(ModelError) as caught:
        inspect(path)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert text.startswith(f"{path}: ")
    assert caught.value.hint
    assert text.endswith(f" -> {caught.value.hint}")
    for word in words:
        assert word in text


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize(
    "facts", [{"length": 16}, {}, {"offset": 8, "length": 16}, {"offset": 8}], ids=["length", "bare", "both", "offset"]
)
def test_external_weights_beside_the_model_are_taken(write, carrier, facts):
    """The data file is long enough, with or without a length in the entry."""
    write(b"\0" * 24, "model.data")
    assert inspect(write(carriers(external(location="model.data", **facts))[carrier]))


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("../secret.data", "outside the model's folder"),
        ("below/../../secret.data", "outside the model's folder"),
        ("{folder}/../secret.data", "outside the model's folder"),
        ("{folder}/model.data", "outside the model's folder"),
        ("link.data", "outside the model's folder"),
        ("link/secret.data", "outside the model's folder"),
        ("gone.data", "is missing"),
        ("below", "is missing"),
        ("", "is missing"),
        ("*/_ORT_MEM_ADDR_/*", "is missing"),
        ("nul\0byte", "says wrongly"),
        ("loop.data", "weight"),
        ("x" * 300, "says wrongly"),
    ],
    ids=[
        "up",
        "down-up",
        "absolute-out",
        "absolute-in",
        "link",
        "link-folder",
        "gone",
        "folder",
        "empty",
        "memory",
        "nul",
        "loop",
        "long",
    ],
)
def test_external_weights_elsewhere_are_refused(write, tmp_path, location, words, carrier):
    """No model reads a file outside its folder, wherever in the graph the tensor is; missing data is told."""
    folder = write(b"\0" * 64, "model.data").parent
    (tmp_path / "secret.data").write_bytes(b"\0" * 64)
    (folder / "below").mkdir()
    (folder / "link.data").symlink_to(tmp_path / "secret.data")
    (folder / "link").symlink_to(tmp_path)
    (folder / "loop.data").symlink_to("loop.data")
    path = write(carriers(external(location=location.format(folder=folder), length=16))[carrier])
    refused(path, "'weight'", words)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"length": 16, "offset": 1}, "too short for weight 'weight': 16 of 17 bytes"),
        ({"length": 17}, "too short"),
        ({"offset": 1}, "too short"),
        ({"offset": 10**30}, "too short"),
        ({"length": 12}, "12 bytes from 0"),
        ({"offset": -4, "length": 16}, "16 bytes from -4"),
        ({"offset": 16, "length": -16}, "-16 bytes from 16"),
        ({"offset": "abc", "length": 16}, "'abc'"),
        ({"offset": "0", "length": "1e1"}, "'1e1'"),
        ({"offset": "", "length": 16}, "says wrongly"),
    ],
    ids=["offset", "length", "bare", "huge", "shorter-than-dims", "offset<0", "length<0", "text", "float", "empty"],
)
def test_external_weights_of_a_wrong_extent_are_refused(write, facts, words):
    """Offset and length must be numbers, not negative, hold the whole tensor and lie within the file."""
    write(b"\0" * 16, "model.data")
    path = write(weighted(external(location="model.data", **facts)))
    refused(path, words)


@pytest.mark.parametrize(
    ("data_type", "size"), [(FLOAT, 16), (HALF, 8), (TensorProto.BFLOAT16, 8), (TensorProto.DOUBLE, 32), (INT64, 32)]
)
def test_a_data_file_is_as_long_as_its_elements_need(write, data_type, size):
    """Where the entry has no length, the element type and the dimensions say it."""
    path = write(weighted(external(location="model.data", data_type=data_type)))
    write(b"\0" * size, "model.data")
    assert inspect(path)
    write(b"\0" * (size - 1), "model.data")
    refused(path, "too short")


def test_a_weight_without_a_location_is_refused(write):
    """An entry that names no file at all is refused like a missing file."""
    path = write(weighted(external(length=16)))
    refused(path, "is missing")


# ---- weights inside the file, which are left there


def large(kind):
    """An array past the limit, and the tensor of ONNX."""
    array = np.random.default_rng(1).integers(-9, 9, (2, LARGE)).astype(helper.tensor_dtype_to_np_dtype(kind))
    return array, numpy_helper.from_array(array, "weight")


@pytest.mark.parametrize("kind", [FLOAT, HALF, INT64, TensorProto.BFLOAT16, TensorProto.BOOL, TensorProto.UINT16])
def test_large_weights_stay_in_the_file(write, kind):
    """The header is small, and the values are found where it says, small ones among them in the header itself."""
    array, tensor = large(kind)
    model = weighted(tensor)
    small = numpy_helper.from_array(np.arange(3, dtype=np.float32), "small")
    model.graph.initializer.append(small)
    path = write(model)
    header = read_header(path)
    assert header.ByteSize() < 1000
    assert [entry.name for entry in header.graph.initializer] == ["weight", "small"]
    for tensor, wanted in zip(header.graph.initializer, (array, np.arange(3)), strict=True):
        found = weight(tensor, path.parent)
        assert found.shape == wanted.shape
        assert np.array_equal(found.astype(np.float64), wanted.astype(np.float64))
    assert external_files(header, path) == ()


def test_they_are_read_through_a_link(write, tmp_path):
    """As the hub's cache gives files; the file that the link leads to has another name."""
    array, tensor = large(FLOAT)
    link = tmp_path / "link.onnx"
    link.symlink_to(write(weighted(tensor)))
    assert inspect(link).label == "link"
    (entry,) = read_header(link).graph.initializer
    assert np.array_equal(weight(entry, link.parent), array)


def test_everything_but_the_weights_is_as_onnx_reads_it(write):
    """Another order of fields, unknown ones, metadata: the same message."""
    _, tensor = large(FLOAT)
    model = weighted(tensor)
    model.metadata_props.add(key="a", value="b")
    model.graph.doc_string = "text"
    tail = onnx.ModelProto(graph=onnx.GraphProto(name="graph"), domain="x").SerializeToString() + b"\xa8\x3e\x05"
    path = write(model.SerializeToString() + tail)
    ours, theirs = read_header(path), onnx.load(path)
    for each in (ours, theirs):
        del each.graph.initializer[:]
    assert ours == theirs


def test_a_weight_whose_file_is_gone_is_an_error(write):
    """After the model was looked at."""
    path = write(weighted(large(FLOAT)[1]))
    (entry,) = read_header(path).graph.initializer
    path.unlink()
    with pytest.raises(ModelError, match=r"cannot read weight 'weight': .*No such file.* -> get or export it again"):
        weight(entry, path.parent)

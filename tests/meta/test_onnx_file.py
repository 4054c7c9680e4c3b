"""Model files: what is taken, and a refusal of one line with the path and a hint for everything else."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fixtures.errors import ModelError
from fixtures.nfnet.store import built_model
from fixtures.onnx_file import inspect, read_header, resolve_input_shape
from fixtures.precisions import precision
from fixtures.records import ModelSpec, TensorInfo
from tests.meta.ordinary import ordinary_user

FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64
IMAGE = ("inputs", FLOAT, ["batch", 3, 32, 32])
SCORES = ("logits", FLOAT, ["batch", 3])
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89"


def model_of(inputs=(IMAGE,), outputs=(SCORES,), nodes=None, weights=(), sparse=()):
    """Make a model that is only read, never run: its operator does not exist."""
    if nodes is None:
        nodes = [helper.make_node("Custom", [name for name, *_ in inputs], ["logits"])]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        initializer=list(weights),
        sparse_initializer=list(sparse),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


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


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A real model file of the suite's own builder."""
    spec = ModelSpec(variant="test_nfnet", size=(32, 32))
    return built_model(spec, precision("fp32"), tmp_path_factory.mktemp("built"))


def refusal(action, path, *words):
    """Return the ModelError of ``action``, having checked that it is one line with the path, the words and a hint."""
    with pytest.raises(ModelError) as caught:
        action()
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert text.startswith(f"{path}: ")
    assert caught.value.hint
    assert text.endswith(f" -> {caught.value.hint}")
    for word in words:
        assert word in text
    return caught.value


# ---- files that are no model


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"This is not a model.\n" * 20, "not an ONNX"),
        (b"<html><body>404: not found</body></html>", "not an ONNX"),
        (PNG, "not an ONNX"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "not an ONNX"),
        (b"\0" * 64, "not an ONNX"),
        (onnx.ModelProto(ir_version=8, producer_name="x").SerializeToString(), "holds no graph"),
    ],
    ids=["empty", "text", "html", "png", "lfs-pointer", "zeros", "no-graph"],
)
@pytest.mark.parametrize("name", ["model.onnx", "model.json", "model.textproto", "model.onnxtxt", "model"])
def test_other_files_are_refused_whatever_their_name(write, content, words, name):
    """A file that holds no model is refused by its content, also where its name makes onnx expect a text form."""
    path = write(content, name)
    refusal(lambda: read_header(path), path, words)


def test_a_missing_path_a_folder_and_an_impossible_name_are_refused(tmp_path):
    """What is no file is told apart: missing, a folder, below a file, a dead link, longer than file systems allow."""
    dead = tmp_path / "dead.onnx"
    dead.symlink_to(tmp_path / "gone.onnx")
    file = tmp_path / "file"
    file.write_bytes(b"x")
    refusal(lambda: read_header(tmp_path / "no.onnx"), tmp_path / "no.onnx", "no such model file")
    refusal(lambda: read_header(tmp_path), tmp_path, "a model is a file")
    refusal(lambda: read_header(file / "model.onnx"), file / "model.onnx", "no such model file")
    refusal(lambda: read_header(dead), dead, "no such model file")
    endless = tmp_path / ("x" * 300)
    refusal(lambda: read_header(endless), endless)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
def test_an_unreadable_file_is_refused():
    """A file that this user may not read says so, and is not taken for a broken one."""
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    try:
        folder.chmod(0o755)
        path = folder / "model.onnx"
        path.write_bytes(model_of().SerializeToString())
        path.chmod(0)
        with ordinary_user():
            refusal(lambda: read_header(path), path, "Permission denied", "permissions")
    finally:
        shutil.rmtree(folder)


def pieces(content):
    """Offsets at which a top-level protobuf field ends; all of a model's are varints or length-delimited."""
    ends, at = [], 0
    while at < len(content):
        tag, at = varint(content, at)
        value, at = varint(content, at)
        at += value if tag & 7 == 2 else 0
        ends.append(at)
    return ends


def varint(content, at):
    """Read one of protobuf's numbers and where it ends."""
    value = shift = 0
    while True:
        value |= (content[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if content[at - 1] < 128:
            return value, at


@pytest.mark.parametrize("part", [1, 50, 200, 0.01, 0.1, 0.5, 0.9, 0.999, -1])
def test_a_model_cut_short_is_refused(write, built, part):
    """A real model that lost its end, anywhere, is refused: by a number of bytes or by a fraction."""
    content = built.read_bytes()
    path = write(content[: int(part * len(content)) if isinstance(part, float) else part])
    refusal(lambda: inspect(path), path, "cut short")


def test_a_model_cut_between_two_fields_is_refused(write, built):
    """The builder writes a weight a piece: a cut between two of them still parses, and yet it is noticed."""
    content = built.read_bytes()
    ends = pieces(content)
    assert ends[-1] == len(content)
    assert len(ends) > 40
    for end in ends[:-1]:
        path = write(content[:end])
        refusal(lambda path=path: inspect(path), path, "cut short")


def test_an_ordinary_export_cut_behind_its_graph_is_refused(write):
    """A model saved in one piece ends with its operator set; without it the file is not whole."""
    content = model_of().SerializeToString()
    *_, end, _ = pieces(content)
    path = write(content[:end])
    assert onnx.load(path).graph.node
    refusal(lambda: inspect(path), path, "no operator set")


# ---- graphs that are no image classifier


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ((), (SCORES,), "one input, it has 0 (none)"),
        ((IMAGE, ("mask", FLOAT, [1])), (SCORES,), "it has 2 (inputs: float32[batch, 3, 32, 32], mask: float32[1])"),
        ((IMAGE,), (), "no output"),
        ((("x", FLOAT, ["batch", 3, 32]),), (SCORES,), "four dimensions, this is x: float32[batch, 3, 32]"),
        ((("x", FLOAT, []),), (SCORES,), "four dimensions, this is x: float32[]"),
        ((("x", FLOAT, None),), (SCORES,), "four dimensions"),
        ((("x", INT64, [1, 3, 32, 32]),), (SCORES,), "float32 or float16, this is x: int64[1, 3, 32, 32]"),
        ((("x", TensorProto.STRING, [1, 3, 32, 32]),), (SCORES,), "this is x: string"),
        ((("x", 99, [1, 3, 32, 32]),), (SCORES,), "this is x: type99"),
        ((("x", FLOAT, [1, "c", 32, 32]),), (SCORES,), "channels are not fixed"),
        ((("x", FLOAT, [1, 0, 32, 32]),), (SCORES,), "channels are not fixed"),
        ((("x", FLOAT, [1, None, 32, 32]),), (SCORES,), "channels are not fixed"),
    ],
    ids=["none", "two", "no-output", "rank3", "rank0", "no-rank", "int64", "string", "unknown", "c", "c0", "c-open"],
)
def test_other_models_are_refused(write, inputs, outputs, words):
    """The message names the fault, and shows the input with its type and shape."""
    path = write(model_of(inputs, outputs))
    refusal(lambda: inspect(path), path, words, "classification model")


def test_a_sequence_as_input_is_refused(write):
    """An input that is no tensor is refused like one of a wrong rank."""
    model = model_of()
    kind = helper.make_tensor_type_proto(FLOAT, None)
    model.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(kind))
    path = write(model)
    refusal(lambda: inspect(path), path)


def test_a_hundred_inputs_still_make_a_short_message(write):
    """A message stays readable whatever the model."""
    path = write(model_of([(f"input_{i}", FLOAT, ["batch", 3, 32, 32]) for i in range(100)]))
    assert len(str(refusal(lambda: inspect(path), path, "it has 100"))) < 1500


@pytest.mark.parametrize("name", ["inputs", "pixel_values", "input.1", "x:0"])
@pytest.mark.parametrize(("kind", "dtype"), [(FLOAT, "float32"), (HALF, "float16")])
def test_an_image_classifier_is_described(write, name, kind, dtype):
    """Any name of the input will do; symbols stay symbols."""
    path = write(model_of([(name, kind, ["batch", 3, 32, 48])]), "some.model.onnx")
    model = inspect(path, macs=5)
    assert model.input == TensorInfo(name, dtype, ("batch", 3, 32, 48))
    assert model.outputs == (TensorInfo("logits", "float32", ("batch", 3)),)
    assert (model.path, model.label, model.macs) == (path, "some.model", 5)
    assert inspect(path, label="mine").label == "mine"


def test_the_builders_own_model_is_described(built):
    """What the suite builds passes its own check."""
    assert inspect(built).input == TensorInfo("inputs", "float32", ("batch", 3, 32, 32))


def half_weight(*nodes):
    """A model with a half weight ``w`` and these nodes."""
    weight = numpy_helper.from_array(np.ones(4, np.float16), "w")
    made = [helper.make_node(kind, inputs, [output], **facts) for kind, inputs, output, facts in nodes]
    return model_of(nodes=made, weights=[weight])


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (model_of(), "fp32"),
        (model_of([("inputs", HALF, ["batch", 3, 32, 32])]), "fp16"),
        (model_of(outputs=[("logits", HALF, ["batch", 3])]), "fp16"),
        (half_weight(("Cast", ["inputs"], "narrow", {"to": HALF}), ("Custom", ["narrow", "w"], "logits", {})), "fp16"),
        (half_weight(("Custom", ["inputs", "w"], "logits", {})), "fp16"),
        (half_weight(("Cast", ["w"], "wide", {"to": FLOAT}), ("Custom", ["inputs", "wide"], "logits", {})), "fp32"),
        (
            half_weight(
                ("Identity", ["w"], "same", {}),
                ("Cast", ["same"], "wide", {"to": FLOAT}),
                ("Custom", ["inputs", "wide"], "logits", {}),
            ),
            "fp32",
        ),
        (half_weight(("Cast", ["inputs"], "odd", {}), ("Custom", ["odd"], "logits", {})), "fp32"),
        (
            half_weight(
                ("Constant", [], "c", {"value": numpy_helper.from_array(np.ones(4, np.float16))}),
                ("Custom", ["inputs", "c"], "logits", {}),
            ),
            "fp16",
        ),
    ],
    ids=[
        "float32",
        "input",
        "output",
        "cast",
        "weight",
        "weight that is cast",
        "weight that is cast late",
        "cast of nobody's",
        "constant",
    ],
)
def test_the_precision_is_that_of_what_computes(write, model, expected):
    """A weight that is only kept in half and cast before its use rounds nothing."""
    assert inspect(write(model)).precision == expected


def test_weights_listed_among_the_inputs_are_no_inputs(write):
    """Files of the first ONNX releases list their weights among the inputs; sparse ones are weights too."""
    dense = numpy_helper.from_array(np.ones(4, np.float32), "dense")
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    sparse = onnx.SparseTensorProto(values=values, indices=indices, dims=[4])
    inputs = [IMAGE, ("dense", FLOAT, [4]), ("sparse", FLOAT, [4])]
    path = write(model_of(inputs, weights=[dense], sparse=[sparse]))
    assert inspect(path).input.name == "inputs"


def test_an_optional_input_that_is_left_out_is_no_loss(write):
    """Empty names stand for optional inputs of a node."""
    path = write(model_of(nodes=[helper.make_node("Custom", ["inputs", "", ""], ["logits"])]))
    assert inspect(path).input.name == "inputs"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (["batch", 3, "h", "w"], ("batch", 3, "h", "w")),
        ([0, 3, 0, -1], ("dim0", 3, "dim2", "dim3")),
        ([None, 3, None, 32], ("dim0", 3, "dim2", 32)),
    ],
    ids=["symbols", "zero-or-less", "nothing"],
)
def test_lengths_that_are_open_become_symbols(write, shape, expected):
    """Exporters leave a length open with a symbol, with 0, with -1, or with nothing at all."""
    assert inspect(write(model_of([("x", FLOAT, shape)]))).input.shape == expected


# ---- the shape of a run


@pytest.mark.parametrize(
    ("shape", "batch", "size", "expected"),
    [
        (["batch", 3, 32, 48], 5, None, (5, 3, 32, 48)),
        (["batch", 3, 32, 48], 5, (32, 48), (5, 3, 32, 48)),
        ([2, 1, "h", "w"], 2, (32, 48), (2, 1, 32, 48)),
        ([0, 3, 0, 32], 7, (64, 32), (7, 3, 64, 32)),
        ([0, 3, -1, -1], 1, (9, 8), (1, 3, 9, 8)),
    ],
)
def test_symbols_are_filled_in(write, shape, batch, size, expected):
    """Batch and image size come from the options where the model leaves them open."""
    assert resolve_input_shape(inspect(write(model_of([("x", FLOAT, shape)]))), batch, size) == expected


@pytest.mark.parametrize(
    ("shape", "batch", "size", "words"),
    [
        ([4, 3, 32, 32], 8, None, ("batches of 4 only, not 8", "--batch 4")),
        (["n", 3, 32, 32], 1, (64, 64), ("images of 32x32 only, not 64", "leave --image-size out")),
        (["n", 3, 32, 32], 1, (32, 64), ("images of 32x32 only, not 32x64",)),
        (["n", 3, "h", 32], 1, (32, 64), ("images of hx32 only, not 32x64",)),
        (["n", 3, "h", "w"], 1, None, ("leaves the image size open", "n, 3, h, w", "--image-size")),
        (["n", 3, 0, 32], 1, None, ("leaves the image size open", "--image-size")),
    ],
)
def test_a_run_that_the_model_cannot_take_is_refused(write, shape, batch, size, words):
    """Batch or image size against what the model fixes, or a size that nobody gave."""
    path = write(model_of([("x", FLOAT, shape)]))
    refusal(lambda: resolve_input_shape(inspect(path), batch, size), path, *words)

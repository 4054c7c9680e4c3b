"""ONNX files: image classifiers are described; any other file is refused in one line with its path and a hint."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fixtures.errors import ModelError
from fixtures.nfnet.store import built_model
from fixtures.onnx_file import inspect, load_model, resolve_input_shape
from fixtures.precisions import precision
from fixtures.records import ModelSpec, TensorInfo
from tests.meta.tiny_models import IMAGE, SCORES, model_of
from tests.meta.unprivileged import unprivileged_user

FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A model file of the suite's builder."""
    spec = ModelSpec(variant="test_nfnet", size=(32, 32))
    return built_model(spec, precision("fp32"), tmp_path_factory.mktemp("built"))


def check_refused(action, path, *words):
    """Check that ``action`` raises a ModelError of one line with the path, the words and a hint; return the text."""
    with pytest.raises(ModelError) as caught:
        action()
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert text.startswith(f"{path}: ")
    assert caught.value.hint
    assert text.endswith(f" -> {caught.value.hint}")
    for word in words:
        assert word in text
    return text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no graph"),
        (b"This is not a model.\n" * 20, "not an ONNX file"),
        (b"<html><body>404: not found</body></html>", "not an ONNX"),
        (PNG, "not an ONNX"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "not an ONNX"),
        (b"\0" * 64, "not an ONNX"),
        (onnx.ModelProto(ir_version=8, producer_name="x").SerializeToString(), "no graph"),
    ],
    ids=["empty", "text", "html", "png", "lfs-pointer", "zeros", "no-graph"],
)
@pytest.mark.parametrize("name", ["model.onnx", "model.json", "model.textproto", "model.onnxtxt", "model"])
def test_file_that_is_not_a_model_is_refused(write, content, words, name):
    """By its content, whatever its name; onnx reads some endings as text formats."""
    path = write(content, name)
    check_refused(lambda: load_model(path), path, words)


def test_path_without_a_file_is_refused(tmp_path):
    """Missing, a folder, below a file, a dead link, a name longer than file systems allow."""
    dead = tmp_path / "dead.onnx"
    dead.symlink_to(tmp_path / "gone.onnx")
    file = tmp_path / "file"
    file.write_bytes(b"x")
    check_refused(lambda: load_model(tmp_path / "no.onnx"), tmp_path / "no.onnx", "no such model file")
    check_refused(lambda: load_model(tmp_path), tmp_path, "no such model file")
    check_refused(lambda: load_model(file / "model.onnx"), file / "model.onnx", "no such model file")
    check_refused(lambda: load_model(dead), dead, "no such model file")
    endless = tmp_path / ("x" * 300)
    check_refused(lambda: load_model(endless), endless)


def test_unreadable_file_is_refused(public_folder):
    path = public_folder / "model.onnx"
    path.write_bytes(model_of().SerializeToString())
    path.chmod(0)
    with unprivileged_user():
        check_refused(lambda: load_model(path), path, "Permission denied")


@pytest.mark.parametrize("part", [1, 50, 200, 0.01, 0.1, 0.5, 0.9, 0.999, -1])
def test_truncated_model_is_refused(write, built, part):
    content = built.read_bytes()
    path = write(content[: int(part * len(content)) if isinstance(part, float) else part])
    check_refused(lambda: inspect(path), path, "truncated")


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ((), (SCORES,), "one input, it has 0 (none)"),
        ((IMAGE, ("mask", FLOAT, [1])), (SCORES,), "it has 2 (inputs: float32[batch, 3, 32, 32], mask: float32[1])"),
        ((IMAGE,), (), "no output"),
        ((("x", FLOAT, ["batch", 3, 32]),), (SCORES,), "four dimensions, this is x: float32[batch, 3, 32]"),
        ((("x", FLOAT, []),), (SCORES,), "four dimensions, this is x: float32[]"),
        ((("x", FLOAT, None),), (SCORES,), "four dimensions"),
        ((("x", INT64, [1, 3, 32, 32]),), (SCORES,), "uint8, int8, int32, this is x: int64[1, 3, 32, 32]"),
        ((("x", TensorProto.STRING, [1, 3, 32, 32]),), (SCORES,), "this is x: string"),
        ((("x", 99, [1, 3, 32, 32]),), (SCORES,), "this is x: type99"),
        ((("x", FLOAT, [1, "c", 32, 32]),), (SCORES,), "channels are not fixed"),
        ((("x", FLOAT, [1, 0, 32, 32]),), (SCORES,), "channels are not fixed"),
        ((("x", FLOAT, [1, None, 32, 32]),), (SCORES,), "channels are not fixed"),
    ],
    ids=["none", "two", "no-output", "rank3", "rank0", "no-rank", "int64", "string", "unknown", "c", "c0", "c-open"],
)
def test_model_that_is_not_an_image_classifier_is_refused(write, inputs, outputs, words):
    """The message has the reason and the input with its type and shape."""
    path = write(model_of(inputs, outputs))
    check_refused(lambda: inspect(path), path, words)


def test_sequence_as_input_is_refused(write):
    model = model_of()
    kind = helper.make_tensor_type_proto(FLOAT, None)
    model.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(kind))
    path = write(model)
    check_refused(lambda: inspect(path), path)


@pytest.mark.parametrize("name", ["inputs", "pixel_values", "input.1", "x:0"])
@pytest.mark.parametrize(("kind", "dtype"), [(FLOAT, "float32"), (HALF, "float16")])
def test_image_classifier_is_described(write, name, kind, dtype):
    """The input may have any name; symbols stay symbols."""
    path = write(model_of([(name, kind, ["batch", 3, 32, 48])]), "some.model.onnx")
    model = inspect(path)
    assert model.input == TensorInfo(name, dtype, ("batch", 3, 32, 48))
    assert model.outputs == (TensorInfo("logits", "float32", ("batch", 3)),)
    assert (model.path, model.label) == (path, "some.model")
    assert inspect(path, label="mine").label == "mine"


def half_weight(*nodes):
    """Return a model with a half weight ``w`` and these nodes."""
    weight = numpy_helper.from_array(np.ones(4, np.float16), "w")
    made = [helper.make_node(kind, inputs, [output], **facts) for kind, inputs, output, facts in nodes]
    return model_of(nodes=made, initializer=[weight])


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
                ("Constant", [], "c", {"value": numpy_helper.from_array(np.ones(4, np.float16))}),
                ("Custom", ["inputs", "c"], "logits", {}),
            ),
            "fp16",
        ),
    ],
    ids=["float32", "input", "output", "cast", "weight", "cast weight", "constant"],
)
def test_precision_is_that_of_the_computation(write, model, expected):
    """A half weight that is cast to float32 before its use rounds nothing."""
    assert inspect(write(model)).precision == expected


def test_weights_listed_among_the_inputs_are_ignored(write):
    """Files of early ONNX releases do that; sparse weights too."""
    dense = numpy_helper.from_array(np.ones(4, np.float32), "dense")
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    sparse = onnx.SparseTensorProto(values=values, indices=indices, dims=[4])
    inputs = [IMAGE, ("dense", FLOAT, [4]), ("sparse", FLOAT, [4])]
    path = write(model_of(inputs, initializer=[dense], sparse_initializer=[sparse]))
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
def test_unknown_lengths_become_symbols(write, shape, expected):
    """Exporters write a symbol, 0, -1 or nothing."""
    assert inspect(write(model_of([("x", FLOAT, shape)]))).input.shape == expected


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
def test_symbols_are_replaced_by_batch_and_size(write, shape, batch, size, expected):
    assert resolve_input_shape(inspect(write(model_of([("x", FLOAT, shape)]))), batch, size) == expected


@pytest.mark.parametrize(
    ("shape", "batch", "size", "words"),
    [
        ([4, 3, 32, 32], 8, None, ("not 8", "--batch 4")),
        (["n", 3, 32, 32], 1, (64, 64), ("32x32", "not 64", "--image-size")),
        (["n", 3, 32, 32], 1, (32, 64), ("32x32", "not 32x64")),
        (["n", 3, "h", 32], 1, (32, 64), ("hx32", "not 32x64")),
        (["n", 3, "h", "w"], 1, None, ("n, 3, h, w", "--image-size")),
        (["n", 3, 0, 32], 1, None, ("--image-size",)),
    ],
)
def test_input_shape_that_the_model_does_not_allow_is_refused(write, shape, batch, size, words):
    """Another batch or image size than the model fixes, or no image size."""
    path = write(model_of([("x", FLOAT, shape)]))
    check_refused(lambda: resolve_input_shape(inspect(path), batch, size), path, *words)

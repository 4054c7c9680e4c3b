"""The binding of MIGraphX's C library, on the real library."""

import contextlib
import ctypes.util
import os
import signal

import numpy as np
import pytest
from onnx import TensorProto, helper

from fixtures.engines import capture
from fixtures.engines.capture import captured
from fixtures.engines.migraphx import c_library as migraphx_c
from fixtures.engines.migraphx.find import locate
from fixtures.errors import EngineUnavailable
from fixtures.plugin.failures import unavailable

real = pytest.mark.migraphx


@pytest.fixture(scope="module")
def library(pytestconfig):
    """The C library of this machine."""
    try:
        found = locate(pytestconfig.option.migraphx)
    except EngineUnavailable as error:
        unavailable(pytestconfig, "migraphx:ref", error)
    if found.kind != "c library":
        pytest.skip(f"found a {found.kind}: name the C library with --migraphx")
    return migraphx_c.Library(found.path)


def onnx_bytes(*nodes, shape=(2, 3), outputs=("y",), kind=TensorProto.FLOAT):
    """A model with the input ``x``."""
    values = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
    graph = helper.make_graph(nodes, "small", [helper.make_tensor_value_info("x", kind, shape)], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return model.SerializeToString()


def compiled(library, data):
    """A program for the ref target."""
    program = library.parse_onnx_buffer(data)
    with library.get_target("ref") as target:
        program.compile(target)
    return program


RELU = helper.make_node("Relu", ["x"], ["y"])
TRANSPOSE = helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])
X = np.array([[-1, 2, 3], [4, -5, 6]], np.float32)


@real
def test_numbers_of_the_types_are_learnt(library):
    """Every type that numpy has gets its name, each its own number."""
    names = set(library.type_names.values())
    assert {"float_type", "half_type", "double_type", "int8_type", "int64_type", "bool_type"} <= names
    assert len(names) == len(library.type_names) == len(migraphx_c.PROBED)


@real
@pytest.mark.parametrize("kind", ["float32", "float16", "float64", "int32"])
def test_runs_in_the_type_of_the_file(library, kind):
    """Inputs and outputs have the file's type."""
    data = onnx_bytes(helper.make_node("Add", ["x", "x"], ["y"]), kind=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
    (result,) = compiled(library, data).run({"x": X.astype(kind)})
    assert np.asarray(result).dtype == kind
    assert np.array_equal(result, 2 * X.astype(kind))


@real
def test_outputs_with_strides_are_read_right(library):
    """A transposed output may be a view of the input's memory."""
    (result,) = compiled(library, onnx_bytes(TRANSPOSE)).run({"x": X})
    assert np.array_equal(result, X.T)


@real
def test_results_outlive_run_and_program(library):
    """What was returned is a copy: neither another run nor closing changes it."""
    program = compiled(library, onnx_bytes(RELU))
    (first,) = program.run({"x": X})
    (second,) = program.run({"x": 2 * X})
    program.close()
    program.close()
    assert np.array_equal(first, np.maximum(X, 0))
    assert np.array_equal(second, np.maximum(2 * X, 0))


@real
@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "Parameter not found: x"),
        ({"x": X[:1]}, "Incorrect shape"),
        ({"x": X.astype(np.float64)}, "Incorrect shape"),
        ({"x": np.asfortranarray(X)}, "in C order"),
        ({"x": X.astype(">f4")}, "Incorrect shape"),
    ],
)
def test_wrong_inputs_never_reach_the_library(library, feeds, message):
    """They would be read as if they were right, or abort the process."""
    with pytest.raises(RuntimeError, match=message):
        compiled(library, onnx_bytes(RELU)).run(feeds)


@real
def test_reasons_are_caught_not_printed(library, capfd):
    """MIGraphX writes them to standard error; they belong into the exception."""
    with pytest.raises(RuntimeError, match=r"(?i)NoSuchOperator"):
        library.parse_onnx_buffer(onnx_bytes(helper.make_node("NoSuchOperator", ["x"], ["y"])))
    assert capfd.readouterr().err == ""


@real
@pytest.mark.parametrize(
    ("data", "words"), [(b"", "empty"), (b"not a model", "Failed reading"), (b"\x08\x07\x12", "Failed reading")]
)
def test_garbage_is_an_error(library, data, words):
    """Bytes that are no model raise, the process lives."""
    with pytest.raises(RuntimeError, match=words):
        compiled(library, data)


@real
def test_a_program_prints_its_instructions(library, capfd):
    """Into a string, not onto the terminal."""
    text = str(compiled(library, onnx_bytes(RELU)))
    assert "ref::" in text
    assert "float_type" in text
    assert capfd.readouterr().out == ""


@real
def test_unknown_target_names_the_loaders_reason(library):
    """A target is a library of its own."""
    with pytest.raises(RuntimeError, match="nosuch"):
        library.get_target("nosuch")


def test_foreign_library_is_refused_with_words():
    """A library without MIGraphX's functions says so instead of crashing."""
    name = ctypes.util.find_library("c") or "libc.so.6"
    with pytest.raises(RuntimeError, match="no function migraphx_onnx_options_create"):
        migraphx_c.Library(name).parse_onnx_buffer(b"")


def test_missing_library_is_an_oserror(tmp_path):
    """As the loader says it."""
    with pytest.raises(OSError, match="cannot open shared object file"):
        migraphx_c.Library(tmp_path / "libmigraphx_c.so")


def test_captured_output_is_given_back():
    """Text of the block is caught, file descriptor 2 works again after an exception."""
    with contextlib.suppress(ZeroDivisionError), captured(2) as text:
        os.write(2, b"words of C++")
        raise ZeroDivisionError
    assert text.getvalue() == "words of C++"
    assert os.fstat(2)


DIES = """
import os
from fixtures.engines.capture import captured
with captured(2):
    os.write(2, b'told as ever')
with captured(1), captured(2):
    os.write(2, b'last words')
    {end}
"""


@pytest.mark.parametrize("end", ["os.abort()", "os.kill(os.getpid(), 9)", "os._exit(3)"])
def test_a_process_that_ends_meanwhile_loses_no_words(runner, tmp_path, end):
    """Debian's MIGraphX has its assertions on: what it says last is all that there is. No file is left of it."""
    done = runner.python("-c", DIES.format(end=end), env={"TMPDIR": str(tmp_path)})
    assert done.code in {-signal.SIGABRT, -signal.SIGKILL, 3}
    assert done.err == "last words"
    assert not list(tmp_path.iterdir())


def test_last_words_are_not_lost_in_pytests_own_capture(runner, tmp_path):
    """That ends with the process too."""
    plugin = tmp_path / "dying.py"
    plugin.write_text(
        "from fixtures.engines.onnxruntime.engine import OnnxRuntimeProgram\n"
        f"OnnxRuntimeProgram.run = lambda self, feeds: exec({DIES.format(end='os.abort()')!r}, {{}})\n"
    )
    done = runner.small("tests/conformance/test_agreement.py", "--precision", "fp32", "--batch", "1", plugin=plugin)
    assert done.code == -signal.SIGABRT
    assert "last words" in done.err


def test_without_a_shell_words_are_caught_all_the_same(monkeypatch):
    """Only those of a process that ends are lost."""
    monkeypatch.setattr(capture, "_watcher", capture.Watcher())
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: os.close(-1))
    with captured(2) as text:
        os.write(2, b"words")
    assert text.getvalue() == "words"

"""The binding of MIGraphX's C library, on the real library."""

import ctypes.util

import numpy as np
import pytest
from onnx import helper

from fixtures.engines.migraphx.c_library import Library
from fixtures.engines.migraphx.c_program import PROBED_TYPES, type_names
from fixtures.engines.migraphx.find import locate
from fixtures.errors import EngineUnavailable
from fixtures.plugin.failures import unavailable
from tests.meta.tiny_models import tiny_model

real = pytest.mark.migraphx
RELU = ("Relu", ("x",), ("y",), {})
TRANSPOSE = ("Transpose", ("x",), ("y",), {"perm": [1, 0]})
X = np.array([[-1, 2, 3], [4, -5, 6]], np.float32)


@pytest.fixture(scope="module")
def library(pytestconfig):
    """The C library of this machine."""
    try:
        found = locate(pytestconfig.option.migraphx)
    except EngineUnavailable as error:
        unavailable(pytestconfig, "migraphx:ref", error)
    if found.kind != "c library":
        pytest.skip(f"found a {found.kind}: give the C library with --migraphx")
    return Library(found.path)


def onnx_bytes(node, **options):
    """A model of one node."""
    return tiny_model(node, shape=X.shape, **options).SerializeToString()


def compiled(library, data):
    """A program for the ref target."""
    program = library.parse_onnx_buffer(data)
    with library.get_target("ref") as target:
        program.compile(target)
    return program


@real
def test_numbers_of_element_types_are_read_from_the_library(library):
    """Each type that numpy has gets its name and a number of its own."""
    names = type_names(library)
    assert {"float_type", "half_type", "double_type", "int8_type", "int64_type", "bool_type"} <= set(names.values())
    assert len(set(names.values())) == len(names) == len(PROBED_TYPES)


@real
@pytest.mark.parametrize("kind", ["float32", "float16", "float64", "int32"])
def test_program_runs_in_the_type_of_the_file(library, kind):
    """Inputs and outputs have it."""
    data = onnx_bytes(("Add", ("x", "x"), ("y",), {}), kind=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
    (result,) = compiled(library, data).run({"x": X.astype(kind)})
    assert np.asarray(result).dtype == kind
    assert np.array_equal(result, 2 * X.astype(kind))


@real
def test_strided_output_is_read_correctly(library):
    """A transposed output may be a view of the input's memory."""
    (result,) = compiled(library, onnx_bytes(TRANSPOSE)).run({"x": X})
    assert np.array_equal(result, X.T)


@real
def test_results_outlive_the_next_run_and_the_program(library):
    """They are copies; closing twice is safe."""
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
        ({"x": X[:1]}, r"float32\[1, 3\]"),
        ({"x": X.astype(np.float64)}, r"float64\[2, 3\]"),
        ({"x": np.asfortranarray(X)}, "in C order"),
        ({"x": X.astype(">f4")}, r"float32\[2, 3\]"),
    ],
    ids=["missing", "shape", "type", "layout", "byte order"],
)
def test_wrong_inputs_never_reach_the_library(library, feeds, message):
    """It would read them as if they were right, or abort the process."""
    with pytest.raises(RuntimeError, match=message):
        compiled(library, onnx_bytes(RELU)).run(feeds)


@real
def test_reason_is_in_the_exception_and_not_printed(library, capfd):
    """MIGraphX writes it to standard error."""
    with pytest.raises(RuntimeError, match="NoSuchOperator"):
        library.parse_onnx_buffer(onnx_bytes(("NoSuchOperator", ("x",), ("y",), {})))
    assert capfd.readouterr().err == ""


@real
@pytest.mark.parametrize(
    ("data", "message"), [(b"", "empty"), (b"not a model", "Failed reading"), (b"\x08\x07\x12", "Failed reading")]
)
def test_invalid_model_raises_instead_of_ending_the_process(library, data, message):
    """Compiling an empty program would be a segmentation fault."""
    with pytest.raises(RuntimeError, match=message):
        compiled(library, data)


@real
def test_printed_program_is_a_string(library, capfd):
    """Nothing is written to the terminal."""
    text = str(compiled(library, onnx_bytes(RELU)))
    assert "ref::" in text
    assert "float_type" in text
    assert capfd.readouterr().out == ""


@real
def test_unknown_target_has_the_loaders_reason(library):
    """A target is a library of its own."""
    with pytest.raises(RuntimeError, match="nosuch"):
        library.get_target("nosuch")


@real
@pytest.mark.parametrize("function", ["quantize_int8_options_create", "save", "load"])
def test_function_missing_in_an_old_library_is_named_when_called(library, tmp_path, function):
    """Not when the library is loaded."""

    class OldLibrary:
        """A library without one function."""

        def __getattr__(self, name):
            if name == f"migraphx_{function}":
                raise AttributeError(name)
            return getattr(library._library, name)

    old = Library(library.path)
    old._library = OldLibrary()
    program = old.parse_onnx_buffer(onnx_bytes(RELU))
    calls = {
        "quantize_int8_options_create": lambda: old.quantize_int8(program, old.get_target("ref"), [{"x": X}]),
        "save": lambda: old.save(program, str(tmp_path / "x.mxr")),
        "load": lambda: old.load(str(tmp_path / "x.mxr")),
    }
    with pytest.raises(RuntimeError, match=f"migraphx_{function}"):
        calls[function]()


def test_library_without_the_functions_is_an_error_not_a_crash():
    """Here the C library of the system."""
    name = ctypes.util.find_library("c") or "libc.so.6"
    with pytest.raises(RuntimeError, match="migraphx_onnx_options_create"):
        Library(name).parse_onnx_buffer(b"")


def test_missing_library_is_an_oserror(tmp_path):
    """With the loader's message, which names the file."""
    with pytest.raises(OSError, match=str(tmp_path)):
        Library(tmp_path / "libmigraphx_c.so")

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


@pytest.fixture
def compiled(library, tmp_path):
    """Compile a model of one node, or the bytes of a file, for the ref target."""

    def compiler(model, **options):
        path = tmp_path / "model.onnx"
        path.write_bytes(model if isinstance(model, bytes) else onnx_bytes(model, **options))
        program = library.parse_onnx(str(path))
        with library.get_target("ref") as target:
            program.compile(target)
        return program

    return compiler


def onnx_bytes(node, **options):
    """A file of one node."""
    return tiny_model(node, shape=X.shape, **options).SerializeToString()


@real
def test_numbers_of_element_types_are_read_from_the_library(library):
    """Each type that numpy has gets its name and a number of its own."""
    names = type_names(library)
    assert {"float_type", "half_type", "double_type", "int8_type", "int64_type", "bool_type"} <= set(names.values())
    assert len(set(names.values())) == len(names) == len(PROBED_TYPES)


@real
@pytest.mark.parametrize("kind", ["float32", "float16", "float64", "int32"])
def test_program_runs_in_the_type_of_the_file(compiled, kind):
    program = compiled(("Add", ("x", "x"), ("y",), {}), kind=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
    (result,) = program.run({"x": X.astype(kind)})
    assert np.asarray(result).dtype == kind
    assert np.array_equal(result, 2 * X.astype(kind))


@real
def test_results_outlive_the_next_run_and_the_program(compiled):
    program = compiled(RELU)
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
def test_wrong_inputs_never_reach_the_library(compiled, feeds, message):
    """It would read them as if they were right, or abort the process."""
    with pytest.raises(RuntimeError, match=message):
        compiled(RELU).run(feeds)


@real
def test_reason_is_in_the_exception_and_not_printed(compiled, capfd):
    """MIGraphX writes it to standard error."""
    with pytest.raises(RuntimeError, match="NoSuchOperator"):
        compiled(("NoSuchOperator", ("x",), ("y",), {}))
    assert capfd.readouterr().err == ""


@real
@pytest.mark.parametrize(
    ("data", "message"), [(b"", "empty"), (b"not a model", "Failed reading"), (b"\x08\x07\x12", "Failed reading")]
)
def test_invalid_model_raises_instead_of_ending_the_process(compiled, data, message):
    """Compiling an empty program would be a segmentation fault."""
    with pytest.raises(RuntimeError, match=message):
        compiled(data)


@real
@pytest.mark.parametrize("function", ["quantize_int8_options_create", "save", "load"])
def test_function_missing_in_an_old_library_is_named_when_called(library, tmp_path, function):
    class OldLibrary:
        """A library without one function."""

        def __getattr__(self, name):
            if name == f"migraphx_{function}":
                raise AttributeError(name)
            return getattr(library._library, name)

    old = Library(library.path)
    old._library = OldLibrary()
    (tmp_path / "relu.onnx").write_bytes(onnx_bytes(RELU))
    program = old.parse_onnx(str(tmp_path / "relu.onnx"))
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
        Library(name).parse_onnx("model.onnx")

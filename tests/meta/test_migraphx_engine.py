"""MIGraphX as an engine, on the real one with its ref target."""

import contextlib
import sys

import numpy as np
import pytest

from fixtures import precisions
from fixtures.engines.base import CompileRequest
from fixtures.engines.migraphx import engine as migraphx_engine
from fixtures.engines.migraphx import find as migraphx_find
from fixtures.engines.migraphx.program import reason
from fixtures.errors import CompileError, EngineUnavailable, ModelError, ParseError, RequestNotHonouredError, RunError
from fixtures.inputs import synthetic_images
from fixtures.nfnet import writer
from fixtures.nfnet.store import built_model
from fixtures.onnx_weights import data_path
from fixtures.precisions import precision
from fixtures.records import EngineOptions
from fixtures.reference.arithmetic import arithmetic
from fixtures.reference.evaluator import GraphEvaluator
from tests.meta.caching_engine import SHAPE, SPEC
from tests.meta.tiny_models import saved

real = pytest.mark.migraphx
IMAGES = synthetic_images("migraphx", SHAPE)

MODULE = '''"""MIGraphX's C library with the names of the real Python module."""
from fixtures.engines.migraphx.c_library import Library

_library = Library({path!r})
parse_onnx, get_target = _library.parse_onnx, _library.get_target
quantize_fp16, quantize_int8 = _library.quantize_fp16, _library.quantize_int8
argument, save, load = _library.argument, _library.save, _library.load
__version__ = "9.8.7"
'''


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small network."""
    return built_model(SPEC, precision("fp32"), tmp_path_factory.mktemp("models"))


@pytest.fixture
def prepare(ref_engine, model):
    """Prepare a model, by default the small network at fp32; programs are closed after the test."""
    with contextlib.ExitStack() as programs:

        def preparer(path=model, shape=SHAPE, precision="fp32", options=None, engine=ref_engine):
            program = engine.prepare(CompileRequest(path, shape, precision, options or EngineOptions()))
            return programs.enter_context(contextlib.closing(program))

        yield preparer


def run(program, images=IMAGES):
    """The only output."""
    (output,) = program.run({program.inputs[0].name: images}).values()
    return output


@real
def test_external_weights_give_the_same_bits_as_embedded_ones(prepare, tmp_path, monkeypatch):
    """Large models have them; MIGraphX depends on the order of the fields that say where a weight is."""
    monkeypatch.setattr(writer, "EXTERNAL_ABOVE", 0)
    external = built_model(SPEC, precision("fp32"), tmp_path)
    assert data_path(external).stat().st_size > external.stat().st_size
    assert np.array_equal(run(prepare(external)), run(prepare()))


@real
@pytest.mark.parametrize(("name", "kind"), [("fp32", "float"), ("fp16", "half"), ("bf16", "bf16")])
def test_program_computes_in_the_requested_precision(prepare, name, kind):
    """Its instructions have that type, and results move by at least the rounding error."""
    program = prepare(precision=name)
    first, count = program.facts["instruction_types"].split(", ")[0].split()
    assert first == kind
    assert int(count) > 100
    assert min(program.costs.parse_seconds, program.costs.compile_seconds) > 0
    assert (program.costs.quantize_seconds is None) == (name == "fp32")
    if name != "fp32":
        exact = run(prepare())
        assert np.linalg.norm(run(program) - exact) / np.linalg.norm(exact) > precision(name).unit_roundoff


@real
@pytest.mark.parametrize(("requested", "applied"), [("fp16", "fp32"), ("bf16", "fp16"), ("fp32", "fp16")])
def test_other_precision_than_requested_is_detected(prepare, monkeypatch, requested, applied):
    """A quantisation that does nothing, another one, or an unrequested one."""
    function = migraphx_engine._function(applied)
    monkeypatch.setattr(migraphx_engine, "_function", lambda _: function)
    with pytest.raises(RequestNotHonouredError, match=f"requested {requested}"):
        prepare(precision=requested)


@real
def test_outputs_have_the_names_and_order_of_the_file(prepare, tmp_path):
    """MIGraphX does not store names; one output is a transposed view."""
    turn = ("Transpose", ("x",), ("turned",), {"perm": [0, 3, 2, 1]})
    nodes = [("Relu", ("x",), ("positive",), {}), turn, ("Neg", ("x",), ("negative",), {})]
    images = np.arange(-24, 24, dtype=np.float32).reshape(1, 3, 4, 4)
    expected = {"negative": -images, "turned": images.transpose(0, 3, 2, 1), "positive": np.maximum(images, 0)}
    path = saved(tmp_path / "three.onnx", *nodes, shape=("batch", 3, 4, 4), outputs=expected)
    results = prepare(path, images.shape).run({"x": images})
    assert list(results) == list(expected)
    assert all(np.array_equal(results[name], array) for name, array in expected.items())


@real
def test_wrong_input_and_closed_program_are_run_errors(prepare):
    """The shape that was given and the one that is taken are named. Closing twice is safe."""
    program = prepare()
    with pytest.raises(RunError, match=r"\[2, 3, 32, 32\].*\[1, 3, 32, 32\]"):
        run(program, np.zeros((2, 3, 32, 32), np.float32))
    program.close()
    program.close()
    with pytest.raises(RunError, match="closed"):
        run(program)


@real
def test_unknown_operator_is_a_parse_error_with_its_name(prepare, tmp_path):
    path = saved(tmp_path / "unknown.onnx", ("NoSuchOperator", ("x",), ("y",), {}), shape=("batch", 3, 4, 4))
    with pytest.raises(ParseError, match="NoSuchOperator") as caught:
        prepare(path, (1, 3, 4, 4))
    assert caught.value.where == str(path)


@real
def test_truncated_file_never_reaches_migraphx(prepare, model, tmp_path):
    """MIGraphX reads an empty program from it, and compiling that ends the process."""
    path = tmp_path / "truncated.onnx"
    path.write_bytes(model.read_bytes()[:5000])
    with pytest.raises(ModelError) as caught:
        prepare(path)
    assert caught.value.where == str(path)


@real
def test_unknown_precision_is_refused(ref_engine, prepare):
    assert "int3" in ref_engine.target.unsupported("int3")
    with pytest.raises(CompileError, match="int3"):
        prepare(precision="int3")


@real
def test_device_memory_needs_the_gpu_target(prepare):
    """The error names the target and the option, before anything is compiled."""
    with pytest.raises(CompileError, match="the ref target has no device memory") as caught:
        prepare(options=EngineOptions(offload_copy=False))
    assert "--no-offload-copy" in caught.value.hint


@real
@pytest.mark.usefixtures("ref_engine")
def test_missing_target_library_has_the_loaders_reason(pytestconfig):
    """A target is a library of its own."""
    with pytest.raises(EngineUnavailable, match="nosuch"):
        migraphx_engine.open_engine("nosuch", pytestconfig.option.migraphx)


@real
def test_python_module_is_served_by_the_same_class(prepare, tmp_path, pytestconfig, monkeypatch):
    """It is loaded from its file; its version and its missing functions are seen."""
    path = tmp_path / "migraphx.py"
    path.write_text(MODULE.format(path=str(migraphx_find.locate(pytestconfig.option.migraphx).path)))
    found = migraphx_find.Found("python module", path, None, frozenset({"ref"}))
    monkeypatch.setattr(migraphx_engine, "locate", lambda _: found)
    module = migraphx_engine.open_engine("ref")
    assert module.version == "9.8.7"
    assert module.target.unsupported("fp16") is None
    assert "quantize_bf16" in module.target.unsupported("bf16")
    assert np.array_equal(run(prepare(engine=module)), run(prepare()))
    assert "migraphx" not in sys.modules


def test_python_module_is_executed_once_for_all_targets(tmp_path, monkeypatch):
    """An extension module registers its types once a process."""
    path = tmp_path / "migraphx.py"
    path.write_text("runs = []\ndef get_target(name):\n    runs.append(name)\n    return runs\n")
    found = migraphx_find.Found("python module", path, None, frozenset())
    monkeypatch.setattr(migraphx_engine, "locate", lambda _: found)
    first, second = (migraphx_engine.open_engine(target) for target in ("ref", "cpu"))
    assert first._compiled_for is second._compiled_for
    assert first._compiled_for == ["ref", "cpu"]


def test_file_that_is_not_a_library_is_unavailable(tmp_path):
    path = tmp_path / "libmigraphx_c.so.3"
    path.write_bytes(b"\x7fELF not really")
    with pytest.raises(EngineUnavailable, match=str(path)) as caught:
        migraphx_engine.open_engine("ref", str(path))
    assert caught.value.where == "migraphx:ref"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "shortened"),
    [
        ("/build/src/onnx/parse.cpp:123: PARSE: Unknown operator: X", "PARSE: Unknown operator: X"),
        ("run: Parameter not found: x", "run: Parameter not found: x"),
        ("", "RuntimeError"),
    ],
)
def test_reason_loses_the_path_of_the_build_machine(text, shortened):
    """An empty message is replaced by the exception's name."""
    assert reason(RuntimeError(text)) == shortened


def test_message_of_megabytes_is_shortened():
    """Pybind prints the whole program into a TypeError."""
    error = RunError(reason(TypeError("run(): incompatible arguments " + "x" * 3_000_000)))
    assert len(str(error)) < 1000
    assert "characters]" in str(error)


def truncated(values, bits):
    """Round toward zero to so many significand bits."""
    mantissa, exponent = np.frexp(np.asarray(values, np.float64))
    return np.ldexp(np.trunc(np.ldexp(mantissa, bits)), exponent - bits)


@real
@pytest.mark.parametrize("channels", [1, 64])
def test_ref_truncates_products_and_sums_of_convolutions(prepare, tmp_path, channels):
    """Bit by bit: each product truncated, added in float64, the sum truncated. So ref has a tolerance of its own."""
    rng = np.random.default_rng(channels)
    weights = rng.standard_normal((4, channels, 1, 1)).astype(np.float16)
    images = rng.standard_normal((1, channels, 4, 4)).astype(np.float16)
    node = ("Conv", ("x", "w"), ("y",), {})
    path = saved(tmp_path / "conv.onnx", node, shape=images.shape, weights={"w": weights.astype(np.float32)})
    got = run(prepare(path, images.shape, "fp16"), images)
    products = weights[:, :, 0, 0].astype(float)[:, :, None] * images.reshape(channels, 16).astype(float)
    assert np.array_equal(got.reshape(4, 16), truncated(truncated(products, 11).sum(axis=1), 11))


@real
@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_ref_truncates_a_dense_product_before_and_after_its_bias(prepare, tmp_path, kind):
    """Bit by bit what the float64 reference computes for a dense layer."""
    rng = np.random.default_rng(5)
    images = rng.standard_normal((2, 4, 4, 4)).astype(np.float32)
    weights = {name: rng.standard_normal(size).astype(np.float32) for name, size in (("w", (300, 64)), ("b", 300))}
    nodes = [("Flatten", ("x",), ("rows",), {}), ("Gemm", ("rows", "w", "b"), ("y",), {"transB": 1})]
    path = saved(tmp_path / "dense.onnx", *nodes, shape=images.shape, weights=weights)
    got = run(prepare(path, images.shape, kind), images)
    rounding = arithmetic(kind, precisions.TRUNCATED)
    expected = GraphEvaluator(path).evaluate({"x": images.astype(float)}, None, rounding)
    assert np.array_equal(got.astype(float), expected["y"])

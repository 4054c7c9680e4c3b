"""MIGraphX as an engine, on the real one with its ref target."""

import contextlib
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fixtures.engines.migraphx import engine as migraphx_engine
from fixtures.engines.migraphx import find as migraphx_find
from fixtures.errors import CompileError, EngineUnavailable, ModelError, ParseError, RequestNotHonouredError, RunError
from fixtures.inputs import synthetic_images
from fixtures.nfnet import store
from fixtures.nfnet.store import built_model
from fixtures.onnx_file import data_path
from fixtures.plugin.failures import unavailable
from fixtures.precisions import Rounding, precision
from fixtures.records import Case, EngineOptions, ModelSpec
from fixtures.reference.arithmetic import arithmetic
from fixtures.reference.evaluator import GraphEvaluator
from fixtures.run.compare import compare
from fixtures.run.context import RunContext

real = pytest.mark.migraphx
SPEC = ModelSpec("test_nfnet", None, (32, 32), 3)
SHAPE = (1, 3, 32, 32)
HOST = EngineOptions()

MODULE = '''"""MIGraphX's C library under the module's name, as the real Python module offers it."""
from fixtures.engines.migraphx.c_library import Library

_library = Library({path!r})
parse_onnx, get_target = _library.parse_onnx, _library.get_target
quantize_fp16, quantize_int8 = _library.quantize_fp16, _library.quantize_int8
argument, save, load = _library.argument, _library.save, _library.load
__version__ = "9.8.7"
'''


@pytest.fixture(scope="module")
def engine(pytestconfig):
    """The ref target."""
    try:
        return migraphx_engine.open_engine("ref", pytestconfig.option.migraphx)
    except EngineUnavailable as error:
        unavailable(pytestconfig, "migraphx:ref", error)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small network."""
    return built_model(SPEC, precision("fp32"), tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def images():
    """One image."""
    return synthetic_images("migraphx", SHAPE)


def save(path, nodes, outputs, shape=("batch", 3, 4, 4), name="pixels", dims=None):
    """Write a model of one image input."""
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
    made = [helper.make_tensor_value_info(output, TensorProto.FLOAT, dims) for output in outputs]
    proto = helper.make_model(helper.make_graph(nodes, "small", given, made))
    proto.opset_import[0].version, proto.ir_version = 13, 8
    onnx.save(proto, path)
    return path


@real
def test_says_what_it_is(engine):
    """Name, version, and that ref cuts where others round."""
    assert engine.name == "migraphx:ref"
    assert engine.version.count(".") == 2
    assert (engine.rounding, engine.deterministic) == (Rounding.TRUNCATED, True)


@real
@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16"])
def test_agrees_with_onnxruntime(engine, tmp_path, name):
    """At every precision, through the pipeline."""
    del engine
    with RunContext.create(tmp_path) as context:
        verdict = compare(Case("migraphx:ref", SPEC, name, 2), context)
    assert verdict.passed, verdict
    assert verdict.units > 0


@real
def test_weights_beside_the_model_are_read_as_those_inside(engine, model, images, tmp_path, monkeypatch):
    """As large models have them; MIGraphX takes where a weight is by the order of what the file says of it."""
    monkeypatch.setattr(store, "BESIDE_ABOVE", 0)
    beside = built_model(SPEC, precision("fp32"), tmp_path, mapped=engine.maps_weights)
    assert data_path(beside).stat().st_size > beside.stat().st_size
    answers = []
    for path in (beside, model):
        with contextlib.closing(engine.prepare(path, shape=SHAPE, precision="fp32", options=HOST)) as program:
            answers.append(program.run({"inputs": images})["logits"])
    assert np.array_equal(*answers)


@real
def test_quantised_programs_differ_from_fp32(engine, model, images):
    """The precision that was asked for is the one that computes: results move by its rounding error, no less."""
    exact = engine.prepare(model, shape=SHAPE, precision="fp32", options=HOST).run({"inputs": images})["logits"]
    for name in ("fp16", "bf16"):
        rounded = engine.prepare(model, shape=SHAPE, precision=name, options=HOST).run({"inputs": images})["logits"]
        error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
        assert error > precision(name).unit_roundoff


@real
@pytest.mark.parametrize(("name", "kind"), [("fp32", "float"), ("fp16", "half"), ("bf16", "bf16")])
def test_instructions_of_the_precision_are_counted(engine, model, name, kind):
    """They are recorded with the program."""
    program = engine.prepare(model, shape=SHAPE, precision=name, options=HOST)
    first, count = program.facts["instruction_types"].split(", ")[0].split()
    assert first == kind
    assert int(count) > 100


@real
@pytest.mark.parametrize(("asked", "done"), [("fp16", None), ("bf16", "quantize_fp16"), ("fp32", "quantize_fp16")])
def test_another_precision_than_asked_is_an_error(engine, model, monkeypatch, asked, done):
    """A quantisation that does nothing, another one, or one in secret."""
    monkeypatch.setitem(migraphx_engine.QUANTIZE, asked, done)
    with pytest.raises(
        RequestNotHonouredError, match=f"asked for {asked}, but the compiled program's instructions make: "
    ):
        engine.prepare(model, shape=SHAPE, precision=asked, options=HOST)


@real
def test_inputs_are_converted(engine, model, images):
    """Float64, Fortran order, reversed strides: the program gets what it takes."""
    program = engine.prepare(model, shape=SHAPE, precision="fp32", options=HOST)
    (want,) = program.run({"inputs": images}).values()
    backwards = np.ascontiguousarray(images[..., ::-1])[..., ::-1]
    for fed in (images.astype(np.float64), np.asfortranarray(images), backwards, images.astype(">f4")):
        (got,) = program.run({"inputs": fed}).values()
        assert np.array_equal(got, want)


@real
def test_several_programs_live_side_by_side(engine, model):
    """Two batches at once, interleaved; results of earlier runs stay."""
    programs = {n: engine.prepare(model, shape=(n, *SHAPE[1:]), precision="fp32", options=HOST) for n in (1, 2)}
    images = {n: synthetic_images("side by side", (n, *SHAPE[1:])) for n in programs}
    first = {n: program.run({"inputs": images[n]})["logits"] for n, program in programs.items()}
    kept = {n: array.copy() for n, array in first.items()}
    for n in (2, 1):
        assert np.array_equal(programs[n].run({"inputs": images[n]})["logits"], kept[n])
        assert np.array_equal(first[n], kept[n])
        programs[n].close()
    assert np.allclose(kept[1][0], kept[2][0], rtol=1e-4, atol=1e-5)


@real
def test_outputs_have_the_names_of_the_file(engine, tmp_path):
    """CompileRequest and names of several outputs, one of them a transposed view."""
    nodes = [
        helper.make_node("Relu", ["pixels"], ["positive"]),
        helper.make_node("Transpose", ["pixels"], ["turned"], perm=[0, 3, 2, 1]),
        helper.make_node("Neg", ["pixels"], ["negative"]),
    ]
    path = save(tmp_path / "three.onnx", nodes, ["negative", "turned", "positive"])
    images = np.arange(-24, 24, dtype=np.float32).reshape(1, 3, 4, 4)
    program = engine.prepare(path, shape=images.shape, precision="fp32", options=HOST)
    results = program.run({"pixels": images})
    assert list(results) == ["negative", "turned", "positive"]
    assert np.array_equal(results["negative"], -images)
    assert np.array_equal(results["positive"], np.maximum(images, 0))
    assert np.array_equal(results["turned"], images.transpose(0, 3, 2, 1))


@real
@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({"inputs": np.zeros((2, 3, 32, 32), np.float32)}, "the model takes inputs: float32[1, 3, 32, 32]"),
        ({"images": np.zeros(SHAPE, np.float32)}, "['images'] were given"),
        ({"inputs": np.zeros(SHAPE, "U1")}, "the model takes inputs: float32[1, 3, 32, 32]"),
    ],
)
def test_wrong_inputs_are_refused(engine, model, feeds, words):
    """In one line that says what the program takes."""
    program = engine.prepare(model, shape=SHAPE, precision="fp32", options=HOST)
    with pytest.raises(RunError) as caught:
        program.run(feeds)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@real
def test_closed_program_refuses(engine, model, images):
    """Twice closed is closed; a run afterwards says so."""
    program = engine.prepare(model, shape=SHAPE, precision="fp32", options=HOST)
    program.close()
    program.close()
    with pytest.raises(RunError, match="closed"):
        program.run({"inputs": images})


@real
def test_unknown_operator_is_a_parse_error(engine, tmp_path):
    """With the operator's name and the file."""
    path = save(tmp_path / "strange.onnx", [helper.make_node("NoSuchOperator", ["pixels"], ["y"])], ["y"])
    with pytest.raises(ParseError, match=r"strange\.onnx: .*NoSuchOperator"):
        engine.prepare(path, shape=(1, 3, 4, 4), precision="fp32", options=HOST)


@real
def test_truncated_file_never_reaches_migraphx(engine, model, tmp_path):
    """MIGraphX reads an empty program from it and dies when that is compiled."""
    path = tmp_path / "cut.onnx"
    path.write_bytes(model.read_bytes()[:5000])
    with pytest.raises(ModelError, match="cut short"):
        engine.prepare(path, shape=SHAPE, precision="fp32", options=HOST)


@real
def test_unknown_precision_is_refused(engine, model):
    """Before anything is compiled."""
    assert "int3" in engine.unsupported("int3")
    with pytest.raises(CompileError, match="int3"):
        engine.prepare(model, shape=SHAPE, precision="int3", options=HOST)


@real
def test_device_memory_needs_a_gpu_build(engine, model):
    """--no-offload-copy on a build without device functions names them."""
    with pytest.raises(CompileError, match=r"to_gpu.*-> leave --no-offload-copy out"):
        engine.prepare(model, shape=SHAPE, precision="fp32", options=EngineOptions(offload_copy=False))


@real
def test_missing_target_library_gives_the_loaders_reason(engine, pytestconfig):
    """A target whose library cannot be loaded is unavailable, with the loader's own words."""
    del engine
    with pytest.raises(EngineUnavailable, match="nosuch"):
        migraphx_engine.open_engine("nosuch", pytestconfig.option.migraphx)


@real
def test_python_module_is_served_by_the_same_adapter(engine, model, images, tmp_path, pytestconfig, monkeypatch):
    """A module is loaded from its file, its version and its missing functions are seen."""
    want = engine.prepare(model, shape=SHAPE, precision="fp32", options=HOST).run({"inputs": images})
    path = tmp_path / "migraphx.py"
    path.write_text(MODULE.format(path=str(migraphx_find.locate(pytestconfig.option.migraphx).path)))
    found = migraphx_find.Found("python module", path, None, frozenset({"ref"}))
    monkeypatch.setattr(migraphx_engine, "locate", lambda _: found)
    module = migraphx_engine.open_engine("ref")
    assert module.version == "9.8.7"
    assert module.unsupported("fp16") is None
    assert "quantize_bf16" in module.unsupported("bf16")
    got = module.prepare(model, shape=SHAPE, precision="fp32", options=HOST).run({"inputs": images})
    assert np.array_equal(got["logits"], want["logits"])
    assert "migraphx" not in sys.modules


def test_a_module_is_executed_once(tmp_path, monkeypatch):
    """However many targets are asked of it: an extension module registers its types once a process."""
    path = tmp_path / "migraphx.py"
    path.write_text("runs = []\ndef get_target(name):\n    runs.append(name)\n    return runs\n")
    found = migraphx_find.Found("python module", path, None, frozenset())
    monkeypatch.setattr(migraphx_engine, "locate", lambda _: found)
    first, second = (migraphx_engine.open_engine(target) for target in ("ref", "cpu"))
    assert first._target is second._target
    assert first._target == ["ref", "cpu"]


def test_file_that_is_no_library_is_unavailable(tmp_path):
    """A named file that cannot be loaded: the loader's words and a hint."""
    path = tmp_path / "libmigraphx_c.so.3"
    path.write_bytes(b"\x7fELF not really")
    with pytest.raises(EngineUnavailable, match=r"migraphx:ref: c library .*could not be used: .* -> check"):
        migraphx_engine.open_engine("ref", str(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/build/src/onnx/parse.cpp:123: PARSE: Unknown operator: X", "PARSE: Unknown operator: X"),
        ("run: Parameter not found: x", "run: Parameter not found: x"),
        ("", "RuntimeError"),
    ],
)
def test_reasons_lose_the_builders_path(text, words):
    """Nobody knows that path, everybody needs the rest."""
    assert migraphx_engine.reason(RuntimeError(text)) == words


def test_megabytes_of_a_type_error_are_cut():
    """Pybind prints the whole program into a TypeError."""
    error = RunError(migraphx_engine.reason(TypeError("run(): incompatible arguments " + "x" * 3_000_000)))
    assert len(str(error)) < 1000
    assert "characters]" in str(error)


def cut(values, bits):
    """Towards zero to so many significand bits."""
    mantissa, exponent = np.frexp(np.asarray(values, np.float64))
    return np.ldexp(np.trunc(np.ldexp(mantissa, bits)), exponent - bits)


@real
@pytest.mark.parametrize("channels", [1, 64])
def test_ref_cuts_products_and_sums_of_convolutions(engine, tmp_path, channels):
    """Why its tolerance is its own: bit by bit what cutting each product, adding in float64 and cutting the sum gives."""
    rng = np.random.default_rng(channels)
    weights = rng.standard_normal((4, channels, 1, 1)).astype(np.float16)
    images = rng.standard_normal((1, channels, 4, 4)).astype(np.float16)
    path = save(tmp_path / "conv.onnx", [helper.make_node("Conv", ["pixels", "w"], ["y"])], ["y"], images.shape)
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights.astype(np.float32), "w"))
    onnx.save(model, path)
    program = engine.prepare(path, shape=images.shape, precision="fp16", options=HOST)
    (got,) = program.run({"pixels": images}).values()
    products = cut(weights[:, :, 0, 0].astype(float)[:, :, None] * images.reshape(channels, 16).astype(float), 11)
    assert np.array_equal(got.reshape(4, 16), cut(products.sum(axis=1), 11))


@real
@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_ref_cuts_a_product_before_and_after_its_bias(engine, tmp_path, kind):
    """Bit by bit what the oracle makes of a dense layer, in the form that our graphs have."""
    rng = np.random.default_rng(5)
    images = rng.standard_normal((2, 4, 4, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["rows"]),
        helper.make_node("Gemm", ["rows", "w", "b"], ["y"], transB=1),
    ]
    path = save(tmp_path / "dense.onnx", nodes, ["y"], images.shape)
    model = onnx.load(path)
    for name, shape in (("w", (300, 64)), ("b", (300,))):
        values = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, path)
    program = engine.prepare(path, shape=images.shape, precision=kind, options=HOST)
    (got,) = program.run({"pixels": images}).values()
    (expected,) = (
        GraphEvaluator(path)
        .evaluate({"pixels": images.astype(float)}, None, arithmetic(kind, Rounding.TRUNCATED))
        .values()
    )
    assert np.array_equal(got.astype(float), expected)

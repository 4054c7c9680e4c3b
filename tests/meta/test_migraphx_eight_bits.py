"""int8 and fp8 on the real MIGraphX: what it computes, and every way in which a quantisation can go wrong."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fixtures.engines.migraphx import c_library as migraphx_c
from fixtures.engines.migraphx import engine as migraphx_engine
from fixtures.engines.migraphx import precision_check as migraphx_treatment
from fixtures.errors import CompileError, EngineUnavailable, RequestNotHonouredError
from fixtures.onnx_file import inspect
from fixtures.plugin.failures import unavailable
from fixtures.records import EngineOptions

real = pytest.mark.migraphx
HOST = EngineOptions()
SHAPE = (2, 4, 3, 3)
RNG = np.random.default_rng(5)
WEIGHTS = RNG.standard_normal((4, 2, 1, 1)).astype(np.float32)
IMAGES = RNG.standard_normal(SHAPE).astype(np.float32)
DEFAULT = "@0 = @literal{0.015625} -> float_type, {1}, {0}"


@pytest.fixture(scope="module")
def engine(pytestconfig):
    """The ref target."""
    try:
        return migraphx_engine.open_engine("ref", pytestconfig.option.migraphx)
    except EngineUnavailable as error:
        unavailable(pytestconfig, "migraphx:ref", error)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A grouped convolution."""
    path = tmp_path_factory.mktemp("models") / "grouped.onnx"
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ("batch", 4, 3, 3)) for name in "xy")
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=2)
    proto = helper.make_model(
        helper.make_graph([node], "small", [given], [made], [numpy_helper.from_array(WEIGHTS, "w")])
    )
    proto.opset_import[0].version, proto.ir_version = 13, 8
    onnx.save(proto, path)
    return path


def rounded(array, largest):
    """Quantised to int8 and back as MIGraphX does it: two roundings of the scale, ties to even."""
    scale = np.float32(1) / (np.float32(127) / np.float32(largest))
    steps = np.clip(np.rint(array / scale), -128, 127)
    return (steps.astype(np.float64) * float(scale)).astype(np.float32)


def as_fp8(array):
    """The same with fp8 (e4m3fn)."""
    scale = float(np.float32(1) / (np.float32(448) / np.abs(array).max()))
    steps = np.clip(array.astype(np.float64) / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn)
    return (steps.astype(np.float64) * scale).astype(np.float32)


@real
def test_int8_is_the_formula_to_the_bit(engine, model):
    """One scale a tensor, the largest value of all calibration arrays; fp32 products, their sum in float64."""
    calibration = [IMAGES * np.float32(0.5), IMAGES * np.float32(0.75)]
    program = engine.prepare(model, shape=SHAPE, precision="int8", options=HOST, calibration=calibration)
    got = program.run({"x": IMAGES})["y"].reshape(2, 2, 2, 9)
    images = rounded(IMAGES, np.abs(calibration[1]).max()).reshape(2, 2, 2, 9)
    weights = rounded(WEIGHTS, np.abs(WEIGHTS).max()).reshape(2, 2, 2)
    products = weights[None, :, :, :, None] * images[:, :, None]
    assert np.array_equal(got, products.astype(np.float64).sum(axis=3).astype(np.float32))
    assert program.facts["calibration_images"] == "4"
    assert program.facts["quantized_tensors"] == "2"


@real
def test_fp8_is_the_formula_to_the_bit(engine, model):
    """e4m3fn by nearest even, 448 for the largest value; fp32 products, their sum in float64."""
    program = engine.prepare(model, shape=SHAPE, precision="fp8", options=HOST, calibration=[IMAGES])
    images, weights = (as_fp8(array).reshape(shape) for array, shape in ((IMAGES, (2, 2, 2, 9)), (WEIGHTS, (2, 2, 2))))
    products = weights[None, :, :, :, None] * images[:, :, None]
    got = program.run({"x": IMAGES})["y"].reshape(2, 2, 2, 9)
    assert np.array_equal(got, products.astype(np.float64).sum(axis=3).astype(np.float32))
    assert "fp8e4m3fn" in program.facts["instruction_types"]


@real
@pytest.mark.parametrize("precision", ["int8", "fp8"])
@pytest.mark.parametrize(
    ("calibration", "words"),
    [
        ([], "needs calibration images and none were given"),
        ([IMAGES[:1]], r"calibration array 0 is float32\[1, 4, 3, 3\], the program takes x: \[2, 4, 3, 3\]"),
        ([IMAGES, IMAGES.astype(np.complex64)], "calibration array 1 is complex64"),
        ([IMAGES, IMAGES * 0], "calibration array 1 is zero everywhere or not finite"),
        ([IMAGES * np.float32(np.nan)], "calibration array 0 is zero everywhere or not finite"),
    ],
)
def test_unfit_calibration_never_reaches_migraphx(engine, model, precision, calibration, words):
    """It would be taken for zeros, or leave a program that ends the process."""
    with pytest.raises(CompileError, match=words) as caught:
        engine.prepare(model, shape=SHAPE, precision=precision, options=HOST, calibration=calibration)
    assert caught.value.hint.startswith("give at least one array of shape [2, 4, 3, 3]")


def ignored(quantize):
    """A quantisation that forgets its calibration."""
    return lambda program, target, _: quantize(program, target)


def mistaken(quantize):
    """One that reads other images than it was given."""
    return lambda program, target, _: quantize(program, target, [{"x": IMAGES * np.float32(3)}])


def idle(_):
    """One that does nothing."""
    return lambda *_: None


@real
@pytest.mark.parametrize("precision", ["int8", "fp8"])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (ignored, "calibration was not consumed: all 2 scales are MIGraphX's default, 1/64"),
        (mistaken, "calibration was not consumed: the input's scale is"),
        (idle, "but only 0 tensors are quantised for 1 convolutions and products"),
    ],
)
def test_calibration_that_was_not_consumed_is_an_error(engine, model, monkeypatch, precision, fault, words):
    """The quantised program's scales tell."""
    function = f"quantize_{precision}"
    monkeypatch.setattr(engine._api, function, fault(getattr(engine._api, function)), raising=False)
    with pytest.raises(RequestNotHonouredError, match=words):
        engine.prepare(model, shape=SHAPE, precision=precision, options=HOST, calibration=[IMAGES])


@real
def test_failed_quantisation_is_a_compile_error(engine, model, monkeypatch):
    """MIGraphX's reason without its builder's path; the program is dropped."""
    quantize = engine._api.quantize_int8
    monkeypatch.setattr(engine._api, "quantize_int8", lambda *given: quantize(*given, ["dot"]), raising=False)
    with pytest.raises(CompileError, match="only support DOT and CONVOLUTION"):
        engine.prepare(model, shape=SHAPE, precision="int8", options=HOST, calibration=[IMAGES])


@real
@pytest.mark.parametrize("function", ["quantize_int8_options_create", "save", "load"])
def test_function_missing_in_an_old_library_is_named(engine, model, tmp_path, function):
    """When it is called, not when the library is loaded."""

    class Old:
        """A library without one function."""

        def __getattr__(self, name):
            if name == f"migraphx_{function}":
                raise AttributeError(name)
            return getattr(engine._api._library, name)

    library = migraphx_c.Library(engine._api.path)
    library._library = Old()
    program = library.parse_onnx(str(model), map_input_dims={"x": SHAPE})
    calls = {
        "quantize_int8_options_create": lambda: library.quantize_int8(program, engine._target, [{"x": IMAGES}]),
        "save": lambda: library.save(program, str(tmp_path / "x.mxr")),
        "load": lambda: library.load(str(tmp_path / "x.mxr")),
    }
    with pytest.raises(RuntimeError, match=f"no function migraphx_{function}: it is too old"):
        calls[function]()


@real
def test_wrong_shape_is_refused_before_c(engine, model):
    """The binding itself checks, whoever calls it."""
    program = engine._api.parse_onnx(str(model), map_input_dims={"x": SHAPE})
    with pytest.raises(RuntimeError, match=r"Incorrect shape float32\[1, 4, 3, 3\] for parameter x"):
        engine._api.quantize_int8(program, engine._target, [{"x": IMAGES[:1]}])
    with pytest.raises(RuntimeError, match="Parameter not found: x"):
        engine._api.quantize_fp8(program, engine._target, [{}])


def test_scales_are_read_from_the_printed_program(model):
    """Names with and without their module, options with and without brackets."""
    lines = [
        DEFAULT,
        "main:@1 = multibroadcast[out_lens={2},out_dyn_dims={}](@0) -> float_type, {2}, {0}",
        "main:@2 = quantizelinear(x,main:@1,@9) -> int8_type, {2}, {1}",
        "main:@3 = quantizelinear[out_type=nullopt](main:@2,@7,@9) -> int8_type, {2}, {1}",
    ]
    text = "\n".join(lines)
    first, second = migraphx_treatment.quantizations(text)
    assert (first.source, first.scale, first.kind) == ("x", 1 / 64, "int8")
    assert np.isnan(second.scale)
    with pytest.raises(RequestNotHonouredError, match="default, 1/64"):
        migraphx_treatment.check_quantization(text, [IMAGES], "int8", inspect(model))

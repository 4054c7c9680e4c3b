"""int8 and fp8 on the real MIGraphX: what it computes, and every way in which a quantisation can go wrong."""

import ml_dtypes
import numpy as np
import pytest

from fixtures.engines.base import CompileRequest
from fixtures.engines.migraphx import precision_check
from fixtures.errors import CompileError, RequestNotHonouredError
from fixtures.onnx_file import inspect
from fixtures.precisions import QUANTIZED_TYPES, QuantizationRule
from fixtures.programs.program_cache import LOADED, ProgramCache
from fixtures.records import QuantizedTensor
from tests.meta.tiny_models import saved

real = pytest.mark.migraphx
calibrated = pytest.mark.parametrize("precision", ["int8", "fp8"])
RANGES = {kind: row.largest for kind, row in QUANTIZED_TYPES.items()}
SHAPE = (2, 4, 3, 3)
RNG = np.random.default_rng(5)
WEIGHTS = RNG.standard_normal((4, 2, 1, 1)).astype(np.float32)
IMAGES = RNG.standard_normal(SHAPE).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A grouped convolution."""
    path = tmp_path_factory.mktemp("models") / "grouped.onnx"
    node = ("Conv", ("x", "w"), ("y",), {"group": 2})
    return saved(path, node, shape=("batch", 4, 3, 3), weights={"w": WEIGHTS})


@pytest.fixture
def prepare(ref_engine, model):
    """Prepare the model with calibration arrays."""

    def preparer(precision, calibration):
        return ref_engine.prepare(CompileRequest(model, SHAPE, precision, calibration=tuple(calibration)))

    return preparer


def as_int8(array, largest):
    """Quantise and dequantise as MIGraphX does: two roundings of the scale, ties to even."""
    scale = np.float32(1) / (np.float32(127) / np.float32(largest))
    return (np.clip(np.rint(array / scale), -128, 127).astype(np.float64) * float(scale)).astype(np.float32)


def as_fp8(array, largest):
    """The same in fp8e4m3fn."""
    scale = float(np.float32(1) / (np.float32(448) / np.float32(largest)))
    scaled = np.clip(array.astype(np.float64) / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn)
    return (scaled.astype(np.float64) * scale).astype(np.float32)


@real
@pytest.mark.parametrize(
    ("precision", "quantised", "kind"), [("int8", as_int8, "int8"), ("fp8", as_fp8, "float8e4m3fn")]
)
def test_quantised_convolution_matches_the_formula_bit_by_bit(prepare, precision, quantised, kind):
    """One scale a tensor, from the largest value of all calibration arrays; fp32 products, summed in float64."""
    calibration = [IMAGES * np.float32(0.5), IMAGES * np.float32(0.75)]
    program = prepare(precision, calibration)
    images = quantised(IMAGES, np.abs(calibration[1]).max()).reshape(2, 2, 2, 9)
    weights = quantised(WEIGHTS, np.abs(WEIGHTS).max()).reshape(2, 2, 2)
    products = weights[None, :, :, :, None] * images[:, :, None]
    got = program.run({"x": IMAGES})["y"].reshape(2, 2, 2, 9)
    assert np.array_equal(got, products.astype(np.float64).sum(axis=3).astype(np.float32))
    assert program.facts["calibration_images"] == "4"
    largest = [0.75 * np.abs(IMAGES).max(), np.abs(WEIGHTS).max()]
    assert [tensor.scales for tensor in program.quantization] == [
        (pytest.approx(value / RANGES[kind], rel=1e-5),) for value in largest
    ]
    assert {(tensor.element_type, *tensor.zero_points) for tensor in program.quantization} == {(kind, 0)}


@real
@calibrated
@pytest.mark.parametrize("calibration", [[], [IMAGES * 0]], ids=["none", "zero"])
def test_unusable_calibration_never_reaches_migraphx(prepare, precision, calibration):
    """It gives no scales, and may leave a program that ends the process."""
    with pytest.raises(CompileError, match="1/64"):
        prepare(precision, calibration)


@real
@calibrated
def test_quantisation_that_does_nothing_is_detected(ref_engine, prepare, monkeypatch, precision):
    """Both operands of every product must be dequantised."""
    monkeypatch.setattr(ref_engine._api, f"quantize_{precision}", lambda *_: None, raising=False)
    with pytest.raises(RequestNotHonouredError, match="a convolution takes other operands than "):
        prepare(precision, [IMAGES])


@real
@calibrated
def test_cached_program_has_the_same_quantisation(ref_engine, model, tmp_path, precision):
    """It is stored with the program, since a compiled program no longer tells."""
    request, cache = (
        CompileRequest(model, SHAPE, precision, calibration=(IMAGES,)),
        ProgramCache(tmp_path),
    )
    (compiled, _), (loaded, source) = (cache.load_or_compile(ref_engine, request) for _ in range(2))
    assert source == LOADED
    assert loaded.quantization == compiled.quantization != ()


@real
def test_failed_quantisation_is_a_compile_error_with_migraphx_reason(ref_engine, prepare, monkeypatch):
    """The program is dropped: using it would end the process."""
    quantize = ref_engine._api.quantize_int8
    monkeypatch.setattr(ref_engine._api, "quantize_int8", lambda *given: quantize(*given, ["dot"]), raising=False)
    with pytest.raises(CompileError, match="DOT and CONVOLUTION"):
        prepare("int8", [IMAGES])


@real
def test_binding_checks_calibration_arrays_itself(ref_engine, model):
    program = ref_engine._api.parse_onnx(str(model), map_input_dims={"x": SHAPE})
    with pytest.raises(RuntimeError, match=r"float32\[1, 4, 3, 3\] for parameter x"):
        ref_engine._api.quantize_int8(program, ref_engine._compiled_for, [{"x": IMAGES[:1]}])
    with pytest.raises(RuntimeError, match="Parameter not found: x"):
        ref_engine._api.quantize_fp8(program, ref_engine._compiled_for, [{}])


PRINTED = """
    @0 = @literal{0.015625} -> float_type, {1}, {0}
    @1 = @literal{3} -> int8_type, {1}, {0}
    main:@2 = multibroadcast[out_lens={2, 2},out_dyn_dims={}](@0) -> float_type, {2, 2}, {0, 0}
    main:@3 = quantizelinear(x,main:@2,@1) -> int8_type, {2, 2}, {2, 1}
    main:@4 = dequantizelinear(main:@3,main:@2,@1) -> float_type, {2, 2}, {2, 1}
    main:@5 = relu(main:@4) -> float_type, {2, 2}, {2, 1}
    main:@6 = quantizelinear[out_type=nullopt](w,@0,@1) -> int8_type, {2, 2}, {2, 1}
    main:@7 = dequantizelinear(main:@6,@0,@1) -> float_type, {2, 2}, {2, 1}
    main:@8 = dot(main:@4,main:@7) -> float_type, {2, 2}, {2, 1}
    main:@9 = @return(main:@8)
"""


@pytest.mark.parametrize(("inputs", "count"), [("products", 2), ("all", 3)])
def test_quantisation_is_read_from_the_printed_program(model, inputs, count):
    """Names with and without their module, attributes with and without brackets; once for each operand."""
    rule = QuantizationRule(QUANTIZED_TYPES["int8"], inputs)
    tensors = precision_check.quantized_tensors(PRINTED, rule, inspect(model))
    assert tensors == (QuantizedTensor("", "int8", (1 / 64,), (3,)),) * count


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ("dot(main:@4,", "dot(main:@5,", "a dot takes other operands than int8"),
        ("(w,@0,@1) -> int8", "(w,@0,@1) -> uint8", "a dot takes other operands than int8"),
        ("@literal{0.015625}", "@literal{ ... }", "a dot takes other operands than int8"),
        ("= dot(", "= add(", "no tensor is quantised"),
    ],
)
def test_product_that_is_not_quantised_is_detected(model, was, becomes, message):
    """By an operand, its type, a scale that is not printed; or if there is no product."""
    rule = QuantizationRule(QUANTIZED_TYPES["int8"])
    with pytest.raises(RequestNotHonouredError, match=message):
        precision_check.quantized_tensors(PRINTED.replace(was, becomes), rule, inspect(model))

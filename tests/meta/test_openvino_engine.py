"""OpenVINO as an engine outside of the suite: how it rounds, what a CPU lacks, and that faults in it are found."""

from unittest.mock import Mock

import numpy as np
import pytest

from fixtures.engines.base import CompileRequest
from fixtures.engines.registry import open_engine, target_of
from fixtures.errors import CompileError, ModelError, ParseError, RequestNotHonouredError, RunError
from fixtures.records import EngineOptions
from tests.meta.tiny_models import saved

engines = pytest.importorskip("nfnet_openvino_engine", reason="install tests/meta/openvino_engine")
NAME = "openvino:cpu"
SHAPE = (1, 3, 1, 1)
FAULT = """
import nfnet_openvino_engine as engines
run = engines.OpenVinoProgram.run
def faulty(program, feeds):
    outputs = run(program, feeds)
    return {name: array + 0.05 * array.std() for name, array in outputs.items()}
engines.OpenVinoProgram.run = faulty
"""
SUMS = {"fp16": 2048.0, "bf16": 256.0}  # from here on the format has only even numbers


@pytest.fixture(scope="module")
def engine():
    """The engine, found by its entry point."""
    return open_engine(NAME)


@pytest.fixture
def prepare(engine, tmp_path):
    """Compile a convolution of three channels with weights, by default 1, and one that copies its result."""

    def preparer(precision, *, weights=(1.0, 1.0, 1.0), first="Conv", calibration=()):
        tensors = {"w": np.array(weights, np.float32).reshape(1, 3, 1, 1), "one": np.ones((1, 1, 1, 1), np.float32)}
        nodes = ((first, ("x", "w"), ("z",), {}), ("Conv", ("z", "one"), ("y",), {}))
        path = saved(tmp_path / "model.onnx", *nodes, shape=SHAPE, weights=tensors, opset=17)
        return engine.prepare(CompileRequest(path, SHAPE, precision, EngineOptions(threads=1), calibration))

    return preparer


def pixel(*values):
    """An image of one pixel."""
    return np.array(values, np.float32).reshape(SHAPE)


def computed(program, *values):
    """The output for one pixel."""
    return float(program.run({"x": pixel(*values)})["y"].item())


@pytest.mark.parametrize("precision", SUMS)
def test_products_are_summed_in_float32_and_rounded_to_nearest(engine, prepare, precision):
    """Terms of 1 are lost in a narrow sum; 3 more than a multiple of 4 is rounded up, and truncated down."""
    if reason := engine.target.unsupported(precision):
        pytest.skip(reason)
    large, program = SUMS[precision], prepare(precision)
    assert computed(program, large, 1, 1) == large + 2
    assert computed(program, large, 1, 0) == large
    assert computed(program, large, 2, 1) == large + 4


def test_fp32_is_not_narrowed(prepare):
    """Its own default on a CPU with bf16 is bf16."""
    program = prepare("fp32", weights=(1.0, 2.0**-12, 0.0))
    assert computed(program, 1, 1, 0) == 1 + 2.0**-12
    assert program.facts["product_types"] == "f32"


def test_int8_is_quantised_as_the_rule_says(engine, prepare):
    """Both factors, and the program computes their product in int8."""
    if reason := engine.target.unsupported("int8"):
        pytest.skip(reason)
    program = prepare("int8", weights=(1.0, 0.5, 0.25), calibration=(pixel(127, 0, 0),))
    assert {row.name for row in program.quantization} == {"x", "w", "z", "one"}
    assert program.facts["product_types"] == "i8"
    assert computed(program, 100.4, 0, 0) == pytest.approx(100, abs=1e-3)


def test_precision_without_a_unit_of_the_cpu_is_not_supported(monkeypatch, tmp_path):
    """OpenVINO would compute in fp32 without an error."""
    monkeypatch.setattr(engines.openvino, "Core", lambda: Mock(get_property=lambda *_: ["FP32", "INT8"]))
    engine = engines.OpenVinoEngine(NAME, target_of(NAME))
    assert set(engine.target.not_supported) == {"fp16", "bf16"}
    with pytest.raises(CompileError, match="bf16"):
        engine.prepare(CompileRequest(tmp_path, (1,), "bf16"))


def test_program_in_another_precision_is_refused(prepare, monkeypatch):
    """As where a machine has no such unit, although it says so."""
    monkeypatch.setattr(engines, "product_types", lambda _: {"bf16"})
    with pytest.raises(RequestNotHonouredError, match="f32"):
        prepare("fp32")


def test_errors_have_their_stage(engine, prepare, tmp_path):
    """A damaged file, an unknown operator, a damaged program, wrong feeds, and a closed program."""
    (tmp_path / "damaged.onnx").write_bytes(b"x")
    with pytest.raises(ModelError):
        engine.prepare(CompileRequest(tmp_path / "damaged.onnx", (1,), "fp32"))
    with pytest.raises(ParseError):
        prepare("fp32", first="NoSuchOperator")
    program = prepare("fp32")
    with pytest.raises(ParseError):
        engine.load_program(tmp_path / "damaged.onnx", CompileRequest(tmp_path / "model.onnx", (1,), "fp32"))
    with pytest.raises(RunError):
        program.run({})
    program.close()
    with pytest.raises(RunError):
        program.run({"x": pixel(1, 1, 1)})


def test_fault_in_the_engine_is_found(runner):
    """A constant added to the logits; the engine is named as the faulty side."""
    words = ("--engine", NAME, "--variant", "test_nfnet", "--image-size", "64", "--precision", "fp32", "--batch", "1")
    runner.pytest("tests/conformance/test_agreement.py", *words)
    done = runner.pytest("tests/conformance/test_agreement.py", *words, plugin=FAULT, code=1)
    assert "the engine (against the float64 reference" in done.out

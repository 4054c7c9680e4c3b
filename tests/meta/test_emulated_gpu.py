"""MIGraphX's real gpu target with an emulated GPU; skipped unless run by ``.ci/with-migraphx --gpu ARCHITECTURE``."""

import re
from dataclasses import replace

import numpy as np
import pytest

from fixtures import hardware
from fixtures.engines.base import CompileRequest
from fixtures.engines.migraphx.engine import MLIR_HINT
from fixtures.engines.registry import open_engine, target_of
from fixtures.errors import CompileError, EngineUnavailable, ParseError
from fixtures.plugin.failures import unavailable
from fixtures.run.compare import EMULATED
from fixtures.verdict.message import FIRST_WRONG_BLOCK
from tests.meta.tiny_models import saved

pytestmark = pytest.mark.migraphx
GPU = ("--engine", "migraphx:gpu", "--require-engine", "migraphx:gpu")
NAMES = [*target_of("migraphx:gpu").precisions]
SHAPE = (2, 3, 16, 16)


@pytest.fixture(scope="session")
def gpu_engine(pytestconfig):
    """MIGraphX with its gpu target; tests are skipped if it is missing or its GPU is real."""
    try:
        engine = open_engine("migraphx:gpu", pytestconfig.option.migraphx)
    except EngineUnavailable as error:
        unavailable(pytestconfig, "migraphx:gpu", error)
    if not hardware.is_emulated():
        pytest.skip("this GPU is real")
    return engine


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A mirrored image, a convolution, an activation, an average and a product."""
    random = np.random.default_rng(0)
    shapes = {"w": (8, 3, 3, 3), "v": (8, 10)}
    mirror = {"start": [-1], "end": [-99], "axis": [3]}  # and its step is the start
    nodes = [
        ("Slice", ["x", "start", "end", "axis", "start"], ["m"], {}),
        ("Conv", "mw", "a", {"pads": [1] * 4}),
        ("Relu", "a", "b", {}),
        ("GlobalAveragePool", "b", "c", {}),
        ("Flatten", "c", "d", {}),
        ("MatMul", "dv", "y", {}),
    ]
    weights = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    weights |= {name: np.array(value) for name, value in mirror.items()}
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    return saved(path, *nodes, shape=["n", *SHAPE[1:]], weights=weights)


def test_all_but_numbers_is_judged_at_every_precision(gpu_engine, runner, model):
    """The run succeeds. Programs are compiled, saved and loaded; every skip has the same reason."""
    done = runner.pytest("tests/conformance", *GPU, f"--model={model}", "--batch", "2")
    judged = [name for name in NAMES if not gpu_engine.target.unsupported(name)]
    for name in judged:
        assert f"NOT JUDGED migraphx:gpu-tiny-{name}-b2: {EMULATED}" in done.out
    assert re.search(r"^(\d+) cases: \1 not judged$", done.out, re.MULTILINE), done.out
    assert len(re.findall(rf"^SKIPPED .*{EMULATED}$", done.out, re.MULTILINE)) == 1


@pytest.mark.usefixtures("gpu_engine")
def test_each_program_is_compiled_once(runner, model, tmp_path):
    """At most 1.5 compilations a case, with a full cache 0.5: of the smallest case of each precision, to compare it."""
    if hardware.gpu_architecture() != "gfx942":
        pytest.skip("it is the same on every GPU: counted on gfx942")
    words = ("tests/conformance", *GPU, f"--model={model}", "--precision", "fp16", "--batch", "1,16")
    counts = []
    for run in ("empty", "full"):
        log = tmp_path / run  # of the emulated MIOpen: a line for each convolution, and the model has one
        done = runner.pytest(*words, f"--cache-dir={tmp_path}", env={"EMULATED_GPU_LOG": str(log)})
        counts.append(len(log.read_text().splitlines()))
        assert f", {counts[-1]} compiled\n" in done.out
        assert f"\ncompilations: {counts[-1]}, " in done.out
    assert counts == [3, 1]  # of two cases


@pytest.mark.usefixtures("gpu_engine")
def test_comparison_is_not_judged(runner, model):
    done = runner.compare(*GPU[:2], f"--model={model}", "--inputs", "2", "--explain", code=2)
    assert f"NOT JUDGED: migraphx:gpu-tiny-fp32-b1: {EMULATED}" in done.out
    assert f"{FIRST_WRONG_BLOCK}: no block was compared; {EMULATED}" in done.out


def test_program_of_another_architecture_is_not_loaded(gpu_engine, model, tmp_path):
    saved_program, gpu = tmp_path / "program", hardware.gpu_architecture().encode()
    program = gpu_engine.prepare(CompileRequest(model, SHAPE, "fp32"))
    program.save(saved_program)
    program.close()
    saved_program.write_bytes(saved_program.read_bytes().replace(gpu, b"gfx9" + b"0" * (len(gpu) - 4)))
    with pytest.raises(ParseError, match="MIGraphX cannot read this program"):
        gpu_engine.load_program(saved_program, CompileRequest(model, SHAPE, "fp32"))


@pytest.mark.usefixtures("gpu_engine")
def test_device_memory_needs_the_python_module(runner, model):
    """A usage error before anything is compiled."""
    done = runner.pytest(*GPU, f"--model={model}", "--no-offload-copy", code=4)
    assert "leave --no-offload-copy out" in done.err


def test_fp8_without_mlir_has_a_hint(gpu_engine, model, monkeypatch):
    """Where the suite does not know that the build has no MLIR, the compiler's message is explained."""
    if "MLIR" not in (gpu_engine.target.unsupported("fp8") or ""):
        pytest.skip("this GPU has no fp8")
    monkeypatch.setattr(gpu_engine, "target", replace(gpu_engine.target, not_supported={}))
    calibration = [np.ones(SHAPE, np.float32)]
    with pytest.raises(CompileError) as caught:
        gpu_engine.prepare(CompileRequest(model, SHAPE, "fp8", calibration=tuple(calibration)))
    assert caught.value.hint == MLIR_HINT

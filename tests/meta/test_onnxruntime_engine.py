"""ONNX Runtime as an engine: what is pinned, what is refused, and that it computes what it was given."""

import time

import numpy as np
import onnxruntime
import pytest

from fixtures.engines.base import CompileRequest
from fixtures.engines.onnxruntime.engine import LEVELS, OnnxRuntimeEngine
from fixtures.engines.registry import open_engine
from fixtures.errors import CompileError, EngineUnavailable, ParseError, RequestNotHonouredError, RunError
from fixtures.hardware import physical_cores
from fixtures.inputs import synthetic_images
from fixtures.nfnet.store import built_model
from fixtures.precisions import precision
from fixtures.records import EngineOptions, ModelSpec
from tests.meta.tiny_models import saved

SHAPE = (2, 3, 32, 32)
TINY_SHAPE = (1, 3, 4, 4)
IMAGES = synthetic_images("engine", SHAPE)


@pytest.fixture(scope="module")
def engine():
    """The reference engine."""
    return open_engine("onnxruntime:cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small network by precision."""
    folder = tmp_path_factory.mktemp("models")
    spec = ModelSpec(variant="test_nfnet", size=SHAPE[2:])
    return {name: built_model(spec, precision(name), folder) for name in ("fp32", "fp16")}


@pytest.fixture
def prepare(engine, files):
    """Prepare the small network; programs are closed after the test."""
    programs = []

    def preparer(name="fp32", **options):
        program = engine.prepare(CompileRequest(files[name], SHAPE, name, EngineOptions(**options)))
        programs.append(program)
        return program

    yield preparer
    for program in programs:
        program.close()


@pytest.fixture
def prepare_tiny(engine, tmp_path):
    """Prepare a model of a few nodes."""

    def preparer(*nodes, shape=("n", *TINY_SHAPE[1:]), opset=17):
        path = saved(tmp_path / "model.onnx", *nodes, shape=shape, opset=opset)
        return engine.prepare(CompileRequest(path, TINY_SHAPE, "fp32"))

    return preparer


def run(program, images=IMAGES):
    """The logits."""
    return program.run({"inputs": images})["logits"]


def assert_one_line(error, where):
    """The message is one readable line that names the place, and not too long."""
    assert error.where == str(where)
    assert len(str(error).splitlines()) == 1
    assert len(str(error)) < 1500


@pytest.mark.parametrize("name", ["onnxruntime:dml", "onnxruntime:coreml"])
def test_provider_of_another_build_is_refused_with_the_providers_of_this_one(name):
    """In the names that the suite uses."""
    with pytest.raises(EngineUnavailable, match=r"\bcpu\b") as caught:
        open_engine(name)
    assert_one_line(caught.value, name)
    assert caught.value.hint


@pytest.mark.skipif(
    "AzureExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="this build of ONNX Runtime has no provider that runs no node",
)
def test_nodes_that_run_on_another_provider_are_detected(files):
    """ONNX Runtime falls back to the CPU silently."""
    azure = open_engine("onnxruntime:azure")
    with pytest.raises(RequestNotHonouredError, match="AzureExecutionProvider") as caught:
        azure.prepare(CompileRequest(files["fp32"], SHAPE, "fp32"))
    assert_one_line(caught.value, files["fp32"])


@pytest.mark.parametrize(
    ("provider", "supported"),
    [
        ("cpu", {"fp32", "fp16", "int8"}),
        ("migraphx", {"fp32", "fp16", "int8"}),
        ("cuda", {"fp32", "fp16", "int8", "tf32"}),
    ],
)
def test_unsupported_precisions_have_a_reason_that_names_them(provider, supported):
    """Files have fp32 or fp16, the quantiser makes int8, and only CUDA has a switch for tf32."""
    engine = OnnxRuntimeEngine(onnxruntime, provider, "")
    for name in ("fp32", "fp16", "bf16", "tf32", "int8", "fp8", "int3"):
        reason = engine.target.unsupported(name)
        assert (reason is None) == (name in supported)
        assert reason is None or name in reason


def test_unsupported_precision_is_a_compile_error(engine, files):
    with pytest.raises(CompileError, match="bf16") as caught:
        engine.prepare(CompileRequest(files["fp32"], SHAPE, "bf16"))
    assert_one_line(caught.value, files["fp32"])


def test_cuda_computes_in_tf32_only_if_requested():
    """Its default is on, which would pass for fp32."""
    engine = OnnxRuntimeEngine(onnxruntime, "cuda", "CUDAExecutionProvider")
    assert engine._provider_options("fp32") == {"use_tf32": "0"}
    assert engine._provider_options("tf32") == {"use_tf32": "1"}


def test_reference_does_not_spin_after_a_run(prepare):
    """Its threads would disturb what is timed next; those of other sessions do spin, where a CPU is free."""
    ran = {}
    for spin in (False, True):
        program, ran[spin] = prepare(threads=2, spin=spin), []
        for _ in range(10):
            run(program)
            before = time.process_time()
            time.sleep(0.1)
            ran[spin].append(time.process_time() - before)
    assert min(ran[False]) < max(ran[True]) / 3


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_threads_are_pinned_and_recorded(prepare, threads):
    """0 means one a core that this process may use."""
    program = prepare(threads=threads)
    expected = threads or physical_cores()
    options = program._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (expected, 1)
    assert program.facts["intra_op_threads"] == str(expected)


@pytest.mark.parametrize("level", LEVELS)
def test_optimisation_level_is_pinned_and_recorded(prepare, level):
    program = prepare(graph_optimization=level)
    options = program._session.get_session_options()
    assert options.graph_optimization_level == getattr(onnxruntime.GraphOptimizationLevel, LEVELS[level])
    assert program.facts["graph_optimization"] == level
    np.testing.assert_allclose(run(program), run(prepare()), rtol=1e-4, atol=1e-5)


def test_only_the_first_successful_run_is_timed(prepare):
    """A failed run does not count; compilation has a time of its own."""
    program = prepare()
    assert program.costs.compile_seconds > 0
    with pytest.raises(RunError):
        program.run({})
    assert program.costs.first_run_seconds is None
    run(program)
    first = program.costs.first_run_seconds
    assert first > 0
    run(program)
    assert program.costs.first_run_seconds == first


@pytest.mark.parametrize(
    ("node", "opset", "name"),
    [
        (("NoSuchOperator", ("x",), ("y",), {}), 17, "NoSuchOperator"),
        (("Relu", ("x", "x"), ("y",), {}), 17, "Relu"),
        (("Gemm", ("x", "x"), ("y",), {}), 17, "Gemm"),
        (("Relu", ("x",), ("y",), {}), 999, "999"),
    ],
    ids=["operator", "inputs", "rank", "opset"],
)
def test_graph_that_onnxruntime_refuses_is_a_parse_error(prepare_tiny, tmp_path, node, opset, name):
    with pytest.raises(ParseError, match=name) as caught:
        prepare_tiny(node, opset=opset)
    assert_one_line(caught.value, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"images": IMAGES},
        {"inputs": IMAGES[0]},
        {"inputs": IMAGES[None]},
        {"inputs": IMAGES[:, :2]},
        {"inputs": IMAGES[..., :31]},
    ],
    ids=["none", "name", "rank3", "rank5", "channels", "size"],
)
def test_wrong_feeds_are_refused(prepare, feeds):
    program = prepare()
    with pytest.raises(RunError) as caught:
        program.run(feeds)
    assert_one_line(caught.value, "onnxruntime:cpu")
    assert run(program).shape == (2, 1000)


LAYOUTS = {
    "float64": lambda array: array.astype(np.float64),
    "big-endian": lambda array: array.astype(">f4"),
    "fortran": np.asfortranarray,
    "strided": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "reversed": lambda array: array[:, :, ::-1].copy()[:, :, ::-1],
    "channels-last": lambda array: np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "unaligned": lambda array: np.frombuffer(b"x" + array.tobytes(), array.dtype, offset=1).reshape(array.shape),
    "read-only": lambda array: np.broadcast_to(array, array.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["fp32", "fp16"])
def test_any_layout_of_the_same_numbers_gives_the_same_bits(prepare, layout, name):
    program = prepare(name)
    given, expected = LAYOUTS[layout](IMAGES), run(program)
    np.testing.assert_array_equal(run(program, given), expected)
    np.testing.assert_array_equal(given, IMAGES)
    assert expected.std() > 0


def test_output_that_equals_the_input_is_a_copy(prepare_tiny):
    images = np.ones(TINY_SHAPE, np.float32)
    result = prepare_tiny(("Identity", ("x",), ("y",), {})).run({"x": images})["y"]
    images[:] = 2
    assert (result == 1).all()


def test_failure_within_a_run_is_one_line_with_the_operator(prepare_tiny):
    """Here a reshape that does not fit the data."""
    target = ("Constant", (), ("shape",), {"value_ints": [-1, 7]})
    program = prepare_tiny(target, ("Reshape", ("x", "shape"), ("y",), {}), shape=("n", "c", "h", "w"))
    with pytest.raises(RunError, match="Reshape") as caught:
        program.run({"x": np.ones(TINY_SHAPE, np.float32)})
    assert_one_line(caught.value, "onnxruntime:cpu")

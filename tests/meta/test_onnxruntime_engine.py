"""ONNX Runtime as an engine: what is pinned, what is refused, and that it computes what it was given."""

import os

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from fixtures.engines.onnxruntime.engine import LEVELS, WITHOUT_BF16, physical_cores
from fixtures.engines.registry import open_engine
from fixtures.errors import CompileError, EngineUnavailable, ModelError, ParseError, RequestNotHonouredError, RunError
from fixtures.inputs import synthetic_images
from fixtures.nfnet.store import built_model
from fixtures.precisions import precision
from fixtures.records import EngineOptions, ModelSpec, TensorInfo

SHAPE = (2, 3, 32, 32)
IMAGES = synthetic_images("engine", SHAPE)
THIRD_PARTY = sorted({"AzureExecutionProvider"} & set(onnxruntime.get_available_providers()))
needs_azure = pytest.mark.skipif(
    not THIRD_PARTY, reason="this build of ONNX Runtime has no provider that takes nothing"
)


@pytest.fixture(scope="module")
def engine():
    """The reference engine."""
    return open_engine("onnxruntime:cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small real model by precision."""
    folder = tmp_path_factory.mktemp("models")
    spec = ModelSpec(variant="test_nfnet", size=SHAPE[2:])
    return {name: built_model(spec, precision(name), folder) for name in ("fp32", "fp16")}


@pytest.fixture
def prepare(engine, files):
    """Prepare the small model; programs are closed after the test."""
    programs = []

    def preparer(name="fp32", **options):
        program = engine.prepare(files[name], shape=SHAPE, precision=name, options=EngineOptions(**options))
        programs.append(program)
        return program

    yield preparer
    for program in programs:
        program.close()


def save(path, nodes, shape=("n", 3, 4, 4), opset=17):
    """Write a model of some nodes from ``inputs`` to ``logits``."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("inputs", "logits")]
    graph = helper.make_graph(nodes, "graph", values[:1], values[1:])
    opsets = [helper.make_opsetid("", opset)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    return path


def one_line(error, path):
    """Check that the message is one line of a bearable length that names the file."""
    text = str(error)
    assert len(text.splitlines()) == 1
    assert text.startswith(f"{path}: ")
    assert len(text) < 1500
    return True


# ---- opening


def test_the_reference_engine_opens(engine):
    """It has the name it was asked for and the version of the package, and gives the same bits each time."""
    assert (engine.name, engine.version) == ("onnxruntime:cpu", onnxruntime.__version__)
    assert engine.deterministic


@pytest.mark.parametrize("name", ["onnxruntime:dml", "onnxruntime:coreml"])
def test_a_provider_of_another_build_is_refused_with_what_there_is(name):
    """The message lists this build's providers in the names of the suite."""
    with pytest.raises(EngineUnavailable, match=rf"^{name}: .*it has .*\bcpu\b.* -> ") as caught:
        open_engine(name)
    assert one_line(caught.value, name)


@needs_azure
def test_a_provider_that_does_not_take_the_graph_is_found_out(files):
    """ONNX Runtime falls back to the CPU without a word; the nodes that did are named, the first few only."""
    engine = open_engine("onnxruntime:azure")
    with pytest.raises(
        RequestNotHonouredError, match=r"\d+ nodes fell back from AzureExecutionProvider: .*stem\.conv1"
    ) as caught:
        engine.prepare(files["fp32"], shape=SHAPE, precision="fp32", options=EngineOptions())
    assert one_line(caught.value, files["fp32"])
    assert caught.value.hint
    assert str(caught.value).count("on CPUExecutionProvider") == 5
    assert "..." in str(caught.value)


@needs_azure
@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (2, 3, 32), (2, 4, 32, 32)])
def test_a_shape_that_the_model_cannot_take_fails_the_trial_run(files, shape):
    """The run that looks at the placement fails like a compilation, with ONNX Runtime's words in one line."""
    engine = open_engine("onnxruntime:azure")
    with pytest.raises(CompileError, match=r"trial run failed: .*(Got|Expected)") as caught:
        engine.prepare(files["fp32"], shape=shape, precision="fp32", options=EngineOptions())
    assert one_line(caught.value, files["fp32"])


# ---- what is pinned


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_threads_are_pinned_and_recorded(prepare, threads):
    """The session has the threads that were asked for; 0 means the cores that this process may use."""
    program = prepare(threads=threads)
    wanted = threads or physical_cores()
    settings = program._session.get_session_options()
    assert (settings.intra_op_num_threads, settings.inter_op_num_threads) == (wanted, 1)
    assert program.facts["intra_op_threads"] == str(wanted)


@pytest.mark.parametrize("level", LEVELS)
def test_the_optimisation_level_is_pinned_and_recorded(prepare, level):
    """Every level of the table is ONNX Runtime's own, and the answer hardly depends on it."""
    program = prepare(graph_optimization=level)
    settings = program._session.get_session_options()
    assert settings.graph_optimization_level == getattr(onnxruntime.GraphOptimizationLevel, LEVELS[level])
    assert program.facts["graph_optimization"] == level
    expected = prepare().run({"inputs": IMAGES})["logits"]
    np.testing.assert_allclose(program.run({"inputs": IMAGES})["logits"], expected, rtol=1e-4, atol=1e-5)


def test_the_provider_is_recorded_and_is_the_one_that_runs(prepare):
    """What the facts say is what the session has."""
    program = prepare()
    assert [program.facts["provider"]] == program._session.get_providers() == ["CPUExecutionProvider"]


def test_inputs_and_outputs_are_described(prepare):
    """In the names of numpy, with symbols as they are in the file."""
    assert prepare().inputs == (TensorInfo("inputs", "float32", ("batch", 3, 32, 32)),)
    assert prepare("fp16").outputs == (TensorInfo("logits", "float16", ("batch", 1000)),)


# ---- files that are refused


@pytest.mark.parametrize("content", [b"", b"no model\n" * 9, None], ids=["empty", "text", "cut"])
def test_a_file_that_is_no_model_is_refused(engine, files, tmp_path, content):
    """Before ONNX Runtime sees it, in the suite's own words."""
    path = tmp_path / "model.onnx"
    path.write_bytes(files["fp32"].read_bytes()[:5000] if content is None else content)
    with pytest.raises(ModelError) as caught:
        engine.prepare(path, shape=SHAPE, precision="fp32", options=EngineOptions())
    assert one_line(caught.value, path)


@pytest.mark.parametrize(
    ("nodes", "opset", "words"),
    [
        ([helper.make_node("NoSuchOperator", ["inputs"], ["logits"])], 17, "NoSuchOperator"),
        ([helper.make_node("Relu", ["inputs", "inputs"], ["logits"])], 17, "Relu"),
        ([helper.make_node("Gemm", ["inputs", "inputs"], ["logits"])], 17, "Gemm"),
        ([helper.make_node("Relu", ["inputs"], ["logits"])], 999, "999"),
    ],
    ids=["operator", "inputs", "rank", "opset"],
)
def test_a_graph_that_onnxruntime_refuses_is_a_parse_error(engine, tmp_path, nodes, opset, words):
    """ONNX Runtime's many lines become one, which keeps what matters."""
    path = save(tmp_path / "model.onnx", nodes, opset=opset)
    with pytest.raises(ParseError, match=words) as caught:
        engine.prepare(path, shape=(1, 3, 4, 4), precision="fp32", options=EngineOptions())
    assert one_line(caught.value, path)


def test_the_first_run_that_succeeds_is_timed(prepare):
    """Whoever asks for it; later ones are not."""
    program = prepare("fp32")
    assert program.costs.first_run_seconds is None
    with pytest.raises(RunError):
        program.run({})
    assert program.costs.first_run_seconds is None
    program.run({program.inputs[0].name: np.zeros(SHAPE, np.float32)})
    first = program.costs.first_run_seconds
    assert first > 0
    program.run({program.inputs[0].name: np.zeros(SHAPE, np.float32)})
    assert program.costs.first_run_seconds == first


def test_bf16_is_refused_with_the_reason(engine, files):
    """The CPU has no kernels: said when asked, and enforced when not."""
    assert engine.unsupported("bf16") == WITHOUT_BF16
    assert engine.unsupported("fp32") is engine.unsupported("fp16") is None
    with pytest.raises(CompileError, match="bf16") as caught:
        engine.prepare(files["fp32"], shape=SHAPE, precision="bf16", options=EngineOptions())
    assert one_line(caught.value, files["fp32"])


# ---- running


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"images": IMAGES},
        {"inputs": IMAGES, "more": IMAGES},
        {"inputs": IMAGES[0]},
        {"inputs": IMAGES[None]},
        {"inputs": IMAGES[:, :2]},
        {"inputs": IMAGES[..., :31]},
        {"inputs": IMAGES.astype(complex)},
        {"inputs": IMAGES.astype(str)},
        {"inputs": IMAGES.astype(object)},
        {"inputs": IMAGES.astype("datetime64[s]")},
    ],
    ids=["none", "name", "more", "rank3", "rank5", "channels", "size", "complex", "str", "object", "time"],
)
def test_wrong_feeds_are_refused(prepare, feeds):
    """In one line that shows what was given and what the model takes; the program can still be used."""
    program = prepare()
    with pytest.raises(RunError, match=r"inputs: float32\[batch, 3, 32, 32\]") as caught:
        program.run(feeds)
    assert one_line(caught.value, "onnxruntime:cpu")
    assert program.run({"inputs": IMAGES})["logits"].shape == (2, 1000)


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
    """Inputs are converted to what the program takes, and are not changed."""
    program = prepare(name)
    given = LAYOUTS[layout](IMAGES)
    expected = program.run({"inputs": IMAGES})["logits"]
    np.testing.assert_array_equal(program.run({"inputs": given})["logits"], expected)
    np.testing.assert_array_equal(given, IMAGES)
    assert expected.std() > 0


def test_results_belong_to_the_caller(prepare):
    """A later run does not change them, and what the caller does to them changes no later run."""
    program = prepare()
    first = program.run({"inputs": IMAGES})["logits"]
    kept = first.copy()
    assert not np.array_equal(program.run({"inputs": IMAGES + 1})["logits"], kept)
    np.testing.assert_array_equal(first, kept)
    first[:] = 0
    np.testing.assert_array_equal(program.run({"inputs": IMAGES})["logits"], kept)


def test_an_output_that_is_the_input_is_a_copy(engine, tmp_path):
    """Also where the model does nothing, the caller's images and the results are different memory."""
    path = save(tmp_path / "model.onnx", [helper.make_node("Identity", ["inputs"], ["logits"])])
    images = np.ones((1, 3, 4, 4), np.float32)
    program = engine.prepare(path, shape=images.shape, precision="fp32", options=EngineOptions())
    result = program.run({"inputs": images})["logits"]
    images[:] = 2
    assert (result == 1).all()


def test_a_program_takes_any_batch(prepare):
    """A row does not depend on its neighbours, and no image at all is a batch too."""
    program = prepare()
    both = program.run({"inputs": IMAGES})["logits"]
    one = program.run({"inputs": IMAGES[1:]})["logits"]
    np.testing.assert_allclose(one, both[1:], rtol=1e-4, atol=1e-5)
    assert program.run({"inputs": IMAGES[:0]})["logits"].shape == (0, 1000)


def test_a_fault_within_the_run_is_one_line(engine, tmp_path):
    """What only the data can show, here a reshape that does not fit, is ONNX Runtime's message on one line."""
    shape = helper.make_node("Constant", [], ["shape"], value_ints=[-1, 7])
    node = helper.make_node("Reshape", ["inputs", "shape"], ["logits"])
    path = save(tmp_path / "model.onnx", [shape, node], shape=("n", "c", "h", "w"))
    program = engine.prepare(path, shape=(1, 3, 4, 4), precision="fp32", options=EngineOptions())
    with pytest.raises(RunError, match="Reshape") as caught:
        program.run({"inputs": np.ones((1, 3, 4, 4), np.float32)})
    assert one_line(caught.value, "onnxruntime:cpu")


def test_a_program_may_be_closed_twice_and_is_closed_then(prepare):
    """Running it afterwards is an error of the suite, not a crash."""
    program = prepare()
    program.close()
    program.close()
    with pytest.raises(RunError, match="closed"):
        program.run({"inputs": IMAGES})


def test_physical_cores_are_at_least_one_and_no_more_than_allowed():
    """The default number of threads fits the machine."""
    allowed = len(os.sched_getaffinity(0))
    assert 1 <= physical_cores() <= allowed

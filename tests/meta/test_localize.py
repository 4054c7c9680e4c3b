"""Locality names the block and the node of a planted fault, and accuses no clean engine.

A faulty file plays the engine, ONNX Runtime runs it, the oracle has the right file.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fixtures.engines.onnxruntime.engine import OnnxRuntimeProgram
from fixtures.localize.expose import PREFIX, exposed
from fixtures.localize.search import explain
from fixtures.localize.segments import element_types, read_flow, segments
from fixtures.onnx_file import inspect, load_model
from fixtures.records import Case, EngineOptions, ModelSpec
from fixtures.reference.arithmetic import arithmetic
from fixtures.reference.evaluator import GraphEvaluator
from fixtures.run import localize as explaining
from fixtures.run.localize import explain_case

ROOT = Path(__file__).parents[2]
SPEC = ModelSpec("test_nfnet", None, (64, 64))


STAND_IN = """
import numpy as np

class Program:
    def compile(self, target, **options):
        print("compiled", target, options)
    def run(self, feeds):
        return [np.load("data.npz")["expected"]]

def parse_onnx(path):
    return Program()

def quantize_fp16(program):
    print("quantized")

get_target, argument = str, np.asarray
"""


def run(path, images):
    """ONNX Runtime on a file."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    names = [value.name for value in session.get_outputs()]
    kind = np.float16 if "float16" in given.type else np.float32
    return dict(zip(names, session.run(names, {given.name: images.astype(kind)}), strict=True))


def edit_constant(model, name, function):
    """Replace a constant by a function of itself."""
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    array = numpy_helper.to_array(tensor).copy()
    function(array)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def weight_of(model, node):
    """The right factor of a convolution, the left one of a dense layer."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return next(name for name in node.input if name in constants)


def doubled(model, node):
    """The largest weight."""

    def change(array):
        array.reshape(-1)[np.abs(array).argmax()] *= 2

    edit_constant(model, weight_of(model, node), change)


def bias_lost(model, node):
    """The largest bias, of one channel."""

    def change(array):
        array[np.abs(array).argmax()] = 0

    edit_constant(model, node.input[2], change)


def row_negated(model, node):
    """All weights of one output."""
    edit_constant(model, weight_of(model, node), lambda array: np.negative(array[0], out=array[0]))


def eight_bits(model, node):
    """The layer's weights kept in eight bits."""

    def change(array):
        step = np.abs(array).max() / 127
        array[...] = np.rint(array / step) * step

    edit_constant(model, node.input[1], change)


def in_half(model, node):
    """The layer's input passes through a narrower type."""
    element = next(t.data_type for t in model.graph.initializer if t.name == node.input[1])
    place = list(model.graph.node).index(node)
    there = helper.make_node("Cast", [node.input[0]], [f"{node.name}/low"], to=TensorProto.FLOAT16)
    back = helper.make_node("Cast", [f"{node.name}/low"], [f"{node.name}/back"], to=element)
    node.input[0] = f"{node.name}/back"
    model.graph.node.insert(place, there)
    model.graph.node.insert(place + 1, back)


FAULTS = {
    "weight doubled": doubled,
    "bias lost": bias_lost,
    "eight bits": eight_bits,
    "lower precision": in_half,
}


def targets(model, kind="Conv"):
    """For each block the middle one of its layers of a kind."""
    found = {}
    for part in segments(read_flow(model)):
        layers = [step for step in part.steps if kind in step.kinds]
        if layers:
            found[part.output] = layers[len(layers) // 2].name
    return found


def explained(context, spec, precision, plant=None, name=None, **more):
    """What locality says of a file with a fault planted at a node."""
    clean, file = context.model_store.onnx_file(spec).path, context.model_store.onnx_file(spec, precision).path
    scratch = context.cache / "scratch"
    if plant:
        model = onnx.load(file)
        plant(model, next(node for node in model.graph.node if node.name == name))
        scratch.mkdir(exist_ok=True)
        file = scratch / "faulty.onnx"
        onnx.save(model, file)
    images = context.model_store.images(spec, 2)
    return explain(
        run,
        file,
        GraphEvaluator(clean),
        images,
        arithmetic(precision),
        case_id="planted",
        scratch=scratch,
        **more,
    )


QUICK = [("weight doubled", "fp16"), ("bias lost", "fp32")]
REST = [
    (fault, precision)
    for fault in FAULTS
    for precision in ("fp32", "fp16")
    if (fault, precision) not in [*QUICK, ("lower precision", "fp16")]
]


@pytest.mark.parametrize(
    ("fault", "precision"), [*QUICK, *(pytest.param(*row, marks=pytest.mark.slow) for row in REST)]
)
def test_a_fault_in_any_block_is_named(context, fault, precision):
    """Block and node, whichever block it is."""
    for block, node in targets(context.model_store.onnx_file(SPEC).path).items():
        found = explained(context, SPEC, precision, FAULTS[fault], node)
        assert (found.first, found.node) == (block, node), found.table()
        assert found.node_kind == "Conv"
        assert f'{block} (its node "{node}", Conv): ' in found.summary


@pytest.mark.parametrize(("fault", "precision"), [(row_negated, "fp16"), (bias_lost, "fp32")])
def test_a_fault_in_any_dense_layer_is_named(context, fault, precision):
    """Of the gates and the classifier."""
    layers = targets(context.model_store.onnx_file(SPEC).path, "Gemm")
    assert list(layers.items())[::4] == [("stages.0.0", "stages.0.0.attn_last.fc2"), ("logits", "head.fc")]
    for block, node in layers.items():
        found = explained(context, SPEC, precision, fault, node)
        assert (found.first, found.node, found.node_kind) == (block, node, "Gemm"), found.table()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["weight doubled", "bias lost", "eight bits"])
def test_a_fault_in_any_block_of_dm_nfnet_f0_in_half_is_named(context, fault):
    """The network and the precision of the suite's first case."""
    spec = ModelSpec("dm_nfnet_f0", None, (64, 64))
    for block, node in targets(context.model_store.onnx_file(spec).path).items():
        found = explained(context, spec, "fp16", FAULTS[fault], node)
        assert (found.first, found.node) == (block, node), found.summary


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("level", ["disable", "all"])
def test_a_clean_engine_is_not_accused(context, precision, level):
    """Neither its blocks nor its nodes, optimised or not."""
    case = Case("onnxruntime:cpu", SPEC, precision, 2, EngineOptions(graph_optimization=level))
    found = explain_case(context, case)
    assert found.clean, found.table()
    assert found.folder is None
    assert found.summary.startswith("no block is off: 10 were looked at")
    assert found.nodes


@pytest.fixture
def given(monkeypatch):
    """The engine gives zeros for the last of four images, and for an image whose first pixel is 7; what it was fed."""
    fed, real = [], OnnxRuntimeProgram.run

    def spoilt(self, feeds):
        (images,) = feeds.values()
        fed.append(images)
        good = np.array([index != 3 and image.flat[0] != 7 for index, image in enumerate(images)])
        return {name: array * good.reshape(-1, *[1] * (array.ndim - 1)) for name, array in real(self, feeds).items()}

    monkeypatch.setattr(OnnxRuntimeProgram, "run", spoilt)
    return fed


def test_the_images_that_fail_are_looked_at(context, given):
    """Not the first of the batch, which are right."""
    case = Case("onnxruntime:cpu", SPEC, "fp32", 4)
    assert explain_case(context, case).clean
    found = explain_case(context, case, failing=(3,))
    assert found.first == "stem.conv1", found.table()
    assert "looked at: image 3 of a batch of 4\n" in (Path(found.folder) / "README.txt").read_text()
    assert {len(batch) for batch in given} == {4}


def test_of_a_large_batch_the_images_that_fail_are_given_alone(context, given, monkeypatch):
    """And that is said: what only their place in the batch makes wrong is right there."""
    monkeypatch.setattr(explaining, "WHOLE_BATCH", 0)
    case = Case("onnxruntime:cpu", SPEC, "fp32", 4)
    images = context.model_store.images(SPEC, 4).copy()
    assert explain_case(context, case, images, failing=(2, 3)).clean
    images[2].flat[0] = 7
    found = explain_case(context, case, images, failing=(2, 3))
    assert found.first == "stem.conv1", found.table()
    said = "the engine was given images 2, 3 alone: the batch of 4 is too large to show its tensors"
    assert found.summary.endswith(said)
    assert said in (Path(found.folder) / "README.txt").read_text()
    assert all(np.array_equal(batch[1:], images[3:]) for batch in given)
    assert "alone" not in explain_case(context, case, images[:2]).summary


def test_segments_are_blocks_and_runs(context):
    """Named by their output; both sides of each sum are watched."""
    parts = segments(read_flow(context.model_store.onnx_file(SPEC).path))
    names = [part.output for part in parts]
    assert names[:5] == ["stem.conv1", "stem.conv2", "stem.conv3", "stem.conv4", "stages.0.0"]
    assert names[-2:] == ["final_conv", "logits"]
    assert parts[4].watched == ("stages.0.0.downsample.conv", "stages.0.0.attn_last", "stages.0.0")
    assert [part.input for part in parts[1:]] == names[:-1]


def test_an_exposed_file_is_a_model(context, tmp_path):
    """Its own output first, then what was asked for."""
    source = context.model_store.onnx_file(SPEC).path
    types = element_types(load_model(source))
    with exposed(source, ["stages.0.0", "logits", "nobody"], types, tmp_path) as path:
        assert [value.name for value in inspect(path).outputs] == ["logits", "stages.0.0"]
    assert not path.exists()


def test_external_weights_are_linked(context, tmp_path):
    """Not copied, and the file still runs."""
    source = tmp_path / "model.onnx"
    onnx.save(
        onnx.load(context.model_store.onnx_file(SPEC).path), source, save_as_external_data=True, location="weights.bin"
    )
    with exposed(source, ["stages.0.0"], {}, tmp_path / "elsewhere" / "copy") as path:
        assert (path.parent / "weights.bin").samefile(tmp_path / "weights.bin")
        assert len(inspect(path).outputs) == 2
        assert run(path, context.model_store.images(SPEC, 1))["stages.0.0"].shape[0] == 1


def test_a_copy_comes_to_the_weights_of_a_model_in_the_cache(context, tmp_path):
    """They are not touched, for a link would have them hashed again; the copy goes when it was used."""
    source = tmp_path / "models" / "model.onnx"
    source.parent.mkdir()
    onnx.save(
        onnx.load(context.model_store.onnx_file(SPEC).path), source, save_as_external_data=True, location="weights.bin"
    )
    before, files = (source.parent / "weights.bin").stat(), sorted(source.parent.iterdir())
    with exposed(source, ["stages.0.0"], {}, tmp_path / "locality") as path:
        assert path.parent == source.parent
        assert run(path, context.model_store.images(SPEC, 1))["stages.0.0"].shape[0] == 1
        assert (source.parent / "weights.bin").stat().st_nlink == 1
    assert (source.parent / "weights.bin").stat().st_ctime_ns == before.st_ctime_ns
    assert sorted(source.parent.iterdir()) == files


@pytest.mark.parametrize("beside", [False, True])
def test_copies_of_killed_processes_are_swept(context, tmp_path, beside):
    """Only those that nobody can be using any more, and nothing else."""
    folder = tmp_path / "models"
    folder.mkdir()
    source, kept = folder / "model.onnx", onnx.load(context.model_store.onnx_file(SPEC).path)
    onnx.save(kept, source, save_as_external_data=beside, location="weights.bin")
    scratch = tmp_path / "locality"
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom fixtures.localize.expose import PREFIX, exposed\n"
        "with exposed(Path(sys.argv[1]), ['stages.0.0'], {}, Path(sys.argv[2])):\n    os.kill(os.getpid(), 9)\n"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, source, scratch], cwd=ROOT, check=False)
    place = folder if beside else scratch
    old, young = [path for path in place.iterdir() if path.name.startswith(PREFIX)]
    os.utime(old, (0, 0))
    os.utime(source, (0, 0))
    with exposed(source, ["stages.0.0"], {}, scratch):
        assert not old.exists()
    assert young.exists()
    assert source.exists()


def test_a_report_shows_the_fault(context, tmp_path):
    """The script runs with ONNX Runtime alone and prints the recorded error and the same one again."""
    found = explained(
        context, SPEC, "fp32", bias_lost, "stages.1.0.conv2", report=tmp_path / "report", facts={"precision": "fp32"}
    )
    folder = Path(found.folder)
    done = subprocess.run([sys.executable, "repro.py"], cwd=folder, capture_output=True, text=True, check=True)
    recorded, again, *rest = done.stdout.splitlines()
    assert recorded.startswith("what the engine gave (recorded)")
    assert again.startswith("onnxruntime ")
    first, second = (float(line.split("relative error ")[1].split()[0]) for line in (recorded, again))
    assert first > 1e-4
    assert abs(first - second) < 1e-3 * first
    assert rest[0].startswith("migraphx ")
    assert found.summary in (folder / "README.txt").read_text()


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"precision": "fp16", "engine": "migraphx:gpu"}, ["quantized", "compiled gpu {'fast_math': False}", "fp16"]),
        ({"precision": "int8", "fast_math": "True"}, ["compiled ref {'fast_math': True}", "fp32"]),
    ],
)
def test_a_report_repeats_how_the_engine_compiled(context, tmp_path, facts, said):
    """Seen by a stand-in for MIGraphX's module; a precision that needs calibration is not claimed."""
    found = explained(context, SPEC, "fp32", bias_lost, "stages.1.0.conv2", report=tmp_path / "report", facts=facts)
    (Path(found.folder) / "migraphx.py").write_text(STAND_IN)
    command = [sys.executable, "repro.py"]
    done = subprocess.run(command, cwd=found.folder, capture_output=True, text=True, check=True)
    *told, last = done.stdout.splitlines()[2:]
    assert told == said[:-1]
    assert last.startswith(f"migraphx at {said[-1]} ")


def test_what_is_not_finite_is_off(context):
    """NaN where the truth is a number."""

    def nan(model, node):
        edit_constant(model, node.input[2], lambda array: array.__setitem__(0, np.nan))

    found = explained(context, SPEC, "fp32", nan, "stages.1.0.conv2")
    assert (found.first, found.node) == ("stages.1.0", "stages.1.0.conv2")
    assert "inf floors" in found.summary


def test_time_runs_out_politely(context):
    """What was done until then is told."""
    found = explained(context, SPEC, "fp32", seconds=0)
    assert "out of time after 0 s" in found.summary
    assert not found.clean


def test_a_fault_that_vanishes_is_said_to_vanish(context):
    """Wrong only while the tensors inside the block are hidden, as a wrong fusion is."""

    def fused(path, images):
        results = run(path, images)
        if "stages.1.0.conv2" not in results:
            results["stages.1.0"] = results["stages.1.0"] * 1.01
        return results

    file = context.model_store.onnx_file(SPEC).path
    found = explain(
        fused,
        file,
        GraphEvaluator(file),
        context.model_store.images(SPEC, 1),
        arithmetic("fp32"),
        case_id="fused",
        scratch=context.cache / "scratch",
    )
    assert (found.first, found.node) == ("stages.1.0", None)
    assert "the fault is in how the engine fuses it" in found.summary


def test_a_block_that_the_engine_does_not_show_is_not_clean(context):
    """It is named; the others are looked at."""

    def shy(path, images):
        return {name: array for name, array in run(path, images).items() if name != "stages.1.0"}

    file = context.model_store.onnx_file(SPEC).path
    found = explain(
        shy,
        file,
        GraphEvaluator(file),
        context.model_store.images(SPEC, 1),
        arithmetic("fp32"),
        case_id="shy",
        scratch=context.cache / "scratch",
        deep=False,
    )
    assert (found.first, found.unseen, found.clean) == (None, 0, False)
    assert {*(row.name for row in found.segments), *found.hidden} == {part.output for part in segments(read_flow(file))}
    assert found.hidden == ("stages.2.0",)  # whose input it is
    assert "; stages.2.0 cannot be looked at: " in found.summary
    assert "; a, b, c and 2 more cannot be looked at: " in replace(found, hidden=tuple("abcde")).summary


def test_blocks_alone(context):
    """All of a clean engine are looked at, and none of their nodes."""
    file = context.model_store.onnx_file(SPEC).path
    found = explain(
        run,
        file,
        GraphEvaluator(file),
        context.model_store.images(SPEC, 1),
        arithmetic("fp32"),
        case_id="clean",
        scratch=context.cache / "scratch",
        deep=False,
    )
    assert len(found.segments) == 10
    assert found.clean
    assert not found.nodes

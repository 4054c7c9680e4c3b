"""Localisation names the block and the node of a planted fault, and flags no clean engine.

A faulty file plays the engine; the float64 reference evaluates the right one.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from fixtures.engines.onnxruntime.engine import OnnxRuntimeProgram
from fixtures.localize.blocks import read_data_flow, split_into_blocks
from fixtures.localize.bug_report import README, SCRIPT, write_bug_report
from fixtures.localize.search import DISAPPEARED, TIMED_OUT
from fixtures.records import Case, EngineOptions, ModelSpec
from fixtures.run import localize as run_localize
from fixtures.run.localize import RUN_ALONE, localize_case
from tests.meta.localizing import localizer
from tests.meta.tiny_models import by_onnxruntime
from tests.studies.faults.catalogue import BIAS, WEIGHT, scale_largest
from tests.studies.faults.planting import edit_constant

SPEC = ModelSpec("test_nfnet", None, (64, 64))
BLOCK, NODE = "stages.1.0", "stages.1.0.conv2"
MIGRAPHX = """
import numpy as np

class Program:
    def compile(self, target, **options):
        print("compiled", target, options)
    def run(self, feeds):
        return [np.load("data.npz")["expected"]]

def parse_onnx(path, map_input_dims):
    return Program()

def quantize_fp16(program):
    print("quantized")

def quantize_int8(program, target, calibration):
    print("calibrated on", len(calibration))

get_target, argument = str, np.asarray
"""


def edit(part, change):
    """Make a fault: change the weight or bias of a node."""
    return lambda model, node: edit_constant(model, node.input[part], change)


def negate_first_row(array):
    """Negate the weights of one output."""
    array[0] *= -1
    return array


WEIGHT_DOUBLED, BIAS_LOST = edit(WEIGHT, scale_largest(2)), edit(BIAS, scale_largest(0))
ROW_NEGATED = edit(WEIGHT, negate_first_row)


def middle_layers(model, operator="Conv"):
    """Map each block to the middle one of its layers of a kind."""
    blocks = {
        block.name: [group.name for group in block.groups if operator in group.operators] for block in split(model)
    }
    return {block: names[len(names) // 2] for block, names in blocks.items() if names}


def split(model):
    """Blocks of a file."""
    return split_into_blocks(read_data_flow(model))


@pytest.fixture
def planted(context, tmp_path):
    """Make a localizer of a model with a fault planted into a node, or none."""

    def plant(fault=None, node=NODE, spec=SPEC, precision="fp32", **options):
        correct, path = context.model_store.onnx_file(spec).path, context.model_store.onnx_file(spec, precision).path
        if fault:
            model = onnx.load(path)
            fault(model, next(entry for entry in model.graph.node if entry.name == node))
            path = tmp_path / "faulty.onnx"
            onnx.save(model, path)
        images = context.model_store.images(spec, 2)
        return localizer(path, images, tmp_path / "scratch", correct=correct, precision=precision, **options)

    return plant


@pytest.mark.parametrize(("fault", "precision"), [(WEIGHT_DOUBLED, "fp16"), (BIAS_LOST, "fp32")])
def test_fault_in_a_convolution_of_any_block_is_located(context, planted, fault, precision):
    for block, node in middle_layers(context.model_store.onnx_file(SPEC).path).items():
        found = planted(fault, node, precision=precision).localize()
        assert (found.first_block, found.first_node, found.first_wrong.kind) == (block, node, "Conv"), found.table()


@pytest.mark.parametrize(("fault", "precision"), [(ROW_NEGATED, "fp16"), (BIAS_LOST, "fp32")])
def test_fault_in_a_dense_layer_of_any_block_is_located(context, planted, fault, precision):
    layers = middle_layers(context.model_store.onnx_file(SPEC).path, "Gemm")
    assert list(layers.items())[::4] == [("stages.0.0", "stages.0.0.attn_last.fc2"), ("logits", "head.fc")]
    for block, node in layers.items():
        found = planted(fault, node, precision=precision).localize()
        assert (found.first_block, found.first_node, found.first_wrong.kind) == (block, node, "Gemm"), found.table()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("level", ["disable", "all"])
def test_clean_engine_has_no_wrong_block_or_node(context, precision, level):
    case = Case("onnxruntime:cpu", SPEC, precision, 2, EngineOptions(graph_optimization=level))
    found = localize_case(case, context)
    assert found.clean, found.table()
    assert found.report is None
    assert (len(found.blocks), len(found.nodes) > 0) == (10, True)


@pytest.fixture
def spoiled(monkeypatch):
    """Spoil the last of four images, and every image whose first pixel is 7; list the batches that were run."""
    batches, original = [], OnnxRuntimeProgram.run

    def faulty(self, feeds):
        (images,) = feeds.values()
        batches.append(images)
        good = np.array([index != 3 and image.flat[0] != 7 for index, image in enumerate(images)])
        outputs = original(self, feeds)
        return {name: array * good.reshape(-1, *[1] * (array.ndim - 1)) for name, array in outputs.items()}

    monkeypatch.setattr(OnnxRuntimeProgram, "run", faulty)
    return batches


def test_failing_images_are_compared(context, spoiled):
    case = Case("onnxruntime:cpu", SPEC, "fp32", 4)
    assert localize_case(case, context).clean
    found = localize_case(case, context, failing=(3,))
    assert found.first_block == "stem.conv1", found.table()
    assert "compared: images [3] of a batch of 4\n" in (Path(found.report) / README).read_text()
    assert {len(batch) for batch in spoiled} == {4}


def test_failing_images_of_a_large_batch_run_alone_with_a_note(context, spoiled, monkeypatch):
    """A fault that depends on the place in the batch may disappear then."""
    monkeypatch.setattr(run_localize, "WHOLE_BATCH_BYTES", 0)
    case = Case("onnxruntime:cpu", SPEC, "fp32", 4)
    images = context.model_store.images(SPEC, 4).copy()
    assert localize_case(case, context, images, failing=(2, 3)).clean
    images[2].flat[0] = 7
    found = localize_case(case, context, images, failing=(2, 3))
    note = RUN_ALONE.format(images="images [2, 3]")
    assert (found.first_block, found.notes) == ("stem.conv1", (note,)), found.table()
    assert note in (Path(found.report) / README).read_text()
    assert all(np.array_equal(batch[1:], images[3:]) for batch in spoiled)
    assert localize_case(case, context, images[:2]).notes == ()


FACTS = {"precision": "fp32", "engine": "onnxruntime:cpu", "fast_math": "False", "graph_optimization": "all"}


def test_bug_report_reproduces_the_error_with_onnxruntime_alone(planted, tmp_path):
    """The script prints the recorded error, and the same one from the extracted node."""
    found, lines = reported(planted(BIAS_LOST), tmp_path / "report", FACTS)
    recorded, again = (float(line.split("relative error ")[1].split()[0]) for line in lines[:2])
    assert recorded > 1e-4
    assert again == pytest.approx(recorded, rel=1e-3)
    assert len(lines) == 3
    assert found.first_wrong.name in (tmp_path / "report" / README).read_text()


@pytest.mark.parametrize(
    ("facts", "calls", "code"),
    [
        ({"precision": "fp16", "engine": "migraphx:gpu"}, ["quantized", "compiled gpu {'fast_math': False}"], 0),
        ({"precision": "int8", "fast_math": "True"}, ["calibrated on 1", "compiled ref {'fast_math': True}"], 1),
    ],
)
def test_bug_report_compiles_with_the_options_of_the_engine(planted, tmp_path, facts, calls, code):
    """A stand-in for MIGraphX's module prints its calls and is right; the exit code is that of the engine at fault."""
    facts = FACTS | facts
    _, (_, _, *printed, last) = reported(
        planted(BIAS_LOST), tmp_path / "report", facts, {"migraphx.py": MIGRAPHX}, code
    )
    assert printed == calls
    assert last.startswith(f"migraphx at {facts['precision']} ")


def test_bug_report_runs_the_module_that_ran(planted, tmp_path):
    """Its file is loaded, not the package of that name that Python finds."""
    (tmp_path / "module.py").write_text(MIGRAPHX)
    facts = FACTS | {"engine": "migraphx:gpu", "binding": f"python module {tmp_path / 'module.py'}"}
    other = {"migraphx.py": "raise AssertionError"}
    _, (*_, printed, last) = reported(planted(BIAS_LOST), tmp_path / "report", facts, other, code=0)
    assert printed == "compiled gpu {'fast_math': False}"
    assert last.startswith("migraphx at fp32 ")


def test_nan_where_the_reference_is_finite_is_wrong(planted, tmp_path):
    """Its error is infinite; the bug report shows it as what it is."""
    found, lines = reported(planted(edit(BIAS, scale_largest(np.nan))), tmp_path / "report", FACTS)
    assert (found.first_block, found.first_node, found.worst.ratio) == (BLOCK, NODE, np.inf)
    assert all("NaN or Inf differ at" in line for line in lines[:2])


def reported(search, folder, facts, files=None, code=1):
    """Write a bug report; return what was found, and the lines that its script prints beside ``files``."""
    found = search.localize()
    write_bug_report(folder, found, search, facts)
    for name, text in (files or {}).items():
        (folder / name).write_text(text)
    done = subprocess.run([sys.executable, SCRIPT], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return found, done.stdout.splitlines()


def test_deadline_ends_the_search_with_a_note(planted):
    found = planted(seconds=0).localize()
    assert (found.notes, found.unchecked, found.clean) == ((TIMED_OUT,), 10, False)


def test_fault_that_disappears_when_exposed_is_located_in_its_block_only(context, tmp_path):
    """As a wrong fusion does."""

    def fused(path, images):
        results = by_onnxruntime(path, images)
        if NODE not in results:
            results[BLOCK] = results[BLOCK] * 1.01
        return results

    file = context.model_store.onnx_file(SPEC).path
    found = localizer(file, context.model_store.images(SPEC, 1), tmp_path, engine=fused).localize()
    assert (found.first_block, found.first_node, found.notes) == (BLOCK, None, (DISAPPEARED,))


@pytest.mark.parametrize("left", [None, 1], ids=["missing", "without a row for each image"])
def test_block_that_the_engine_does_not_expose_is_hidden(context, tmp_path, left):
    """So is the next one, whose input it is; the others are compared."""

    def incomplete(path, images):
        made = by_onnxruntime(path, images)
        block = made.pop(BLOCK)
        return made if left is None else {**made, BLOCK: block[:left]}

    file = context.model_store.onnx_file(SPEC).path
    found = localizer(file, context.model_store.images(SPEC, 2), tmp_path, engine=incomplete).localize(deep=False)
    assert (found.first_block, found.unchecked, found.clean) == (None, 0, False)
    assert {*(row.name for row in found.blocks), *found.hidden} == {block.name for block in split(file)}
    assert found.hidden == ("stages.2.0",)
    assert found.hidden[0] in found.summary


def test_nodes_of_a_clean_engine_are_compared_only_if_deep(context, tmp_path):
    file = context.model_store.onnx_file(SPEC).path
    found = localizer(file, context.model_store.images(SPEC, 1), tmp_path).localize(deep=False)
    assert (found.clean, len(found.blocks), found.nodes) == (True, 10, ())

"""Classifiers of every shape are judged, or not judged with the reason: the cases of public bug reports."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from fixtures.cli.comparison import DIFFERENT_BLOCK, EXPLAIN
from fixtures.engines.registry import target_of
from fixtures.errors import EvaluationError
from fixtures.inputs import synthetic_images
from fixtures.onnx_file import inspect
from fixtures.quantization.derive import quantized_model
from fixtures.reference.arithmetic import arithmetic
from fixtures.reference.float64 import Float64Reference
from fixtures.run.reference import OTHER_VERSION
from tests.meta import classifiers
from tests.meta.faulty_comparison import fault

ONNXRUNTIME = ("--engine", "onnxruntime:cpu")
NOTHING_COMPARED = 6
ROOT = Path(__file__).parents[2]
AGREE = "AGREE: onnxruntime:cpu and ONNX Runtime on 4 images"
NO_ROWS, NO_NUMBERS = "no row for each image", "no tensor of numbers"
JUDGED = {  # model -> the notes before the run
    "standardised_weight": (),
    "int8_without_zero_point": (),
    "further_outputs": (),
    "only_a_class": (),
    "imprecise_output": (),
    "mean_of_the_batch": (f"output 'm' is not compared: it has {NO_ROWS}",),
    "number_and_weight": (
        f"output 's' is not compared: it has {NO_ROWS}",
        f"output 'd' is not compared: it has {NO_ROWS}",
        f"output 'e' is not compared: it has {NO_ROWS}",
        f"output 't' is not compared: it is {NO_NUMBERS}",
    ),
    "sequence": (f"output 's' is not compared: it is {NO_NUMBERS}",),
    "sparse_weight": (),
    "cropped": (),
    "resized": (),
    "normalised": (),
    "written_at_minus_one": ("images of a batch affect each other through ScatterND 's'",),
    "channels_last": (),
    "one_channel": (),
    "of_bytes": (),
    "overflowing": (),
    "quantised": (),
    "quantised_operators": (),
    "weights_in_4_bits": (),
    "centred": ("images of a batch affect each other through Sub 'centred'",),
    "dynamically_quantised": ("images of a batch affect each other through DynamicQuantizeLinear 'q'",),
    "masked": (),
    "mostly_nan": ("16 of 20 values of output 'y' are NaN or Inf",),
    "all_equal": ("output 'y' has one value for all classes",),
    "batch_normalised": (),
    "standardised_images": (),
    "contributed": ("ONNX Runtime computes QuickGelu 'y' of the float64 reference",),
}
NOT_JUDGED = {  # model -> what the message says
    "dropout": ("Dropout 'y'", "random numbers", "export the model after eval()"),
    "only_a_sequence": ("no output has a row for each image",),
    "one_row": ("fixes the batch to 1", "use --batch 1"),
    "overflowing_in_half": ("no noise floor", "the first overflow is in Conv 'c'", "fp16 ends at 65504"),
    "added_in_bf16": ("ONNX Runtime, the reference", OTHER_VERSION),
    "disputed": ("differ in Resize 't'", "neither is flagged"),
    "unknown": ("Own 'y'", "neither onnx nor ONNX Runtime"),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A function that writes a model and returns its path."""
    folder = tmp_path_factory.mktemp("classifiers")

    def write(name):
        path = folder / f"{name}.onnx"
        onnx.save(classifiers.model(name), path)
        return path

    return write


@pytest.mark.parametrize("name", JUDGED)
def test_the_command_line_judges_every_shape(runner, file, name):
    done = runner.compare(f"--model={file(name)}", *ONNXRUNTIME, "--inputs", "4", "--batch", "2")
    assert AGREE in done.out
    notes = [line for line in done.out.partition("\nimage ")[0].splitlines() if line.startswith("note ")]
    assert len(notes) == len(JUDGED[name])
    assert all(text in line for text, line in zip(JUDGED[name], notes, strict=True))


def test_what_quantisation_costs_is_told_of_a_model_that_only_decides(runner, file):
    """In classes that stay, since there is no distance."""
    done = runner.compare(f"--model={file('only_a_class')}", *ONNXRUNTIME, "--inputs", "1", "--precision", "int8")
    assert "quantised  same output 'k' on" in done.out


@pytest.mark.parametrize(
    ("name", "tensor", "factor", "block"),
    [("quantised", "c1", 1.01, "c1"), ("imprecise_output", "y", 1.0003, "imprecise")],
)
def test_blocks_are_always_compared_where_the_tolerance_is_wide(runner, file, name, tensor, factor, block):
    """Steps of quantisation may hide a wrong scale, and an imprecise output the error of another."""
    wrong = fault(f'if "{tensor}" in results: results["{tensor}"] = results["{tensor}"] * np.float32({factor})')
    done = runner.compare(f"--model={file(name)}", *ONNXRUNTIME, "--inputs", "4", "--batch", "2", patch=wrong, code=1)
    assert done.out.splitlines()[-1] == f"DIFFER: {DIFFERENT_BLOCK.format(block=block)}{EXPLAIN}"


@pytest.mark.parametrize("name", NOT_JUDGED)
def test_what_cannot_be_judged_is_one_line(runner, file, name):
    done = runner.compare(f"--model={file(name)}", *ONNXRUNTIME, "--inputs", "4", "--batch", "2", code=2)
    assert all(text in done.err.splitlines()[-1] for text in NOT_JUDGED[name])
    assert "Traceback" not in done.text


@pytest.mark.parametrize(
    "name", ["written_at_minus_one", "number_and_weight", "quantised", "channels_last", "of_bytes", "further_outputs"]
)
def test_no_test_flags_a_clean_engine(runner, file, name):
    """At every precision that the model has; tests that do not apply are skipped."""
    done = runner.pytest("tests/conformance", f"--model={file(name)}", *ONNXRUNTIME, "--batch", "2")
    assert all(f"{name}: {note}" in done.out for note in JUDGED[name])


@pytest.mark.parametrize("name", ["dropout", "batch_of_two"])
def test_a_case_that_is_not_judged_is_reported_once(runner, file, name):
    """In the header, in the summary, and once among the skipped tests."""
    words = ("--precision", "fp32", "--batch", "3")
    done = runner.pytest("tests/conformance", f"--model={file(name)}", *ONNXRUNTIME, *words, code=NOTHING_COMPARED)
    case = f"onnxruntime:cpu-{name}-fp32-b3"
    assert done.out.count(f"\nNOT JUDGED {case}: ") == 1
    assert done.out.count(f"{case}: not judged: ") == 1


def test_a_batch_that_the_graph_fixes_is_judged(runner, file):
    done = runner.compare(f"--model={file('batch_of_two')}", *ONNXRUNTIME, "--inputs", "4", "--batch", "2")
    assert "the graph fixes the batch to 2" in done.out


def test_an_open_image_size_is_asked_for(runner, file):
    model = f"--model={file('open_size')}"
    assert "--image-size" in runner.compare(model, *ONNXRUNTIME, code=2).err.splitlines()[-1]
    done = runner.pytest("tests/conformance", model, *ONNXRUNTIME, code=pytest.ExitCode.USAGE_ERROR)
    assert "Traceback" not in done.text
    done = runner.compare(model, *ONNXRUNTIME, "--inputs", "4", "--image-size", "16")


def test_photographs_need_three_channels_first(runner, file, tmp_path):
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "black.png")
    for name in ("channels_last", "one_channel", "of_bytes"):
        done = runner.compare(f"--model={file(name)}", *ONNXRUNTIME, "--images", str(tmp_path / "black.png"), code=2)
        assert "three channels" in done.err.splitlines()[-1]


def test_operators_are_listed_by_who_computes_them(runner):
    done = runner.forked(ROOT / "ort_comparison.py", "operators")
    groups = [set(text.replace(",", " ").split()) for text in re.findall(r"\)\n((?:  .*\n)+)", done.out)]
    known = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    assert set.union(*groups) == known
    assert sum(map(len, groups)) == len(known)
    assert {"Conv", "Loop"} <= groups[0]
    assert "RandomNormal" in groups[-1]


def test_further_inputs_are_fixed(runner, file, tmp_path):
    """By a number, or by a file with a row for each image; without, the message says how."""
    model = f"--model={file('several_inputs')}"
    np.save(tmp_path / "row.npy", np.arange(10.0))
    refused = runner.compare(model, *ONNXRUNTIME, code=2)
    assert "--input NAME=VALUE" in refused.err
    done = runner.compare(model, *ONNXRUNTIME, "--inputs", "4", f"--input=temperature=2,offsets={tmp_path / 'row.npy'}")
    assert AGREE in done.out
    wrong = runner.compare(model, *ONNXRUNTIME, "--input=temperature=2,offsets=many", code=2)
    assert "shape [1, 10]" in wrong.err.splitlines()[-1]


def test_the_first_overflow_is_named(file, tmp_path):
    """With the node, the tensor, its largest value and the limit of the format."""
    model = inspect(file("overflowing"))
    images = synthetic_images("overflow", (1, 3, 16, 16))
    found = Float64Reference(model, tmp_path).first_overflow(images, arithmetic("fp16"))
    assert re.search(r"Conv 'c', tensor 'c': \S+e\+05, and fp16 ends at 65504", found)
    assert not Float64Reference(model, tmp_path).first_overflow(images, arithmetic("bf16"))


def test_tensors_with_infinity_have_no_scale(file):
    """As masks of attention have it; int8 and fp8 are then not judged."""
    with pytest.raises(EvaluationError, match="has Inf or NaN on the calibration images, so no scale"):
        quantized_model(
            inspect(file("masked")), synthetic_images("masked", (1, 3, 16, 16)), target_of("migraphx:ref").rule("fp8")
        )

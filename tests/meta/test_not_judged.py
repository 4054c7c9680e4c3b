"""Not judged never counts as passed: missing engines, runs that compared nothing, wrong options."""

import re

import onnx
import pytest

from fixtures.plugin.audit import NOT_COMPARED
from fixtures.plugin.terminal import GPU_HERE
from tests.meta.faulty_comparison import TOO_WIDE
from tests.meta.tiny_models import tiny_model

AGREEMENT = "tests/conformance/test_agreement.py"
NOWHERE = {"NFNET_MIGRAPHX": "/nonexistent"}
GPU = "from fixtures import hardware\nhardware.amd_gpus = lambda *_: ['0000:03:00.0']\n"
INTEGRATED = GPU + "hardware.gpu_nodes = lambda *_: [{'gfx_target_version': '100306'}]\n"  # gfx1036, of a Ryzen
SMALL = ("--variant", "test_nfnet", "--image-size", "64", "--precision", "fp32", "--batch", "1")
USAGE, NOTHING = 4, 6


def test_missing_default_engine_is_skipped_with_the_reason(runner):
    """Header, skip and summary show it; others are judged. A GPU that ROCm does not support is no reason to fail."""
    done = runner.pytest("tests/conformance/test_engines.py", AGREEMENT, *SMALL, env=NOWHERE, plugin=INTEGRATED)
    assert "  migraphx:gpu: NOT JUDGED, there is no MIGraphX in the given location, /nonexistent\n" in done.out
    assert "    -> name a folder with migraphx*.so" in done.out
    assert "ROCm does not support gfx1036" in done.out
    assert "1 skipped" in done.out
    assert "\nNOT JUDGED migraphx:gpu: " in done.out
    assert "\npass onnxruntime:cpu-test_nfnet@64-fp32-b1" in done.out


@pytest.mark.parametrize("option", ["--engine", "--require-engine"])
def test_named_engine_that_is_missing_fails(runner, option):
    done = runner.pytest("tests/conformance", option, "migraphx:ref", *SMALL, env=NOWHERE, code=1)
    assert "requested, but not usable: migraphx:ref: there is no MIGraphX in the given location" in done.out
    assert "(requested by name: these will fail)" in done.out
    assert "-> name a folder" in done.out


def test_required_engine_must_be_compared(runner):
    done = runner.small(AGREEMENT, *SMALL, "--require-engine", "migraphx:ref", "-k", "cpu", env=NOWHERE, code=NOTHING)
    assert "ERROR: migraphx:ref is required, but was not compared" in done.out


def test_machine_with_an_amd_gpu_must_judge_it(runner):
    """Unless --engine names what to judge; whether or not a driver has found the GPU."""
    done = runner.pytest(AGREEMENT, *SMALL, env=NOWHERE, plugin=GPU, code=NOTHING)
    assert f"ERROR: migraphx:gpu is required, but was not compared{GPU_HERE}" in done.out
    runner.small(AGREEMENT, *SMALL, env=NOWHERE, plugin=GPU)


def test_run_that_compared_nothing_fails(runner):
    """Exit code 6 although every test was skipped: a precision that the engine lacks."""
    done = runner.small(AGREEMENT, "--precision", "bf16", code=NOTHING)
    assert "ERROR: nothing was compared" in done.out
    assert f"ERROR: {NOT_COMPARED.format(option='--image-size', value='64')}\n" in done.out


def test_tolerance_that_is_too_wide_judges_nothing(runner):
    words = ("--engine", "onnxruntime:cpu", "--variant", "digits_nfnet", "--precision", "fp32", "--batch", "1")
    tests = (AGREEMENT, "tests/conformance/test_accuracy.py::test_top1_flips_are_within_tolerance")
    done = runner.pytest(*tests, *words, plugin=TOO_WIDE, code=NOTHING)
    assert re.search(r"\b3 skipped in", done.out)
    assert re.search(r"not judged: the tolerance, a relative error of \S+e-06, is above 1e-09: any outputs", done.out)


def test_skipped_case_names_its_reason(runner):
    """A precision that the engine lacks. It was named, so the run is no success."""
    done = runner.small(AGREEMENT, "--precision", "bf16,fp32", "--batch", "1", code=NOTHING)
    assert f"ERROR: {NOT_COMPARED.format(option='--precision', value='bf16')}\n" in done.out
    assert "onnxruntime:cpu-test_nfnet@64-bf16-b1: this engine does not compute in bf16" in done.out


LACKS_FP16 = """
from dataclasses import replace
from fixtures.engines import registry
engine_status = registry.engine_status
def lacking(name, location=None):
    return replace(engine_status(name, location), not_supported={"fp16": "it has no such unit"})
registry.engine_status = lacking
"""


def test_precision_that_the_machine_lacks_is_one_skip(runner):
    done = runner.small("tests/conformance/test_engines.py", AGREEMENT, "--batch", "1", plugin=LACKS_FP16)
    assert "    fp16 not supported: it has no such unit\n" in done.out
    assert "| fp32, int8 | batch 1\n" in done.out
    assert re.search(r"\b1 skipped in", done.out)


def test_named_precision_that_the_machine_lacks_is_a_usage_error(runner):
    done = runner.small(AGREEMENT, "--precision", "fp32,fp16", plugin=LACKS_FP16, code=USAGE)
    assert "onnxruntime:cpu does not support fp16: it has no such unit -> leave fp16 out" in done.text


def test_runs_without_comparing_tests_succeed(runner):
    """Benchmarks alone, meta tests and tests/conformance/test_engines.py need no comparison."""
    runner.small("tests/performance", "--precision", "fp32", "--batch", "1")
    runner.pytest("tests/meta/test_variants.py")
    opened = runner.small("tests/conformance/test_engines.py")
    assert "nothing was compared" not in opened.out


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Files that are not usable as models, named by what is wrong."""
    folder = tmp_path_factory.mktemp("broken")
    two = tiny_model(("Add", ["x", "z"], ["y"], {}), shape=["n", 3, 8, 8])
    two.graph.input.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["n", 3, 8, 8]))
    onnx.save(two, folder / "two.onnx")
    (folder / "file").touch()
    return folder


WRONG = [
    (("--precision", "fp12"), "choose from fp32, fp16, bf16"),
    (("--engine", "tensorrt:gpu"), "unknown engine 'tensorrt:gpu' -> choose from onnxruntime:cpu"),
    (("--image-size", "31"), "31"),
    (("--imagenet-images", "3"), "--imagenet=DIR"),
    (("--calibration=" + "n" * 300,), "is not a folder"),
    (("--migraphx={folder}",), "there is no MIGraphX in the given location"),
    (("--imagenet={folder}/none",), "none: is not a folder"),
    (("--imagenet={folder}",), "contains no labelled images"),
    (("--model={folder}/a.onnx", "--model={folder}/b.onnx"), "--model was given twice -> run once for each value"),
    (("--model={folder}/none.onnx",), "none.onnx: no such model file -> check the path"),
    (("--model={folder}/two.onnx",), "the model must have one input, it has 2"),
    (("--cache-dir={folder}/file/cache",), "the cache folder cannot be written"),
]


@pytest.mark.parametrize(
    ("words", "message"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_wrong_option_is_one_line(runner, broken, tmp_path, words, message):
    """Exit code 4, what is wrong and what to do, no traceback, no files left behind."""
    done = runner.pytest(f"--cache-dir={tmp_path}", *(word.format(folder=broken) for word in words), code=USAGE)
    (line,) = re.findall(r"^(?:ERROR: (?!usage)|python -m pytest: error: )(.*)$", done.err, re.MULTILINE)
    assert message in line
    assert "Traceback" not in done.text
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]

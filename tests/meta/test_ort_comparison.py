"""The comparison from a shell: exit code 0 they agree, 1 they differ, 2 it could not be judged, with what to do."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.cli.comparison import EXPLAIN, NOT_JUDGED_TEXT
from fixtures.options import SHELL, options_of
from fixtures.run.localize import ERROR
from fixtures.run.quantization import NOT_AS_DERIVED
from fixtures.verdict import patterns
from tests.meta.faulty_comparison import OTHER_SCALE, TOO_WIDE, fault

ROOT = Path(__file__).parents[2]
SMALL = ("--engine", "onnxruntime:cpu", "--variant", "test_nfnet", "--image-size", "64")
DIFFER, NOT_JUDGED = 1, 2
SECOND_PLUS_ONE = "results['logits'][1] += 1"
SECOND_WRONG = patterns.SOME_IMAGES.format(images="image 1 is", others=1, count=2)


def rows(text):
    """Lines of images: number, error in u, allowed, top-1, expected."""
    return re.findall(r"^ +(\d+) +(\S+) +(\S+) +(\d+) +(\d+) +\S+ +(\S*)$", text, re.MULTILINE)


def test_correct_engine_agrees(runner, tmp_path):
    """Model, input, output and engine first, then a line an image, then the verdict; from any folder."""
    done = runner.compare(*SMALL, cwd=tmp_path)
    assert "input      inputs: float32[batch, 3, 64, 64]" in done.out
    assert "output     logits: float32[batch, 1000]" in done.out
    assert re.search(r"^engine     onnxruntime:cpu \d\S* at fp32, batch 1$", done.out, re.MULTILINE)
    assert [int(row[0]) for row in rows(done.out)] == list(range(10))
    assert all(0 <= float(row[1]) < float(row[2]) and row[3] == row[4] and not row[5] for row in rows(done.out))
    assert done.out.splitlines()[-1] == "AGREE: onnxruntime:cpu and ONNX Runtime on 10 images at fp32"
    assert "\x1b" not in done.text


@pytest.mark.parametrize(
    ("wrong", "count", "words"),
    [
        (SECOND_PLUS_ONE, 5, SECOND_WRONG),
        ("results['logits'][:] = float('nan')", 10, patterns.NAN.format(images="images 0, 1 are")),
        ("results['logits'] = results['logits'][:, :-1]", 10, "has shape [2, 999] instead of [2, 1000]"),
    ],
)
def test_wrong_logits_differ(runner, wrong, count, words):
    """Exit code 1, the images that are off, and once in full what is wrong."""
    done = runner.compare(*SMALL, "--batch", "2", patch=fault(wrong), code=DIFFER)
    assert words in done.out
    assert done.out.splitlines()[-1].startswith(f"DIFFER: {count} of 10 images")


def test_wrong_padding_of_a_batch_differs(runner):
    """The requested image is correct; the engine is not."""
    done = runner.compare(
        *SMALL, "--batch", "2", "--inputs", "1", patch=fault("results['logits'][1] += 1"), code=DIFFER
    )
    assert [row[5] for row in rows(done.out)] == [""]
    assert SECOND_WRONG in done.out


def test_other_quantisation_than_derived_differs(runner):
    """The tensor is named with both scales; what quantisation costs by itself is printed separately."""
    done = runner.compare(*SMALL, "--precision", "int8", "--inputs", "1", patch=OTHER_SCALE, code=DIFFER)
    assert re.search(
        r"^quantised  distance from fp32 0\.\d+, same top-1 class on \d of \d images$", done.out, re.MULTILINE
    )
    assert re.search(r"scale .*, expected .* \(1\.00% off\)", done.out)
    assert done.out.splitlines()[-1] == f"DIFFER: {NOT_AS_DERIVED}: 1{EXPLAIN}"


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ("", NOT_JUDGED, "NOT JUDGED: onnxruntime:cpu-test_nfnet@64-fp32-b1: the tolerance, a relative error of "),
        (fault("results['logits'] *= -1"), DIFFER, "DIFFER: 2 of 2 images"),
    ],
    ids=["correct", "wrong"],
)
def test_nothing_agrees_if_the_tolerance_is_too_wide(runner, more, code, words):
    """Only what differs by more than that is judged."""
    done = runner.compare(*SMALL, "--inputs", "2", patch=TOO_WIDE + more, code=code)
    assert done.out.splitlines()[-1].startswith(words)


COUNT_IMAGES = """
from fixtures.run import models
real = models.synthetic_images
def synthetic_images(key, shape, *more):
    print("generated", shape[0])
    return real(key, shape, *more)
models.synthetic_images = synthetic_images
"""


def test_random_images_are_generated_batch_by_batch(runner):
    """Ten thousand at once would not fit; image i is the same in every batch size, and the last batch is padded."""
    words = (*SMALL, "--inputs", "9", "--batch")
    single, batches = (runner.compare(*words, size, patch=COUNT_IMAGES) for size in ("1", "2"))
    for done in (single, batches):
        assert max(re.findall(r"^generated (\d+)$", done.out, re.MULTILINE)) == "3", done.text  # of the noise floor
    assert [row[3:5] for row in rows(single.out)] == [row[3:5] for row in rows(batches.out)]
    assert [int(row[0]) for row in rows(batches.out)] == list(range(9))


def test_other_classifiers_can_be_compared(runner, classifier):
    """With their own names, sizes and types; a fixed batch must be requested."""
    done = runner.compare("--engine", "onnxruntime:cpu", "--model", classifier, "--batch", "4", "--inputs", "6")
    assert "input      pixels: float32[4, 3, 8, 8]" in done.out
    assert "output     probabilities: float32[4, 10]" in done.out
    assert len(rows(done.out)) == 6
    refused = runner.compare("--engine", "onnxruntime:cpu", "--model", classifier, code=NOT_JUDGED)
    assert "takes batches of 4 only, not 1 -> use --batch 4" in refused.err


def test_half_precision_file_is_judged_at_fp16(runner, half):
    done = runner.compare("--engine", "onnxruntime:cpu", "--model", half, "--inputs", "3")
    assert re.search(r"^reference  onnxruntime:cpu \d\S* at fp16, no graph optimisation$", done.out, re.MULTILINE)
    refused = runner.compare("--engine", "onnxruntime:cpu", "--model", half, "--precision", "fp32", code=NOT_JUDGED)
    assert refused.err.splitlines()[-1].endswith("-> use --precision fp16, or a file in fp32")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--migraphx", "/nonexistent"), "-> name a folder with"),
        ((*SMALL, "--images", "/nonexistent/x.png"), "/nonexistent/x.png: does not exist"),
        (("--engine", "onnxruntime:cpu", "--model", "x.onnx", "--seed", "3"), "do not apply to --model -> leave them"),
        ((*SMALL, "--precision", "bf16"), "this engine does not compute in bf16"),
        ((*SMALL, "--image-size", "20"), "an image of 20x20 pixels is too small for test_nfnet"),
        ((*SMALL, "--images", "x.png", "--inputs", "3"), "not allowed with argument"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, tuple) else "",
)
def test_usage_errors_are_one_line(runner, words, message):
    done = runner.compare(*words, code=NOT_JUDGED)
    assert message in done.err.splitlines()[-1]
    assert "Traceback" not in done.text


def test_without_migraphx_the_engines_that_are_there_are_judged(runner):
    """What is missing is not: the comparison that the command is named for was not made."""
    words = ("--variant", "test_nfnet", "--image-size", "64", "--inputs", "1")
    done = runner.compare(*words, env={"NFNET_MIGRAPHX": "/nonexistent"}, code=NOT_JUDGED)
    agree, missing = done.out.splitlines()[-2:]
    assert agree == "AGREE: onnxruntime:cpu and ONNX Runtime on 1 images at fp32"
    assert missing.startswith("NOT JUDGED migraphx:gpu: ")


def test_missing_package_is_named(runner):
    code = f"import sys; sys.modules['onnx'] = None; sys.path.insert(0, {str(ROOT)!r}); import ort_comparison; "
    done = runner.python("-c", code + "sys.exit(ort_comparison.main(sys.argv[1:]))", *SMALL, code=NOT_JUDGED)
    assert "onnx" in done.err
    assert "pip install" in done.err
    assert "Traceback" not in done.text


@pytest.mark.parametrize(
    ("patch", "code", "message"),
    [
        (
            "from fixtures.cli import comparison\ndef stop(): raise KeyboardInterrupt\ncomparison.parser = stop",
            130,
            "interrupted",
        ),
        (fault("raise ValueError('strange')"), NOT_JUDGED, "ValueError in the suite itself -> report the lines above"),
    ],
    ids=["interrupted at the start", "bug in the suite"],
)
def test_interrupt_and_bugs_of_the_suite_are_not_judged(runner, patch, code, message):
    """Python's own exit codes would say that the sides agree or differ."""
    done = runner.compare(*SMALL, patch=patch, code=code)
    assert done.err.splitlines()[-1].startswith(f"{NOT_JUDGED_TEXT}: {message}")
    assert ("ValueError: strange" in done.err) == ("ValueError" in patch)


def test_failed_localisation_is_an_error_with_its_traceback(runner):
    refused = fault("if len(results) > 1: raise ValueError('no more outputs')")
    done = runner.compare(*SMALL, "--inputs", "1", "--explain", patch=refused, code=NOT_JUDGED)
    reason, path = re.search(ERROR.format(reason="(.*)", path=r"(\S+)"), done.out).groups()
    assert reason == "ValueError: no more outputs"
    assert "Traceback" in Path(path).read_text()


def test_closed_pipe_causes_no_traceback(runner):
    """As with ``| head -1``."""
    command = [sys.executable, str(ROOT / "ort_comparison.py"), *SMALL, f"--cache-dir={runner.cache}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        text = process.stderr.read()
    assert "Traceback" not in text
    assert "BrokenPipe" not in text


def test_help_is_complete(runner):
    """Every option of the table, the exit codes and examples, at most 80 columns wide."""
    done = runner.compare("--help")
    for word in (*(option.name for option in options_of(SHELL)), "--inputs", "--images", "exit code", "examples"):
        assert word in done.out
    assert max(map(len, done.out.splitlines())) <= 80

"""The comparison from a shell: exit code 0 they agree, 1 they differ, 2 it could not be judged, with what to do."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fixtures.options import SHELL, options_of
from fixtures.run.localize import NOT_LOCALIZED
from tests.meta.faulty_comparison import faulty_comparison

ROOT = Path(__file__).parents[2]
SMALL = ("--engine", "onnxruntime:cpu", "--variant", "test_nfnet", "--image-size", "64")
AGREE, DIFFER, NOT_JUDGED = 0, 1, 2


def rows(text):
    """Lines of images: number, error in u, allowed, top-1, expected."""
    return re.findall(r"^ +(\d+) +(\S+) +(\S+) +(\d+) +(\d+) +\S+ +(\S*)$", text, re.MULTILINE)


def test_engines_that_agree(runner, tmp_path):
    """Model, input, output and engine first, then a line an image, then the verdict; from any folder."""
    done = runner.compare(*SMALL, cwd=tmp_path)
    assert done.code == AGREE, done.text
    assert "input      inputs: float32[batch, 3, 64, 64]" in done.out
    assert "output     logits: float32[batch, 1000]" in done.out
    assert re.search(r"^engine     onnxruntime:cpu \d\S* at fp32, batch 1$", done.out, re.MULTILINE)
    assert [int(row[0]) for row in rows(done.out)] == list(range(10))
    assert all(0 <= float(row[1]) < float(row[2]) and row[3] == row[4] and not row[5] for row in rows(done.out))
    assert done.out.splitlines()[-1] == "AGREE: onnxruntime:cpu and ONNX Runtime on 10 images at fp32"
    assert "\x1b" not in done.text


def test_batches_that_do_not_divide(runner):
    """Three images in batches of two are three lines."""
    done = runner.compare(*SMALL, "--inputs", "3", "--batch", "2")
    assert done.code == AGREE, done.text
    assert [int(row[0]) for row in rows(done.out)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("fault", "count", "words"),
    [
        ("results['logits'][1] += 1", 5, "image 1 is wrong, the other 1 of 2 agree"),
        ("results['logits'][:] = float('nan')", 10, "NaN throughout"),
        ("results['logits'][1, 7] = float('nan')", 5, "1 NaN and 0 Inf, expected 0 NaN and 0 Inf; first at [1, 7]"),
        ("results['logits'] = results['logits'][:, :-1]", 10, "has shape [2, 999] instead of [2, 1000]"),
    ],
)
def test_engines_that_differ(runner, fault, count, words):
    """Exit code 1, the images that are off, and once in full what is wrong."""
    code = faulty_comparison(fault)
    done = runner.python("-c", code, *SMALL, "--batch", "2")
    assert done.code == DIFFER, done.text
    assert words in done.out
    last = done.out.splitlines()[-1]
    assert last == f"DIFFER: {count} of 10 images differ by more than fp32 explains"


def test_what_only_fills_the_batch_may_not_be_wrong(runner):
    """The one image asked for is right; the engine is not."""
    done = runner.python("-c", faulty_comparison("results['logits'][1] += 1"), *SMALL, "--batch", "2", "--inputs", "1")
    assert done.code == DIFFER, done.text
    assert [row[5] for row in rows(done.out)] == [""]
    assert "image 1 is wrong, the other 1 of 2 agree" in done.out


def test_images_are_made_when_they_are_needed(runner):
    """Ten thousand at once would not fit; they are the same as before, one by one or in batches."""
    counting = (
        "import atexit\nfrom fixtures.run import models\nmade, most = models.synthetic_images, []\n"
        "def counted(key, shape, *more):\n    most.append(shape[0])\n    return made(key, shape, *more)\n"
        "models.synthetic_images = counted\natexit.register(lambda: print('most', max(most)))\n"
    )
    single, batches = (
        runner.python("-c", counting + faulty_comparison("pass"), *SMALL, "--inputs", "9", "--batch", size)
        for size in ("1", "2")
    )
    assert single.out.splitlines()[-1] == batches.out.splitlines()[-1] == "most 3", single.text  # of the floor
    assert [row[3:5] for row in rows(single.out)] == [row[3:5] for row in rows(batches.out)]
    assert len(rows(single.out)) == 9


def test_threads_are_those_of_both_sides(runner):
    """The reference takes no more than were given."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport ort_comparison\n"
        "from fixtures.engines.onnxruntime.engine import OnnxRuntimeEngine as Engine\nreal = Engine._session\n"
        "def made(self, source, level, threads, *rest, **more):\n"
        "    print('session', level, threads)\n    return real(self, source, level, threads, *rest, **more)\n"
        "Engine._session = made\nsys.exit(ort_comparison.main(sys.argv[1:]))"
    )
    done = runner.python("-c", code, *SMALL, "--inputs", "1", "--threads", "3")
    assert done.code == AGREE, done.text
    assert sorted(re.findall(r"^session (.*)$", done.out, re.MULTILINE)) == ["all 3", "disable 3"]


def test_another_classifier(runner, classifier):
    """Its own names, sizes and types; the batch that it fixes must be asked for."""
    done = runner.compare("--engine", "onnxruntime:cpu", "--model", classifier, "--batch", "4", "--inputs", "6")
    assert done.code == AGREE, done.text
    assert "input      pixels: float32[4, 3, 8, 8]" in done.out
    assert "output     probabilities: float32[4, 10]" in done.out
    assert len(rows(done.out)) == 6
    refused = runner.compare("--engine", "onnxruntime:cpu", "--model", classifier)
    assert refused.code == NOT_JUDGED
    assert "takes batches of 4 only, not 1 -> use --batch 4" in refused.err


def test_a_file_in_half_precision_is_judged_at_that(runner, half):
    """Both sides compute in it; no other precision is asked of it."""
    done = runner.compare("--engine", "onnxruntime:cpu", "--model", half, "--inputs", "3")
    assert done.code == AGREE, done.text
    assert re.search(r"^reference  onnxruntime:cpu \d\S* at fp16, no graph optimisation$", done.out, re.MULTILINE)
    assert done.out.splitlines()[-1] == "AGREE: onnxruntime:cpu and ONNX Runtime on 3 images at fp16"
    refused = runner.compare("--engine", "onnxruntime:cpu", "--model", half, "--precision", "fp32")
    assert refused.code == NOT_JUDGED
    words = "this model's file is in fp16 -> use --precision fp16, or a file in fp32"
    assert refused.err.splitlines()[-1].endswith(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--migraphx", "/nonexistent"), "there is no MIGraphX in the given location"),
        (("--engine", "migraphx:ref", "--migraphx", "/nonexistent"), "-> name a folder with"),
        (("--engine", "onnxruntime:cpu", "--model", "none.onnx"), "none.onnx: no such model file -> check the path"),
        (("--engine", "onnxruntime:cpu", "--model", str(ROOT / "README.md")), "not an ONNX file"),
        (("--engine", "onnxruntime:npu"), "unknown engine 'onnxruntime:npu' -> choose from"),
        ((*SMALL, "--weights", "trained", "--seed", "3"), "--seed makes seeded weights, not trained -> leave one of"),
        (("--engine", "onnxruntime:cpu", "--model", "x.onnx", "--seed", "3"), "but --model gives one -> leave them"),
        (("--engine", "onnxruntime:cpu", "--model", "x.onnx", "--weights", "seeded"), "-> leave one of them out"),
        ((*SMALL, "--precision", "bf16"), "cannot convert models to bf16"),
        ((*SMALL, "--image-size", "20"), "an image of 20x20 pixels is too small for test_nfnet"),
        ((*SMALL, "--cache-dir", "/dev/null/cache"), "the cache folder cannot be written"),
        ((*SMALL, "--batch", "0"), "batch 0 is too small"),
        ((*SMALL, "--precision", "fp12"), "unknown precision 'fp12' -> choose from fp32, fp16, bf16"),
        ((*SMALL, "--model", "x.onnx"), "not allowed with argument"),
        (("--variant", "resnet"), "unknown variant 'resnet' -> choose from dm_nfnet_f0"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_judged(runner, words, message):
    """Exit code 2 and one line that says what and what to do."""
    done = runner.compare(*words)
    assert done.code == NOT_JUDGED, done.text
    assert message in done.err.splitlines()[-1]
    assert "Traceback" not in done.text


def test_no_weights_are_looked_for_where_the_engine_is_missing(runner):
    """They may be a gigabyte."""
    done = runner.compare("--engine", "migraphx:gpu", "--migraphx", "/nonexistent")
    assert done.code == NOT_JUDGED
    assert done.out == ""


@pytest.mark.parametrize("package", ["onnxruntime", "numpy", "onnx"])
def test_a_missing_package_is_named(runner, package):
    """With the command that installs it."""
    code = f"import sys; sys.modules[{package!r}] = None; sys.path.insert(0, {str(ROOT)!r}); import ort_comparison; "
    done = runner.python("-c", code + "sys.exit(ort_comparison.main(sys.argv[1:]))", *SMALL)
    assert done.code == NOT_JUDGED, done.text
    assert package in done.err
    assert "pip install" in done.err
    assert "Traceback" not in done.text


def test_interrupted_is_not_judged(runner):
    """What was printed holds, the exit code does not say that they agree."""
    done = runner.python("-c", faulty_comparison("raise KeyboardInterrupt"), *SMALL)
    assert done.code == NOT_JUDGED
    assert done.err.splitlines()[-1] == "could not judge: interrupted; the lines above hold"


def test_a_fault_of_the_suite_is_no_difference(runner):
    """Python's own exit code would say so."""
    done = runner.python("-c", faulty_comparison("raise ValueError('strange')"), *SMALL)
    assert done.code == NOT_JUDGED
    assert "ValueError: strange" in done.err
    assert done.err.splitlines()[-1] == "could not judge: ValueError in the suite itself -> report the lines above"


def test_failed_localisation_does_not_change_the_exit_code(runner):
    """It is said, and the exit code stays that of the comparison."""
    code = faulty_comparison("if len(results) > 1: raise ValueError('no more outputs')")
    done = runner.python("-c", code, *SMALL, "--inputs", "1", "--explain")
    assert done.code == AGREE, done.text
    assert NOT_LOCALIZED.format(reason="no more outputs") in done.out


def test_names_of_files_may_be_any_bytes(runner, tmp_path):
    """What cannot be written is escaped."""
    Image.new("RGB", (80, 80), "red").save(tmp_path / os.fsdecode(b"\xff.png"))
    done = runner.compare(*SMALL, "--images", tmp_path)
    assert done.code == AGREE, done.text
    assert "udcff.png: agrees with ONNX Runtime" in done.out


def test_interrupted_at_the_start(runner):
    """While libraries are loaded, which takes longest."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport ort_comparison\n"
        "def stop(): raise KeyboardInterrupt\n"
        "from fixtures.cli import comparison\ncomparison.parser = stop\nsys.exit(ort_comparison.main([]))"
    )
    done = runner.python("-c", code)
    assert done.code == NOT_JUDGED
    assert done.err.splitlines() == ["could not judge: interrupted; the lines above hold"]


def test_a_reader_that_leaves_early(runner):
    """``| head -1`` makes no traceback."""
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
    assert done.code == 0
    for word in (*(option.name for option in options_of(SHELL)), "--inputs", "--images", "exit code", "examples"):
        assert word in done.out
    assert max(map(len, done.out.splitlines())) <= 80

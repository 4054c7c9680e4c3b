"""Accuracy as a user measures it: whole runs, with faults planted in the engine, and small folders of photographs."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from fixtures.accuracy.imagenet import labelled
from fixtures.accuracy.labelled_images import apart, measured
from fixtures.images.labels import synset_ids
from fixtures.verdict.message import REPRODUCE

ROOT = Path(__file__).parents[2]
ACCURACY = "tests/conformance/test_accuracy.py"
DIGITS = (ACCURACY, "--engine", "onnxruntime:cpu", "--variant", "digits_nfnet", "--precision", "fp32", "--batch", "4")
PHOTOGRAPHS = (
    ACCURACY,
    "--engine",
    "onnxruntime:cpu",
    "--variant",
    "test_nfnet",
    "--image-size",
    "64",
    "--weights",
    "seeded",
    "--precision",
    "fp32",
    "--batch",
    "2",
)
ID = "onnxruntime:cpu-digits_nfnet@32+trained-fp32-b4"
FAULT = """
import numpy as np
from fixtures.run.context import RunContext

original = RunContext.run

def run(self, case, images):
    outputs = original(self, case, images)
    return {{name: faulty(array) for name, array in outputs.items()}}

def faulty(logits):
    changed = logits.copy()
    {fault}
    return changed

RunContext.run = run
"""
FAULTS = {
    "nines_are_fours": "nines = logits.argmax(1) == 9; changed[nines, 4] = logits[nines, 9] + 1",
    "every_nine_is_lost": "changed[logits.argmax(1) == 9] = np.nan",
}


def failing(runner, tmp_path, name):
    """A run on digits with a fault in the engine."""
    plugin = tmp_path / f"{name}.py"
    plugin.write_text(FAULT.format(fault=FAULTS[name]))
    return runner.pytest(*DIGITS, plugin=plugin)


def test_the_network_in_the_box_is_as_right_as_it_was(runner):
    """Both tests pass; the summary tells accuracy, interval, agreement and McNemar's test."""
    done = runner.pytest(*DIGITS)
    assert done.code == 0, done.text
    assert f"pass {ID}\n" in done.out
    text = (
        "top-1 99.72 % [98.41, 99.95], top-5 99.72 % [98.41, 99.95] of 352 images; stated 99.72 %; the same answer as "
    )
    assert f"{text}ONNX Runtime: 352; lost 0.00 points (0 lost, 0 won, McNemar p = 1)" in done.out


def test_wrong_decisions_are_found_and_explained(runner, tmp_path):
    """Nines taken for fours: which image, which classes, how large an error that needs, and the command to see it."""
    done = failing(runner, tmp_path, "nines_are_fours")
    assert done.code == 1
    assert f"{ID}: 47 of 352 first answers are not ONNX Runtime's, and rounding does not explain" in done.out
    found = re.search(r"image \d+: '4' instead of '9' needs an error of (\S+) u, allowed (\S+) u \(4 times", done.out)
    assert float(found[1]) > 1000 * float(found[2])
    assert re.search(
        r"46 images are right in ONNX Runtime only, 0 in onnxruntime:cpu only: McNemar's test, p = ", done.out
    )
    assert "99.72 % of the answers should be right" in done.out
    assert re.search(
        rf"{REPRODUCE}: +pytest {ACCURACY}::test_no_accuracy_is_lost --engine onnxruntime:cpu --variant digits",
        done.out,
    )
    assert f"FAIL {ID}\n" in done.out


def test_images_without_an_answer_are_wrong_answers(runner, tmp_path):
    """NaN is no decision, and nothing explains it."""
    done = failing(runner, tmp_path, "every_nine_is_lost")
    assert done.code == 1
    assert "no answer (NaN or Inf) instead of '9' needs an error of inf u" in done.out


@pytest.fixture
def folder(tmp_path):
    """Five photographs of noise in two folders of ImageNet, and one file that is none."""
    for number in range(6):
        path = tmp_path / "val" / synset_ids()[number % 2] / f"{number}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (70, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, "JPEG")
    path.write_bytes(b"broken")
    return tmp_path / "val"


def test_imagenet_is_measured_kept_and_gone_on_with(runner, folder, tmp_path):
    """What is usable is counted; a second run asks only what is missing; a subset is a subset."""
    words = (*PHOTOGRAPHS, f"--imagenet={folder}", f"--cache-dir={tmp_path / 'cache'}")
    first = runner.pytest(*words)
    assert first.code == 0, first.text
    assert re.search(r"top-1 .* of 5 images; the same answer as ONNX Runtime: 5; .*; 1 unusable images", first.out)
    assert f"\nleft out: {folder / synset_ids()[1] / '5.JPEG'} is no image that can be read\n" in first.out
    assert f"\naccuracy: 6 images of {folder} for 1 cases, time: about 0 s, less where answers are kept\n" in first.out
    journals = sorted((tmp_path / "cache" / "accuracy").glob("*.jsonl"))
    assert [len(path.read_text().splitlines()) for path in journals] == [5, 5]
    engine = next(path for path in journals if "-b2-" in path.name)
    lines = [json.loads(line) for line in engine.read_text().splitlines()]
    lines[0]["answers"] = [999]  # to see that it is taken from there
    engine.write_text("".join(json.dumps(line) + "\n" for line in lines[:3]))
    second = runner.pytest(*words)
    assert second.code == 1
    assert "1 of 5 first answers are not ONNX Runtime's" in second.out, second.text
    assert len(engine.read_text().splitlines()) == 5
    third = runner.pytest(*words, "--imagenet-images", "2", f"--cache-dir={tmp_path / 'other'}")
    assert re.search(r"of [12] images", third.out)


def linear(path, batch, classes=1000, behind=()):
    """Write a network of one matrix, its weights beside it; return them. Axes of length one may stand ``behind``."""
    pixels = ("x", TensorProto.FLOAT, [batch, 3, 8, 8])
    scores = ("y", TensorProto.FLOAT, [batch, classes, *(1 for _ in behind)])
    weights = np.random.default_rng(0).standard_normal((classes, 3 * 8 * 8)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["s"], transB=1),
        helper.make_node("Unsqueeze", ["s", "axes"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info(*pixels)],
        [helper.make_tensor_value_info(*scores)],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array(behind, np.int64), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=True, location="weights")
    return weights


@pytest.mark.parametrize("batch", [1, 2])
def test_a_model_that_fixes_its_batch_is_asked_in_such_batches(runner, folder, tmp_path, batch):
    """Right answers pass; wrong ones are explained, by ONNX Runtime and the oracle at that batch too."""
    linear(tmp_path / "linear.onnx", batch)
    words = (
        ACCURACY,
        "--engine",
        "onnxruntime:cpu",
        f"--model={tmp_path / 'linear.onnx'}",
        "--precision",
        "fp32",
        "--batch",
        str(batch),
        f"--imagenet={folder}",
    )
    done = runner.pytest(*words, f"--cache-dir={tmp_path / 'good'}")
    assert done.code == 0, done.text
    plugin = tmp_path / "turned_around.py"
    plugin.write_text(FAULT.format(fault="changed = changed[:, ::-1]"))
    done = runner.pytest(*words, f"--cache-dir={tmp_path / 'bad'}", plugin=plugin)
    assert done.code == 1
    assert "5 of 5 first answers are not ONNX Runtime's, and rounding does not explain them:" in done.out, done.text
    named = re.findall(r"  image (\S+): '.*' instead of '.*' needs an error of", done.out)
    assert len(set(named)) == 4  # in CI pytest repeats the message in its summary


LINEAR = (ACCURACY, "--engine", "onnxruntime:cpu", "--precision", "fp32", "--batch", "2")


def test_a_model_of_other_classes_is_no_measurement(runner, folder, tmp_path):
    """One class more, as TensorFlow's exports have: both sides would be as wrong, and agree."""
    linear(tmp_path / "linear.onnx", "batch", classes=1001)
    words = (f"--model={tmp_path / 'linear.onnx'}", f"--imagenet={folder}", f"--cache-dir={tmp_path}")
    done = runner.pytest(*LINEAR, *words)
    assert done.code == 1
    assert f"cannot judge: {folder}: the model tells 1001 classes apart, the images are of 1000 -> give" in done.out
    assert "Traceback" not in done.text


def test_axes_of_length_one_behind_the_classes_are_dropped(runner, folder, tmp_path):
    """As networks have them that end in a convolution; a wrong engine is explained for them too."""
    linear(tmp_path / "linear.onnx", "batch", behind=(2, 3))
    words = (*LINEAR, f"--model={tmp_path / 'linear.onnx'}", f"--imagenet={folder}")
    done = runner.pytest(*words, f"--cache-dir={tmp_path / 'good'}")
    assert done.code == 0, done.text
    plugin = tmp_path / "turned_around.py"
    plugin.write_text(FAULT.format(fault="changed = changed[:, ::-1]"))
    done = runner.pytest(*words, f"--cache-dir={tmp_path / 'bad'}", plugin=plugin)
    assert "5 of 5 first answers are not ONNX Runtime's, and rounding does not explain them:" in done.out, done.text


def kept(cache):
    """Journals by name."""
    return sorted(path.name for path in (cache / "accuracy").glob("*.jsonl"))


def test_onnxruntime_is_never_its_own_reference(runner, folder, tmp_path):
    """At the reference's batch both would be the same case but for the optimisation: each is asked."""
    words = (*PHOTOGRAPHS, "--batch", "16", f"--imagenet={folder}", f"--cache-dir={tmp_path / 'cache'}")
    done = runner.pytest(*words, "-k", "b16")
    assert done.code == 0, done.text
    assert len(kept(tmp_path / "cache")) == 2


def test_answers_are_kept_by_all_that_they_depend_on(runner, folder, tmp_path):
    """Weights beside the model and photographs of the calibration too: where one is another, all are asked again."""
    weights, photographs = linear(tmp_path / "linear.onnx", "batch"), tmp_path / "photographs"
    photographs.mkdir()

    def calibrate_with(number):
        (photographs / "a.jpg").write_bytes(next(folder.glob(f"*/{number}.JPEG")).read_bytes())

    double = (2 * weights).tobytes()
    words = (
        ACCURACY,
        "--engine",
        "onnxruntime:cpu",
        f"--model={tmp_path / 'linear.onnx'}",
        "--precision",
        "int8",
        "--batch",
        "2",
        f"--imagenet={folder}",
        f"--calibration={photographs}",
        f"--cache-dir={tmp_path / 'cache'}",
    )
    seen = []
    for change, value in ((calibrate_with, 0), (calibrate_with, 1), ((tmp_path / "weights").write_bytes, double)):
        change(value)
        runner.pytest(*words)
        seen.append(len([name for name in kept(tmp_path / "cache") if "int8" in name]))
    assert seen == [1, 2, 3]


def test_another_engine_is_asked_anew(runner, folder, tmp_path):
    """Of the same version: what decides its answers besides, such as a setting or threads, is part of their name."""
    words = (*PHOTOGRAPHS, f"--imagenet={folder}", f"--cache-dir={tmp_path / 'cache'}")
    counts = []
    for settings, more in (({}, ()), ({}, ()), ({"ORT_X": "1"}, ()), ({}, ("--threads", "3"))):
        done = runner.pytest(*words, *more, env=settings)
        assert done.code == 0, done.text
        counts.append(len(kept(tmp_path / "cache")))
    assert counts == [2, 2, 4, 6]  # ONNX Runtime's as the reference too


def test_an_engine_that_cannot_say_what_it_is_has_no_answers_kept(runner, folder, tmp_path):
    """All are asked, whatever was answered before."""
    plugin = tmp_path / "nameless.py"
    plugin.write_text(
        "from fixtures.engines.onnxruntime.engine import OnnxRuntimeEngine\n"
        "from fixtures.errors import CacheError\n"
        "def identity(self, options): raise CacheError('nobody knows')\n"
        "OnnxRuntimeEngine.identity = identity\n"
    )
    done = runner.pytest(*PHOTOGRAPHS, f"--imagenet={folder}", f"--cache-dir={tmp_path / 'cache'}", plugin=plugin)
    assert done.code == 0, done.text
    assert kept(tmp_path / "cache") == []


def test_photographs_that_cannot_calibrate_cost_only_precisions_that_need_them(runner, folder):
    """fp32 has no calibration; of many damaged files ten are named."""
    for number in range(10, 34):
        (folder / synset_ids()[0] / f"{number}.JPEG").touch()
    names = list(labelled(folder))
    for name in apart(names):
        (folder / name).write_bytes(b"")
    left_out = [name for name in measured(names) if (folder / name).stat().st_size < 100]
    done = runner.pytest(*PHOTOGRAPHS, f"--imagenet={folder}")
    assert done.code == 0, done.text
    assert done.out.count("\nleft out: /") == 10
    assert f"\nleft out: and {len(left_out) - 10} more\n" in done.out
    done = runner.pytest(*PHOTOGRAPHS, "--precision", "int8", f"--imagenet={folder}")
    assert done.code == 1
    assert "int8 and fp8 cannot be calibrated: none of 3 images could be used; the first: is empty" in done.out


def test_what_is_left_out_depends_on_the_size(runner, folder):
    """A sliver is enlarged to a few pixels or to too many: each size counts its own."""
    Image.new("RGB", (70_000, 1)).save(folder / synset_ids()[0] / "sliver.png")
    done = runner.pytest(*PHOTOGRAPHS, "--image-size", "32", f"--imagenet={folder}")
    assert done.code == 0, done.text
    lines = [line for line in done.out.splitlines() if "unusable images left out" in line]
    assert [re.search(r"of (\d) images.* (\d) unusable", line).groups() for line in lines] == [("5", "2"), ("6", "1")]


def test_a_folder_without_classes_fails_with_the_reason(runner, tmp_path):
    """One line, with what the folder should hold."""
    (tmp_path / "empty").mkdir()
    done = runner.pytest(*PHOTOGRAPHS, f"--imagenet={tmp_path / 'empty'}")
    assert f"\naccuracy: {tmp_path / 'empty'}: holds no images of known class -> " in done.out
    assert done.code == 1
    assert "empty: holds no images of known class -> one folder a synset (n01440764, ...), or" in done.out


def test_a_number_of_images_needs_a_folder(runner):
    """Said before anything is run."""
    done = runner.pytest(*PHOTOGRAPHS, "--imagenet-images", "3")
    assert done.code == 4
    assert "--imagenet-images without --imagenet -> name the folder with --imagenet=DIR" in done.err


def test_a_model_that_knows_no_digits_is_not_asked(runner):
    """Seeded weights make no decisions worth judging: the tests are left out, and nothing counts as passed."""
    done = runner.pytest(*DIGITS, "--weights", "seeded")
    assert done.code == 5
    assert "2 deselected" in done.out


def test_progress_is_shown_on_a_terminal_only(runner, tmp_path):
    """A bar where standard error is a terminal; nothing of it in a pipe or file."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *DIGITS, f"--cache-dir={runner.cache}"]
    with (tmp_path / "out").open("wb") as out, subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=follower) as run:
        shown = os.read(leader, 4096)
        while run.poll() is None:
            if select.select([leader], [], [], 0.1)[0]:
                shown += os.read(leader, 4096)
    os.close(follower)
    os.close(leader)
    assert run.returncode == 0
    assert b"/352" in shown
    assert b"image/s" in shown
    assert b"image/s" not in (tmp_path / "out").read_bytes()

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
import pytest
from PIL import Image

from fixtures.images.labels import synset_ids

ROOT = Path(__file__).parents[2]
ACCURACY = "tests/conformance/test_accuracy.py"
DIGITS = (ACCURACY, "--engine", "onnxruntime:cpu", "--variant", "digits_nfnet", "--precision", "fp32", "--batch", "4")
PHOTOGRAPHS = (
    ACCURACY, "--engine", "onnxruntime:cpu", "--variant", "test_nfnet", "--image-size", "64", "--weights", "seeded",
    "--precision", "fp32", "--batch", "2",
)  # fmt: skip
ID = "onnxruntime:cpu-digits_nfnet@32+trained-fp32-b4"
FAULT = """
import numpy as np
from fixtures.pipeline import Laboratory

original = Laboratory.run

def run(self, case, images):
    outputs = original(self, case, images)
    return {{name: faulty(array) for name, array in outputs.items()}}

def faulty(logits):
    changed = logits.copy()
    {fault}
    return changed

Laboratory.run = run
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
    assert (
        f"see it again: pytest {ACCURACY}::test_no_accuracy_is_lost --engine onnxruntime:cpu --variant digits_nfnet"
        in done.out
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


def test_a_folder_without_classes_fails_with_the_reason(runner, tmp_path):
    """One line, with what the folder should hold."""
    (tmp_path / "empty").mkdir()
    done = runner.pytest(*PHOTOGRAPHS, f"--imagenet={tmp_path / 'empty'}")
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

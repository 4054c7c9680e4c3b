"""Accuracy in complete runs, with faults planted in the engine and small folders of photographs."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
from PIL import Image

from fixtures.accuracy.imagenet import read_labels
from fixtures.accuracy.labelled_images import calibration_split, evaluation_split
from fixtures.engines.onnxruntime.engine import OnnxRuntimeEngine
from fixtures.errors import CacheError
from fixtures.images.labels import synset_ids
from fixtures.options import PYTEST, options_of
from fixtures.plugin.predictions import PredictionStore
from fixtures.records import Case, EngineOptions, ModelSpec
from fixtures.settings import Settings
from fixtures.verdict.message import REPRODUCE
from tests.meta.faulty_comparison import fault
from tests.meta.terminal import a_terminal
from tests.meta.tiny_models import tiny_model

ROOT = Path(__file__).parents[2]
ACCURACY = "tests/conformance/test_accuracy.py"
CPU = (ACCURACY, "--engine", "onnxruntime:cpu")
DIGITS = (*CPU, "--variant", "digits_nfnet", "--precision", "fp32", "--batch", "4")
INT8 = ("--variant", "digits_nfnet", "--precision", "int8", "--batch", "4")
SEEDED = (*CPU, "--variant", "test_nfnet", "--image-size", "64", "--weights", "seeded")
PHOTOGRAPHS = (*SEEDED, "--precision", "fp32", "--batch", "2")
CASE = "onnxruntime:cpu-digits_nfnet@32+trained-fp32-b4"
NINES_ARE_FOURS = "logits = results['logits']\nnines = logits.argmax(1) == 9\nlogits[nines, 4] = logits[nines, 9] + 1"
NINES_ARE_NAN = "logits = results['logits']\nlogits[logits.argmax(1) == 9] = np.nan"
REVERSED = "results['y'] = results['y'][:, ::-1]"


@pytest.fixture
def folder(tmp_path):
    """Five photographs of noise in two folders of ImageNet, and one damaged file."""
    for number in range(6):
        path = tmp_path / "val" / synset_ids()[number % 2] / f"{number}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (70, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, "JPEG")
    path.write_bytes(b"broken")
    return tmp_path / "val"


def journals(cache):
    """Return the journals in a cache folder, by name."""
    return sorted((cache / "accuracy").glob("*.jsonl"))


def rows(journal):
    """Return the rows of a journal."""
    return [json.loads(line) for line in journal.read_text().splitlines() if line]


def flips(text):
    """Return the numbers of flips, and of images, that a failure reports."""
    return re.search(r"(\d+) of (\d+) top-1 classes differ", text).groups()


def test_bundled_network_passes_with_its_accuracy_in_the_summary(runner):
    """With interval, published accuracy, agreement and McNemar's test; at int8, the agreement with fp32 as well."""
    done = runner.pytest(*DIGITS, "--precision", "int8")
    (summary,) = re.findall(rf"^  pass +{re.escape(CASE)} +(.*)$", done.out, re.MULTILINE)
    for number in ("99.72 % [98.41, 99.95]", "352 images", "published 99.72 %", "lost 0.00 points", "p = 1"):
        assert number in summary
    assert re.search(r"same top-1 class as ONNX Runtime at int8: 352, ONNX Runtime at fp32: 3\d\d; lost", done.out)


def test_wrong_predictions_fail_with_the_largest_flips(runner):
    """Image, classes, needed and allowed error, McNemar's test, and the command that reproduces it."""
    done = runner.pytest(*DIGITS, plugin=fault(NINES_ARE_FOURS), code=1)
    assert flips(done.out) == ("47", "352")
    needed, allowed = re.search(r"image \d+: '4' instead of '9' .* (\S+) u, allowed (\S+) u", done.out).groups()
    assert float(needed) > 1000 * float(allowed)
    assert "46 images are correct in ONNX Runtime only, 0 in onnxruntime:cpu only" in done.out
    assert re.search(rf"{REPRODUCE}: +pytest {ACCURACY}::\w+ --engine onnxruntime:cpu", done.out)
    assert re.search(rf"^  FAIL +{re.escape(CASE)} ", done.out, re.MULTILINE)


def test_wrong_predictions_at_int8_are_compared_with_the_quantised_model(runner):
    """The published accuracy is not that of a quantised network; here every accuracy would be below it."""
    below = "from fixtures.accuracy.predictions import Proportion\nProportion.is_below = lambda self, published: True\n"
    done = runner.pytest(*CPU, *INT8, plugin=fault(NINES_ARE_FOURS) + below, code=1)
    assert int(flips(done.out)[0]) > 40
    assert re.search(r"\d+ images are correct in ONNX Runtime only, 0 in onnxruntime:cpu only", done.out)
    assert "the published top-1 accuracy is" not in done.out


def test_images_with_nan_logits_are_classified_wrongly(runner):
    """No error explains NaN."""
    done = runner.pytest(*DIGITS, plugin=fault(NINES_ARE_NAN), code=1)
    assert re.search(r"NaN.* instead of '9' needs an error of inf u", done.out)


def test_interrupted_measurement_resumes(runner, folder, tmp_path):
    """A second run computes only what is missing; unusable images are reported; a subset is smaller."""
    words = (*PHOTOGRAPHS, f"--imagenet={folder}", f"--cache-dir={tmp_path / 'cache'}")
    first = runner.pytest(*words)
    assert re.search(r"top-1 .* of 5 images; .* ONNX Runtime at fp32: 5; .*; 1 unusable images", first.out)
    assert f"\n  {folder / synset_ids()[1] / '5.JPEG'} " in first.out
    assert [len(rows(path)) for path in journals(tmp_path / "cache")] == [5, 5]
    engine = next(path for path in journals(tmp_path / "cache") if "-b2-" in path.name)
    lines = rows(engine)
    lines[0]["classes"] = [999]  # shows that the journal is read
    engine.write_text("".join(json.dumps(line) + "\n" for line in lines[:3]))
    second = runner.pytest(*words, code=1)
    assert flips(second.out) == ("1", "5")
    assert len(rows(engine)) == 5
    third = runner.pytest(*words, "--imagenet-images", "2", f"--cache-dir={tmp_path / 'other'}")
    assert re.search(r"of [12] images", third.out)


def save_linear(path, batch, classes=1000, trailing_axes=()):
    """Save a network of one matrix with external data, and return the matrix."""
    weights = np.random.default_rng(0).standard_normal((classes, 3 * 8 * 8)).astype(np.float32)
    model = tiny_model(
        ("Flatten", ["x"], ["flat"], {}),
        ("Gemm", ["flat", "w"], ["s"], {"transB": 1}),
        ("Unsqueeze", ["s", "axes"], ["y"], {}),
        shape=[batch, 3, 8, 8],
        weights={"w": weights, "axes": np.array(trailing_axes, np.int64)},
    )
    onnx.save(model, path, save_as_external_data=True, location="weights")
    return weights


@pytest.mark.parametrize(("model_batch", "trailing_axes"), [(2, ()), ("batch", (2, 3))])
def test_model_file_is_judged_on_imagenet(runner, folder, tmp_path, model_batch, trailing_axes):
    """Also with a fixed batch, or with axes of length one after the classes; a faulty engine fails."""
    save_linear(tmp_path / "linear.onnx", model_batch, trailing_axes=trailing_axes)
    model = (f"--model={tmp_path / 'linear.onnx'}", "--precision", "fp32", "--batch", "2")
    runner.pytest(*CPU, *model, f"--imagenet={folder}", f"--cache-dir={tmp_path / 'good'}")
    words = (*CPU, *model, f"--imagenet={folder}", f"--cache-dir={tmp_path / 'bad'}")
    bad = runner.pytest(*words, plugin=fault(REVERSED), code=1)
    assert flips(bad.out) == ("5", "5"), bad.text
    named = re.findall(r"  image (\S+): '.*' instead of '.*' needs an error of", bad.out)
    assert len(set(named)) == 4  # in CI pytest repeats the message in its summary


def test_model_with_other_classes_is_refused(runner, folder, tmp_path):
    """One class more, as in TensorFlow's exports: both sides would be equally wrong, and agree."""
    save_linear(tmp_path / "linear.onnx", "batch", classes=1001)
    model = (f"--model={tmp_path / 'linear.onnx'}", "--precision", "fp32", "--batch", "2")
    done = runner.pytest(*CPU, *model, f"--imagenet={folder}", f"--cache-dir={tmp_path}", code=1)
    assert re.search(rf"{folder}: .* 1001 classes.* 1000 ->", done.out)
    assert "Traceback" not in done.text


def test_journal_depends_on_all_that_decides_a_prediction(folder, tmp_path, monkeypatch):
    """Calibration images, threads, optimisation, and weights in a file beside the model.

    An engine that cannot be identified has no journal.
    """
    weights, photographs = save_linear(tmp_path / "linear.onnx", "batch"), tmp_path / "photographs"
    photographs.mkdir()
    case = Case("onnxruntime:cpu", ModelSpec(path=tmp_path / "linear.onnx"), "int8", 16)
    options = {option.dest: option.default for option in options_of(PYTEST)}
    options |= {"imagenet": folder, "calibration": photographs, "cache_dir": tmp_path, "no_isolation": True}

    def journal(number=0, **changes):
        (photographs / "a.jpg").write_bytes(next(folder.glob(f"*/{number}.JPEG")).read_bytes())
        changed, suite = replace(case, options=EngineOptions(**changes)), Settings(**options)
        with suite.context() as context:
            store = PredictionStore(suite, context, None)
            return store._journal_path(changed, store.images(changed))

    names = [journal(), journal(number=1), journal(threads=3), journal(graph_optimization="disable")]
    assert journal() == names[0]
    (tmp_path / "weights").write_bytes((2 * weights).tobytes())
    assert len({*names, journal()}) == 5
    monkeypatch.setattr(OnnxRuntimeEngine, "identity", Mock(side_effect=CacheError("unknown")))
    assert journal() is None


def test_unusable_calibration_images_fail_only_precisions_that_need_them(runner, folder):
    """fp32 needs none; of many unusable images ten are shown."""
    for number in range(10, 34):
        (folder / synset_ids()[0] / f"{number}.JPEG").touch()
    names = list(read_labels(folder))
    for name in calibration_split(names):
        (folder / name).write_bytes(b"")
    skipped = [name for name in evaluation_split(names) if (folder / name).stat().st_size < 100]
    done = runner.pytest(*PHOTOGRAPHS, f"--imagenet={folder}")
    assert done.out.count(f"\n  {folder}/") == 10
    assert f"\n  {len(skipped) - 10} more\n" in done.out
    done = runner.pytest(*PHOTOGRAPHS, "--precision", "int8", f"--imagenet={folder}", code=1)
    assert "none of 3 images could be used" in done.out


def test_skipped_images_are_counted_for_each_size(runner, folder):
    """A long thin image is unusable only if it would be enlarged to too many pixels."""
    Image.new("RGB", (70_000, 1)).save(folder / synset_ids()[0] / "sliver.png")
    done = runner.pytest(*PHOTOGRAPHS, "--image-size", "32", f"--imagenet={folder}")
    counts = re.findall(r"of (\d) images; .* (\d) unusable images", done.out)
    assert counts == [("5", "2"), ("6", "1")]


def test_progress_bar_is_shown_only_on_a_terminal(runner, tmp_path):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *DIGITS, f"--cache-dir={runner.cache}"]
    with (tmp_path / "out").open("wb") as out, a_terminal() as (shown, terminal):
        subprocess.run(command, cwd=ROOT, stdout=out, stderr=terminal, check=True)
    assert b"/352" in shown
    assert b"image/s" in shown
    assert b"image/s" not in (tmp_path / "out").read_bytes()

"""Photographs are classified from files and folders, and compared with ONNX Runtime."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.accuracy import digits
from fixtures.cli import recognition
from fixtures.cli.drawing import Sample, draw, png, sample_photograph, samples
from fixtures.images.labels import Prediction
from fixtures.records import Case, EngineStatus, ModelSpec
from fixtures.weight_sources import WeightSource, WeightSources
from tests.meta.conftest import ROOT
from tests.meta.faulty_comparison import TOO_WIDE, fault
from tests.meta.tiny_models import saved

CPU = ("--engine", "onnxruntime:cpu")
DIFFER, NOT_JUDGED = 1, 2
COUNT = 10
TRAINED = ModelSpec(digits.VARIANT, size=(32, 32), weights="trained", weights_path=digits.WEIGHTS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Held-out digits as image files, named by number and class, and a damaged file."""
    place = tmp_path_factory.mktemp("photographs")
    images, labels = digits.held_out()
    for at in range(COUNT):
        large = Image.fromarray(images[at]).resize((128, 128), Image.Resampling.BICUBIC)
        large.save(place / f"{at}-is-{labels[at]}.png")
    (place / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    return place


def test_folder_of_images_is_classified(runner, folder):
    """Five classes an image, nine of ten correct; the damaged file is named; the weights are explained."""
    done = runner.compare(*CPU, "--images", folder, "--batch", "4")
    assert re.search(r"^weights +trained .*, for handwritten digits .*; dm_nfnet_f0: ", done.out, re.MULTILINE)
    blocks = re.findall(r"-is-(\d)\.png: agrees with ONNX Runtime\n((?: {4}.*%  \d\n){5})", done.out)
    assert len(blocks) == COUNT
    assert sum(predictions.split()[1] == label for label, predictions in blocks) >= 9
    assert re.search(r"^skipped: \S+/broken.jpg: .* -> ", done.out, re.MULTILINE)
    assert done.out.splitlines()[-1].startswith("AGREE: onnxruntime:cpu and ONNX Runtime on 10 images")


def test_no_usable_image_is_not_judged(runner, folder, tmp_path):
    """One line, for a damaged file with a missing one, and for an empty folder."""
    for places in ((folder / "broken.jpg", tmp_path / "missing.png"), (tmp_path,)):
        done = runner.compare(*CPU, "--images", *places, code=NOT_JUDGED)
        (line,) = done.err.splitlines()
        assert str(places[-1]) in line  # names are checked before files are read
        assert "->" in line


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("results['logits'] = -results['logits']", "DIFFERS from ONNX Runtime, whose top-1 class is 0"),
        ("results['logits'][:] = float('nan')", "no prediction"),
        ("results['logits'] = results['logits'][:, :-1]", "no prediction"),
    ],
)
def test_faulty_engine_differs(runner, folder, statement, words):
    done = runner.compare(*CPU, "--images", folder / "0-is-0.png", patch=fault(statement), code=DIFFER)
    assert words in done.out
    assert done.out.splitlines()[-1].startswith("DIFFER: 1 of 1 images")


def test_image_is_not_judged_if_the_tolerance_is_too_wide(runner, folder):
    """It is neither said to agree nor to differ; its classes are shown."""
    done = runner.compare(*CPU, "--images", folder / "0-is-0.png", patch=TOO_WIDE, code=NOT_JUDGED)
    assert re.search(r"0-is-0.png: NOT JUDGED against ONNX Runtime\n +\S+%  0\n", done.out)


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_any_file_name_is_printed(runner, folder, tmp_path, encoding):
    """Other scripts, undecodable bytes and terminal escapes; damaged EXIF data causes no warning."""
    image = Image.open(folder / "0-is-0.png")
    image.convert("RGB").save(tmp_path / "猫.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    image.save(Path(os.fsdecode(b"%b/\xff.png" % os.fsencode(tmp_path))))
    image.save(tmp_path / "\x1b[2J.png")
    Path(os.fsdecode(b"%b/\xfe.png" % os.fsencode(tmp_path))).touch()
    words = (ROOT / "ort_comparison.py", *CPU, "--images", tmp_path)
    done = runner.python(*words, env={"PYTHONIOENCODING": encoding})
    assert done.err == ""
    assert f"{tmp_path}/{'猫' if 'utf' in encoding else ascii('猫')[1:-1]}.jpg: agrees" in done.out
    assert f"{tmp_path}/\\udcff.png: agrees" in done.out
    assert f"{tmp_path}/\\x1b[2J.png: agrees" in done.out
    assert f"skipped: {tmp_path}/\\udcfe.png: " in done.out


def recognise(context, path, *nodes, shape):
    """Return the recognitions of two synthetic images by a model with a weight tensor, and the engine's output."""
    weights = {"w": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    saved(path, *nodes, shape=["batch", 3, 8, 8], weights=weights)
    case = Case("onnxruntime:cpu", ModelSpec(path=path), "fp32", 2)
    images = context.model_store.images(case.model, 2)
    found = recognition.recognise_tensors(context, case, ["one", "two"], images).recognitions
    return found, context.program_pool.run(case, images)["y"]


def test_softmax_output_gives_its_own_probabilities(context, tmp_path):
    """Not the softmax of them."""
    nodes = (
        ("Flatten", ["x"], ["f"], {}),
        ("Gemm", ["f", "w"], ["s"], {"transB": 1}),
        ("Softmax", ["s"], ["y"], {}),
    )
    (found, _), outputs = recognise(context, tmp_path / "softmax.onnx", *nodes, shape=(10, 3 * 8 * 8))
    exact = np.sort(outputs[0].astype(np.float64))[::-1][:5]
    np.testing.assert_allclose([prediction.probability for prediction in found.predictions], exact, rtol=1e-6)
    assert found.predictions[0].name.startswith("class ")


def test_number_of_classes_is_that_of_the_scores(context, tmp_path):
    """The file need not declare it, and may end in a convolution."""
    node = ("Conv", ["x", "w"], ["y"], {})
    found, outputs = recognise(context, tmp_path / "conv.onnx", node, shape=(10, 3, 8, 8))
    top1 = outputs.reshape(2, 10).argmax(axis=1)
    assert [one.predictions[0].name for one in found] == [f"class {index}" for index in top1]
    assert [len(one.expected) for one in found] == [5, 5]


@pytest.mark.parametrize(
    ("engine", "weights", "name"),
    [
        ("onnxruntime:cpu", "pretrained", "dm_nfnet_f0"),
        ("onnxruntime:cpu", "seeded", "digits_nfnet"),
        ("migraphx:gpu", "pretrained", "dm_nfnet_f0"),
        ("migraphx:ref", "pretrained", "digits_nfnet"),
    ],
)
def test_default_model_is_pretrained_if_the_engine_is_fast(engine, weights, name, tmp_path):
    """Never one with seeded weights."""
    decided = {
        "dm_nfnet_f0": WeightSource(weights, None, "because"),
        "digits_nfnet": WeightSource("trained", None, "bundled"),
    }
    spec, reason = recognition.default_model(engine, WeightSources("auto", tmp_path, decided=decided))
    assert (spec.variant, spec.weights) == (name, decided[name].weights)
    assert decided[name].why in reason


def test_default_engine_is_migraphx_if_it_is_usable(monkeypatch):
    found = EngineStatus("migraphx:ref", "2.14", "c library")
    missing = EngineStatus("migraphx:gpu", missing="no library", hint="install it")
    for status, name, words in ((found, "migraphx:ref", "2.14"), (missing, "onnxruntime:cpu", "no library -> install")):
        monkeypatch.setattr(recognition, "default_engines", lambda _, status=status: [status])
        engine, remark = recognition.default_engine()
        assert engine == name
        assert words in remark


def test_samples_are_the_photograph_or_bundled_images(context, folder):
    """Digits for the trained network, matplotlib's photograph for others."""
    (photograph,) = samples(context, TRAINED, folder / "0-is-0.png")
    assert (photograph.name, photograph.tensor.shape) == ("0-is-0.png", (3, 32, 32))
    assert [sample.name[-3:] for sample in samples(context, TRAINED)] == ["a 0", "a 1", "a 2"]
    (bundled,) = samples(context, ModelSpec("test_nfnet", size=(64, 64)))
    assert bundled.name == sample_photograph().name
    assert bundled.tensor.shape == (3, 64, 64)


@pytest.mark.parametrize("agreement", [recognition.AGREES, recognition.DIFFERS])
def test_drawing_shows_names_probabilities_and_agreement(folder, agreement):
    """Long names are shortened; a file name is not read as a formula."""
    predictions = tuple(Prediction(at, f"a rather long name of class number {at}", 0.5 / (at + 1)) for at in range(5))
    name = r"$\one$.jpg"
    sample = Sample(name, Image.open(folder / "0-is-0.png").convert("RGB"), np.zeros((3, 32, 32)))
    figure = draw([sample], [recognition.Recognition("one", predictions, predictions, agreement)])
    assert png(figure).startswith(b"\x89PNG")
    left, right = figure.axes
    assert left.get_title() == name
    assert right.get_title() == agreement
    assert right.texts[0].get_text() == "50.0%"
    assert all(len(label.get_text()) <= 32 for label in right.get_yticklabels())

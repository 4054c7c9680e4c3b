"""Photographs in, names out: from files and folders, judged against ONNX Runtime."""

import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from fixtures.accuracy import digits
from fixtures.cli import recognition
from fixtures.cli.drawing import Picture, draw, pictures, png, sample_photograph
from fixtures.engines.registry import engine_status
from fixtures.errors import EngineUnavailable
from fixtures.images.labels import Answer
from fixtures.plugin.failures import unavailable
from fixtures.records import Case, EngineStatus, ModelSpec
from fixtures.weight_sources import Origin, Origins
from tests.meta.off import off

CPU = ("--engine", "onnxruntime:cpu")
AGREE, DIFFER, NOT_JUDGED = 0, 1, 2
COUNT = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Held-out digits as photographs, named by place and class, and a file that is none."""
    place = tmp_path_factory.mktemp("photographs")
    images, labels = digits.held_out()
    for at in range(COUNT):
        large = Image.fromarray(images[at]).resize((128, 128), Image.Resampling.BICUBIC)
        large.save(place / f"{at}-is-{labels[at]}.png")
    (place / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    return place


def trained(batch=1):
    """The network in the box on ONNX Runtime."""
    spec = ModelSpec(digits.VARIANT, size=(32, 32), weights="trained", weights_path=digits.WEIGHTS)
    return Case("onnxruntime:cpu", spec, "fp32", batch)


def test_a_folder_from_a_shell(runner, folder):
    """Five names an image, nine of ten right, the broken file named, and the exit code of agreement."""
    done = runner.compare(*CPU, "--images", folder, "--batch", "4")
    assert done.code == AGREE, done.text
    assert (
        "weights    trained (comes with the suite)\n"
        "           digits_nfnet reads handwritten digits; dm_nfnet_f0: no pretrained ones: HF_HUB_OFFLINE is set"
    ) in done.out
    blocks = re.findall(r"-is-(\d)\.png: agrees with ONNX Runtime\n((?: {4}.*%  \d\n){5})", done.out)
    assert len(blocks) == COUNT
    assert sum(answers.split()[1] == label for label, answers in blocks) >= 9
    assert re.search(r"^skipped: \S+/broken.jpg: .* -> ", done.out, re.MULTILINE)
    assert done.out.splitlines()[-1] == "AGREE: onnxruntime:cpu and ONNX Runtime on 10 images at fp32"


@pytest.mark.migraphx
def test_real_migraphx_reads_digits(runner, folder, pytestconfig):
    """The same on MIGraphX's reference target, which has other bits."""
    place = pytestconfig.option.migraphx
    status = engine_status("migraphx:ref", place)
    if not status.usable:
        unavailable(pytestconfig, status.name, EngineUnavailable(status.missing, where=status.name, hint=status.hint))
    named = ("--migraphx", place) if place else ()
    shown = (folder / "0-is-0.png", folder / "3-is-5.png")
    done = runner.compare("--engine", "migraphx:ref", *named, "--images", *shown)
    assert done.code == AGREE, done.text
    assert re.findall(r"agrees with ONNX Runtime\n +\S+%  (\d)\n", done.out) == ["0", "5"]
    assert done.out.splitlines()[-1] == "AGREE: migraphx:ref and ONNX Runtime on 2 images at fp32"


def test_nothing_usable(runner, folder, tmp_path):
    """Exit code 2 and one line, for a broken file with one that is not there, and for an empty folder."""
    for places, words in (
        ((folder / "broken.jpg", tmp_path / "none.png"), "none of 2 images could be used; the first: "),
        ((tmp_path,), "holds no images"),
    ):
        done = runner.compare(*CPU, "--images", *places)
        assert done.code == NOT_JUDGED, done.text
        assert words in done.err.splitlines()[-1]
        assert "->" in done.err.splitlines()[-1]
        assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("results['logits'] = -results['logits']", "DIFFERS from ONNX Runtime, which says 0"),
        ("results['logits'][:] = float('nan')", "no answer: the engine's numbers are not finite"),
        ("results['logits'] = results['logits'][:, :-1]", "no answer: the engine's numbers are not finite, or of"),
    ],
)
def test_an_engine_that_differs(runner, folder, fault, words):
    """Exit code 1, at the image the name that was expected, and once in full what is wrong."""
    code = off(fault)
    done = runner.python("-c", code, *CPU, "--images", folder / "0-is-0.png")
    assert done.code == DIFFER, done.text
    assert words in done.out
    assert "disagrees with ONNX Runtime at fp32" in done.out
    assert done.out.splitlines()[-1].startswith("DIFFER: 1 of 1 images")


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_any_name_of_a_file_can_be_told(runner, folder, tmp_path, encoding):
    """Other scripts, bytes that are no text, and orders to the terminal; a damaged EXIF block is no news."""
    image = Image.open(folder / "0-is-0.png")
    image.convert("RGB").save(tmp_path / "猫.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    image.save(Path(os.fsdecode(b"%b/\xff.png" % os.fsencode(tmp_path))))
    image.save(tmp_path / "\x1b[2J.png")
    Path(os.fsdecode(b"%b/\xfe.png" % os.fsencode(tmp_path))).touch()
    done = runner.compare(*CPU, "--images", tmp_path, env={"PYTHONIOENCODING": encoding})
    assert done.code == AGREE, done.text
    assert done.err == ""
    assert f"{tmp_path}/{'猫' if 'utf' in encoding else ascii('猫')[1:-1]}.jpg: agrees" in done.out
    assert f"{tmp_path}/\\udcff.png: agrees" in done.out
    assert f"{tmp_path}/\\x1b[2J.png: agrees" in done.out
    assert f"skipped: {tmp_path}/\\udcfe.png: is empty" in done.out


def test_images_and_inputs_exclude_each_other(runner, folder):
    """Random images and photographs are not mixed."""
    done = runner.compare(*CPU, "--images", folder, "--inputs", "3")
    assert done.code == NOT_JUDGED
    assert "not allowed with argument" in done.err


def test_without_migraphx_the_other_engine_is_named(runner, folder):
    """The hint names the option that needs no MIGraphX."""
    done = runner.compare("--images", folder, "--migraphx", "/nonexistent")
    assert done.code == NOT_JUDGED
    assert "--engine onnxruntime:cpu" in done.err.splitlines()[-1]


def test_probabilities_are_not_made_flat(context, tmp_path):
    """A file that ends in softmax gives its own probabilities, not the softmax of them."""
    weights = np.random.default_rng(0).standard_normal((10, 3 * 8 * 8)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["s"], transB=1),
        helper.make_node("Softmax", ["s"], ["p"]),
    ]
    shapes = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8]),
        helper.make_tensor_value_info("p", TensorProto.FLOAT, ["batch", 10]),
    ]
    graph = helper.make_graph(nodes, "soft", shapes[:1], shapes[1:], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "soft.onnx")
    case = Case("onnxruntime:cpu", ModelSpec(path=tmp_path / "soft.onnx"), "fp32", 1)
    images = context.model_store.images(case.model, 1)
    (found,) = recognition.recognise_tensors(context, case, ["one"], images).recognitions
    exact = np.sort(context.program_pool.run(case, images)["p"][0].astype(np.float64))[::-1][:5]
    np.testing.assert_allclose([answer.probability for answer in found.answers], exact, rtol=1e-6)
    assert found.answers[0].name.startswith("class ")


@pytest.mark.parametrize("said", [["batch", "classes", 1, 1], ["batch", 10, 1, 1], None])
def test_classes_are_counted_in_the_scores(context, tmp_path, said):
    """The file may leave the count open, and may end in a convolution."""
    weights = np.random.default_rng(0).standard_normal((10, 3, 8, 8)).astype(np.float32)
    shapes = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, said),
    ]
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "conv", shapes[:1], shapes[1:], [numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "c.onnx")
    case = Case("onnxruntime:cpu", ModelSpec(path=tmp_path / "c.onnx"), "fp32", 2)
    images = context.model_store.images(case.model, 2)
    found = recognition.recognise_tensors(context, case, ["one", "two"], images).recognitions
    best = context.program_pool.run(case, images)["y"].reshape(2, 10).argmax(axis=1)
    assert [one.answers[0].name for one in found] == [f"class {index}" for index in best]
    assert [len(one.expected) for one in found] == [5, 5]


@pytest.mark.parametrize(
    ("engine", "origin", "name"),
    [
        ("onnxruntime:cpu", "pretrained", "dm_nfnet_f0"),
        ("onnxruntime:cpu", "seeded", "digits_nfnet"),
        ("migraphx:gpu", "pretrained", "dm_nfnet_f0"),
        ("migraphx:ref", "pretrained", "digits_nfnet"),
    ],
)
def test_the_usual_model(engine, origin, name, tmp_path):
    """The real network where its weights and a fast engine are at hand, never a seeded one."""
    decided = {"dm_nfnet_f0": Origin(origin, None, "because"), "digits_nfnet": Origin("trained", None, "in the box")}
    spec, why = recognition.usual_model(engine, Origins("auto", tmp_path, decided=decided))
    assert spec.variant == name
    assert spec.weights == decided[name].weights
    assert decided[name].why in why


def test_the_usual_engine(monkeypatch):
    """MIGraphX where it is; else ONNX Runtime, and what was not judged is said with its hint."""
    found = EngineStatus("migraphx:ref", "2.14", "c library")
    monkeypatch.setattr(recognition, "default_engines", lambda _: [found])
    assert recognition.usual_engine() == ("migraphx:ref", "migraphx:ref 2.14 is judged (c library)")
    absent = EngineStatus("migraphx:gpu", missing="it is not there", hint="install it")
    monkeypatch.setattr(recognition, "default_engines", lambda _: [absent])
    engine, remark = recognition.usual_engine()
    assert engine == "onnxruntime:cpu"
    assert remark.startswith("MIGraphX was NOT judged: it is not there -> install it")


def test_a_photograph_is_shown_and_prepared(context, folder):
    """A file that is named, as the network takes it; without one the digits, or matplotlib's photograph."""
    case = trained()
    (picture,) = pictures(context, case.model, folder / "0-is-0.png")
    assert (picture.name, picture.tensor.shape) == ("0-is-0.png", (3, 32, 32))
    assert [entry.label for entry in pictures(context, case.model)] == ["0", "1", "2"]
    other = ModelSpec("test_nfnet", size=(64, 64))
    (photograph,) = pictures(context, other)
    assert photograph.name == sample_photograph().name
    assert photograph.tensor.shape == (3, 64, 64)


def test_a_drawing_says_all(folder):
    """Names, probabilities and whether ONNX Runtime agrees; long names are cut."""
    answers = tuple(Answer(at, f"a rather long name of class number {at}", 0.5 / (at + 1)) for at in range(5))
    name = r"$\one$.jpg"  # as it is, not as a formula
    picture = Picture(name, Image.open(folder / "0-is-0.png").convert("RGB"), np.zeros((3, 32, 32)))
    for agrees, words in ((True, "agrees with ONNX Runtime"), (False, "DIFFERS from ONNX Runtime")):
        figure = draw([picture], [recognition.Recognition("one", answers, answers, agrees)])
        assert png(figure).startswith(b"\x89PNG")
        left, right = figure.axes
        assert (left.get_title(), right.get_title()) == (name, words)
        assert right.texts[0].get_text() == "50.0%"
        assert all(len(label.get_text()) <= 32 for label in right.get_yticklabels())

"""A failing run names the first wrong block, and says so where it cannot."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tests.meta.conftest import SMALL
from tests.meta.faulty_comparison import faulty_comparison

FAULTY = """
from fixtures.engines.onnxruntime.engine import OnnxRuntimeProgram
real = OnnxRuntimeProgram.run
def run(self, feeds):
    results = real(self, feeds)
    if self.facts["graph_optimization"] == "disable":
        return results
    {refuse}
    return {{name: array * (1.05 if name in ("logits", "stages.2.0.conv2") else 1) for name, array in results.items()}}
OnnxRuntimeProgram.run = run
"""
REFUSE = "if len(results) > 1: raise RuntimeError('no more outputs')"
PLACE = "tests/conformance/test_agreement.py"
ORACLE = ("--precision", "fp32", "--batch", "1", "-k", "with_the_oracle")


def faulty(folder, name, refuse="pass"):
    """A plugin that spoils the engine."""
    plugin = folder / f"{name}.py"
    plugin.write_text(FAULTY.format(refuse=refuse))
    return plugin


def test_a_failure_names_its_block_and_the_report(runner, tmp_path):
    """Summary and folder are in the message, which pytest's summary repeats where $CI is set."""
    done = runner.small(PLACE, *ORACLE, plugin=faulty(tmp_path, "spoiled_once"))
    assert done.code == 1
    (line,) = set(re.findall(r"first wrong block: (.*)$", done.out, re.MULTILINE))
    assert line.startswith(("logits (its node ", "stages.2.0"))
    folder = Path(line.rpartition("bug report: ")[2])
    assert {path.name for path in folder.iterdir()} == {"block.onnx", "data.npz", "repro.py", "README.txt"}


LAST = """
import numpy as np
from fixtures.engines.onnxruntime.engine import OnnxRuntimeProgram
real = OnnxRuntimeProgram.run
def run(self, feeds):
    results = real(self, feeds)
    if self.facts["graph_optimization"] != "disable" and {when}:
        results = {{name: np.where((np.arange(len(array)) == 3).reshape(-1, *[1] * (array.ndim - 1)), 0, array)
                   for name, array in results.items()}}
    return results
OnnxRuntimeProgram.run = run
"""


@pytest.mark.parametrize(
    ("test", "when"),
    [
        ("test_agreement.py::test_agrees_with_the_oracle", "True"),
        ("test_isolation.py::test_a_spoiled_image_leaves_the_others_alone", "np.float32(1e30) in feeds['inputs']"),
    ],
    ids=["all images", "all but the spoiled one"],
)
def test_the_image_that_fails_is_explained(runner, tmp_path, test, when):
    """The last of four, by its number in the batch that the engine was given."""
    plugin = tmp_path / "last_lost.py"
    plugin.write_text(LAST.format(when=when))
    done = runner.small(f"tests/conformance/{test}", "--precision", "fp32", "--batch", "4", plugin=plugin)
    assert done.code == 1
    (folder,) = set(re.findall(r"first wrong block: stem.conv1 .*; bug report: (.*)$", done.out, re.MULTILINE))
    assert "looked at: image 3 of a batch of 4\n" in (Path(folder) / "README.txt").read_text()


def test_every_test_leaves_its_own_behind(runner, tmp_path):
    """Also where several of one function fail on one case."""
    done = runner.small(
        "tests/conformance/test_isolation.py",
        "--precision",
        "fp32",
        "--batch",
        "1",
        "-k",
        "plain and (saturated or stripes)",
        plugin=faulty(tmp_path, "spoiled_plainly"),
    )
    assert done.code == 1
    saved = set(re.findall(r"saved: +(\S+)$", done.out, re.MULTILINE))
    reports = set(re.findall(r"bug report: (\S+)$", done.out, re.MULTILINE))
    for kind in ("saturated", "stripes"):
        case = f"test_plain_images_agree_with_the_oracle_onnxruntime_cpu-test_nfnet@64-fp32-b1-{kind}"
        name = f"tests_conformance_test_isolation.py_{case}"
        assert {Path(path).name for path in saved if kind in path} == {f"{name}.npz"}
        (folder,) = (Path(path) for path in reports if kind in path)
        assert folder.name == f"{name}-block"
        assert {path.name for path in folder.iterdir()} == {"block.onnx", "data.npz", "repro.py", "README.txt"}
    assert not list(folder.parent.glob("*.tmp"))


def test_what_cannot_be_explained_hides_nothing(runner, tmp_path):
    """The failure is told, with the reason why its block is not."""
    done = runner.small(PLACE, *ORACLE, plugin=faulty(tmp_path, "spoiled_twice", REFUSE))
    assert done.code == 1
    assert "disagrees with the float64 oracle" in done.out
    assert "first wrong block: could not be explained: no more outputs" in done.out


def test_what_cannot_be_saved_hides_nothing(runner, tmp_path):
    """Nor is an option lost that a case does not name: the command has it."""
    (tmp_path / "failures").touch()
    done = runner.small(
        PLACE,
        *ORACLE,
        f"--cache-dir={tmp_path}",
        "--exhaustive-tune",
        "--no-offload-copy",
        plugin=faulty(tmp_path, "spoiled_unsaved"),
    )
    assert done.code == 1
    assert "disagrees with the float64 oracle" in done.out
    assert re.search(r"see it again: +pytest .* --exhaustive-tune --no-offload-copy ", done.out)
    assert "saved:             nothing: File exists" in done.out


def test_never_means_never(runner, tmp_path):
    """The message has no such line."""
    done = runner.small(PLACE, *ORACLE, "--explain", "never", plugin=faulty(tmp_path, "spoiled_thrice"))
    assert done.code == 1
    assert "first wrong block" not in done.out


def test_always_shows_the_table(runner):
    """Of a case that passes, once a case."""
    done = runner.small(
        "tests/conformance/test_locality.py",
        "tests/conformance/test_repeating.py",
        "--precision",
        "fp32",
        "--batch",
        "1,2",
        "--explain",
        "always",
    )
    assert done.code == 0, done.text
    assert done.out.count("no block is off: 10 were looked at") == 1
    assert "stages.2.0.conv2b" in done.out


def test_a_wrong_block_fails_its_own_test(runner, tmp_path):
    """With the table of all blocks."""
    done = runner.small(
        "tests/conformance/test_locality.py",
        "--precision",
        "fp32",
        "--batch",
        "1",
        plugin=faulty(tmp_path, "spoiled_block"),
    )
    assert done.code == 1
    assert "a block disagrees with the float64 oracle" in done.out
    assert "OFF logits" in done.out


def test_out_of_time_is_not_off(runner, tmp_path):
    """No block is accused, no report is named, and the command asks as this run did."""
    plugin = tmp_path / "no_time.py"
    plugin.write_text(
        "from dataclasses import replace\n"
        "from fixtures.run import localize as explaining\n"
        "real = explaining.explain_case\n"
        "explaining.explain_case = lambda *words, **names: replace(real(*words, **names), unseen=3)\n"
    )
    done = runner.small(
        "tests/conformance/test_locality.py",
        "--precision",
        "fp32",
        "--batch",
        "1",
        "--explain",
        "always",
        "--explain-seconds",
        "77",
        plugin=plugin,
    )
    assert done.code == 1
    assert "not every block was held against the float64 oracle -> raise --explain-seconds" in done.out
    assert "disagrees" not in done.out
    assert "bug report" not in done.out
    assert re.search(r"see it again: pytest .* --explain always --explain-seconds 77", done.out)


@pytest.mark.parametrize(("blocks", "code", "shown"), [(0, 6, ""), (1, 0, r"of \S+ floors  1 comparisons")])
def test_what_cannot_be_looked_at_is_not_judged(runner, tmp_path, blocks, code, shown):
    """The test is skipped with the reason; what was looked at counts, and where nothing was the run is no success."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["made"], name="conv"),
        helper.make_node("Gelu", ["made" if blocks else "x"], ["bent"], name="gelu", domain="com.microsoft"),
        helper.make_node("Conv", ["bent", "w"], ["y"], name="last"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 8, 8]) for name in "xy"]
    weights = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
    graph = helper.make_graph(nodes[1 - blocks :], "others", ends[:1], ends[1:], [weights])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "others.onnx")
    done = runner.pytest(
        "tests/conformance/test_locality.py",
        "--engine",
        "onnxruntime:cpu",
        "--precision",
        "fp32",
        "--batch",
        "1",
        f"--model={tmp_path / 'others.onnx'}",
    )
    assert "1 skipped" in done.out, done.text
    assert re.search(r"not judged block by block: no block .*; gelu, last cannot be looked at: ONNX ", done.out)
    assert done.code == code
    assert re.search(shown, done.out)


def test_the_comparison_explains(runner):
    """The table of blocks where all is well."""
    done = runner.compare(
        "--engine", "onnxruntime:cpu", "--variant", "test_nfnet", "--image-size", "64", "--inputs", "1", "--explain"
    )
    assert done.code == 0, done.text
    assert "first wrong block: no block is off: 10 were looked at" in done.out


def test_the_comparison_explains_the_image_that_fails(runner, tmp_path):
    """The last of four random ones, and of a folder."""
    for number, colour in enumerate(("red", "green", "blue", "white")):
        Image.new("RGB", (80, 80), colour).save(tmp_path / f"{number}.png")
    code = faulty_comparison(
        "results.update({name: array * (np.arange(len(array)) != 3).reshape(-1, *[1] * (array.ndim - 1)) "
        "for name, array in results.items()})"
    ).replace("import sys", "import sys\nimport numpy as np", 1)
    for which in (("--inputs", "4"), ("--images", tmp_path)):
        done = runner.python("-c", code, *SMALL, "--batch", "4", "--explain", *which)
        assert done.code == 1, done.text
        assert "first wrong block: stem.conv1 " in done.out

"""A failing run names the first wrong block and the folder of its bug report, or says why it cannot."""

import re
from pathlib import Path

import pytest
from PIL import Image

from fixtures.localize import bug_report
from fixtures.localize.records import BUG_REPORT, HIDDEN, NO_WRONG_BLOCK, NOTHING_COMPARED, WRONG
from fixtures.machine import WITHIN
from fixtures.plugin.agreement import NOT_EVERY_BLOCK, WRONG_BLOCK
from fixtures.run.localize import ERROR
from fixtures.verdict.message import DISAGREES, FIRST_WRONG_BLOCK, REPRODUCE, SAVED
from tests.meta.conftest import SMALL
from tests.meta.faulty_comparison import fault
from tests.meta.localizing import saved

AGREEMENT, BLOCKS = "tests/conformance/test_agreement.py", "tests/conformance/test_blocks.py"
FP32 = ("--precision", "fp32", "--batch", "1")
FLOAT64 = (AGREEMENT, *FP32, "-k", "the_float64")
REPORT = {bug_report.MODEL, bug_report.DATA, bug_report.SCRIPT, bug_report.README}
SCALED = 'results |= {name: results[name] * 1.05 for name in ("logits", "stages.2.0.conv2") if name in results}'
REFUSED = f"if len(results) > 1: raise RuntimeError('no more outputs')\n{SCALED}"
LAST_ZERO = "if {when}:\n    for array in results.values(): array[3:4] = 0"


def values(label, done):
    """What stands behind a label, each once; the saved results of the run are not part of a message."""
    return set(re.findall(rf"{label}: +(?!.*results\.json$)(.*)$", done.out, re.MULTILINE))


def test_failure_names_the_wrong_block_and_its_bug_report(runner):
    """And the command that repeats the test, inside what this run is inside of."""
    done = runner.small(*FLOAT64, plugin=fault(SCALED), env={WITHIN: ".ci/with-migraphx --gpu gfx942"}, code=1)
    assert all(command.startswith(".ci/with-migraphx --gpu gfx942 pytest ") for command in values(REPRODUCE, done))
    (line,) = values(FIRST_WRONG_BLOCK, done)
    assert line.startswith(("logits (", "stages.2.0 ("))
    folder = Path(line.rpartition(f"{BUG_REPORT}: ")[2])
    assert {path.name for path in folder.iterdir()} == REPORT


@pytest.mark.parametrize(
    ("test", "when"),
    [
        ("test_agreement.py::test_logits_match_the_float64_reference", "True"),
        ("test_isolation.py::test_extreme_image_leaves_the_others_unchanged", "np.float32(1e30) in feeds['inputs']"),
    ],
    ids=["all images", "all but the extreme one"],
)
def test_image_that_fails_is_localised(runner, test, when):
    """The last of four, by its number in the engine's batch."""
    plugin = fault(LAST_ZERO.format(when=when))
    done = runner.small(f"tests/conformance/{test}", "--precision", "fp32", "--batch", "4", plugin=plugin, code=1)
    (line,) = values(FIRST_WRONG_BLOCK, done)
    assert line.startswith("stem.conv1 ")
    text = (Path(line.rpartition(f"{BUG_REPORT}: ")[2]) / bug_report.README).read_text()
    assert "compared: images [3] of a batch of 4\n" in text


def test_each_failing_test_has_its_own_files_and_one_cause_is_shown_once(runner):
    """The second test that fails by it has a line, which names the first; with ``$CI`` nothing is repeated."""
    place = ("tests/conformance/test_isolation.py", *FP32, "-k", "flat and (saturated or stripes)")
    done = runner.small(*place, plugin=fault(SCALED), env={"CI": "1"}, code=1)
    assert done.out.count("worst values:") == len(values(REPRODUCE, done)) == 1
    assert len(re.findall("same cause as tests/conformance/test_isolation.py::.*saturated", done.out)) == 2
    folder = runner.cache / "failures"
    for kind in ("saturated", "stripes"):
        test = f"test_flat_images_match_the_float64_reference_onnxruntime_cpu-test_nfnet@64-fp32-b1-{kind}"
        name = f"tests_conformance_test_isolation.py_{test}"
        assert (folder / f"{name}.npz").is_file()
        assert {path.name for path in (folder / f"{name}-block").iterdir()} == REPORT
    assert not list(folder.glob("*.tmp"))


def test_failed_localisation_does_not_hide_the_failure(runner):
    """The message has the reason instead of a block, and names the file with the traceback."""
    done = runner.small(*FLOAT64, plugin=fault(REFUSED), code=1)
    assert DISAGREES in done.out
    (line,) = values(FIRST_WRONG_BLOCK, done)
    reason, path = re.search(ERROR.format(reason="(.*)", path=r"(\S+)"), line).groups()
    assert reason == "RuntimeError: no more outputs"
    assert "Traceback" in Path(path).read_text()


def test_failed_saving_does_not_hide_the_failure(runner, tmp_path):
    """The command to reproduce it has the options that the case's name lacks."""
    (tmp_path / "failures").touch()
    options = (f"--cache-dir={tmp_path}", "--exhaustive-tune", "--no-offload-copy")
    done = runner.small(*FLOAT64, *options, plugin=fault(SCALED), code=1)
    assert DISAGREES in done.out
    (command,), (saved,) = values(REPRODUCE, done), values(SAVED, done)
    assert "--exhaustive-tune --no-offload-copy " in command
    assert "File exists" in saved


def test_explain_always_shows_the_table_of_blocks_once_per_case(runner):
    place = (BLOCKS, "tests/conformance/test_repeating.py", "--precision", "fp32", "--batch", "1,2")
    done = runner.small(*place, "--explain", "always")
    assert done.out.count(NO_WRONG_BLOCK) == 1
    assert "stages.2.0.conv2b" in done.out


def test_wrong_block_fails_its_own_test_with_the_table(runner):
    done = runner.small(BLOCKS, *FP32, plugin=fault(SCALED), code=1)
    assert WRONG_BLOCK in done.out
    assert re.search(rf"^\W*{WRONG} +logits ", done.out, re.MULTILINE)


def test_blocks_that_there_was_no_time_for_fail_without_being_flagged(runner):
    """No bug report is named; the command repeats the options of this run."""
    plugin = (
        "from dataclasses import replace\n"
        "from fixtures.run import localize\n"
        "real = localize.localize_case\n"
        "localize.localize_case = lambda *given, **options: replace(real(*given, **options), unchecked=3)\n"
    )
    done = runner.small(BLOCKS, *FP32, "--explain", "always", "--explain-seconds", "77", plugin=plugin, code=1)
    assert NOT_EVERY_BLOCK in done.out
    assert DISAGREES not in done.out
    assert not values(BUG_REPORT, done)
    (command,) = values(REPRODUCE, done)
    assert "--explain always --explain-seconds 77" in command


@pytest.mark.parametrize(("compared", "code"), [(0, 6), (1, 0)])
def test_blocks_that_cannot_be_compared_are_skipped_with_the_reason(runner, tmp_path, compared, code):
    first, made = ("made = Conv(x, w)", "made") if compared else ("", "x")
    nodes = f"{first} [gelu] bent = com.microsoft.Gelu({made}) [last] y = Conv(bent, w)"
    path = saved(tmp_path / "others.onnx", nodes, x="batch, 3, 8, 8", weights={"w": (3, 3, 1, 1)})
    done = runner.pytest(BLOCKS, "--engine", "onnxruntime:cpu", *FP32, f"--model={path}", code=code)
    assert "1 skipped" in done.out, done.text
    assert f"gelu, last {HIDDEN}" in done.out
    assert (NO_WRONG_BLOCK if compared else NOTHING_COMPARED) in done.out
    assert ("1 comparisons" in done.out) == bool(compared)


def test_comparison_shows_the_table_of_blocks(runner):
    done = runner.compare(*SMALL, "--inputs", "1", "--explain")
    (line,) = values(FIRST_WRONG_BLOCK, done)
    assert line.startswith(NO_WRONG_BLOCK)


def test_comparison_localises_the_image_that_fails(runner, tmp_path):
    """The last of four random ones, and of a folder."""
    for number, colour in enumerate(("red", "green", "blue", "white")):
        Image.new("RGB", (80, 80), colour).save(tmp_path / f"{number}.png")
    last_zero = fault(LAST_ZERO.format(when=True))
    for which in (("--inputs", "4"), ("--images", tmp_path)):
        done = runner.compare(*SMALL, "--batch", "4", "--explain", *which, patch=last_zero, code=1)
        (line,) = values(FIRST_WRONG_BLOCK, done)
        assert line.startswith("stem.conv1 ")

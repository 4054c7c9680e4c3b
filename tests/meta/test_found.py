"""Every finding of tests/studies/found/README.md still shows: its command prints what the page says."""

import doctest
import re
import shlex
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.studies.found import models

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "tests/studies/found/README.md"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
ENDED = "process ended"  # in the output of a crash


def shown(product):
    """Return (command, output) for each command of the section that begins with a product."""
    section = re.search(rf"^## {product} .*?(?=^## )", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[0]
    blocks = re.findall(r"^```console\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [command.split("\n", 1) for block in blocks for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]


def each(product):
    """Return the parameters of a test of a product's findings."""
    found = shown(product)
    names = [re.search(r"(?:found/)(\w+)\.", command)[1] for command, _ in found]
    return pytest.mark.parametrize(("command", "expected"), found, ids=names)


@pytest.fixture(scope="module")
def prints(runner, tmp_path_factory):
    """Run a command of the page, with its models in a folder of its own, and compare what it prints."""
    folder = tmp_path_factory.mktemp("found")
    models.write(folder)

    def check(command, expected):
        words = shlex.split(command.removeprefix(".ci/with-migraphx ").replace("found/", f"{folder}/"))
        if words[0] == "pytest":
            done = runner.pytest(*words[1:], code=None)
        else:
            done = runner.compare(*words[2:], isolated=ENDED in expected, code=None)
        matches = doctest.OutputChecker().check_output(expected, done.text, FLAGS)
        assert matches, f"$ {command}\n{done.text}\nThe page says:\n{expected}"

    return check


@pytest.mark.migraphx
@each("MIGraphX")
def test_finding_on_migraphx_shows(ref_engine, prints, command, expected):
    del ref_engine
    prints(command, expected)


@each("ONNX Runtime")
def test_finding_on_onnxruntime_shows(prints, command, expected):
    if not version("onnxruntime").startswith("1.32"):
        pytest.skip("the page describes ONNX Runtime 1.32")
    prints(command, expected)


def test_finding_on_onnx_shows(runner):
    if not version("onnx").startswith("1.23"):
        pytest.skip("the page describes onnx 1.23")
    ((command, expected),) = shown("onnx")
    done = runner.forked(ROOT / command.split()[1])
    assert doctest.OutputChecker().check_output(expected, done.out, FLAGS), done.text

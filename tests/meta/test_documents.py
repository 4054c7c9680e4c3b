"""The documents are true: names and messages exist, every command is run here or by .ci/run, or its options parsed.

A command that is new in a document needs a row in one of the tables.
"""

import ast
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from fixtures.cli.comparison import EXAMPLES
from fixtures.report import results_file
from tests.meta.test_add_engine import documented
from tests.meta.test_found import shown
from tests.meta.test_results_file import EMPTY
from tests.studies.found import models

ROOT = Path(__file__).parents[2]
GATE = [ROOT / ".ci/run", *(ROOT / ".github/workflows").glob("*.yml")]
OPTION = r"\.ci/with-migraphx --(gpu|browser)( ARCHITECTURE)?$"  # without a command
COMMAND = re.compile(rf"(?!{OPTION})(pytest|python3?|ort_comparison\.py|chrt|\.ci/\S+|\.venv/\S+) \S")
WITHIN = r"\.ci/with-migraphx( --gpu gfx\w+| --browser)? |chrt -f 1 "  # prefixes that this test cannot run
HISTORY = {"CHANGELOG.md", "tests/studies/figures.md"}  # these commands made the figures of their day
FEW = "tests/conformance/test_agreement.py --precision fp32 --batch 1 --engine onnxruntime:cpu"
SMALL = "--engine onnxruntime:cpu --variant test_nfnet --image-size 64 --batch 1 --precision fp32 --speed-seconds 0.01"
EITHER = {0, 2}  # 2: MIGraphX is not installed
RUN = {  # command: further words, which make it small; exit codes
    "pytest --engine onnxruntime:cpu --variant test_nfnet --image-size 64": (FEW, {0}),
    "pytest --model=resnet50.onnx --engine migraphx:ref": (FEW, {0}),
    "pytest tests/performance --batch 1,8,64 --precision fp32,fp16": (SMALL, {0}),
    "python ort_comparison.py doctor": ("", EITHER),
    "python ort_comparison.py operators": ("", {0}),
    "python ort_comparison.py report results.json": ("", {0}),
    "python ort_comparison.py report results.json --html report.html": ("", {0}),
    "python ort_comparison.py report compare before.json after.json": ("", {0}),
    "python ort_comparison.py --model resnet50.onnx --engine onnxruntime:cpu": ("", {0}),
    "python ort_comparison.py --images cat.jpg photographs/": ("", EITHER),
    "python tests/studies/found/models.py found": ("", {0}),
}
GPU, MINUTES, TESTS = "it needs a GPU", "it takes minutes; .ci/run does so, in other words", "it runs these tests"
ELSEWHERE, TORCH, BROWSER = "other tests run it, with files of their own", "it needs PyTorch", "it opens a browser"
SIMILAR = "another row runs it with one more option"
PARSED = {  # command: why this test does not run it
    "pytest --engine migraphx:gpu --require-engine migraphx:gpu --junit-xml=results.xml --report-html=report.html": GPU,
    ".ci/with-migraphx pytest --engine migraphx:ref": MINUTES,
    ".ci/with-migraphx --gpu gfx942 pytest --engine migraphx:gpu": MINUTES,
    ".ci/with-migraphx pytest tests/meta -m migraphx --require-engine migraphx:ref": MINUTES,
    "pytest tests/performance": MINUTES,
    "pytest tests/conformance": MINUTES,
    "pytest tests/meta": TESTS,
    "pytest tests/meta -m slow": TESTS,
    "pytest tests/meta/test_verdict.py": TESTS,
    "pytest --help": ELSEWHERE,
    "pytest tests/performance --benchmark-save=before": ELSEWHERE,
    "pytest tests/performance --benchmark-compare --benchmark-compare-fail=min:5%": ELSEWHERE,
    "pytest tests/performance/test_ab.py --ab=OTHER_VENV_OR_ROCM": ELSEWHERE,
    "pytest --write-known-failures=known.toml": ELSEWHERE,
    "pytest --known-failures=known.toml": ELSEWHERE,
    "pip install tests/meta/openvino_engine": MINUTES,
    "pytest tests/conformance --engine openvino:cpu": MINUTES,
    "python ort_comparison.py": SIMILAR,
    "python ort_comparison.py --model resnet50.onnx": SIMILAR,
    "python ort_comparison.py --engine onnxruntime:cpu": SIMILAR,
    "python ort_comparison.py --images cat.jpg photographs/ --precision fp16": SIMILAR,
    ".ci/with-migraphx --browser sh -c 'npm ci --prefix tests/meta/browser && pytest tests/meta/browser'": MINUTES,
    "pip install notebook && jupyter notebook nfnet_inference.ipynb": BROWSER,
    "python tests/studies/faults/power.py --variant digits_nfnet --precision all --local": MINUTES,
    "python tests/studies/faults/quantization.py --variant digits_nfnet --seeds 5": MINUTES,
    "python tests/studies/training/train.py": TORCH,
    "python tests/studies/golden_make.py NAME": TORCH,
    'python -c "from fixtures.report import results_file as file; file.SCHEMA.write_bytes(file.schema())"': ELSEWHERE,
}
SLOW = {"tests/meta", "--benchmark-compare"}  # to collect; the second needs a saved run
AS_ROOT = 'sudo -E env "PATH=$PATH" '
STUBS = ("timm", "timm.models", "timm.models.nfnet", "torch", "sklearn", "sklearn.datasets", "safetensors.torch")
PARSE = f"""
import argparse, pathlib, runpy, sys, unittest.mock
sys.modules |= {{name: unittest.mock.MagicMock() for name in {STUBS}}}
parse = argparse.ArgumentParser.parse_args
def parse_only(*words, **more):
    parse(*words, **more)
    sys.exit(0)
argparse.ArgumentParser.parse_args = parse_only
del sys.argv[0]
sys.path[0] = str(pathlib.Path(sys.argv[0]).parent)
runpy.run_path(sys.argv[0], run_name="__main__")
sys.exit("no options were parsed")
"""


def pages():
    """Return the text of each document."""
    paths = [*ROOT.glob("*.md"), *ROOT.glob("fixtures/**/*.md"), *ROOT.glob("tests/**/*.md")]
    paths += [*ROOT.glob(".ci/**/*.md"), *ROOT.glob(".github/**/*.md")]
    examples = "".join(f"`{line.strip()}`\n" for line in EXAMPLES.splitlines())
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths} | {"--help": examples}


def spans_of(text):
    """Return the code within sentences."""
    return re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def commands(text):
    """Return the commands of a document: lines of blocks marked sh or console, and code within a sentence."""
    blocks = re.findall(r"^```(sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    found = [
        line.removeprefix("$ ")
        for kind, block in blocks
        for line in block.splitlines()
        if line.strip() and (kind == "sh" or line.startswith("$ "))
    ]
    found += [span for span in spans_of(text) if COMMAND.match(span)]
    return [plain(command) for command in found]


def plain(command):
    """Return a command without its comment and the folder of its venv."""
    command = " ".join(re.sub(r" +# .*", "", command).replace(".venv/bin/", "").split())
    return re.sub(r"^(python3? )?ort_comparison\.py", "python ort_comparison.py", command)


def in_gate(command):
    """Return whether .ci/run or a workflow runs exactly this."""
    lines = [line.partition("run: ")[2] or line for path in GATE for line in path.read_text("utf-8").splitlines()]
    first = commands((ROOT / "README.md").read_text(encoding="utf-8"))[:2]  # readme_command of .ci/run
    return command in {*first, ".ci/run", *(plain(line).removeprefix(AS_ROOT) for line in lines)}


DOCUMENTED = {command: name for name, text in pages().items() for command in commands(text) if name not in HISTORY}
OF_PAGES = [command for product in ("MIGraphX", "ONNX Runtime", "onnx") for command, _ in shown(product)]
OF_PAGES += map(plain, documented("sh").splitlines())  # whole pages that other tests run
OF_HISTORY = sorted({command for name in HISTORY for command in commands(pages()[name])} - {*DOCUMENTED})


def messages():
    """Return the text constants of the code, with those between the values of f-strings."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "fixtures").rglob("*.py"))
    return {node.value for tree in trees for node in ast.walk(tree) if isinstance(getattr(node, "value", 0), str)}


@pytest.fixture(scope="module")
def run(runner, tmp_path_factory):
    """Run words of a command in this suite, with the files that it names in a folder of its own."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "photographs").mkdir()
    for name in ("cat.jpg", "photographs/dog.jpg"):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(folder / name)
    (folder / "FOLDER").mkdir()
    (folder / "known.toml").touch()
    onnx.save(models.model("gate"), folder / "resnet50.onnx")
    for name in ("results.json", "before.json", "after.json"):
        results_file.write_results(folder / name, EMPTY)
    places = dict.fromkeys(("migraphx:ref", "openvino:cpu"), "onnxruntime:cpu")  # which every machine has
    places |= {"NAME": "test_nfnet", "/path/to/project": str(ROOT), "OTHER_VENV_OR_ROCM": sys.prefix}

    def place(word):
        option, equals, value = word.rpartition("=")
        is_file = re.search(r"\.(json|onnx|jpg|html|xml|toml)$|^photographs/$|^found$|^FOLDER$", value)
        return option + equals + (str(folder / value) if is_file else places.get(value, value))

    def runs(words, *, as_script=None):
        program, *words = map(place, words)
        if program == "pytest":
            return runner.pytest(*words, code=None)
        return runner.forked(as_script or ROOT / words[0], *(words if as_script else words[1:]), code=None)

    return runs


def test_every_command_has_a_row():
    known = {*RUN, *PARSED, *OF_PAGES}
    assert {
        command: name for command, name in DOCUMENTED.items() if command not in known and not in_gate(command)
    } == {}
    assert {*RUN, *PARSED} - {*DOCUMENTED} == set()


@pytest.mark.parametrize("command", RUN)
def test_command_runs(run, command):
    more, codes = RUN[command]
    done = run([*shlex.split(command), *shlex.split(more)])
    assert done.code in codes, done.text


@pytest.mark.parametrize("command", [*PARSED, *OF_HISTORY])
def test_options_exist(run, runner, command):
    words = shlex.split(re.sub(WITHIN, "", command))
    assert [word for word in words if word.endswith((".py", ".ipynb")) and not (ROOT / word).is_file()] == []
    if all((ROOT / word).exists() for word in words[1:]):  # no options
        return
    if words[0] == "pytest":
        done = run([*words, "--markers" if SLOW & {*words} else "--collect-only", "-q"])
    elif words[0] == "python" and words[1] != "-c":
        done = run(words, as_script=runner.text_file(PARSE))
    else:
        return
    assert done.code == 0, done.text


def test_names_in_the_documents_exist():
    """Identifiers with an underscore or with capitals, within code."""
    files = [path for top in ("fixtures", "tests", ".ci") for path in (ROOT / top).rglob("*")]
    files += [path for path in ROOT.iterdir() if path.suffix in {".py", ".ini", ".txt", ".ipynb"}]
    read = [path for path in files if path.is_file() and path.suffix not in {".md", ".pyc", ".npz", ".safetensors"}]
    code = "".join(path.name + path.read_text("utf-8", "replace") for path in read)
    spans = [(name, span) for name, text in pages().items() if name not in HISTORY for span in spans_of(text)]
    words = [(name, word) for name, span in spans for word in re.findall(r"\b\w*(?:_|[a-z][A-Z])\w+", span)]
    assert [(name, word) for name, word in words if word not in code] == []
    assert len(words) > 200


def test_messages_of_troubleshooting_are_those_of_the_code():
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "tests/troubleshooting.md").read_text("utf-8"), re.MULTILINE)
    parts = [part.strip() for row in rows for code in re.findall(r"`(.*?)`", row) for part in code.split("...")]
    known = messages()
    assert [part for part in parts if not any(part in message for message in known)] == []
    assert len(parts) > 40

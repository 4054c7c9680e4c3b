"""The house: imports point down, files and functions stay small, and the README's picture of it is true."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures"
LONGEST_FILE, LONGEST_FUNCTION = 400, 60

# Each room with the rooms it may use, itself aside; every room may use the vocabulary.
VOCABULARY = {"errors", "records", "precisions"}
ROOMS = {
    "errors": set(),
    "records": set(),
    "precisions": set(),
    "hardware": set(),
    "resources": {"hardware"},
    "cache": set(),
    "seeded": set(),
    "inputs": {"seeded"},
    "onnx_file": set(),
    "assets": {"cache"},
    "nfnet": {"seeded", "inputs", "cache", "onnx_file"},
    "images": {"inputs", "nfnet", "seeded"},
    "accuracy": {"cache", "images", "inputs", "nfnet"},
    "engines": {"cache", "hardware", "resources", "onnx_file"},
    "programs": {"cache", "engines", "onnx_file"},
    "reference": {"cache", "inputs", "onnx_file"},
    "benchmark": {"cache", "hardware"},
    "verdict": set(),
    "localize": {"cache", "onnx_file", "reference", "verdict"},
    "weight_sources": {"assets", "nfnet"},
    "arguments": {"assets", "nfnet", "weight_sources"},
    "run": {
        "accuracy",
        "hardware",
        "inputs",
        "onnx_file",
        "nfnet",
        "engines",
        "programs",
        "reference",
        "verdict",
        "localize",
    },
    "cli": {"nfnet", "accuracy", "engines", "images", "onnx_file", "weight_sources", "run", "benchmark", "verdict"},
    "plugin": {
        "cache",
        "onnx_file",
        "nfnet",
        "engines",
        "programs",
        "verdict",
        "benchmark",
        "run",
        "arguments",
        "assets",
        "weight_sources",
        "accuracy",
        "images",
        "resources",
        "cli",
    },
}
TOP_LEVEL = {
    "conftest.py",
    "tests",
    "fixtures",
    "pytest.ini",
    "requirements_nfnet.txt",
    "README.md",
    "ort_comparison.py",
    "nfnet_inference.ipynb",
    "LICENSE",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
}


def sources(folder=ROOT):
    """Python files that belong to the project."""
    places = [folder] if folder != ROOT else [ROOT / "fixtures", ROOT / "tests"]
    return sorted([*(path for place in places for path in place.rglob("*.py")), *folder.glob("*.py")])


def imported(path):
    """Full names of the modules that a file imports, late imports included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room is meant"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_of(path):
    """Rooms that a file uses."""
    names = (name.split(".") for name in imported(path))
    return {parts[1] for parts in names if parts[0] == "fixtures" and len(parts) > 1}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_down(room):
    """A room uses only the rooms that the table allows it."""
    place = FIXTURES / room
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    for path in files:
        foreign = rooms_of(path) - ROOMS[room] - VOCABULARY - {room}
        assert not foreign, f"{path.relative_to(ROOT)} must not import {sorted(foreign)}"


@pytest.mark.parametrize("room", ROOMS)
def test_no_arrow_is_allowed_in_vain(room):
    """What is allowed and not used is soon used by mistake."""
    place = FIXTURES / room
    used = set().union(*map(rooms_of, [*place.rglob("*.py"), *FIXTURES.glob(f"{room}.py")]))
    assert ROOMS[room] <= used


def test_every_room_is_in_the_table():
    """No file stands in the corridor, and no room of the table is gone."""
    found = {path.stem for path in FIXTURES.iterdir() if path.suffix == ".py"} | {
        path.name for path in FIXTURES.iterdir() if path.is_dir() and any(path.glob("*.py"))
    }
    assert found - {"__init__"} == set(ROOMS)


def test_the_table_has_no_circles():
    """Down means down."""
    order = list(ROOMS)
    for room, used in ROOMS.items():
        assert all(order.index(other) < order.index(room) for other in used), room


def test_engines_do_not_know_each_other():
    """ONNX Runtime's code never imports MIGraphX's, nor the other way round; only the registry knows all."""
    for path in (FIXTURES / "engines").glob("*.py"):
        family = path.stem.partition("_")[0]
        if family in {"migraphx", "onnxruntime"}:
            (other,) = {"migraphx", "onnxruntime"} - {family}
            assert not [name for name in imported(path) if name.startswith((other, f"fixtures.engines.{other}"))], path


def test_heavy_packages_are_not_imported_early():
    """Building the plan and the help loads no engine, and nothing else that takes long and is not used at once."""
    code = "import sys, fixtures.plugin.main, fixtures.plugin.options; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"onnxruntime", "migraphx", "torch", "timm"}
    assert not loaded & {"scipy.stats", "scipy.io", "matplotlib.figure", "requests", "huggingface_hub.file_download"}


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_small(path):
    """What does not fit on a few screens is two things."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


def test_top_level_is_the_clients():
    """Nothing joins it but dot-files and the customary papers."""
    git = shutil.which("git")
    done = git and subprocess.run([git, "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if not done or done.returncode:
        pytest.skip("not a git checkout, or no git")
    top = {line.split("/")[0] for line in done.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL


def test_the_readme_shows_the_house_as_it_is():
    """Every room is in its picture, and everything in its picture exists."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    picture = text.partition("## The house")[2].partition("```")[2].partition("```")[0]
    shown = [line.split()[0] for line in picture.splitlines() if line.strip()]
    inside = [name for name in shown if (FIXTURES / name).exists()]
    for name in shown:
        assert (ROOT / name).exists() or (FIXTURES / name).exists(), f"{name} is in the picture only"
    rooms = {path.name for path in FIXTURES.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    files = {path.name for path in FIXTURES.glob("*.py")} - {"__init__.py"}
    assert rooms | files == {name.rstrip("/") for name in inside if name != "fixtures/"}
    order = [name.rstrip("/").removesuffix(".py") for name in inside if name != "fixtures/"]
    for room, used in ROOMS.items():
        assert all(order.index(other) > order.index(room) for other in used), f"{room} stands below what it uses"


def test_the_readme_begins_with_the_two_commands():
    """One block, two lines, before anything long is said."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    head, _, rest = text.partition("```")
    commands = rest.partition("```")[0].splitlines()[1:]
    assert len(head.splitlines()) < 8
    assert len(commands) == 2
    assert commands[1].endswith("pytest tests/meta")

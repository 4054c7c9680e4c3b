"""The layout is as documented: imports point down, files and functions stay small, the top level is the client's."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures"
LONGEST_FILE = {"fixtures": 300, "tests": 400}
LONGEST_FUNCTION = 50
TOP_LEVEL = {
    *{"conftest.py", "tests", "fixtures", "pytest.ini", "requirements_nfnet.txt", "README.md", "ort_comparison.py"},
    *{"nfnet_inference.ipynb", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"},
}
HEAVY = {"onnxruntime", "migraphx", "torch", "timm", "scipy.stats", "scipy.io", "matplotlib.figure", "requests"}
HEAVY |= {"huggingface_hub.file_download"}


def documented_layers():
    """Names in the list of fixtures/README.md, top first."""
    text = (FIXTURES / "README.md").read_text(encoding="utf-8")
    return [line.split()[0] for line in text.split("```")[1].splitlines() if line.strip()]


LAYERS = documented_layers()


def sources():
    """Python files of the project."""
    return sorted([*FIXTURES.rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *ROOT.glob("*.py")])


def imported(path):
    """Full names of the modules that a file imports, late imports included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layers_of(path):
    """Layers that a file imports."""
    names = {name.split(".")[1] for name in imported(path) if name.startswith("fixtures.")}
    return {layer for layer in LAYERS if layer.rstrip("/").removesuffix(".py") in names}


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_point_down(layer):
    """A layer imports itself and the layers below it in the documented list."""
    place = FIXTURES / layer
    allowed = set(LAYERS[LAYERS.index(layer) :])
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        upwards = layers_of(path) - allowed
        assert not upwards, f"{path.relative_to(ROOT)} must not import {sorted(upwards)}"


def test_every_module_belongs_to_a_layer():
    found = {path.name for path in FIXTURES.glob("*.py")} - {"__init__.py"}
    found |= {f"{path.name}/" for path in FIXTURES.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert found == set(LAYERS)


def test_engines_do_not_import_each_other():
    """Only the registry knows all engines."""
    families = {path.name for path in (FIXTURES / "engines").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert families == {"migraphx", "onnxruntime"}
    for family in families:
        (other,) = families - {family}
        for path in (FIXTURES / "engines" / family).rglob("*.py"):
            assert not [name for name in imported(path) if re.match(rf"(fixtures\.engines\.)?{other}\b", name)], path


def test_verdict_and_reference_know_no_engine():
    """Metrics and tolerances depend on records and precisions only."""
    for folder in ("verdict", "reference"):
        for path in (FIXTURES / folder).rglob("*.py"):
            assert not layers_of(path) & {"engines/", "programs/", "run/"}, path


@pytest.mark.parametrize("engine", ["migraphx:", "onnxruntime:"])
def test_engines_are_named_only_by_their_folder(engine):
    """Code outside engines/ asks an engine's descriptor instead of comparing names."""
    pattern = re.compile(rf"""(startswith|endswith|==|!=|\bin\b)\s*\(?\s*["']{engine}""")
    for path in FIXTURES.rglob("*.py"):
        if "engines" not in path.parts:
            assert not pattern.search(path.read_text(encoding="utf-8")), path


def test_heavy_packages_are_imported_late():
    """Options and the plan load no engine and nothing else that is slow to import."""
    code = "import sys, fixtures.plugin.main, fixtures.plugin.config; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & HEAVY


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_small(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE.get(path.relative_to(ROOT).parts[0], 300)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


def test_every_folder_has_a_readme():
    """Except for golden/, and for folders inside a folder of fixtures/."""
    for top in (FIXTURES, ROOT / "tests"):
        for folder in (top, *(path.parent for path in top.rglob("*.py"))):
            if "golden" not in folder.parts:
                assert (folder / "README.md").is_file() or folder.parent.parent == FIXTURES, folder


def test_readme_lists_every_module_of_its_folder():
    """That of fixtures/ is a list of its own, and tests/ name theirs by patterns."""
    for path in FIXTURES.glob("*/**/*.py"):
        readme = next(folder / "README.md" for folder in path.parents if (folder / "README.md").is_file())
        assert path.name == "__init__.py" or f"`{path.name}`" in readme.read_text(encoding="utf-8"), path


def test_readme_lists_no_file_that_is_gone():
    for readme in [*FIXTURES.rglob("README.md"), *(ROOT / "tests").rglob("README.md")]:
        rows = re.findall(r"^\| (.*?) \|", readme.read_text(encoding="utf-8"), re.MULTILINE)
        names = [name for row in rows for name in re.findall(r"`([\w./*-]+\.(?:py|j2|json|npz))`", row)]
        gone = [name for name in names if not [*readme.parent.glob(name)] and not (ROOT / name).is_file()]
        assert not gone, f"{readme.relative_to(ROOT)}: {gone}"


def test_top_level_is_the_clients():
    """Only dot-files and the customary documents join it."""
    git = shutil.which("git")
    done = git and subprocess.run([git, "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if not done or done.returncode:
        pytest.skip("not a git checkout, or no git")
    top = {line.split("/")[0] for line in done.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL


def test_readme_begins_with_the_two_commands():
    """One block of two lines, after at most a title and a sentence."""
    head, _, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition("```")
    commands = rest.partition("```")[0].splitlines()[1:]
    assert len(head.splitlines()) < 8
    assert [command.split()[-2:] for command in commands] == [
        ["&&", ".venv/bin/pytest"],
        [".venv/bin/pytest", "tests/meta"],
    ]

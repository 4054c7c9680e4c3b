"""An engine is added by the steps of fixtures/engines/README.md."""

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACES = ("from fixtures.engines.base import Engine\n", "RUNTIMES = {\n", "    for info in (\n")


def add_rows(registry, readme):
    """Insert the documented lines, each below its place."""
    (lines,) = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    text = registry.read_text(encoding="utf-8")
    for place, line in zip(PLACES, lines.splitlines(keepends=True), strict=True):
        assert text.count(place) == 1
        text = text.replace(place, place + line)
    registry.write_text(text, encoding="utf-8")


def test_documented_steps_add_an_engine(runner, tmp_path):
    """In a copy of the suite: write the engine, add the lines to the registry, run the conformance tests."""
    for name in ("fixtures", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pytest.ini", "requirements_nfnet.txt"):
        shutil.copy(ROOT / name, tmp_path)
    engines = tmp_path / "fixtures" / "engines"
    (engines / "example").mkdir()
    (engines / "example" / "__init__.py").write_text('"""An example."""\n')
    shutil.copy(tmp_path / "tests/meta/example_engine.py", engines / "example" / "engine.py")
    add_rows(engines / "registry.py", engines / "README.md")
    case = ("--variant", "test_nfnet", "--image-size", "64", "--precision", "fp32", "--batch", "1")
    tests = ("tests/conformance/test_agreement.py", "tests/conformance/test_saving.py")
    done = runner.pytest(*tests, "--engine", "example:cpu", *case, cwd=tmp_path, isolated=True)
    assert done.code == 0, done.text
    assert "example:cpu-test_nfnet@64-fp32-b1" in done.out

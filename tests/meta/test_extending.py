"""Documented extensions work: each test applies the edit of a README to a copy of the suite and runs it.

``test_add_engine.py`` does the same for an engine.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SKIPPED = shutil.ignore_patterns(".*", "__pycache__", "tests")


def documented_edit(readme, heading):
    """The Python code below a heading of a README, and the file of fixtures/ that the text before it names."""
    section = (ROOT / readme).read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    text, _, rest = section.partition("```python\n")
    (file,) = set(re.findall(r"`(fixtures/[\w/]+\.py|\w+\.py)`", text))
    return (ROOT / readme).parent / file if "/" not in file else ROOT / file, rest.partition("```")[0]


def apply(source, edit):
    """Insert the rows of the edit behind its first line, which opens the table."""
    anchor, _, rows = edit.strip().partition("\n")
    assert source.count(f"\n{anchor}") == 1, anchor
    before, _, after = source.partition(f"\n{anchor}")
    return f"{before}\n{anchor}\n{rows.removesuffix(')').rstrip()}\n{after}"


@pytest.fixture
def extended(tmp_path):
    """A function that applies a documented edit to a copy of the suite and runs Python code there."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, ignore=SKIPPED)

    def run(readme, heading, code):
        path, edit = documented_edit(readme, heading)
        target = copy / path.relative_to(ROOT)
        target.write_text(apply(target.read_text(encoding="utf-8"), edit), encoding="utf-8")
        words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(copy)!r})\n{code}"]
        done = subprocess.run(words, cwd=copy, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


COMPARE = """
import ort_comparison
words = {words!r}.split()
sys.exit(ort_comparison.main([*words, "--cache-dir={cache}", "--inputs", "1", "--image-size", "64"]))
"""


def test_variant_can_be_added(extended, tmp_path):
    """One row: the new variant is built, and ONNX Runtime agrees with itself without optimisation."""
    words = "--engine onnxruntime:cpu --variant my_nfnet --weights seeded"
    out = extended("fixtures/nfnet/README.md", "Add a variant", COMPARE.format(words=words, cache=tmp_path))
    assert out.splitlines()[-1].startswith("AGREE")


def test_precision_can_be_added(extended, tmp_path):
    """The new precision has a noise floor; no engine claims to support it."""
    code = f"""
from pathlib import Path
from fixtures.records import Case, ModelSpec
from fixtures.run.context import RunContext
case = Case("onnxruntime:cpu", ModelSpec("test_nfnet", size=(64, 64)), "bf16_products", 1)
with RunContext.create(Path({str(tmp_path)!r}), isolation=None) as context:
    tolerance = context.tolerances.tolerance(case)
    assert 2**-9 < tolerance.relative_error < 0.5, tolerance
    assert context.program_pool.unsupported(case)
"""
    extended("fixtures/reference/README.md", "Add a precision", code)


def test_tolerance_can_be_added(extended):
    """The new row is found for the engine, variant and operator that it names, and no other."""
    code = """
from fixtures.verdict.tolerances import DEFAULT, find_factor
assert find_factor("migraphx:gpu", "eca_nfnet_l0", {"Conv", "Gelu"}).factor == 6.0
assert find_factor("onnxruntime:cpu", "eca_nfnet_l0", {"Conv", "Gelu"}) is DEFAULT
assert find_factor("migraphx:gpu", "dm_nfnet_f0", {"Conv", "Gelu"}) is DEFAULT
"""
    extended("fixtures/reference/README.md", "Add a tolerance", code)


def test_known_failure_can_be_added(extended):
    """The new row is found for the cases that it names, and no other."""
    code = """
from fixtures.records import Case, EngineStatus, ModelSpec
from fixtures.verdict.known_failures import find
spec = ModelSpec("dm_nfnet_f3", size=(64, 64))
gpus = {gpu: EngineStatus("migraphx:gpu", "2.14.0", gpu=gpu) for gpu in ("gfx1030", "gfx942")}
assert find(Case("migraphx:gpu", spec, "bf16", 1), gpus["gfx1030"]).stage == "compile"
assert find(Case("migraphx:gpu", spec, "fp16", 1), gpus["gfx1030"]) is None
assert find(Case("migraphx:gpu", spec, "bf16", 1), gpus["gfx942"]) is None
"""
    extended("fixtures/verdict/README.md", "Add a known failure", code)

"""The command that measures what the suite itself costs: its lines, and what it says where it cannot measure."""

import shutil
from itertools import takewhile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "performance" / "own_cost"
TINY = ("--variant", "test_nfnet", "--image-size", "64", "--rounds", "1")
HOLDS, FAILED, INCOMPLETE = 0, 1, 2


@pytest.fixture
def without(tmp_path):
    """Environment of a Python that lacks some packages, whatever this one has."""

    def environment(*packages):
        for name in packages:
            (tmp_path / f"{name}.py").write_text(f"raise ImportError(\"No module named '{name}'\", name='{name}')")
        return {"PYTHONPATH": str(tmp_path)}

    return environment


def own_cost(runner, what, *words, **options):
    """Measure one thing on a small network."""
    return runner.python(SCRIPT, what, *TINY, *words, **options)


def test_exporters_that_are_missing_are_named(runner, without):
    """Building itself is still measured, and its memory judged."""
    done = own_cost(runner, "build", env=without("timm", "torch"))
    assert done.code in {FAILED, INCOMPLETE}, done.text
    for side in ("dynamo", "torchscript"):
        assert f"NOT MEASURED {side}: ImportError: No module named 'timm'" in done.out
    assert "peak memory of building / size of the file" in done.out


def test_exports_that_are_missing_are_named(runner):
    """With what makes them."""
    for what in ("session", "compile"):
        done = runner.python(SCRIPT, what, "--variant", "nf_regnet_b0")
        assert done.code == INCOMPLETE, done.text
        assert f"NOT MEASURED {what}: there are no exports of nf_regnet_b0 at 192 in " in done.out
        assert "run `own_cost build` first" in done.out


@pytest.fixture
def equals(runner, without):
    """Our file in the place of an export too."""
    own_cost(runner, "build", env=without("timm"))
    place = runner.cache / "own_cost" / "test_nfnet@64"
    (model,) = (place / "ours").rglob("*.onnx")
    (place / "dynamo").mkdir(exist_ok=True)
    shutil.copy(model, place / "dynamo" / "model.onnx")
    yield
    shutil.rmtree(place)


@pytest.mark.usefixtures("equals")
def test_a_claim_that_does_not_hold_fails(runner):
    """A session of the same file is not five times slower; a run of it is not slower."""
    done = own_cost(runner, "session")
    assert done.code == FAILED, done.text
    assert "session of the export (dynamo) / of ours, time" in done.out
    assert "at least 5: DOES NOT HOLD" in done.out
    assert "answers 0.0e+00 apart" in done.out


def test_a_process_that_fails_is_shown(runner):
    """With its last words."""
    done = runner.python(SCRIPT, "compare", "--variant", "no_nfnet", "--image-size", "64", "--rounds", "1")
    assert done.code != HOLDS
    assert "no_nfnet" in done.text


def test_the_comparison_is_held_against_a_bare_script(runner, without):
    """On so small a network it takes longer than that; Polygraphy is asked for where it is missing."""
    done = own_cost(runner, "compare", env=without("polygraphy"))
    assert done.code == FAILED, done.text
    assert "comparison / bare script, wall time" in done.out
    assert "at most 1.05: DOES NOT HOLD" in done.out
    assert "NOT MEASURED polygraphy: " in done.out


def test_the_suite_is_accounted_for(runner):
    """Every second of two runs is in one row, and the second run is held against the first."""
    words = (
        "--engine",
        "onnxruntime:cpu",
        "--variant",
        "test_nfnet",
        "--image-size",
        "64",
        "--precision",
        "fp32",
        "--batch",
        "1",
        "tests/conformance/test_agreement.py",
    )
    done = runner.python(SCRIPT, "suite", "--", *words)
    assert done.code in {HOLDS, FAILED}, done.text
    for title in ("first run", "second run"):
        rows = takewhile(lambda row: row.endswith("%"), done.out.split(f"{title}\n")[1].splitlines())
        shares = [float(row.rstrip("%").split()[-1]) for row in rows]
        assert sum(shares) == pytest.approx(100, abs=1)
    assert "second run / first run, wall time" in done.out


def test_start_is_held_against_an_empty_test(runner):
    """Collection only."""
    done = own_cost(runner, "start")
    assert done.code in {HOLDS, FAILED}, done.text
    assert "imports and collection, of the second allowed" in done.out


def test_images_are_counted_without_timm(runner, without):
    """Which is named."""
    done = own_cost(runner, "images", env=without("timm"))
    assert done.code in {FAILED, INCOMPLETE}, done.text
    assert "NOT MEASURED timm: No module named 'timm'" in done.out
    assert "images a second on one thread" in done.out

"""Damaged and wrong model files end in an error of one line or are judged; none ends the run."""

import json
from pathlib import Path

import pytest

from tests.meta.bad_files import ERRORS, changed, damaged, external, healthy, write

SCRIPT = Path(__file__).with_name("judge_files.py")
STAGES = {"model", "parse", "compile", "run", "reference", "crash"}  # of errors that a file may cause
AGREES = "agrees"
SECONDS = 60  # for one file, on a busy machine


def judged(runner, folder, files, engine="onnxruntime:cpu"):
    """Judge files in a process of their own; return their outcomes by name."""
    paths = {str(write(folder / f"{number:04}", content)): name for number, (name, content) in enumerate(files.items())}
    root = str(SCRIPT.parents[2])
    done = runner.forked(SCRIPT, engine, runner.cache, *paths, env={"PYTHONPATH": root}, timeout=600)
    rows = [json.loads(line) for line in done.out.splitlines() if line.startswith('["')]
    assert [row[0] for row in rows] == [*paths], f"exit code {done.code}, {done.text[-2000:]}"
    assert max(row[3] for row in rows) < SECONDS
    assert all(len(row[2].splitlines()) <= 1 for row in rows)
    return {paths[path]: found for path, found, _, _ in rows}


def test_damaged_file_is_an_error_or_agrees(runner, tmp_path):
    """Truncated before each field: an error. With a flipped bit: also agrees, since both sides read the same file."""
    found = judged(runner, tmp_path, dict(damaged()))
    assert set(found.values()) <= {*STAGES, AGREES}
    assert {outcome for name, outcome in found.items() if name.startswith("truncated")} <= STAGES


def test_wrong_file_is_an_error(runner, tmp_path):
    """What no engine may run; a healthy file with external data agrees."""
    files = {name: changed(change) for name, change in ERRORS.items()}
    found = judged(runner, tmp_path, {**files, "healthy": changed(external("weights.bin"))})
    assert found.pop("healthy") == AGREES
    assert set(found.values()) <= STAGES, found


@pytest.mark.migraphx
def test_wrong_file_is_an_error_on_migraphx(runner, tmp_path, ref_engine):
    """Also where MIGraphX accepts the file, or ends its process."""
    files = {name: changed(change) for name, change in ERRORS.items()}
    found = judged(runner, tmp_path, {**files, "healthy": healthy().SerializeToString()}, ref_engine.name)
    assert found.pop("healthy") == AGREES
    assert set(found.values()) <= STAGES, found

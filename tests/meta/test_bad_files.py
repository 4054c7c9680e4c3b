"""Damaged and wrong model files end in an error of one line or are judged; none ends the run."""

import json
from pathlib import Path

import pytest

from tests.meta.bad_files import ERRORS, changed, damaged, external, healthy, write

SCRIPT = Path(__file__).with_name("judge_files.py")
STAGES = {"model", "reference", "not judged"}  # of errors that a file may cause: none flags an engine
AGREES = "agrees"
SECONDS = 60  # for one file, on a busy machine


def judged(runner, folder, files, engine="onnxruntime:cpu"):
    """Judge files in a process of their own; return their outcomes by name."""
    paths = {str(write(folder / f"{number:04}", content)): name for number, (name, content) in enumerate(files.items())}
    root = str(SCRIPT.parents[2])
    done = runner.forked(SCRIPT, engine, runner.cache, *paths, env={"PYTHONPATH": root}, timeout=600)
    rows = [json.loads(line) for line in done.out.splitlines() if line.startswith('["')]
    assert [row[0] for row in rows] == [*paths], done.text[-2000:]
    assert max(row[3] for row in rows) < SECONDS
    assert all(len(row[2].splitlines()) <= 1 for row in rows)
    return {paths[path]: found for path, found, _, _ in rows}


@pytest.mark.parametrize("engine", ["onnxruntime:cpu", pytest.param("migraphx:ref", marks=pytest.mark.migraphx)])
def test_bad_file_is_an_error_or_agrees(runner, tmp_path, request, engine):
    """Wrong, or truncated: an error. With a flipped bit: also agrees, since both read the same file.

    The healthy file agrees, with external data, too.
    """
    if engine == "migraphx:ref":
        request.getfixturevalue("ref_engine")
    fine = {"healthy": healthy().SerializeToString(), "external": changed(external("weights.bin"))}
    wrong = {name: changed(change) for name, change in ERRORS.items()}
    found = judged(runner, tmp_path, {**fine, **wrong, **dict(damaged())}, engine)
    assert {found.pop(name) for name in fine} == {AGREES}
    flipped = {name for name in found if name.startswith("flipped")}
    assert {found[name] for name in flipped} <= {*STAGES, AGREES}
    assert {found[name] for name in found.keys() - flipped} <= STAGES, found

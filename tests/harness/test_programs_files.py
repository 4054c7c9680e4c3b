"""Files of kept programs: weights beside them, names that lead elsewhere, and which go when there are too many."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from fixtures.programs.entry import Entry, parts, seal
from fixtures.programs.eviction import evict
from fixtures.programs.programs import KEPT, LOADED, Programs
from fixtures.records import EngineOptions
from tests.harness.keeping import cut, flipped, had, keeping, order, run, size_of

AGAIN = f"{KEPT}; what was there is not used: "


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """For the model."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def folder(tmp_path):
    """Where programs are kept."""
    return tmp_path / "programs"


WEIGHTS = {
    "bit": (flipped, "its program is damaged"),
    "cut": (lambda path: cut(path, path.read_bytes()), "its program is damaged"),
    "gone": (Path.unlink, "its program cannot be read: No such file or directory"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_damaged_weights_beside_a_program_are_made_again(cache, folder, name):
    """They are read by nobody before they are hashed, here or by whoever comes later."""
    damage, reason = WEIGHTS[name]
    wanted = order(keeping(), cache)
    programs = Programs(folder, notes=folder.parent)
    answer = run(programs.program(wanted).program)
    damage(parts(Entry(folder, wanted.facts()).program)[1])
    program, how = programs.program(wanted)
    assert how == AGAIN + reason
    assert np.array_equal(run(program), answer)
    assert programs.program(wanted).how == LOADED


def test_a_record_of_files_that_are_none_of_its_own_is_made_again(cache, folder):
    """A name leads nowhere out of the folder."""
    wanted = order(keeping(), cache)
    Programs(folder).program(wanted)
    entry = Entry(folder, wanted.facts())
    row = asdict(replace(entry.read(), files={"../secret": "0"}))
    entry.record.write_text(json.dumps({**row, "seal": seal(row)}))
    assert had(wanted, folder) == f"{AGAIN}its record names a file that is none of its own: '../secret'"


def test_what_was_not_used_for_longest_goes(cache, folder):
    """Being loaded counts as use."""
    orders = [order(keeping(), cache, options=EngineOptions(threads=threads)) for threads in (1, 2, 3)]
    entries = [Entry(folder, each.facts()) for each in orders]
    for age, (each, kept) in enumerate(zip(orders[:2], entries, strict=False)):
        Programs(folder).program(each)
        for path in (*parts(kept.program), kept.record):
            os.utime(path, (age + 1, age + 1))
    size = sum(map(size_of, (*parts(entries[0].program), entries[0].record)))
    Programs(folder).program(orders[0])
    Programs(folder, limit=int(2.5 * size)).program(orders[2])
    assert [kept.record.exists() for kept in entries] == [True, False, True]
    assert [[path.exists() for path in parts(kept.program)] for kept in entries] == [
        [True] * 2,
        [False] * 2,
        [True] * 2,
    ]


def test_locks_stay(tmp_path):
    """Another process may wait for one; what a killed one left goes, and programs of an older suite."""
    (tmp_path / "b.tmp").mkdir()
    for name in ("a.program", "a.program.data", "a.json", "a.program.lock", "b.tmp/b.program", "c.tmp"):
        (tmp_path / name).write_bytes(b"1234")
    evict(tmp_path, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.program.lock"]

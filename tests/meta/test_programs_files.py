"""Files of kept programs: weights beside them, names that lead elsewhere, and which go when there are too many."""

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from fixtures.nfnet.store import built_model
from fixtures.precisions import precision
from fixtures.programs.entry import Entry, parts, seal
from fixtures.programs.eviction import evict
from fixtures.programs.programs import KEPT, LOADED, NOT_KEPT, Programs
from fixtures.records import EngineOptions
from tests.meta.keeping import SPEC, Keeping, cut, flipped, had, keeping, order, run, size_of

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


FILES = {
    "none of its own": ({"../secret": "0"}, "its record names a file that is none of its own: '../secret'"),
    "none": ({}, "its program is damaged"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_record_of_other_files_is_made_again(cache, folder, name):
    """Though it is sealed: no name leads out of the folder, and no file goes unhashed."""
    files, reason = FILES[name]
    wanted = order(keeping(), cache)
    Programs(folder).program(wanted)
    entry = Entry(folder, wanted.facts())
    row = asdict(replace(entry.read(), files=files))
    entry.record.write_text(json.dumps({**row, "seal": seal(row)}))
    assert had(wanted, folder) == AGAIN + reason


class Replacing(Keeping):
    """While it makes a session somebody exports the model anew."""

    def prepare(self, model, **more):
        """Replace it by ``other`` afterwards."""
        program = super().prepare(model, **more)
        shutil.copy(self.other, self.other.with_name("copy"))
        self.other.with_name("copy").replace(model)
        return program


def test_a_model_that_is_replaced_meanwhile_is_not_kept(cache, folder, tmp_path):
    """ONNX Runtime reads it again to save it: under the first one's name would lie the second one's program."""
    first = order(keeping(), cache)
    model, again = Path(shutil.copy(first.model, tmp_path / "model.onnx")), tmp_path / "again.onnx"
    engine = keeping(Replacing)
    engine.other = built_model(replace(SPEC, seed=4), precision("fp32"), cache)
    assert had(replace(first, engine=engine, model=model), folder) == f"{NOT_KEPT}: the model was changed meanwhile"
    model = Path(shutil.copy(first.model, again)).replace(model)
    program, how = Programs(folder).program(replace(first, model=model))
    assert how == KEPT
    assert np.array_equal(run(program), run(first.compiled()))


def test_a_file_that_goes_while_it_is_loaded_costs_time_only(cache, folder):
    """Another process evicts it."""

    class Losing(Keeping):
        def load(self, saved, *_, **__):
            raise FileNotFoundError(2, "No such file or directory", str(saved))

    Programs(folder).program(order(keeping(), cache))
    how = f"{NOT_KEPT}: No such file or directory; what was there is not used: No such file or directory"
    assert had(order(keeping(Losing), cache), folder) == how


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


def test_what_is_unfinished_counts(tmp_path):
    """By its files, not by its folder, and goes like all else."""
    (tmp_path / "a.tmp").mkdir()
    (tmp_path / "a.tmp" / "a.program").write_bytes(bytes(100_000))
    evict(tmp_path, 200_000)
    assert (tmp_path / "a.tmp" / "a.program").exists()
    evict(tmp_path, 50_000)
    assert list(tmp_path.iterdir()) == []


def test_locks_stay(tmp_path):
    """Another process may wait for one; what a killed one left goes, and programs of an older suite."""
    (tmp_path / "b.tmp").mkdir()
    for name in ("a.program", "a.program.data", "a.json", "a.program.lock", "b.tmp/b.program", "c.tmp"):
        (tmp_path / name).write_bytes(b"1234")
    evict(tmp_path, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.program.lock"]

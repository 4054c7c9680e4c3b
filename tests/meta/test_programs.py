"""Kept programs: the same bits when they come back, never another's, and a reason where one is not used or not kept.

On ONNX Runtime, where small models are kept here only, and on MIGraphX where it is.
"""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fixtures.engines.migraphx import engine as migraphx_engine
from fixtures.errors import CacheError, CompileError, EngineUnavailable
from fixtures.plugin.policy import absent
from fixtures.programs.entry import Entry, parts
from fixtures.programs.programs import KEPT, LOADED, NOT_KEPT, Programs
from fixtures.records import EngineOptions
from tests.meta.keeping import Keeping, cut, flipped, had, keeping, order, run, size_of
from tests.meta.ordinary import ordinary_user

ROOT = Path(__file__).parents[2]
AGAIN = f"{KEPT}; what was there is not used: "


@pytest.fixture(scope="module", params=["onnxruntime:cpu", pytest.param("migraphx:ref", marks=pytest.mark.migraphx)])
def engine(request, pytestconfig):
    """Each engine that can be here."""
    if request.param == "onnxruntime:cpu":
        return keeping()
    try:
        return migraphx_engine.open_engine("ref", pytestconfig.option.migraphx)
    except EngineUnavailable as error:
        absent(pytestconfig, request.param, error)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """For the model."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def wanted(engine, cache):
    """One program."""
    return order(engine, cache)


@pytest.fixture(scope="module")
def answer(engine, cache):
    """What it computes when it is compiled."""
    return run(order(engine, cache).compiled())


@pytest.fixture
def folder(tmp_path):
    """Where programs are kept."""
    return tmp_path / "programs"


@pytest.fixture
def entry(wanted, folder):
    """Where that program is kept, and is."""
    Programs(folder).program(wanted)
    return Entry(folder, wanted.facts())


def forged(entry, data=None, **changes):
    """Another record, and file, with all hashes right."""
    record = replace(entry.read(), **changes)
    entry.unfinished.parent.mkdir()
    for path in filter(Path.exists, parts(entry.program)):
        shutil.copy(path, entry.unfinished.parent)
    if data is not None:
        entry.unfinished.write_bytes(data)
    entry.write(record)


# ---- compiled once


def test_the_second_one_is_loaded_and_gives_the_same_bits(wanted, folder, answer):
    """With the facts of the first, and what it cost to make; marked, and with what it cost to load."""
    first, how = Programs(folder).program(wanted)
    assert how == KEPT
    second, how = Programs(folder).program(wanted)
    assert how == LOADED
    assert second.facts == first.facts
    assert replace(second.costs, load_seconds=None, cached=False) == first.costs
    assert np.array_equal(run(first), answer)
    assert np.array_equal(run(second), answer)
    assert second.costs.first_run_seconds > 0
    assert second.costs.cached
    assert second.costs.load_seconds > 0
    assert first.costs.compile_seconds > 0
    assert first.costs.program_bytes == sum(map(size_of, parts(Entry(folder, wanted.facts()).program)))


def test_what_is_not_worth_keeping_is_not_kept(cache, folder):
    """Nor is anything said of it."""

    class Plain(Keeping):
        def should_cache(self, *_):
            return False

    plain = order(keeping(Plain), cache)
    assert had(plain, folder) == ""
    assert not folder.exists()


def test_an_engine_that_cannot_say_what_it_is_compiles(cache, folder):
    """With its reason."""

    class Nameless(Keeping):
        def identity(self, *_):
            raise CacheError("nobody knows")

    nameless = order(keeping(Nameless), cache)
    assert had(nameless, folder) == f"{NOT_KEPT}: nobody knows"
    assert not folder.exists()


def test_what_cannot_be_compiled_is_not_hidden(cache, folder):
    """The engine's error, and no entry."""
    with pytest.raises(CompileError, match="fp8"):
        Programs(folder).program(order(keeping(), cache, precision="fp8"))
    assert [path.suffix for path in folder.iterdir()] == [".lock"]


# ---- entries that are not what they should be


def edited(entry, **changes):
    """Change the record's text and leave its seal."""
    row = json.loads(entry.record.read_text())
    entry.record.write_text(json.dumps({**row, **changes}))


DAMAGES = {
    "bit": (lambda entry: flipped(entry.program), "its program is damaged"),
    "cut": (lambda entry: cut(entry.program, entry.program.read_bytes()), "its program is damaged"),
    "gone": (lambda entry: entry.program.unlink(), "its program cannot be read: No such file or directory"),
    "record cut": (lambda entry: cut(entry.record, entry.record.read_bytes()), "its record is damaged"),
    "record empty": (lambda entry: entry.record.write_bytes(b""), "its record is damaged"),
    "no record": (lambda entry: entry.record.write_text("[1, 2]"), "its record is damaged"),
    "record edited": (lambda entry: edited(entry, files={}), "its record is damaged"),
    "record of old": (lambda entry: edited(entry, unknown=1), "its record is damaged"),
    "other tensors": (
        lambda entry: forged(entry, outputs=["logits: float32[7]"]),
        "the loaded program differs from the compiled one: inputs or outputs",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_entry_is_made_again(wanted, folder, entry, answer, name):
    """With the reason; then it is whole again."""
    damage, reason = DAMAGES[name]
    damage(entry)
    program, how = Programs(folder).program(wanted)
    assert how == AGAIN + reason
    assert np.array_equal(run(program), answer)
    assert had(wanted, folder) == LOADED


def test_an_entry_that_the_engine_cannot_read_is_made_again(wanted, folder, entry):
    """All hashes are right, and yet it is none."""
    forged(entry, b"not a program")
    assert had(wanted, folder).startswith(AGAIN)
    assert had(wanted, folder) == LOADED


def test_a_program_that_says_something_else_of_itself_is_made_again(wanted, folder, entry):
    """By the names of the facts."""
    name = min(set(entry.read().proven) & {"provider", "instruction_types"})
    forged(entry, proven={**entry.read().proven, name: "other"})
    assert had(wanted, folder) == f"{AGAIN}the loaded program differs from the compiled one: {name}"


def test_anothers_entry_is_made_again(engine, wanted, cache, folder, entry):
    """Under this name, whole, but compiled otherwise."""
    other = order(engine, cache, options=EngineOptions(fast_math=True))
    Programs(folder).program(other)
    theirs = Entry(folder, other.facts())
    shutil.copy(theirs.program, entry.program)
    shutil.copy(theirs.record, entry.record)
    assert had(wanted, folder) == f"{AGAIN}it is another program's: options"
    assert had(wanted, folder) == LOADED


@pytest.mark.migraphx
@pytest.mark.parametrize("engine", ["migraphx:ref"], indirect=True)
def test_a_program_of_another_precision_is_made_again(engine, wanted, cache, folder, entry):
    """Though everything that is written of it says otherwise: the program itself is asked."""
    half = order(engine, cache, precision="fp16").compiled()
    half.save(folder / "half")
    forged(entry, (folder / "half").read_bytes(), proven=half.facts)
    assert had(wanted, folder).startswith(f"{AGAIN}asked for fp32, but the compiled program's instructions make: half ")
    assert had(wanted, folder) == LOADED


# ---- folders and processes that are not as they should be


def test_a_folder_that_cannot_be_made_costs_time_only(wanted, tmp_path):
    """A file in its place."""
    (tmp_path / "file").touch()
    assert had(wanted, tmp_path / "file") == f"{NOT_KEPT}: the cache folder cannot be written: File exists"


def test_a_record_that_cannot_be_replaced_costs_time_only(wanted, folder, entry):
    """A folder in its place: said twice, for it can neither be read nor written."""
    entry.record.unlink()
    entry.record.mkdir()
    assert had(wanted, folder) == (
        f"{NOT_KEPT}: Is a directory; what was there is not used: its record cannot be read: Is a directory"
    )


def test_a_read_only_folder_still_serves_what_it_has(cache):
    """What it has not is compiled and not kept. It is nobody's temporary folder: pytest's are closed to others."""
    place = Path(tempfile.mkdtemp())
    engine = keeping()
    try:
        model = Path(shutil.copy(order(engine, cache).model, place))
        wanted = replace(order(engine, cache), model=model)
        assert had(wanted, place / "programs") == KEPT
        (place / "programs").chmod(0o555)
        place.chmod(0o755)
        with ordinary_user():
            assert had(wanted, place / "programs") == LOADED
            other = replace(wanted, options=EngineOptions(fast_math=True))
            how = Programs(place / "programs").program(other).how
        assert how == f"{NOT_KEPT}: the cache folder cannot be written: Permission denied"
    finally:
        shutil.rmtree(place)


def on_a_full_disk(save):
    """A program's ``save`` where files end after a few bytes; for nothing else, as MIGraphX prints through a file."""

    def saved(path):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        try:
            save(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return saved


def test_a_full_disk_costs_time_only(engine, wanted, folder, answer, monkeypatch):
    """The file ends where the disk does; nothing is left of it, and the program runs."""
    prepare = engine.prepare

    def prepared(*words, **more):
        program = prepare(*words, **more)
        program.save = on_a_full_disk(program.save)
        return program

    with monkeypatch.context() as patch:
        patch.setattr(engine, "prepare", prepared)
        program, how = Programs(folder).program(wanted)
    assert how.startswith(f"{NOT_KEPT}: ")
    assert np.array_equal(run(program), answer)
    assert [path.suffix for path in folder.iterdir()] == [".lock"]
    assert had(wanted, folder) == KEPT


class Interrupted(Keeping):
    """Ctrl-C comes in the middle of saving."""

    def prepare(self, *words, **more):
        """Compile, and save half."""
        program = super().prepare(*words, **more)

        def save(path):
            path.write_bytes(b"half of it")
            raise KeyboardInterrupt

        program.save = save
        return program


def test_an_interrupt_leaves_no_entry(cache, folder):
    """Nor a lock that is held; the next one is compiled, kept and leaves nothing unfinished."""
    with pytest.raises(KeyboardInterrupt):
        Programs(folder).program(order(keeping(Interrupted), cache))
    assert [path.suffix for path in folder.iterdir()] == [".lock"]
    wanted = order(keeping(), cache)
    assert Entry(folder, wanted.facts()).read() is None
    assert had(wanted, folder) == KEPT
    assert sorted(path.suffix for path in folder.iterdir()) == [".data", ".json", ".lock", ".program"]


def test_an_interrupt_between_program_and_record_leaves_no_entry(wanted, folder, entry):
    """The record is written last."""
    entry.record.unlink()
    assert had(wanted, folder) == KEPT


TWO = """
import sys
from pathlib import Path
from fixtures.programs.programs import Programs
from tests.meta.keeping import keeping, order
print(Programs(Path(sys.argv[2])).program(order(keeping(), Path(sys.argv[1]))).how)
"""


def test_of_two_processes_one_compiles(cache, folder):
    """The other waits and loads."""
    words = [sys.executable, "-c", TWO, str(cache), str(folder)]
    order(keeping(), cache)
    both = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0].strip() for process in both]
    assert sorted(said) == [KEPT, LOADED]


# ---- too many


def test_a_program_above_the_limit_is_not_kept(wanted, folder):
    """Both numbers are said."""
    how = had(wanted, folder, limit=1000)
    assert how.startswith(f"{NOT_KEPT}: it has ")
    assert how.endswith(" bytes, all kept ones together may have 1000")
    assert [path.suffix for path in folder.iterdir()] == [".lock"]

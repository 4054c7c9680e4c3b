"""Cached programs give the same bits, belong to their request, and are compiled again where they do not.

On an engine made of ONNX Runtime, and on MIGraphX where it is installed.
"""

import os
import resource
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fixtures.cache import file_sha256
from fixtures.errors import CacheError, CompileError
from fixtures.nfnet.store import built_model
from fixtures.precisions import precision
from fixtures.programs.program_cache import (
    COMPILED,
    FOLDER,
    LOADED,
    NOT_CACHED,
    PROGRAM,
    RECORD,
    ProgramCache,
    program_facts,
    read_record,
    write_record,
)
from fixtures.records import EngineOptions, QuantizedTensor
from tests.meta.caching_engine import SPEC, CachingEngine, flip_bit, logits, request_of, source_of
from tests.meta.unprivileged import unprivileged_user

RECOMPILED = f"{COMPILED}; the cached one was not used: "
DIFFERS = "the loaded program differs from the compiled one: "
OTHER_OPTIONS = EngineOptions(fast_math=True)


@pytest.fixture(scope="module", params=["onnxruntime:cpu", pytest.param("migraphx:ref", marks=pytest.mark.migraphx)])
def engine(request):
    """Each engine whose programs can be cached here."""
    return CachingEngine() if request.param == "onnxruntime:cpu" else request.getfixturevalue("ref_engine")


@pytest.fixture
def request_(models):
    """A request for one program."""
    return request_of(models)


@pytest.fixture(scope="module")
def expected(engine, models):
    """Logits of the program when it is compiled."""
    return logits(engine.prepare(request_of(models)))


@pytest.fixture
def entry(engine, request_, tmp_path):
    """The folder of that program in the cache, written."""
    cache = ProgramCache(tmp_path)
    cache.load_or_compile(engine, request_)[0].close()
    return cache.entry(program_facts(engine, request_))


def names(cache):
    """Names in the folder of programs, locks left out."""
    return sorted(path.name for path in (cache / FOLDER).iterdir() if path.suffix != ".lock")


def forge(entry, save=lambda _: None, **changes):
    """Replace the program and fields of its record; the checksum is right."""
    record = replace(read_record(entry), **changes)
    save(entry / PROGRAM)
    write_record(entry, replace(record, program_sha256=file_sha256(entry / PROGRAM)))


def test_second_program_is_loaded_and_gives_the_same_bits(engine, request_, tmp_path, expected):
    """It has the facts and the costs of the compilation, and the time of its own loading."""
    cache = ProgramCache(tmp_path)
    (first, compiled), (second, loaded) = (cache.load_or_compile(engine, request_) for _ in range(2))
    assert (compiled, loaded) == (COMPILED, LOADED)
    assert second.facts == first.facts
    assert replace(second.costs, load_seconds=None, cached=False) == first.costs
    assert np.array_equal(logits(first), expected)
    assert np.array_equal(logits(second), expected)
    assert second.costs.cached
    assert min(second.costs.load_seconds, second.costs.first_run_seconds, first.costs.compile_seconds) > 0
    assert first.costs.program_bytes == (cache.entry(program_facts(engine, request_)) / PROGRAM).stat().st_size


def test_engine_without_identity_compiles(models, tmp_path, monkeypatch):
    def identity(*_):
        raise CacheError("unknown library")

    monkeypatch.setattr(CachingEngine, "identity", identity)
    assert source_of(CachingEngine(), request_of(models), tmp_path) == f"{NOT_CACHED}: unknown library"
    assert not list(tmp_path.iterdir())


def test_compile_error_is_raised_and_leaves_no_entry(models, tmp_path):
    with pytest.raises(CompileError, match="fp8"):
        source_of(CachingEngine(), request_of(models, precision="fp8"), tmp_path)
    assert names(tmp_path) == []


def halve(path):
    """Keep the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {
    "program bit": (PROGRAM, flip_bit, "its program is damaged"),
    "program half": (PROGRAM, halve, "its program is damaged"),
    "program missing": (PROGRAM, Path.unlink, "No such file or directory"),
    "record missing": (RECORD, Path.unlink, None),
    "record half": (RECORD, halve, "its record is damaged"),
    "record empty": (RECORD, lambda path: path.write_bytes(b""), "its record is damaged"),
    "record binary": (RECORD, lambda path: path.write_bytes(b"\xff"), "its record is damaged"),
    "record list": (RECORD, lambda path: path.write_text("[1, 2]"), "its record is damaged"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_entry_is_compiled_again(engine, request_, tmp_path, entry, expected, name):
    """With the reason, unless there is no record; afterwards the entry is whole."""
    file, damage, reason = DAMAGE[name]
    damage(entry / file)
    program, source = ProgramCache(tmp_path).load_or_compile(engine, request_)
    assert source == (RECOMPILED + reason if reason else COMPILED)
    assert np.array_equal(logits(program), expected)
    assert source_of(engine, request_, tmp_path) == LOADED


def test_file_that_the_engine_cannot_read_is_compiled_again(engine, request_, tmp_path, entry):
    forge(entry, lambda path: path.write_bytes(b"not a program"))
    assert source_of(engine, request_, tmp_path).startswith(RECOMPILED)
    assert source_of(engine, request_, tmp_path) == LOADED


def test_loaded_program_has_the_recorded_quantisation(engine, request_, tmp_path, entry):
    tensors = (QuantizedTensor("x", "int8", (0.1, 1 / 3), (0, 1), 1),)
    forge(entry, quantization=tensors)
    assert ProgramCache(tmp_path).load_or_compile(engine, request_)[0].quantization == tensors


def test_program_that_differs_from_its_record_is_compiled_again(engine, request_, tmp_path, entry):
    """By what it says of itself: the names of the facts are in the source."""
    facts = read_record(entry).facts
    fact = min(set(facts) & {"provider", "instruction_types"})
    forge(entry, facts={**facts, fact: "other"})
    assert source_of(engine, request_, tmp_path) == RECOMPILED + DIFFERS + fact


@pytest.mark.migraphx
@pytest.mark.parametrize("engine", ["migraphx:ref"], indirect=True)
def test_program_of_another_precision_is_compiled_again(engine, request_, models, tmp_path, entry):
    """Its instructions have other types than those of the record."""
    forge(entry, engine.prepare(request_of(models, precision="fp16")).save)
    assert source_of(engine, request_, tmp_path) == RECOMPILED + DIFFERS + "instruction_types"
    assert source_of(engine, request_, tmp_path) == LOADED


def test_program_evicted_while_it_is_loaded_is_compiled_again(models, tmp_path):
    """By another process; here the file cannot be read a second time either."""

    class Losing(CachingEngine):
        def load_program(self, saved, *_, **__):
            raise FileNotFoundError(2, "No such file or directory", str(saved))

    source_of(CachingEngine(), request_of(models), tmp_path)
    reason = "No such file or directory"
    source = source_of(Losing(), request_of(models), tmp_path)
    assert source == f"{NOT_CACHED}: {reason}; the cached one was not used: {reason}"


def test_read_only_cache_is_read(models, public_folder):
    """What it lacks is compiled and not cached."""
    request = request_of(models)
    request = replace(request, model=Path(shutil.copy(request.model, public_folder)))
    assert source_of(CachingEngine(), request, public_folder) == COMPILED
    (public_folder / FOLDER).chmod(0o555)
    with unprivileged_user():
        assert source_of(CachingEngine(), request, public_folder) == LOADED
        source = source_of(CachingEngine(), replace(request, options=OTHER_OPTIONS), public_folder)
    assert source == f"{NOT_CACHED}: the cache folder cannot be written: Permission denied"


@pytest.fixture
def save_by(engine, monkeypatch):
    """Replace how programs of the engine are saved."""
    prepare = engine.prepare

    def replaced(save):
        def prepared(*arguments, **options):
            program = prepare(*arguments, **options)
            original = program.save
            program.save = lambda path: save(original, path)
            return program

        monkeypatch.setattr(engine, "prepare", prepared)

    return replaced


def test_full_disk_costs_time_only(engine, request_, tmp_path, expected, save_by, monkeypatch):
    """The engine may not notice it; nothing is left in the cache."""

    def save(original, path):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # here only: MIGraphX prints through a file
        try:
            original(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    save_by(save)
    program, source = ProgramCache(tmp_path).load_or_compile(engine, request_)
    assert source.startswith(f"{NOT_CACHED}: ")
    assert np.array_equal(logits(program), expected)
    assert names(tmp_path) == []
    monkeypatch.undo()
    assert source_of(engine, request_, tmp_path) == COMPILED


def test_interrupt_while_saving_leaves_no_entry(engine, request_, tmp_path, save_by, monkeypatch):
    def save(_, path):
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    save_by(save)
    with pytest.raises(KeyboardInterrupt):
        source_of(engine, request_, tmp_path)
    assert names(tmp_path) == []
    monkeypatch.undo()
    assert source_of(engine, request_, tmp_path) == COMPILED


def test_model_replaced_during_the_compilation_is_not_cached(models, tmp_path, monkeypatch):
    """Else the second model's program would be found under the first one's key."""
    first = request_of(models)
    model, other = shutil.copy(first.model, tmp_path), built_model(replace(SPEC, seed=4), precision("fp32"), models)
    request = replace(first, model=Path(model))
    prepare = CachingEngine.prepare

    def replacing(engine, request):
        program = prepare(engine, request)
        Path(shutil.copy(other, tmp_path / "copy")).replace(request.model)
        return program

    with monkeypatch.context() as patch:
        patch.setattr(CachingEngine, "prepare", replacing)
        source = source_of(CachingEngine(), request, tmp_path)
    assert source == f"{NOT_CACHED}: the model changed during the compilation"
    assert names(tmp_path) == []


TWO = """
import sys
from pathlib import Path
from tests.meta.caching_engine import CachingEngine, request_of, source_of
print(source_of(CachingEngine(), request_of(Path(sys.argv[1])), Path(sys.argv[2])))
"""


def test_one_of_two_processes_compiles(runner, models, tmp_path):
    request_of(models)
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(runner.python, "-c", TWO, models, tmp_path) for _ in range(2)]
    assert sorted(done.result().out.strip() for done in both) == [COMPILED, LOADED]


def test_program_above_the_limit_is_not_cached(engine, request_, tmp_path):
    source = source_of(engine, request_, tmp_path, limit=1000)
    assert source.startswith(f"{NOT_CACHED}: it has ")
    assert source.endswith(" 1000")
    assert names(tmp_path) == []


def test_least_recently_used_program_is_evicted(models, tmp_path):
    """Loading counts as use."""
    options = [EngineOptions(threads=threads) for threads in (1, 2, 3)]
    requests = [request_of(models, options=row) for row in options]
    entries = [ProgramCache(tmp_path).entry(program_facts(CachingEngine(), request)) for request in requests]
    for age, (request, entry) in enumerate(zip(requests[:2], entries, strict=False), 1):
        source_of(CachingEngine(), request, tmp_path)
        os.utime(entry, (age, age))
    size = sum(path.stat().st_size for path in (entries[0], *entries[0].iterdir()))
    assert source_of(CachingEngine(), requests[0], tmp_path) == LOADED
    assert source_of(CachingEngine(), requests[2], tmp_path, limit=int(2.5 * size)) == COMPILED
    assert [entry.exists() for entry in entries] == [True, False, True]

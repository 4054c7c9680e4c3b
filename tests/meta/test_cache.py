"""The cache folder: which one, its errors, locks, atomic writes, keys, memoized results and eviction."""

import multiprocessing
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from fixtures import cache
from fixtures.cache import (
    FOLDER,
    NOTICES,
    VARIABLE,
    atomic_folder,
    atomic_write,
    cache_folder,
    digest,
    evict,
    file_sha256,
    lock,
    memoize,
    source_sha256,
)
from fixtures.errors import CacheError
from fixtures.records import LONGEST_NAME, Case, ModelSpec, file_name
from tests.meta.held_lock import hold_lock
from tests.meta.unprivileged import unprivileged_user


@pytest.mark.parametrize(
    ("option", "environment", "expected"),
    [
        ("option", {VARIABLE: "variable", "XDG_CACHE_HOME": "/xdg"}, "option"),
        ("~/option", {VARIABLE: "variable", "XDG_CACHE_HOME": "/xdg"}, "home/option"),
        (None, {VARIABLE: "variable", "XDG_CACHE_HOME": "/xdg"}, "variable"),
        ("", {VARIABLE: "variable", "XDG_CACHE_HOME": "/xdg"}, "variable"),
        (None, {"XDG_CACHE_HOME": "/xdg"}, f"xdg/{FOLDER}"),
        (None, {VARIABLE: "", "XDG_CACHE_HOME": "/xdg"}, f"xdg/{FOLDER}"),
        (None, {VARIABLE: "", "XDG_CACHE_HOME": ""}, f"home/.cache/{FOLDER}"),
        (None, {"XDG_CACHE_HOME": "relative"}, f"home/.cache/{FOLDER}"),
        (None, {}, f"home/.cache/{FOLDER}"),
    ],
)
def test_option_precedes_variable_precedes_xdg_precedes_home(tmp_path, monkeypatch, option, environment, expected):
    """An empty value counts as none, and so does a relative XDG folder. The folder is absolute, made and empty."""
    monkeypatch.chdir(tmp_path)
    for key in (VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(key, raising=False)
    for key, value in (environment | {"HOME": "/home"}).items():
        monkeypatch.setenv(key, f"{tmp_path}{value}" if value.startswith("/") else value)
    folder = cache_folder(option)
    assert folder == tmp_path / expected
    assert not list(folder.iterdir())


def check_error(caught, *parts):
    """The error has one line, with the options for another folder."""
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    for part in ("--cache-dir", VARIABLE, *parts):
        assert part in text


@pytest.mark.parametrize("place", ["file", "file/below", "dead", "file/a/b/c", "x" * 300, "~no-user-of-that-name/x"])
def test_folder_that_cannot_be_made_is_an_error(tmp_path, monkeypatch, place):
    """A file at the end or further up, a broken link, a name that is too long, the home of an unknown user."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "dead").symlink_to(tmp_path / "file/gone")
    with pytest.raises(CacheError) as caught:
        cache_folder(place)
    check_error(caught, place)


def test_read_only_folder_is_an_error(public_folder):
    public_folder.chmod(0o555)
    with unprivileged_user(), pytest.raises(CacheError) as caught:
        cache_folder(str(public_folder))
    check_error(caught, str(public_folder), "Permission denied")


def test_lock_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CacheError) as caught, lock(tmp_path / "file" / "model"):
        pass
    check_error(caught, str(tmp_path / "file"))


def test_error_under_a_lock_is_unchanged_and_releases_it(tmp_path):
    """Also an OSError, which would be a CacheError if the lock itself had raised it."""
    with pytest.raises(FileNotFoundError, match="mine"), lock(tmp_path / "model"):
        raise FileNotFoundError("mine")
    free = FileLock(f"{tmp_path / 'model'}.lock")
    with free.acquire(timeout=0):
        assert free.is_locked


def test_wait_for_a_lock_is_reported_once(tmp_path, monkeypatch):
    """With the path; nothing is reported without a wait."""
    monkeypatch.setattr(cache, "SILENT_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(NOTICES, "filters", [lambda record: (heard.append(record.getMessage()), notified.set())])
    heard = []
    with lock(tmp_path / "model"):
        assert heard == []
    notified = hold_lock(tmp_path / "model")
    with lock(tmp_path / "model"):
        (text,) = heard
    assert str(tmp_path / "model") in text


def test_notices_are_written_to_stderr(runner):
    """At once, where no pytest captures them. A closed pipe, as behind ``| head``, does not stop the process."""
    notice = "from fixtures.cache import NOTICES; NOTICES.warning('waiting'); print('done')"
    done = runner.python("-c", notice)
    assert (done.code, done.err, done.out) == (0, "waiting\n", "done\n")
    closed = f"import os, sys; os.close(2); {notice}"
    assert runner.python("-c", closed).out == "done\n"


def test_pytest_capture_does_not_hide_the_wait_for_a_lock(runner, tmp_path):
    plugin = (
        "from pathlib import Path\nfrom fixtures import cache\nfrom tests.meta.held_lock import hold_lock\n"
        f"place = Path({str(tmp_path / 'model')!r})\ncache.SILENT_WAIT_SECONDS = 0.1\n"
        "def pytest_runtest_call(item):\n    notified = hold_lock(place)\n"
        "    cache.NOTICES.addFilter(lambda record: notified.set() or True)\n"
        "    with cache.lock(place):\n        pass\n"
    )
    done = runner.pytest("tests/meta/test_variants.py", "-k", "unknown", plugin=plugin)
    assert str(tmp_path / "model") in done.err


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_atomic_write_replaces_a_file_unless_it_fails(tmp_path, error):
    """After an error the file is as before, and nothing else is left."""
    path = tmp_path / "new" / "file"
    with atomic_write(path) as file:
        file.write(b"first")
    with suppress(error), atomic_write(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]


def test_atomic_write_follows_the_umask(tmp_path):
    """Others may read results where they may read the user's other files."""
    with atomic_write(tmp_path / "file"):
        pass
    (tmp_path / "other").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_atomic_folder_replaces_a_folder_or_a_file(tmp_path):
    target = tmp_path / "report"
    target.touch()
    for name in ("old", "new"):
        with atomic_folder(target) as made:
            (made / name).touch()
    with suppress(ZeroDivisionError), atomic_folder(target) as made:
        (made / "half").touch()
        raise ZeroDivisionError
    assert [path.name for path in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]


def test_file_names_fit_file_systems(tmp_path):
    case = Case("migraphx:ref", ModelSpec("test_nfnet", size=(32, 32)), "fp16", 2)
    assert file_name(case.id) == "migraphx_ref-test_nfnet@32-fp16-b2"
    assert file_name("a/test.py::test_x[one two*'é]") == "a_test.py_test_x_one_two"
    long = [file_name("x" * 300 + end) for end in "ab"]
    assert len(set(long)) == 2
    assert {len(name) for name in long} == {LONGEST_NAME}
    (tmp_path / f"{long[0]}-block").mkdir()


def test_key_depends_on_files_arrays_and_values(tmp_path):
    """A file by its content, an array by values, type and shape, and both by their place in a sequence."""
    path, ones = tmp_path / "model", np.ones((2, 2), np.float32)
    path.write_bytes(b"one")
    parts = [
        (path, ones, "exact"),
        (path, ones, "fp16"),
        (path, ones * 2, "exact"),
        (path, ones.astype(np.float64), "exact"),
        (path, ones.reshape(4), "exact"),
        (path, [ones, "exact"]),
        (path, ones, ["exact"]),
        (ones, "exact"),
        ("one", ones, "exact"),
    ]
    keys = [digest(*row) for row in parts]
    path.write_bytes(b"two")
    keys.append(digest(*parts[0]))
    assert len(set(keys)) == len(keys)
    assert digest(Path(shutil.copy(path, tmp_path / "copy")), ones.copy(order="F"), "exact") == keys[-1]


def test_changed_file_is_hashed_again(tmp_path):
    """Also when its size and its time of modification are the same."""
    path = tmp_path / "model"
    path.write_bytes(b"weights")
    before, status = file_sha256(path), path.stat()
    path.write_bytes(b"WEIGHTS")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_sha256(path) != before


def test_unchanged_file_is_hashed_once(tmp_path, monkeypatch):
    """Once it is older than the resolution of the clock."""
    path, reads = tmp_path / "model", []
    path.write_bytes(b"weights")
    monkeypatch.setattr("pooch.file_hash", lambda path: reads.append(path) or "hash")
    for seconds, count in ((3600.0, 2), (-1.0, 3)):
        monkeypatch.setattr(cache, "CLOCK_SECONDS", seconds)
        assert [file_sha256(path) for _ in range(2)] == ["hash"] * 2
        assert len(reads) == count


def test_source_hash_covers_files_and_nested_folders(tmp_path):
    """Python files only."""
    (tmp_path / "package" / "deep").mkdir(parents=True)
    hashes = []
    for name in ("a.py", "package/b.py", "package/deep/c.py", "package/README.md"):
        (tmp_path / name).write_text(name)
        source_sha256.cache_clear()
        hashes.append(source_sha256(tmp_path / "a.py", tmp_path / "package"))
    assert len(set(hashes)) == 3
    assert hashes[2] == hashes[3]


def results(folder, value=1.0, key=("key",)):
    """The memoized array of ``key``, and whether it was computed now."""
    calls = []

    def compute():
        calls.append(1)
        return {"y": np.full(3, value), "text": np.array("ü")}

    return memoize(folder, key, compute)["y"].tolist(), bool(calls)


def test_second_result_is_read(tmp_path):
    """The arrays of the first call; another key has arrays of its own."""
    assert results(tmp_path / "new") == ([1.0] * 3, True)
    assert results(tmp_path / "new", 2.0) == ([1.0] * 3, False)
    assert results(tmp_path / "new", 2.0, key=("other",)) == ([2.0] * 3, True)


@pytest.mark.parametrize("damage", ["empty", "short", "truncated", "bit", "beginning", "folder"])
def test_damaged_result_is_computed_again(tmp_path, damage):
    """Wherever the damage is; only a folder in its place stays."""
    results(tmp_path)
    (path,) = tmp_path.iterdir()
    data = path.read_bytes()
    middle = len(data) // 2
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        damaged = {"empty": b"", "short": data[:8], "truncated": data[:-1], "bit": flipped, "beginning": data[40:]}
        path.write_bytes(damaged[damage])
    assert results(tmp_path, 2.0) == ([2.0] * 3, True)
    assert results(tmp_path, 3.0) == (([3.0] * 3, True) if damage == "folder" else ([2.0] * 3, False))
    assert list(tmp_path.iterdir()) == [path]


def test_result_is_not_unpickled(tmp_path):
    """An array of objects is an error, not code that runs."""
    memoize(tmp_path, ("key",), lambda: {"y": np.array([object], dtype=object)})
    with pytest.raises(ValueError, match="pickle"):
        memoize(tmp_path, ("key",), dict)


def test_folder_that_cannot_be_written_costs_time_only(tmp_path):
    (tmp_path / "file").touch()
    assert results(tmp_path / "file") == results(tmp_path / "file") == ([1.0] * 3, True)


def test_results_are_evicted_at_the_first_write_of_a_process(tmp_path, monkeypatch):
    """Reading counts as use."""
    for age, key in enumerate("abc", 1):
        results(tmp_path, key=(key,))
        os.utime(tmp_path / digest(key), (age, age))
    assert results(tmp_path, key=("a",))[1] is False
    monkeypatch.setattr(cache, "MEMO_BYTES", 2.5 * (tmp_path / digest("a")).stat().st_size)
    cache._evict_once.cache_clear()
    results(tmp_path, key=("d",))
    assert {path.name for path in tmp_path.iterdir()} == {digest(key) for key in "ad"}


def test_eviction_removes_files_and_folders_but_no_locks(tmp_path):
    """A folder has the size of its files: also one that a killed process left behind."""
    (tmp_path / "b.tmp").mkdir()
    for name in ("a", "a.lock", "b.tmp/program"):
        (tmp_path / name).write_bytes(bytes(100_000))
    evict(tmp_path, 250_000)
    assert len(list(tmp_path.iterdir())) == 3
    evict(tmp_path, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]


def use(folder, source):
    """Read, compute and evict results as a version of the suite does; fail if one is of another version."""
    for _ in range(4):
        for number in range(12):
            with lock(folder / str(number)):
                found = memoize(
                    folder, (source, number), lambda number=number: {"a": np.full(2000, f"{source}{number}")}
                )
            assert set(found["a"]) == {f"{source}{number}"}
        evict(folder, 50_000)


def test_eight_processes_of_two_versions_share_a_cache(tmp_path):
    """Two more are killed: no result is wrong, no lock stays held, and no process waits for them."""
    forks = multiprocessing.get_context("fork")
    processes = [forks.Process(target=use, args=(tmp_path, f"version{number % 2}-")) for number in range(10)]
    for process in processes:
        process.start()
    time.sleep(0.1)
    for process in processes[:2]:
        process.kill()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes[2:]] == [0] * 8
    use(tmp_path, "version0-")

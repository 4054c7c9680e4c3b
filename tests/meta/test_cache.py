"""The cache: which folder, what is said of one that cannot be used, and models that are built once and whole."""

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from filelock import FileLock
from onnx import numpy_helper

from fixtures.cache import FOLDER, VARIABLE, cache_folder, locked, whole_folder
from fixtures.errors import CacheError, ModelError, UsageError
from fixtures.nfnet import store
from fixtures.nfnet import writer as onnxfile
from fixtures.nfnet.store import built_model
from fixtures.nfnet.weights import SeededWeights
from fixtures.nfnet.writer import write_model
from fixtures.onnx_file import data_path
from fixtures.precisions import precision
from fixtures.records import LONGEST_NAME, Case, ModelSpec, file_name
from tests.meta.ordinary import ordinary_user

ROOT = Path(__file__).parents[2]
SPEC = ModelSpec(variant="test_nfnet", size=(32, 32))
FP32, FP16 = precision("fp32"), precision("fp16")


# ---- which folder


@pytest.mark.parametrize(
    ("option", "environment", "expected"),
    [
        ("option", {VARIABLE: "variable", "XDG_CACHE_HOME": "xdg"}, "option"),
        (None, {VARIABLE: "variable", "XDG_CACHE_HOME": "xdg"}, "variable"),
        ("", {VARIABLE: "variable", "XDG_CACHE_HOME": "xdg"}, "variable"),
        (None, {"XDG_CACHE_HOME": "xdg"}, f"xdg/{FOLDER}"),
        (None, {VARIABLE: "", "XDG_CACHE_HOME": "xdg"}, f"xdg/{FOLDER}"),
        (None, {VARIABLE: "", "XDG_CACHE_HOME": ""}, f"home/.cache/{FOLDER}"),
        (None, {}, f"home/.cache/{FOLDER}"),
    ],
)
def test_the_nearest_wish_counts(tmp_path, monkeypatch, option, environment, expected):
    """Option, then the suite's variable, then XDG's, then the home folder; what is empty says nothing."""
    for key in (VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(key, raising=False)
    for key, value in (environment | {"HOME": "home"}).items():
        monkeypatch.setenv(key, value and str(tmp_path / value))
    folder = cache_folder(option and str(tmp_path / option))
    assert folder == tmp_path / expected
    assert folder.is_dir()
    assert not list(folder.iterdir())


def test_a_home_and_a_relative_folder_become_absolute(tmp_path, monkeypatch):
    """The folder stays the same whatever a test does to the current one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert cache_folder("~/here") == cache_folder("here") == tmp_path / "here"


def test_a_relative_xdg_folder_is_ignored(tmp_path, monkeypatch):
    """So the XDG specification wants it; else every current folder would get a cache."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / FOLDER


def check_refusal(caught, *words):
    """One line that names the way out."""
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    for word in ("the cache folder cannot be written", "--cache-dir", VARIABLE, *words):
        assert word in text


@pytest.mark.parametrize("place", ["file", "file/below", "dead", "file/a/b/c", "x" * 300])
def test_a_folder_that_cannot_be_made_is_refused(tmp_path, place):
    """A file in the way, at the end or further up, a link to nothing, a name too long."""
    (tmp_path / "file").touch()
    (tmp_path / "dead").symlink_to(tmp_path / "file/gone")
    with pytest.raises(CacheError) as caught:
        cache_folder(str(tmp_path / place))
    check_refusal(caught, str(tmp_path / place))


def test_the_home_of_nobody_is_refused():
    """A misspelt user's name is a wrong folder, not a crash."""
    with pytest.raises(CacheError) as caught:
        cache_folder("~nobody-of-that-name/cache")
    check_refusal(caught, "~nobody-of-that-name/cache")


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
def test_a_read_only_folder_is_refused():
    """It exists, and yet nothing can be written into it."""
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    try:
        folder.chmod(0o555)
        with ordinary_user(), pytest.raises(CacheError) as caught:
            cache_folder(str(folder))
        check_refusal(caught, str(folder), "Permission denied")
    finally:
        shutil.rmtree(folder)


def test_a_lock_that_cannot_be_had_is_refused_and_faults_inside_pass_through(tmp_path):
    """Only the lock's own trouble is the cache's; what fails under the lock keeps its name, and frees the lock."""
    (tmp_path / "file").touch()
    with pytest.raises(CacheError) as caught, locked(tmp_path / "file" / "model"):
        pass
    check_refusal(caught, str(tmp_path / "file"))
    with pytest.raises(FileNotFoundError, match="mine"), locked(tmp_path / "model"):
        raise FileNotFoundError("mine")
    lock = FileLock(f"{tmp_path / 'model'}.lock")
    with lock.acquire(timeout=0):
        assert lock.is_locked


# ---- models in it


def models(folder):
    """Everything below ``folder`` that is neither a folder nor a lock."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def leftovers(folder):
    """Temporary files and folders of a write."""
    return [path for path in folder.rglob("*") if onnxfile.UNFINISHED in str(path) or "tmp" in path.name]


def test_a_model_is_built_once(tmp_path):
    """The second call returns the same untouched file."""
    path = built_model(SPEC, FP32, tmp_path)
    before = path.stat()
    onnx.checker.check_model(onnx.load(path))
    assert built_model(SPEC, FP32, tmp_path) == path
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert models(tmp_path) == [path]
    assert not leftovers(tmp_path)


def test_a_model_is_known_by_all_that_decides_its_content(tmp_path, monkeypatch):
    """Size, seed, precision, opset, the builder's source and the onnx package each make another file."""
    paths = [
        built_model(SPEC, FP32, tmp_path),
        built_model(SPEC, FP16, tmp_path),
        built_model(replace(SPEC, seed=1), FP32, tmp_path),
        built_model(replace(SPEC, size=(32, 64)), FP32, tmp_path),
        built_model(replace(SPEC, opset=19), FP32, tmp_path),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(store, "builder_fingerprint", lambda: "another builder")
        paths.append(built_model(SPEC, FP32, tmp_path))
    monkeypatch.setattr(onnx, "__version__", "0.0.0")
    paths.append(built_model(SPEC, FP32, tmp_path))
    assert len({path.parent for path in paths}) == len(paths)
    assert models(tmp_path) == sorted(paths)


def test_the_default_opset_by_name_is_the_same_model(tmp_path):
    """A model does not depend on how it was asked for."""
    opset = replace(SPEC, opset=store.DEFAULT_OPSET)
    assert built_model(opset, FP32, tmp_path).parent == built_model(SPEC, FP32, tmp_path).parent


def test_the_same_model_has_the_same_bytes_in_every_cache(tmp_path):
    """A file is a function of its specification."""
    one, two = (built_model(SPEC, FP32, tmp_path / name) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("spec", [replace(SPEC, variant=None), replace(SPEC, size=None)])
def test_a_specification_of_a_file_is_refused(tmp_path, spec):
    """Only variants are built."""
    with pytest.raises(UsageError, match="a built model needs a variant and an image size"):
        built_model(spec, FP32, tmp_path)


class FailingWeights(SeededWeights):
    """Fails in the middle: the header and some weights are on the disk by then."""

    error: BaseException
    left = 10

    def __getitem__(self, name):
        """Give ten tensors, then fail."""
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().__getitem__(name)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (MemoryError(), MemoryError),
        (ModelError("overflow"), ModelError),
        (OSError(28, "No space left on device"), CacheError),
    ],
    ids=["interrupt", "memory", "model", "disk"],
)
def test_an_interrupted_write_leaves_nothing_and_the_next_one_succeeds(tmp_path, monkeypatch, error, expected):
    """No half model, no temporary file, no lock that is held."""
    monkeypatch.setattr(FailingWeights, "error", error, raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(store, "SeededWeights", FailingWeights)
        with pytest.raises(expected) as caught:
            built_model(SPEC, FP32, tmp_path)
    assert len(str(caught.value).splitlines()) <= 1
    assert not models(tmp_path)
    assert not leftovers(tmp_path)
    assert built_model(SPEC, FP32, tmp_path).exists()


def test_a_full_disk_is_told_with_a_cure(tmp_path, monkeypatch):
    """The message names the model's file, the system's reason and the way out."""
    monkeypatch.setattr(FailingWeights, "error", OSError(28, "No space left on device"), raising=False)
    monkeypatch.setattr(store, "SeededWeights", FailingWeights)
    with pytest.raises(CacheError, match=r"test_nfnet@32-fp32\.onnx: .*No space left on device -> .*--cache-dir"):
        built_model(SPEC, FP32, tmp_path)


def test_an_interrupted_write_with_a_data_file_leaves_nothing(tmp_path):
    """A model with its weights beside it is two files: neither is there until both are whole."""
    net, size = store._described(SPEC)
    weights = FailingWeights(net.variant.name, 0)
    weights.error = KeyboardInterrupt()
    path = tmp_path / "model.onnx"
    arguments = {"classes": net.classes, "name": "x", "beside": True}
    with pytest.raises(KeyboardInterrupt):
        write_model(store.build_graph(net, weights, size), path, FP32, **arguments)
    assert not list(tmp_path.iterdir())
    weights.left = 10**6
    write_model(store.build_graph(net, weights, size), path, FP32, **arguments)
    assert models(tmp_path) == [path, data_path(path)]
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("mapped", [True, False])
def test_a_model_whose_weights_were_lost_is_built_again(tmp_path, monkeypatch, mapped):
    """Someone cleared the cache of its largest files, or a disk cut one."""
    monkeypatch.setattr(store, "MAPPED_ABOVE", 0)
    path = built_model(SPEC, FP32, tmp_path, mapped=mapped)
    assert data_path(path).exists() == mapped
    weights = data_path(path) if mapped else path
    whole = weights.read_bytes()
    for damage in (weights.unlink, lambda: weights.write_bytes(whole[:-100])):
        damage()
        assert built_model(SPEC, FP32, tmp_path, mapped=mapped) == path
        assert weights.read_bytes() == whole


def test_weights_lie_where_the_engine_wants_them(tmp_path, monkeypatch):
    """The same network in one file and in two; a small one is one file for every engine."""
    assert built_model(SPEC, FP32, tmp_path, mapped=True) == built_model(SPEC, FP32, tmp_path, mapped=False)
    monkeypatch.setattr(store, "MAPPED_ABOVE", 0)
    one, two = (built_model(SPEC, FP32, tmp_path, mapped=mapped) for mapped in (False, True))
    assert not data_path(one).exists()
    weights = [
        {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
        for path in (one, two)
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(np.array_equal(array, weights[1][name]) for name, array in weights[0].items())


CHILD = """
    import sys, time
    from dataclasses import replace
    from pathlib import Path
    from fixtures.nfnet import store
    from fixtures.precisions import precision
    from fixtures.records import ModelSpec

    def slowly(graph, path, *args, **kwargs):
        print("wrote", flush=True)
        graph.parts[5] = replace(graph.parts[5], make=pause(graph.parts[5].make))
        write(graph, path, *args, **kwargs)

    def pause(make):
        def paused():
            time.sleep(float(sys.argv[2]))
            return make()
        return paused

    write, store.write_model = store.write_model, slowly
    print("ready", flush=True)
    sys.stdin.readline()
    path = store.built_model(ModelSpec(variant="test_nfnet", size=(32, 32)), precision("fp32"), Path(sys.argv[1]))
    print(path, path.stat().st_ino, flush=True)
"""


def start(folder, pause):
    """Start a process that builds a model and takes ``pause`` seconds in the middle of the file."""
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(folder), str(pause)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout.readline() == "ready\n"
    return child


def test_two_processes_build_a_model_once(tmp_path):
    """Both want the same model at the same moment: one builds it, the other waits, both get the one file."""
    children = [start(tmp_path, 0.5) for _ in range(2)]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    said = [child.communicate(timeout=30)[0].splitlines() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert sorted(len(lines) for lines in said) == [1, 2]  # only one of them wrote
    assert said[0][-1] == said[1][-1]
    (path,) = models(tmp_path)
    assert said[0][-1] == f"{path} {path.stat().st_ino}"
    onnx.checker.check_model(onnx.load(path))
    assert not leftovers(tmp_path)


def test_a_process_killed_while_it_writes_does_no_harm(tmp_path):
    """It could not clean up; the next one is not blocked, takes no half file, and removes what was left."""
    child = start(tmp_path, 60)
    child.stdin.write("go\n")
    child.stdin.flush()
    assert child.stdout.readline() == "wrote\n"
    while not models(tmp_path):
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.communicate()
    assert leftovers(tmp_path)
    path = built_model(SPEC, FP32, tmp_path)
    onnx.checker.check_model(onnx.load(path))
    assert models(tmp_path) == [path]
    assert not leftovers(tmp_path)


# ---- folders that are written at once, and their names


def test_folders_written_at_once_do_not_mix(tmp_path):
    """The one that stays is whole, and nothing is left beside it."""
    target = tmp_path / "reports" / "report"

    def write(writer):
        for _ in range(20):
            with whole_folder(target) as made:
                for part in "abc":
                    (made / part).write_text(str(writer))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len({(target / part).read_text() for part in "abc"}) == 1
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_takes_the_place_of_what_was_there(tmp_path):
    """Of a fuller folder and of a file; one that was not filled to the end takes no place."""
    target = tmp_path / "report"
    target.touch()
    for name in ("old", "new"):
        with whole_folder(target) as made:
            (made / name).touch()
    with suppress(ZeroDivisionError), whole_folder(target) as made:
        (made / "half").touch()
        1 / 0  # noqa: B018
    assert [path.name for path in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]


def test_names_of_files_fit_file_systems(tmp_path):
    """Short ones stay readable, long ones stay different."""
    assert Case("migraphx:ref", SPEC, "fp16", 2).file_name == "migraphx_ref-test_nfnet@32-fp16-b2"
    assert file_name("a/test.py::test_x[one two*'é]") == "a_test.py_test_x_one_two"
    long = [file_name("x" * 300 + end) for end in "ab"]
    assert len(set(long)) == 2
    assert {len(name) for name in long} == {LONGEST_NAME}
    (tmp_path / f"{long[0]}-block").mkdir()

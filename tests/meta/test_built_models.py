"""Models are built once, whole, and by one process at a time."""

import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fixtures.errors import CacheError, ModelError, UsageError
from fixtures.nfnet import store
from fixtures.nfnet import writer as onnxfile
from fixtures.nfnet.store import built_model
from fixtures.nfnet.weights import SeededWeights
from fixtures.nfnet.writer import write_model
from fixtures.onnx_file import data_path
from fixtures.precisions import precision
from fixtures.records import ModelSpec

ROOT = Path(__file__).parents[2]
SPEC = ModelSpec(variant="test_nfnet", size=(32, 32))
FP32, FP16 = precision("fp32"), precision("fp16")


def models(folder):
    """Everything below ``folder`` that is neither a folder nor a lock."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def leftovers(folder):
    """Temporary files and folders of a write."""
    return [path for path in folder.rglob("*") if onnxfile.UNFINISHED in str(path) or "tmp" in path.name]


def test_model_is_built_once(tmp_path):
    """The second call returns the same untouched file."""
    path = built_model(SPEC, FP32, tmp_path)
    before = path.stat()
    onnx.checker.check_model(onnx.load(path))
    assert built_model(SPEC, FP32, tmp_path) == path
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert models(tmp_path) == [path]
    assert not leftovers(tmp_path)


def test_each_input_of_the_builder_gives_another_file(tmp_path, monkeypatch):
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


def test_default_opset_given_explicitly_is_the_same_model(tmp_path):
    """The key has the opset, not the option."""
    opset = replace(SPEC, opset=store.DEFAULT_OPSET)
    assert built_model(opset, FP32, tmp_path).parent == built_model(SPEC, FP32, tmp_path).parent


def test_file_is_a_function_of_its_specification(tmp_path):
    """The same bytes in two caches."""
    one, two = (built_model(SPEC, FP32, tmp_path / name) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("spec", [replace(SPEC, variant=None), replace(SPEC, size=None)])
def test_specification_without_variant_or_size_is_a_usage_error(tmp_path, spec):
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
def test_failed_write_leaves_nothing_and_the_next_one_succeeds(tmp_path, monkeypatch, error, expected):
    """No truncated model, no temporary file, no lock that is held."""
    monkeypatch.setattr(FailingWeights, "error", error, raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(store, "SeededWeights", FailingWeights)
        with pytest.raises(expected) as caught:
            built_model(SPEC, FP32, tmp_path)
    assert len(str(caught.value).splitlines()) <= 1
    assert not models(tmp_path)
    assert not leftovers(tmp_path)
    assert built_model(SPEC, FP32, tmp_path).exists()


def test_full_disk_error_has_the_reason_and_a_hint(tmp_path, monkeypatch):
    """The message names the model's file, the system's reason and the way out."""
    monkeypatch.setattr(FailingWeights, "error", OSError(28, "No space left on device"), raising=False)
    monkeypatch.setattr(store, "SeededWeights", FailingWeights)
    with pytest.raises(CacheError, match=r"test_nfnet@32-fp32\.onnx: .*No space left on device -> .*--cache-dir"):
        built_model(SPEC, FP32, tmp_path)


def test_interrupted_write_with_external_data_leaves_nothing(tmp_path):
    """Neither of the two files exists until both are complete."""
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
def test_model_without_its_weights_is_built_again(tmp_path, monkeypatch, mapped):
    """They were removed, or truncated."""
    monkeypatch.setattr(store, "MAPPED_ABOVE", 0)
    path = built_model(SPEC, FP32, tmp_path, mapped=mapped)
    assert data_path(path).exists() == mapped
    weights = data_path(path) if mapped else path
    content = weights.read_bytes()
    for damage in (weights.unlink, lambda: weights.write_bytes(content[:-100])):
        damage()
        assert built_model(SPEC, FP32, tmp_path, mapped=mapped) == path
        assert weights.read_bytes() == content


def test_weights_are_stored_where_the_engine_wants_them(tmp_path, monkeypatch):
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
    """One builds it, the other one waits, and both use the one file."""
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


def test_process_killed_while_writing_leaves_a_usable_cache(tmp_path):
    """The next one is not blocked, does not use a truncated file, and removes what was left."""
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

"""Models are built once, whole, and by one process at a time."""

import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from fixtures.errors import CacheError, ModelError, UsageError
from fixtures.nfnet import store, writer
from fixtures.nfnet.store import built_model
from fixtures.nfnet.weights import SeededWeights
from fixtures.onnx_weights import data_path
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
    return [path for path in folder.rglob("*") if writer.UNFINISHED in str(path) or "tmp" in path.name]


def test_model_is_built_once(tmp_path):
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
        patch.setattr(store, "SOURCES", (Path(__file__),))
        paths.append(built_model(SPEC, FP32, tmp_path))
    monkeypatch.setattr(onnx, "__version__", "0.0.0")
    paths.append(built_model(SPEC, FP32, tmp_path))
    assert len({path.parent for path in paths}) == len(paths)
    assert models(tmp_path) == sorted(paths)


@pytest.mark.parametrize("spec", [replace(SPEC, variant=None), replace(SPEC, size=None)])
def test_specification_without_variant_or_size_is_a_usage_error(tmp_path, spec):
    with pytest.raises(UsageError, match="a built model needs a variant and an image size"):
        built_model(spec, FP32, tmp_path)


class FailingWeights(SeededWeights):
    """Raises ``error`` after ten tensors."""

    error: BaseException
    left = 10

    def __getitem__(self, name):
        """Return ten tensors, then fail."""
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().__getitem__(name)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), ModelError("overflow")], ids=repr)
def test_failed_computation_leaves_nothing_and_the_next_one_succeeds(tmp_path, monkeypatch, error):
    monkeypatch.setattr(FailingWeights, "error", error, raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(store, "SeededWeights", FailingWeights)
        with pytest.raises(type(error)):
            built_model(SPEC, FP32, tmp_path)
    assert not models(tmp_path)
    assert not leftovers(tmp_path)
    assert built_model(SPEC, FP32, tmp_path).exists()


@pytest.mark.parametrize("external_above", [0, 2**26], ids=["external", "inline"])
@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
        (OSError(28, "Disk full"), CacheError, r"test_nfnet@32-fp32\.onnx: .*Disk full -> .*--cache-dir"),
    ],
    ids=["interrupt", "disk"],
)
def test_failed_write_leaves_nothing_and_the_next_one_succeeds(
    tmp_path, monkeypatch, error, expected, text, external_above
):
    """Neither the model nor its data file exists until both are complete. The hint names the option."""

    def save_and_fail(*args, **kwargs):
        save(*args, **kwargs)
        raise error

    save = onnx.save
    monkeypatch.setattr(writer, "EXTERNAL_ABOVE", external_above)
    with monkeypatch.context() as patch:
        patch.setattr(onnx, "save", save_and_fail)
        with pytest.raises(expected, match=text):
            built_model(SPEC, FP32, tmp_path)
    assert not models(tmp_path)
    assert not leftovers(tmp_path)
    path = built_model(SPEC, FP32, tmp_path)
    assert models(tmp_path) == [path, data_path(path)][: 1 if external_above else 2]


@pytest.mark.parametrize("external_above", [0, 2**26], ids=["external", "inline"])
def test_model_without_its_weights_is_built_again(tmp_path, monkeypatch, external_above):
    monkeypatch.setattr(writer, "EXTERNAL_ABOVE", external_above)
    path = built_model(SPEC, FP32, tmp_path)
    weights = path if external_above else data_path(path)
    content = weights.read_bytes()
    for damage in (weights.unlink, lambda: weights.write_bytes(content[:-100])):
        damage()
        assert built_model(SPEC, FP32, tmp_path) == path
        assert weights.read_bytes() == content


CHILD = """
    import sys, time
    from pathlib import Path
    import onnx
    from fixtures.nfnet import store
    from fixtures.precisions import precision
    from fixtures.records import ModelSpec

    def save_slowly(*args, **kwargs):
        save(*args, **kwargs)
        print("wrote", flush=True)
        time.sleep(float(sys.argv[2]))

    save, onnx.save = onnx.save, save_slowly
    print("ready", flush=True)
    sys.stdin.readline()
    path = store.built_model(ModelSpec(variant="test_nfnet", size=(32, 32)), precision("fp32"), Path(sys.argv[1]))
    print(path, path.stat().st_ino, flush=True)
"""


def start(folder, pause):
    """Start a process that builds a model and pauses for so many seconds before it moves the file."""
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
    child.kill()
    child.communicate()
    assert leftovers(tmp_path)
    path = built_model(SPEC, FP32, tmp_path)
    onnx.checker.check_model(onnx.load(path))
    assert models(tmp_path) == [path]
    assert not leftovers(tmp_path)

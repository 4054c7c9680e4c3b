"""Copies of a model with more outputs: they run, leave the model alone, and are removed."""

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from fixtures.localize.blocks import element_types
from fixtures.localize.search import PREFIX, exposed
from fixtures.onnx_file import inspect, load_model
from fixtures.records import ModelSpec
from tests.meta.tiny_models import by_onnxruntime

ROOT = Path(__file__).parents[2]
SPEC = ModelSpec("test_nfnet", None, (64, 64))
TENSOR = "stages.0.0"


@pytest.fixture
def saved(context):
    """Save the model in a folder, its weights beside it."""

    def save(folder):
        folder.mkdir(exist_ok=True)
        model = onnx.load(context.model_store.onnx_file(SPEC).path)
        onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="weights.bin")
        return folder / "model.onnx"

    return save


def test_exposed_tensors_follow_the_models_own_outputs(context, tmp_path):
    """Names that no node computes are ignored; the copy is removed."""
    source = context.model_store.onnx_file(SPEC).path
    types = element_types(load_model(source))
    with exposed(source, [TENSOR, "logits", "unknown"], types, tmp_path) as path:
        assert [value.name for value in inspect(path).outputs] == ["logits", TENSOR]
    assert not path.exists()


def test_copy_of_a_model_with_external_weights_runs_and_leaves_them_alone(context, saved, tmp_path):
    source = saved(tmp_path / "models")
    weights = source.parent / "weights.bin"
    before, files = weights.stat(), sorted(source.parent.iterdir())
    with exposed(source, [TENSOR], {}, tmp_path / "localize") as path:
        assert by_onnxruntime(path, context.model_store.images(SPEC, 1))[TENSOR].shape[0] == 1
    after = weights.stat()
    assert (after.st_ctime_ns, after.st_nlink) == (before.st_ctime_ns, before.st_nlink)
    assert sorted(source.parent.iterdir()) == files


def test_old_copies_of_killed_processes_are_removed(saved, tmp_path):
    source, scratch = saved(tmp_path / "models"), tmp_path / "localize"
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom fixtures.localize.search import exposed\n"
        f"with exposed(Path(sys.argv[1]), ['{TENSOR}'], {{}}, Path(sys.argv[2])):\n    os.kill(os.getpid(), 9)\n"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, source, scratch], cwd=ROOT, check=False)
    (scratch / "other").touch()
    old, young = [path for path in scratch.iterdir() if path.name.startswith(PREFIX)]
    for path in (old, scratch / "other"):
        os.utime(path, (0, 0))
    with exposed(source, [TENSOR], {}, scratch):
        assert not old.exists()
    assert young.exists()
    assert (scratch / "other").exists()

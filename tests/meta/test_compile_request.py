"""What decides a kept program: everything that is asked for, the model with its weights, and the suite's own code."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import external_data_helper

from fixtures import engines
from fixtures.errors import CacheError, ModelError
from fixtures.programs import request as ordering
from fixtures.programs.programs import Programs
from fixtures.records import EngineOptions
from tests.meta.keeping import keeping, order


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """For the model."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def wanted(cache):
    """One program."""
    return order(keeping(), cache)


CHANGES = {
    "shape": {"shape": (1, 3, 64, 32)},
    "precision": {"precision": "fp16"},
    "options": {"options": EngineOptions(fast_math=True)},
    "calibration": {"calibration": (np.ones((1, 3, 32, 32), np.float32),)},
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_asked_decides(wanted, cache, name):
    """Each by its own fact; nothing else moves."""
    one, other = wanted.facts(), order(keeping(), cache, **CHANGES[name]).facts()
    assert [key for key in one if one[key] != other[key]] == [name]


@pytest.mark.parametrize(
    "other", [np.full((1, 3, 32, 32), 2, np.float32), np.ones((1, 3, 32, 32)), np.ones((2, 3, 32, 16), np.float32)]
)
def test_calibration_counts_by_content_type_and_shape(cache, other):
    """The same images are the same."""
    keys = [
        order(keeping(), cache, calibration=(images,)).facts()["calibration"]
        for images in (*CHANGES["calibration"]["calibration"], np.ones((1, 3, 32, 32), np.float32), other)
    ]
    assert keys[0] == keys[1] != keys[2]


def test_the_model_counts_with_the_files_beside_it(wanted, tmp_path):
    """A weight changes in the file, or in one beside it; where the file lies does not count."""
    moved = replace(wanted, model=Path(shutil.copy(wanted.model, tmp_path / "moved.onnx")))
    assert moved.facts() == wanted.facts()
    model = onnx.load(wanted.model)
    outside = tmp_path / "outside" / "model.onnx"
    outside.parent.mkdir()
    onnx.save(model, outside, save_as_external_data=True, location="weights.bin", size_threshold=0)
    beside = replace(wanted, model=outside)
    before = beside.facts()["model"]
    assert before.count(",") == 1
    weights = outside.with_name("weights.bin")
    weights.write_bytes(bytes([weights.read_bytes()[0] ^ 1]) + weights.read_bytes()[1:])
    assert beside.facts()["model"] != before
    external_data_helper.load_external_data_for_model(model, str(outside.parent))
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    onnx.save(model, moved.model)
    assert moved.facts()["model"] != wanted.facts()["model"]


def test_the_suites_own_code_counts(wanted, monkeypatch, tmp_path):
    """What it let pass once is not let pass for ever."""
    before = ordering._fingerprint()
    shutil.copytree(Path(engines.__file__).parent, tmp_path / "engines")
    monkeypatch.setattr(engines, "__file__", str(tmp_path / "engines" / "__init__.py"))
    assert ordering._fingerprint.__wrapped__() == before == wanted.facts()["suite"]
    (tmp_path / "engines" / "registry.py").write_text("changed")
    assert ordering._fingerprint.__wrapped__() != before


def test_a_model_that_cannot_be_read_is_the_models_error(wanted, tmp_path):
    """As if nothing was ever kept."""
    with pytest.raises(ModelError, match=r"gone\.onnx: no such model file"):
        Programs(tmp_path / "programs").program(replace(wanted, model=tmp_path / "gone.onnx"))


def test_a_weight_file_that_is_gone_is_told(wanted, tmp_path):
    """By its name."""
    outside = tmp_path / "model.onnx"
    onnx.save(onnx.load(wanted.model), outside, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(CacheError, match=r"weights\.bin: the model cannot be read: No such file"):
        replace(wanted, model=outside).facts()


def test_a_program_is_of_any_batch_where_the_engine_takes_any(cache):
    """One program, and its calibration counts image by image."""
    images = np.ones((4, 3, 32, 32), np.float32)
    one = order(keeping(), cache, calibration=(images[:2], images[2:]))
    other = order(keeping(), cache, calibration=(images,), shape=(4, 3, 32, 32))
    assert one.facts() == other.facts()

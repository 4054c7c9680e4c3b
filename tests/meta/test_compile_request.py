"""Everything that decides a program is part of its cache key."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from fixtures.errors import CacheError, ModelError
from fixtures.programs.program_cache import program_facts
from fixtures.records import EngineOptions
from tests.meta.caching_engine import CachingEngine, flip_bit, request_of, source_of

ENGINE = CachingEngine()
CHANGES = {
    "shape": {"shape": (1, 3, 64, 32)},
    "precision": {"precision": "fp16"},
    "options": {"options": EngineOptions(fast_math=True)},
    "calibration": {"calibration": (np.ones((1, 3, 32, 32), np.float32),)},
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_field_of_a_request_is_one_fact(models, name):
    facts, others = (program_facts(ENGINE, request_of(models, **changes)) for changes in ({}, CHANGES[name]))
    assert [key for key in facts if facts[key] != others[key]] == [name]


def test_model_counts_by_the_content_of_its_files(models, tmp_path):
    """Its place does not count; a changed weight does, also in a file beside the model."""
    request = request_of(models)
    moved = replace(request, model=Path(shutil.copy(request.model, tmp_path / "moved.onnx")))
    assert program_facts(ENGINE, moved) == program_facts(ENGINE, request)
    model = onnx.load(request.model)
    beside = replace(request, model=tmp_path / "beside.onnx")
    onnx.save(model, beside.model, save_as_external_data=True, location="weights.bin", size_threshold=0)
    before = program_facts(ENGINE, beside)["model"]
    assert before.count(",") == 1
    flip_bit(tmp_path / "weights.bin")
    assert program_facts(ENGINE, beside)["model"] != before
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(CacheError, match=r"weights\.bin: the model cannot be read: No such file"):
        program_facts(ENGINE, beside)


def test_missing_model_is_a_model_error(models, tmp_path):
    with pytest.raises(ModelError, match=r"gone\.onnx: no such model file"):
        source_of(ENGINE, replace(request_of(models), model=tmp_path / "gone.onnx"), tmp_path)

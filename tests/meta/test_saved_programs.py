"""Programs saved to a file: the same bits when loaded, and an error with the reason for a file that is not usable."""

import numpy as np
import pytest

from fixtures.engines.base import CompileRequest
from fixtures.errors import ModelError, ParseError, RunError
from fixtures.inputs import synthetic_images
from fixtures.nfnet import writer
from fixtures.nfnet.store import built_model
from fixtures.onnx_weights import data_path
from fixtures.precisions import precision
from fixtures.records import EngineOptions
from tests.meta.caching_engine import SHAPE, SPEC

pytestmark = pytest.mark.migraphx
OPTIONS = EngineOptions()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small network."""
    return built_model(SPEC, precision("fp32"), tmp_path_factory.mktemp("models"))


@pytest.fixture
def program(ref_engine, model):
    """The network, compiled."""
    return ref_engine.prepare(CompileRequest(model, SHAPE, "fp32"))


def load(engine, saved, model):
    """Load a program of the network."""
    return engine.load_program(saved, CompileRequest(model, SHAPE, "fp32"))


def test_loaded_program_gives_the_same_bits(ref_engine, tmp_path, monkeypatch):
    """With the same inputs and outputs, and again when the loaded one is saved."""
    monkeypatch.setattr(writer, "EXTERNAL_ABOVE", 0)
    model = built_model(SPEC, precision("fp32"), tmp_path)
    assert data_path(model).exists()
    program = ref_engine.prepare(CompileRequest(model, SHAPE, "fp32"))
    images = synthetic_images("saved", SHAPE)
    expected = program.run({"inputs": images})["logits"]
    for name in ("first", "second"):
        program.save(tmp_path / name)
        program = load(ref_engine, tmp_path / name, model)
        assert [tensor.name for tensor in (*program.inputs, *program.outputs)] == ["inputs", "logits"]
        assert np.array_equal(program.run({"inputs": images})["logits"], expected)
        assert program.facts["loaded_from"] == str(tmp_path / name)


def test_missing_folder_is_a_run_error_with_the_path_and_a_hint(program, tmp_path):
    path = tmp_path / "nowhere" / "program"
    with pytest.raises(RunError) as caught:
        program.save(path)
    assert caught.value.where == str(path)
    assert "folder" in caught.value.hint
    assert not path.parent.exists()


def test_closed_program_is_not_saved(program, tmp_path):
    program.close()
    with pytest.raises(RunError, match="closed"):
        program.save(tmp_path / "program")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"", lambda _: b"not a program", lambda data: data[: len(data) // 2], None],
    ids=["empty", "text", "truncated", "missing"],
)
def test_damaged_or_missing_file_is_an_error_that_names_it(ref_engine, program, model, tmp_path, damage):
    saved = tmp_path / "program"
    if damage:
        program.save(saved)
        saved.write_bytes(damage(saved.read_bytes()))
    with pytest.raises((ParseError, ModelError)) as caught:
        load(ref_engine, saved, model)
    assert caught.value.where == str(saved)


def test_program_of_another_version_or_model_is_refused(ref_engine, program, model, tmp_path):
    """By MIGraphX's own message on the version, and by the names of the tensors."""
    saved = tmp_path / "program"
    program.save(saved)
    data = saved.read_bytes()
    at = data.index(b"version") + len(b"version")
    saved.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(ParseError, match=r"(?i)version") as caught:
        load(ref_engine, saved, model)
    assert caught.value.hint
    renamed = tmp_path / "renamed.onnx"
    renamed.write_bytes(model.read_bytes().replace(b"inputs", b"images"))
    ref_engine._api.save(ref_engine._api.parse_onnx(str(renamed)), str(saved))
    with pytest.raises(ParseError, match="'images'"):
        load(ref_engine, saved, model)

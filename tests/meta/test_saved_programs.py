"""Programs on disk: the same bits when they come back, and a reason where they do not."""

import numpy as np
import pytest

from fixtures.engines.migraphx import engine as migraphx_engine
from fixtures.engines.onnxruntime import engine as onnxruntime_engine
from fixtures.errors import EngineUnavailable, ModelError, ParseError, RunError
from fixtures.inputs import synthetic_images
from fixtures.nfnet import writer
from fixtures.nfnet.store import built_model
from fixtures.onnx_weights import data_path
from fixtures.plugin.failures import unavailable
from fixtures.precisions import precision
from fixtures.records import EngineOptions, ModelSpec

real = pytest.mark.migraphx
SPEC = ModelSpec("test_nfnet", None, (32, 32), 3)
SHAPE = (1, 3, 32, 32)
HOST = EngineOptions()


@pytest.fixture(scope="module", params=["onnxruntime:cpu", pytest.param("migraphx:ref", marks=real)])
def engine(request, pytestconfig):
    """Each engine that can be here."""
    try:
        if request.param == "onnxruntime:cpu":
            return onnxruntime_engine.open_engine("cpu")
        return migraphx_engine.open_engine("ref", pytestconfig.option.migraphx)
    except EngineUnavailable as error:
        unavailable(pytestconfig, request.param, error)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small network."""
    return built_model(SPEC, precision("fp32"), tmp_path_factory.mktemp("models"))


def prepared(engine, model, options=HOST):
    """The network's program."""
    return engine.prepare(model, shape=SHAPE, precision="fp32", options=options)


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("level", ["disable", "basic", "extended", "all"])
def test_loaded_program_gives_the_same_bits(engine, model, tmp_path, monkeypatch, level, beside):
    """At every optimisation level, with the same inputs and outputs; saved again it is the same again."""
    if beside:
        monkeypatch.setattr(writer, "EXTERNAL_ABOVE", 0)
        model = built_model(SPEC, precision("fp32"), tmp_path)
        assert data_path(model).exists()
    options = EngineOptions(graph_optimization=level)
    program = prepared(engine, model, options)
    images = synthetic_images("saved", SHAPE)
    want = program.run({"inputs": images})["logits"]
    for name in ("first", "second"):
        program.save(tmp_path / name)
        program = engine.load_program(tmp_path / name, model, precision="fp32", options=options)
        assert [tensor.name for tensor in (*program.inputs, *program.outputs)] == ["inputs", "logits"]
        assert np.array_equal(program.run({"inputs": images})["logits"], want)
        assert program.facts["loaded_from"] == str(tmp_path / name)


def test_missing_folder_is_a_run_error(engine, model, tmp_path):
    """With the path and what to do."""
    place = tmp_path / "nowhere" / "program"
    with pytest.raises(RunError, match=r"nowhere/program: the program cannot be saved: .* -> choose a folder"):
        prepared(engine, model).save(place)


def test_closed_program_is_not_saved(engine, model, tmp_path):
    """There is nothing left to write."""
    program = prepared(engine, model)
    program.close()
    with pytest.raises(RunError, match="closed"):
        program.save(tmp_path / "program")


@pytest.mark.parametrize("damage", [lambda _: b"", lambda _: b"not a program", lambda data: data[: len(data) // 2]])
def test_damaged_file_is_an_error(engine, model, tmp_path, damage):
    """Empty, foreign or cut short: the reason names the file."""
    saved = tmp_path / "program"
    prepared(engine, model).save(saved)
    saved.write_bytes(damage(saved.read_bytes()))
    with pytest.raises((ParseError, ModelError), match="program: "):
        engine.load_program(saved, model, precision="fp32", options=HOST)


def test_file_that_is_not_there_is_an_error(engine, model, tmp_path):
    """Likewise."""
    with pytest.raises((ParseError, ModelError), match="absent"):
        engine.load_program(tmp_path / "absent", model, precision="fp32", options=HOST)


@real
def test_foreign_version_and_foreign_model_are_refused(model, tmp_path, pytestconfig):
    """MIGraphX's own words on the version; a program of another network by its tensors."""
    try:
        engine = migraphx_engine.open_engine("ref", pytestconfig.option.migraphx)
    except EngineUnavailable as error:
        unavailable(pytestconfig, "migraphx:ref", error)
    saved = tmp_path / "program"
    prepared(engine, model).save(saved)
    data = saved.read_bytes()
    at = data.index(b"version") + len(b"version")
    saved.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(ParseError, match=r"(?i)program: MIGraphX cannot read this program: .*version.* -> compile and"):
        engine.load_program(saved, model, precision="fp32", options=HOST)
    other = engine._api.parse_onnx_buffer(model.read_bytes().replace(b"inputs", b"images"))
    engine._api.save(other, str(saved))
    with pytest.raises(ParseError, match=r"program: MIGraphX read \['images'\] and 1 outputs"):
        engine.load_program(saved, model, precision="fp32", options=HOST)

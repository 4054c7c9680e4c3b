"""Precisions of MIGraphX's targets and GPUs: a missing one is not supported, an unknown one is not accepted."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtures.engines.migraphx import engine as migraphx_engine
from fixtures.engines.migraphx.architectures import computed_precisions
from fixtures.engines.migraphx.find import Found
from fixtures.errors import RequestNotHonouredError
from fixtures.precisions import BY_NAME
from fixtures.records import EngineOptions
from tests.meta.test_hardware import write_nodes
from tests.meta.tiny_models import saved

ALL = {"fp32", "fp16", "bf16", "int8", "fp8"}


def engine(target):
    """An engine without MIGraphX."""
    found = Found("c library", Path("libmigraphx_c.so.3"), "2.14.0", frozenset({target}))
    return migraphx_engine.MIGraphXEngine(f"migraphx:{target}", found, SimpleNamespace(), None)


@pytest.mark.parametrize(
    ("version", "lacking"),
    [
        *((version, set()) for version in (90402, 90500, 120000, 120001)),
        *((version, {"fp8"}) for version in (90008, 90010, 110000, 110501)),
        (100300, {"bf16", "fp8"}),
    ],
)
def test_gpu_has_the_precisions_of_its_architecture(tmp_path, version, lacking):
    """The first GPU decides."""
    write_nodes(tmp_path, {"gfx_target_version": version}, {"gfx_target_version": 90402})
    assert computed_precisions("gpu", tmp_path) == ALL - lacking


@pytest.mark.parametrize("nodes", [[], [{"gfx_target_version": 90006}]])
def test_precisions_of_an_unknown_gpu_are_not_known(tmp_path, nodes):
    """Nor without a GPU."""
    write_nodes(tmp_path, *nodes)
    assert computed_precisions("gpu", tmp_path) is None


def test_precision_that_a_target_lacks_is_not_supported():
    """The reason names the precision and what is computed in its place."""
    reasons = {name: engine("cpu").unsupported(name) for name in ALL}
    assert {name for name, reason in reasons.items() if reason} == {"fp16", "bf16", "fp8"}
    assert "computes bf16 in fp32" in reasons["bf16"]
    assert not any(map(engine("ref").unsupported, ALL))


def test_precision_that_nothing_proves_is_not_accepted(tmp_path, monkeypatch):
    """On a GPU that is not in the table; its fp32 is proved by the program."""
    monkeypatch.setattr(migraphx_engine, "computed_precisions", lambda _: None)
    gpu, model = engine("gpu"), saved(tmp_path / "relu.onnx", ("Relu", ("x",), ("y",), {}), shape=(1, 3, 2, 2))
    with pytest.raises(RequestNotHonouredError, match="precision not proved") as caught:
        gpu.prepare(model, shape=(1, 3, 2, 2), precision="fp16", options=EngineOptions())
    assert "architectures.py" in caught.value.hint
    assert not any(map(gpu.unsupported, ALL))


@pytest.mark.parametrize("target", ["ref", "cpu", "gpu"])
def test_calibrated_precisions_have_a_rule(target):
    """fp8 quantises what enters any operator on ref only."""
    rules = {name: engine(target).quantization_rule(name) for name in BY_NAME}
    found = {name: rule.inputs for name, rule in rules.items() if rule}
    assert found == {"int8": "products"} | {"ref": {"fp8": "all"}, "gpu": {"fp8": "products"}, "cpu": {}}[target]

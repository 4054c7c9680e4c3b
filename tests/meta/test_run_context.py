"""The context that all tests of a run share."""

import numpy as np
import pytest

from fixtures.engines.onnxruntime.engine import OnnxRuntimeEngine
from fixtures.errors import ModelError, ParseError
from fixtures.records import Case, ModelSpec
from fixtures.run.context import RunContext
from tests.meta.tiny_models import saved


def test_a_program_that_cannot_be_had_is_asked_for_once(tmp_path, monkeypatch):
    """Compiling may take minutes; each test of the case fails with the same words."""
    path = saved(tmp_path / "relu.onnx", ("Relu", ["x"], ["y"], {}), shape=["batch", 3, 8, 8])
    case = Case("onnxruntime:cpu", ModelSpec(path=path), "fp32", 1)
    asked = []

    def counted(*words, **_):
        asked.append(words)
        raise ParseError("no kernel")

    monkeypatch.setattr(OnnxRuntimeEngine, "prepare", counted)
    with RunContext.create(tmp_path, isolation=None) as context:
        for _ in range(3):
            with pytest.raises(ParseError, match="no kernel"):
                context.program_pool.program(case)
    assert len(asked) == 1


def test_images_that_no_memory_holds_are_refused(context):
    """At once, and not when the machine has none left."""
    spec = ModelSpec("test_nfnet", size=(32, 32))
    refused = r"100000000000 images need 1\.23e\+06 GB, this machine has \d\S* GB of memory -> use a smaller --batch"
    for ask in (context.model_store.images, context.model_store.input_shape):
        with pytest.raises(ModelError, match=refused):
            ask(spec, 100_000_000_000)


def test_images_are_the_same_from_wherever_they_are_asked(context):
    spec = ModelSpec("test_nfnet", size=(32, 32))
    whole = context.model_store.images(spec, 2, 6)
    np.testing.assert_array_equal(context.model_store.images(spec, 2, first=4), whole[4:])
    np.testing.assert_array_equal(context.model_store.images(spec, 2, 3, first=2), whole[2:5])

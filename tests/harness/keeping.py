"""ONNX Runtime as an engine whose programs are worth keeping: the cache of programs without MIGraphX."""

import onnxruntime

from fixtures.engines.onnxruntime_engine import OnnxRuntimeEngine
from fixtures.nfnet.store import built_model
from fixtures.precisions import precision
from fixtures.programs.order import Order
from fixtures.records import EngineOptions, ModelSpec

SPEC = ModelSpec("test_nfnet", None, (32, 32), 3)


class Keeping(OnnxRuntimeEngine):
    """Says what it is; all else is the real engine's."""

    def identity(self):
        """What a session depends on here."""
        return {"engine": self.name, "version": self.version}


def keeping(kind=Keeping):
    """The engine on the processor."""
    return kind(onnxruntime, "cpu", "CPUExecutionProvider")


def order(engine, cache, **changes):
    """A small network for one image at fp32."""
    wanted = {"shape": (1, 3, 32, 32), "precision": "fp32", "options": EngineOptions(), "calibration": ()}
    return Order(engine, built_model(SPEC, precision("fp32"), cache), **{**wanted, **changes})

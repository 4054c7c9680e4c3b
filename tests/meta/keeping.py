"""ONNX Runtime as an engine whose small programs are worth keeping, and what is done to kept ones."""

import onnxruntime

from fixtures.engines.onnxruntime.engine import OnnxRuntimeEngine
from fixtures.inputs import synthetic_images
from fixtures.nfnet.store import built_model
from fixtures.precisions import precision
from fixtures.programs.programs import Programs
from fixtures.programs.request import CompileRequest
from fixtures.records import EngineOptions, ModelSpec

SPEC = ModelSpec("test_nfnet", None, (32, 32), 3)


class Keeping(OnnxRuntimeEngine):
    """Says what it is; all else is the real engine's."""

    def should_cache(self, *_):
        """Even small ones."""
        return True

    def identity(self, *_):
        """What a session depends on here."""
        return {"engine": self.name, "version": self.version}


def keeping(kind=Keeping):
    """The engine on the processor."""
    return kind(onnxruntime, "cpu", "CPUExecutionProvider")


def order(engine, cache, **changes):
    """A small network for one image at fp32."""
    wanted = {"shape": (1, 3, 32, 32), "precision": "fp32", "options": EngineOptions(), "calibration": ()}
    return CompileRequest(engine, built_model(SPEC, precision("fp32"), cache), **{**wanted, **changes})


def had(wanted, folder, **settings):
    """How the program was had."""
    program, how = Programs(folder, **settings).program(wanted)
    program.close()
    return how


def run(program):
    """What it computes."""
    return program.run({"inputs": synthetic_images("programs", (1, 3, 32, 32))})["logits"]


def size_of(path):
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def flipped(path):
    """Turn one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path, data):
    """Write the first half of ``data``."""
    path.write_bytes(data[: len(data) // 2])

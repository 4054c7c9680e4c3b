"""An engine whose programs are cached on machines without MIGraphX, and helpers for its programs."""

from dataclasses import replace

import onnxruntime

from fixtures.engines.base import CompileRequest
from fixtures.engines.onnxruntime.engine import OnnxRuntimeEngine
from fixtures.inputs import synthetic_images
from fixtures.nfnet.store import built_model
from fixtures.precisions import precision
from fixtures.programs.program_cache import ProgramCache
from fixtures.records import ModelSpec

SPEC = ModelSpec("digits_nfnet", None, (32, 32), 3)
SHAPE = (1, 3, 32, 32)
CACHING_PLUGIN = """
from dataclasses import replace
from fixtures.engines import registry
from fixtures.engines.onnxruntime import engine
from tests.meta.caching_engine import CachingEngine
engine.OnnxRuntimeEngine = CachingEngine
registry.OWN = (replace(registry.ONNXRUNTIME, caches_programs=True), registry.MIGRAPHX)
"""  # makes programs of ONNX Runtime cacheable


class CachingEngine(OnnxRuntimeEngine):
    """ONNX Runtime that saves a program as the ONNX file it was made from."""

    def __init__(self, *_):
        super().__init__(onnxruntime, "cpu", "CPUExecutionProvider")

    def prepare(self, request):
        """Compile a program with a ``save`` of its own."""
        program = super().prepare(request)
        program.save = lambda path: path.write_bytes(request.model.read_bytes())
        return program

    def load_program(self, saved, request):
        """Read the file that ``save`` wrote."""
        program = super().prepare(replace(request, model=saved))
        program.costs = replace(program.costs, compile_seconds=None, load_seconds=program.costs.compile_seconds)
        program.facts["loaded_from"] = str(saved)
        program.save = lambda path: path.write_bytes(saved.read_bytes())
        return program


def request_of(cache, **changes):
    """A request for a small network at batch 1 in fp32."""
    return replace(CompileRequest(built_model(SPEC, precision("fp32"), cache), SHAPE, "fp32"), **changes)


def source_of(engine, request, cache, **settings):
    """Where the program of a request comes from."""
    program, source = ProgramCache(cache, **settings).load_or_compile(engine, request)
    program.close()
    return source


def logits(program):
    """The program's logits for one image."""
    return program.run({"inputs": synthetic_images("programs", SHAPE)})["logits"]


def flip_bit(path):
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

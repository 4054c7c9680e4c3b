"""``ort_comparison.py`` with a patch, and patches that suit it and plugins of pytest."""

import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
sys.path.insert(0, {root!r})
{patch}
import ort_comparison
sys.exit(ort_comparison.main(sys.argv[1:]))
"""
FAULT = """
import numpy as np
from fixtures.engines.onnxruntime.engine import OnnxRuntimeProgram
real = OnnxRuntimeProgram.run
def run(self, feeds):
    results = real(self, feeds)
    if self.facts["graph_optimization"] != "disable":
{fault}
    return results
OnnxRuntimeProgram.run = run
"""
PRINT_THREADS = """
from fixtures.engines.onnxruntime.engine import OnnxRuntimeEngine
real = OnnxRuntimeEngine._session
def session(self, request, source):
    print("session", request.options.graph_optimization, request.options.threads)
    return real(self, request, source)
OnnxRuntimeEngine._session = session
"""
OTHER_SCALE = """
from dataclasses import replace
from fixtures.engines.onnxruntime.engine import OnnxRuntimeEngine
real = OnnxRuntimeEngine.prepare
def prepare(self, request):
    program = real(self, request)
    if program.quantization:
        first, *others = program.quantization
        program.quantization = (replace(first, scales=tuple(1.01 * scale for scale in first.scales)), *others)
    return program
OnnxRuntimeEngine.prepare = prepare
"""
TOO_WIDE = """
from fixtures.verdict import tolerances
tolerances.LARGEST_TOLERANCE = 1e-9
"""


def fault(statement):
    """Return a patch of the optimised ONNX Runtime; ``statement`` changes ``results``."""
    return FAULT.format(fault=textwrap.indent(statement, 8 * " "))


def patched_comparison(patch):
    """Return the script with a patch in front."""
    return SCRIPT.format(root=str(ROOT), patch=patch)

"""The comparison from a shell with an optimised ONNX Runtime that computes something else."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
OFF = """
import sys
sys.path.insert(0, {root!r})
from fixtures.engines.onnxruntime.engine import OnnxRuntimeProgram
real = OnnxRuntimeProgram.run
def run(self, feeds):
    results = real(self, feeds)
    if self.facts["graph_optimization"] != "disable":
        {fault}
    return results
OnnxRuntimeProgram.run = run
import ort_comparison
sys.exit(ort_comparison.main(sys.argv[1:]))
"""


def off(fault):
    """The program's text; ``fault`` is a statement that changes ``results``."""
    return OFF.format(root=str(ROOT), fault=fault)

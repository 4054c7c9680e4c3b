"""``ort_comparison.py`` with a fault planted in the optimised ONNX Runtime."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
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


def faulty_comparison(fault):
    """Return the script; ``fault`` is a statement that changes ``results``."""
    return SCRIPT.format(root=str(ROOT), fault=fault)

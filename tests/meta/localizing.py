"""Localise in ONNX files that play the engine: ONNX Runtime runs them."""

import numpy as np
import onnx.parser
from onnx import numpy_helper

from fixtures.localize.search import Localizer
from fixtures.reference.arithmetic import arithmetic
from fixtures.reference.evaluator import GraphEvaluator
from tests.meta.tiny_models import by_onnxruntime


def localizer(path, images, scratch, *, engine=by_onnxruntime, correct=None, precision="fp32", **options):
    """Make a localizer of what ``engine`` computes from ``path``; ``correct`` is the file without fault."""
    return Localizer(engine, path, GraphEvaluator(correct or path), images, arithmetic(precision), scratch, **options)


def saved(path, nodes, *, weights, integers=None, x="n, 3", y=None, more=""):
    """Save a model of ``nodes`` with input ``x`` and output ``y`` of these shapes, all as text; its weights are ones.

    ``more`` declares further outputs.
    """
    ends = f"(float[{x}] x) => (float[{y or x}] y{more})"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> small {ends} {{ {nodes} }}'
    )
    constants = {name: np.ones(dims, np.float32) for name, dims in weights.items()}
    constants |= {name: np.array(value, np.int64) for name, value in (integers or {}).items()}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    onnx.save(model, path)
    return path

"""Localise in ONNX files that play the engine: ONNX Runtime runs them."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fixtures.localize.search import Localizer
from fixtures.reference.arithmetic import arithmetic
from fixtures.reference.evaluator import GraphEvaluator
from tests.meta.tiny_models import by_onnxruntime


def localizer(path, images, scratch, *, engine=by_onnxruntime, correct=None, precision="fp32", **options):
    """Make a localizer of what ``engine`` computes from ``path``; ``correct`` is the file without fault."""
    return Localizer(engine, path, GraphEvaluator(correct or path), images, arithmetic(precision), scratch, **options)


def saved(path, nodes, shapes, weights, integers=None, opsets=(("", 17),)):
    """Save a model with input ``x`` and output ``y`` of these shapes; its weights are ones."""
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in zip("xy", shapes, strict=True)
    ]
    initializers = [numpy_helper.from_array(np.ones(dims, np.float32), name) for name, dims in weights.items()]
    initializers += [numpy_helper.from_array(np.array(value, np.int64), key) for key, value in (integers or {}).items()]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], initializers)
    imports = [helper.make_opsetid(*opset) for opset in opsets]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path

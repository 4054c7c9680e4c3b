"""onnx's ReferenceEvaluator, in float64 throughout: the second implementation of the operators."""

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator, op_run
from scipy import special

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


class Erf(op_run.OpRun):
    """Replace onnx's own, which computes in float32."""

    def _run(self, x):
        return (special.erf(x),)


class Gelu(op_run.OpRun):
    """Replace onnx's own, for the same reason."""

    def _run(self, x, approximate="none"):
        if approximate == "tanh":
            return (0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),)
        return (0.5 * x * (1 + special.erf(x / np.sqrt(2))),)


def onnx_evaluator(model):
    """Return onnx's evaluator of a model; the model's weights are dropped, as the evaluator has copies."""
    made = ReferenceEvaluator(model, new_ops=[Erf, Gelu])
    model.graph.ClearField("initializer")
    return made


def float64_model(path):
    """Return the model with all floating-point tensors in float64."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.data_type in FLOATS:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if value.type.tensor_type.elem_type in FLOATS:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    return model

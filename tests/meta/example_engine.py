"""A complete engine in one file: onnx's reference evaluator. See fixtures/engines/README.md."""

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from fixtures.engines.base import as_fed, first_run_timed
from fixtures.errors import ParseError, RunError
from fixtures.onnx_file import inspect
from fixtures.records import Costs


class ExampleEngine:
    """Evaluates ONNX graphs with numpy."""

    def __init__(self, name, target):
        self.name, self.version, self.target = name, onnx.__version__, target

    def identity(self, options):
        """Return what decides a program besides the request."""
        del options
        return {"engine": self.name, "version": self.version}

    def prepare(self, request):
        """Compile a model."""
        return ExampleProgram(request.model)


class ExampleProgram:
    """A graph, ready to be evaluated."""

    def __init__(self, model):
        file = inspect(model)
        try:
            self._evaluator = ReferenceEvaluator(onnx.load(model))
        except Exception as error:
            raise ParseError(str(error), where=model) from error
        self.inputs, self.outputs, self.quantization = (file.input,), file.outputs, ()
        self.facts, self.costs = {"evaluator": "onnx.reference"}, Costs()

    @first_run_timed
    def run(self, feeds):
        """Compute all outputs."""
        if self._evaluator is None:
            raise RunError("the program is closed", where="example")
        results = self._evaluator.run(None, {row.name: as_fed(feeds[row.name], row.dtype) for row in self.inputs})
        return {row.name: np.array(result) for row, result in zip(self.outputs, results, strict=True)}

    def close(self):
        """Free the graph."""
        self._evaluator = None

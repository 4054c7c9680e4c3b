"""A complete engine in one file: onnx's reference evaluator. See fixtures/engines/README.md."""

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from fixtures.engines.base import as_fed, first_run_timed
from fixtures.errors import CompileError, ParseError, RunError
from fixtures.onnx_file import inspect
from fixtures.precisions import Rounding
from fixtures.records import Costs, EngineStatus

NAME = "example:cpu"


def status(target, location):
    """Describe the engine without loading it."""
    del location
    return EngineStatus(f"example:{target}", onnx.__version__, "onnx.reference")


def open_engine(target, location, cache):
    """Load the engine. Raises EngineUnavailable if that fails."""
    del target, location, cache
    return ExampleEngine()


class ExampleEngine:
    """Evaluates ONNX graphs with numpy."""

    name, version = NAME, onnx.__version__
    rounding = Rounding.NEAREST
    deterministic = True

    def unsupported(self, precision):
        """Return why the engine cannot compute in a precision."""
        return None if precision in {"fp32", "fp16"} else f"{NAME} does not quantise to {precision}"

    def quantization_rule(self, precision):
        """Return how the engine quantises."""
        del precision

    def wants_file_precision(self, precision):
        """Return the precision of the file that ``prepare`` needs."""
        return precision

    def identity(self, options):
        """Return what decides a program besides the arguments of ``prepare``."""
        del options
        return {"engine": NAME, "version": self.version}

    def prepare(self, model, *, shape, precision, options, calibration=()):
        """Compile a model."""
        del shape, options, calibration
        if reason := self.unsupported(precision):
            raise CompileError(reason, where=model)
        return ExampleProgram(model)


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
            raise RunError("the program is closed", where=NAME)
        results = self._evaluator.run(None, {row.name: as_fed(feeds[row.name], row.dtype) for row in self.inputs})
        return {row.name: np.array(result) for row, result in zip(self.outputs, results, strict=True)}

    def close(self):
        """Free the graph."""
        self._evaluator = None

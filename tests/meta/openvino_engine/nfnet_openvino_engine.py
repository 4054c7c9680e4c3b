"""OpenVINO as an engine of the suite."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino

from fixtures.cache import source_sha256
from fixtures.engines.base import as_fed, first_run_timed, timed
from fixtures.errors import CompileError, EngineUnavailable, ParseError, RequestNotHonouredError, RunError
from fixtures.onnx_file import inspect, load_model
from fixtures.onnx_quantization import quantized_tensors
from fixtures.quantization.derive import quantized_model
from fixtures.records import Costs, TensorInfo

PRODUCTS = ("Convolution", "FullyConnected", "MatMul")  # layers of a compiled program
IN_FP32 = "this CPU has no unit for {name}, so OpenVINO computes in fp32 instead"


class OpenVinoEngine:
    """One device of OpenVINO."""

    def __init__(self, name, target):
        try:
            self._core = openvino.Core()
            capabilities = self._core.get_property(target.device, "OPTIMIZATION_CAPABILITIES")
        except Exception as error:
            raise EngineUnavailable(f"OpenVINO finds no such device: {error}", where=name) from error
        self.name, self.version = name, openvino.__version__
        lacking = {name: IN_FP32.format(name=name) for name in target.precisions if name.upper() not in capabilities}
        self.target = replace(target, not_supported=lacking)

    def identity(self, options):
        """Return what decides a program besides the request."""
        device = self._core.get_property(self.target.device, "FULL_DEVICE_NAME")
        own = {"engine": self.name, "version": self.version, "code": source_sha256(Path(__file__))}
        return {**own, "device": device, "threads": str(options.threads)}

    def prepare(self, request):
        """Read, quantise and compile a model. Raises the error of the stage."""
        model, precision = request.model, request.precision
        if reason := self.target.unsupported(precision):
            raise CompileError(reason, where=model)
        file, seconds, source, quantization = inspect(model), {}, str(model), ()
        if rule := self.target.rule(precision):
            with timed(seconds, "quantize"):
                derived = quantized_model(file, np.unique(np.concatenate(request.calibration), axis=0), rule)
            source, quantization = derived.SerializeToString(), quantized_tensors(derived)
        with timed(seconds, "parse"):
            load_model(model)  # a truncated file is a ModelError
            parsed = self._stage(ParseError, model, lambda: self._core.read_model(source))
        parsed.reshape({file.input.name: list(request.shape)})
        spelling = self.target.precisions[precision].spelling
        hint = "f32" if rule else spelling
        with timed(seconds, "compile"):
            compiled = self._stage(
                CompileError,
                model,
                lambda: self._core.compile_model(parsed, self.target.device, _properties(hint, request.options)),
            )
        types = product_types(compiled)
        if types - {spelling}:
            what = f"requested {spelling}, but products are computed in {', '.join(sorted(types))}"
            raise RequestNotHonouredError(what, where=model)
        return OpenVinoProgram(self.name, compiled, file, Costs(**seconds), hint, quantization)

    def load_program(self, saved, request):
        """Load what ``save`` wrote: a program imported without its hint computes in another precision."""
        hint, _, program = saved.read_bytes().partition(b"\n")
        properties, seconds = _properties(hint.decode(errors="replace"), request.options), {}
        with timed(seconds, "load"):
            compiled = self._stage(
                ParseError, saved, lambda: self._core.import_model(program, self.target.device, properties)
            )
        return OpenVinoProgram(self.name, compiled, inspect(request.model), Costs(**seconds), hint.decode())

    @staticmethod
    def _stage(error, where, action):
        try:
            return action()
        except Exception as caught:  # OpenVINO raises RuntimeError and others
            raise error(str(caught), where=where) from caught


def _properties(hint, options):
    """Return the properties of a program; 0 threads: OpenVINO decides."""
    return {
        "INFERENCE_PRECISION_HINT": hint,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": options.threads,
    }


def product_types(compiled):
    """Return the types in which a compiled program computes convolutions and matrix products."""
    facts = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    return {row["runtimePrecision"].value for row in facts if row["layerType"].value in PRODUCTS}


class OpenVinoProgram:
    """A compiled model."""

    def __init__(self, engine, compiled, file, costs, hint, quantization=()):
        self._engine, self._compiled, self._hint = engine, compiled, hint
        self.costs, self.quantization = costs, quantization
        self._request = compiled.create_infer_request()
        self.inputs = (_tensor_info(file.input.name, compiled.inputs[0]),)
        self.outputs = tuple(
            _tensor_info(row.name, output) for row, output in zip(file.outputs, compiled.outputs, strict=True)
        )
        self.facts = {
            "threads": str(compiled.get_property("INFERENCE_NUM_THREADS")),
            "product_types": ", ".join(sorted(product_types(compiled))),
        }

    @first_run_timed
    def run(self, feeds):
        """Compute all outputs. Raises RunError."""
        if self._request is None:
            raise RunError("the program is closed", where=self._engine)
        try:
            self._request.infer([as_fed(feeds[row.name], row.dtype) for row in self.inputs])
            return {row.name: self._request.get_output_tensor(at).data.copy() for at, row in enumerate(self.outputs)}
        except Exception as error:  # OpenVINO raises RuntimeError and others
            raise RunError(str(error), where=self._engine) from error

    def save(self, path):
        """Write the compiled program."""
        path.write_bytes(self._hint.encode() + b"\n" + self._compiled.export_model().getvalue())

    def close(self):
        """Free the program."""
        self._compiled = self._request = None


def _tensor_info(name, tensor):
    return TensorInfo(name, tensor.element_type.to_dtype().name, tuple(tensor.shape))

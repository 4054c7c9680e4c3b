"""OpenVINO as an engine: its descriptor, found by the entry point ``nfnet_engines``. Nothing here loads OpenVINO."""

from importlib import metadata

from fixtures.engines.descriptor import REAL, TRAINED, Descriptor, EnginePrecision, Target, Workload
from fixtures.precisions import NEAREST, QUANTIZED_TYPES, QuantizationRule
from fixtures.records import EngineStatus

INT8 = QuantizationRule(QUANTIZED_TYPES["int8"], per_channel=True)
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
CPU = Target(
    "cpu",
    {
        "fp32": EnginePrecision("f32"),
        "fp16": EnginePrecision("f16"),
        "bf16": EnginePrecision("bf16"),
        "int8": EnginePrecision("i8", rule=INT8),
    },
    rounding=NEAREST,
    workload=Workload((REAL, TRAINED), (1, 4), PRECISIONS),
    default=(Workload((TRAINED,), (2,), PRECISIONS),),
)


def status(target, location):
    """Return the installed version."""
    del location
    found = [one.version for one in metadata.distributions(name="openvino")]
    if not found:
        return EngineStatus(f"openvino:{target}", missing="OpenVINO is not installed", hint="pip install openvino")
    return EngineStatus(f"openvino:{target}", found[0], detail="openvino")


def open_engine(target, location, cache):
    """Load OpenVINO."""
    del location, cache
    from nfnet_openvino_engine import OpenVinoEngine

    return OpenVinoEngine(f"openvino:{target}", CPU)


def pytest_nfnet_engines():
    """Return the engine; the suite calls this."""
    return [Descriptor("openvino", (CPU,), status, open_engine, options=("threads",), caches_programs=True)]

"""Compare operators of onnx's reference implementation with ONNX Runtime: see README.md."""

import numpy as np
import onnx.parser
import onnxruntime
from onnx.reference import ReferenceEvaluator

STATISTICS = "<float[2] s = {1, 1}, float[2] b = {0, 0}, float[2] m = {1, 2}, float[2] v = {4, 9}>"
GROUPED = "<float[2, 2, 1, 1] w = {1, 2, 3, 4}>"
BACKWARDS = "<int64[1] start = {-9}, int64[1] axis = {0}, int64[1] step = {-1}>"
CASES = (  # where they differ, opset, shape of x, constants, node
    ("BatchNormalization at opset 9", 9, "2, 2, 3, 3", STATISTICS, "BatchNormalization(x, s, b, m, v)"),
    ("ConvTranspose with groups", 17, "1, 2, 3, 3", GROUPED, "ConvTranspose<group = 2>(x, w)"),
    ("GlobalMaxPool of one dimension", 17, "2, 3, 4", "", "GlobalMaxPool(x)"),
    ("LRN", 17, "2, 5, 3, 3", "", "LRN<size = 3, alpha = 1.0>(x)"),
    ("LpNormalization at p = 1", 17, "2, 3", "", "LpNormalization<p = 1>(x)"),
    ("Pad with negative widths", 13, "4, 4", "<int64[4] pads = {-1, 0, 0, 1}>", "Pad(x, pads)"),
    ("Slice backwards from in front of the image", 13, "2", BACKWARDS, "Slice(x, start, start, axis, step)"),
)


def compared(opset, shape, constants, node):
    """Return what differs between the two on random numbers, or nothing."""
    graph = f"one (float[{shape}] x) => (float y) {constants} {{ y = {node} }}"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {graph}')
    x = np.random.default_rng(0).standard_normal([int(size) for size in shape.split(",")]).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    try:
        (actual,) = ReferenceEvaluator(model).run(None, {"x": x})
    except ValueError as error:
        return f"onnx fails: {error}"
    if actual.shape != expected.shape:
        return f"onnx has the shape {actual.shape}, ONNX Runtime {expected.shape}"
    return f"largest difference {np.abs(actual - expected).max():.1g}"


if __name__ == "__main__":
    onnxruntime.set_default_logger_severity(3)  # the shape of y is not declared
    print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}")
    for name, *case in CASES:
        print(f"{name}: {compared(*case)}")

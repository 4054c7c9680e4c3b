"""Write the models of README.md into a folder: ``python tests/studies/found/models.py FOLDER``."""

import argparse
from pathlib import Path

import numpy as np
import onnx.parser

FORM = """<ir_version: 8, opset_import: ["" : 17]>
    {name} (float[n, 3, 8, 8] images) => (float[n, 10] logits) {{
        y = Conv(images, kernel)
        {nodes}
        means = GlobalAveragePool(x)  flat = Flatten(means)  scores = MatMul(flat, head)
        {last}
    }}"""
NORMALIZED = "x, m, v = BatchNormalization <training_mode = 1>"
BEYOND = "kernel_shape = [2, 2], strides = [3, 3], pads = [0, 0, 1, 1], ceil_mode = 1"  # the last window is all padding
MODELS = {  # nodes from y to x; for two models, the node from scores to logits
    "relu_nan": "x = Relu(y)",
    "masked": "x = Identity(y)",
    "constants": "x = Identity(y)",
    "grouped": "a = Conv <group = 2> (y, v)  b = Conv <group = 2> (y, w)  x = Add(a, b)",
    "statistics": f"{NORMALIZED} (y, gain, bias, mean, variance)",
    "shared_statistics": f"{NORMALIZED} (y, gain, bias, bias, gain)",
    "max_pool_of_padding": f"x = MaxPool <{BEYOND}> (y)",
    "average_pool_of_padding": f"x = AveragePool <{BEYOND}> (y)",
    "lrn": "x = LRN <size = 3, alpha = 1.0> (y)",
    "slice_without_axes": "x = Slice(y, starts, ends)",
    "scatter_at_minus_one": "x = ScatterND(y, index, five)",
    "gate": """p = GlobalAveragePool(y)  f = Flatten(p)  g = Gemm <transB = 1> (square, f, column)
        t = Transpose <perm = [1, 0]> (g)  s = Sigmoid(t)  r = Reshape(s, shape)  x = Mul(y, r)""",
}
LAST = {"masked": "logits = Where(mask, infinity, scores)", "constants": "logits = Where(all, constant, scores)"}
WEIGHTS = {"kernel": (8, 3, 3, 3), "head": (8, 10), "v": (8, 4, 3, 3), "w": (8, 4, 3, 3)}
WEIGHTS |= {"square": (8, 8), "column": (8, 1)}
CONSTANTS = {
    "gain": np.ones(8, "f"),
    "bias": np.zeros(8, "f"),
    "mean": np.zeros(8, "f"),
    "variance": np.ones(8, "f"),
    "mask": np.arange(10) < 3,
    "infinity": np.array(-np.inf, "f"),
    "all": np.ones(10, bool),
    "constant": np.full(10, 1 + 0.999 * 2**-10, "f"),  # between 1 and the next number of fp16
    "starts": np.array([0, 0]),
    "ends": np.array([9999, 8]),
    "index": np.array([[0, 0, 0, -1]]),
    "five": np.array([5], "f"),
    "shape": np.array([0, -1, 1, 1]),
}


def model(name, **constants):
    """Return a model of the table, with other ``constants`` if any."""
    random = np.random.default_rng(0)
    known = {key: (0.2 * random.standard_normal(shape)).astype("f") for key, shape in WEIGHTS.items()}
    known |= CONSTANTS | constants
    made = onnx.parser.parse_model(
        FORM.format(name=name, nodes=MODELS[name], last=LAST.get(name, "logits = Identity(scores)"))
    )
    used = {key for node in made.graph.node for key in node.input}
    made.graph.initializer.extend(onnx.numpy_helper.from_array(known[key], key) for key in known if key in used)
    onnx.checker.check_model(made)
    return made


def write(folder):
    """Write all models into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in MODELS:
        onnx.save(model(name), folder / f"{name}.onnx")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)

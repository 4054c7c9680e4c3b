"""How data flows in a graph, and the segments that it is cut into."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fixtures.locality.segments import read_flow, segments


def saved(path, nodes, shapes, weights):
    """A model with the input ``x`` and the output ``y`` of these shapes."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in zip("xy", shapes, strict=True)]  # fmt: skip
    initializers = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_a_tail_without_weights_belongs_to_the_block_before(tmp_path, blocks):
    """Every node is in one segment, whatever follows the last weights."""
    names = [f"conv{index}" for index in range(blocks)]
    nodes = [helper.make_node("Conv", [before, "w"], [name], name=name)
             for before, name in zip(["x", *names], names, strict=False)]  # fmt: skip
    nodes += [helper.make_node("Relu", [names[-1]], ["relu"]), helper.make_node("Softmax", ["relu"], ["y"], axis=1)]
    shape = [1, 2, 4, 4]
    flow = read_flow(saved(tmp_path / "tail.onnx", nodes, (shape, shape), {"w": (2, 2, 1, 1)}))
    parts = segments(flow)
    assert [part.output for part in parts] == [*names[:-1], "y"]
    assert tuple(step for part in parts for step in part.steps) == flow.steps


def turned(path, batch, columns=3):
    """A dense layer whose product, bias and activation have the images in columns."""
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"], name="relu"),
        helper.make_node("Gemm", ["w", "positive", "b"], ["columns"], name="dense", transB=1),
        helper.make_node("Tanh", ["columns"], ["bent"], name="tanh"),
        helper.make_node("Transpose", ["bent"], ["rows"], name="back", perm=[1, 0]),
        helper.make_node("Add", ["rows", "x"], ["y"], name="sum"),
    ]
    return saved(path, nodes, ([batch, columns], [batch, columns]), {"w": (columns, columns), "b": (columns, 1)})


@pytest.mark.parametrize("batch", ["batch", 5])
def test_tensors_without_an_image_a_row_are_not_looked_at(tmp_path, batch):
    """What makes them and what turns them back is one step, by the name of what does the work."""
    steps = read_flow(turned(tmp_path / "turned.onnx", batch)).steps
    assert [(step.name, step.kind, step.inputs, step.outputs) for step in steps] == [
        ("relu", "Relu", ("x",), ("positive",)),
        ("dense", "Gemm", ("positive",), ("rows",)),
        ("sum", "Add", ("rows", "x"), ("y",)),
    ]


def test_such_a_step_has_the_name_of_its_weights(tmp_path):
    """Images that are turned first, as exports of transformers do it."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], name="there", perm=[1, 0]),
        helper.make_node("MatMul", ["w", "turned"], ["columns"], name="dense"),
        helper.make_node("Transpose", ["columns"], ["y"], name="back", perm=[1, 0]),
    ]
    (step,) = read_flow(saved(tmp_path / "turned.onnx", nodes, ([None, 3], [None, 3]), {"w": (3, 3)})).steps
    assert (step.name, step.kind, step.inputs) == ("dense", "MatMul", ("x",))


def test_where_nobody_can_tell_a_row_is_taken_for_an_image(tmp_path):
    """As many images as channels."""
    assert len(read_flow(turned(tmp_path / "square.onnx", 3)).steps) == 5


def test_an_output_of_the_model_is_looked_at_however_it_lies(tmp_path):
    """It is what users see."""
    nodes = [helper.make_node("Gemm", ["w", "x"], ["y"], name="dense", transB=1)]
    (step,) = read_flow(saved(tmp_path / "output.onnx", nodes, (["batch", 3], [2, "batch"]), {"w": (2, 3)})).steps
    assert step.outputs == ("y",)

"""How data flows in a graph, and the segments that it is cut into."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fixtures.localize.search import explain
from fixtures.localize.segments import read_flow, segments
from fixtures.reference.arithmetic import arithmetic
from fixtures.reference.evaluator import GraphEvaluator


def saved(path, nodes, shapes, weights, integers=None):
    """A model with the input ``x`` and the output ``y`` of these shapes."""
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in zip("xy", shapes, strict=True)
    ]
    initializers = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()]
    initializers += [numpy_helper.from_array(np.array(value, np.int64), key) for key, value in (integers or {}).items()]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_a_tail_without_weights_belongs_to_the_block_before(tmp_path, blocks):
    """Every node is in one segment, whatever follows the last weights."""
    names = [f"conv{index}" for index in range(blocks)]
    nodes = [
        helper.make_node("Conv", [before, "w"], [name], name=name)
        for before, name in zip(["x", *names], names, strict=False)
    ]
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


def told(path, images=0):
    """Steps of a model: name, operators, inputs, outputs."""
    return [(step.name, "+".join(step.kinds), step.inputs, step.outputs) for step in read_flow(path, images).steps]


@pytest.mark.parametrize("batch", ["batch", 5])
def test_tensors_without_an_image_a_row_are_not_looked_at(tmp_path, batch):
    """What makes them and what turns them back is one step, by the name of what has weights."""
    assert told(turned(tmp_path / "turned.onnx", batch)) == [
        ("relu", "Relu", ("x",), ("positive",)),
        ("dense", "Gemm+Tanh+Transpose", ("positive",), ("rows",)),
        ("sum", "Add", ("rows", "x"), ("y",)),
    ]


def test_where_nobody_can_tell_a_row_is_taken_for_an_image(tmp_path):
    """As many images as channels."""
    assert len(told(turned(tmp_path / "square.onnx", 3))) == 5


def test_steps_with_more_weights_than_one_have_the_name_of_their_end(tmp_path):
    """Any of them may be wrong."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], name="there", perm=[1, 0]),
        helper.make_node("MatMul", ["w", "turned"], ["first"], name="dense"),
        helper.make_node("MatMul", ["w", "first"], ["second"], name="denser"),
        helper.make_node("Transpose", ["second"], ["y"], name="back", perm=[1, 0]),
    ]
    (step,) = told(saved(tmp_path / "two.onnx", nodes, ([None, 3], [None, 3]), {"w": (3, 3)}))
    assert step == ("back", "Transpose+MatMul+MatMul+Transpose", ("x",), ("y",))


def test_every_reader_of_such_a_tensor_is_a_step_of_its_own(tmp_path):
    """Their names differ."""
    nodes = [
        helper.make_node("Gemm", ["w", "x"], ["columns"], name="dense", transB=1),
        helper.make_node("Transpose", ["columns"], ["rows"], name="back", perm=[1, 0]),
        helper.make_node("ReduceMean", ["columns"], ["means"], name="mean", axes=[0], keepdims=0),
        helper.make_node("Unsqueeze", ["means", "one"], ["upright"], name="upright"),
        helper.make_node("Mul", ["rows", "upright"], ["y"], name="product"),
    ]
    path = saved(tmp_path / "readers.onnx", nodes, (["n", 3], ["n", 3]), {"w": (3, 3)}, {"one": [1]})
    assert [(name, inputs) for name, _, inputs, _ in told(path)] == [
        ("dense", ("x",)),
        ("mean", ("x",)),
        ("upright", ("means",)),
        ("product", ("rows", "upright")),
    ]


def test_one_image_is_a_row_of_one(tmp_path):
    """A shape that is written into the graph fits the one image that is given."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["flat"], name="flatten"),
        helper.make_node("MatMul", ["flat", "w"], ["y"], name="dense"),
    ]
    path = saved(tmp_path / "one.onnx", nodes, (["n", 3], [1, 3]), {"w": (3, 3)}, {"shape": [1, 3]})
    assert [step[0] for step in told(path, images=1)] == ["flatten", "dense"]
    assert told(path, images=2) == []


WINDOWS = {
    "windows": [
        helper.make_node("Reshape", ["x", "shape"], ["parts"], name="cut"),
        helper.make_node("MatMul", ["parts", "w"], ["made"], name="dense"),
        helper.make_node("Reshape", ["made", "back"], ["y"], name="joined"),
    ],
    "a number for all": [
        helper.make_node("ReduceMax", ["x"], ["most"], name="most", keepdims=0),
        helper.make_node("Div", ["x", "most"], ["y"], name="scaled"),
    ],
}


@pytest.mark.parametrize("kind", WINDOWS)
@pytest.mark.parametrize("batch", ["n", 2])
def test_what_has_more_or_less_than_a_row_an_image_is_not_looked_at(tmp_path, kind, batch):
    """Windows of images, and a tensor without any axis."""
    more = {"shape": [-1, 3], "back": [-1, 6]}
    path = saved(tmp_path / "model.onnx", WINDOWS[kind], ([batch, 6], [batch, 6]), {"w": (3, 3)}, more)
    (step,) = told(path)
    assert step[2:] == (("x",), ("y",))


@pytest.mark.parametrize("shape", [[2, "n"], []])
def test_no_output_is_looked_at_that_has_no_image_a_row(tmp_path, shape):
    """The engine is not accused of it, and its rows are not taken."""
    second = (
        helper.make_node("Gemm", ["v", "x"], ["z"], transB=1)
        if shape
        else helper.make_node("ReduceMax", ["x"], ["z"], keepdims=0)
    )
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="dense"), second]
    path = saved(tmp_path / "outputs.onnx", nodes, (["n", 3], ["n", 3]), {"w": (3, 3), "v": (2, 3)})
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, shape))
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def both(file, images):
        del file
        return dict(zip("yz", session.run(["y", "z"], {"x": images}), strict=True))

    images = np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32)
    found = explain(both, path, GraphEvaluator(path), images, arithmetic("fp32"), case_id="", scratch=tmp_path / "s")
    assert found.clean
    assert [row.name for row in found.segments] == ["y"]


AVERAGES = {
    "whole images": [helper.make_node("GlobalAveragePool", ["x"], ["means"], name="means")],
    "an export's": [helper.make_node("ReduceMean", ["x"], ["means"], name="means", axes=[2, 3])],
}


@pytest.mark.parametrize("kind", AVERAGES)
def test_no_block_is_accused_of_the_order_of_a_long_sum(tmp_path, kind):
    """Value after value in fp32 is the poorest there is, and right; a wrong average is seen all the same."""
    nodes = [*AVERAGES[kind], helper.make_node("Conv", ["means", "w"], ["y"], name="conv")]
    path = saved(tmp_path / "means.onnx", nodes, (["n", 3, 200, 200], ["n", 3, 1, 1]), {"w": (3, 3, 1, 1)})
    images = np.random.default_rng(0).uniform(0, 1, (2, 3, 200, 200)).astype(np.float32)

    def told_of(off):
        def engine(file, images):
            del file
            means = np.add.accumulate(images.reshape(2, 3, -1), axis=2)[:, :, -1] / np.float32(40_000) * np.float32(off)
            y = np.ones((3, 3), np.float32) @ means.T
            return {"means": means.reshape(2, 3, 1, 1), "y": y.T.reshape(2, 3, 1, 1)}

        return explain(
            engine,
            path,
            GraphEvaluator(path),
            images,
            arithmetic("fp32"),
            case_id="",
            scratch=tmp_path / "scratch",
        )

    assert told_of(1).clean
    assert told_of(1.001).node == "means"


OTHERS = {
    "an operator of others first": (
        [
            helper.make_node("Gelu", ["x"], ["bent"], name="gelu", domain="com.microsoft"),
            helper.make_node("MatMul", ["bent", "w"], ["made"], name="dense"),
            helper.make_node("MatMul", ["made", "w"], ["y"], name="denser"),
        ],
        0,
        ("gelu", "dense", "denser"),
    ),
    "one behind a block": (
        [
            helper.make_node("MatMul", ["x", "w"], ["made"], name="dense"),
            helper.make_node("Gelu", ["made"], ["bent"], name="gelu", domain="com.microsoft"),
            helper.make_node("MatMul", ["bent", "w"], ["y"], name="denser"),
        ],
        1,
        ("gelu", "denser"),
    ),
    "a branch that takes what it uses from outside": (
        [
            helper.make_node("MatMul", ["x", "w"], ["made"], name="dense"),
            helper.make_node("Constant", [], ["always"], value=numpy_helper.from_array(np.array(True))),
            helper.make_node(
                "If",
                ["always"],
                ["bent"],
                name="branch",
                **dict.fromkeys(
                    ("then_branch", "else_branch"),
                    helper.make_graph(
                        [helper.make_node("Neg", ["made"], ["inside"])],
                        "b",
                        [],
                        [helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)],
                    ),
                ),
            ),
            helper.make_node("MatMul", ["bent", "w"], ["y"], name="denser"),
        ],
        1,
        ("branch", "denser"),
    ),
    "whole numbers": (
        [
            helper.make_node("MatMul", ["x", "w"], ["made"], name="dense"),
            helper.make_node("QuantizeLinear", ["made", "step"], ["steps"], name="there"),
            helper.make_node("DequantizeLinear", ["steps", "step"], ["y"], name="back"),
        ],
        1,
        ("back",),
    ),
    "an answer that is a number": (
        [
            helper.make_node("MatMul", ["x", "w"], ["y"], name="dense"),
            helper.make_node("ArgMax", ["y"], ["answer"], name="answer", axis=1),
        ],
        1,
        (),
    ),
    "sizes": (
        [
            helper.make_node("Shape", ["x"], ["shape"], name="shape"),
            helper.make_node("Cast", ["shape"], ["sizes"], name="sizes", to=TensorProto.FLOAT),
            helper.make_node("ReduceMax", ["sizes"], ["most"], name="most", keepdims=0),
            helper.make_node("MatMul", ["x", "w"], ["made"], name="dense"),
            helper.make_node("Div", ["made", "most"], ["y"], name="scaled"),
        ],
        1,
        (),
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_cannot_be_looked_at_is_named(tmp_path, kind):
    """Nodes that images reach only by tensors of no known type or of whole numbers: the rest alone is not clean."""
    nodes, blocks, hidden = OTHERS[kind]
    path = saved(tmp_path / "model.onnx", nodes, (["n", 3], ["n", 3]), {"w": (3, 3), "step": ()})
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, path)
    assert read_flow(path, 2).hidden == hidden
    images = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)

    def engine(file, images):
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_outputs()]
        return dict(zip(names, session.run(names, {"x": images}), strict=True))

    found = explain(
        engine,
        path,
        GraphEvaluator(path),
        images,
        arithmetic("fp32"),
        case_id="",
        scratch=tmp_path / "scratch",
    )
    assert len(found.segments) == blocks
    assert found.first is None
    assert found.unseen == 0
    assert found.clean == (not hidden)
    said = f"; {', '.join(hidden)} cannot be looked at: ONNX does not know the types of tensors there or before"
    assert (said in found.summary) == bool(hidden)
    assert found.summary.startswith(f"no block is off: {blocks} were looked at" if blocks else "no block was looked at")

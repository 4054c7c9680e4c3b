"""Data flow of a graph, the blocks it is split into, and what of it cannot be compared."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fixtures.localize.blocks import read_data_flow, split_into_blocks
from fixtures.localize.records import HIDDEN, NO_WRONG_BLOCK, NOTHING_COMPARED
from fixtures.records import ModelSpec
from tests.meta import classifiers
from tests.meta.localizing import localizer, saved
from tests.meta.tiny_models import by_onnxruntime

node = helper.make_node


def groups(path, batch=0):
    """Groups of a model: name, operators, inputs, outputs."""
    flow = read_data_flow(path, batch)
    return [(group.name, "+".join(group.operators), group.inputs, group.compared) for group in flow.groups]


def test_blocks_of_an_nfnet_are_its_layers_and_residual_blocks(context):
    """Named by their output; both operands of each sum are compared."""
    path = context.model_store.onnx_file(ModelSpec("test_nfnet", None, (64, 64))).path
    blocks = split_into_blocks(read_data_flow(path))
    names = [block.name for block in blocks]
    assert names[:5] == ["stem.conv1", "stem.conv2", "stem.conv3", "stem.conv4", "stages.0.0"]
    assert names[-2:] == ["final_conv", "logits"]
    assert blocks[4].compared == ("stages.0.0.downsample.conv", "stages.0.0.attn_last", "stages.0.0")
    assert [block.inputs for block in blocks[1:]] == [(name,) for name in names[:-1]]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_tail_without_weights_belongs_to_the_block_before(tmp_path, count):
    """Every node is in one block."""
    names = [f"conv{index}" for index in range(count)]
    nodes = [node("Conv", [before, "w"], [name], name=name) for before, name in zip(["x", *names], names, strict=False)]
    nodes += [node("Relu", [names[-1]], ["relu"]), node("Softmax", ["relu"], ["y"], axis=1)]
    flow = read_data_flow(saved(tmp_path / "tail.onnx", nodes, ([1, 2, 4, 4], [1, 2, 4, 4]), {"w": (2, 2, 1, 1)}))
    blocks = split_into_blocks(flow)
    assert [block.name for block in blocks] == [*names[:-1], "y"]
    assert tuple(group for block in blocks for group in block.groups) == flow.groups


def transposed(path, batch, columns=3):
    """Save a dense layer whose product, bias and activation have the images in columns."""
    nodes = [
        node("Relu", ["x"], ["positive"], name="relu"),
        node("Gemm", ["w", "positive", "b"], ["columns"], name="dense", transB=1),
        node("Tanh", ["columns"], ["bent"], name="tanh"),
        node("Transpose", ["bent"], ["rows"], name="back", perm=[1, 0]),
        node("Add", ["rows", "x"], ["y"], name="sum"),
    ]
    return saved(path, nodes, ([batch, columns], [batch, columns]), {"w": (columns, columns), "b": (columns, 1)})


@pytest.mark.parametrize("batch", ["batch", 5])
def test_nodes_between_tensors_without_a_batch_axis_are_one_group(tmp_path, batch):
    """It has the name of its last node."""
    assert groups(transposed(tmp_path / "transposed.onnx", batch)) == [
        ("relu", "Relu", ("x",), ("positive",)),
        ("back", "Gemm+Tanh+Transpose", ("positive",), ("rows",)),
        ("sum", "Add", ("rows", "x"), ("y",)),
    ]


def test_axis_of_the_size_of_the_batch_is_taken_for_it(tmp_path):
    """As many channels as images."""
    assert len(groups(transposed(tmp_path / "square.onnx", 3))) == 5


def test_two_readers_of_an_unbatched_tensor_have_a_group_each(tmp_path):
    """Both begin with the node that makes it."""
    nodes = [
        node("Gemm", ["w", "x"], ["columns"], name="dense", transB=1),
        node("Transpose", ["columns"], ["rows"], name="back", perm=[1, 0]),
        node("ReduceMean", ["columns"], ["means"], name="mean", axes=[0], keepdims=0),
        node("Unsqueeze", ["means", "one"], ["upright"], name="upright"),
        node("Mul", ["rows", "upright"], ["y"], name="product"),
    ]
    path = saved(tmp_path / "readers.onnx", nodes, (["n", 3], ["n", 3]), {"w": (3, 3)}, {"one": [1]})
    assert [group[:3] for group in groups(path)] == [
        ("back", "Gemm+Transpose", ("x",)),
        ("mean", "Gemm+ReduceMean", ("x",)),
        ("upright", "Unsqueeze", ("means",)),
        ("product", "Mul", ("rows", "upright")),
    ]


def test_shape_in_the_graph_may_fit_a_batch_of_one(tmp_path):
    """At any other batch nothing can be compared."""
    nodes = [
        node("Reshape", ["x", "shape"], ["flat"], name="flatten"),
        node("MatMul", ["flat", "w"], ["y"], name="dense"),
    ]
    path = saved(tmp_path / "one.onnx", nodes, (["n", 3], [1, 3]), {"w": (3, 3)}, {"shape": [1, 3]})
    assert [group[0] for group in groups(path, batch=1)] == ["flatten", "dense"]
    assert groups(path, batch=2) == []


@pytest.mark.parametrize("batch", ["n", 2])
@pytest.mark.parametrize(
    "nodes",
    [
        [
            node("Reshape", ["x", "shape"], ["parts"], name="windows"),
            node("MatMul", ["parts", "w"], ["made"], name="dense"),
            node("Reshape", ["made", "back"], ["y"], name="joined"),
        ],
        [
            node("ReduceMax", ["x"], ["largest"], name="largest", keepdims=0),
            node("Div", ["x", "largest"], ["y"], name="scaled"),
        ],
    ],
    ids=["windows", "scalar"],
)
def test_tensors_with_more_or_fewer_rows_than_images_are_not_compared(tmp_path, nodes, batch):
    """Windows of images; one number for the whole batch."""
    integers = {"shape": [-1, 3], "back": [-1, 6]}
    path = saved(tmp_path / "model.onnx", nodes, ([batch, 6], [batch, 6]), {"w": (3, 3)}, integers)
    assert [group[2:] for group in groups(path)] == [(("x",), ("y",))]


@pytest.mark.parametrize(
    ("shape", "second"),
    [
        ([2, "n"], node("Gemm", ["v", "x"], ["z"], transB=1)),
        ([], node("ReduceMax", ["x"], ["z"], keepdims=0)),
    ],
)
def test_outputs_without_a_batch_axis_are_not_compared(tmp_path, shape, second):
    """Rows cannot be selected from them."""
    nodes = [node("MatMul", ["x", "w"], ["y"], name="dense"), second]
    path = saved(tmp_path / "outputs.onnx", nodes, (["n", 3], ["n", 3]), {"w": (3, 3), "v": (2, 3)})
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, shape))
    onnx.save(model, path)
    found = localizer(
        path, np.random.default_rng(0).standard_normal((3, 3), np.float32), tmp_path / "scratch"
    ).localize()
    assert (found.clean, [row.name for row in found.blocks]) == (True, ["y"])


@pytest.mark.parametrize(
    "mean", [node("GlobalAveragePool", ["x"], ["m"], name="m"), node("ReduceMean", ["x"], ["m"], name="m", axes=[2, 3])]
)
def test_sequential_float32_mean_is_no_fault(tmp_path, mean):
    """It is the least accurate order of summation, and valid; a wrong mean is found."""
    nodes = [mean, node("Conv", ["m", "w"], ["y"], name="conv")]
    path = saved(tmp_path / "mean.onnx", nodes, (["n", 3, 200, 200], ["n", 3, 1, 1]), {"w": (3, 3, 1, 1)})
    images = np.random.default_rng(0).uniform(0, 1, (2, 3, 200, 200)).astype(np.float32)

    def found(factor):
        def engine(_path, images):
            means = (
                np.add.accumulate(images.reshape(2, 3, -1), axis=2)[:, :, -1] / np.float32(40_000) * np.float32(factor)
            )
            outputs = {"m": means, "y": means @ np.ones((3, 3), np.float32)}
            return {name: array.reshape(2, 3, 1, 1) for name, array in outputs.items()}

        return localizer(path, images, tmp_path / "scratch", engine=engine).localize()

    assert found(1).clean
    assert found(1.001).first_node == "m"


BRANCH = helper.make_graph(
    [node("Neg", ["made"], ["inside"])], "b", [], [helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)]
)


@pytest.mark.parametrize(
    ("nodes", "blocks", "hidden"),
    [
        (
            [
                node("Gelu", ["x"], ["bent"], name="gelu", domain="com.microsoft"),
                node("MatMul", ["bent", "w"], ["made"], name="dense"),
                node("MatMul", ["made", "w"], ["y"], name="denser"),
            ],
            0,
            ("gelu", "dense", "denser"),
        ),
        (
            [
                node("MatMul", ["x", "w"], ["made"], name="dense"),
                node("Gelu", ["made"], ["bent"], name="gelu", domain="com.microsoft"),
                node("MatMul", ["bent", "w"], ["y"], name="denser"),
            ],
            1,
            ("gelu", "denser"),
        ),
        (
            [
                node("MatMul", ["x", "w"], ["made"], name="dense"),
                node("Constant", [], ["always"], value=numpy_helper.from_array(np.array(True))),
                node("If", ["always"], ["bent"], name="branch", then_branch=BRANCH, else_branch=BRANCH),
                node("MatMul", ["bent", "w"], ["y"], name="denser"),
            ],
            1,
            ("branch", "denser"),
        ),
        (
            [
                node("MatMul", ["x", "w"], ["made"], name="dense"),
                node("QuantizeLinear", ["made", "step"], ["steps"], name="there"),
                node("DequantizeLinear", ["steps", "step"], ["y"], name="back"),
            ],
            1,
            (),
        ),
        (
            [
                node("MatMul", ["x", "w"], ["made"], name="dense"),
                node("Cast", ["made"], ["integers"], name="there", to=TensorProto.INT32),
                node("Cast", ["integers"], ["y"], name="back", to=TensorProto.FLOAT),
            ],
            1,
            ("back",),
        ),
        (
            [
                node("MatMul", ["x", "w"], ["y"], name="dense"),
                node("ArgMax", ["y"], ["prediction"], name="prediction", axis=1),
            ],
            1,
            (),
        ),
        (
            [
                node("Shape", ["x"], ["shape"], name="shape"),
                node("Cast", ["shape"], ["sizes"], name="sizes", to=TensorProto.FLOAT),
                node("ReduceMax", ["sizes"], ["largest"], name="largest", keepdims=0),
                node("MatMul", ["x", "w"], ["made"], name="dense"),
                node("Div", ["made", "largest"], ["y"], name="scaled"),
            ],
            1,
            (),
        ),
    ],
    ids=["custom operator first", "custom operator", "branch", "quantised", "integers", "integer output", "shapes"],
)
def test_nodes_that_cannot_be_compared_are_hidden(tmp_path, nodes, blocks, hidden):
    """The images reach them only through integers or unknown types; the rest alone is not clean."""
    opsets = (("", 17), ("com.microsoft", 1))
    path = saved(tmp_path / "model.onnx", nodes, (["n", 3], ["n", 3]), {"w": (3, 3), "step": ()}, opsets=opsets)
    assert read_data_flow(path, 2).hidden == hidden
    images = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    found = localizer(path, images, tmp_path / "scratch", engine=by_onnxruntime).localize()
    assert (len(found.blocks), found.first_block, found.unchecked, found.hidden) == (blocks, None, 0, hidden)
    assert found.clean == (not hidden)
    assert (f"; {', '.join(hidden)} {HIDDEN}" in found.summary) == bool(hidden)
    assert found.summary.startswith(NO_WRONG_BLOCK if blocks else NOTHING_COMPARED)


SCALES = {
    "quantised": [None, "s", "s0", "s1", "s3"],
    "quantised_operators": [None, "s", "s0"],
    "dynamically_quantised": [None, "s0"],
}  # None: all are right


@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name in SCALES for scale in SCALES[name]])
def test_scale_of_a_quantised_model_that_is_off_by_one_percent_is_found(tmp_path, name, scale):
    """Quantised tensors are compared where they are dequantised, so in the outputs' tolerance nothing hides."""
    model = getattr(classifiers, name)()
    onnx.save(model, tmp_path / "right.onnx")
    for tensor in model.graph.initializer:
        if tensor.name == scale:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.01), scale))
    onnx.save(model, tmp_path / "engine.onnx")
    images = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    search = localizer(tmp_path / "engine.onnx", images, tmp_path / "copies", correct=tmp_path / "right.onnx")
    found = search.localize()
    assert (found.hidden, found.unchecked) == ((), 0)
    assert (found.first_block is None) == (scale is None), found.table()


def test_tensors_without_reference_are_compared_with_what_follows(tmp_path):
    """As the output of a convolution whose BatchNormalization the reference has folded into it."""
    model = classifiers.batch_normalised()
    onnx.save(model, tmp_path / "model.onnx")
    flow = read_data_flow(
        tmp_path / "model.onnx", 2, {name for node in model.graph.node for name in node.output} - {"h"}
    )
    assert flow.groups[0].operators == ("Conv", "BatchNormalization")
    assert flow.groups[0].compared == ("c",)

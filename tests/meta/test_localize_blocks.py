"""Data flow of a graph, the blocks it is split into, and what of it cannot be compared."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fixtures.localize.blocks import read_data_flow, split_into_blocks
from fixtures.localize.records import HIDDEN, NO_WRONG_BLOCK, NOTHING_COMPARED
from fixtures.records import ModelSpec
from tests.meta import classifiers
from tests.meta.localizing import localizer, saved
from tests.meta.tiny_models import by_onnxruntime


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
    names = [f"conv{index}" for index in range(count)]
    convolutions = (f"[{name}] {name} = Conv({before}, w)" for before, name in zip(["x", *names], names, strict=False))
    nodes = f"{' '.join(convolutions)} relu = Relu({names[-1]}) y = Softmax <axis = 1> (relu)"
    flow = read_data_flow(saved(tmp_path / "tail.onnx", nodes, x="1, 2, 4, 4", weights={"w": (2, 2, 1, 1)}))
    blocks = split_into_blocks(flow)
    assert [block.name for block in blocks] == [*names[:-1], "y"]
    assert tuple(group for block in blocks for group in block.groups) == flow.groups


TRANSPOSED = """[relu] positive = Relu(x)
    [dense] columns = Gemm <transB = 1> (w, positive, b)
    [tanh] bent = Tanh(columns)
    [back] rows = Transpose <perm = [1, 0]> (bent)
    [sum] y = Add(rows, x)"""


def transposed(path, batch):
    """Save a dense layer whose product, bias and activation have the images in columns."""
    return saved(path, TRANSPOSED, x=f"{batch}, 3", weights={"w": (3, 3), "b": (3, 1)})


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
    nodes = """[dense] columns = Gemm <transB = 1> (w, x)
        [back] rows = Transpose <perm = [1, 0]> (columns)
        [mean] means = ReduceMean <axes = [0], keepdims = 0> (columns)
        [upright] upright = Unsqueeze(means, one)
        [product] y = Mul(rows, upright)"""
    path = saved(tmp_path / "readers.onnx", nodes, weights={"w": (3, 3)}, integers={"one": [1]})
    assert [group[:3] for group in groups(path)] == [
        ("back", "Gemm+Transpose", ("x",)),
        ("mean", "Gemm+ReduceMean", ("x",)),
        ("upright", "Unsqueeze", ("means",)),
        ("product", "Mul", ("rows", "upright")),
    ]


def test_shape_in_the_graph_may_fit_a_batch_of_one(tmp_path):
    """At any other batch nothing can be compared."""
    nodes = "[flatten] flat = Reshape(x, shape) [dense] y = MatMul(flat, w)"
    path = saved(tmp_path / "one.onnx", nodes, y="1, 3", weights={"w": (3, 3)}, integers={"shape": [1, 3]})
    assert [group[0] for group in groups(path, batch=1)] == ["flatten", "dense"]
    assert groups(path, batch=2) == []


@pytest.mark.parametrize("batch", ["n", 2])
@pytest.mark.parametrize(
    "nodes",
    [
        "parts = Reshape(x, shape) made = MatMul(parts, w) y = Reshape(made, back)",
        "largest = ReduceMax <keepdims = 0> (x) y = Div(x, largest)",
    ],
    ids=["windows", "scalar"],
)
def test_tensors_with_more_or_fewer_rows_than_images_are_not_compared(tmp_path, nodes, batch):
    integers = {"shape": [-1, 3], "back": [-1, 6]}
    path = saved(tmp_path / "model.onnx", nodes, x=f"{batch}, 6", weights={"w": (3, 3)}, integers=integers)
    assert [group[2:] for group in groups(path)] == [(("x",), ("y",))]


@pytest.mark.parametrize(
    ("output", "second"),
    [("float[2, n] z", "z = Gemm <transB = 1> (v, x)"), ("float z", "z = ReduceMax <keepdims = 0> (x)")],
)
def test_outputs_without_a_batch_axis_are_not_compared(tmp_path, output, second):
    """Rows cannot be selected from them."""
    weights = {"w": (3, 3), "v": (2, 3)}
    path = saved(tmp_path / "outputs.onnx", f"y = MatMul(x, w) {second}", weights=weights, more=f", {output}")
    images = np.random.default_rng(0).standard_normal((3, 3), np.float32)
    found = localizer(path, images, tmp_path / "scratch").localize()
    assert (found.clean, [row.name for row in found.blocks]) == (True, ["y"])


@pytest.mark.parametrize("mean", ["GlobalAveragePool", "ReduceMean <axes = [2, 3]>"])
def test_sequential_float32_mean_is_no_fault(tmp_path, mean):
    """It is the least accurate order of summation, and valid; a wrong mean is found."""
    nodes, shapes = f"[m] m = {mean} (x) y = Conv(m, w)", {"x": "n, 3, 200, 200", "y": "n, 3, 1, 1"}
    path = saved(tmp_path / "mean.onnx", nodes, **shapes, weights={"w": (3, 3, 1, 1)})
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


BRANCH = "b () => (float inside) { inside = Neg(made) }"
DENSE, DENSER = "[dense] made = MatMul(x, w)", "[denser] y = MatMul(bent, w)"
HIDING = {  # nodes, the number of compared blocks, nodes that are hidden
    "custom operator first": (
        "[gelu] bent = com.microsoft.Gelu(x) [dense] made = MatMul(bent, w) [denser] y = MatMul(made, w)",
        0,
        ("gelu", "dense", "denser"),
    ),
    "custom operator": (f"{DENSE} [gelu] bent = com.microsoft.Gelu(made) {DENSER}", 1, ("gelu", "denser")),
    "branch": (
        f"{DENSE} always = Constant <value = bool {{1}}> ()"
        f" [branch] bent = If (always) <then_branch = {BRANCH}, else_branch = {BRANCH}> {DENSER}",
        1,
        ("branch", "denser"),
    ),
    "quantised": (f"{DENSE} steps = QuantizeLinear(made, step) y = DequantizeLinear(steps, step)", 1, ()),
    "integers": (f"{DENSE} integers = Cast <to = 6> (made) [back] y = Cast <to = 1> (integers)", 1, ("back",)),
    "integer output": ("y = MatMul(x, w) prediction = ArgMax <axis = 1> (y)", 1, ()),
    "shapes": (
        "shape = Shape(x) sizes = Cast <to = 1> (shape) largest = ReduceMax <keepdims = 0> (sizes)"
        f" {DENSE} y = Div(made, largest)",
        1,
        (),
    ),
}


@pytest.mark.parametrize(("nodes", "blocks", "hidden"), HIDING.values(), ids=HIDING)
def test_nodes_that_cannot_be_compared_are_hidden(tmp_path, nodes, blocks, hidden):
    """The images reach them only through integers or unknown types; the rest alone is not clean."""
    path = saved(tmp_path / "model.onnx", nodes, weights={"w": (3, 3), "step": ()})
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
    model = classifiers.model(name)
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
    model = classifiers.model("batch_normalised")
    onnx.save(model, tmp_path / "model.onnx")
    flow = read_data_flow(
        tmp_path / "model.onnx", 2, {name for node in model.graph.node for name in node.output} - {"h"}
    )
    assert flow.groups[0].operators == ("Conv", "BatchNormalization")
    assert flow.groups[0].compared == ("c",)

"""The ONNX graph: valid, portable, small, and the same network at every opset and in every file layout."""

import numpy as np
import onnx
import pytest

from fixtures.errors import ModelError
from fixtures.inputs import synthetic_images
from fixtures.nfnet import writer
from fixtures.nfnet.architecture import network
from fixtures.nfnet.graph import build_graph
from fixtures.nfnet.variants import variant
from fixtures.nfnet.weights import SeededWeights
from fixtures.onnx_weights import data_path
from fixtures.precisions import precision
from tests.meta.golden_logits import relative_error
from tests.meta.tiny_models import by_onnxruntime

NEWEST = onnx.defs.onnx_opset_version()
NAMES = ["test_nfnet", "nf_resnet50", "eca_nfnet_l0"]


def build(path, name="test_nfnet", size=(64, 64), opset=20, kind="fp32", weights=None):
    """Write a model and return its path."""
    graph = build_graph(network(variant(name)), weights or SeededWeights(name, 0), size, opset)
    writer.write_model(graph, path, precision(kind))
    return path


def run(path, images):
    """Return the logits of ONNX Runtime."""
    return by_onnxruntime(path, images)["logits"]


CHECKED = [("test_nfnet", opset, kind) for opset in (13, 14, 17, 19, 20, NEWEST) for kind in ("fp32", "fp16")]
CHECKED += [(name, opset, "fp32") for name in NAMES[1:] for opset in (13, NEWEST)]


@pytest.mark.parametrize(("name", "opset", "kind"), CHECKED)
def test_built_models_pass_the_onnx_checker(tmp_path, name, opset, kind):
    path = build(tmp_path / "model.onnx", name, opset=opset, kind=kind)
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path)
    assert model.opset_import[0].version == opset
    (output,) = onnx.shape_inference.infer_shapes(model).graph.output
    assert [dim.dim_param or dim.dim_value for dim in output.type.tensor_type.shape.dim] == ["batch", 1000]


@pytest.mark.parametrize("name", ["test_nfnet", "digits_nfnet"])
def test_opset_13_and_20_give_the_same_logits(tmp_path, name):
    """GELU is Erf at opset 13 and one operator at opset 20."""
    images = synthetic_images("opsets", (1, 3, 64, 64))
    old = run(build(tmp_path / "old.onnx", name, opset=13), images)
    new = run(build(tmp_path / "new.onnx", name, opset=20), images)
    assert relative_error(old, new) < 1e-6


def test_dm_nfnet_f0_has_236_nodes(tmp_path):
    """Exports from PyTorch have 738 and more."""
    model = onnx.load(build(tmp_path / "model.onnx", "dm_nfnet_f0"), load_external_data=False)
    assert len(model.graph.node) == 236


@pytest.mark.parametrize("name", ["dm_nfnet_f0", "nfnet_l0"])
def test_gpu_compilers_find_the_form_that_they_can_fuse(name):
    """A gate pools what the last convolution of its block reads, and no convolution has an asymmetric border."""
    nodes = build_graph(network(variant(name)), SeededWeights(name, 0), (64, 64)).nodes
    reads = {node.name: node.input[0] for node in nodes}
    pools = [node for node in nodes if node.name.endswith("attn_last.pool")]
    assert len(pools) == 12
    assert all(node.input[0] == reads[node.name.replace("attn_last.pool", "conv3")] for node in pools)
    pads = [next(a.ints for a in node.attribute if a.name == "pads") for node in nodes if node.op_type == "Conv"]
    assert all(list(border[:2]) == list(border[2:]) for border in pads)


@pytest.mark.parametrize("name", NAMES)
def test_dense_layers_are_plain_gemm_nodes(tmp_path, name):
    """The weight is the right factor, as in exports from PyTorch; with it on the left a MIGraphX target is wrong."""
    model = onnx.load(build(tmp_path / "model.onnx", name))
    constants = {tensor.name for tensor in model.graph.initializer}
    dense = [node for node in model.graph.node if node.op_type in ("Gemm", "MatMul", "Transpose")]
    assert dense
    assert all(node.op_type == "Gemm" for node in dense)
    assert all(node.input[0] not in constants and constants.issuperset(node.input[1:]) for node in dense)


def test_fp16_model_is_the_fp32_model_rounded_once(tmp_path):
    images = synthetic_images("half", (2, 3, 64, 64))
    half = build(tmp_path / "half.onnx", kind="fp16")
    assert half.stat().st_size < 0.6 * build(tmp_path / "single.onnx").stat().st_size
    logits = run(half, images.astype(np.float16))
    assert logits.dtype == np.float16
    assert 1e-5 < relative_error(logits, run(tmp_path / "single.onnx", images)) < 8 * 2.0**-11


def test_external_data_holds_the_same_network(tmp_path, monkeypatch):
    """Weights of large models are in a second file."""
    inline = build(tmp_path / "inline.onnx")
    monkeypatch.setattr(writer, "EXTERNAL_ABOVE", 0)
    external = build(tmp_path / "external.onnx")
    assert not data_path(inline).exists()
    assert data_path(external).stat().st_size > 5 * external.stat().st_size
    onnx.checker.check_model(str(external), full_check=True)
    images = synthetic_images("external", (1, 3, 64, 64))
    assert np.array_equal(run(inline, images), run(external, images))


@pytest.mark.parametrize("opset", [12, NEWEST + 1, -1])
def test_unsupported_opset_is_refused(opset):
    with pytest.raises(ModelError, match=rf"{opset}.* 13 to {NEWEST}"):
        build_graph(network(variant("test_nfnet")), {}, (64, 64), opset)


def test_precision_without_a_numpy_type_is_refused(tmp_path):
    with pytest.raises(ModelError, match="bf16"):
        build(tmp_path / "model.onnx", kind="bf16")


class OverflowingWeights(SeededWeights):
    """One bias is too large for fp16."""

    def __getitem__(self, name):
        values = super().__getitem__(name)
        return values + np.float32(1e6) if name == "final_conv.bias" else values


def test_weight_that_overflows_fp16_is_named_and_nothing_is_written(tmp_path):
    with pytest.raises(ModelError, match=r"'final_conv.bias'.*float16"):
        build(tmp_path / "model.onnx", kind="fp16", weights=OverflowingWeights("test_nfnet", 0))
    assert list(tmp_path.iterdir()) == []

"""NFNet written from the papers agrees with timm, and with the float64 reference on the folded graph."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from fixtures.inputs import synthetic_images
from fixtures.nfnet.architecture import network
from fixtures.nfnet.graph import build_graph
from fixtures.nfnet.variants import variant
from fixtures.nfnet.weights import SeededWeights
from fixtures.nfnet.writer import write_model
from fixtures.precisions import precision
from fixtures.reference.evaluator import GraphEvaluator
from tests.meta import golden_logits as golden
from tests.meta.papers import forward

GOLDENS = golden.load()
FAMILIES = ("test_nfnet", "nf_resnet50", "nf_regnet_b1", "nfnet_l0", "eca_nfnet_l0", "nfnet_f0", "dm_nfnet_f0")
LARGEST_ERROR = 1e-12
ODD_SIZE = (33, 50)


@pytest.mark.parametrize("name", FAMILIES)
def test_papers_agree_with_timm(name):
    """In float64, at an odd size that is not square."""
    (row,) = [row for row in golden.committed() if row.variant == name and (row.height, row.width) == golden.ODD_SIZE]
    logits = forward(variant(name).architecture, row.weights(), row.images())
    assert golden.relative_error(logits, GOLDENS[row.key]) <= LARGEST_ERROR


def float64_model(folder, name, size):
    """Write the folded graph with its constants in float64, before they are rounded to fp32."""
    graph = build_graph(network(variant(name)), SeededWeights(name, 2), size)
    path = folder / "model.onnx"
    write_model(graph, path, precision("fp32"))
    model = onnx.load(path)
    exact = graph.constants | {key: array for make in graph.weights for key, array in make().items()}
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(exact[tensor.name], np.float64), tensor.name))
    onnx.save(model, folder / "double.onnx")
    return folder / "double.onnx"


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in {"nfnet_f0", "nfnet_l0"}])
def test_papers_agree_with_the_folded_graph(tmp_path, name):
    """Builder and float64 reference cannot share a mistake: neither is used on the other side."""
    images = synthetic_images("papers", (2, 3, *ODD_SIZE))
    actual = forward(variant(name).architecture, SeededWeights(name, 2), images)
    expected = GraphEvaluator(float64_model(tmp_path, name, ODD_SIZE)).evaluate({"inputs": images})["logits"]
    assert golden.relative_error(actual, expected) <= LARGEST_ERROR

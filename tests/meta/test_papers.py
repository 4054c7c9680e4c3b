"""NFNet as the papers tell it agrees with timm, and with the oracle on the folded graph."""

from pathlib import Path

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

GOLDENS = golden.load(Path(__file__).parent / "golden" / "nfnet_logits.npz")
FAMILIES = ("test_nfnet", "nf_resnet50", "nf_regnet_b1", "nfnet_l0", "eca_nfnet_l0", "nfnet_f0", "dm_nfnet_f0")
CLOSE = 1e-12
ODD = (33, 50)


def distance(actual, expected):
    """Relative L2."""
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_papers_agree_with_timm(name):
    """An odd size that is not square, in float64 on both sides."""
    (row,) = [row for row in golden.committed() if row.variant == name and (row.height, row.width) == golden.ODD_SIZE]
    got = forward(variant(name).architecture, SeededWeights(name, row.seed), row.images())
    assert distance(got, GOLDENS[row.key]) <= CLOSE


def unrounded(folder, name, size):
    """The folded graph with its constants as they are before they are rounded to fp32."""
    net = network(variant(name))
    graph = build_graph(net, SeededWeights(name, 2), size)
    path = folder / "model.onnx"
    write_model(graph, path, precision("fp32"), classes=net.classes, name=name)
    model = onnx.load(path)
    exact = graph.constants | {key: array for make in graph.weights for key, array in make().items()}
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(exact[tensor.name], np.float64), tensor.name))
    onnx.save(model, folder / "double.onnx")
    return folder / "double.onnx"


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in {"nfnet_f0", "nfnet_l0"}])
def test_the_papers_agree_with_the_folded_graph(tmp_path, name):
    """Builder and oracle cannot share a mistake: nothing of either is used here."""
    images = synthetic_images("papers", (2, 3, *ODD))
    got = forward(variant(name).architecture, SeededWeights(name, 2), images)
    want = GraphEvaluator(unrounded(tmp_path, name, ODD)).evaluate({"inputs": images})["logits"]
    assert distance(got, want) <= CLOSE

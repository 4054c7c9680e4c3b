"""The built graph agrees with what timm computes in float64 with the same weights: in float64, and in ONNX Runtime."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from fixtures.nfnet.architecture import network
from fixtures.nfnet.graph import build_graph
from fixtures.nfnet.variants import VARIANTS, variant
from fixtures.nfnet.writer import write_model
from fixtures.precisions import precision
from fixtures.reference.evaluator import GraphEvaluator
from tests.meta import golden_logits as golden

GOLDENS = golden.load()
FAMILIES = ("test_nfnet", "nf_resnet50", "nf_regnet_b1", "nfnet_l0", "eca_nfnet_l0", "dm_nfnet_f0")


def float64_model(path, row):
    """Write the folded graph with its constants in float64, before they are rounded to fp32."""
    graph = build_graph(network(variant(row.variant)), row.weights(), (row.height, row.width))
    write_model(graph, path, precision("fp32"))
    model = onnx.load(path)
    exact = graph.constants | {key: array for make in graph.weights for key, array in make().items()}
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(exact[tensor.name], np.float64), tensor.name))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("name", FAMILIES)
def test_graph_in_float64_agrees_with_timm(tmp_path, name):
    """At an odd size that is not square."""
    (row,) = [row for row in golden.committed() if row.variant == name and (row.height, row.width) == golden.ODD_SIZE]
    actual = GraphEvaluator(float64_model(tmp_path / "model.onnx", row)).evaluate({"inputs": row.images()})["logits"]
    assert golden.relative_error(actual, GOLDENS[row.key]) <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("row", golden.committed(), ids=lambda row: row.key)
def test_graph_agrees_with_timm(tmp_path, row):
    """The relative L2 error is at most 2e-6, and the seeded weights give logits of a useful size."""
    actual, expected = row.onnx_logits(tmp_path), GOLDENS[row.key]
    assert golden.relative_error(actual, expected) <= golden.LARGEST_ERROR
    if expected.size >= 1000:  # the standard deviation of ten logits is too uncertain
        assert 0.5 < expected.std() < 5


def test_every_variant_has_goldens():
    """Small variants at three sizes, two of the large ones; the script checks the others."""
    covered = {row.variant for row in golden.committed()}
    small = {row.name for row in VARIANTS if row.parameters < golden.LARGE}
    assert small | {"dm_nfnet_f3", "nfnet_f3"} == covered
    assert {row.key for row in golden.committed()} == set(GOLDENS)

"""Our graph in ONNX Runtime against what timm computes in float64 with the same weights."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from fixtures.nfnet.architecture import network
from fixtures.nfnet.graph import build_graph
from fixtures.nfnet.variants import VARIANTS, variant
from fixtures.nfnet.weights import SeededWeights
from fixtures.nfnet.writer import write_model
from fixtures.precisions import precision
from tests.meta import golden_logits as golden

GOLDENS = golden.load(Path(__file__).parent / "golden" / "nfnet_logits.npz")


@pytest.mark.slow
@pytest.mark.parametrize("row", golden.committed(), ids=lambda row: row.key)
def test_the_graph_agrees_with_timm(tmp_path, row):
    """Relative L2 error of fp32 ONNX Runtime against float64 timm."""
    net = network(variant(row.variant))
    path = tmp_path / "model.onnx"
    graph = build_graph(net, SeededWeights(row.variant, row.seed), (row.height, row.width))
    write_model(graph, path, precision("fp32"), classes=net.classes, name=row.variant)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (actual,) = session.run(["logits"], {"inputs": row.images()})
    path.unlink()
    expected = GOLDENS[row.key]
    error = np.linalg.norm(actual.astype(np.float64) - expected) / np.linalg.norm(expected)
    assert error <= golden.GREATEST_ERROR
    if expected.size >= 1000:  # ten logits tell too little
        assert 0.5 < expected.std() < 5, "the seeded weights must keep the signal alive"


def test_every_variant_has_goldens():
    """Small variants at three sizes; of the large ones two stand for all, the script checks the others."""
    covered = {row.variant for row in golden.committed()}
    small = {row.name for row in VARIANTS if row.parameters < golden.LARGE}
    assert small | {"dm_nfnet_f3", "nfnet_f3"} == covered
    assert {row.key for row in golden.committed()} == set(GOLDENS)

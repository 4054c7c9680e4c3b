"""The built graph in ONNX Runtime agrees with what timm computes in float64 with the same weights."""

import pytest

from fixtures.nfnet.variants import VARIANTS
from tests.meta import golden_logits as golden

GOLDENS = golden.load()


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

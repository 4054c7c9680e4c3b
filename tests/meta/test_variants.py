"""The table of variants and the layers derived from it."""

import math

import pytest

from fixtures.errors import ModelError, UsageError
from fixtures.nfnet.architecture import network, parameter_shapes
from fixtures.nfnet.graph import check_supported
from fixtures.nfnet.variants import VARIANTS, variant


@pytest.mark.parametrize("row", VARIANTS, ids=lambda row: row.name)
def test_layers_have_the_published_number_of_parameters(row):
    assert sum(math.prod(shape) for shape in parameter_shapes(network(row)).values()) == row.parameters


def test_unknown_variant_error_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"'resnet50' -> .*dm_nfnet_f0, .*digits_nfnet"):
        variant("resnet50")


@pytest.mark.parametrize("size", [(31, 64), (64, 1), (0, 0)])
def test_image_smaller_than_the_total_stride_is_refused(size):
    with pytest.raises(ModelError, match=r"test_nfnet -> .*32 pixels"):
        check_supported(network(variant("test_nfnet")), size, 20)

"""Which weights a variant gets without a network, and the reason that the header shows."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from fixtures.errors import UsageError
from fixtures.nfnet.variants import VARIANTS
from fixtures.nfnet.weights import SeededWeights
from fixtures.weight_sources import WeightSources, bundled_weights

UNPUBLISHED = "nfnet_f7"


@pytest.mark.parametrize(("choice", "available"), [("pretrained", "dm_nfnet_f0"), ("trained", "digits_nfnet")])
def test_unavailable_weights_are_a_usage_error(tmp_path, choice, available):
    with pytest.raises(UsageError) as caught:
        WeightSources(choice, tmp_path).of(UNPUBLISHED)
    assert UNPUBLISHED in caught.value.what
    assert available in caught.value.hint


@pytest.mark.parametrize(
    ("choice", "why_seeded", "why"),
    [("seeded", "", "requested"), ("auto", "--seed is given", "--seed is given"), ("auto", "", "published")],
)
def test_seeded_weights_have_a_reason(tmp_path, choice, why_seeded, why):
    """Without published weights auto means seeded."""
    source = WeightSources(choice, tmp_path, fetch=False, why_seeded=why_seeded).of(UNPUBLISHED)
    assert (source.weights, source.path) == ("seeded", None)
    assert why in source.why


def test_bundled_weights_are_the_default_and_fit(tmp_path):
    names = [row.name for row in VARIANTS if bundled_weights(row.name).exists()]
    assert "digits_nfnet" in names
    for name in names:
        source = WeightSources("auto", tmp_path, fetch=False).of(name)
        assert (source.weights, source.path) == ("trained", bundled_weights(name))


def test_a_weights_file_selects_its_variant(tmp_path):
    """By names and shapes; a file that fits none is a usage error."""
    path, other = tmp_path / "net.safetensors", tmp_path / "other.safetensors"
    save_file({name: np.ascontiguousarray(value) for name, value in SeededWeights("test_nfnet", 0).items()}, path)
    save_file({"a": np.zeros(3)}, other)
    sources = WeightSources(path, tmp_path)
    assert sources.default_variants(["dm_nfnet_f0"]) == ("test_nfnet",)
    assert sources.of("test_nfnet").path == path
    with pytest.raises(UsageError, match="--variant"):
        WeightSources(other, tmp_path).default_variants(["dm_nfnet_f0"])


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", ("nfnet_f7", "dm_nfnet_f0")),
        ("seeded", ("nfnet_f7", "dm_nfnet_f0")),
        ("pretrained", ("dm_nfnet_f0",)),
        ("trained", ("digits_nfnet",)),
    ],
)
def test_default_variants_have_the_chosen_weights(tmp_path, choice, expected):
    """If none of the candidates has them, another variant does."""
    assert WeightSources(choice, tmp_path).default_variants(["nfnet_f7", "dm_nfnet_f0"]) == expected


@pytest.mark.parametrize(("choice", "code"), [("auto", 0), ("pretrained", 4)])
def test_broken_package_of_the_hub_is_one_line(runner, tmp_path, choice, code):
    """In the header where its weights are not needed, with a hint where they are."""
    for name in ("httpx", "httpx2"):
        (tmp_path / f"{name}.py").write_text("raise AttributeError('damaged')")
    words = ("--engine", "onnxruntime:cpu", "--variant", "dm_nfnet_f0", "--weights", choice)
    env = {"PYTHONPATH": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = runner.pytest("tests/conformance/test_engines.py", *words, env=env, code=code)
    assert "huggingface_hub cannot be imported: AttributeError: damaged" in done.text
    assert ("-> pip install" in done.err) == (code == 4)
    assert "Traceback" not in done.text

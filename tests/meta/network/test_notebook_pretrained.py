"""The notebook with dm_nfnet_f0 from a local stand-in for the Hugging Face hub, as it runs with a network."""

import re

import numpy as np
import pytest
from safetensors.numpy import save

from fixtures.cli.recognition import default_engine
from fixtures.engines.registry import target_of
from fixtures.images.labels import class_names
from fixtures.nfnet.weights import SeededWeights
from tests.meta import golden_images as golden

NAME, REPOSITORY = "dm_nfnet_f0", "timm/dm_nfnet_f0.dm_in1k"
PREDICTION = re.compile(r"^ {4} *(\d+\.\d)%  (.+)$", re.MULTILINE)


@pytest.fixture
def photograph(tmp_path):
    """A JPEG file."""
    path = tmp_path / "landscape.jpg"
    golden.source("landscape").convert("RGB").save(path, quality=90)
    return path


@pytest.fixture
def pretrained(hub):
    """The hub with a file of dm_nfnet_f0's names and shapes."""
    body = save({name: np.array(value) for name, value in SeededWeights(NAME, 11).items()})
    hub.put(f"/{REPOSITORY}/resolve/main/model.safetensors", body)
    hub.put(f"/cdn/{REPOSITORY}/main/model.safetensors", body)
    return hub


@pytest.mark.slow
def test_notebook_downloads_and_runs_the_pretrained_network(pretrained, runner, photograph, tmp_path):
    """Once; it shows five of ImageNet's classes, and ONNX Runtime agrees."""
    engine, remark = default_engine()
    if target_of(engine).workload.is_slow:
        pytest.skip(f"{engine} would take minutes for {NAME}, so the notebook uses the bundled network")
    env = {**pretrained.env, "NFNET_CACHE_DIR": str(tmp_path / "cache")}
    done = runner.notebook(tmp_path, {"PHOTOGRAPH": str(photograph)}, env=env, timeout=500)
    texts = {cell.id: "".join(output.get("text", "") for output in cell.get("outputs", ())) for cell in done.cells}
    assert texts["model"].startswith(remark)
    assert f"{NAME}@192+pretrained: pretrained ({REPOSITORY}" in texts["model"]
    assert "landscape.jpg" in texts["predictions"]
    predictions = PREDICTION.findall(texts["predictions"])
    assert len(predictions) == len({name for _, name in predictions}) == 5
    assert {name for _, name in predictions} <= set(class_names(1000))
    probabilities = [float(probability) for probability, _ in predictions]
    assert probabilities == sorted(probabilities, reverse=True)
    last = texts["predictions"].splitlines()[-1]
    assert re.fullmatch(rf"AGREE: {engine}-{NAME}@192\S* and ONNX Runtime on 1 images, .* allowed", last)
    outputs = next(cell for cell in done.cells if cell.id == "drawing").outputs
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert len(pretrained.bodies_sent()) == 1

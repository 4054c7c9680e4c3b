"""Hold files that timm and safetensors write against our reading of them. Needs timm and PyTorch.

    python tests/meta/golden/check_files.py test_nfnet nf_regnet_b1 nf_resnet50

Prints the relative L2 error of our fp32 graph in ONNX Runtime, built from the file, against timm; exits 1 above it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import timm
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from fixtures.inputs import synthetic_images  # noqa: E402
from fixtures.nfnet.store import built_model  # noqa: E402
from fixtures.precisions import precision  # noqa: E402
from fixtures.records import ModelSpec  # noqa: E402
from tests.meta import golden_logits as golden  # noqa: E402

SIZE = (97, 131)


def error(name: str, folder: Path) -> float:
    """Relative L2 error for one variant with timm's own random weights, its zeros stirred."""
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    path = folder / "model.safetensors"
    save_file(model.state_dict(), path)
    spec = ModelSpec(name, None, SIZE, weights=path.name, weights_path=path)
    session = onnxruntime.InferenceSession(str(built_model(spec, precision("fp32"), folder)))
    images = synthetic_images(f"files/{name}", (1, 3, *SIZE))
    actual = session.run(None, {"inputs": images})[0]
    with torch.inference_mode():
        expected = model.double()(torch.from_numpy(images).double()).numpy()
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def main(names: list[str]) -> int:
    """Check the named variants; return the exit code."""
    worst = 0.0
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            found = error(name, Path(folder))
        worst = max(worst, found)
        print(f"{name:16} relative L2 error {found:.2e}", flush=True)
    return int(not worst <= golden.GREATEST_ERROR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

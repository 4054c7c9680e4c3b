"""Compare models built from safetensors files of timm with timm itself. Needs timm and PyTorch.

    python tests/studies/golden_check_files.py test_nfnet nf_regnet_b1 nf_resnet50

Prints the relative L2 error of the fp32 graph in ONNX Runtime for each; exits 1 if one is above the limit.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import onnxruntime
import timm
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[2]))

from fixtures.inputs import synthetic_images
from fixtures.nfnet.store import built_model
from fixtures.precisions import precision
from fixtures.records import ModelSpec
from tests.meta import golden_logits as golden


def error(name: str, folder: Path) -> float:
    """Return the relative L2 error of a variant with timm's random weights, plus noise so that none is zero."""
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    path = folder / "model.safetensors"
    save_file(model.state_dict(), path)
    spec = ModelSpec(name, None, golden.ODD_SIZE, weights=path.name, weights_path=path)
    session = onnxruntime.InferenceSession(str(built_model(spec, precision("fp32"), folder)))
    images = synthetic_images(f"files/{name}", (1, 3, *golden.ODD_SIZE))
    actual = session.run(None, {"inputs": images})[0]
    with torch.inference_mode():
        expected = model.double()(torch.from_numpy(images).double()).numpy()
    return golden.relative_error(actual, expected)


def main(names: list[str]) -> int:
    """Check the named variants; return the exit code."""
    worst = 0.0
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            found = error(name, Path(folder))
        worst = max(worst, found)
        print(f"{name:16} relative L2 error {found:.2e}", flush=True)
    return int(not worst <= golden.LARGEST_ERROR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

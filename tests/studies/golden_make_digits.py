"""Write what timm computes in float64 with the trained weights on the held-out digits. Needs timm and PyTorch.

python tests/meta/golden/make_digits.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "training")]

from model import timm_network  # noqa: E402

from fixtures.accuracy.digits import VARIANT, WEIGHTS, as_input, held_out  # noqa: E402
from fixtures.nfnet.variants import variant  # noqa: E402

FILE = Path(__file__).parents[1] / "meta" / "golden" / "digits_logits.npz"


def main() -> None:
    """Write the logits (images, classes) and say how good they are."""
    images, labels = held_out()
    model = timm_network(variant(VARIANT)).double().eval()
    model.load_state_dict({name: value.double() for name, value in load_file(WEIGHTS).items()})
    with torch.inference_mode():
        logits = model(torch.from_numpy(as_input(images)).double()).numpy()
    np.savez_compressed(FILE, logits=logits)
    print(f"{(logits.argmax(1) == labels).sum()} of {len(labels)} right, standard deviation {logits.std():.2f}")


if __name__ == "__main__":
    main()

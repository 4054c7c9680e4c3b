"""Write the golden logits of the bundled digits network: timm in float64 on the held-out images.

python tests/studies/golden_make_digits.py     # needs timm and PyTorch
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[2]))

from fixtures.accuracy.digits import VARIANT, WEIGHTS, as_input, held_out
from fixtures.nfnet.variants import variant
from tests.studies.training.model import timm_network

FILE = Path(__file__).parents[1] / "meta" / "golden" / "digits_logits.npz"


def main() -> None:
    """Write the logits (images, classes) and print the accuracy."""
    images, labels = held_out()
    model = timm_network(variant(VARIANT)).double().eval()
    model.load_state_dict({name: value.double() for name, value in load_file(WEIGHTS).items()})
    with torch.inference_mode():
        logits = model(torch.from_numpy(as_input(images)).double()).numpy()
    np.savez_compressed(FILE, logits=logits)
    print(f"{(logits.argmax(1) == labels).sum()} of {len(labels)} correct, standard deviation {logits.std():.2f}")


if __name__ == "__main__":
    main()

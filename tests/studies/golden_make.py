"""Hold every variant against timm in float64 and write the golden logits. Needs timm and PyTorch.

    python tests/meta/golden/make.py            # all variants, about 20 minutes on two cores, 24 GB
    python tests/meta/golden/make.py test_nfnet dm_nfnet_f0   # only these; their goldens are replaced

Prints the relative L2 error of our fp32 graph in ONNX Runtime for each; exits 1 if one is above the limit.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import timm
import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "training")]

from model import timm_network  # noqa: E402

from fixtures.nfnet.architecture import network  # noqa: E402
from fixtures.nfnet.graph import build_graph  # noqa: E402
from fixtures.nfnet.variants import BY_NAME, VARIANTS  # noqa: E402
from fixtures.nfnet.weights import SeededWeights  # noqa: E402
from fixtures.nfnet.writer import write_model  # noqa: E402
from fixtures.precisions import precision  # noqa: E402
from tests.meta import golden_logits as golden  # noqa: E402

FILE = Path(__file__).parents[1] / "meta" / "golden" / "nfnet_logits.npz"


def timm_logits(case: golden.Golden) -> np.ndarray:
    """What timm makes of the case, in float64."""
    with torch.device("meta"):
        known = timm.is_model(case.variant)
        model = timm.create_model(case.variant) if known else timm_network(BY_NAME[case.variant])
    state = {name: torch.from_numpy(np.array(array)).double() for name, array in weights(case).items()}
    model.load_state_dict(state, assign=True)
    with torch.inference_mode():
        return model.eval()(torch.from_numpy(case.images()).double()).numpy()


def our_logits(case: golden.Golden) -> np.ndarray:
    """What ONNX Runtime makes of our graph, in float32."""
    net = network(BY_NAME[case.variant])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        graph = build_graph(net, weights(case), (case.height, case.width))
        write_model(graph, path, precision("fp32"), classes=net.classes, name=case.variant)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"inputs": case.images()})[0]


def weights(case: golden.Golden) -> SeededWeights:
    """The seeded weights of the case."""
    return SeededWeights(case.variant, case.seed)


def main(names: list[str]) -> int:
    """Check the named variants (all by default), replace their goldens, return the exit code."""
    kept = golden.load(FILE) if FILE.exists() else {}
    cases = [case for row in VARIANTS for case in golden.sizes(row)]
    cases += [case for case in golden.committed() if case not in cases]
    committed = {case.key for case in golden.committed()}
    worst = 0.0
    for case in cases:
        if names and case.variant not in names:
            continue
        expected, actual = timm_logits(case), our_logits(case)
        error = float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))
        worst = max(worst, error)
        print(f"{case.key:40} relative L2 error {error:.2e}  std {expected.std():.2f}", flush=True)
        if case.key in committed:
            kept[case.key] = expected
    np.savez(FILE, **{key: kept[key] for key in sorted(kept) if key in committed})
    print(f"worst {worst:.2e}, allowed {golden.GREATEST_ERROR:.0e}; {len(kept)} goldens in {FILE.name}")
    return int(not worst <= golden.GREATEST_ERROR)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

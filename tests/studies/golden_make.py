"""Compare every variant with timm in float64 and write the golden logits. Needs timm and PyTorch.

    python tests/studies/golden_make.py            # all variants, about 20 minutes on two cores, 24 GB
    python tests/studies/golden_make.py test_nfnet dm_nfnet_f0   # only these; their goldens are replaced

Prints the relative L2 error of the fp32 graph in ONNX Runtime for each; exits 1 if one is above the limit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from fixtures.nfnet.variants import BY_NAME, VARIANTS
from tests.meta import golden_logits as golden
from tests.studies.training.model import timm_network


def timm_logits(case: golden.Golden) -> np.ndarray:
    """Return the logits of timm in float64."""
    with torch.device("meta"):
        known = timm.is_model(case.variant)
        model = timm.create_model(case.variant) if known else timm_network(BY_NAME[case.variant])
    state = {name: torch.from_numpy(np.array(array)).double() for name, array in case.weights().items()}
    model.load_state_dict(state, assign=True)
    with torch.inference_mode():
        return model.eval()(torch.from_numpy(case.images()).double()).numpy()


def main(names: list[str]) -> int:
    """Check the named variants (default: all), replace their goldens, return the exit code."""
    goldens = golden.load() if golden.FILE.exists() else {}
    cases = [case for row in VARIANTS for case in golden.cases(row)]
    cases += [case for case in golden.committed() if case not in cases]
    committed = {case.key for case in golden.committed()}
    worst = 0.0
    for case in cases:
        if names and case.variant not in names:
            continue
        expected = timm_logits(case)
        with tempfile.TemporaryDirectory() as folder:
            error = golden.relative_error(case.onnx_logits(Path(folder)), expected)
        worst = max(worst, error)
        print(f"{case.key:40} relative L2 error {error:.2e}  std {expected.std():.2f}", flush=True)
        if case.key in committed:
            goldens[case.key] = expected
    np.savez(golden.FILE, **{key: goldens[key] for key in sorted(goldens) if key in committed})
    print(f"worst {worst:.2e}, limit {golden.LARGEST_ERROR:.0e}; {len(goldens)} goldens in {golden.FILE.name}")
    return int(not worst <= golden.LARGEST_ERROR)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", choices=[*BY_NAME, []], metavar="NAME")
    sys.exit(main(parser.parse_args().variants))

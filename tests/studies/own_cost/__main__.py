"""What the suite itself costs, beside its peers in one run; told as ratios, each beside what is claimed.

    python tests/studies/own_cost build      # a model from weights, beside torch.onnx.export of timm's network
    python tests/studies/own_cost session    # those files in ONNX Runtime: making a session, and one run
    .ci/with-migraphx python tests/studies/own_cost compile --rounds 1
                                                 # those files in MIGraphX (built before, on a machine with PyTorch)
    python tests/studies/own_cost compare    # ort_comparison.py beside a bare script and Polygraphy
    python tests/studies/own_cost suite      # the default suite, twice: where its time goes
    python tests/studies/own_cost start      # import and collection
    python tests/studies/own_cost images     # photographs to tensors, beside timm's transform, and on all cores

Peers that are missing are named: build wants PyTorch, timm and onnxscript, compare Polygraphy, images timm and
torchvision. Exit code 0: what is claimed holds; 1: it does not; 2: a peer was missing or nobody could tell,
the rest holds.
"""

import argparse
import importlib
import sys

from paired import NotMeasured, missing

FAILED, INCOMPLETE = 1, 2
WHAT = {
    "build": "files:build",
    "session": "engines:session",
    "compile": "engines:compiled",
    "compare": "comparing:compare",
    "suite": "suite:suite",
    "start": "starting:start",
    "images": "images:images",
}


def main():
    """Measure one thing; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="own_cost", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("words", nargs="*", help="for suite: options of pytest, behind --")
    parser.add_argument("--variant", default="dm_nfnet_f0")
    parser.add_argument("--image-size", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engine", default="migraphx:ref", help="that compiles (default: migraphx:ref)")
    parser.add_argument("--migraphx", help="where MIGraphX is")
    parser.add_argument("--polygraphy", default=sys.executable, metavar="PYTHON", help="a Python that has Polygraphy")
    options = parser.parse_args()
    module, _, name = WHAT[options.what].partition(":")
    try:
        holds = getattr(importlib.import_module(module), name)(options)
    except NotMeasured as error:
        missing(options.what, error)
        holds = [None]
    return FAILED if False in holds else INCOMPLETE if None in holds else 0


if __name__ == "__main__":
    sys.exit(main())

"""Time and memory of building a model, beside ``torch.onnx.export`` of timm's network. Needs PyTorch, timm, onnxscript.

    python tests/studies/model_build.py --variant dm_nfnet_f0 --image-size 192 --rounds 5

Every build runs in a process of its own, the sides in turn. Time is that of the build or export alone, without imports.
Memory is the peak resident set of the process. Prints the median and the range of the ratios.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from safetensors.numpy import save_file

from fixtures.nfnet.store import built_model
from fixtures.nfnet.weights import SeededWeights
from fixtures.precisions import precision
from fixtures.records import ModelSpec

OURS, SIDES = "ours", ("ours", "dynamo", "torchscript")


def build(variant, size, weights, folder):
    """Build as the suite does, in an empty cache."""
    spec = ModelSpec(variant, None, (size, size), weights=weights.name, weights_path=weights)
    return lambda: built_model(spec, precision("fp32"), folder)


def export(variant, size, weights, folder, *, dynamo):
    """Export timm's network with a dynamic batch."""
    import timm  # noqa: PLC0415 - only this side needs it
    import torch  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    network = timm.create_model(variant)
    network.load_state_dict(load_file(weights))
    images = torch.zeros(2, 3, size, size)
    batch = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)} if dynamo else {"dynamic_axes": {"inputs": {0: "n"}}}
    target = str(folder / "model.onnx")
    names = {"input_names": ["inputs"], "output_names": ["logits"]}
    return lambda: torch.onnx.export(network.eval(), (images,), target, **names, dynamo=dynamo, **batch)


def child(side, variant, size, weights):
    """Build once and print seconds, peak bytes and file bytes."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        work = build(variant, size, weights, place)
        if side != OURS:
            work = export(variant, size, weights, place, dynamo=side == "dynamo")
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
        written = sum(path.stat().st_size for path in place.rglob("*.onnx*"))
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "peak": int(peak.split()[1]) * 1024, "file": written}))


def measure(side, options, weights):
    """Run ``child`` in a process of its own."""
    words = [sys.executable, __file__, "--child", side, "--weights", str(weights)]
    words += ["--variant", options.variant, "--image-size", str(options.image_size)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Measure all sides in turn and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="dm_nfnet_f0")
    parser.add_argument("--image-size", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.variant, options.image_size, options.weights)
        return
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "model.safetensors"
        save_file(dict(SeededWeights(options.variant, 0)), weights)
        rounds = [{side: measure(side, options, weights) for side in SIDES} for _ in range(options.rounds)]
    for side in SIDES:
        times = [row[side]["seconds"] / row[OURS]["seconds"] for row in rounds]
        memory = [row[side]["peak"] / row[side]["file"] for row in rounds]
        print(
            f"{side:<12} time / ours {statistics.median(times):5.1f} ({min(times):.1f} to {max(times):.1f}), ", end=""
        )
        print(f"peak memory / file {statistics.median(memory):4.2f}")


if __name__ == "__main__":
    main()

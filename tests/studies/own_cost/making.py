"""Make one model file in a process of its own and print what that took: ``making.py SIDE VARIANT SIZE WEIGHTS FOLDER``.

Time is that of the work alone, imports aside; for the exports that of ``torch.onnx.export`` alone, with the network
built and its weights loaded. Ours reads the weights meanwhile; which file they are was asked before, as a warm cache
knows it. Memory is the peak of the resident set while that ran (VmHWM, set back before) above what was resident before;
pages of the weights' file that are mapped count. What an earlier round made in the folder is removed before.
"""

import json
import shutil
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from fixtures.resources import Meter


def ours(variant, size, weights, folder):
    """Build as the suite does, with a cache that has no model but knows the weights."""
    from fixtures.nfnet.store import built_model  # noqa: PLC0415  each side imports its own
    from fixtures.nfnet.weights_file import content_hash  # noqa: PLC0415
    from fixtures.precisions import precision  # noqa: PLC0415
    from fixtures.records import ModelSpec  # noqa: PLC0415

    spec = ModelSpec(variant, None, (size, size), weights=weights.name, weights_path=weights)
    content_hash(weights)
    return lambda: built_model(spec, precision("fp32"), folder)


def exported(*, dynamo):
    """A side that exports timm's network with a dynamic batch, by ``torch.export`` or by TorchScript."""

    def prepare(variant, size, weights, folder):
        import timm  # noqa: PLC0415
        import torch  # noqa: PLC0415
        from safetensors.torch import load_file  # noqa: PLC0415

        with torch.device("meta"):
            network = timm.create_model(variant)
        network.load_state_dict(load_file(weights), assign=True)
        network.eval()
        images = torch.zeros(2, 3, size, size)
        batch = (
            {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
            if dynamo
            else {"dynamic_axes": {"inputs": {0: "batch"}, "logits": {0: "batch"}}}
        )

        return lambda: torch.onnx.export(
            network,
            (images,),
            str(folder / "model.onnx"),
            input_names=["inputs"],
            output_names=["logits"],
            dynamo=dynamo,
            **batch,
        )

    return prepare


SIDES = {"ours": ours, "dynamo": exported(dynamo=True), "torchscript": exported(dynamo=False)}


def main(side, variant, size, weights, place):
    """Make it and print the record."""
    warnings.simplefilter("ignore")
    folder = Path(place)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    work = SIDES[side](variant, int(size), Path(weights), folder)
    meter = Meter()
    with meter.stage("compile"):
        work()
    costs = meter.costs()
    peak = costs.host_bytes_peak - costs.host_bytes_before
    size = sum(path.stat().st_size for path in folder.rglob("*.onnx*"))
    print(json.dumps({"seconds": costs.compile_seconds, "peak": peak, "file": size}))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Write timm's tiny classifiers as ONNX files: python tests/studies/timm_exports.py FOLDER

Needs timm, torch and onnxscript. Each ``test_*`` network is written by both exporters of PyTorch, with a fixed and with
a dynamic batch, and seeded weights; where that fails, in timm's form for exports, without fused attention. What cannot
be exported is listed. ``judge_models.py`` judges the folder.
"""

import argparse
from pathlib import Path

import timm
import torch

BATCH, CLASSES = 2, 100
DYNAMIC = {
    "dynamo": {"dynamic_shapes": {"x": {0: torch.export.Dim("batch")}}},
    "torchscript": {"dynamic_axes": {"x": {0: "batch"}, "y": {0: "batch"}}},
}
ERRORS = (RuntimeError, TypeError, ValueError, torch.onnx.OnnxExporterError)


def main(folder):
    """Write the models."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in timm.list_models("test_*"):
        for exporter in DYNAMIC:
            for batch in ("fixed", "dynamic"):
                path = folder / f"{name}-{exporter}-{batch}.onnx"
                reasons = [reason for form in (None, True) if (reason := export(name, path, form))]
                if len(reasons) > 1:
                    print(f"{path.stem}: not exported: {reasons[1]}", flush=True)


def export(name, path, exportable):
    """Write one model if it is not there; return why not, or an empty text."""
    if path.exists():
        return ""
    exporter, batch = path.stem.split("-")[1:]
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=CLASSES, exportable=exportable).eval()
    images = torch.randn(BATCH, *model.default_cfg["input_size"])
    more = {"dynamo": exporter == "dynamo", **(DYNAMIC[exporter] if batch == "dynamic" else {})}
    try:
        torch.onnx.export(model, (images,), str(path), input_names=["x"], output_names=["y"], **more)
    except ERRORS as error:
        path.unlink(missing_ok=True)
        return f"{type(error).__name__}: {str(error.__cause__ or error).splitlines()[0]}"
    return ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    main(parser.parse_args().folder)

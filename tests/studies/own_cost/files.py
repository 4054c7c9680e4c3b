"""The model files that are compared: seeded weights under timm's names, our graph of them, two exports of timm's."""

import statistics
import sys

from paired import ROOT, NotMeasured, child, in_turns, missing, ratios, told

sys.path.insert(0, str(ROOT))

from safetensors.numpy import save_file

from fixtures.cache import cache_folder
from fixtures.nfnet.store import built_model
from fixtures.nfnet.weights import SeededWeights
from fixtures.precisions import precision
from fixtures.records import ModelSpec

OURS, EXPORTS = "ours", ("dynamo", "torchscript")
USUAL = "dynamo"  # what torch.onnx.export does where nobody asks for another; the other is on its way out
TIMES_FASTER, TIMES_THE_FILE = 20, 1.5


def folder(variant, size):
    """Where the files of a variant are."""
    return cache_folder() / "own_cost" / f"{variant}@{size}"


def exports(variant, size):
    """Path of each export that is there. Raises NotMeasured where there is none."""
    place = folder(variant, size)
    found = {side: place / side / "model.onnx" for side in EXPORTS}
    found = {side: path for side, path in found.items() if path.exists()}
    if not found:
        raise NotMeasured(f"there are no exports of {variant} at {size} in {place}: run `own_cost build` first")
    return found


def our_model(variant, size, *, mapped=True):
    """Our model of the same weights, from the suite's cache."""
    weights = weights_file(variant, size)
    spec = ModelSpec(variant, None, (size, size), weights=weights.name, weights_path=weights)
    return built_model(spec, precision("fp32"), cache_folder(), mapped=mapped)


def weights_file(variant, size):
    """Seeded weights under timm's names, written once."""
    path = folder(variant, size) / "model.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(SeededWeights(variant, 0)), path)
    return path


def build(options):
    """Build ours and export timm's, each in processes of their own in turns: time and peak memory."""
    variant, size = options.variant, options.image_size
    weights = weights_file(variant, size)

    def side(name):
        return lambda: child("making.py", name, variant, size, weights, weights.with_name(name))

    sides, holds = {OURS: side(OURS)}, []
    for name in EXPORTS:
        try:
            side(name)()
            sides[name] = side(name)
        except NotMeasured as error:
            holds.append(missing(name, str(error).strip().splitlines()[-1]))
    found = in_turns(sides, options.rounds)
    seconds = {name: [row["seconds"] for row in rows] for name, rows in found.items()}
    for name in found:
        what, pairs = f"{variant}@{size}: export ({name}) / building, time", ratios(seconds[name], seconds[OURS])
        if name == USUAL:
            holds.append(told(what, pairs, TIMES_FASTER, least=True))
        elif name != OURS:
            print(f"{f'  {what}':<60} {statistics.median(pairs):6.3g}")
    for name, rows in found.items():
        memory = [row["peak"] / row["file"] for row in rows]
        if name == OURS:
            holds.append(told("peak memory of building / size of the file", memory, TIMES_THE_FILE, least=False))
        else:
            print(f"{f'  the same of the export ({name})':<60} {max(memory):6.3g}")
    return holds

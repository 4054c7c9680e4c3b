"""Print the floors of a model beside the errors of the engines that are here; not a test.

python tests/harness/floors.py                      # the models of the README's table
python tests/harness/floors.py eca_nfnet_l0@64      # others
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from fixtures.cache import cache_folder
from fixtures.engines.registry import KNOWN, engine_status
from fixtures.pipeline import Laboratory
from fixtures.precisions import BY_NAME, precision
from fixtures.records import Case, ModelSpec
from fixtures.truth.floors import CUT, NEAREST, arithmetic, relative_errors

MODELS = ("test_nfnet@64", "dm_nfnet_f0@192")
SLOWEST = 64  # pixels up to which the slow ways to compute are taken


def show(laboratory: Laboratory, spec: ModelSpec, slow: bool) -> None:
    """One model: floors, then engines."""
    images = laboratory.images(spec, 2)
    truth = laboratory.truth(spec)
    for name, row in BY_NAME.items():
        for kind in (NEAREST, "cut constants", *([CUT] if slow else [])):
            floor = truth.floor(images, arithmetic(name, kind)) / row.unit_roundoff
            print(f"{spec.label:<20} floor   {name:<5} {kind:<22} {floor:8.2f} u", flush=True)
    for engine in KNOWN:
        if not engine_status(engine).usable or (engine == "migraphx:ref" and not slow):
            continue
        for name in BY_NAME:
            case = Case(engine, spec, name, 2)
            if not laboratory.unsupported(case):
                error = relative_errors(laboratory.run(case, images), truth.outputs(images)).max()
                units = error / precision(name).unit_roundoff
                print(f"{spec.label:<20} engine  {name:<5} {engine:<22} {units:8.2f} u", flush=True)


def main(models: tuple[str, ...]) -> None:
    """All models."""
    with Laboratory(cache_folder()) as laboratory:
        for text in models:
            variant, _, pixels = text.partition("@")
            size = int(pixels)
            show(laboratory, ModelSpec(variant, None, (size, size)), size <= SLOWEST)


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or MODELS)

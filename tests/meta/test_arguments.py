"""Values of options: what they become, and the message for illegal ones."""

import argparse
from pathlib import Path

import pytest

from fixtures import arguments
from fixtures.errors import UsageError
from fixtures.nfnet.variants import BY_NAME as VARIANTS
from fixtures.precisions import BY_NAME as PRECISIONS
from fixtures.settings import Settings
from fixtures.weight_sources import CHOICES

SEED, BATCH = arguments.integer(0), arguments.integer(1)


@pytest.mark.parametrize(
    ("parser", "text", "expected"),
    [
        (arguments.image_size, "64", (64, 64)),
        (arguments.image_size, "97x131", (97, 131)),
        (arguments.image_size, "1X2", (1, 2)),
        (SEED, "0", 0),
        (BATCH, "20", 20),
        (arguments.positive, "0.5", 0.5),
        (arguments.one_variant, "dm_nfnet_f0", "dm_nfnet_f0"),
        (arguments.one_precision, "fp16", "fp16"),
        (arguments.path, "some/model.onnx", Path("some/model.onnx")),
        (arguments.weights, "trained", "trained"),
        (arguments.weights, "net.safetensors", Path("net.safetensors")),
        (arguments.model_source, "net.onnx", Path("net.onnx")),
        (arguments.model_source, "https://example.com/net.onnx", "https://example.com/net.onnx"),
    ],
)
def test_legal_values_are_parsed(parser, text, expected):
    """Numbers become numbers, sizes (height, width); names stay as they are."""
    assert parser(text) == expected


# Parser, faulty texts, and what the message contains besides the faulty word: the legal values.
ILLEGAL = [
    (arguments.image_size, ("0", "64x0", "-64"), "1 or more"),
    (arguments.image_size, ("", "64,96", "64x", "x64", "64*64"), "whole number"),
    (arguments.image_size, ("1x2x3",), "HEIGHTxWIDTH"),
    (SEED, ("-1",), "0 or more"),
    (BATCH, ("0",), "1 or more"),
    (BATCH, ("two", "", "1.5", "1e2", "1;2", "all"), "whole number"),
    (arguments.positive, ("0", "-1", "nan", "inf", "x", ""), "above zero"),
    (arguments.weights, ("pretarined",), ", ".join(CHOICES)),
    (arguments.one_variant, ("resnet50", "", "ALL", "all", "test_nfnet,nfnet_l0"), ", ".join(VARIANTS)),
    (arguments.one_precision, ("fp64", "all", "fp32,fp16"), ", ".join(PRECISIONS)),
    (arguments.path, ("~no-such-user/m.onnx",), "home"),
]


@pytest.mark.parametrize(
    ("parser", "text", "legal"), [(parser, text, legal) for parser, texts, legal in ILLEGAL for text in texts]
)
def test_an_illegal_value_is_an_error_that_names_legal_ones(parser, text, legal, capsys):
    command = argparse.ArgumentParser(prog="command")
    command.add_argument("--value", type=parser)
    with pytest.raises(SystemExit):
        command.parse_args([f"--value={text}"])
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("command: error: argument --value: ")
    assert legal in message


def test_a_home_folder_is_expanded(monkeypatch, tmp_path):
    """Not every shell expands ``--model=~/x``."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert arguments.path("~/model.onnx") == tmp_path / "model.onnx"


PLAIN = {"migraphx": None, "model": None, "weights": "auto", "seed": 0, "variant": (), "calibration": None}


@pytest.mark.parametrize(
    "options",
    [
        {"model": "m", "variant": ("f0",)},
        {"model": "m", "weights": "seeded"},
        {"model": "m", "seed": 1},
        {"model": "m", "opset": 20},
        {"weights": "trained", "seed": 1},
        {"weights": Path("w"), "seed": 1},
    ],
    ids=str,
)
def test_contradicting_options_are_a_usage_error(options):
    """--model names a file; other options say how a model is built."""
    with pytest.raises(UsageError):
        Settings(**{**PLAIN, **options}).check()


@pytest.mark.parametrize("options", [{}, {"model": "m"}, {"seed": 1, "opset": 20}, {"weights": "seeded", "seed": 1}])
def test_compatible_options_are_accepted(options):
    Settings(**{**PLAIN, **options}).check()

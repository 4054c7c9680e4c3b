"""Values of options: what is legal, what it becomes, and what is said of the rest."""

import argparse
from pathlib import Path

import pytest

from fixtures import arguments
from fixtures.nfnet.variants import BY_NAME as VARIANTS
from fixtures.precisions import BY_NAME as PRECISIONS
from fixtures.weight_sources import CHOICES


@pytest.mark.parametrize(
    ("parser", "text", "expected"),
    [
        (arguments.batches, "1", (1,)),
        (arguments.batches, "1,8,64", (1, 8, 64)),
        (arguments.batches, "8, 1", (8, 1)),
        (arguments.image_sizes, "192", ((192, 192),)),
        (arguments.image_sizes, "97x131", ((97, 131),)),
        (arguments.image_sizes, "97X131", ((97, 131),)),
        (arguments.image_sizes, "192,97x131,64", ((192, 192), (97, 131), (64, 64))),
        (arguments.image_size, "64", (64, 64)),
        (arguments.image_size, "1x2", (1, 2)),
        (arguments.whole(0, "seed"), "0", 0),
        (arguments.whole(1, "opset"), "20", 20),
        (arguments.variants, "all", "all"),
        (arguments.variants, "test_nfnet", "test_nfnet"),
        (arguments.variants, "test_nfnet,dm_nfnet_f0", "test_nfnet,dm_nfnet_f0"),
        (arguments.variants, "test_nfnet,all", "test_nfnet,all"),
        (arguments.precisions, "all", "all"),
        (arguments.precisions, "fp32,bf16", "fp32,bf16"),
        (arguments.one_variant, "dm_nfnet_f0", "dm_nfnet_f0"),
        (arguments.one_precision, "fp16", "fp16"),
        (arguments.path, "some/model.onnx", Path("some/model.onnx")),
        (arguments.weights, "trained", "trained"),
        (arguments.weights, "net.safetensors", Path("net.safetensors")),
    ],
)
def test_legal_values_are_read(parser, text, expected):
    """Numbers become numbers, sizes (height, width), names stay as they are."""
    assert parser(text) == expected


BATCH, SIZE = "batch {!r} is not a whole number", "image size {!r} is not a whole number"
ILLEGAL = [
    (arguments.batches, "0", "batch 0 is too small: use 1 or more"),
    (arguments.batches, "-1", "batch -1 is too small: use 1 or more"),
    (arguments.batches, "1,0", "batch 0 is too small: use 1 or more"),
    (arguments.batches, "x", BATCH.format("x")),
    (arguments.batches, "", BATCH.format("")),
    (arguments.batches, "1,,2", BATCH.format("")),
    (arguments.batches, "1,2,", BATCH.format("")),
    (arguments.batches, "1.5", BATCH.format("1.5")),
    (arguments.batches, "1e2", BATCH.format("1e2")),
    (arguments.batches, "1;2", BATCH.format("1;2")),
    (arguments.batches, "all", BATCH.format("all")),
    (arguments.weights, "pretarined", f"weights 'pretarined': no such file, and none of {', '.join(CHOICES)}"),
    (arguments.image_sizes, "0", "image size 0 is too small: use 1 or more"),
    (arguments.image_sizes, "64x0", "image size 0 is too small: use 1 or more"),
    (arguments.image_sizes, "-64", "image size -64 is too small: use 1 or more"),
    (arguments.image_sizes, "", SIZE.format("")),
    (arguments.image_sizes, "64,", SIZE.format("")),
    (arguments.image_sizes, "64x", SIZE.format("")),
    (arguments.image_sizes, "x64", SIZE.format("")),
    (arguments.image_sizes, "64*64", SIZE.format("64*64")),
    (arguments.image_sizes, "1x2x3", "image size '1x2x3' is neither N nor HEIGHTxWIDTH"),
    (arguments.image_size, "64,96", SIZE.format("64,96")),
    (arguments.whole(0, "seed"), "-1", "seed -1 is too small: use 0 or more"),
    (arguments.whole(1, "opset"), "0", "opset 0 is too small: use 1 or more"),
    (arguments.whole(0, "threads"), "two", "threads 'two' is not a whole number"),
    (arguments.whole(0, "threads"), "", "threads '' is not a whole number"),
]
UNKNOWN_VARIANT = f"unknown variant {{!r}} -> choose from {', '.join(VARIANTS)}"
UNKNOWN_PRECISION = f"unknown precision {{!r}} -> choose from {', '.join(PRECISIONS)}"
ILLEGAL += [
    (arguments.variants, "resnet50", UNKNOWN_VARIANT.format("resnet50")),
    (arguments.variants, "test_nfnet,", UNKNOWN_VARIANT.format("")),
    (arguments.variants, "", UNKNOWN_VARIANT.format("")),
    (arguments.variants, "all,resnet50", UNKNOWN_VARIANT.format("resnet50")),
    (arguments.variants, "ALL", UNKNOWN_VARIANT.format("ALL")),
    (arguments.one_variant, "all", UNKNOWN_VARIANT.format("all")),
    (arguments.one_variant, "test_nfnet,nfnet_l0", UNKNOWN_VARIANT.format("test_nfnet,nfnet_l0")),
    (arguments.precisions, "fp64", UNKNOWN_PRECISION.format("fp64")),
    (arguments.precisions, "fp32,,fp16", UNKNOWN_PRECISION.format("")),
    (arguments.one_precision, "all", UNKNOWN_PRECISION.format("all")),
    (arguments.one_precision, "fp32,fp16", UNKNOWN_PRECISION.format("fp32,fp16")),
]


@pytest.mark.parametrize(("parser", "text", "message"), ILLEGAL)
def test_illegal_values_are_refused_with_what_is_legal(parser, text, message):
    """One line that shows the faulty word and what to write instead."""
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        parser(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(("parser", "text", "message"), ILLEGAL)
def test_argparse_shows_the_message(parser, text, message, capsys):
    """The parsers raise what argparse, and so pytest, prints as it is."""
    shell = argparse.ArgumentParser(prog="shell")
    shell.add_argument("--value", type=parser)
    with pytest.raises(SystemExit):
        shell.parse_args([f"--value={text}"])
    assert capsys.readouterr().err.endswith(f"shell: error: argument --value: {message}\n")


def test_a_home_folder_is_expanded(monkeypatch, tmp_path):
    """``--model=~/x`` is not expanded by every shell."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert arguments.path("~/model.onnx") == tmp_path / "model.onnx"


def test_the_home_of_nobody_is_refused():
    """A misspelt user's name is a wrong value, not a crash."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"'~nobody-of-that-name/m\.onnx': .*home"):
        arguments.path("~nobody-of-that-name/m.onnx")

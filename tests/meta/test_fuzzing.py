"""Whatever is in a file or behind an option, the suite's parsers raise their own error of one line, or read it."""

import argparse
import contextlib
from dataclasses import fields

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures import arguments
from fixtures.accuracy.imagenet import read_labels
from fixtures.errors import ImageError, ModelError, UsageError
from fixtures.onnx_file import inspect
from fixtures.verdict.known_failures import STAGES, KnownFailure, read, to_toml
from tests.meta.bad_files import healthy

brief = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
MODEL = healthy().SerializeToString()
PARSERS = (
    *(arguments.integer(1), arguments.positive, arguments.image_size, arguments.path),
    *(arguments.weights, arguments.model_source, arguments.one_variant, arguments.one_precision),
)
text = st.text(st.characters(codec="utf-8"), max_size=40)
rows = st.builds(
    KnownFailure,
    stage=st.sampled_from(STAGES),
    batch=st.none() | st.integers(1, 10**9),
    **{field.name: text.filter(bool) for field in fields(KnownFailure) if field.name not in {"stage", "batch"}},
)


replaced = st.builds(
    lambda at, new: MODEL[:at] + new + MODEL[at + len(new) :], st.integers(0, len(MODEL)), st.binary(max_size=9)
)


@brief
@given(st.binary(max_size=200) | replaced)
def test_any_bytes_are_a_model_or_an_error(tmp_path, content):
    """Random bytes, and a model with some bytes replaced."""
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with contextlib.suppress(ModelError):
        inspect(path)


@brief
@given(st.text(max_size=20) | st.from_regex(r"-?[0-9x.e]{1,9}", fullmatch=True))
@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__qualname__)
def test_any_text_is_an_option_or_an_error(parse, words):
    """The parsers of argparse raise its error only."""
    with contextlib.suppress(argparse.ArgumentTypeError):
        parse(words)


@brief
@given(st.binary(max_size=100) | st.builds(lambda body: b"[[known_failure]]\n" + body.encode(), text))
def test_any_bytes_are_known_failures_or_an_error(tmp_path, content):
    """TOML or not."""
    path = tmp_path / "known.toml"
    path.write_bytes(content)
    with contextlib.suppress(UsageError):
        read(path)


@brief
@given(st.lists(rows, max_size=3))
def test_known_failures_survive_a_file(tmp_path, known):
    """Any text in any field."""
    path = tmp_path / "known.toml"
    path.write_text(to_toml(known), encoding="utf-8", newline="")
    assert read(path) == tuple(known)


@brief
@given(st.binary(max_size=100) | st.builds(str.encode, text))
def test_any_list_of_labels_is_read_or_an_error(tmp_path, content):
    """Of ImageNet's validation images."""
    (tmp_path / "0.JPEG").touch()
    (tmp_path / "val.txt").write_bytes(content)
    with contextlib.suppress(ImageError):
        read_labels.__wrapped__(tmp_path)

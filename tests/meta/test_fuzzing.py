"""Whatever is in a file or behind an option, the suite's parsers raise their own error of one line, or read it."""

import argparse
import contextlib
from dataclasses import fields

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fixtures import arguments
from fixtures.accuracy.imagenet import read_labels
from fixtures.errors import ImageError, UsageError
from fixtures.verdict.known_failures import STAGES, KnownFailure, read, to_toml

brief = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
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


@brief
@given(st.text(max_size=20) | st.from_regex(r"-?[0-9x.e]{1,9}", fullmatch=True))
@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__qualname__)
def test_any_text_is_an_option_or_an_error(parse, words):
    with contextlib.suppress(argparse.ArgumentTypeError):
        parse(words)


@brief
@given(st.binary(max_size=100) | st.builds(lambda body: b"[[known_failure]]\n" + body.encode(), text))
def test_any_bytes_are_known_failures_or_an_error(tmp_path, content):
    path = tmp_path / "known.toml"
    path.write_bytes(content)
    with contextlib.suppress(UsageError):
        read(path)


@brief
@given(st.lists(rows, max_size=3))
def test_known_failures_survive_a_file(tmp_path, known):
    path = tmp_path / "known.toml"
    path.write_text(to_toml(known), encoding="utf-8", newline="")
    assert read(path) == tuple(known)


@brief
@given(st.binary(max_size=100) | st.builds(str.encode, text))
@example(b",")
def test_any_list_of_labels_is_read_or_an_error(tmp_path, content):
    (tmp_path / "0.JPEG").touch()
    (tmp_path / "val.txt").write_bytes(content)
    with contextlib.suppress(ImageError):
        read_labels.__wrapped__(tmp_path)

"""Hashes of large files are remembered from process to process, and never believed of a file that has changed."""

import os

import pytest

from fixtures import cache
from fixtures.cache import content_sha256, file_sha256


@pytest.fixture
def settled(tmp_path, monkeypatch):
    """A file that is old enough to be noted, and the folder of notes."""
    monkeypatch.setattr(cache, "WRITTEN_SECONDS", -1.0)
    path = tmp_path / "model"
    path.write_bytes(b"weights")
    return path, tmp_path / "cache"


def anew(path, notes):
    """As another process would ask."""
    cache._known_sha256.cache_clear()
    return content_sha256(path, notes)


def the_note(notes):
    """The only one."""
    (note,) = (notes / "digests").iterdir()
    return note


def test_the_second_process_reads_the_note(settled):
    """Shown by a note that says something else."""
    path, notes = settled
    assert anew(path, notes) == file_sha256(path)
    state = the_note(notes).read_text().split("\n")[0]
    the_note(notes).write_text(f"{state}\nnoted")
    assert anew(path, notes) == "noted"


def test_a_changed_file_is_read_again(settled):
    """Though its size and time are as they were."""
    path, notes = settled
    before, facts = anew(path, notes), path.stat()
    path.write_bytes(b"WEIGHTS")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert anew(path, notes) == file_sha256(path) != before


@pytest.mark.parametrize("content", ["", "one line", "three\nlines\nof it", "other state\ndigest"])
def test_a_damaged_note_is_made_again(settled, content):
    """It is only a copy."""
    path, notes = settled
    anew(path, notes)
    the_note(notes).write_text(content)
    assert anew(path, notes) == file_sha256(path)
    assert the_note(notes).read_text().endswith(file_sha256(path))


@pytest.mark.parametrize(("folder", "own"), [(".", False), ("cache/models", True)])
def test_a_file_that_has_just_changed_is_not_noted(settled, monkeypatch, folder, own):
    """It may change again within one step of the clock; one of somebody else's through a map, for longer."""
    path, notes = settled
    monkeypatch.setattr(cache, "SETTLED_SECONDS", 3600.0 if own else -1.0)
    monkeypatch.setattr(cache, "WRITTEN_SECONDS", -1.0 if own else 3600.0)
    place = path.parent / folder / "just written"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"weights")
    assert anew(place, notes) == file_sha256(place)
    assert not (notes / "digests").exists()


def test_notes_that_cannot_be_written_cost_time_only(settled):
    """A file is where the folder should be."""
    path, notes = settled
    notes.touch()
    assert anew(path, notes) == file_sha256(path)

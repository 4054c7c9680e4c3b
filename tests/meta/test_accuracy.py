"""Statistics, predictions, journal and runner of the accuracy measurement."""

from itertools import pairwise

import numpy as np
import pytest
from filelock import FileLock, Timeout

from fixtures.accuracy.labelled_images import Digits, subset
from fixtures.accuracy.predictions import McNemar, PairedPredictions, Proportion, min_flip_errors, rank_classes
from fixtures.accuracy.runner import append_journal, predict, read_journal
from fixtures.errors import CacheError, RunError, UsageError


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0000),  # not in the table: 1 - z^2 / (n + z^2)
    ],
)
def test_interval_is_wilsons(count, total, low, high):
    """The examples in table I of Newcombe (1998), method 3."""
    assert Proportion(count, total).interval() == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("lost", "won", "p_worse"), [(0, 0, 1.0), (1, 0, 0.5), (5, 0, 2**-5), (0, 5, 1.0), (3, 1, 5 / 16)]
)
def test_mcnemar_matches_exact_binomial(lost, won, p_worse):
    """Computed by hand from fair coins."""
    test, mirrored = McNemar(lost, won), McNemar(won, lost)
    assert test.p_worse == pytest.approx(p_worse)
    assert test.p_different == pytest.approx(min(1.0, 2 * min(test.p_worse, mirrored.p_worse)))


@pytest.mark.parametrize(("count", "total", "below"), [(9, 10, False), (90, 100, True), (100, 100, False)])
def test_proportion_is_below_only_if_significantly(count, total, below):
    """Nine of ten where 99 % are expected may be chance; ninety of a hundred is not."""
    assert Proportion(count, total).is_below(0.99) == below


def test_classes_are_ranked_and_nan_gives_no_prediction():
    """The most likely first, of equal classes the lower index; likewise +Inf."""
    logits = np.array([[1, 3, 3, 2, 0, -1], [0, np.nan, 9, 0, 0, 0], [0, np.inf, 0, 0, 0, 0]], np.float32)
    assert rank_classes(logits) == [(1, 2, 3, 0, 4), (), ()]


def test_paired_predictions_count_only_images_that_both_have():
    """Counts by hand."""
    labels = {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    actual = {"a": (1, 0), "b": (0, 2), "c": (0, 1), "d": (4, 0)}
    expected = {"a": (0, 1), "b": (2, 0), "c": (1, 0), "d": (4, 0), "e": (5, 0)}
    pairs = PairedPredictions.join(labels, actual=actual, expected=expected)
    assert list(pairs.pairs) == ["a", "b", "c", "d"]
    assert (pairs.accuracy(), pairs.accuracy(5)) == (Proportion(2, 4), Proportion(3, 4))
    assert pairs.flips == {name: actual[name] for name in "abc"}
    assert pairs.mcnemar == McNemar(lost=1, won=1)


def test_min_flip_error_is_the_smallest():
    """An error of that size makes both classes equal; a smaller one in any direction does not."""
    logits = np.array([[3.0, 1.0, 0.0], [3.0, 1.0, 0.0], [3.0, 1.0, 0.0]])
    same, flip, missing = min_flip_errors(logits, [(0,), (1,), ()])
    assert (same, missing) == (0, np.inf)
    moved = logits[1] + flip * np.linalg.norm(logits[1]) * np.array([-1, 1, 0]) / np.sqrt(2)
    assert moved[0] == pytest.approx(moved[1])
    directions = np.random.default_rng(0).normal(size=(1000, 3))
    directions *= 0.999 * flip * np.linalg.norm(logits[1]) / np.linalg.norm(directions, axis=1, keepdims=True)
    assert (np.argmax(logits[1] + directions, axis=1) == 0).all()


def test_subset_is_fixed_ordered_and_nested():
    """The same images every time; a larger subset contains the smaller one."""
    subsets = [subset(range(100), count) for count in (1, 5, 20, 100, 200, None)]
    assert subsets[1] == subset(range(100), 5)
    assert [len(chosen) for chosen in subsets] == [1, 5, 20, 100, 100, 100]
    assert all(chosen == sorted(chosen) for chosen in subsets)
    assert all(set(small) <= set(large) for small, large in pairwise(subsets))


class Engine:
    """Classifies each image by its mean grey, records its batches, and stops after some of them."""

    def __init__(self, stop_after=None, classes=10):
        self.batches, self.stop_after, self.classes = [], stop_after, classes

    def __call__(self, images):
        """Return the outputs."""
        if self.stop_after is not None and len(self.batches) >= self.stop_after:
            raise KeyboardInterrupt
        self.batches.append(len(images))
        logits = np.zeros((len(images), self.classes))
        logits[range(len(images)), (images.mean(axis=(1, 2, 3)) * 50).astype(int) % 10] = 1
        return {"logits": logits}


def ignore_progress(_count):
    """Do nothing."""


def test_interrupted_run_resumes_from_its_journal(tmp_path):
    """Only missing images run, in full batches, and the predictions are those of an uninterrupted run."""
    journal, images, progress = tmp_path / "journal.jsonl", Digits(11), []
    complete = predict(images, Engine(), 4, None, ignore_progress)
    with pytest.raises(KeyboardInterrupt):
        predict(images, Engine(stop_after=1), 4, journal, ignore_progress)
    resumed = Engine()
    assert predict(images, resumed, 4, journal, progress.append) == complete
    assert resumed.batches == [4, 4]
    assert progress == [4, 4, 3]
    unused = Engine()
    assert predict(images, unused, 4, journal, ignore_progress) == complete
    assert unused.batches == []
    assert list(complete) == list(images.labels)


@pytest.mark.parametrize(
    ("run", "error"),
    [
        (Engine(classes=11), UsageError),
        (lambda images: {"logits": np.zeros((len(images) + 1, 10))}, RunError),
        (lambda images: {"logits": np.zeros((len(images), 10, 2))}, RunError),
    ],
)
def test_logits_of_another_shape_are_refused(run, error):
    with pytest.raises(error):
        predict(Digits(3), run, 2, None, ignore_progress)


@pytest.mark.parametrize("line", [b'{"image": "b", "cla', b"\xff\n", b"[]\n", b"{}\n"])
def test_incomplete_journal_line_is_skipped(tmp_path, line):
    """That of a killed process; the lines before and after it are used."""
    path = tmp_path / "journal.jsonl"
    append_journal(path, {"a": (3, 1)})
    with path.open("ab") as file:
        file.write(b"\n" + line)
    assert read_journal(path) == {"a": (3, 1)}
    append_journal(path, {"b": (2,)})
    assert read_journal(path) == {"a": (3, 1), "b": (2,)}


def test_journal_that_cannot_be_read_or_written_is_an_error(tmp_path):
    for use in (read_journal, lambda path: append_journal(path, {"a": (1,)})):
        with pytest.raises(CacheError) as caught:
            use(tmp_path)
        assert caught.value.where == str(tmp_path)


def test_journal_is_locked_while_the_engine_runs(tmp_path):
    """Two processes do not mix their predictions."""
    path, engine = tmp_path / "journal.jsonl", Engine()

    def run(images):
        with pytest.raises(Timeout):
            FileLock(f"{path}.lock", timeout=0).acquire()
        return engine(images)

    assert len(predict(Digits(3), run, 2, path, ignore_progress)) == 3
    assert engine.batches == [2, 2]
    FileLock(f"{path}.lock", timeout=0).acquire()

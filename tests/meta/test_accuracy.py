"""Statistics, answers, journal and runner of the accuracy room."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from filelock import FileLock, Timeout
from scipy.stats import binomtest

from fixtures.accuracy import digits
from fixtures.accuracy.answers import Comparison, needed_errors, ranked
from fixtures.accuracy.journal import File, opened
from fixtures.accuracy.labelled_images import Digits, chosen
from fixtures.accuracy.runner import answer
from fixtures.accuracy.statistics import McNemar, Share, at_most, may_be_below
from fixtures.errors import CacheError, UsageError


@pytest.mark.parametrize(("count", "total"), [(0, 7), (7, 7), (3, 7), (359, 360), (41734, 50000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_intervals_are_wilsons(count, total, confidence):
    """The same as SciPy's."""
    expected = binomtest(count, total).proportion_ci(confidence, method="wilson")
    assert Share(count, total).interval(confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("lost", "won"), [(0, 1), (1, 0), (4, 4), (3, 11), (200, 150)])
def test_tails_are_scipys(lost, won):
    """Of one side and of two, and against a stated chance."""
    found = McNemar(lost, won)
    for value, side in ((found.worse, "greater"), (found.different, "two-sided")):
        assert value == pytest.approx(binomtest(lost, lost + won, alternative=side).pvalue, rel=1e-12)
    chance = binomtest(won, lost + won, 0.7, alternative="less").pvalue
    assert at_most(won, lost + won, 0.7) == pytest.approx(chance, rel=1e-12)


def test_nothing_says_nothing():
    """No images: the interval is everything, the share is no number."""
    assert Share(0, 0).interval() == (0, 1)
    assert math.isnan(Share(0, 0).value)
    assert not may_be_below(Share(0, 0), 0.9)


@pytest.mark.parametrize(
    ("lost", "won", "worse"), [(0, 0, 1.0), (1, 0, 0.5), (5, 0, 2**-5), (0, 5, 1.0), (3, 1, 5 / 16)]
)
def test_mcnemar_counts_coins(lost, won, worse):
    """The chance of so many heads, by hand."""
    test = McNemar(lost, won)
    assert test.worse == pytest.approx(worse)
    assert test.different == pytest.approx(min(1.0, 2 * min(worse, McNemar(won, lost).worse)))


def test_a_stated_accuracy_is_missed_only_beyond_luck():
    """Nine of ten where 99 % were stated may be luck; ninety of a hundred is not."""
    assert not may_be_below(Share(9, 10), 0.99)
    assert may_be_below(Share(90, 100), 0.99)
    assert not may_be_below(Share(100, 100), 0.99)


def test_answers_are_ranked_and_nan_is_no_answer():
    """The likeliest first, of equals the lower class; an image with NaN or Inf has none."""
    logits = np.array([[1, 3, 3, 2, 0, -1], [0, np.nan, 9, 0, 0, 0], [0, np.inf, 0, 0, 0, 0]], np.float32)
    assert ranked(logits) == [(1, 2, 3, 0, 4), (), ()]


def test_two_engines_side_by_side():
    """Counts by hand; an image that one of the two did not answer counts for neither."""
    labels = {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    actual = {"a": (1, 0), "b": (0, 2), "c": (0, 1), "d": (4, 0)}
    expected = {"a": (0, 1), "b": (2, 0), "c": (1, 0), "d": (4, 0), "e": (5, 0)}
    found = Comparison.of(labels, actual=actual, expected=expected)
    assert found.names == ("a", "b", "c", "d")
    assert (found.top1, found.top5, found.reference_top1) == (Share(2, 4), Share(3, 4), Share(2, 4))
    assert found.differing == [0, 1, 2]
    assert found.agreement == Share(1, 4)
    assert found.mcnemar == McNemar(lost=1, won=1)


def test_the_needed_error_is_the_least():
    """An error of that size can make both classes equal, a smaller one in any direction cannot."""
    logits = np.array([[3.0, 1.0, 0.0], [3.0, 1.0, 0.0], [3.0, 1.0, 0.0]])
    right, wrong, missing = needed_errors(logits, [(0,), (1,), ()])
    assert (right, missing) == (0, np.inf)
    step = wrong * np.linalg.norm(logits[1]) * np.array([-1, 1, 0]) / np.sqrt(2)
    moved = logits[1] + step
    assert moved[0] == pytest.approx(moved[1])
    directions = np.random.default_rng(0).normal(size=(1000, 3))
    directions *= 0.999 * wrong * np.linalg.norm(logits[1]) / np.linalg.norm(directions, axis=1, keepdims=True)
    assert (np.argmax(logits[1] + directions, axis=1) == 0).all()


def test_a_choice_is_fixed_ordered_and_nested():
    """The same images every time; more images are those and others."""
    choices = [chosen(range(100), count) for count in (1, 5, 20, 100, 200)]
    assert choices == [chosen(range(100), count) for count in (1, 5, 20, 100, 200)]
    assert [len(choice) for choice in choices] == [1, 5, 20, 100, 100]
    assert all(choice == sorted(choice) for choice in choices)
    assert all(set(small) <= set(large) for small, large in pairwise(choices))
    with pytest.raises(UsageError, match="a choice of 0 images -> ask for at least 1"):
        chosen(range(3), 0)


class Engine:
    """Answers each image with its mean grey, and remembers what it was asked; stops when it is told to."""

    def __init__(self, stop_after=None):
        self.asked, self.stop_after = [], stop_after

    def __call__(self, images):
        """Logits of ten classes."""
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked.append(len(images))
        logits = np.zeros((len(images), 10))
        logits[range(len(images)), (images.mean(axis=(1, 2, 3)) * 50).astype(int) % 10] = 1
        return logits


def test_a_measurement_goes_on_where_it_was_stopped(tmp_path):
    """Only what is missing is asked, full batches always, and the answers are those of one go."""
    journal, pictures, told = tmp_path / "answers.jsonl", Digits(11), []
    whole = answer(pictures, Engine(), 4, None, lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        answer(pictures, Engine(stop_after=1), 4, journal, lambda _: None)
    engine = Engine()
    assert answer(pictures, engine, 4, journal, told.append) == whole
    assert engine.asked == [4, 4]
    assert told == [4, 4, 3]
    again = Engine()
    assert answer(pictures, again, 4, journal, told.append) == whole
    assert again.asked == []
    assert list(whole) == list(pictures.labels)


@pytest.mark.parametrize(
    "torn", [b'{"image": "b", "ans', b'{"image": "b", "answers": [1]}', b"\xff\n", b"[]\n", b"{}\n"]
)
def test_a_torn_line_is_cut_off(tmp_path, torn):
    """What a killed process left half written is asked again; what stands before it is kept."""
    path = tmp_path / "answers.jsonl"
    good = json.dumps({"image": "a", "answers": [3, 1]}).encode() + b"\n"
    path.write_bytes(good + torn)
    journal = File(path)
    assert journal.answers == {"a": (3, 1)}
    journal.add({"b": (2,)})
    assert File(path).answers == {"a": (3, 1), "b": (2,)}
    assert path.read_bytes().startswith(good)


def test_a_journal_that_cannot_be_used_is_named(tmp_path):
    """Reading and writing."""
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(CacheError, match=r"folder\.jsonl: answers cannot be read: Is a directory -> remove the file"):
        File(tmp_path / "folder.jsonl")
    journal = File(tmp_path / "away" / "answers.jsonl")
    with pytest.raises(CacheError, match="answers cannot be kept: No such file or directory -> free space"):
        journal.add({"a": (1,)})


def test_two_processes_do_not_mix_their_answers(tmp_path):
    """The journal is held while it is open."""
    path = tmp_path / "answers.jsonl"
    with opened(path) as journal:
        journal.add({"a": (1,)})
        with pytest.raises(Timeout):
            FileLock(f"{path}.lock", timeout=0).acquire()
    with opened(path) as journal:
        assert journal.answers == {"a": (1,)}


def test_digits_are_asked_by_number():
    """All of them, in order, as the network takes them."""
    pictures = Digits()
    assert len(pictures.labels) == 352
    (names, images), *_ = pictures.batches(["5", "3"], 8)
    assert names == ["5", "3"]
    np.testing.assert_array_equal(images, digits.as_input(digits.held_out()[0][[5, 3]]))

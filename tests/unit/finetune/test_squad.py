"""SQuAD's two scorers: cases written from their rules, figures of the official script, and a search over all thresholds."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.errors import DataIntegrityError
from ptm_dist.finetune.metrics import score
from ptm_dist.finetune.metrics.squad import exact, f1, normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Broncos", "broncos"),
        ("  a  B\tc\n", "b c"),
        ("U.S.A.", "usa"),
        ("the-end", "theend"),  # punctuation goes first, so that no article is left
        ("an apple a day, the end", "apple day end"),
        ("theatre Anna a", "theatre anna"),
        ("It's $1,000!", "its 1000"),
        ("“Café”", "“café”"),  # only ASCII punctuation
        ("A", ""),
        ("", ""),
    ],
)
def test_texts_are_normalised_by_the_rule(text, expected):
    assert normalise(text) == expected


@given(st.text())
def test_normalising_twice_changes_nothing_but_new_articles(text):
    once = normalise(text)
    assert once == " ".join(once.split())
    assert not {"a", "an", "the"} & set(once.split())


@pytest.mark.parametrize(
    ("golds", "text", "em", "overlap"),
    [
        (["Denver Broncos"], "the Denver Broncos!", 1, 1),
        (["Denver Broncos"], "Broncos", 0, 2 / 3),
        (["in the year 1066", "1066"], "year 1066", 0, 2 * (2 / 2) * (2 / 3) / (2 / 2 + 2 / 3)),
        (["to be or not to be"], "be be be", 0, 2 * (2 / 3) * (2 / 6) / (2 / 3 + 2 / 6)),  # a word counts as often as both have it
        (["x"], "y", 0, 0),
        (["x"], "", 0, 0),
        (["x"], None, 0, 0),
        ([""], "", 1, 1),
        ([""], "the", 1, 1),
        ([""], "x", 0, 0),
    ],
)
def test_exact_match_and_f1_by_hand(golds, text, em, overlap):
    assert exact(golds, text) == em
    assert f1(golds, text) == pytest.approx(overlap, abs=1e-12)


def test_a_question_without_a_prediction_counts_nothing():
    assert score("squad", [["x"], ["y"]], ["x", None]) == {"exact": 50.0, "f1": 50.0}


def test_answers_that_are_right_reach_100():
    assert score("squad", [["x y"], ["a", "b"]], ["X, y", "b"]) == {"exact": 100.0, "f1": 100.0}


def test_a_question_without_a_right_answer_needs_squad2():
    with pytest.raises(DataIntegrityError, match="squad2"):
        score("squad", [["x"], []], ["x", "y"])


def questions(count):
    """Right answers and predictions with odds, from a fixed seed."""
    dice = random.Random(17)
    words = ["the", "Norman", "Normans", "in", "10th", "century", "France", "Rollo", "a", "Viking"]
    gold, predicted = [], []
    for _ in range(count):
        golds = [" ".join(dice.choices(words, k=dice.randint(1, 4))) for _ in range(dice.choice([0, 0, 1, 3]))]
        text = dice.choice(golds) if golds and dice.random() < 0.5 else " ".join(dice.choices(words, k=dice.randint(0, 3)))
        gold.append(golds)
        predicted.append((text, round(dice.gauss(-1 if golds else 1, 2), 3)))
    return gold, predicted


OFFICIAL = {
    "exact": 51.0,
    "f1": 53.31666666666666,
    "HasAns_exact": 32.98969072164948,
    "HasAns_f1": 37.766323024054984,
    "NoAns_exact": 67.96116504854369,
    "NoAns_f1": 67.96116504854369,
    "best_exact": 57.5,
    "best_exact_thresh": -1.841,
    "best_f1": 58.09166666666667,
    "best_f1_thresh": -1.464,
}
"""What evaluate-v2.0.py prints for these 400 questions with --na-prob-thresh 0.5."""


def test_figures_are_those_of_the_official_script():
    figures = score("squad2", *questions(400), threshold=0.5)
    assert figures == pytest.approx(OFFICIAL, abs=1e-9)


odds = st.lists(st.integers(-20, 20), min_size=1, max_size=20, unique=True)


@given(odds, st.randoms(use_true_random=False))
def test_the_best_threshold_is_the_best_of_all(numbers, dice):
    gold = [dice.choice([[], ["x y"], ["x", "z"]]) for _ in numbers]
    predicted = [(dice.choice(["x", "x y", "z z"]), float(number)) for number in numbers]
    figures = score("squad2", gold, predicted)
    for name, rate in (("exact", exact), ("f1", f1)):
        raw = np.array([rate(golds or [""], text) for golds, (text, _) in zip(gold, predicted, strict=True)])
        none = np.array([not golds for golds in gold])
        reached = [100 * np.mean(np.where(np.array(numbers) > bound, none, raw)) for bound in range(-21, 21)]
        assert figures[f"best_{name}"] == pytest.approx(max(reached), abs=1e-9)
        if figures[f"best_{name}"] > 100 * none.mean() + 1e-9:
            at = score("squad2", gold, predicted, threshold=figures[f"best_{name}_thresh"])
            assert at[name] == pytest.approx(figures[f"best_{name}"], abs=1e-9)


def test_figures_of_one_kind_of_questions_are_there_only_with_such_questions():
    assert "NoAns_exact" not in score("squad2", [["x"]], [("x", -1.0)])
    assert "HasAns_exact" not in score("squad2", [[]], [("x", 1.0)])
    assert score("squad2", [[]], [("x", 1.0)])["exact"] == 100.0


def test_a_question_for_which_nothing_was_found_has_no_answer():
    figures = score("squad2", [[], ["x"]], [("", float("inf")), ("", float("inf"))])
    assert figures["exact"] == 50.0
    assert figures["best_exact_thresh"] == 0.0

"""From windows to answers: against all pairs of a start and an end, and the rules of BERT's reference one by one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ptm_dist.errors import DataIntegrityError, NumericError
from ptm_dist.finetune.answers import AnswerSearch, Window, widest_context
from ptm_dist.finetune.metrics import score
from ptm_dist.formats.questions import windows as cut

ALL = 10_000


def spans_of(context):
    """The words of a context as tokens: characters from and up to, int64 [tokens, 2]."""
    starts = np.cumsum([0, *(len(word) + 1 for word in context.split(" "))])[:-1]
    return np.stack([starts, starts + [len(word) for word in context.split(" ")]], axis=1)


def window(spans, logits, summary=0, before=2):
    """A row of the summary token, a question, a window of the context and an end; logits [tokens, 2] over all of it."""
    rows = np.full((len(spans) + before + 1, 2), -1)
    rows[before:-1] = spans
    return Window(logits[:, 0], logits[:, 1], rows, summary)


@st.composite
def questions(draw):
    """A context of distinct words, and its windows with random logits."""
    context = " ".join(f"w{number}" for number in range(draw(st.integers(1, 14))))
    spans, room, stride = spans_of(context), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    numbers = np.random.default_rng(draw(st.integers(0, 999)))
    rows = [window(spans[a:b], numbers.normal(0, 3, (b - a + 3, 2)).astype(np.float32)) for a, b in cut(len(spans), room, stride)]
    return context, rows


def every_answer(context, rows, longest):
    """Score of each stretch by its characters, over all windows, with the start where its context is widest."""
    best = {}
    for number, row in enumerate(rows):
        for start in row.places:
            if widest_by_rule(rows, row.spans[start]) != number:
                continue
            for end in row.places:
                if 0 <= end - start < longest:
                    key = int(row.spans[start, 0]), int(row.spans[end, 1])
                    best[key] = max(best.get(key, -math.inf), float(row.starts[start]) + float(row.ends[end]))
    return best


def widest_by_rule(rows, span):
    """The first window that has the most context around the token with these characters."""
    context = []
    for row in rows:
        here = [place for place in row.places if (row.spans[place] == span).all()]
        left = [place - row.places[0] for place in here]
        context.append(max((min(a, len(row.places) - 1 - a) + 0.01 * len(row.places) for a in left), default=-1))
    return context.index(max(context))


@given(questions(), st.integers(1, 6))
def test_candidates_are_all_pairs_in_the_order_of_their_scores(question, longest):
    context, rows = question
    found = AnswerSearch(n_best=ALL, longest=longest).find(context, rows)
    expected = every_answer(context, rows, longest)
    assert {(one.start, one.end): one.score for one in found.candidates} == pytest.approx(expected, abs=1e-9)
    scores = [one.score for one in found.candidates]
    assert scores == sorted(scores, reverse=True)
    assert all(context[one.start : one.end] == one.text for one in found.candidates)


@given(questions(), st.integers(1, 4))
def test_few_are_of_the_best_starts_and_ends_of_each_window(question, n_best):
    context, rows = question
    found = AnswerSearch(n_best=n_best, longest=ALL).find(context, rows)
    allowed = {}
    for number, row in enumerate(rows):
        starts = sorted(row.places, key=lambda place: -row.starts[place])[:n_best]
        ends = sorted(row.places, key=lambda place: -row.ends[place])[:n_best]
        for start in starts:
            if widest_by_rule(rows, row.spans[start]) == number:
                for end in ends:
                    if end >= start:
                        key = int(row.spans[start, 0]), int(row.spans[end, 1])
                        allowed[key] = max(allowed.get(key, -math.inf), float(row.starts[start]) + float(row.ends[end]))
    expected = sorted(allowed.values(), reverse=True)[:n_best]
    assert [one.score for one in found.candidates] == pytest.approx(expected, abs=1e-9)
    assert (found.best.score if found.best else None) == (pytest.approx(expected[0], abs=1e-9) if expected else None)


@given(questions(), st.floats(-9, 9))
def test_no_answer_is_a_candidate_where_questions_may_have_none(question, threshold):
    context, rows = question
    found = AnswerSearch(threshold=threshold).find(context, rows)
    null = min(float(row.starts[0]) + float(row.ends[0]) for row in rows)
    assert found.null_score == pytest.approx(null, abs=1e-9)
    (none,) = [one for one in found.candidates if not one.text]
    assert (none.score, none.start, none.end) == (found.null_score, -1, -1)
    scores = [one.score for one in found.candidates]
    assert scores == sorted(scores, reverse=True)
    assert found.null_odds == pytest.approx(null - found.best.score, abs=1e-9)
    assert found.answer(threshold) == ("" if null - found.best.score > threshold else found.best.text)
    assert found.answer(None) == found.best.text


@given(questions(), st.sampled_from([None, 0.0]))
def test_probabilities_are_a_softmax_over_the_candidates(question, threshold):
    found = AnswerSearch(n_best=5, threshold=threshold).find(*question)
    scores = np.array([one.score for one in found.candidates])
    expected = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    assert [one.probability for one in found.candidates] == pytest.approx(expected.tolist(), abs=1e-12)
    assert len(found.candidates) <= 5 + (threshold is not None)


@given(questions())
def test_each_token_has_its_widest_context_in_one_window(question):
    context, rows = question
    kept = widest_context(rows)
    told = [tuple(span) for row, here in zip(rows, kept, strict=True) for span in row.spans[here].tolist()]
    assert sorted(told) == [tuple(span) for span in spans_of(context).tolist()]
    for number, (row, here) in enumerate(zip(rows, kept, strict=True)):
        assert all(widest_by_rule(rows, row.spans[place]) == number for place in np.flatnonzero(here))


def test_the_widest_context_of_the_example_in_bert_s_reference():
    spans = spans_of("the man went to the store and bought a gallon of milk")
    rows = [window(spans[first : first + 5], np.zeros((8, 2))) for first in (0, 3, 6)]  # bought is in the second and the third
    told = [spans_of("the man went to the store and bought a gallon of milk")[:, 0].tolist().index(row.spans[3, 0]) for row in rows]
    assert told == [1, 4, 7]
    kept = [np.flatnonzero(here) - 2 + first for here, first in zip(widest_context(rows), (0, 3, 6), strict=True)]
    assert [row.tolist() for row in kept] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9, 10]]


@pytest.mark.parametrize("summary", ["first", "last"])
def test_oracle_logits_give_only_exact_matches(summary):
    numbers = np.random.default_rng(1)
    gold, told = [], []
    for number in range(60):
        context = " ".join(f"w{number}x{place}" for place in range(int(numbers.integers(1, 200))))
        spans = spans_of(context)
        first = int(numbers.integers(len(spans)))
        last = min(first + int(numbers.integers(30)), len(spans) - 1)
        impossible = number % 3 == 2
        rows = []
        for a, b in cut(len(spans), 80, 16):  # where its context is widest, a start has 32 tokens to its right, or the rest
            logits = np.full((b - a + 3, 2), -5.0)
            place = 0 if summary == "first" else len(logits) - 1
            inside = a <= first and last < b and not impossible
            logits[2 + first - a if inside else place, 0] = logits[2 + last - a if inside else place, 1] = 5.0
            rows.append(window(spans[a:b], logits, place))
        search = AnswerSearch(threshold=0.0)
        found = search.find(context, rows)
        assert (found.answer(0.0) == "") == impossible
        gold.append([] if impossible else [context[spans[first, 0] : spans[last, 1]]])
        told.append((found.best.text if found.best else "", found.null_odds))
    figures = score("squad2", gold, told)
    assert {figures[name] for name in ("exact", "f1", "HasAns_exact", "NoAns_exact", "best_exact")} == {100.0}


def test_of_equal_texts_the_better_stays():
    spans = spans_of("red blue red")
    logits = np.zeros((6, 2))
    logits[2], logits[4] = 1.0, 2.0
    found = AnswerSearch(n_best=ALL, longest=1).find("red blue red", [window(spans, logits)])
    assert [(one.text, one.start, one.score) for one in found.candidates] == [("red", 9, 4.0), ("blue", 4, 0.0)]


def test_tokens_of_the_question_are_no_answers_however_well_they_score():
    logits = np.array([[90.0, 90.0], [80.0, 80.0], [1.0, 0.0], [0.0, 1.0], [70.0, 70.0]])
    found = AnswerSearch(n_best=1).find("red blue", [window(spans_of("red blue"), logits)])
    assert found.answer(None) == "red blue"
    assert found.null_score == 180.0


def test_there_may_be_no_answer_to_find():
    logits = np.array([[0, 0], [0, 0], [0, 5], [5, 0], [0, 0]], dtype=float)  # the best end stands before the best start
    found = AnswerSearch(n_best=1).find("red blue", [window(spans_of("red blue"), logits)])
    assert (found.candidates, found.best, found.null_odds, found.answer(None), found.answer(0.0)) == ((), None, math.inf, "", "")
    (none,) = AnswerSearch(n_best=1, threshold=0.0).find("red blue", [window(spans_of("red blue"), logits)]).candidates
    assert (none.text, none.probability) == ("", 1.0)


def test_white_space_is_no_answer_and_no_edge_of_one():
    context = " a \u3000b "
    spans = np.array([[0, 1], [1, 2], [2, 4], [4, 5], [5, 6]])
    found = AnswerSearch(n_best=ALL).find(context, [window(spans, np.zeros((8, 2)))])
    assert {(one.text, one.start, one.end) for one in found.candidates} == {("a", 1, 2), ("b", 4, 5), ("a \u3000b", 1, 5)}


def test_tokens_that_share_a_character_are_as_one():
    spans = np.array([[0, 1], [1, 2], [1, 2], [1, 2], [2, 3], [3, 4]])  # the second character is three bytes
    rows = [window(spans[a:b], np.zeros((b - a + 3, 2))) for a, b in [(0, 3), (2, 6)]]
    kept = [row.spans[here].tolist() for row, here in zip(rows, widest_context(rows), strict=True)]
    assert kept == [[[0, 1]], [[1, 2], [1, 2], [2, 3], [3, 4]]]
    texts = {one.text for one in AnswerSearch(n_best=ALL).find("xyzw", rows).candidates}
    assert texts == {"x", "xy", "y", "yz", "yzw", "z", "zw", "w"}


def test_places_masked_with_infinity_are_never_taken():
    logits = np.array([[0, 0], [0, 0], [-np.inf, 0], [0, 0], [0, 0]])
    found = AnswerSearch(n_best=ALL).find("red blue", [window(spans_of("red blue"), logits)])
    assert [one.text for one in found.candidates] == ["blue"]


def test_windows_that_do_not_fit_are_refused():
    with pytest.raises(DataIntegrityError, match=r"\[4, 5\] tokens"):
        Window(np.zeros(4), np.zeros(5), np.zeros((5, 2)), 0)
    with pytest.raises(DataIntegrityError, match="0 of them of the context"):
        Window(np.zeros(2), np.zeros(2), np.full((2, 2), -1), 0)
    with pytest.raises(NumericError, match="not numbers"):
        Window(np.array([np.nan, 0]), np.zeros(2), np.array([[-1, -1], [0, 1]]), 0)


@pytest.mark.parametrize("wrong", [{"n_best": 0}, {"longest": 0}, {"longest": 2.5}, {"threshold": "0"}, {"unknown": 1}])
def test_settings_are_checked(wrong):
    with pytest.raises(ValidationError):
        AnswerSearch(**wrong)

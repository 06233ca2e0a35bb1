"""The table of metrics, classes, values and rankings, against scikit-learn, SciPy and formulas written out."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn

from ptm_dist.errors import ConfigError, DataIntegrityError, DataUnavailableError
from ptm_dist.finetune.metrics import METRICS, score
from ptm_dist.finetune.metrics.classes import confusion

two = st.lists(st.tuples(st.sampled_from("01"), st.sampled_from("01")), min_size=1, max_size=40)
three = st.lists(st.tuples(*[st.sampled_from(["neutral", "entailment", "contradiction"])] * 2), min_size=1, max_size=40)
numbers = st.lists(st.tuples(*[st.floats(-5, 5).map(lambda value: round(value, 2))] * 2), min_size=2, max_size=40)


@given(two)
def test_figures_of_two_classes(pairs):
    gold, predicted = zip(*pairs, strict=True)
    right = sum(a == b for a, b in pairs)
    both, told, gone = pairs.count(("1", "1")), pairs.count(("0", "1")), pairs.count(("1", "0"))
    neither = len(pairs) - both - told - gone
    assert score("accuracy", gold, predicted)["accuracy"] == pytest.approx(100 * right / len(pairs), abs=1e-9)
    assert score("f1", gold, predicted)["f1"] == pytest.approx(200 * both / (2 * both + told + gone) if both else 0, abs=1e-9)
    below = math.sqrt((both + told) * (both + gone) * (neither + told) * (neither + gone))
    expected = 100 * (both * neither - told * gone) / below if below else 0
    assert score("matthews", gold, predicted)["matthews"] == pytest.approx(expected, abs=1e-9)


@given(three)
def test_figures_of_three_classes_are_those_of_scikit_learn(pairs):
    gold, predicted = zip(*pairs, strict=True)
    assert score("accuracy", gold, predicted)["accuracy"] == pytest.approx(100 * sklearn.accuracy_score(gold, predicted), abs=1e-9)
    of_each = [200 * pairs.count((name, name)) / (gold.count(name) + predicted.count(name)) for name in {*gold, *predicted}]
    assert score("macro_f1", gold, predicted)["macro_f1"] == pytest.approx(np.mean(of_each), abs=1e-9)
    theirs = sklearn.matthews_corrcoef(gold, predicted) if len({*gold, *predicted}) > 1 else 0  # of one class it warns
    assert score("matthews", gold, predicted)["matthews"] == pytest.approx(100 * theirs, abs=1e-9)
    table, names = confusion(gold, predicted), sorted({*gold, *predicted})
    assert [list(row) for row in table.values()] == [list(table)] * len(table) == [names] * len(table)
    if len(names) > 1:
        assert [list(row.values()) for row in table.values()] == sklearn.confusion_matrix(gold, predicted).tolist()


@given(numbers)
def test_correlations_are_those_of_scipy_and_of_the_formula(pairs):
    gold, predicted = (list(side) for side in zip(*pairs, strict=True))
    error = np.mean([(a - b) ** 2 for a, b in pairs])
    assert score("mean_squared_error", gold, predicted)["mean_squared_error"] == pytest.approx(error, abs=1e-9)
    if len(set(gold)) == 1 or len(set(predicted)) == 1:
        assert score("pearson", gold, predicted) == {"pearson": 0.0}
        assert score("spearman", gold, predicted) == {"spearman": 0.0}
        return
    assert score("pearson", gold, predicted)["pearson"] == pytest.approx(100 * stats.pearsonr(gold, predicted)[0], abs=1e-9)
    assert score("spearman", gold, predicted)["spearman"] == pytest.approx(100 * stats.spearmanr(gold, predicted)[0], abs=1e-9)
    assert score("pearson", gold, predicted)["pearson"] == pytest.approx(100 * np.corrcoef(gold, predicted)[0, 1], abs=1e-6)
    ranks = stats.rankdata(gold), stats.rankdata(predicted)
    assert score("spearman", gold, predicted)["spearman"] == pytest.approx(score("pearson", *ranks)["pearson"], abs=1e-6)


def test_numbers_of_choices_are_classes_too():
    assert score("accuracy", [0, 3, 2, 1], np.array([0, 3, 1, 1])) == {"accuracy": 75.0}


def test_f1_is_of_the_class_that_is_named():
    gold, predicted = ["spam", "ham", "spam"], ["spam", "spam", "ham"]
    assert score("f1", gold, predicted, positive="spam")["f1"] == pytest.approx(50)
    assert score("f1", gold, predicted, positive="ham") == {"f1": 0.0}
    with pytest.raises(ConfigError, match="'1' is the positive one, but there are 'ham', 'spam'"):
        score("f1", gold, predicted)
    with pytest.raises(ConfigError, match="macro_f1"):
        score("f1", ["0", "1", "2"], ["0", "0", "0"])


def test_mean_reciprocal_rank_by_hand():
    gold = [("a", False), ("b", True), ("a", True), ("a", True), ("b", False), ("c", False)]
    # a: candidates by score are 2, 0, 3 -> rank 1; b: 4 before 1 -> rank 2; c has none right
    assert score("mrr", gold, [0.5, 0.1, 0.9, 0.4, 0.2, 0.9])["mrr"] == pytest.approx(100 * (1 + 1 / 2) / 3)


def test_of_equal_scores_the_earlier_candidate_stands_higher():
    assert score("mrr", [("a", False), ("a", True), ("a", False)], [1.0, 1.0, 1.0])["mrr"] == pytest.approx(50)


candidates = st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 9)), min_size=1, max_size=30)


@given(candidates)
def test_mean_reciprocal_rank_is_that_of_counting_who_stands_higher(rows):
    questions = {question for question, _, _ in rows}
    total = 0.0
    for question in questions:
        here = [(-told, place, right) for place, (of, right, told) in enumerate(rows) if of == question]
        ranks = [sum(other[:2] <= one[:2] for other in here) for one in here if one[2]]
        total += 1 / min(ranks) if ranks else 0
    found = score("mrr", [row[:2] for row in rows], [row[2] for row in rows])["mrr"]
    assert found == pytest.approx(100 * total / len(questions), abs=1e-9)


def test_a_metric_that_does_not_exist_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'matthews'"):
        score("mathews", ["1"], ["1"])
    with pytest.raises(ConfigError, match="one of: accuracy, f1"):
        score("xyz", ["1"], ["1"])


@pytest.mark.parametrize("kind", METRICS)
def test_no_items_or_other_items_are_refused(kind):
    with pytest.raises(DataUnavailableError, match="no labelled item"):
        score(kind, [], [])
    with pytest.raises(DataIntegrityError, match="1 items have a label, 0 a prediction"):
        score(kind, ["1"], [])


@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_a_correlation_needs_two_items(kind):
    with pytest.raises(DataUnavailableError, match="two items"):
        score(kind, [1.0], [2.0])


@pytest.mark.parametrize("kind", METRICS)
def test_every_metric_tells_its_source(kind):
    assert "Source: " in (METRICS[kind].__doc__ or "") or kind == "mean_squared_error"


def test_slow_libraries_are_imported_only_where_they_are_used():
    code = "import sys; import ptm_dist.finetune.metrics, ptm_dist.finetune.results; print({'sklearn', 'scipy', 'nltk'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"

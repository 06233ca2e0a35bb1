"""The scorer of CMRC 2018: cases that follow from its rules, and a longest common run by trying all."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.errors import DataIntegrityError
from ptm_dist.finetune.metrics import score
from ptm_dist.finetune.metrics.cmrc import exact, f1, segments


@pytest.mark.parametrize(
    ("gold", "text", "em", "overlap"),
    [
        ("中国北京", "北京", 0, 2 * 1 * 0.5 / 1.5),
        ("ABC 公司", "公司ABC", 0, 2 / 3),  # the longest run is 公司, of three segments each
        ("北京。", "北京", 1, 1),
        ("北京，上海", "北京上海", 1, 1),
        ("北京,上海", "北京上海", 0, 2 * (2 / 4) * (2 / 5) / (2 / 4 + 2 / 5)),  # an ASCII comma is a segment of its own
        ("Hello World", "hello world", 1, 1),
        ("北京", "上海", 0, 0),
        ("北京", "", 0, 0),
        ("北京", None, 0, 0),
        ("甲乙丙丁", "丙丁甲乙", 0, 0.5),  # a run, not a bag
        ("a-b", "ab", 1, 1),
        ("北……京", "北京", 0, 2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3)),  # …… is never taken out
    ],
)
def test_exact_match_and_f1_by_hand(gold, text, em, overlap):
    assert exact([gold], text) == em
    assert f1([gold], text) == pytest.approx(overlap, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("《Red Dwarf》是1988年的。", ["red", "dwarf", "是", "1988", "年", "的"]),
        ("don't, 3.5%", ["do", "n't", ",", "3.5", "%"]),  # as nltk cuts English
        ("〇一龥龦", ["〇", "一", "龥", "龦"]),  # 龦 and 〇 are beyond what the script calls Chinese: runs of their own here
        ("a 1-2 b", ["a", "12", "b"]),
        ("end.", ["end", "."]),
        ("", []),
        ("，。", []),
    ],
)
def test_segments_are_characters_and_words(text, expected):
    assert segments(text) == expected


def longest_run(a, b):
    runs = [a[i:j] for i in range(len(a)) for j in range(i + 1, len(a) + 1)]
    return max((len(run) for run in runs if any(b[k : k + len(run)] == run for k in range(len(b)))), default=0)


chinese = st.text("甲乙丙丁ab ,。", max_size=12)


@given(st.lists(chinese, min_size=1, max_size=3), chinese)
def test_f1_is_that_of_the_longest_run_of_all(golds, text):
    told = segments(text)
    expected = []
    for gold in map(segments, golds):
        run = longest_run(gold, told)
        expected.append(2 * (run / len(told)) * (run / len(gold)) / (run / len(told) + run / len(gold)) if run else 0)
    assert f1(golds, text) == pytest.approx(max(expected), abs=1e-12)


def test_characters_that_come_often_in_a_long_answer_count_as_others():
    assert f1(["的一" * 150], "了" + "的一" * 150) == pytest.approx(2 * 300 / 601)


def questions(count):
    """Right answers and predictions, from a fixed seed."""
    dice = random.Random(4)
    parts = ["北京", "上海", "1998年", "NBA ", "，", "。", "U.S. team", "《", "》", ",", "的", "-", "……", "it's"]
    gold = [["".join(dice.choices(parts, k=dice.randint(1, 4))) for _ in range(dice.choice([1, 3]))] for _ in range(count)]
    predicted = [dice.choice(golds) + dice.choice(["", "", "。", "了"]) if dice.random() < 0.6 else dice.choice(parts) for golds in gold]
    return gold, [None if dice.random() < 0.1 else text for text in predicted]


OFFICIAL = {"f1": 52.64636844636845, "exact": 46.666666666666664, "average": (52.64636844636845 + 46.666666666666664) / 2}
"""What cmrc2018_evaluate.py gives for these 300 questions, 29 of them without a prediction."""


def test_figures_are_those_of_the_official_script():
    assert score("cmrc", *questions(300)) == pytest.approx(OFFICIAL, abs=1e-9)


def test_a_question_without_a_right_answer_is_refused():
    with pytest.raises(DataIntegrityError, match="no right answer"):
        score("cmrc", [[]], ["北京"])

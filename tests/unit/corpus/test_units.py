"""Marks of characters: what holds for units of every language, and dictionaries."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptm_dist.corpus import UNITS
from ptm_dist.corpus.english import EnglishUnits
from ptm_dist.corpus.units import Matcher, clear_of, folded, marks_of, read_dictionaries
from ptm_dist.data.marks import CAPITAL, ENTITY, PHRASE, WORD
from ptm_dist.errors import DataUnavailableError

LETTERS = (
    "the a of Bank England it's J. K. Rowling high-speed 1998 é İ ß ﬁ 😀 \t\n "
    "中文使用语言模型来预测北京市公安局江泽民比尔·盖茨語言〇々かな，。「」\u3000"
)
TEXTS = st.lists(st.one_of(st.sampled_from(LETTERS.split(" ")), st.text(alphabet=LETTERS, max_size=4)), max_size=25).map(" ".join)
EVERY = pytest.mark.parametrize("units", [kind() for kind in UNITS.values()], ids=list(UNITS))


def units_by(marks, bit):
    """Return (start, end) of the runs of characters that go on with each other."""
    starts = np.flatnonzero((marks & bit) == 0)
    return list(pairwise([*starts.tolist(), len(marks)]))


@EVERY
@given(text=TEXTS)
def test_units_consist_of_whole_words_and_words_of_no_white_space(units, text):
    (marks,) = units.marks([text])
    assert marks.dtype == np.uint8
    assert len(marks) == len(text)
    assert not text or not marks[0] & (WORD | PHRASE | ENTITY)
    in_word = (marks & WORD) > 0
    assert (marks[in_word] & PHRASE).all()
    assert (marks[in_word] & ENTITY).all()
    assert not any(letter.isspace() and mark & (WORD | CAPITAL) for letter, mark in zip(text, marks, strict=True))
    for bit in (PHRASE, ENTITY):
        for start, end in units_by(marks, bit):
            assert end - start == 1 or (not text[start].isspace() and not text[end - 1].isspace())


@EVERY
@given(texts=st.lists(TEXTS, max_size=3))
@settings(max_examples=40)
def test_marks_do_not_depend_on_the_other_texts(units, texts):
    together = units.marks(texts)
    alone = [units.marks([text])[0] for text in reversed(texts)]
    assert all(np.array_equal(one, other) for one, other in zip(together, reversed(alone), strict=True))


@EVERY
def test_settings_are_plain_and_name_what_decides_the_result(units, tmp_path):
    assert pickle.loads(pickle.dumps(units)) == units
    path = tmp_path / "words.tsv"
    named = type(units)(dictionaries=(str(path),))
    path.write_text("one\n")
    first = named.library
    path.write_text("other\n")
    assert len({units.library, first, named.library}) == 3


@EVERY
def test_capital_is_the_first_letter_of_the_word_as_it_was_written(units):
    words = {"Paris": 1, "is": 0, "BIG": 1, ",": 0, "iPhone": 0, "3D": 1, "O'Neill": 1, "Éa": 1, "１Ａ": 1, "2": 0, "中": 0}
    (marks,) = units.marks([" ".join(words)])
    found = [int(mark & CAPITAL > 0) for mark in marks]
    assert found == [number for word, capital in words.items() for number in (*[capital] * len(word), 0)][:-1]


def test_levels_fall_back_to_the_one_below():
    text = "ab cd ef gh ij"
    words = [(0, 2), (3, 5), (6, 8), (9, 11), (12, 14)]
    marks = marks_of(text, words, phrases=[(0, 5), (6, 11)], entities=[(9, 14)])
    assert units_by(marks, WORD) == [(0, 2), (2, 3), (3, 5), (5, 6), (6, 8), (8, 9), (9, 11), (11, 12), (12, 14)]
    assert units_by(marks, PHRASE) == [(0, 5), (5, 6), (6, 11), (11, 12), (12, 14)]
    # An entity cuts into the second phrase, which falls apart; the first stays.
    assert units_by(marks, ENTITY) == [(0, 5), (5, 6), (6, 8), (8, 9), (9, 14)]


def test_clear_of_and_matcher_against_brute_force():
    draws = np.random.Generator(np.random.Philox(1))
    for _ in range(200):
        text = "".join("ab"[number] for number in draws.integers(0, 2, 12))
        bounds = [0, *sorted(set(draws.integers(1, 12, 6).tolist())), 12]
        words = list(pairwise(bounds))
        known = {"".join("ab"[number] for number in draws.integers(0, 2, length)) for length in draws.integers(2, 6, 6)}
        expected, at = [], 0
        while at < 12:
            ends = [end for end in bounds if end > at and text[at:end] in known] if at in bounds else []
            expected += [(at, max(ends))] if ends else []
            at = max(ends) if ends else at + 1
        found = Matcher(known).spans(text, words)
        assert found == expected
        assert clear_of(words, found) == [word for word in words if all(word[1] <= start or end <= word[0] for start, end in found)]


class TestDictionaries:
    """Files of words and phrases."""

    def test_lines(self, tmp_path):
        path = tmp_path / "words.tsv"
        path.write_text("\ufeffNew  York\tLOC\tcity\n\nice cream\nNew York\tperson\n  a\t\n", encoding="utf8")
        entries, content = read_dictionaries((str(path),))
        assert [tuple(entry) for entry in entries] == [("New York", "loc"), ("ice cream", ""), ("a", "")]
        assert [entry.is_name for entry in entries] == [True, False, False]
        assert len(content) == 64

    @pytest.mark.parametrize("data", [None, b"\xff\xfe\x00"])
    def test_what_cannot_be_read_is_said(self, tmp_path, data):
        path = tmp_path / "words.tsv"
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(DataUnavailableError, match=r"corpus\.units\.dictionaries: .*words\.tsv cannot be read"):
            EnglishUnits(dictionaries=(str(path),)).marks(["a"])

    def test_a_file_that_changes_is_read_again(self, tmp_path):
        path = tmp_path / "words.tsv"
        units = EnglishUnits(dictionaries=(str(path),))
        path.write_text("ice cream\n")
        before = units.marks(["ice cream, hot dogs"])[0]
        path.write_text("hot dogs\n\n")
        after = units.marks(["ice cream, hot dogs"])[0]
        assert ((before & PHRASE) > 0).tolist() != ((after & PHRASE) > 0).tolist()


@given(st.text(max_size=30))
def test_folding_keeps_the_length(text):
    assert len(folded(text)) == len(text)
    assert folded("İSTANBUL ÉA") == "İstanbul éa"

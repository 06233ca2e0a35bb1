"""Words as bytes, row by row as bilm-tf has them, plus one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ptm_dist.data.characters import ROWS, character_ids, character_ids_of_letters
from ptm_dist.data.document import WORD

PAD = 261


def padded(*ids: int, length: int = 50) -> list[int]:
    return [*ids, *[PAD] * (length - len(ids))]


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("a", padded(259, 98, 260)),
        ("<S>", padded(259, 257, 260)),
        ("</S>", padded(259, 258, 260)),
        ("<UNK>", padded(259, 61, 86, 79, 76, 63, 260)),
        ("", padded(259, 260)),
        ("A", padded(259, 66, 260)),
        ("é", padded(259, 0xC3 + 1, 0xA9 + 1, 260)),
        ("\x00", padded(259, 1, 260)),
        ("x" * 48, [259, *[121] * 48, 260]),
        ("x" * 60, [259, *[121] * 48, 260]),
        ("x" * 47 + "é", [259, *[121] * 47, 0xC3 + 1, 260]),
        ("\ud800a", padded(259, 98, 260)),
    ],
    ids=["a", "begin", "end", "unknown", "empty", "case", "two bytes", "zero byte", "48 bytes", "60 bytes", "cut inside", "half a pair"],
)
def test_rows(word, wanted):
    found = character_ids([word])
    assert found.dtype == np.int64
    assert found.tolist() == [wanted]


def test_another_length():
    assert character_ids(["abc", "a"], length=4).tolist() == [[259, 98, 99, 260], [259, 98, 260, PAD]]
    assert character_ids([]).shape == (0, 50)


@given(st.lists(st.text(), max_size=8), st.integers(3, 60))
def test_a_word_can_be_read_back(words, length):
    ids = character_ids(words, length)
    assert ids.shape == (len(words), length)
    assert ((ids > 0) & (ids < ROWS)).all()
    for word, row in zip(words, ids.tolist(), strict=True):
        end = row.index(260)
        assert row[0] == 259
        assert set(row[end + 1 :]) <= {PAD}
        if word not in {"<S>", "</S>"}:
            assert bytes(byte - 1 for byte in row[1:end]) == word.encode(errors="ignore")[: length - 2]


def letters_of(words: list[str]) -> np.ndarray:
    """Return words as a format has them, a field of an array that is not contiguous."""
    made = np.zeros(len(words), dtype=WORD)
    made["letters"] = [word.encode(errors="ignore") for word in words]
    return made["letters"]


# A zero byte at the end of an array's bytes is none.
words_in_arrays = st.lists(st.text(st.characters(exclude_characters="\0"), max_size=60) | st.sampled_from(["<S>", "</S>"]), max_size=8)


@given(words_in_arrays, st.integers(3, 50))
@example(["a", "", "x" * 47 + "é", "x" * 60, "a\0b", "\ud800a", "</S>", "<UNK>", "<S>"], 50)
def test_words_in_arrays_have_the_same_characters(words, length):
    begins, ends = (np.array([word == mark for word in words], dtype=bool) for mark in ("<S>", "</S>"))
    found = character_ids_of_letters(letters_of(words), begins, ends, length)
    assert found.dtype == np.int64
    assert np.array_equal(found, character_ids(words, length))


@given(words_in_arrays)
def test_letters_of_marks_are_not_read_and_words_like_marks_are_words(words):
    nothing, every = np.zeros(len(words), dtype=bool), np.ones(len(words), dtype=bool)
    assert character_ids_of_letters(letters_of(words), every, nothing).tolist() == character_ids(["<S>"] * len(words)).tolist()
    assert character_ids_of_letters(letters_of(words), nothing, every).tolist() == character_ids(["</S>"] * len(words)).tolist()
    for word, row in zip(words, character_ids_of_letters(letters_of(words), nothing, nothing).tolist(), strict=True):
        assert bytes(byte - 1 for byte in row[1 : row.index(260)]) == word.encode(errors="ignore")[:48]


def test_torch_is_not_imported():
    code = "import sys, ptm_dist.data.characters; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

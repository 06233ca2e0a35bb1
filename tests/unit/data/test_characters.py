"""Words as bytes, row by row as bilm-tf has them, plus one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.data.characters import ROWS, character_ids

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


def test_torch_is_not_imported():
    code = "import sys, ptm_dist.data.characters; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

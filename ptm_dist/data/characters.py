"""Words as the bytes that ELMo reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

ROWS: Final = 262
"""Rows of a table that these ids look up: 0 for a position without a word, then 256 bytes and five marks."""

BEGIN: Final = "<S>"
END: Final = "</S>"

_SHIFT: Final = 1
_BEGIN_WORD, _END_WORD, _PAD = 258, 259, 260
_SENTENCE_MARKS: Final = {BEGIN: 256, END: 257}


def character_ids(words: Sequence[str], length: int = 50) -> np.ndarray:
    """Return the ids of each word, int64 [words, length]: begin of word, UTF-8 bytes, end of word, padding.

    Ids are shifted by one, so that a row of zeros is no word. A word longer than `length` - 2 bytes is cut, perhaps inside of a character.
    `<S>` and `</S>` are the ends of a sentence, one mark each; any other word is spelled out, `<UNK>` too.

    Source: allenai/bilm-tf, data.py, UnicodeCharsVocabulary; the shift is that of its inference.
    """
    ids_WC = np.full((len(words), length), _PAD + _SHIFT, dtype=np.int64)
    for ids_C, word in zip(ids_WC, words, strict=True):
        mark = _SENTENCE_MARKS.get(word)
        letters = list(word.encode(errors="ignore")[: length - 2]) if mark is None else [mark]
        ids_C[: len(letters) + 2] = np.array([_BEGIN_WORD, *letters, _END_WORD]) + _SHIFT
    return ids_WC


def character_ids_of_letters(letters_W: np.ndarray, begins_W: np.ndarray, ends_W: np.ndarray, length: int = 50) -> np.ndarray:
    """Return what `character_ids` does, from words as arrays, int64 [W, length].

    `letters_W`, bytes of one width, are the UTF-8 of the words; a zero byte at their end is none. Which words are `<S>` and `</S>` is
    told by `begins_W` and `ends_W`, bool, and not by their letters: a word of the text may be written like that.
    """
    width = min(letters_W.dtype.itemsize, length - 2)
    sizes_W = np.minimum(np.strings.str_len(letters_W), width)
    bytes_WB = np.ascontiguousarray(letters_W).view(np.uint8).reshape(len(letters_W), letters_W.dtype.itemsize)[:, :width]
    ids_WC = np.full((len(letters_W), length), _PAD + _SHIFT, dtype=np.int64)
    ids_WC[:, 0] = _BEGIN_WORD + _SHIFT
    np.add(bytes_WB, _SHIFT, out=ids_WC[:, 1 : width + 1], where=np.arange(width) < sizes_W[:, None], dtype=np.int64)
    ids_WC[np.arange(len(letters_W)), sizes_W + 1] = _END_WORD + _SHIFT
    for chosen_W, mark in ((begins_W, BEGIN), (ends_W, END)):
        ids_WC[chosen_W] = character_ids([mark], length)
    return ids_WC

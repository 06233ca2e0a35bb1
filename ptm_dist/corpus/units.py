"""What belongs together in a text, as marks on its characters: words, and phrases and entities made of whole words."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from ptm_dist.data.marks import CAPITAL, ENTITY, PHRASE, WORD
from ptm_dist.errors import DataUnavailableError
from ptm_dist.store import sha256_bytes

Span = tuple[int, int]
"""Where something begins, and where it has ended."""

HAN: Final = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Chinese characters, as a range of a regular expression."""
_LETTERS: Final = f"[^\\W_{HAN}](?:[^\\W_{HAN}]|[\u0300-\u036f])*"
WORD_PATTERN: Final = rf"{_LETTERS}(?:['’]{_LETTERS})*|\S"
"""A run of letters and digits with apostrophes inside, or one other character: punctuation, or a Chinese one."""

NAMES: Final = {
    "person": "nr",
    "per": "nr",
    "nr": "nr",
    "place": "ns",
    "loc": "ns",
    "ns": "ns",
    "organisation": "nt",
    "organization": "nt",
    "org": "nt",
    "nt": "nt",
    "nz": "nz",
}
"""Types of dictionary entries that are entities, and how the People's Daily tags them: person, place, organisation, other name."""

_SPACE: Final = re.compile(r"\s+")
_IN_WORD: Final = bytes([WORD | PHRASE | ENTITY])


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text; a long list of words is read more easily as one."""
    return frozenset(text.split())


class Entry(NamedTuple):
    """A line of a dictionary; `type` as it stands there in small letters, "" without one."""

    text: str
    type: str

    @property
    def is_name(self) -> bool:
        """Is it an entity?"""
        return self.type in NAMES


def read_dictionaries(paths: Sequence[str]) -> tuple[tuple[Entry, ...], str]:
    """Return the entries of dictionaries, each once with its first type, and a hash of the files.

    A dictionary is UTF-8 text with an entry a line: a word or phrase, and after a tab its type; what follows another tab is ignored.

    Raises:
        DataUnavailableError: a file cannot be read, or is not UTF-8.

    """
    stamps = []
    for path in paths:
        try:
            state = Path(path).stat()
        except OSError as error:
            raise _unreadable(path, error) from error
        stamps.append((path, state.st_mtime_ns, state.st_size))
    return _read(tuple(stamps))


@lru_cache(maxsize=8)
def _read(stamps: tuple[tuple[str, int, int], ...]) -> tuple[tuple[Entry, ...], str]:
    found: dict[str, Entry] = {}
    files = []
    for path, _, _ in stamps:
        try:
            files.append(Path(path).read_bytes())
            lines = files[-1].decode("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(path, error) from error
        for line in lines:
            text, kind, *_ = [*line.split("\t"), ""]
            text = _SPACE.sub(" ", text.strip())
            if text:
                found.setdefault(text, Entry(text, kind.strip().lower()))
    return tuple(found.values()), sha256_bytes(b"\0".join(files)) if files else ""


def _unreadable(path: str, error: Exception) -> DataUnavailableError:
    return DataUnavailableError(
        f"corpus.units.dictionaries: {path} cannot be read ({error}). Give UTF-8 text with an entry a line: phrase, tab, type."
    )


class Matcher:
    """Finds the longest of some texts from left to right, where they consist of whole words."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = frozenset(text for text in texts if len(text) > 1)
        lengths: dict[str, set[int]] = {}
        for text in self._texts:
            lengths.setdefault(text[:2], set()).add(len(text))
        self._lengths = {beginning: sorted(found, reverse=True) for beginning, found in lengths.items()}

    def spans(self, text: str, words: Sequence[Span]) -> list[Span]:
        """Return where they stand in `text`, in order and without overlap."""
        if not self._texts:
            return []
        ends = {end for _, end in words}
        found: list[Span] = []
        for start, _ in words:
            if found and start < found[-1][1]:
                continue
            for length in self._lengths.get(text[start : start + 2], ()):
                if start + length in ends and text[start : start + length] in self._texts:
                    found.append((start, start + length))
                    break
        return found


def folded(text: str) -> str:
    """Return the text in small letters, as long as before: a letter whose small form is longer stays."""
    small = text.lower()
    return small if len(small) == len(text) else "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)


def clear_of(spans: Iterable[Span], others: Sequence[Span]) -> list[Span]:
    """Return the `spans` that overlap none of `others`, which are in order."""
    starts, ends = [start for start, _ in others], [end for _, end in others]
    return [span for span in spans if bisect_right(ends, span[0]) == bisect_left(starts, span[1])]


def marks_of(text: str, words: Sequence[Span], phrases: Sequence[Span], entities: Sequence[Span]) -> np.ndarray:
    """Return the marks of the characters of `text`, uint8 [characters].

    `words` are all of its characters but white space, in order; phrases and entities are in order, begin and end where words do, and no
    two of a kind overlap. Outside of phrases the phrase bits are those of the words; outside of entities the entity bits are those of the
    phrases, but a phrase that an entity cuts into falls apart into words.
    """
    marks = bytearray(len(text))
    cased = text != text.lower()
    for start, end in words:
        marks[start + 1 : end] = _IN_WORD * (end - start - 1)
        if cased and _is_capitalised(text[start:end]):
            _add(marks, start, end, CAPITAL)
    for start, end in phrases:
        _add(marks, start + 1, end, PHRASE)
    for start, end in [*clear_of(phrases, entities), *entities]:
        _add(marks, start + 1, end, ENTITY)
    return np.array(marks, dtype=np.uint8)


def _add(marks: bytearray, start: int, end: int, bit: int) -> None:
    for at in range(start, end):
        marks[at] |= bit


def _is_capitalised(word: str) -> bool:
    first = word[0] if word[0].isalpha() else next((letter for letter in word if letter.isalpha()), "")
    return first.isupper() or first.istitle()

"""Documents to the pieces that a format asks for, each with a label."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import numpy as np

from ptm_dist.corpus.sentences import sentences
from ptm_dist.data.document import Cut, Document, Piece
from ptm_dist.data.marks import ENTITY, PHRASE, WORD

GOES_ON: Final = np.uint8(WORD | PHRASE | ENTITY)


def pieces(document: Document, cut: Cut) -> list[Piece]:
    """Return the pieces of a document; `data.document.Cut` says what each kind is."""
    if cut.kind == "text":
        return [Piece(document.text)]
    if cut.kind == "turns":
        return _turns(document)
    if cut.kind == "pair":
        label = int(document.meta.get("label", 0))
        return [Piece(" ".join(text.split()), label) for text in (document.text, document.meta.get("pair", "")) if text.strip()]
    found = [Piece(sentence) for sentence in sentences(document.text)]
    if cut.kind == "titled":
        title = " ".join(document.meta.get("title", "").split())
        return ([Piece(title, 1)] if title else []) + found
    return [_without_connective(piece, cut.groups) for piece in found] if cut.kind == "connectives" else found


def _turns(document: Document) -> list[Piece]:
    """A line is a turn. Without a note of who speaks, two take turns."""
    lines = [" ".join(line.split()) for line in document.text.split("\n") if line.strip()]
    told = [int(number) for number in document.meta.get("speakers", "").split()]
    speakers = told if len(told) == len(lines) else [number % 2 for number in range(len(lines))]
    return [Piece(line, speaker) for line, speaker in zip(lines, speakers, strict=True)]


def _without_connective(piece: Piece, groups: tuple[tuple[str, ...], ...]) -> Piece:
    found = _beginning(groups).match(piece.text)
    rest = piece.text[found.end() :] if found else ""
    if not found or not rest:
        return piece
    group = next(number for number, words in enumerate(groups) if found[1].lower() in (word.lower() for word in words))
    return Piece(rest, group + 1)


@lru_cache(maxsize=16)
def _beginning(groups: tuple[tuple[str, ...], ...]) -> re.Pattern[str]:
    """A connective counts where a comma follows: without one, "so" or "while" are as often something else."""
    words = sorted((word for group in groups for word in group), key=len, reverse=True)
    return re.compile(rf"({'|'.join(map(re.escape, words))})\s*[,，]\s*", re.IGNORECASE)


def token_marks(marks: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the marks of tokens, uint8 [tokens], from those of characters; `offsets` [tokens, 2] say which characters a token stands for.

    A token has the marks of its first character. One that stands for the same character as the token before, a byte of it, goes on with
    every unit. The first goes on with none.
    """
    if not len(offsets) or not len(marks):
        return np.zeros(len(offsets), dtype=np.uint8)
    starts = np.minimum(offsets[:, 0], len(marks) - 1)
    found = marks[starts]
    again = np.flatnonzero(starts[1:] == starts[:-1]) + 1
    found[again] |= GOES_ON
    found[0] &= ~GOES_ON
    return found

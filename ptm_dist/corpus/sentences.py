"""English sentences by rule: small, fast and good enough to pack whole sentences into rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

WRAPPED_CHARACTERS: Final = 100
"""Nobody wraps lines wider than this; a longer line is a whole paragraph."""

_ABBREVIATION: Final = re.compile(
    "mr|mrs|ms|dr|prof|rev|gen|col|sgt|capt|lt|gov|sen|rep|st|jr|sr|mt|ft|nos?|vs|cf|al|figs?|eqs?|sec|ch|vol|pp|eds?|resp|approx|dept|"
    "inc|ltd|co|corp|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec",
    re.IGNORECASE,
)
_END: Final = re.compile(r"[.!?…]+[\"'”’)\]]*\s+(?=[\"'“‘(\[]*(\w))")
_LAST_WORD: Final = re.compile(r"[^\s(\[\"'“‘]*$")
_INITIALS: Final = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")
_LIST_ITEM: Final = re.compile(r"\s*(?:[-*+•#>|]|>>>|\d+[.)]\s|\.\. )")


def sentences(text: str) -> list[str]:
    """Return the sentences of `text`, white space inside them collapsed; every other character is kept, in order."""
    return [sentence for paragraph in _paragraphs(text) for sentence in _split(paragraph)]


def _paragraphs(text: str) -> Iterator[str]:
    """Yield runs of lines that belong together: an empty line, a long line or a list item begins a new one."""
    lines: list[str] = []
    for line in text.split("\n"):
        starts = not lines or len(line) > WRAPPED_CHARACTERS or len(lines[-1]) > WRAPPED_CHARACTERS or _LIST_ITEM.match(line)
        if starts or not line.strip():
            yield from _joined(lines)
            lines = []
        if line.strip():
            lines.append(line)
    yield from _joined(lines)


def _joined(lines: list[str]) -> Iterator[str]:
    if lines:
        yield " ".join(" ".join(lines).split())


def _split(paragraph: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(paragraph):
        if _ends_sentence(paragraph[start : end.start()], end):
            yield paragraph[start : end.end()].rstrip()
            start = end.end()
    if start < len(paragraph):
        yield paragraph[start:]


def _ends_sentence(before: str, end: re.Match[str]) -> bool:
    """Decide for the text of a sentence so far and the punctuation after it."""
    if end[1].islower():
        return False
    if end[0].rstrip() != ".":
        return True
    last = _LAST_WORD.search(before)
    word = last[0] if last else ""
    if word.isdigit():
        return word != before.strip()  # "1." opens a list item, "in 1998." ends a sentence
    return not _ABBREVIATION.fullmatch(word) and not _INITIALS.fullmatch(word)

"""English and Chinese sentences by rule: small, fast and good enough to pack whole sentences into rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

WRAPPED_CHARACTERS: Final = 100
"""Nobody wraps lines wider than this; a longer line is a whole paragraph. A Chinese character is two wide."""
SLACK: Final = 2
"""Columns by which a wrapped Chinese line may be shorter than it had to be."""

_CHINESE: Final = "\u3001-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff65\U00020000-\U0003ffff"
"""Characters and punctuation that take two columns and no space between them; Japanese ones too."""
_WIDE: Final = re.compile(f"[{_CHINESE}]")
_GLUED: Final = re.compile(f"[{_CHINESE}][{_CHINESE}“”‘’…—·]|[“”‘’…—·][{_CHINESE}]")
_FIRST_TOKEN: Final = re.compile(f"[{_CHINESE}“‘][，。、；：！？）」』】》”’…]*|[^\\s{_CHINESE}]+")

_ABBREVIATION: Final = re.compile(
    "mr|mrs|ms|dr|prof|rev|gen|col|sgt|capt|lt|gov|sen|rep|st|jr|sr|mt|ft|nos?|vs|cf|al|figs?|eqs?|sec|ch|vol|pp|eds?|resp|approx|dept|"
    "inc|ltd|co|corp|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec",
    re.IGNORECASE,
)
_INITIALS: Final = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")
_LIST_ITEM: Final = re.compile(
    r"\s*(?:[-*+•#>|]|>>>|\d+[.)]\s|\.\. )"
    r"|\u3000|\s*(?:[一二三四五六七八九十百\d]+、|（[一二三四五六七八九十百\d]+）|第[一二三四五六七八九十百零〇\d]+[章节節条條回卷]\s)"
)
# Quantifiers give nothing back and a run is met at its start only: no text takes more than time in proportion to its length.
_ENGLISH_END: Final = r"[.!?…](?<![.!?…]{2})[.!?…]*+[\"'”’)\]]*+\s++(?=[\"'“‘(\[]*+(?P<next>\w))"
_CHINESE_END: Final = rf"(?:[。！？；｡]|(?<=[{_CHINESE}])(?:…|\.\.\.|[!?;](?![A-Za-z0-9&=%/])))[。！？；｡…!?;.]*+[」』”’）】)\]]*+"
_ENGLISH: Final = re.compile(_ENGLISH_END)
_BOTH: Final = re.compile(f"(?P<chinese>{_CHINESE_END})|{_ENGLISH_END}")
_GOES_ON: Final = re.compile(r"\s*[，、：》〉,:]")


def sentences(text: str) -> list[str]:
    """Return the sentences of `text`, white space inside them collapsed; every other character is kept, in order.

    English ends a sentence with .!?… and white space, unless an abbreviation or a small letter tells otherwise. Chinese ends it with any
    run of 。！？；… and the quotes and brackets that close there, with or without white space after it, unless a comma or a colon
    follows; !?; and three dots count as Chinese right after a Chinese character. Lines of Chinese are put together without a space.

    Source: Chinese ends as in LTP 3.4, which BERT-wwm was made with (；and …… end a sentence there). Deviation: LTP ends one before a
    comma, too.
    """
    return [sentence for paragraph in _paragraphs(text) for sentence in _split(paragraph)]


def _paragraphs(text: str) -> Iterator[str]:
    """Yield runs of lines that belong together: an empty line, a long line or a list item begins a new one."""
    lines: list[str] = []
    for line in text.split("\n"):
        starts = not lines or _is_long(line) or _is_long(lines[-1]) or _LIST_ITEM.match(line) or not _may_go_on(lines[-1], line)
        if starts or not line.strip():
            yield from _joined(lines)
            lines = []
        if line.strip():
            lines.append(line)
    yield from _joined(lines)


def _columns(line: str) -> int:
    return len(line) + (0 if line.isascii() else len(_WIDE.findall(line)))


def _is_long(line: str) -> bool:
    return len(line) > WRAPPED_CHARACTERS or _columns(line) > WRAPPED_CHARACTERS


def _may_go_on(line: str, after: str) -> bool:
    """Decide whether `after` may be the rest of a wrapped Chinese line: not if its first word had found room there."""
    first = _FIRST_TOKEN.search(after)
    if first is None or not (_WIDE.match(line.rstrip()[-1:]) or _WIDE.match(first[0])):
        return True
    return _columns(line.strip()) + _columns(first[0]) + SLACK > _columns(after.strip())


def _joined(lines: list[str]) -> Iterator[str]:
    if lines:
        collapsed = [" ".join(line.split()) for line in lines]
        spaces = ["" if _GLUED.match(one[-1] + other[0]) else " " for one, other in pairwise(collapsed)]
        yield "".join(part for pair in zip(collapsed, [*spaces, ""], strict=True) for part in pair)


def _split(paragraph: str) -> Iterator[str]:
    start = counted = quotes = 0
    for end in (_BOTH if _WIDE.search(paragraph) else _ENGLISH).finditer(paragraph):
        stop = end.end()
        if end.lastgroup == "chinese":
            quotes += paragraph.count('"', counted, stop)
            counted = stop
            if quotes % 2 and paragraph.startswith('"', stop):
                stop += 1  # a straight quote closes where one is open
            ends = _ends_chinese(paragraph, start, end, stop)
        else:
            ends = _ends_english(paragraph, start, end)
        if ends:
            yield paragraph[start:stop].rstrip()
            start = counted = stop + paragraph.startswith(" ", stop)
            quotes = 0
    if start < len(paragraph):
        yield paragraph[start:]


def _ends_chinese(paragraph: str, start: int, end: re.Match[str], stop: int) -> bool:
    """Decide for Chinese punctuation: （！） is no end, nor is what a comma follows or the end of a title."""
    inside = end.start() > start and paragraph[end.start() - 1] in "（(「『“‘《〈【"
    return not inside and not _GOES_ON.match(paragraph, stop)


def _ends_english(paragraph: str, start: int, end: re.Match[str]) -> bool:
    """Decide for English punctuation: it ends no abbreviation, and nothing goes on with a small letter."""
    if end["next"].islower():
        return False
    if end[0].rstrip() != ".":
        return True
    first = end.start()
    while first > start and paragraph[first - 1] not in " ([\"'“‘":
        first -= 1
    word = paragraph[first : end.start()]
    if word.isdigit():
        return first != start  # "1." opens a list item, "in 1998." ends a sentence
    return not _ABBREVIATION.fullmatch(word) and not _INITIALS.fullmatch(word)

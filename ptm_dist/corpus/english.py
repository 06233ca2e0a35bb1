"""Units of English: words, noun phrases that a determiner opens, and names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from ptm_dist.corpus.units import WORD_PATTERN, Entry, Matcher, Span, clear_of, folded, marks_of, read_dictionaries, word_set

PHRASE_WORDS: Final = 3
"""Most words of a noun phrase after its determiner."""
NAME_WORDS: Final = 6
"""Most words with a capital in a name; a longer run is a headline."""

_WORDS: Final = re.compile(WORD_PATTERN)
_DETERMINERS: Final = word_set("the a an this these those my your his her its our their every each another some any no")
_COUNTS: Final = word_set("one two three four five six seven eight nine ten other own same few many most more least less such")
_FUNCTION_WORDS: Final = word_set(
    "i me you he him she it we us they them who whom whose which what where when why how that there here and or but nor so yet for if "
    "because although though while since until unless as than whether of in on at by with from to into onto upon about above across "
    "after against along among around before behind below beneath beside between beyond despite down during except inside like near off "
    "out outside over past per through throughout till toward towards under underneath up via within without is are was were be been "
    "being am do does did done have has had will would shall should can could may might must not both all either neither however "
    "therefore thus also then now only just even still perhaps later earlier"
)
_OTHER_WORDS: Final = word_set(
    "ought cannot doing having says said say tells told tell makes made make comes came come goes went go gets got get takes took take "
    "gives gave give puts put sees saw see knows knew know thinks thought think wants wanted want finds found find uses used use became "
    "becomes began begins seemed seems appeared appears remains remained left let felt feels kept keeps held holds ran runs led showed "
    "shows asked believes expects won lost too very already again ever never always often ago soon once rather quite almost well "
    "yesterday today tomorrow"
)
"""Common verbs and adverbs; they end a noun phrase as function words do."""
_NO_NAMES: Final = word_set(
    "yes yesterday such other meanwhile moreover furthermore instead indeed last first many most more much few several one two three "
    "monday tuesday wednesday thursday friday saturday sunday january february march april june july august september october november "
    "december mr mrs ms dr prof sir lord lady president minister senator governor"
)
"""Words that have a capital and are no part of a name: first words of sentences, dates, titles of persons."""
_IN_NAMES: Final = word_set("of the de del della di da la le van von der den bin ibn al el")
_CONTRACTED: Final = re.compile(r"['’](?:t|re|ve|ll|d|m)$")
_POSSESSIVE: Final = re.compile(r"['’]s$")
_VERB_OR_ADVERB: Final = re.compile(r"[a-z]{2}(?:ed|ing)$|ly$")


class EnglishUnits(BaseModel):
    """Words, phrases and entities of English by rule, and those of dictionaries.

    A word is a run of letters and digits with apostrophes inside; every other character is a word of its own. A phrase is what the
    dictionaries have, in any case, or a determiner and up to three words after it that are no function words. An entity is a person, place
    or organisation of the dictionaries, in the same case, or a run of two to six words with a capital, over "of", "the" and the like.

    Source: ERNIE (Sun et al. 2019, section 3.2) finds English phrases with "lexical analysis and chunking tools" and names none.
    Deviation: chunks are base noun phrases only. docs/units.md says how often they agree with a parser.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["english"] = "english"
    dictionaries: tuple[str, ...] = ()
    """Files with an entry a line: a word or phrase, tab, its type; person, place, organisation (PER, LOC, ORG; nr, ns, nt, nz) are
    entities."""

    @property
    def library(self) -> str:
        """The version of the rules, and a hash of the dictionaries."""
        _, content = read_dictionaries(self.dictionaries)
        return f"english 1 {content}".rstrip()

    def marks(self, texts: list[str]) -> list[np.ndarray]:
        """Return the marks of the characters of each text, uint8 [characters]."""
        entries, _ = read_dictionaries(self.dictionaries)
        phrases, names = _matchers(entries)
        return [_marks(text, phrases, names) for text in texts]


class _Word(NamedTuple):
    start: int
    end: int
    text: str

    @property
    def is_capitalised(self) -> bool:
        return self.text[0].isupper()

    def touches(self, before: _Word) -> bool:
        return before.end == self.start


@lru_cache(maxsize=4)
def _matchers(entries: tuple[Entry, ...]) -> tuple[Matcher, Matcher]:
    return Matcher(folded(entry.text) for entry in entries), Matcher(entry.text for entry in entries if entry.is_name)


def _marks(text: str, phrases: Matcher, names: Matcher) -> np.ndarray:
    words = [_Word(*found.span(), found[0]) for found in _WORDS.finditer(text)]
    spans = [word[:2] for word in words]
    known, known_names = phrases.spans(folded(text), spans), names.spans(text, spans)
    all_phrases = sorted([*known, *clear_of(_noun_phrases(words), known)])
    return marks_of(text, spans, all_phrases, sorted([*known_names, *clear_of(_names(words), known_names)]))


def _noun_phrases(words: Sequence[_Word]) -> list[Span]:
    found = []
    at = 0
    while at < len(words):
        if words[at].text.lower() not in _DETERMINERS:
            at += 1
            continue
        last, after = _end_of_phrase(words, at)
        while last > at and _is_loose(words[last].text, at + 1 < last):
            last -= 1
        if last > at:
            found.append((words[at].start, words[last].end))
        at = after
    return found


def _end_of_phrase(words: Sequence[_Word], determiner: int) -> tuple[int, int]:
    """Return the last word that belongs to a determiner, and where to go on. Parts of high-speed count as one."""
    last, at, counted = determiner, determiner + 1, 0
    while at < len(words) and counted < PHRASE_WORDS and _may_be_in_phrase(words[at].text):
        last, at, counted = at, at + 1, counted + 1
        while at + 1 < len(words) and words[at].text == "-" and words[at].touches(words[last]) and words[at + 1].touches(words[at]):
            if not words[at + 1].text[0].isalnum():
                break
            last, at = at + 1, at + 2
    return last, at


def _may_be_in_phrase(word: str) -> bool:
    low = word.lower()
    ends = low in _FUNCTION_WORDS or low in _OTHER_WORDS or low in _DETERMINERS or _CONTRACTED.search(low)
    return word[0].isalnum() and not ends


def _is_loose(word: str, has_more: bool) -> bool:
    """Decide whether a phrase may not end with a word: "the few", "the man walking"; but "a meeting"."""
    return word == "-" or word.lower() in _COUNTS or (has_more and bool(_VERB_OR_ADVERB.search(word)))


def _names(words: Sequence[_Word]) -> list[Span]:
    if _is_headline(words):
        return []
    found = []
    at = 0
    while at < len(words):
        if not _may_be_in_name(words[at]):
            at += 1
            continue
        last, count = _end_of_name(words, at)
        if last > at and count <= NAME_WORDS:
            found.append((words[at].start, words[last].end))
        at = last + 1
    return found


def _is_headline(words: Sequence[_Word]) -> bool:
    """Decide whether capitals say nothing, because all long words but function words have one."""
    long = [word.is_capitalised for word in words if len(word.text) > 3 and word.text not in _FUNCTION_WORDS]
    return len(long) > 3 and all(long)


def _may_be_in_name(word: _Word) -> bool:
    low = word.text.lower()
    return word.is_capitalised and low not in _FUNCTION_WORDS and low not in _DETERMINERS and low not in _NO_NAMES


def _end_of_name(words: Sequence[_Word], first: int) -> tuple[int, int]:
    """Return the last word of a name and how many of its words have a capital."""
    last, count = first, 1
    while not _POSSESSIVE.search(words[last].text):
        after = _next_in_name(words, last)
        if after == last:
            break
        last, count = after, count + 1
    return last, count


def _next_in_name(words: Sequence[_Word], last: int) -> int:
    """Return where the next word of a name is: after "J. ", "-", "&", or up to two words such as "of the"; `last` if it ends here."""
    at = last + 1
    rest = words[at : at + 3]
    if not rest or rest[0].start - words[last].end > 1:
        return last
    if rest[0].text == "&" or (
        rest[0].touches(words[last]) and (rest[0].text == "-" or (rest[0].text == "." and len(words[last].text) == 1))
    ):
        at += 1
    else:
        while at < last + 3 and at < len(words) and words[at].text in _IN_NAMES:
            at += 1
    return at if at < len(words) and _may_be_in_name(words[at]) else last

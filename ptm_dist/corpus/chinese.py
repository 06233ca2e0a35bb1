"""Units of Chinese: the words of jieba, in both scripts, and names put together from words by their tags."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from ptm_dist.corpus.segment import Jieba, Piece
from ptm_dist.corpus.units import NAMES, WORD_PATTERN, Entry, Matcher, Span, clear_of, folded, marks_of, read_dictionaries, word_set

NAME_WORDS: Final = 6
"""Most words of a name that is put together."""

_CHINESE: Final = re.compile("[\u4e00-\u9fd5]+")
"""The characters that jieba has words of; rarer ones are words of their own."""
_TOKENS: Final = re.compile(f"{_CHINESE.pattern}|{WORD_PATTERN}")
_LAST_OF_ORGANISATION: Final = word_set(
    "公司 集团 银行 大学 学院 中学 小学 学校 协会 学会 研究会 委员会 联合会 基金会 商会 法院 检察院 研究院 研究所 医院 公安局 税务局 "
    "管理局 监督局 总局 分局 支队 大队 中心 俱乐部 联盟 出版社 通讯社 电视台 电台 报社 日报 晚报 时报 总公司 分公司 有限公司 科技 "
    "证券 基金 保险 地产 部队 政府 党委 省委 市委 县委 区委 办公室 交易所 事务所 工作室 制片厂 大使馆 使馆 领事馆 "
    "党 局 部 院 厅 司 会 队 社 厂 所 行"
)
_LAST_OF_PLACE: Final = word_set(
    "岛 区 县 市 省 镇 乡 村 路 街 港 州 国 河 江 湖 山 湾 海 桥 寺 庙 宫 塔 门 城 盟 旗 洲 府 屯 庄 园 新区 开发区 地区 片区 商务区 "
    "半岛 群岛 海峡 山脉 机场 车站 火车站 码头 广场 大街 大道 公路 大桥 大厦 花园 小区 公园 博物馆 图书馆 体育馆 剧院 酒店 饭店 商场"
)
_INSIDE: Final = word_set("vn j b l s")
"""Tags beside nouns that words in the middle of a name may have: 管理, 中科院, 国际, ..."""
_DOTS: Final = frozenset("·•・‧")


class ChineseUnits(BaseModel):
    """Words, phrases and entities of Chinese, Simplified or Traditional.

    A word is one of jieba's; what is not Chinese is cut as in English. A phrase is a word, or an entry of the dictionaries that jieba does
    not take for one. An entity is a word that jieba tags as person, place, organisation or other name, and what such a word makes together
    with up to five more: 浙商 银行, 比尔 · 盖茨. Without `entities` only names of the dictionaries are, and cutting is faster.

    Traditional characters are read as Simplified ones, one for one. Entries of the dictionaries that are all Chinese become words of jieba
    unless their type is `phrase`.

    Source: ERNIE (Sun et al. 2019, section 3.2) takes the words of a segmenter for phrases of Chinese; BERT-wwm cuts words with LTP.
    Deviation: jieba cuts them here. docs/units.md says how often it agrees with the People's Daily.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["chinese"] = "chinese"
    entities: bool = True
    """Tag words to find names?"""
    dictionaries: tuple[str, ...] = ()
    """Files with an entry a line: a word or phrase, tab, its type; person, place, organisation (PER, LOC, ORG; nr, ns, nt, nz) are
    entities."""

    @property
    def library(self) -> str:
        """The libraries, with versions, that define the result, and a hash of the dictionaries."""
        _, content = read_dictionaries(self.dictionaries)
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jieba", "opencc"))
        return f"{versions}, chinese 1 {content}".rstrip()

    def marks(self, texts: list[str]) -> list[np.ndarray]:
        """Return the marks of the characters of each text, uint8 [characters]."""
        entries, _ = read_dictionaries(self.dictionaries)
        found = segmenter(entries)
        return [found.marks(text, self.entities) for text in texts]


class Name(NamedTuple):
    """An entity: where it begins, where it has ended, and nr, ns, nt or nz."""

    start: int
    end: int
    type: str


class _Word(NamedTuple):
    """A word and its tag; "" where it is not Chinese, "x" where jieba knows none."""

    start: int
    end: int
    text: str
    tag: str


@lru_cache(maxsize=4)
def segmenter(entries: tuple[Entry, ...]) -> Segmenter:
    """Return jieba with these entries added; loaded once a process."""
    return Segmenter(entries)


class Segmenter:
    """Finds words, phrases and names in texts of either script."""

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        """Load the dictionary of jieba and add `entries`."""
        self._script = simplified()
        plain = [Entry(entry.text.translate(self._script), entry.type) for entry in entries]
        self._jieba = Jieba([(entry.text, NAMES.get(entry.type, "n")) for entry in plain if _is_word(entry)])
        self._phrases = Matcher(folded(entry.text) for entry in plain if not _is_word(entry))
        self._known_names = Matcher(entry.text for entry in plain if entry.is_name)

    def words(self, text: str) -> list[Span]:
        """Return all words of a text, in order."""
        return self._words(self._pieces(text.translate(self._script)))

    def names(self, text: str) -> list[Name]:
        """Return the names of a text that consist of whole words, in order."""
        pieces = self._pieces(text.translate(self._script))
        return self._names(pieces, self._words(pieces))

    def marks(self, text: str, entities: bool) -> np.ndarray:
        """Return the marks of a text's characters, uint8 [characters]."""
        plain = text.translate(self._script)
        pieces = self._pieces(plain)
        words = self._words(pieces)
        names = self._known_names.spans(plain, words)
        if entities:
            names = sorted([*names, *clear_of((name[:2] for name in self._names(pieces, words)), names)])
        return marks_of(text, words, self._phrases.spans(folded(plain), words), names)

    def _pieces(self, plain: str) -> list[Piece]:
        found: list[Piece] = []
        for token in _TOKENS.finditer(plain):
            if _CHINESE.match(token[0]):
                found.extend(self._jieba.pieces(token[0], token.start()))
            else:
                found.append(Piece(token.start(), token[0], unknown=False))
        return found

    def _words(self, pieces: Sequence[Piece]) -> list[Span]:
        found: list[Span] = []
        for piece in pieces:
            at = piece.start
            for length in self._jieba.words(piece):
                found.append((at, at + length))
                at += length
        return found

    def _names(self, pieces: Sequence[Piece], words: Sequence[Span]) -> list[Name]:
        tagged: list[_Word] = []
        for piece in pieces:
            at = 0
            for length, tag in self._jieba.tagged(piece) if _CHINESE.match(piece.text) else ((len(piece.text), ""),):
                tagged.append(_Word(piece.start + at, piece.start + at + length, piece.text[at : at + length], tag))
                at += length
        starts, ends = {start for start, _ in words}, {end for _, end in words}
        return [name for name in _names(tagged) if name.start in starts and name.end in ends]


def _is_word(entry: Entry) -> bool:
    """Decide whether an entry becomes a word of jieba."""
    return entry.type != "phrase" and _CHINESE.fullmatch(entry.text) is not None


@lru_cache(maxsize=1)
def simplified() -> dict[int, str]:
    """Return the Simplified character of each Traditional one that has one, for str.translate; a text keeps its length."""
    from opencc import OpenCC

    ranges = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x323B0))
    letters = [chr(number) for first, after in ranges for number in range(first, after)]
    found = OpenCC("t2s").convert("\n".join(letters)).split("\n")
    changed = {ord(letter): plain for letter, plain in zip(letters, found, strict=True) if plain != letter and len(plain) == 1}
    return changed | {ord("〇"): "零"}  # which jieba does not take for a character


def _names(words: Sequence[_Word]) -> Iterator[Name]:
    """Yield the names among tagged words, from left to right the longest."""
    at = 0
    while at < len(words):
        kind = _kind(words[at])
        last, found = _joined_by_dots(words, at), "nr"
        if last == at and kind:
            last, found = _joined_by_end(words, at)
        if last == at and kind == "nr" and len(words[at].text) == 1 and _is_given_name(words, at + 1):
            last, found = at + 1, "nr"
        if last > at or kind:
            yield Name(words[at].start, words[last].end, found if last > at else kind)
        at = last + 1


def _kind(word: _Word) -> str:
    return word.tag[:2] if word.tag[:2] in ("nr", "ns", "nt", "nz") else ""


def _follows(words: Sequence[_Word], at: int) -> bool:
    """Decide whether there is a word at this place, and nothing between it and the one before."""
    return at < len(words) and words[at - 1].end == words[at].start


def _is_given_name(words: Sequence[_Word], at: int) -> bool:
    return _follows(words, at) and _kind(words[at]) == "nr" and len(words[at].text) <= 2


def _joined_by_dots(words: Sequence[_Word], first: int) -> int:
    """Return the last word of a foreign name such as 比尔·盖茨; jieba may make two words of a part."""
    last = first
    while words[last].tag and _follows(words, last + 1) and words[last + 1].text in _DOTS:
        if not _follows(words, last + 2) or not words[last + 2].tag:
            break
        last += 2
    while last > first and _follows(words, last + 1) and _kind(words[last + 1]) in ("nr", "ns"):
        last += 1
    return last


def _joined_by_end(words: Sequence[_Word], first: int) -> tuple[int, str]:
    """Return the last word of an organisation or a place that begins with a name: 北京 咨询 公司, 坂雪岗 片区; and nt or ns."""
    last, found = first, ""
    for at in range(first + 1, first + NAME_WORDS):
        if not _follows(words, at) or (words[at].tag[:1] != "n" and words[at].tag not in _INSIDE):
            break
        if words[at].text in _LAST_OF_ORGANISATION:
            last, found = at, "nt"
        elif words[at].text in _LAST_OF_PLACE:
            last, found = at, "ns"
    return last, found

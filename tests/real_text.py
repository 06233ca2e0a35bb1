"""Real text for tests: where it lies, and what is in it. It is no part of the project; tests over it skip where it is absent."""

from __future__ import annotations

import gzip
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from ptm_dist.corpus.read import InstalledDocs
from ptm_dist.rng import Draws

DATA = Path(os.environ.get("PTM_DATA") or Path(__file__).parents[2] / "shared" / "data")
"""The folder of real text, and PTM_DATA where that is set."""


def real(name: str) -> Path:
    """Return a file of real text by its path in the folder; skips the test where it is absent."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"real text is absent: {name} is not in {DATA}; PTM_DATA names another folder")
    return path


def lines(name: str) -> Iterator[str]:
    """Yield the lines of a compressed text, without their ends."""
    with gzip.open(real(name), "rt", encoding="utf8") as file:
        for line in file:
            yield line.rstrip("\n")


def records(name: str) -> Iterator[dict[str, Any]]:
    """Yield the records of a compressed file that has one a line."""
    return (json.loads(line) for line in lines(name))


def paragraphs(name: str, count: int, field: str = "text") -> list[str]:
    """Return the first `count` lines with text in it that stand in a field of the records."""
    found = (line.strip() for record in records(name) for line in record[field].splitlines())
    return list(islice(filter(None, found), count))


def mixed_lines() -> list[str]:
    """Return 10,000 lines, always the same: English and Chinese in both scripts, then 500 made-up ones that are hard to cut.

    Without the folder the real ones are from docstrings, all English.
    """
    return [*(_found() if DATA.exists() else _documented()), *made_up_lines(500)]


def _found() -> list[str]:
    english = _sentences(paragraphs("en/news_articles.jsonl.gz", 600), 3500)
    wiki = _sentences(lines("en/wikitext2.valid.txt.gz"), 2000)
    chinese = _sentences(paragraphs("zh/inews.train.jsonl.gz", 600), 2500)
    traditional = [*_sentences(lines("zht/cantonese_sentences.txt.gz"), 1000), *_sentences(paragraphs("zht/manuals.jsonl.gz", 900), 500)]
    return [*english, *wiki, *chinese, *traditional]


def _documented() -> list[str]:
    documents = InstalledDocs().read(["topics"])
    found = [line for document in documents if not isinstance(document, str) for line in document.text.splitlines() if line.strip()]
    return [found[number % len(found)] for number in range(9500)]


def _sentences(texts: Iterable[str], count: int) -> list[str]:
    found = (sentence for text in texts for sentence in re.split(r"(?<=[.!?]) (?=\w)|(?<=[。！？])", text) if sentence.strip())
    return list(islice(found, count))


HARD = (
    # Control and format characters.
    "a\x00b\x01c\x1cd\x7fe\x80f\x9fg\ufeffh\u200bi\u200dj\u2028k\x85l\x0bm",
    # Accents in both forms, and letters whose other case is something special.
    "naïve cafe\u0301 \u1e9b\u0323 Ångström İstanbul ßẞ Ÿ ΑΣ Οδός",
    # Compatibility forms.
    "\ufb01gures ＡＢＣ １２３ ① ½ ㎥ Ⅷ \U0001d400 ｶﾞ",
    "“curly” ‘quotes’ ``old'' — – … ´ «» don’t",
    # Emoji, joined and coloured, flags and keys.
    "\U0001f600\U0001f1ef\U0001f1f5\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f3fd \u2764\ufe0f \u263a 5\ufe0f\u20e3",
    "한국어 디지털 日本語がぎ パピ हिन्दी ไทยที่",
    "Привет ש\u05b8\u05c1 مَرحبا ١٢٣,",
    # Rare Chinese characters, private use.
    "\u3400 \U00020000 \U0002a700 \U0002b740 \U0002b820 \U0002ceb0 \U0002f800 \uf900 \u3007 \ue000 \ufffd \u2581",
    "$1,000.50 100, 3,14 1/2 3.14% 10:30 a.m. U.S.A. e.g. x=y<z>w #1 @me a_b C++ C# http://a.b/c?d=e&f#g me@x.org",
    "I'LL we'll  two   three\tfour \u00a0 five\u3000six  ",
    "[CLS] [SEP] [MASK] [PAD] [UNK] <s> </s> <pad> <mask> <unk> <sep> <cls> <eod> <eop> <|endoftext|> </w> <S> <UNK>",
    "!!! ??? ... -- --- !?!? ,,, ''' \"\" (((a))) [b] {c} |d| ~e~ ^f^ \\g\\ *h*",
)
"""What a line may hold that a tokenizer gets wrong."""


def made_up_lines(count: int) -> list[str]:
    """Return lines of pieces of `HARD` beside each other, of very long words, and of characters from all of Unicode 3.2."""
    draws = Draws(7, "made_up_lines")
    pieces = [piece for line in HARD for piece in re.split(r"( )", line)]
    # Newer characters are something else to libraries of different age.
    every = [chr(number) for number in range(1, 0x30000) if unicodedata.ucd_3_2_0.category(chr(number)) not in ("Cn", "Cs")]
    found = [*HARD, "x" * 99, "x" * 100, "x" * 101, "y" * 200, "y" * 201, "ab" * 2000, "\u4e2d" * 300, "1" * 150, "-" * 120, "", " ", "\n"]
    while len(found) < count:
        words = [pieces[number] for number in draws.integers(8, len(pieces))]
        letters = "".join(every[number] for number in draws.integers(6, len(every)))
        found.append("".join([*words, " ", letters, " ", words[0] * int(draws.integers(1, 40)[0])]))
    return found

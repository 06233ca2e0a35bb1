"""Whole words by their frequency: the vocabulary of ELMo, which reads the letters of words and predicts their ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import tokenizers
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Regex, models, normalizers, pre_tokenizers

from ptm_dist.corpus.gpt_bpe import TITLES
from ptm_dist.corpus.tokenizer import NO_TEXT, folder_files
from ptm_dist.data.characters import BEGIN, END
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import DataUnavailableError

UNKNOWN: Final = "<UNK>"
SPECIALS: Final = (BEGIN, END, UNKNOWN)
WORD_FILE: Final = "vocab.txt"

_LETTER: Final = r"[\p{L}\p{M}\p{N}]"
_SHORT: Final = rf"['\u2019](?:[stdm]|ll|re|ve)(?!{_LETTER})"
WORDS: Final = "|".join(
    [
        r"([.\-])\1+",  # ... and --
        rf"(?:\p{{Lu}}\.)+(?!{_LETTER})|(?:\p{{L}}\.){{2,}}(?!{_LETTER})|(?i:(?=[a-z]++\.)(?:{TITLES})\.(?!{_LETTER}))",  # U.S., p.m., Mr.
        _SHORT,
        rf"{_LETTER}+(?:(?:[.:\-&]|(?!{_SHORT})['\u2019]|(?<=\p{{N}}),(?=\p{{N}})){_LETTER}+)*",  # well-known, o'clock, 1,000.50
        r"\S",
    ]
)
"""A word once punctuation is split off, for the regular expressions of the tokenizers library."""


class WordList(BaseModel):
    """The most frequent words, each with an id; any other has that of <UNK>.

    A word is what white space bounds, after punctuation has been split off: "Don't go, U.S.!" is Don 't go , U.S. !. The vocabulary is <S>,
    </S>, <UNK>, then words by falling frequency, equally frequent ones in the order of their characters. There is no token that pads, for
    padding of words has no characters; `pad` names </S>.

    Source: Peters et al. 2018; allenai/bilm-tf, data.py. The published vocabulary is of a corpus that is tokenised already.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["words"] = "words"
    vocab_size: Annotated[int, Field(gt=len(SPECIALS))] = 793_471
    """Ids in all; fewer when the corpus has not so many words."""
    least_count: Annotated[int, Field(ge=1, description="a word must occur this often to have an id")] = 3
    split_punctuation: Annotated[bool, Field(description="false for text whose words stand between spaces already")] = True

    @property
    def library(self) -> str:
        """The library, with version, that defines the result."""
        return f"tokenizers {tokenizers.__version__}"

    def train(self, texts: Iterator[str]) -> dict[str, bytes]:
        """Count the words of `texts` and return the files of a tokenizer folder; equal texts give equal bytes, in any order.

        Raises:
            DataUnavailableError: there is no text.

        """
        cutter = self._cutter()
        counts = Counter(word for text in texts for word, _ in cutter.pre_tokenize_str(text))
        if not counts:
            raise DataUnavailableError(NO_TEXT)
        frequent = sorted((-count, word) for word, count in counts.items() if count >= self.least_count and word not in SPECIALS)
        words = [*SPECIALS, *(word for _, word in frequent[: self.vocab_size - len(SPECIALS)])]
        vocabulary = Vocabulary(len(words), begin=0, pad=1, end=1, unknown=2, mask=None, spelled=True)
        special = {"bos_token": BEGIN, "eos_token": END, "unk_token": UNKNOWN}
        files = folder_files(self._tokenizer(words), vocabulary, special, {"tokenizer_class": "PreTrainedTokenizerFast"})
        return files | {WORD_FILE: "".join(f"{word}\n" for word in words).encode()}

    def _tokenizer(self, words: list[str]) -> tokenizers.Tokenizer:
        model = models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=UNKNOWN)
        tokenizer = tokenizers.Tokenizer(model)
        if not self.split_punctuation:
            # A word of the text that is written like a special token is no such token, but an unknown word.
            tokenizer.normalizer = normalizers.Replace(Regex(rf"(?<!\S)(?:{BEGIN}|{END})(?!\S)"), UNKNOWN)
        tokenizer.pre_tokenizer = self._cutter()
        tokenizer.add_special_tokens(list(SPECIALS))
        return tokenizer

    def _cutter(self) -> pre_tokenizers.PreTokenizer:
        if self.split_punctuation:
            return pre_tokenizers.Split(Regex(WORDS), "removed", invert=True)
        return pre_tokenizers.WhitespaceSplit()

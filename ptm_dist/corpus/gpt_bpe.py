"""GPT's byte-pair encoding of lower-cased words, learned and run by Hugging Face tokenizers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import tokenizers
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from ptm_dist.corpus.tokenizer import NO_TEXT, bpe_files, folder_files, frequent_letters, lower
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError, DataUnavailableError

UNKNOWN: Final = "<unk>"
END_OF_WORD: Final = "</w>"
LINE_END: Final = f"\n{END_OF_WORD}"
_FED_AT_ONCE: Final = 10_000
"""How often a word is written into one text for the learner."""

_LETTER: Final = r"[\p{L}\p{M}\p{N}]"
_SHORT: Final = rf"'(?:s|m|d|ll|re|ve)(?!{_LETTER})"
TITLES: Final = (
    "adm|apr|aug|bros|co|corp|dec|dr|feb|gen|gov|inc|jan|jr|ltd|mar|messrs|mr|mrs|ms|mt|nov|oct|prof|rep|rev|sen|sep|sept|sr|st|vs"
)
"""What a full stop belongs to."""
WORDS: Final = "|".join(
    [
        r"\n",
        r"([-~+/\\|])\1*",  # a run of a mark
        r"\.{2,}",
        rf"(?=[\p{{L}}\p{{M}}]++'t(?!{_LETTER}))[\p{{L}}\p{{M}}]+?(?=n't)|n't(?!{_LETTER})",  # do n't
        rf"can(?=not(?!{_LETTER}))",
        _SHORT,
        rf"(?:\p{{L}}\.)+(?!{_LETTER})|(?=[a-z]++\.)(?:{TITLES})\.(?!{_LETTER})",  # u.s., mr.
        rf"@?{_LETTER}+(?:(?!{_SHORT})[.:@&']{_LETTER}+)*",
        r"[^\s\x1c-\x1f]",
    ]
)
"""A word of standardised text, for the regular expressions of the tokenizers library."""


class GptBPE(BaseModel):
    r"""Byte-pair encoding within lower-cased words; the last symbol of a word carries </w>, and the end of a line is a word.

    The vocabulary: <unk>, the characters, the same with </w>, a piece for each merge, and "\n</w>". It has no token that begins, ends
    or pads a text; <unk>, which hardly occurs, is named for all three.

    Source: Radford et al. 2018 (GPT), section 4.1; openai/finetune-transformer-lm, text_utils.py. Deviations: words are cut by a regular
    expression instead of spaCy, on lower-cased text; both cut 99 % of the sentences of English news alike, the others differ in
    units ("500 m"), rare abbreviations and slang. Of ftfy's repairs only quotes are made straight here, the rest belongs to cleaning.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["gpt_bpe"] = "gpt_bpe"
    vocab_size: Annotated[int, Field(ge=4)] = 40_478
    """Ids in all; fewer when the corpus is too small to learn so many."""
    least_count: Annotated[int, Field(ge=1, description="a character, and a pair to be merged, must occur this often")] = 2

    @property
    def library(self) -> str:
        """The library, with version, that defines the result."""
        return f"tokenizers {tokenizers.__version__}"

    def train(self, texts: Iterator[str]) -> dict[str, bytes]:
        """Learn the merges from `texts` and return the files of a tokenizer folder; equal texts give equal bytes, in any order.

        Raises:
            DataUnavailableError: there is no text.
            ConfigError: vocab_size has no room for the characters.

        """
        standard, cutter = _standard(), _cutter()
        words = Counter(word for text in texts for word, _ in cutter.pre_tokenize_str(standard.normalize_str(text)))
        del words["\n"]
        if not words:
            raise DataUnavailableError(NO_TEXT)
        first = [UNKNOWN, *self._characters(words)]
        room = self.vocab_size - len(first) - 1
        if room < 0:
            raise ConfigError(
                f"tokenizer.vocab_size {self.vocab_size} has no room for {len(first) // 2:,} characters, twice each. "
                f"Raise it to {self.vocab_size - room:,} at least, or raise least_count."
            )
        vocab, merges = self._learned(words, first)
        vocab[LINE_END] = len(vocab)
        vocabulary = Vocabulary(len(vocab), begin=0, pad=0, end=0, unknown=0, mask=None)
        # Transformers' own class for this model cuts words as BERT does.
        config = {"tokenizer_class": "PreTrainedTokenizerFast"}
        return folder_files(gpt_tokenizer(vocab, merges), vocabulary, {"unk_token": UNKNOWN}, config) | bpe_files(vocab, merges)

    def _characters(self, words: Counter[str]) -> list[str]:
        frequent = frequent_letters(words, self.least_count)
        return [*frequent, *(f"{letter}{END_OF_WORD}" for letter in frequent)]

    def _learned(self, words: Counter[str], first: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
        """Return the vocabulary, `first` with what was merged after it, and the merges."""
        learner = tokenizers.Tokenizer(models.BPE())
        learner.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size - 1,  # the end of a line follows
            min_frequency=self.least_count,
            show_progress=False,
            # Symbols that are there before have ids that do not depend on the order of words, by which the library breaks ties.
            special_tokens=first,
            limit_alphabet=0,
            end_of_word_suffix=END_OF_WORD,
        )
        learner.train_from_iterator(_fed(words, first), trainer)
        learned = json.loads(learner.to_str())["model"]
        return learned["vocab"], [(left, right) for left, right in learned["merges"]]


def _fed(words: Counter[str], symbols: list[str]) -> Iterator[str]:
    """Yield texts in which each word stands as often as it was counted; words with a rare character teach nothing."""
    known = set(symbols)
    for word, count in sorted(words.items()):
        if known.issuperset(word):
            for start in range(0, count, _FED_AT_ONCE):
                yield f"{word} " * min(count - start, _FED_AT_ONCE)


def gpt_tokenizer(vocab: dict[str, int], merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
    """Return a tokenizer that cuts text as GPT does, with a vocabulary of this kind."""
    model = models.BPE(vocab=vocab, merges=merges, unk_token=UNKNOWN, end_of_word_suffix=END_OF_WORD, fuse_unk=False)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = _standard()
    tokenizer.pre_tokenizer = _cutter()
    tokenizer.decoder = decoders.BPEDecoder(suffix=END_OF_WORD)
    tokenizer.add_special_tokens([UNKNOWN])
    return tokenizer


def _standard() -> normalizers.Normalizer:
    space = r"[\s\x1c-\x1f]*"
    return normalizers.Sequence(
        [
            normalizers.Replace(Regex("[\u2014\u2013\u2015]"), "-"),
            normalizers.Replace("\u2026", "..."),
            normalizers.Replace(Regex("[\u00b4\u2018\u2019]"), "'"),
            normalizers.Replace(Regex("[\u201c\u201d]"), '"'),
            normalizers.Replace(Regex(rf"{space}\n{space}"), "\n"),
            normalizers.Strip(),
            lower(),
        ]
    )


def _cutter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(WORDS), "removed", invert=True)

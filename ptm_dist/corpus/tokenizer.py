"""Byte-level BPE with the special ids of RoBERTa or of GPT-2, trained and run by Hugging Face tokenizers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import tokenizers
from pydantic import BaseModel, ConfigDict, Field, model_validator
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import DataUnavailableError

TOKENIZER_FILE: Final = "tokenizer.json"
VOCABULARY_FILE: Final = "vocabulary.json"
LEAST_IDS: Final = 261
"""256 bytes, <s>, <pad>, </s>, <unk> and <mask>."""

_FIRST: Final = ("<s>", "<pad>", "</s>", "<unk>")
_MASK: Final = "<mask>"
END_OF_TEXT: Final = "<|endoftext|>"


class ByteBPE(BaseModel):
    """Byte-pair encoding over bytes: any text has ids, none is unknown.

    `roberta`: <s>, <pad>, </s> and <unk> come first, <mask> last. `gpt2`: the bytes come first, and the last id, <|endoftext|>, begins,
    ends and pads; there is no mask.

    Source: Radford et al. 2019 (GPT-2), section 2.2; special ids of Liu et al. 2019 (RoBERTa) or of openai/gpt-2, encoder.py.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["byte_bpe"] = "byte_bpe"
    specials: Literal["roberta", "gpt2"] = "roberta"
    vocab_size: Annotated[int, Field(ge=LEAST_IDS)] = 50_265
    """Ids in all, by default as many as published (50,257 for gpt2); fewer when the corpus is too small to learn so many."""
    least_count: Annotated[int, Field(ge=1)] = 2
    """A pair must occur this often to be merged."""

    @model_validator(mode="before")
    @classmethod
    def _published(cls, told: Any) -> Any:
        return {"vocab_size": 50_257} | told if isinstance(told, dict) and told.get("specials") == "gpt2" else told

    @property
    def library(self) -> str:
        """The library, with version, that defines the result."""
        return f"tokenizers {tokenizers.__version__}"

    def train(self, texts: Iterator[str]) -> dict[str, bytes]:
        """Learn the merges from `texts` and return the files of a tokenizer folder; equal texts give equal bytes.

        Raises:
            DataUnavailableError: there is no text.

        """
        learner = tokenizers.Tokenizer(models.BPE())
        learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        seen = _Seen(texts)
        learner.train_from_iterator(seen, self._trainer())
        if not seen.any:
            raise DataUnavailableError(NO_TEXT)
        learned = json.loads(learner.to_str())["model"]
        merges = [tuple(merge) for merge in learned["merges"]]
        vocab = learned["vocab"] | {_MASK if self.specials == "roberta" else END_OF_TEXT: len(learned["vocab"])}
        return (_roberta_files if self.specials == "roberta" else _gpt2_files)(vocab, merges)

    def _trainer(self) -> trainers.BpeTrainer:
        return trainers.BpeTrainer(
            vocab_size=self.vocab_size - 1,  # <mask> or <|endoftext|> follows
            min_frequency=self.least_count,
            show_progress=False,
            special_tokens=list(_FIRST) if self.specials == "roberta" else [],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )


NO_TEXT: Final = "tokenizer: there is no text to learn from. Add text to the sources, or relax corpus.clean."


def frequent_letters(words: Counter[str], least_count: int) -> list[str]:
    """Return the characters that occur `least_count` times in counted words, the most frequent first."""
    counts = Counter[str]()
    for word, count in words.items():
        for letter in word:
            counts[letter] += count
    return [letter for letter, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if count >= least_count]


class _Seen:
    """Passes texts on and remembers whether one had a word in it."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._texts = texts
        self.any = False

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.any = self.any or bool(text.strip())
            yield text


def byte_level(vocab: dict[str, int], merges: list[tuple[str, str]], space: bool = False) -> tokenizers.Tokenizer:
    """Return a tokenizer that does byte-level BPE and knows no special token; `space`: put one before each text."""
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _roberta_files(vocab: dict[str, int], merges: list[tuple[str, str]]) -> dict[str, bytes]:
    tokenizer = byte_level(vocab, merges)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    # <mask> takes the space before it, because a word carries its space in front.
    tokenizer.add_special_tokens([*(AddedToken(token, special=True) for token in _FIRST), AddedToken(_MASK, lstrip=True, special=True)])
    begin, pad, end, unknown = range(len(_FIRST))
    vocabulary = Vocabulary(len(vocab), begin, pad, end, unknown, vocab[_MASK])
    config = {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": False}
    return folder_files(tokenizer, vocabulary, _SPECIAL_TOKENS, config) | bpe_files(vocab, merges)


def _gpt2_files(vocab: dict[str, int], merges: list[tuple[str, str]]) -> dict[str, bytes]:
    tokenizer = byte_level(vocab, merges)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True)])
    end = vocab[END_OF_TEXT]
    special = {f"{role}_token": END_OF_TEXT for role in ("bos", "eos", "pad", "unk")}
    config = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False}
    return folder_files(tokenizer, Vocabulary(len(vocab), end, end, end, None, None), special, config) | bpe_files(vocab, merges)


def folder_files(
    tokenizer: tokenizers.Tokenizer, vocabulary: Vocabulary, special: dict[str, Any], config: dict[str, Any]
) -> dict[str, bytes]:
    """Return the files that every tokenizer folder has, two of them for Hugging Face."""
    return {
        TOKENIZER_FILE: tokenizer.to_str(pretty=True).encode(),
        VOCABULARY_FILE: json_file(vocabulary.to_json()),
        "special_tokens_map.json": json_file(special),
        "tokenizer_config.json": json_file(config | special),
    }


def bpe_files(vocab: dict[str, int], merges: list[tuple[str, str]]) -> dict[str, bytes]:
    """Return a vocabulary and merges as the files that older readers of byte-pair encodings take."""
    by_id = dict(sorted(vocab.items(), key=lambda item: item[1]))
    pairs = "".join(f"{left} {right}\n" for left, right in merges)
    return {"vocab.json": json_file(by_id), "merges.txt": f"#version: 0.2\n{pairs}".encode()}


_SPECIAL_TOKENS: Final[dict[str, Any]] = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "mask_token": {"content": _MASK, "lstrip": True, "normalized": False, "rstrip": False, "single_word": False},
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
}


def lower() -> normalizers.Normalizer:
    """Return what takes case away as Python does: a capital sigma at the end of a word has a form of its own."""
    cased = r"[\p{Lu}\p{Ll}\p{Lt}]"
    ending = normalizers.Replace(Regex(rf"(?<={cased})\u03a3(?![\p{{Mn}}\p{{Lm}}\p{{Sk}}\p{{Cf}}'.:\u00b7\u2019]*{cased})"), "\u03c2")
    return normalizers.Sequence([ending, normalizers.Lowercase()])


def json_file(value: Any) -> bytes:
    """Return a JSON file of a tokenizer folder; equal values give equal bytes."""
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


class FolderTokenizer:
    """A tokenizer folder, open. Special tokens that stand in a text are letters to it, not ids."""

    def __init__(self, read: Callable[[str], bytes]) -> None:
        """Open a tokenizer whose files `read` returns by name."""
        self._read = read
        self.vocabulary = Vocabulary(**json.loads(read(VOCABULARY_FILE)))

    @cached_property
    def _tokenizer(self) -> tokenizers.Tokenizer:
        tokenizer = tokenizers.Tokenizer.from_str(self._read(TOKENIZER_FILE).decode())
        # A text about "<mask>" must not put the id of a mask into the corpus.
        tokenizer.encode_special_tokens = True
        # It would add special tokens, which formats do, and it may change offsets.
        tokenizer.post_processor = None  # type: ignore[assignment]
        return tokenizer

    def encode(self, texts: list[str]) -> list[np.ndarray]:
        """Return the ids of each text, int32 [tokens], without special tokens."""
        return [np.array(found.ids, dtype=np.int32) for found in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def encode_with_offsets(self, texts: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return of each text the ids, int32 [tokens], and the characters each stands for, from and up to, int32 [tokens, 2].

        White space before a word belongs to no token, unless the token is nothing else. Tokens that share a character all have it.
        """
        encoded = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [
            (np.array(found.ids, dtype=np.int32), _without_space(text, np.fromiter(chain.from_iterable(found.offsets), dtype=np.int32)))
            for text, found in zip(texts, encoded, strict=True)
        ]

    def encode_with_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the ids of a text, and of each the characters it stands for, from and up to."""
        ((ids, offsets),) = self.encode_with_offsets([text])
        return ids.tolist(), [(start, end) for start, end in offsets.tolist()]

    def pieces(self, ids: list[int]) -> list[str]:
        """Return the text of each token by itself, with the space that parts it from the token before, or after in GPT's way."""
        end = self.vocabulary.end
        before = len(self.decode([end]))
        return [self.decode([end, number])[before:] + " " * self._ends_word(number) for number in ids]

    def _ends_word(self, number: int) -> bool:
        return (self._tokenizer.id_to_token(number) or "").endswith("</w>")

    def decode(self, ids: list[int]) -> str:
        """Return the text of `ids`, special tokens shown as written."""
        return self._tokenizer.decode(ids, skip_special_tokens=False)


_IS_SPACE: Final = np.array([chr(number).isspace() for number in range(0x3002)])
"""By character; the last stands for all that follow."""


def _without_space(text: str, offsets: np.ndarray) -> np.ndarray:
    """Return offsets [tokens, 2] that begin where the white space ends with which a token begins."""
    starts, ends = offsets.reshape(-1, 2).T
    letters = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    places = np.arange(len(letters) + 1)
    # The next character that is no white space, from each on.
    places[:-1][_IS_SPACE[np.minimum(letters, len(_IS_SPACE) - 1)]] = len(letters)
    words = np.minimum.accumulate(places[::-1])[::-1][starts]
    return np.stack([np.where(words < ends, words, starts), ends], 1).astype(np.int32)


def load_tokenizer(folder: Path) -> FolderTokenizer:
    """Open a tokenizer folder.

    Raises:
        DataUnavailableError: it is not there.

    """
    if not (folder / TOKENIZER_FILE).exists():
        raise DataUnavailableError(f"{folder}: there is no tokenizer here ({TOKENIZER_FILE} is missing). Run: ptm data prepare RECIPE")
    return FolderTokenizer(lambda name: (folder / name).read_bytes())

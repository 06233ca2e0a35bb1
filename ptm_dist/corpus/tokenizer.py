"""Byte-level BPE with RoBERTa's special ids, trained and run by Hugging Face tokenizers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import tokenizers
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers

from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import DataUnavailableError

TOKENIZER_FILE: Final = "tokenizer.json"
VOCABULARY_FILE: Final = "vocabulary.json"
LEAST_IDS: Final = 261
"""256 bytes, <s>, <pad>, </s>, <unk> and <mask>."""

_FIRST: Final = ("<s>", "<pad>", "</s>", "<unk>")
_MASK: Final = "<mask>"


class ByteBPE(BaseModel):
    """Byte-pair encoding over bytes: any text has ids, none is unknown.

    Source: Radford et al. 2019 (GPT-2), section 2.2; special ids of Liu et al. 2019 (RoBERTa).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["byte_bpe"] = "byte_bpe"
    vocab_size: Annotated[int, Field(ge=LEAST_IDS)] = 50_265
    """Ids in all; fewer when the corpus is too small to learn so many. <mask> is always the last."""
    least_count: Annotated[int, Field(ge=1)] = 2
    """A pair must occur this often to be merged."""

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
            raise DataUnavailableError("tokenizer: there is no text to learn from. Add text to the sources, or relax corpus.clean.")
        learned = json.loads(learner.to_str())["model"]
        merges = [tuple(merge) for merge in learned["merges"]]
        return _files(learned["vocab"] | {_MASK: len(learned["vocab"])}, merges)

    def _trainer(self) -> trainers.BpeTrainer:
        return trainers.BpeTrainer(
            vocab_size=self.vocab_size - 1,  # <mask> follows
            min_frequency=self.least_count,
            show_progress=False,
            special_tokens=list(_FIRST),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )


class _Seen:
    """Passes texts on and remembers whether one had a word in it."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._texts = texts
        self.any = False

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.any = self.any or bool(text.strip())
            yield text


def _files(vocab: dict[str, int], merges: list[tuple[str, str]]) -> dict[str, bytes]:
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    # <mask> takes the space before it, because a word carries its space in front.
    tokenizer.add_special_tokens([*(AddedToken(token, special=True) for token in _FIRST), AddedToken(_MASK, lstrip=True, special=True)])
    begin, pad, end, unknown = range(len(_FIRST))
    vocabulary = Vocabulary(len(vocab), begin, pad, end, unknown, vocab[_MASK])
    by_id = dict(sorted(vocab.items(), key=lambda item: item[1]))
    return {
        TOKENIZER_FILE: tokenizer.to_str(pretty=True).encode(),
        VOCABULARY_FILE: json_file(vocabulary.to_json()),
        "vocab.json": json_file(by_id),
        "merges.txt": ("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges)).encode(),
        "special_tokens_map.json": json_file(_SPECIAL_TOKENS),
        "tokenizer_config.json": json_file({"tokenizer_class": "RobertaTokenizer", "add_prefix_space": False} | _SPECIAL_TOKENS),
    }


_SPECIAL_TOKENS: Final[dict[str, Any]] = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "mask_token": {"content": _MASK, "lstrip": True, "normalized": False, "rstrip": False, "single_word": False},
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
}


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
        return tokenizer

    def encode(self, texts: list[str]) -> list[np.ndarray]:
        """Return the ids of each text, int32 [tokens], without special tokens."""
        return [np.array(found.ids, dtype=np.int32) for found in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def encode_with_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the ids of a text, and of each the characters it stands for, from and up to."""
        found = self._tokenizer.encode(text, add_special_tokens=False)
        return found.ids, found.offsets

    def decode(self, ids: list[int]) -> str:
        """Return the text of `ids`, special tokens shown as written."""
        return self._tokenizer.decode(ids, skip_special_tokens=False)


def load_tokenizer(folder: Path) -> FolderTokenizer:
    """Open a tokenizer folder.

    Raises:
        DataUnavailableError: it is not there.

    """
    if not (folder / TOKENIZER_FILE).exists():
        raise DataUnavailableError(f"{folder}: there is no tokenizer here ({TOKENIZER_FILE} is missing). Run: ptm data prepare RECIPE")
    return FolderTokenizer(lambda name: (folder / name).read_bytes())

"""A tokenizer that somebody made before: the one of a Hugging Face folder or of another run, with words of a domain added if wanted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import tokenizers
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import AddedToken
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

from ptm_dist.corpus.tokenizer import TOKENIZER_FILE, VOCABULARY_FILE, FolderTokenizer, json_file
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError, DataUnavailableError
from ptm_dist.store import read_json, sha256_bytes

WORD_PIECES: Final = "vocab.txt"
SETTINGS: Final = ("tokenizer_config.json", "special_tokens_map.json")
COPIED: Final = (*SETTINGS, "added_tokens.json")
ADDED: Final = "added_words.json"
"""Says of each added word which ids its pieces had, and by a hash in which tokenizer.json."""

ROLES: Final = {
    "begin": ("cls_token", "bos_token"),
    "end": ("sep_token", "eos_token"),
    "pad": ("pad_token",),
    "unknown": ("unk_token",),
    "mask": ("mask_token",),
}
"""What a special token is to us: what Hugging Face calls it, the first that is there."""

USUAL: Final = {
    "begin": ("[CLS]", "<s>", "<cls>", "<|endoftext|>"),
    "end": ("[SEP]", "</s>", "<sep>", "<|endoftext|>"),
    "pad": ("[PAD]", "<pad>"),
    "unknown": ("[UNK]", "<unk>"),
    "mask": ("[MASK]", "<mask>"),
}
"""Where a folder does not say: what special tokens are usually called."""


class Existing(BaseModel):
    """The tokenizer of a folder: tokenizer.json, or the vocab.txt of a BERT; `add` names a file with a word a line.

    An added word is one token wherever it stands as a word of its own (in Chinese, wherever it stands), and its row of the embedding
    begins as the mean of the rows of its pieces when the run starts from the model of that folder (`init:`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["existing"] = "existing"
    folder: str
    add: str | None = Field(default=None, description="a text file with a word a line")

    @property
    def vocab_size(self) -> int:
        """Ids in all."""
        return json.loads(self.train(iter(()))[VOCABULARY_FILE])["size"]

    @property
    def library(self) -> str:
        """The library that defines the result, and a hash of the files that do."""
        folder = Path(self.folder)
        paths = [folder / name for name in (TOKENIZER_FILE, WORD_PIECES, *COPIED)] + ([Path(self.add)] if self.add else [])
        content = b"\0".join(path.read_bytes() for path in paths if path.exists())
        return f"tokenizers {tokenizers.__version__}, {sha256_bytes(content)}"

    def train(self, texts: Iterator[str]) -> dict[str, bytes]:
        """Return the files of a tokenizer folder; `texts` teach it nothing.

        Raises:
            DataUnavailableError: the folder has no tokenizer, or the words are not there.
            ConfigError: the tokenizer has no token that begins or ends a text.

        """
        folder = _FolderOfFiles(Path(self.folder))
        before = folder.tokenizer.to_str(pretty=True).encode()
        pieces = _add_words(folder.tokenizer, self._words())
        vocabulary = folder.vocabulary
        made = {TOKENIZER_FILE: folder.tokenizer.to_str(pretty=True).encode(), VOCABULARY_FILE: json_file(vocabulary.to_json())}
        made |= {name: (folder.path / name).read_bytes() for name in COPIED if (folder.path / name).exists()}
        return made | ({ADDED: json_file({"of": sha256_bytes(before), "words": pieces})} if pieces else {})

    def _words(self) -> list[str]:
        if self.add is None:
            return []
        try:
            lines = Path(self.add).read_text(encoding="utf8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataUnavailableError(f"tokenizer.add: {self.add} cannot be read ({error}). Give a UTF-8 file, a word a line.") from error
        return list(dict.fromkeys(word for line in lines if (word := line.strip())))


def open_tokenizer(folder: Path) -> FolderTokenizer:
    """Open the tokenizer of a folder, of ours or of Hugging Face.

    Raises:
        DataUnavailableError: it has none.

    """
    return FolderTokenizer(Existing(folder=str(folder)).train(iter(())).__getitem__)


class _FolderOfFiles:
    """The tokenizer files of a folder, open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if (path / TOKENIZER_FILE).exists():
            self.tokenizer = tokenizers.Tokenizer.from_file(str(path / TOKENIZER_FILE))
        elif (path / WORD_PIECES).exists():
            self.tokenizer = self._of_bert(path / WORD_PIECES)
        else:
            raise DataUnavailableError(
                f"{path}: there is neither {TOKENIZER_FILE} nor {WORD_PIECES} here. "
                "Save the tokenizer again with transformers: AutoTokenizer.from_pretrained(...).save_pretrained(...)."
            )
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def _of_bert(self, path: Path) -> tokenizers.Tokenizer:
        lower = bool(self._settings.get("do_lower_case", True))
        try:
            return BertWordPieceTokenizer(str(path), lowercase=lower)._tokenizer  # the wrapper hides what it wraps
        except TypeError as error:
            raise ConfigError(f"{path}: {error}. A BERT needs [CLS], [SEP] and [UNK] there.") from error

    @cached_property
    def _settings(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in SETTINGS:
            if (self.path / name).exists():
                found |= read_json(self.path / name)
        return found

    @property
    def vocabulary(self) -> Vocabulary:
        """Size and special ids.

        Raises:
            ConfigError: there is no token that begins or ends a row.

        """
        ours = self.path / VOCABULARY_FILE
        size = self.tokenizer.get_vocab_size(with_added_tokens=True)
        if ours.exists():
            return Vocabulary(**(read_json(ours) | {"size": size}))
        ids = {role: self._id(role) for role in ROLES}
        if ids["begin"] is None or ids["end"] is None:
            raise ConfigError(f"{self.path}: no token begins or ends a text. Name cls_token and sep_token in special_tokens_map.json.")
        pad = ids["end"] if ids["pad"] is None else ids["pad"]
        return Vocabulary(size, ids["begin"], pad, ids["end"], ids["unknown"], ids["mask"])

    def _id(self, role: str) -> int | None:
        told = (self._settings.get(name) for name in ROLES[role])
        named = [token["content"] if isinstance(token, dict) else token for token in told if token]
        found = (self.tokenizer.token_to_id(token) for token in [*named, *USUAL[role]])
        return next((number for number in found if number is not None), None)


def _add_words(tokenizer: tokenizers.Tokenizer, words: list[str]) -> dict[int, list[int]]:
    """Add words that are not single tokens yet, and return the ids of the pieces that each of them had, unknown ones left out."""
    unknown = {tokenizer.token_to_id(token) for token in USUAL["unknown"]}
    pieces = {word: tokenizer.encode(word, add_special_tokens=False).ids for word in words}
    new = {word: ids for word, ids in pieces.items() if len(ids) > 1}
    # In scripts without spaces a word has letters on both sides.
    tokenizer.add_tokens([AddedToken(word, single_word=word.isascii(), normalized=True) for word in new])
    ids_of = tokenizer.get_vocab(with_added_tokens=True)
    return {ids_of[word]: [number for number in ids if number not in unknown] or ids for word, ids in new.items()}

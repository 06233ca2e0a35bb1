"""A tokenizer that somebody made before: the one of a Hugging Face folder or of another run, with words of a domain added if wanted."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import tokenizers
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import AddedToken, models, pre_tokenizers
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

from ptm_dist.corpus.gpt_bpe import LINE_END, gpt_tokenizer
from ptm_dist.corpus.tokenizer import END_OF_TEXT, TOKENIZER_FILE, VOCABULARY_FILE, FolderTokenizer, byte_level, json_file
from ptm_dist.corpus.unigram import MODEL_FILE, SPECIALS, apart, parse_model, unigram_tokenizer
from ptm_dist.corpus.wordpiece import LONGEST_WORD, bert_cutter, bert_normalizer
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError, DataUnavailableError, PtmError
from ptm_dist.store import read_json, sha256_bytes

WORD_PIECES: Final = "vocab.txt"
PAIRS: Final = ("vocab.json", "merges.txt")
SETTINGS: Final = ("tokenizer_config.json", "special_tokens_map.json")
COPIED: Final = (*SETTINGS, "added_tokens.json")
FILES: Final = (TOKENIZER_FILE, WORD_PIECES, *PAIRS, MODEL_FILE)
ADDED: Final = "added_words.json"
"""Says of each added word which ids its pieces had, none of a special token, and by a hash in which tokenizer.json."""

ROLES: Final = {
    "begin": ("cls_token", "bos_token"),
    "end": ("sep_token", "eos_token"),
    "pad": ("pad_token",),
    "unknown": ("unk_token",),
    "mask": ("mask_token",),
    "document_end": (),
}
"""What a special token is to us: what Hugging Face calls it, the first that is there."""

USUAL: Final = {
    "begin": ("[CLS]", "<cls>", "<s>", END_OF_TEXT),
    "end": ("[SEP]", "<sep>", "</s>", END_OF_TEXT),
    "pad": ("[PAD]", "<pad>"),
    "unknown": ("[UNK]", "<unk>"),
    "mask": ("[MASK]", "<mask>"),
    "document_end": ("<eod>",),
}
"""Where a folder does not say: what special tokens are usually called."""


SAVE_AGAIN: Final = "Save the tokenizer again with transformers: AutoTokenizer.from_pretrained(...).save_pretrained(...)."


class Existing(BaseModel):
    """The tokenizer of a folder; `add` names a file with a word a line, `special` special tokens, which no text is ever cut into.

    It is in tokenizer.json, or else in the vocab.txt of a BERT, in the vocab.json and merges.txt of a GPT, GPT-2 or RoBERTa, or in the
    spiece.model of an ALBERT or XLNet. Pieces of such a model that end in a digit and a comma stay whole, as in transformers.

    An added word is one token wherever it stands as a word of its own (in Chinese, wherever it stands), and its row of the embedding
    begins as the mean of the rows of its pieces when the run starts from the model of that folder (`init:`). Special tokens are the last
    ids, in their order; their rows begin fresh.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["existing"] = "existing"
    folder: str
    add: str | None = Field(default=None, description="a text file with a word a line")
    # Left out where there are none, so that digests from before there was such a setting stay.
    special: tuple[str, ...] = Field(default=(), exclude_if=operator.not_, description="special tokens that it gets beside its own")

    @property
    def vocab_size(self) -> int:
        """Ids in all."""
        return json.loads(self.train(iter(()))[VOCABULARY_FILE])["size"]

    @property
    def library(self) -> str:
        """The library that defines the result, and a hash of the files that do."""
        folder = Path(self.folder)
        paths = [folder / name for name in (*FILES, *COPIED)] + ([Path(self.add)] if self.add else [])
        content = b"\0".join(path.read_bytes() for path in paths if path.exists())
        return f"tokenizers {tokenizers.__version__}, {sha256_bytes(content)}"

    def train(self, texts: Iterator[str]) -> dict[str, bytes]:
        """Return the files of a tokenizer folder; `texts` teach it nothing.

        Raises:
            DataUnavailableError: the folder has no tokenizer, or the words are not there.
            DataIntegrityError: the model of sentencepiece is damaged.
            ConfigError: the tokenizer is of a kind that is not known here, has no token that begins or ends a text, or has some of the
                special tokens elsewhere.

        """
        folder = _FolderOfFiles(Path(self.folder))
        before = folder.tokenizer.to_str(pretty=True).encode()
        pieces = _add_words(folder.tokenizer, self._words()) | _add_special(folder, self.special)
        vocabulary = folder.vocabulary
        after = folder.tokenizer.to_str(pretty=True).encode() if pieces else before
        made = {TOKENIZER_FILE: after, VOCABULARY_FILE: json_file(vocabulary.to_json())}
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
        try:
            self.tokenizer = self._open()
        except PtmError:
            raise
        except Exception as error:  # the library raises nothing more special
            raise ConfigError(f"{path}: the tokenizer cannot be read ({error}). {SAVE_AGAIN}") from error
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def _open(self) -> tokenizers.Tokenizer:
        if self._has(TOKENIZER_FILE):
            return self._of_hugging_face()
        if self._has(WORD_PIECES):
            return self._of_bert()
        if self._has(*PAIRS):
            return self._of_gpt()
        if self._has(MODEL_FILE):
            return self._of_sentencepiece()
        names = f"neither {TOKENIZER_FILE} nor {WORD_PIECES}, nor {' with '.join(PAIRS)}, nor {MODEL_FILE}"
        raise DataUnavailableError(f"{self.path}: there is {names} here. {SAVE_AGAIN}")

    def _has(self, *names: str) -> bool:
        return all((self.path / name).exists() for name in names)

    def _of_hugging_face(self) -> tokenizers.Tokenizer:
        tokenizer = tokenizers.Tokenizer.from_file(str(self.path / TOKENIZER_FILE))
        names = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
        if isinstance(tokenizer.model, models.Unigram) and names and tokenizer.pre_tokenizer and not self._has(VOCABULARY_FILE):
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([tokenizer.pre_tokenizer, apart(names)])
        return tokenizer

    def _of_bert(self) -> tokenizers.Tokenizer:
        lower = bool(self._settings.get("do_lower_case", True))
        try:
            wrapped = BertWordPieceTokenizer(str(self.path / WORD_PIECES), lowercase=lower)
        except TypeError as error:
            raise ConfigError(f"{self.path}: {error}. A BERT needs [CLS], [SEP] and [UNK] there.") from error
        tokenizer = wrapped._tokenizer  # the wrapper hides what it wraps
        tokenizer.model.max_input_chars_per_word = LONGEST_WORD
        tokenizer.normalizer, tokenizer.pre_tokenizer = bert_normalizer(lower), bert_cutter()
        return tokenizer

    def _of_gpt(self) -> tokenizers.Tokenizer:
        vocab: dict[str, int] = read_json(self.path / PAIRS[0])
        lines = (self.path / PAIRS[1]).read_text(encoding="utf8").split("\n")
        rows = (line.partition(" ") for line in lines[lines[0].startswith("#version") :])
        merges = [(left, right) for left, _, right in rows if right]
        if LINE_END in vocab:
            return gpt_tokenizer(vocab, merges)
        if not vocab.keys() >= set(pre_tokenizers.ByteLevel.alphabet()):
            raise ConfigError(
                f"{self.path}: {PAIRS[0]} has neither all bytes, as that of GPT-2, nor the end of a line, as that of GPT. {SAVE_AGAIN}"
            )
        tokenizer = byte_level(vocab, merges, space=bool(self._settings.get("add_prefix_space", False)))
        special = [(role, token) for role in ROLES for token in self._names(role) if token in vocab]
        tokenizer.add_special_tokens([AddedToken(token, lstrip=role == "mask", special=True) for role, token in special])
        return tokenizer

    def _of_sentencepiece(self) -> tokenizers.Tokenizer:
        model = parse_model((self.path / MODEL_FILE).read_bytes())
        first = [part.piece for part in model.pieces[: max(len(specials.names) for specials in SPECIALS.values())]]
        kind = next((kind for kind, specials in SPECIALS.items() if first[: len(specials.names)] == list(specials.names)), None)
        if kind is None or self._settings.get("keep_accents"):
            raise ConfigError(f"{self.path}: {MODEL_FILE} is neither that of an ALBERT nor of an XLNet, without accents. {SAVE_AGAIN}")
        return unigram_tokenizer(model, kind, bool(self._settings.get("do_lower_case", kind == "albert")))

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
        if self.tokenizer.token_to_id(LINE_END) is not None:
            # GPT has no other special token.
            ids |= dict.fromkeys(("begin", "end"), ids["unknown"])
        if ids["begin"] is None or ids["end"] is None:
            raise ConfigError(f"{self.path}: no token begins or ends a text. Name cls_token and sep_token in special_tokens_map.json.")
        pad = ids["end"] if ids["pad"] is None else ids["pad"]
        # Hugging Face calls the end of a text what is unknown to GPT-2, to which nothing is.
        unknown = None if ids["unknown"] == self.tokenizer.token_to_id(END_OF_TEXT) else ids["unknown"]
        return Vocabulary(size, ids["begin"], pad, ids["end"], unknown, ids["mask"], ids["document_end"])

    def _id(self, role: str) -> int | None:
        found = (self.tokenizer.token_to_id(token) for token in self._names(role))
        return next((number for number in found if number is not None), None)

    def _names(self, role: str) -> list[str]:
        """Return what a special token may be called, what the folder says first."""
        told = (self._settings.get(name) for name in ROLES[role])
        return [*(token["content"] if isinstance(token, dict) else token for token in told if token), *USUAL[role]]


def _add_words(tokenizer: tokenizers.Tokenizer, words: list[str]) -> dict[int, list[int]]:
    """Add words that are not single tokens yet, and return the ids of the pieces that each of them had, unknown ones left out."""
    unknown = {tokenizer.token_to_id(token) for token in USUAL["unknown"]}
    pieces = {word: tokenizer.encode(word, add_special_tokens=False).ids for word in words}
    new = {word: ids for word, ids in pieces.items() if len(ids) > 1}
    # In scripts without spaces a word has letters on both sides.
    tokenizer.add_tokens([AddedToken(word, single_word=word.isascii(), normalized=True) for word in new])
    ids_of = tokenizer.get_vocab(with_added_tokens=True)
    return {ids_of[word]: [number for number in ids if number not in unknown] or ids for word, ids in new.items()}


def _add_special(folder: _FolderOfFiles, names: tuple[str, ...]) -> dict[int, list[int]]:
    """Make special tokens the last ids, unless they are, and return those that are new, without pieces."""
    before = folder.tokenizer.get_vocab_size(with_added_tokens=True)
    folder.tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names])
    size = folder.tokenizer.get_vocab_size(with_added_tokens=True)
    found = [folder.tokenizer.token_to_id(name) for name in names]
    if found != list(range(size - len(names), size)):
        told = ", ".join(f"{name} {number}" for name, number in zip(names, found, strict=True))
        raise ConfigError(f"tokenizer.special: they must be the last ids of {folder.path}, but would be {told} of {size}. Rename them.")
    return {number: [] for number in range(before, size)}

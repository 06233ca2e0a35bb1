"""Unigram pieces with the special tokens of ALBERT or of XLNet; learned by sentencepiece, run by Hugging Face tokenizers."""

from __future__ import annotations

import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Annotated, Any, Final, Literal

import sentencepiece
import tokenizers
from pydantic import BaseModel, ConfigDict, Field, model_validator
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

from ptm_dist.corpus.tokenizer import NO_TEXT, folder_files, lower
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError, DataIntegrityError, DataUnavailableError

MODEL_FILE: Final = "spiece.model"
COVERAGE: Final = 0.99995
"""Share of the characters of the text that have a piece."""
_SPARE: Final = 500
"""Pieces learned beyond those wanted, because some are left out."""
_STEPS: Final = 1024
_SPACE: Final = "\u2581"
_BLANK: Final = r"[\s\x1c-\x1f]+"


@dataclass(frozen=True)
class Specials:
    """The special tokens of a published vocabulary: their names by id, and the marks that are always pieces of their own."""

    names: tuple[str, ...]
    marks: str
    begin: int
    end: int
    document_end: int | None
    flags: dict[str, Any]
    """What tells sentencepiece of those that it knows itself; the others are control symbols."""
    roles: dict[str, str]
    """What Hugging Face calls them."""

    def vocabulary(self, size: int) -> Vocabulary:
        """Return size and special ids of a vocabulary."""
        pad, unknown = self.names.index("<pad>"), self.names.index("<unk>")
        return Vocabulary(size, self.begin, pad, self.end, unknown, self.names.index(self.roles["mask_token"]), self.document_end)


SPECIALS: Final = {
    "albert": Specials(
        names=("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"),
        marks='()"-.\u2013\u00a3\u20ac',
        begin=2,
        end=3,
        document_end=None,
        flags={"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": ["[CLS]", "[SEP]", "[MASK]"]},
        roles={"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "[MASK]"}
        | {"bos_token": "[CLS]", "cls_token": "[CLS]", "eos_token": "[SEP]", "sep_token": "[SEP]"},
    ),
    "xlnet": Specials(
        names=("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"),
        marks='.()"-\u2013\u00a3\u20ac',
        begin=3,
        end=4,
        document_end=7,
        flags={"control_symbols": ["<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"]},
        roles={"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"}
        | {"bos_token": "<s>", "cls_token": "<cls>", "eos_token": "</s>", "sep_token": "<sep>"},
    ),
}


class Unigram(BaseModel):
    """Pieces of words that make a text likeliest, each with a probability of its own; a space is a part of the word after it.

    Accents are taken away, also where case is kept. A number never shares a piece with the comma after it.

    Source: Kudo 2018; README and preprocess_text of google-research/albert and zihangdai/xlnet. Deviations: pieces are learned from all
    of the text, not from 10 million sentences of it; <eop> in a text is letters, not the special token.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["unigram"] = "unigram"
    specials: Literal["albert", "xlnet"] = "albert"
    vocab_size: Annotated[int, Field(ge=32)] = 30_000
    """Ids in all, by default as many as published (32,000 for xlnet); fewer when the corpus is too small to learn so many."""
    lower_case: bool = True
    """Take case away? By default as published: yes for albert, no for xlnet."""

    @model_validator(mode="before")
    @classmethod
    def _published(cls, told: Any) -> Any:
        xlnet = isinstance(told, dict) and told.get("specials") == "xlnet"
        return {"vocab_size": 32_000, "lower_case": False} | told if xlnet else told

    @property
    def library(self) -> str:
        """The libraries, with versions, that define the result."""
        unicode = f"Unicode {unicodedata.unidata_version}"
        return f"tokenizers {tokenizers.__version__}, sentencepiece {sentencepiece.__version__}, {unicode}"

    def train(self, texts: Iterator[str]) -> dict[str, bytes]:
        """Learn the pieces from `texts` and return the files of a tokenizer folder; equal texts give equal bytes, in any order.

        Raises:
            DataUnavailableError: there is no text.
            ConfigError: vocab_size has no room for the characters.

        """
        normalizer = _prepared(self.lower_case)
        words = Counter(word for text in texts for word in normalizer.normalize_str(text).split())
        if not words:
            raise DataUnavailableError(NO_TEXT)
        specials = SPECIALS[self.specials]
        model = _learned(words, self.vocab_size, specials)
        tokenizer = unigram_tokenizer(model, self.specials, self.lower_case)
        name = {"albert": "AlbertTokenizer", "xlnet": "XLNetTokenizer"}[self.specials]
        config = {"tokenizer_class": name, "do_lower_case": self.lower_case, "keep_accents": False, "remove_space": True}
        files = folder_files(tokenizer, specials.vocabulary(len(model.pieces)), specials.roles, config)
        return files | {MODEL_FILE: model.SerializeToString(deterministic=True)}


def _learned(words: Counter[str], size: int, specials: Specials) -> Any:
    """Return the model of sentencepiece with up to `size` pieces."""
    made = io.BytesIO()
    # Each word with its count; texts are cut into words for learning anyhow, and the order of lines must not depend on that of texts.
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(f"{word}\t{count}" for word, count in sorted(words.items())),
        input_format="tsv",
        model_writer=made,
        model_type="unigram",
        vocab_size=max(size, len(set(chain.from_iterable(words)))) + _SPARE,
        hard_vocab_limit=False,
        character_coverage=COVERAGE,
        # Texts are cut after what begins a special token: it must not be unknown, since unknown characters are one piece together.
        required_chars="".join(sorted({name[0] for name in specials.names})),
        user_defined_symbols=list(specials.marks),
        num_threads=1,
        minloglevel=2,
        **specials.flags,
    )
    model = parse_model(made.getvalue())
    count = len(specials.names)
    found = [number for number, part in enumerate(model.pieces) if number < count or not _unfit(part.piece)]
    single = {number for number in found if number < count or len(model.pieces[number].piece) == 1}
    if len(single) > size:
        raise ConfigError(
            f"tokenizer.vocab_size {size} has no room for {len(single) - count:,} characters. Raise it to {len(single):,} at least."
        )
    # They come likeliest first.
    longer = [number for number in found if number not in single][: size - len(single)]
    pieces = [model.pieces[number] for number in sorted(single.union(longer))]
    del model.pieces[:]
    model.pieces.extend(pieces)
    for part in model.pieces:
        # Sums of such numbers are exact, so that libraries agree on the best of cuts that are nearly as likely.
        part.score = round(part.score * _STEPS) / _STEPS
    model.trainer_spec.vocab_size = len(pieces)
    return model


def _unfit(piece: str) -> bool:
    """Is it a piece to leave out? The references cut a comma off a digit; and what a special token begins with must end a piece."""
    return (piece.endswith(",") and piece[-2:-1].isdigit()) or re.search(r"[<\[].", piece) is not None


def parse_model(data: bytes) -> Any:
    """Return what a file of sentencepiece says: its pieces, and how it normalises.

    Raises:
        DataIntegrityError: it is no such file.

    """
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    try:
        model = sentencepiece_model_pb2.ModelProto.FromString(data)  # type: ignore[attr-defined]
    except DecodeError as error:
        raise DataIntegrityError(f"{MODEL_FILE}: it cannot be read ({error}). Copy it again from where it came.") from error
    if not model.pieces:
        raise DataIntegrityError(f"{MODEL_FILE}: there are no pieces in it. Copy it again from where it came.")
    return model


def unigram_tokenizer(model: Any, kind: str, lower_case: bool) -> tokenizers.Tokenizer:
    """Return the tokenizer that does what sentencepiece does with this model and the preprocessing of the reference."""
    specials = SPECIALS[kind]
    pieces = [(part.piece, part.score) for part in model.pieces]
    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=specials.names.index("<unk>"), byte_fallback=False))
    # The last two are sentencepiece's own; alone, the second of them leaves Korean in parts.
    charsmap = normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap)
    tokenizer.normalizer = normalizers.Sequence([_prepared(lower_case), normalizers.NFKC(), charsmap])
    spaced = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), spaced, apart(specials.names)])
    tokenizer.decoder = decoders.Metaspace(replacement=_SPACE, prepend_scheme="always")
    begin, end = specials.roles["cls_token"], specials.roles["sep_token"]
    one, two = (f"{begin} $A {end}", f"{begin} $A {end} $B:1 {end}:1")
    if kind == "xlnet":
        one, two = f"$A {end} {begin}:2", f"$A {end} $B:1 {end}:1 {begin}:2"
    tokenizer.post_processor = processors.TemplateProcessing(one, two, [(begin, specials.begin), (end, specials.end)])
    tokenizer.add_special_tokens(list(specials.names))
    return tokenizer


def apart(names: Iterable[str]) -> pre_tokenizers.PreTokenizer:
    """Return what cuts special tokens that a text writes out, after their first character: Unigram takes them for pieces like others."""
    rest = "|".join(re.escape(name[1:]) for name in names)
    return pre_tokenizers.Split(Regex(rf"[<\[](?=(?:{rest}))"), "merged_with_previous")


def _prepared(lower_case: bool) -> normalizers.Normalizer:
    """Return what the references do to a text before sentencepiece sees it."""
    return normalizers.Sequence(
        [
            normalizers.Replace(Regex(_BLANK), " "),
            normalizers.Replace("``", '"'),
            normalizers.Replace("''", '"'),
            normalizers.NFKD(),
            normalizers.Replace(Regex(_combining()), ""),
            *([lower()] if lower_case else []),
        ]
    )


@cache
def _combining() -> str:
    """Return a class of the characters that combine with the one before; the tokenizers library takes vowel signs for such, too."""
    found = [number for number in range(0x110000) if unicodedata.combining(chr(number))]
    return "[" + "".join(f"\\x{{{first:x}}}-\\x{{{last:x}}}" for first, last in _runs(found)) + "]"


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of each run of successive numbers."""
    first = last = -1
    for number in numbers:
        if number != last + 1:
            if last >= 0:
                yield first, last
            first = number
        last = number
    yield first, last

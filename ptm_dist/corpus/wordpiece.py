"""WordPiece with BERT's rules and special ids; its vocabulary is learned by sentencepiece, it is run by Hugging Face tokenizers."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import sentencepiece
import tokenizers
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

from ptm_dist.corpus.tokenizer import NO_TEXT, TOKENIZER_FILE, VOCABULARY_FILE, frequent_letters, json_file, lower
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError, DataUnavailableError

PAD, UNKNOWN, BEGIN, END, MASK = 0, 100, 101, 102, 103
"""The ids of BERT's published vocabularies; between the first two lie 99 that nothing uses."""
FIRST: Final = ("[PAD]", *(f"[unused{number}]" for number in range(UNKNOWN - 1)), "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LONGEST_WORD: Final = 200
"""A longer word is unknown as a whole, as in the reference; Hugging Face's own default is 100."""

_SPACE: Final = "\u2581"


class WordPiece(BaseModel):
    """Words of pieces, the first as it is, the others marked with ##; a word that cannot be made of them is unknown.

    Text is cleaned and cut as BERT does it: white space, every Chinese character and every punctuation mark bound a word; where
    `lower_case`, letters lose case and accents. Pieces are those of byte-pair encoding within words.

    Source: Devlin et al. 2019; google-research/bert, tokenization.py (how text is cut; how its vocabularies were learned is not
    published).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["wordpiece"] = "wordpiece"
    vocab_size: Annotated[int, Field(gt=len(FIRST))] = 30_522
    """Ids in all; fewer when the corpus is too small to learn so many."""
    lower_case: bool = True
    """Take case and accents away?"""
    least_count: Annotated[int, Field(ge=1, description="a character must occur this often to have a piece")] = 2

    chinese: tuple[Literal["gb2312", "big5"], ...] = ()
    """Chinese characters that have a piece whatever the corpus holds: the 6,763 of GB 2312, the 5,400 common ones of Big5 (Traditional).
    No corpus has all the rare ones that the next text brings."""

    @property
    def library(self) -> str:
        """The libraries, with versions, that define the result."""
        return f"tokenizers {tokenizers.__version__}, sentencepiece {sentencepiece.__version__}"

    def train(self, texts: Iterator[str]) -> dict[str, bytes]:
        """Learn the pieces from `texts` and return the files of a tokenizer folder; equal texts give equal bytes.

        Raises:
            DataUnavailableError: there is no text.
            ConfigError: vocab_size has no room for the characters.

        """
        words = Counter[str]()
        normalizer, cutter = bert_normalizer(self.lower_case), bert_cutter()
        for text in texts:
            words.update(word for word, _ in cutter.pre_tokenize_str(normalizer.normalize_str(text)))
        if not words:
            raise DataUnavailableError(NO_TEXT)
        characters = _characters(words + _every(self.chinese, self.least_count), self.least_count)
        room = self.vocab_size - len(FIRST) - len(characters)
        if room < 0:
            raise ConfigError(
                f"tokenizer.vocab_size {self.vocab_size} has no room for {len(characters):,} characters and their forms inside of words. "
                f"Raise it to {self.vocab_size - room:,} at least, or raise least_count."
            )
        pieces = [*characters, *_learned(words, len(characters), room)]
        return _files([*FIRST, *pieces], self.lower_case)


def bert_normalizer(lower_case: bool) -> normalizers.Normalizer:
    """Return what cleans a text and sets Chinese characters apart; where `lower_case`, it takes case and accents away."""
    # The library's own cleaning drops characters of private use, too.
    clean = normalizers.Replace(Regex(r"[\x00\x{fffd}]|[\p{Cc}\p{Cf}&&[^\t\n\r]]"), "")
    bert = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=lower_case, lowercase=lower_case)
    return normalizers.Sequence([clean, *([lower()] if lower_case else []), bert])


def bert_cutter() -> pre_tokenizers.PreTokenizer:
    """Return what cuts a cleaned text into words and marks."""
    # These Chinese characters are letters to the library.
    apart = pre_tokenizers.Split(Regex(r"[\x{2b820}-\x{2b91f}]"), "isolated")
    return pre_tokenizers.Sequence([apart, pre_tokenizers.BertPreTokenizer()])


SETS: Final = {"gb2312": ((0xB0, 0xF7), (0xA1, 0xFE)), "big5": ((0xA4, 0xC6), (0x40, 0xFE))}
"""Bytes of the Chinese characters of a character set: first and last of the lead byte and of the other."""


def _every(names: tuple[str, ...], count: int) -> Counter[str]:
    """Return the Chinese characters of these sets, each counted `count` times."""
    found = Counter[str]()
    for name in names:
        (lead, last_lead), (low, high) = SETS[name]
        pairs = (bytes([one, other]) for one in range(lead, last_lead + 1) for other in range(low, high + 1))
        decoded = {pair.decode(name, errors="ignore") for pair in pairs}
        found |= Counter({letter: count for letter in decoded if len(letter) == 1 and _is_chinese(letter)})
    return found


def _characters(words: Counter[str], least_count: int) -> list[str]:
    """Return every character that is frequent enough, the most frequent first, and after all of them the forms inside of words.

    A character that always stands alone, as Chinese ones and punctuation do, has no such form.
    """
    known = Counter({word: count for word, count in words.items() if len(word) <= LONGEST_WORD})
    frequent = frequent_letters(known, least_count)
    cutter = bert_cutter()
    joined = [letter for letter in frequent if len(cutter.pre_tokenize_str(f"a{letter}")) == 1 and not _is_chinese(letter)]
    return [*frequent, *(f"##{letter}" for letter in joined)]


def _is_chinese(letter: str) -> bool:
    return bert_normalizer(lower_case=False).normalize_str(letter) != letter


def _learned(words: Counter[str], characters: int, room: int) -> list[str]:
    """Return up to `room` pieces of more than one character, in the order in which they were learned."""
    if not room:
        return []
    made = io.BytesIO()
    # A word a line, with its count: the order of the lines must not depend on the order of the texts.
    lines = [f"{word}\t{count}" for word, count in sorted(words.items()) if len(word) <= LONGEST_WORD]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        input_format="tsv",
        model_writer=made,
        model_type="bpe",
        vocab_size=room + 2 * characters + 1_000,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="identity",
        num_threads=1,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    learned = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    pieces = (learned.id_to_piece(number) for number in range(1, learned.get_piece_size()))
    named = (piece[1:] if piece.startswith(_SPACE) else f"##{piece}" for piece in pieces if piece != _SPACE)
    # Single characters were chosen before, by their counts.
    return [piece for piece in dict.fromkeys(named) if len(piece.removeprefix("##")) > 1 and piece not in FIRST][:room]


def _files(pieces: list[str], lower_case: bool) -> dict[str, bytes]:
    by_piece = {piece: number for number, piece in enumerate(pieces)}
    model = models.WordPiece(by_piece, unk_token=FIRST[UNKNOWN], max_input_chars_per_word=LONGEST_WORD)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = bert_normalizer(lower_case)
    tokenizer.pre_tokenizer = bert_cutter()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", END), ("[CLS]", BEGIN))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    special = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": lower_case, "strip_accents": lower_case, "tokenize_chinese_chars": True}
    return {
        TOKENIZER_FILE: tokenizer.to_str(pretty=True).encode(),
        VOCABULARY_FILE: json_file(Vocabulary(len(pieces), BEGIN, PAD, END, UNKNOWN, MASK).to_json()),
        "vocab.txt": "".join(f"{piece}\n" for piece in pieces).encode(),
        "special_tokens_map.json": json_file(special),
        "tokenizer_config.json": json_file(config | special),
    }

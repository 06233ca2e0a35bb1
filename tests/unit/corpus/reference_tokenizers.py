"""The published tokenizers, as their authors' code cuts text, in plain Python: slow, and the truth that ours are held against."""

import json
import unicodedata
from functools import lru_cache
from itertools import pairwise

import regex
import sentencepiece
import tokenizers

HAN = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
NONE = 1 << 30


class Bert:
    """BERT: google-research/bert, tokenization.py."""

    def __init__(self, pieces, lower_case):
        self.ids, self.lower_case = {piece: number for number, piece in enumerate(pieces)}, lower_case
        self.ids_of_word = lru_cache(1 << 20)(self._ids_of_word)

    def encode(self, text):
        return [number for word in self.words(text) for number in self.ids_of_word(word)]

    def words(self, text):
        found = []
        for word in "".join(map(_cleaned, text)).split():
            lowered = unicodedata.normalize("NFD", word.lower()) if self.lower_case else word
            kept = (letter for letter in lowered if not self.lower_case or unicodedata.category(letter) != "Mn")
            found += "".join(f" {letter} " if _is_mark(letter) else letter for letter in kept).split()
        return found

    def _ids_of_word(self, word):
        start, found = 0, []
        while start < len(word) <= 200:
            names = ((end, ("##" if start else "") + word[start:end]) for end in range(len(word), start, -1))
            end, piece = next(((end, name) for end, name in names if name in self.ids), (0, ""))
            if not piece:
                break
            found.append(self.ids[piece])
            start = end
        return found if start == len(word) else [self.ids["[UNK]"]]


def _cleaned(letter):
    category = unicodedata.category(letter)
    if letter in " \t\n\r" or category == "Zs":
        return " "
    if letter in "\0\ufffd" or category in ("Cc", "Cf"):
        return ""
    return f" {letter} " if any(first <= ord(letter) <= last for first, last in HAN) else letter


def _is_mark(letter):
    return (letter.isascii() and letter.isprintable() and not letter.isalnum() and letter != " ") or unicodedata.category(letter)[0] == "P"


def byte_letters():
    """Return the letter that stands for each byte in GPT-2's vocabulary, in the order of their ids: {byte: letter}."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in own]
    return {byte: chr(byte) for byte in own} | {byte: chr(256 + place) for place, byte in enumerate(others)}


class Merges:
    """Byte-pair encoding of one word: the pair that was learned first is merged first, everywhere, until none is left."""

    def __init__(self, merges):
        self.ranks = {tuple(pair): rank for rank, pair in enumerate(merges)}
        self.cut = lru_cache(1 << 20)(self._cut)

    def _cut(self, symbols):
        while len(symbols) > 1:
            best = min(pairwise(symbols), key=lambda pair: self.ranks.get(pair, NONE))
            if best not in self.ranks:
                break
            merged, place = [], 0
            while place < len(symbols):
                both = symbols[place : place + 2] == best
                merged.append("".join(best) if both else symbols[place])
                place += 1 + both
            symbols = tuple(merged)
        return symbols


class Gpt2:
    """GPT-2: openai/gpt-2, encoder.py."""

    CUT = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")

    def __init__(self, ids, merges):
        self.ids, self.merges, self.letters = ids, Merges(merges), byte_letters()

    def encode(self, text):
        words = ("".join(self.letters[byte] for byte in word.encode()) for word in self.CUT.findall(text))
        return [self.ids[piece] for word in words for piece in self.merges.cut(tuple(word))]


class Gpt:
    """GPT's byte-pair encoding: openai/finetune-transformer-lm, text_utils.py, from words on."""

    def __init__(self, ids, merges):
        self.ids, self.merges = ids, Merges(merges)

    def encode(self, words):
        return [number for word in words for number in self.ids_of_word(word)]

    def ids_of_word(self, word):
        if word == "\n":
            return [self.ids["\n</w>"]]
        return [self.ids.get(piece, 0) for piece in self.merges.cut((*word[:-1], f"{word[-1]}</w>"))]


class Unigram:
    """ALBERT and XLNet: preprocess_text and encode_pieces of google-research/albert, tokenization.py; zihangdai/xlnet has the same."""

    def __init__(self, model, lower_case):
        self.model, self.lower_case = model, lower_case

    def prepare(self, text):
        text = " ".join(text.strip().split()).replace("``", '"').replace("''", '"')
        text = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
        return text.lower() if self.lower_case else text

    def encode(self, text):
        pieces = self.model.encode(self.prepare(text), out_type=str)
        return [self.model.piece_to_id(part) for piece in pieces for part in self._without_comma(piece)]

    def _without_comma(self, piece):
        if not (len(piece) > 1 and piece.endswith(",") and piece[-2].isdigit()):
            return [piece]
        parts = self.model.encode(piece[:-1].replace("\u2581", ""), out_type=str)
        if not piece.startswith("\u2581") and parts[0].startswith("\u2581"):
            parts = [part for part in (parts[0][1:], *parts[1:]) if part]
        return [*parts, ","]


def published(folder, lower_case=False):
    """Return the published encoder with the vocabulary of a folder; GPT's words are cut as the folder says."""
    if (folder / "vocab.txt").exists():
        return Bert((folder / "vocab.txt").read_text(encoding="utf8").split("\n")[:-1], lower_case).encode
    if (folder / "spiece.model").exists():
        return Unigram(sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model")), lower_case).encode
    ids = json.loads((folder / "vocab.json").read_text(encoding="utf8"))
    merges = [tuple(line.split(" ")) for line in (folder / "merges.txt").read_text(encoding="utf8").split("\n")[1:-1]]
    if "\n</w>" not in ids:
        return Gpt2(ids, merges).encode
    encoder, words_of = Gpt(ids, merges), words_of_gpt(folder)
    return lambda text: encoder.encode(words_of(text))


def words_of_gpt(folder):
    """Return what cuts a text into words as a folder of ours says."""
    found = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda text: [word for word, _ in found.pre_tokenizer.pre_tokenize_str(found.normalizer.normalize_str(text))]

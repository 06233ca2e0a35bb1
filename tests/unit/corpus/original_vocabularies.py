"""Vocabularies as they were published, out of the tables by which blingfire tells ids as text."""

import ctypes
import json
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.unit.corpus.reference_tokenizers import byte_letters


@cache
def blingfire():
    return pytest.importorskip("blingfire")


@cache
def _loaded(name):
    return blingfire().load_model(str(Path(blingfire().__file__).parent / name))


def original_encode(name, text, unknown=0):
    """Return the ids that blingfire gives a text, without special tokens and without a space put before it."""
    model = _loaded(f"{name}.bin")
    if name in ("gpt2", "roberta"):
        blingfire().change_settings_dummy_prefix(model, False)
    return blingfire().text_to_ids(model, text, max(64, 2 * len(text.encode())), unk=unknown, no_padding=True).tolist()


def _told(table, ids):
    numbers, buffer = np.array(ids, dtype=np.int32), ctypes.create_string_buffer(4096)
    place = ctypes.c_void_p(numbers.__array_interface__["data"][0])
    size = blingfire().blingfire.IdsToText(ctypes.c_void_p(table), place, len(ids), ctypes.byref(buffer), 4096, ctypes.c_bool(False))
    return buffer.raw[: size - 1]


@cache
def original_pieces(name, count, word):
    """Return the bytes of each piece, those that begin a word with a space; `word` is the id of any that begins one."""
    table = _loaded(f"{name}.i2w")
    before = len(_told(table, [word]))
    return [_told(table, [word, number])[before:] for number in range(count)]


BERTS = {"bert_base_tok": (30_522, 1996, True), "bert_base_cased_tok": (28_996, 1103, False), "bert_chinese": (21_128, 704, True)}
"""Name: size, id of a word, lower case."""


@cache
def original_bert(name):
    """Return the pieces of a BERT as its vocab.txt has them."""
    size, word, _ = BERTS[name]
    found = [piece[1:].decode() if piece.startswith(b" ") else f"##{piece.decode()}" for piece in original_pieces(name, size, word)]
    # One of the tables has them in lower case.
    found[100:104] = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return found


@cache
def original_gpt2():
    """Return the ids of GPT-2's pieces and its merges: a piece was made of the two that its bytes merge to by all merges before."""
    letters = byte_letters()
    pieces = [*([byte] for byte in letters), *original_pieces("gpt2", 50_256, 15_496)[256:]]
    names = ["".join(letters[byte] for byte in piece) for piece in pieces]
    ranks = {name: number for number, name in enumerate(names)}
    merges = []
    for number, name in enumerate(names[256:], start=256):
        parts = list(name)
        while len(parts) > 2:
            made = [ranks.get(left + right, number) for left, right in pairwise(parts)]
            place = made.index(min(made))
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        merges.append(tuple(parts))
    return ranks | {"<|endoftext|>": 50_256}, merges


@cache
def original_roberta():
    """Return the ids of RoBERTa's pieces, which are GPT-2's in another order, with the same merges."""
    letters = byte_letters()
    pieces = original_pieces("roberta", 50_265, 31_414)
    special = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<|endoftext|>": 50_260, "<mask>": 50_264}
    special |= {f"madeupword{number:04d}": 50_261 + number for number in range(3)}
    ids = {}
    for number, piece in enumerate(pieces):
        # Bytes 0 to 3, which no text has, are not told apart.
        ids.setdefault("".join(letters[byte] for byte in piece), number)
    ids = {name: number for name, number in ids.items() if number not in special.values()}
    names, merges = original_gpt2()
    lost = [name for name in names if name not in ids and name not in special]
    free = sorted(set(range(50_265)) - set(ids.values()) - set(special.values()))
    return special | ids | dict(zip(lost, free, strict=True)), merges


def write_bpe(folder, ids, merges):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges))
    return folder


def write_bert(folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in original_bert(name)), encoding="utf8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": BERTS[name][2]}))
    return folder

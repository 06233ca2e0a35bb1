"""Encoding is the published algorithm: 10,000 lines against it, against transformers, and against the original vocabularies in blingfire.

Where transformers or blingfire do something else than the published code, a row of a table says what.
"""

import re
import unicodedata
from functools import cache

import numpy as np
import pytest
import transformers

from ptm_dist.corpus.existing import open_tokenizer
from ptm_dist.corpus.gpt_bpe import GptBPE
from ptm_dist.corpus.tokenizer import ByteBPE, load_tokenizer
from ptm_dist.corpus.unigram import MODEL_FILE, Unigram
from ptm_dist.corpus.wordpiece import WordPiece
from tests.unit.corpus import reference_tokenizers as reference

OURS = {
    "bert_uncased": (WordPiece(vocab_size=4000), "BertTokenizer"),
    "bert_cased": (WordPiece(vocab_size=4000, lower_case=False), "BertTokenizer"),
    "bert_chinese": (WordPiece(vocab_size=12_000, chinese=("gb2312", "big5")), "BertTokenizer"),
    "roberta": (ByteBPE(vocab_size=3000), "RobertaTokenizer"),
    "gpt2": (ByteBPE(vocab_size=3000, specials="gpt2"), "GPT2Tokenizer"),
    "gpt": (GptBPE(vocab_size=6000), "OpenAIGPTTokenizer"),
    "albert": (Unigram(vocab_size=6000), "AlbertTokenizer"),
    "xlnet": (Unigram(vocab_size=6000, specials="xlnet"), "XLNetTokenizer"),
}
"""Name: what is trained, and the class of transformers that loads it."""


def written(tokenizer, texts, folder):
    folder.mkdir(parents=True)
    for name, data in tokenizer.train(iter(texts)).items():
        (folder / name).write_bytes(data)
    return folder


def theirs_of(name, folder):
    return getattr(transformers, OURS[name][1]).from_pretrained(folder)


def published(name, folder):
    """Return the published encoder with the vocabulary of a folder."""
    return reference.published(folder, lower_case=name not in {"bert_cased", "xlnet"})


@pytest.fixture(scope="module")
def trained(tmp_path_factory, every_line):
    """Return a function from a name to a folder, trained once."""
    path = tmp_path_factory.mktemp("trained")

    def folder(name):
        return path / name if (path / name).exists() else written(OURS[name][0], every_line[:9500:9], path / name)

    return folder


SPECIAL = {
    "bert": r"\[(PAD|UNK|CLS|SEP|MASK)\]",
    "roberta": "</?s>|<(pad|unk|mask)>",
    "gpt2": r"<\|endoftext\|>",
    "gpt": "<unk>",
    "albert": r"\[(CLS|SEP|MASK)\]|<(pad|unk)>",
    "xlnet": "</?s>|<(unk|cls|sep|pad|mask|eod|eop)>",
}


def dropped_mark(letter):
    return unicodedata.category(letter).startswith("M") and not unicodedata.combining(letter)


def transformers_differs(name, line):
    """Does a line hold one of the things for which the table below has a row?"""
    if re.search(SPECIAL[name.partition("_")[0]], line, re.IGNORECASE if name == "albert" else 0):
        return True
    if name.startswith("bert"):
        rare = r"\S{101}|[\U0002b820-\U0002b91f\ue000-\uf8ff]" + ("" if name == "bert_cased" else "|\u03a3")
        return re.search(rare, line) is not None
    if name in ("albert", "xlnet"):
        decomposed = unicodedata.normalize("NFKD", line)
        return re.search("[\u1100-\u11ff\x1c-\x1f]|\u03a3", decomposed) is not None or any(map(dropped_mark, decomposed))
    return False


@pytest.mark.parametrize("name", sorted(OURS.keys() - {"gpt"}))
def test_lines_are_cut_as_transformers_cuts_them(trained, name, lines):
    alike = [line for line in lines if not transformers_differs(name, line)]
    ours = load_tokenizer(trained(name)).encode(alike)
    theirs = theirs_of(name, trained(name))(alike, add_special_tokens=False)["input_ids"]
    assert len(alike) > 0.75 * len(lines)
    assert [line for line, one, other in zip(alike, ours, theirs, strict=True) if one.tolist() != other] == []


def test_lines_of_gpt_are_cut_as_transformers_cuts_them(trained, lines):
    """Its own class cuts words as BERT does, so it takes lines in which the words are the same; from tokenizer.json it takes all."""
    folder = trained("gpt")
    bert, words_of = reference.Bert(["[UNK]"], lower_case=True), reference.words_of_gpt(folder)
    plain = [line for line in lines if "<unk>" not in line]
    alike = [line for line in plain if words_of(line) == bert.words(line)]
    assert len(plain) > 0.95 * len(lines)
    assert len(alike) > len(lines) // 5
    for some, theirs in ((alike, theirs_of("gpt", folder)), (plain, transformers.AutoTokenizer.from_pretrained(folder))):
        ours = [ids.tolist() for ids in load_tokenizer(folder).encode(some)]
        assert ours == theirs(some, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_lines_are_cut_as_the_published_code_cuts_them(trained, name, lines):
    encode, ours = published(name, trained(name)), load_tokenizer(trained(name)).encode(lines)
    assert [line for line, ids in zip(lines, ours, strict=True) if ids.tolist() != encode(line)] == []


@pytest.mark.parametrize("name", sorted(OURS))
def test_offsets_lie_in_the_text_and_begin_with_a_word(trained, name, every_line):
    tokenizer, lines = load_tokenizer(trained(name)), every_line[9300:9700]
    for line, ids, (same, offsets) in zip(lines, tokenizer.encode(lines), tokenizer.encode_with_offsets(lines), strict=True):
        assert np.array_equal(ids, same)
        assert offsets.shape == (len(ids), 2)
        assert (offsets[:, 0] <= offsets[:, 1]).all()
        assert (np.diff(offsets[:, 0]) >= 0).all()
        assert offsets.max(initial=0) <= len(line)
        assert not [text for text in (line[start:end] for start, end in offsets) if text[:1].isspace() and not text.isspace()]


KOREAN, HINDI, HEART = "\ud55c\uad6d", "\u0939\u093f\u0928", "\u2764\ufe0f"
TEACH = f"{KOREAN} {HINDI} {HINDI[0]}{HINDI[2]} {HEART} \u03b1\u03c2 \u03b1\u03c3 caf\u00e9 cafe \u4e2d\u6587 \u4e2d \u6587 "
TEACH += "ab a b do don n't ' t u.s. u s . -- - <> [] mask unk"
"""Text for a small vocabulary with all letters of the table."""

DEVIATIONS = [
    # Tokenizer, text, what the original gives, what transformers gives, and what it is.
    ("bert_uncased", "[MASK] x", "[ mask ] x", "[MASK] x", "special tokens in a text are the tokens themselves"),
    ("bert_uncased", "a" * 101, f"aaa{' ##aa' * 49}", "[UNK]", "a word of more than 100 letters is unknown, of 200 in the original"),
    ("roberta", "a <mask>", "a \u0120< mask >", "a \u0120 <mask>", "special tokens"),
    ("gpt2", "<|endoftext|>", "< | end of text | >", "<|endoftext|>", "special tokens"),
    ("gpt", "don't", "do n't", "don ' t", "words are cut as BERT cuts them"),
    ("gpt", "a -- b", "a -- b", "a - - b", "and so are runs of a mark"),
    ("gpt", "U.S.", "u.s.", "u . s .", "and full stops of abbreviations"),
    ("gpt", "caf\u00e9", "caf\u00e9", "cafe", "accents are dropped"),
    ("gpt", "\u4e2d\u6587", "\u4e2d\u6587", "\u4e2d \u6587", "Chinese characters are words"),
    ("gpt", "a\nb", "a \n b", "a b", "the end of a line is no word"),
    ("gpt", "<unk>", "< unk >", "<unk>", "special tokens"),
    ("albert", KOREAN, KOREAN, "<unk>", "Korean is left in parts, which no piece has"),
    ("albert", HINDI, HINDI, HINDI[0] + HINDI[2], "vowel signs are dropped like accents"),
    ("albert", HEART, HEART, HEART[0], "and so are variation selectors"),
    ("albert", "a\x1cb", "a b", "ab", "control characters that Python takes for white space are dropped"),
    ("albert", "\u0391\u03a3", "\u03b1\u03c2", "\u03b1\u03c3", "a sigma that ends a word is like any other"),
    ("albert", "[MASK]", "[mask]", "[MASK]", "special tokens"),
    ("bert_uncased", "\u0391\u03a3", "\u03b1 ##\u03c2", "\u03b1 ##\u03c3", "a sigma that ends a word is like any other"),
    ("bert_uncased", "1\U0002b8202", "1 [UNK] 2", "[UNK]", "Chinese characters from U+2B820 to U+2B91F are letters"),
    ("bert_uncased", "1\ue0002", "[UNK]", "12", "characters of private use are dropped"),
]


@pytest.fixture(scope="module")
def taught(original_folder, tmp_path_factory):
    """Return a function from a name to a folder with the original vocabulary, or with one of TEACH."""
    path = tmp_path_factory.mktemp("taught")

    @cache
    def folder(name):
        if name in ("bert_uncased", "roberta", "gpt2"):
            return original_folder("bert_base_tok" if name == "bert_uncased" else name)
        small = GptBPE(vocab_size=300, least_count=1) if name == "gpt" else Unigram(vocab_size=100)
        return written(small, [TEACH], path / name)

    return folder


@pytest.mark.parametrize("row", DEVIATIONS, ids=lambda row: f"{row[0]}: {row[-1]}")
def test_where_transformers_deviates_from_the_published_code(taught, row):
    name, text, wanted, other, _ = row
    theirs = theirs_of(name, taught(name))
    by_original, by_theirs = published(name, taught(name))(text), theirs(text, add_special_tokens=False)["input_ids"]
    (ours,) = open_tokenizer(taught(name)).encode([text])
    assert (spelled(name, theirs, by_original), spelled(name, theirs, by_theirs)) == (wanted, other)
    assert ours.tolist() == by_original


def spelled(name, tokenizer, ids):
    tokens = tokenizer.convert_ids_to_tokens(ids)
    if name == "gpt":
        return "".join(tokens).replace("</w>", " ").removesuffix(" ")
    return "".join(tokens).replace("\u2581", " ").strip() if name == "albert" else " ".join(tokens)


def test_marks_have_a_space_after_them_where_transformers_reads_only_the_model_of_sentencepiece(trained, every_line, tmp_path):
    """That is why a folder of ours has a tokenizer.json. Ours, from that file alone, stays with the original."""
    lines = [line for line in every_line[5000:7000:5] if not transformers_differs("albert", line)]
    for name in (MODEL_FILE, "tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / name).write_bytes((trained("albert") / name).read_bytes())
    encode, theirs = published("albert", tmp_path), theirs_of("albert", tmp_path)
    assert [ids.tolist() for ids in open_tokenizer(tmp_path).encode(lines)] == [encode(line) for line in lines]
    assert spelled("albert", theirs, encode("a-b")) == "a-b"
    assert spelled("albert", theirs, theirs("a-b", add_special_tokens=False)["input_ids"]) == "a- b"

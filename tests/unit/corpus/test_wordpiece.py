"""WordPiece: what is learned, and that text is cut as BERT cuts it."""

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest
from transformers import BertTokenizer

from ptm_dist.corpus.tokenizer import load_tokenizer
from ptm_dist.corpus.wordpiece import FIRST, WordPiece
from ptm_dist.errors import ConfigError, DataUnavailableError

NEWS = Path(__file__).parents[4] / "shared" / "data" / "zh" / "inews.train.jsonl.gz"
TEXTS = [
    "The quick brown foxes jumped over the lazy dogs; the dogs slept. " * 3,
    "Naïve cafés serve crème brûlée, don't they? 3.14 % of 42!",
    "快速的棕色狐狸跳过了懒狗。深度学习 deep learning 模型",
    "[MASK] and [CLS] are letters here \U0001f642\x00\ufffd\u200b\ttabs\u00a0here",
]


def folder_of(tmp_path, tokenizer, texts):
    for name, data in tokenizer.train(iter(texts)).items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def pieces_of(folder):
    return (folder / "vocab.txt").read_text(encoding="utf8").splitlines()


def test_special_tokens_have_the_published_ids(tmp_path):
    folder = folder_of(tmp_path, WordPiece(vocab_size=400), TEXTS)
    pieces = pieces_of(folder)
    assert pieces[:104] == list(FIRST)
    assert {name: pieces.index(name) for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")} == {
        "[PAD]": 0,
        "[UNK]": 100,
        "[CLS]": 101,
        "[SEP]": 102,
        "[MASK]": 103,
    }
    assert len(pieces) == len(set(pieces)) == load_tokenizer(folder).vocabulary.size


@pytest.mark.parametrize("lower_case", [True, False])
def test_training_repeats_to_the_byte_in_any_order(lower_case):
    tokenizer = WordPiece(vocab_size=300, lower_case=lower_case)
    assert tokenizer.train(iter(TEXTS)) == tokenizer.train(iter(random.Random(1).sample(TEXTS, len(TEXTS))))


@pytest.mark.parametrize("lower_case", [True, False])
def test_text_is_cut_as_transformers_cuts_it(tmp_path, lower_case):
    """The same vocabulary in a BertTokenizer; texts that hold a special token by name are letters to us only."""
    folder = folder_of(tmp_path, WordPiece(vocab_size=400, lower_case=lower_case, least_count=1), TEXTS)
    theirs, ours = BertTokenizer.from_pretrained(folder), load_tokenizer(folder)
    for text in [*TEXTS[:3], "unseen ﬁgures ＡＢＣ １２３ «guillemets»", "İstanbul ΑΣ", ""]:
        assert ours.encode([text])[0].tolist() == theirs(text, add_special_tokens=False)["input_ids"]
    assert not np.isin(ours.encode([TEXTS[3]])[0], [101, 103]).any()


def test_a_word_of_201_letters_is_unknown_and_one_of_200_is_not(tmp_path):
    tokenizer = load_tokenizer(folder_of(tmp_path, WordPiece(vocab_size=300, least_count=1), ["a aa aaa"]))
    assert tokenizer.encode(["a" * 201])[0].tolist() == [100]
    assert 100 not in tokenizer.encode(["a" * 200])[0]


def test_case_and_accents(tmp_path):
    tokenizer = load_tokenizer(folder_of(tmp_path, WordPiece(vocab_size=300, least_count=1), TEXTS))
    assert tokenizer.encode(["É"])[0].tolist() == tokenizer.encode(["e"])[0].tolist()


def test_every_frequent_character_has_both_forms_unless_it_stands_alone(tmp_path):
    pieces = set(pieces_of(folder_of(tmp_path, WordPiece(vocab_size=400, least_count=2), TEXTS)))
    assert {"a", "##a", "的", "习", "."} - pieces == {"的", "习"}, "these occur once"
    assert not {"##的", "##.", "##,"} & pieces
    whole = set(pieces_of(folder_of(tmp_path, WordPiece(vocab_size=9_300, chinese=("gb2312", "big5")), TEXTS)))
    assert {"的", "習", "鑫", "龜"} <= whole


def test_what_cannot_be_learned_is_said():
    with pytest.raises(DataUnavailableError, match="there is no text to learn from"):
        WordPiece().train(iter(["", " "]))
    with pytest.raises(ConfigError, match=r"has no room for \d+ characters"):
        WordPiece(vocab_size=110, least_count=1).train(iter(TEXTS))


@pytest.mark.skipif(not NEWS.exists(), reason="the Chinese news are not here")
def test_chinese_is_cut_into_characters_and_hardly_any_is_unknown(tmp_path):
    with gzip.open(NEWS, "rt", encoding="utf8") as file:
        texts = [json.loads(line)["text"] for _, line in zip(range(5100), file, strict=False)]
    folder = folder_of(tmp_path, WordPiece(vocab_size=21_128, chinese=("gb2312", "big5")), texts[:4800])
    han = [sum("\u4e00" <= letter <= "\u9fff" for letter in piece) for piece in pieces_of(folder)]
    assert max(han) == 1
    held_out = np.concatenate(load_tokenizer(folder).encode(texts[4800:]))
    assert len(held_out) > 100_000
    assert (held_out == 100).mean() < 1e-4

"""Tokenizers that others made, and words added to them."""

import json

import numpy as np
import pytest
from transformers import AutoTokenizer, BertTokenizer

from ptm_dist.corpus.existing import ADDED, Existing, open_tokenizer
from ptm_dist.corpus.tokenizer import ByteBPE, load_tokenizer
from ptm_dist.errors import ConfigError, DataUnavailableError

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "cat",
    "##s",
    "sat",
    "im",
    "##mu",
    "##no",
    "##glob",
    "##ulin",
    "深",
    "度",
    "学",
    "用",
]
TEXT = "The cats sat, IMMUNOGLOBULIN 用深度学"


@pytest.fixture
def bert(tmp_path):
    """A folder with nothing but a vocab.txt."""
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
    return folder


@pytest.fixture
def words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("immunoglobulin\n\ncat\n深度\nimmunoglobulin\n")
    return path


def written(tokenizer, folder):
    folder.mkdir()
    for name, data in tokenizer.train(iter(())).items():
        (folder / name).write_bytes(data)
    return folder


def test_the_vocab_of_a_bert_is_cut_as_transformers_cuts(bert):
    found = open_tokenizer(bert)
    theirs = BertTokenizer.from_pretrained(bert)
    assert found.encode([TEXT])[0].tolist() == theirs(TEXT, add_special_tokens=False)["input_ids"]
    assert vars_of(found) == {"size": 18, "begin": 2, "pad": 0, "end": 3, "unknown": 1, "mask": 4}


def vars_of(tokenizer):
    return tokenizer.vocabulary.to_json()


def test_the_folder_of_a_run_gives_the_same_files(tmp_path):
    own = written_by(ByteBPE(vocab_size=300), tmp_path / "own")
    assert Existing(folder=str(own)).train(iter(())) == {
        name: (own / name).read_bytes() for name in Existing(folder=str(own)).train(iter(()))
    }
    assert vars_of(open_tokenizer(own)) == vars_of(load_tokenizer(own))
    assert Existing(folder=str(own)).vocab_size == load_tokenizer(own).vocabulary.size


def written_by(tokenizer, folder):
    folder.mkdir()
    for name, data in tokenizer.train(iter(["the cat sat on the mat, the other cat did not " * 5])).items():
        (folder / name).write_bytes(data)
    return folder


def test_special_ids_are_those_that_the_folder_names(tmp_path):
    """One that ptm_dist did not write, so without vocabulary.json: GPT-2 begins, ends and fills with one token."""
    own = written_by(ByteBPE(vocab_size=300), tmp_path / "own")
    (own / "vocabulary.json").unlink()
    assert vars_of(open_tokenizer(own)) | {"size": 0} == {
        "size": 0,
        "begin": 0,
        "pad": 1,
        "end": 2,
        "unknown": 3,
        "mask": open_tokenizer(own).vocabulary.mask,
    }
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        (own / name).write_text(json.dumps({"bos_token": {"content": "</s>"}, "eos_token": "</s>"}))
    assert open_tokenizer(own).vocabulary.begin == open_tokenizer(own).vocabulary.end == 2


def test_added_words_are_tokens_wherever_they_are_words(bert, words, tmp_path):
    plain, extended = open_tokenizer(bert), load_tokenizer(written(Existing(folder=str(bert), add=str(words)), tmp_path / "new"))
    assert extended.vocabulary.size == plain.vocabulary.size + 2
    told = json.loads((tmp_path / "new" / ADDED).read_text())["words"]
    names = ["im", "##mu", "##no", "##glob", "##ulin"]
    assert told == {"18": [WORDS.index(name) for name in names], "19": [WORDS.index("深"), WORDS.index("度")]}
    ids = [found.tolist() for found in extended.encode(["the Immunoglobulin sat", "immunoglobulins", "用深度学"])]
    assert ids[0] == [5, 18, 8]
    assert 18 not in ids[1]
    assert ids[2] == [17, 19, 16]
    theirs = AutoTokenizer.from_pretrained(tmp_path / "new")
    assert theirs("the Immunoglobulin sat", add_special_tokens=False)["input_ids"] == ids[0]


def test_the_digest_follows_the_files(bert, words):
    one = Existing(folder=str(bert), add=str(words)).library
    assert one == Existing(folder=str(bert), add=str(words)).library
    words.write_text("other\n")
    assert Existing(folder=str(bert), add=str(words)).library != one


def test_what_is_missing_is_said(tmp_path, bert):
    with pytest.raises(DataUnavailableError, match=r"neither tokenizer.json nor vocab.txt"):
        open_tokenizer(tmp_path)
    with pytest.raises(DataUnavailableError, match="a word a line"):
        Existing(folder=str(bert), add=str(tmp_path / "none.txt")).train(iter(()))
    (bert / "vocab.txt").write_text("[UNK]\na\nb\n")
    with pytest.raises(ConfigError, match="sep_token not found"):
        open_tokenizer(bert)


def test_spans_are_of_characters(bert):
    ids, spans = open_tokenizer(bert).encode_with_spans("the cats 用")
    assert ids == [5, 6, 7, 17]
    assert spans == [(0, 3), (4, 7), (7, 8), (9, 10)]
    assert np.array_equal(ids, open_tokenizer(bert).encode(["the cats 用"])[0])

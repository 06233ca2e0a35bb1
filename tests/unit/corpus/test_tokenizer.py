import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import pre_tokenizers

from ptm_dist.corpus.read import InstalledDocs
from ptm_dist.corpus.tokenizer import ByteBPE, FolderTokenizer, load_tokenizer
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import DataUnavailableError
from tests.unit.corpus.reference_tokenizers import byte_letters

SIZE = 1500
TRAIN = f"""
import hashlib
from ptm_dist.corpus.read import InstalledDocs
from ptm_dist.corpus.tokenizer import ByteBPE
files = ByteBPE(vocab_size={SIZE}).train(document.text for document in InstalledDocs().read(["topics"]))
print(hashlib.sha256(b"".join(files[name] for name in sorted(files))).hexdigest())
"""


@pytest.fixture(scope="module")
def files():
    return ByteBPE(vocab_size=SIZE).train(document.text for document in InstalledDocs().read(["topics"]))


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


@pytest.mark.parametrize("threads", ["1", "7"])
def test_bytes_do_not_depend_on_threads_or_process(files, threads):
    environment = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
    found = subprocess.run([sys.executable, "-c", TRAIN], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == hashlib.sha256(b"".join(files[name] for name in sorted(files))).hexdigest()


def test_special_ids_are_robertas(folder):
    vocabulary = load_tokenizer(folder).vocabulary
    assert (vocabulary.begin, vocabulary.pad, vocabulary.end, vocabulary.unknown) == (0, 1, 2, 3)
    assert (vocabulary.mask, vocabulary.size) == (SIZE - 1, SIZE)


def test_text_comes_back(folder):
    tokenizer = load_tokenizer(folder)
    text = "Naïve cafés, 東京 \U0001f600 and\ttabs"
    (ids,) = tokenizer.encode([text])
    assert ids.dtype == np.int32
    assert tokenizer.decode(ids.tolist()) == text
    assert tokenizer.decode([0, SIZE - 1, 2]) == "<s><mask></s>"
    assert tokenizer.encode([]) == []


def test_special_tokens_in_a_text_are_letters(folder):
    tokenizer = load_tokenizer(folder)
    (ids,) = tokenizer.encode(["a <mask> and </s>"])
    assert not set(ids.tolist()) & set(tokenizer.vocabulary.special_ids)
    assert tokenizer.decode(ids.tolist()) == "a <mask> and </s>"


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_any_text_comes_back(folder, text):
    tokenizer = load_tokenizer(folder)
    (ids,) = tokenizer.encode([text])
    assert tokenizer.decode(ids.tolist()) == text


@pytest.mark.parametrize("without_tokenizer_json", [False, True])
def test_transformers_loads_the_folder_and_agrees(folder, tmp_path, without_tokenizer_json):
    for file in folder.iterdir():
        if not (without_tokenizer_json and file.name == "tokenizer.json"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    theirs, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(folder)
    texts = ["The statement raises an exception.", "  two  spaces", "naïve 東京", "x\ny", ""]
    for text, ids in zip(texts, ours.encode(texts), strict=True):
        assert theirs(text)["input_ids"] == [0, *ids.tolist(), 2]
    assert (theirs.mask_token_id, theirs.pad_token_id, len(theirs)) == (SIZE - 1, 1, SIZE)
    assert theirs("a <mask>.")["input_ids"] == [0, *ours.encode(["a"])[0].tolist(), SIZE - 1, *ours.encode(["."])[0].tolist(), 2]
    assert "Roberta" in type(theirs).__name__


@pytest.fixture(scope="module")
def gpt2_files():
    return ByteBPE(vocab_size=600, specials="gpt2").train(iter(["the cat sat on the mat, I'LL we'll  two \U0001f600 " * 20]))


@pytest.fixture(scope="module")
def gpt2_folder(gpt2_files, tmp_path_factory):
    path = tmp_path_factory.mktemp("gpt2")
    for name, data in gpt2_files.items():
        (path / name).write_bytes(data)
    return path


class TestGpt2:
    """The same bytes and merges, with the one special token of GPT-2."""

    def test_bytes_come_first_in_the_order_of_gpt2_and_the_end_of_a_text_last(self, gpt2_files):
        pieces = json.loads(gpt2_files["vocab.json"])
        merges = gpt2_files["merges.txt"].decode().split("\n")[1:-1]
        assert list(pieces.values()) == list(range(len(pieces)))
        assert list(pieces)[:256] == list(byte_letters().values())
        assert list(pieces)[256:] == [*(merge.replace(" ", "") for merge in merges), "<|endoftext|>"]
        assert ByteBPE(specials="gpt2").vocab_size == 50_257 == 256 + 50_000 + 1
        assert ByteBPE().vocab_size == 50_265

    def test_68_bytes_have_letters_of_their_own(self, gpt2_files):
        letters = byte_letters()
        assert sum(letter != chr(byte) for byte, letter in letters.items()) == 68
        assert letters[32] == "\u0120"
        assert set(pre_tokenizers.ByteLevel.alphabet()) == set(letters.values())
        shown = FolderTokenizer(gpt2_files.__getitem__)._tokenizer.decode
        assert [shown([number]) for number, byte in enumerate(letters) if byte < 128] == [chr(byte) for byte in letters if byte < 128]

    def test_one_token_begins_ends_and_pads_and_nothing_is_unknown_or_masked(self, gpt2_folder):
        found = load_tokenizer(gpt2_folder).vocabulary
        last = found.size - 1
        assert (found.begin, found.end, found.pad, found.unknown, found.mask) == (last, last, last, None, None)
        assert found.special_ids == (last,)

    @given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
    def test_any_text_comes_back_and_none_of_it_is_special(self, gpt2_folder, text):
        tokenizer = load_tokenizer(gpt2_folder)
        (ids,) = tokenizer.encode([f"{text}<|endoftext|>"])
        assert tokenizer.decode(ids.tolist()) == f"{text}<|endoftext|>"
        assert tokenizer.vocabulary.end not in ids

    @pytest.mark.parametrize("without", [(), ("tokenizer.json",)])
    def test_transformers_loads_the_folder_and_agrees(self, gpt2_folder, tmp_path, without):
        for file in gpt2_folder.iterdir():
            if file.name not in without:
                (tmp_path / file.name).write_bytes(file.read_bytes())
        theirs, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(gpt2_folder)
        text = "I'LL we'll  two caf\u00e9s\n"
        assert theirs(text)["input_ids"] == ours.encode([text])[0].tolist()
        assert len(theirs) == ours.vocabulary.size
        assert {theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id} == {ours.vocabulary.end}
        assert "GPT2" in type(theirs).__name__


class TestOffsets:
    def test_white_space_before_a_word_belongs_to_no_token_unless_it_is_all_of_it(self, gpt2_folder):
        text = "x  cat\n sat \U0001f600 on\u6771  "
        ((ids, offsets),) = load_tokenizer(gpt2_folder).encode_with_offsets([text])
        assert (ids.dtype, offsets.dtype, offsets.shape) == (np.int32, np.int32, (len(ids), 2))
        found = [text[start:end] for start, end in offsets]
        assert found == ["x", " ", "cat", "\n", "sat", "\U0001f600", "on", "\u6771", "\u6771", "\u6771", " ", " "]
        assert offsets[[1, 2, -1]].tolist() == [[1, 2], [3, 6], [18, 19]]

    @given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=4))
    def test_they_cover_all_that_is_no_white_space(self, folder, texts):
        tokenizer = load_tokenizer(folder)
        for text, (ids, offsets), same in zip(texts, tokenizer.encode_with_offsets(texts), tokenizer.encode(texts), strict=True):
            assert np.array_equal(ids, same)
            covered = {place for start, end in offsets for place in range(start, end)}
            assert {place for place, letter in enumerate(text) if not letter.isspace()} <= covered
            assert tokenizer.encode_with_spans(text) == (ids.tolist(), [tuple(pair) for pair in offsets.tolist()])


class TestVocabulary:
    OLDER = {"size": 9, "begin": 0, "pad": 1, "end": 2, "unknown": 3, "mask": None}

    def test_older_files_load_and_are_written_as_they_were(self):
        found = Vocabulary(**self.OLDER)
        assert (found.document_end, found.spelled) == (None, False)
        assert found.to_json() == self.OLDER
        assert found.special_ids == (0, 1, 2, 3)

    def test_newer_fields_come_back(self):
        found = Vocabulary(**self.OLDER, document_end=7, spelled=True)
        assert Vocabulary(**found.to_json()) == found
        assert found.special_ids == (0, 1, 2, 3, 7)


def test_a_small_corpus_gives_a_small_vocabulary_with_the_mask_last(tmp_path):
    for name, data in ByteBPE(vocab_size=5000).train(iter(["tiny tiny"])).items():
        (tmp_path / name).write_bytes(data)
    vocabulary = load_tokenizer(tmp_path).vocabulary
    assert 261 < vocabulary.size < 300
    assert vocabulary.mask == vocabulary.size - 1


@pytest.mark.parametrize("texts", [[], ["", " \n"]])
def test_no_text_is_an_error(texts):
    with pytest.raises(DataUnavailableError, match="no text to learn from"):
        ByteBPE(vocab_size=300).train(iter(texts))


def test_too_small_is_refused():
    with pytest.raises(ValidationError):
        ByteBPE(vocab_size=260)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataUnavailableError, match="no tokenizer here"):
        load_tokenizer(tmp_path)

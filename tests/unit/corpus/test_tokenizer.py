import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ptm_dist.corpus.read import InstalledDocs
from ptm_dist.corpus.tokenizer import ByteBPE, load_tokenizer
from ptm_dist.errors import DataUnavailableError

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
    transformers = pytest.importorskip("transformers")
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

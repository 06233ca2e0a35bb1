"""GPT's encoding: how text is cut, how the vocabulary is laid out, and that learning repeats."""

import hashlib
import json
import os
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, OpenAIGPTTokenizer

from ptm_dist.corpus.gpt_bpe import GptBPE
from ptm_dist.corpus.tokenizer import FolderTokenizer
from ptm_dist.corpus.unigram import Unigram
from ptm_dist.corpus.word_list import WordList
from ptm_dist.errors import ConfigError, DataUnavailableError
from tests.unit.corpus.reference_tokenizers import Merges

TEXTS = [
    "The weather there is rather good, she said; they don't think so. The other brother cannot. " * 4,
    'In the U.S., Mr. Smith paid $3.50 (50%) at 10:30 a.m. -- "why?" he\'ll ask...',
    "caf\u00e9 \u4e2d\u6587\u3002 the\nthen\nthere",
    "<unk> </w> a</w>",
]


@pytest.fixture(scope="module")
def files():
    return GptBPE(vocab_size=150, least_count=1).train(iter(TEXTS))


@pytest.fixture(scope="module")
def tokenizer(files):
    return FolderTokenizer(files.__getitem__)


def pieces_of(files):
    return list(json.loads(files["vocab.json"]))


def test_the_vocabulary_is_laid_out_as_published(files, tokenizer):
    """<unk>, the characters, the same with </w>, one piece a merge in their order, and the end of a line."""
    pieces, merges = pieces_of(files), files["merges.txt"].decode().split("\n")[1:-1]
    count = (len(pieces) - 2 - len(merges)) // 2
    assert list(json.loads(files["vocab.json"]).values()) == list(range(150))
    assert (pieces[0], pieces[-1]) == ("<unk>", "\n</w>")
    assert {len(piece) for piece in pieces[1 : count + 1]} == {1}
    assert pieces[count + 1 : 2 * count + 1] == [f"{piece}</w>" for piece in pieces[1 : count + 1]]
    assert pieces[2 * count + 1 : -1] == [merge.replace(" ", "") for merge in merges]
    assert pieces[2 * count + 1] == "th", "in English the first merge, as the one with id 477 of the published vocabulary"
    assert GptBPE().vocab_size == 40_478 == 1 + 238 + 238 + 40_000 + 1
    assert tokenizer.vocabulary.to_json() == {"size": 150, "begin": 0, "pad": 0, "end": 0, "unknown": 0, "mask": None}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # As spaCy 3.8 cuts them after GPT's standardisation.
        ("It's she'd they've I'm we'll you're o'clock", "it 's she 'd they 've i 'm we 'll you 're o'clock"),
        ("DON'T can't cannot", "do n't ca n't can not"),
        ("Mr. Smith of the U.S. met Dr. J. Doe at 10 a.m. Feb. 3.", "mr. smith of the u.s. met dr. j. doe at 10 a.m. feb. 3 ."),
        ("3.14, 1,000 and 50% of $5", "3.14 , 1 , 000 and 50 % of $ 5"),
        ("well-known/old (yes) [no] {x} a_b", "well - known / old ( yes ) [ no ] { x } a _ b"),
        ("what?! no!! ...wait.. -- \u2014 \u2026", "what ? ! no ! ! ... wait .. -- - ..."),
        ("a&b me@x.org bbc.co.uk 10:30 @me", "a&b me@x.org bbc.co.uk 10:30 @me"),
        ("\u201cquoted\u201d \u2018single\u2019 caf\u00e9 don\u2019t", "\" quoted \" ' single ' caf\u00e9 do n't"),
    ],
)
def test_words_are_cut_as_spacy_cuts_them(tokenizer, text, words):
    offsets = tokenizer.encode_with_offsets([text])[0][1]
    cut = tokenizer._tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer._tokenizer.normalizer.normalize_str(text))
    assert " ".join(word for word, _ in cut) == words
    assert offsets[-1, 1] == len(text)


def test_the_end_of_a_line_is_a_word_and_white_space_around_it_is_not(files, tokenizer):
    (ids,) = tokenizer.encode([" the \n\n \t\n then\r\nthere\n"])
    assert [pieces_of(files)[number] for number in ids.tolist()].count("\n</w>") == 2
    assert tokenizer.decode(ids.tolist()) == "the \n then \n there"


def test_what_is_written_like_a_piece_is_letters(tokenizer):
    (ids,) = tokenizer.encode(["<unk> a</w>"])
    assert 0 not in ids
    assert tokenizer.decode(ids.tolist()) == "< unk > a < / w >"
    assert tokenizer.encode(["\u0416 the"])[0].tolist()[0] == 0


@given(word=st.text("thernoi", min_size=1, max_size=30))
def test_a_word_is_merged_as_the_published_code_merges_it(files, tokenizer, word):
    merges = [tuple(line.split(" ")) for line in files["merges.txt"].decode().split("\n")[1:-1]]
    wanted = Merges(merges).cut((*word[:-1], f"{word[-1]}</w>"))
    assert [pieces_of(files)[number] for number in tokenizer.encode([word])[0].tolist()] == list(wanted)


def test_transformers_loads_the_folder(files, tokenizer, tmp_path):
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    text = "The weather is good."
    for theirs in (OpenAIGPTTokenizer.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        assert theirs(text)["input_ids"] == tokenizer.encode([text])[0].tolist()
        assert (len(theirs), theirs.unk_token_id) == (150, 0)


def test_training_repeats_to_the_byte_in_any_order(files):
    assert GptBPE(vocab_size=150, least_count=1).train(iter(random.Random(1).sample(TEXTS, len(TEXTS)))) == files


TRAIN = """
import hashlib, json, sys
from ptm_dist.corpus.gpt_bpe import GptBPE
from ptm_dist.corpus.unigram import Unigram
from ptm_dist.corpus.word_list import WordList
texts = json.load(sys.stdin)
files = [kind(vocab_size=150).train(iter(texts)) for kind in (GptBPE, Unigram, WordList)]
print(hashlib.sha256(b"".join(found[name] for found in files for name in sorted(found))).hexdigest())
"""


def test_bytes_depend_neither_on_threads_nor_on_the_process():
    """Those of the three that learn from counted words."""
    environment = os.environ | {"RAYON_NUM_THREADS": "5", "PYTHONHASHSEED": "5"}
    texts, command = json.dumps(TEXTS), [sys.executable, "-c", TRAIN]
    found = subprocess.run(command, env=environment, input=texts, capture_output=True, text=True, check=True).stdout
    files = [kind(vocab_size=150).train(iter(TEXTS)) for kind in (GptBPE, Unigram, WordList)]
    assert found.strip() == hashlib.sha256(b"".join(made[name] for made in files for name in sorted(made))).hexdigest()


def test_rare_characters_are_unknown_and_too_small_a_vocabulary_is_refused():
    files = GptBPE(vocab_size=60, least_count=2).train(iter(["the cat the cat \u4e2d"]))
    assert not {"\u4e2d", "\u4e2d</w>"} & set(pieces_of(files))
    with pytest.raises(ConfigError, match=r"vocab_size 10 has no room for \d+ characters, twice each. Raise it to \d+"):
        GptBPE(vocab_size=10, least_count=1).train(iter(TEXTS))
    with pytest.raises(DataUnavailableError, match="no text to learn from"):
        GptBPE().train(iter(["", "\n \n"]))

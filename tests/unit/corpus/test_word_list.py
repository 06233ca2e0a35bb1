"""ELMo's vocabulary of words."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.corpus.tokenizer import FolderTokenizer
from ptm_dist.corpus.word_list import WordList
from ptm_dist.data.batch import Row, collate
from ptm_dist.data.characters import BEGIN, END, character_ids
from ptm_dist.errors import DataUnavailableError
from ptm_dist.models.elmo import Elmo

TEXTS = ["the cat sat on the mat , the end", "a cat and a dog and a <S> </S> <UNK> été", "dog dog"]


def opened(texts, **settings):
    files = WordList(**settings).train(iter(texts))
    return FolderTokenizer(files.__getitem__), files["vocab.txt"].decode().split("\n")[:-1]


def test_words_come_by_falling_frequency_after_three_special_ones():
    tokenizer, words = opened(TEXTS, split_punctuation=False, least_count=1)
    assert words[:3] == [BEGIN, END, "<UNK>"]
    assert words[3:10] == ["a", "dog", "the", "and", "cat", ",", "end"], "equally frequent ones in the order of their characters"
    found = tokenizer.vocabulary
    assert (found.size, found.begin, found.end, found.unknown, found.mask, found.spelled) == (len(words), 0, 1, 2, None, True)
    assert WordList().vocab_size == 793_471


@given(texts=st.lists(st.text("ab \n\u00e9", max_size=20), max_size=6))
def test_frequencies_are_those_of_a_plain_count(texts):
    counts = Counter(" ".join(texts).split())
    if counts:
        _, words = opened(texts, split_punctuation=False, least_count=1)
        assert words[3:] == sorted(counts, key=lambda word: (-counts[word], word))


def test_an_unknown_word_has_the_id_of_unk_also_where_it_is_written_like_a_special_one():
    tokenizer, words = opened(TEXTS, split_punctuation=False, least_count=2)
    assert words[3:] == ["a", "dog", "the", "and", "cat"]
    (ids,) = tokenizer.encode(["the <S> unseen </S> <UNK> sat dog"])
    assert ids.tolist() == [5, 2, 2, 2, 2, 2, 4]


def test_a_vocabulary_has_as_many_words_as_told():
    tokenizer, words = opened(TEXTS, split_punctuation=False, vocab_size=5, least_count=1)
    assert words[3:] == ["a", "dog"]
    assert tokenizer.vocabulary.size == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't go, U.S.! It's we're.", "Don 't go , U.S. ! It 's we 're ."),
        ("Mr. Smith (J. R.) paid $1,000.50, 50%.", "Mr. Smith ( J. R. ) paid $ 1,000.50 , 50 % ."),
        ('He said: "well-known o\'clock" -- a.m. 10:30 ...', 'He said : " well-known o\'clock " -- a.m. 10:30 ...'),
        ("x,y <S> a/b [c] don\u2019t\n\u00e9t\u00e9.", "x , y < S > a / b [ c ] don \u2019t \u00e9t\u00e9 ."),
        ("", ""),
    ],
)
def test_punctuation_is_split_off(text, words):
    tokenizer, _ = opened([text, "x"], least_count=1)
    ((ids, offsets),) = tokenizer.encode_with_offsets([text])
    assert " ".join(text[start:end] for start, end in offsets) == tokenizer.decode(ids.tolist()) == words
    assert np.array_equal(tokenizer.encode([words])[0], ids), "what is split already stays so"


def test_text_that_is_tokenised_is_not_split_again():
    tokenizer, _ = opened(["Don't go, now"], split_punctuation=False, least_count=1)
    assert tokenizer.decode(tokenizer.encode(["now  Don't\tgo,"])[0].tolist()) == "now Don't go,"


def test_padding_of_words_is_none_to_the_model():
    """The id that pads is that of </S>, and nobody reads it: a padded row has the states that it has alone."""
    tokenizer, _ = opened(TEXTS, split_punctuation=False, least_count=1)
    texts = ["the cat", "a dog sat on the mat and a cat"]
    rows = [
        Row({"tokens": ids, "characters": character_ids(text.split())}) for text, ids in zip(texts, tokenizer.encode(texts), strict=True)
    ]
    batch = collate(rows, tokenizer.vocabulary.pad, width=3)
    assert batch.inputs["tokens"][0, 2:].tolist() == [tokenizer.vocabulary.end] * 14
    assert not batch.inputs["characters"][0, 2:].any()
    torch.manual_seed(0)
    settings = Elmo(cell=8, projection=4, filters=((1, 3), (2, 4)), dropout=0.0, softmax="full")
    backbone = settings.backbone(tokenizer.vocabulary).eval()
    inputs = {name: torch.from_numpy(values) for name, values in batch.inputs.items()}
    together, _ = backbone(inputs, torch.from_numpy(batch.lengths))
    alone, _ = backbone({name: values[:1, :2] for name, values in inputs.items()}, torch.tensor([2]))
    torch.testing.assert_close(together[:1, :2], alone)
    assert not together[0, 2:].any()


def test_training_repeats_to_the_byte_in_any_order():
    tokenizer = WordList(least_count=1)
    assert tokenizer.train(iter(TEXTS)) == tokenizer.train(iter(random.Random(1).sample(TEXTS, len(TEXTS))))


def test_no_text_is_an_error():
    with pytest.raises(DataUnavailableError, match="no text to learn from"):
        WordList().train(iter(["", " \n"]))

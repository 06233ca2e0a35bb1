"""Entities: against a reading that tries every stretch, and figures of conlleval itself."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.errors import DataIntegrityError
from ptm_dist.finetune.metrics import score
from ptm_dist.finetune.tags import Entity, read_entities, tags_of_words

TAGS = ["O", "O", "O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
tags = st.lists(st.sampled_from(TAGS), max_size=12)


def every_entity(words):
    """Stretches of one type whose first word begins an entity, whose others go on with it, and that end where the next does not."""

    def kind(place):
        return words[place][2:] if 0 <= place < len(words) and words[place] != "O" else None

    def begins(place):
        return kind(place) is not None and (words[place][0] == "B" or kind(place - 1) != kind(place))

    def goes_on(place):
        return kind(place) is not None and not begins(place)

    stretches = [(first, end) for first in range(len(words)) for end in range(first + 1, len(words) + 1)]
    fitting = [pair for pair in stretches if begins(pair[0]) and all(map(goes_on, range(pair[0] + 1, pair[1]))) and not goes_on(pair[1])]
    return [Entity(kind(first), first, end) for first, end in fitting]


@given(tags)
def test_entities_are_the_stretches_that_fit_the_rule(words):
    assert read_entities(words) == every_entity(words)


def test_entities_by_hand():
    assert read_entities(["B-PER", "I-PER", "O", "I-LOC", "I-LOC", "B-LOC", "I-ORG"]) == [
        Entity("PER", 0, 2),
        Entity("LOC", 3, 5),  # I- without B- begins one
        Entity("LOC", 5, 6),  # B- ends the one before
        Entity("ORG", 6, 7),  # so does another type
    ]
    assert read_entities(["B-a-b", "I-a-b", "I-a"]) == [Entity("a-b", 0, 2), Entity("a", 2, 3)]
    assert read_entities(["B", "I", "O"]) == [Entity("", 0, 2)]
    assert read_entities([]) == []


@pytest.mark.parametrize("tag", ["S-PER", "E-PER", "PER", "", "b-PER", "[CLS]"])
def test_tags_of_other_schemes_are_refused(tag):
    with pytest.raises(DataIntegrityError, match="Convert the data to BIO"):
        read_entities(["O", tag])


def two_of(size):
    return st.tuples(*[st.lists(st.sampled_from(TAGS), min_size=size, max_size=size)] * 2)


items = st.lists(st.integers(1, 6).flatmap(two_of), min_size=1)


@given(items)
def test_figures_are_those_of_counting_equal_stretches(pairs):
    gold, told = ([(n, *entity) for n, words in enumerate(side) for entity in every_entity(words)] for side in zip(*pairs, strict=True))
    both = len(set(gold) & set(told))
    figures = score("entities", *zip(*pairs, strict=True))
    precision, recall = both / len(told) if told else 0, both / len(gold) if gold else 0
    assert figures["precision"] == pytest.approx(100 * precision, abs=1e-9)
    assert figures["recall"] == pytest.approx(100 * recall, abs=1e-9)
    assert figures["f1"] == pytest.approx(200 * precision * recall / (precision + recall) if both else 0, abs=1e-9)
    assert {name.partition("/")[2] for name in figures} - {""} == {kind for _, kind, _, _ in gold + told}


CONLLEVAL = {
    "precision": 70.30,
    "recall": 70.33,
    "f1": 70.31,
    "precision/LOC": 70.19,
    "recall/LOC": 70.00,
    "f1/LOC": 70.09,
    "precision/ORG": 70.06,
    "recall/ORG": 70.58,
    "f1/ORG": 70.32,
    "precision/PER": 70.63,
    "recall/PER": 70.40,
    "f1/PER": 70.52,
}
"""What conlleval prints for these 3,000 items: 14,469 entities, 14,476 found, 10,176 right."""


def test_figures_are_those_of_conlleval():
    dice = random.Random(5)
    gold = [[dice.choice(TAGS) for _ in range(dice.randint(1, 15))] for _ in range(3000)]
    predicted = [[dice.choice(TAGS) if dice.random() < 0.3 else tag for tag in words] for words in gold]
    assert {name: round(value, 2) for name, value in score("entities", gold, predicted).items()} == CONLLEVAL


def test_an_item_needs_a_tag_for_each_word():
    with pytest.raises(DataIntegrityError, match="item 1 has 2 tags, 1 predicted"):
        score("entities", [["O"], ["O", "O"]], [["O"], ["O"]])


def test_nothing_right_and_nothing_found_is_no_error():
    assert score("entities", [["O"]], [["O"]]) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_words_have_the_tags_of_their_first_tokens():
    names = ["O", "B-PER", "I-PER"]
    rows = [(np.array([2, 1, 2, 0]), np.array([-1, 0, -1, 1])), (np.array([1, 2, 1]), np.array([-1, 3, -1]))]
    assert tags_of_words(4, rows, names) == ("B-PER", "O", "O", "I-PER")  # word 2 has no token


@given(st.lists(st.sampled_from(["O", "B-X", "I-X"]), min_size=1), st.data())
def test_tags_survive_any_cut_into_rows_and_tokens(words, data):
    names = ["I-X", "O", "B-X"]
    rows, word = [], 0
    while word < len(words):
        end = data.draw(st.integers(word + 1, len(words)))
        places = [place for number in range(word, end) for place in (number, *[-1] * data.draw(st.integers(0, 2)))]
        rows.append((np.array([names.index(words[p]) if p >= 0 else 0 for p in places]), np.array(places)))
        word = end
    assert tags_of_words(len(words), rows, names) == tuple(words)

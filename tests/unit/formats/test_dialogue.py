"""Dialogue windows: roles, labels, and which turn was replaced."""

from collections import Counter
from itertools import islice
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.formats.dialogue import Dialogue
from ptm_dist.rng import Draws
from tests import real_text
from tests.texts import document
from tests.unit.formats.numbered import VOCABULARY, Places, cut, even, made, numbered, plain


def dialogues(count, turns=(3, 20), seed=0):
    """Return dialogues in which two people take turns, now and then more than one."""
    sizes, speakers = [], []
    for number in range(count):
        draws = Draws(seed, "dialogue", number)
        found = turns[0] + int(draws.integers(1, turns[1] - turns[0] + 1)[0])
        sizes.append((1 + draws.integers(found, 9)).tolist())
        speakers.append((np.cumsum(draws.uniform(found) < 0.8) % 2).tolist())
    return numbered(sizes, labels=speakers)


def turns_of(row, length, places):
    """Return where the turns of a row are from, and their roles, which every token of a turn must have."""
    roles = row["segments"].tolist()
    ends = np.flatnonzero(row["tokens"] == VOCABULARY.end)
    by_turn = [roles[start:end] for start, end in zip([0, *(ends[:-1] + 1)], ends + 1, strict=True)]
    assert all(len(set(found)) == 1 for found in by_turn)
    parts = cut({name: values for name, values in row.items() if name != "segments"}, length)
    assert all((np.diff(part) == 1).all() for part in parts)
    return [places.of(part[0]) for part in parts], [found[0] for found in by_turn]


def test_real_rows_are_windows_and_fake_ones_have_one_turn_of_another():
    documents = dialogues(300)
    places, used, replaced = Places(documents), Counter(), Counter()
    rows, _ = made(Dialogue(length=64), documents)
    for row in rows:
        found, roles = turns_of(row, 64, places)
        at = Counter(place.document for place in found).most_common(1)[0][0]
        foreign = [number for number, place in enumerate(found) if place.document != at]
        assert len(foreign) == (0 if row["label"] else 1)
        start = next(place.sentence - number for number, place in enumerate(found) if number not in foreign)
        assert all(place == (at, start + number, 0) for number, place in enumerate(found) if number not in foreign)
        speakers = documents[at].labels[start : start + 3]
        assert roles == [int(speaker != speakers[0]) for speaker in speakers]
        assert roles in ([0, 1, 0], [0, 1, 1], [0, 0, 1])
        used.update((at, start + number) for number in range(3))
        replaced.update(foreign)
    assert set(used.values()) == {1}, "windows of a pass do not overlap"
    assert len(used) > 0.7 * sum(len(document.sentences) for document in documents)
    fakes = sum(replaced.values())
    assert fakes == pytest.approx(len(rows) / 2, abs=4 * np.sqrt(len(rows) / 4))
    assert even([replaced[number] for number in range(3)])


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_as_many_rows_are_fake_as_asked_for(share):
    labels = [int(row["label"]) for row in made(Dialogue(length=64, fake_share=share), dialogues(300))[0]]
    assert 1 - np.mean(labels) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / len(labels)))


def test_windows_pass_over_one_speaker_and_every_pass_begins_elsewhere():
    one = numbered([[2] * 8], labels=[[1, 1, 1, 0, 1, 0, 0, 5]])
    places = Places(one)
    found = [turns_of(row, 64, places) for row in made(Dialogue(length=64, passes=4), one)[0]]
    starts = [(places[0].sentence, roles) for places, roles in found]
    first = [(1, [0, 0, 1]), (4, [0, 1, 1])]
    assert starts == [*first, *first, (2, [0, 1, 0]), (5, [0, 0, 1]), *first]


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2)), max_size=8), max_size=5),
    st.integers(8, 40),
    st.integers(1, 4),
    st.integers(0, 999),
)
def test_rows_fit_and_turns_are_cut_fairly(found, length, passes, seed):
    documents = numbered([[size for size, _ in turns] for turns in found], labels=[[speaker for _, speaker in turns] for turns in found])
    places = Places(documents)
    rows, skipped = made(Dialogue(length=length, passes=passes, seed=seed), documents)
    for row in rows:
        turns, _ = turns_of(row, length, places)
        whole = [len(documents[place.document].sentences[place.sentence]) for place in turns]
        sizes = np.diff(np.flatnonzero(row["tokens"] == VOCABULARY.end), prepend=0) - 1
        assert sizes.sum() == min(sum(whole), length - 4)
        shortened = [size for size, full in zip(sizes, whole, strict=True) if size < full]
        assert all(size + 1 >= max(sizes) for size in shortened)
    assert sum(skipped.values()) == len(documents) - len({places.of(row["tokens"][1]).document for row in rows} | _with_rows(documents))


def _with_rows(documents):
    """Return which dialogues have three turns that are not all of one speaker."""
    speakers = [[label for part, label in zip(one.sentences, one.labels, strict=True) if len(part)] for one in documents]
    return {number for number, found in enumerate(speakers) if any(len(set(found[n : n + 3])) > 1 for n in range(len(found) - 2))}


def test_a_turn_that_reads_the_same_is_no_replacement():
    same = [document(name, [[10, 11]] * 3, [0, 1, 0]) for name in "ab"]
    assert {int(row["label"]) for row in made(Dialogue(length=64, fake_share=1.0), same)[0]} == {1}
    other = document("c", [[10, 11], [10, 11], [12]], [0, 1, 0])
    rows, _ = made(Dialogue(length=64, fake_share=1.0, passes=60), [*same, other])
    for number, row in enumerate(rows):
        assert bool(row["label"]) == ((12 in row["tokens"]) == (number % 3 == 2)), "the third dialogue has 12 of its own"
    assert len({int(row["label"]) for row in rows}) == 2


def test_other_dialogues_change_fake_rows_only():
    documents = dialogues(60)
    others = numbered([[9] * 5], names=["x"], labels=[[0, 1, 0, 1, 0]])
    before, after = (made(Dialogue(length=24), found)[0] for found in (documents, [*documents, *others]))
    same = [one == other for one, other in zip(plain(before), plain(after), strict=False)]
    assert all(kept for kept, row in zip(same, before, strict=True) if row["label"])
    assert not all(same)


def test_documents_that_make_no_row_are_counted():
    documents = numbered([[], [0], [1, 1], [1, 0, 1], [1] * 5, [1] * 3], labels=[[], [0], [0, 1], [0, 1, 0], [1] * 5, [0, 1, 0]])
    rows, skipped = made(Dialogue(length=64), documents)
    assert skipped == {"empty": 2, "few_turns": 2, "one_speaker": 1}
    assert [int(row["label"]) for row in rows] == [1], "one dialogue alone"


def test_real_dialogues():
    documents = []
    for record in islice(real_text.records("dialogue/chitchat_en.jsonl.gz"), 400):
        turns = [[crc32(word.encode()) % 100_000 + 10 for word in turn.split()] for turn in record["turns"]]
        documents.append(document(record["id"], turns, [number % 2 for number in range(len(turns))]))
    rows, skipped = made(Dialogue(length=128), documents)
    assert skipped == {"few_turns": sum(sum(map(bool, map(len, one.sentences))) < 3 for one in documents)}
    assert len(rows) > 1000
    assert np.mean([row["label"] for row in rows]) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(rows)))
    assert max(len(row["tokens"]) for row in rows) <= 128

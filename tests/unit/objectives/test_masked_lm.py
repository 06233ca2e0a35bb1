"""Masked language modelling: what is hidden, what is predicted, and what it costs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.objectives.masked_lm import MaskedLM
from ptm_dist.rng import Draws

VOCABULARY = Vocabulary(size=300, begin=0, pad=1, end=2, unknown=3, mask=299)
seeds = st.integers(0, 2**63 - 1)


def example(length, seed=0):
    text = Draws(seed, "text").integers(length, 290) + 4
    text[0], text[-1] = VOCABULARY.begin, VOCABULARY.end
    return Row({"tokens": text.astype(np.uint16), "segments": np.zeros(length, np.uint8)})


def corrupted(row, *key, objective=None):
    return (objective or MaskedLM()).corrupt(row, VOCABULARY, Draws(*key))


@given(st.integers(2, 200), seeds)
def test_labels_restore_the_example(length, seed):
    row = example(length, seed)
    hidden = corrupted(row, seed, "x")
    positions, labels = hidden.targets["masked_lm"]
    restored = hidden.inputs["tokens"].copy()
    restored[positions] = labels
    assert np.array_equal(restored, row.inputs["tokens"])
    assert positions.dtype == labels.dtype == np.int64
    assert (np.diff(positions) > 0).all()
    assert len(positions) in (int(0.15 * length), int(0.15 * length) + 1)


@given(seeds, st.integers(0, 5), st.integers(0, 10**9))
def test_a_mask_is_a_function_of_seed_epoch_and_row(seed, epoch, number):
    row = example(64)
    draws = Draws(9, "used before")
    draws.words(5)
    one = corrupted(row, seed, "train", epoch, number)
    other = MaskedLM().corrupt(row, VOCABULARY, draws.rekey(seed, "train", epoch, number))
    assert np.array_equal(one.inputs["tokens"], other.inputs["tokens"])
    assert np.array_equal(one.targets["masked_lm"], other.targets["masked_lm"])


def test_another_epoch_hides_other_tokens():
    row = example(128)
    first, second = ([corrupted(row, 1, "t", epoch, n).targets["masked_lm"].positions.tolist() for n in range(500)] for epoch in (0, 1))
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 2


def test_the_example_itself_and_other_targets_stay():
    row = Row(example(40).inputs, {"sop": Targets(np.array([0]), np.array([1]))})
    before = row.inputs["tokens"].copy()
    hidden = corrupted(row, 1, "x")
    assert np.array_equal(row.inputs["tokens"], before)
    assert hidden.targets["sop"] is row.targets["sop"]
    assert hidden.inputs["segments"] is row.inputs["segments"]
    assert "masked_lm" not in row.targets


def test_80_10_10_and_no_special_token_as_replacement():
    row = example(20_000)
    hidden = corrupted(row, 3, "x", objective=MaskedLM(rate=0.9, predict_special=False))
    positions, labels = hidden.targets["masked_lm"]
    shown, count = hidden.inputs["tokens"][positions], len(positions)
    by_chance = 0.1 / (VOCABULARY.size - 4)  # a random token may be the mask token or the old one
    for share, found in ((0.8 + by_chance, shown == VOCABULARY.mask), (0.1 + by_chance, shown == labels)):
        assert abs(found.sum() - share * count) < 4 * (count * share * (1 - share)) ** 0.5
    replaced = shown[(shown != VOCABULARY.mask) & (shown != labels)]
    assert not np.isin(replaced, [VOCABULARY.begin, VOCABULARY.pad, VOCABULARY.end, VOCABULARY.unknown]).any()


def test_special_tokens_are_predicted_as_the_recipe_says():
    row = example(8)
    allowed = set(range(8))
    with_special = {p for n in range(300) for p in corrupted(row, 1, "x", n).targets["masked_lm"].positions.tolist()}
    bert = MaskedLM(predict_special=False)
    without = {p for n in range(300) for p in corrupted(row, 1, "x", n, objective=bert).targets["masked_lm"].positions.tolist()}
    assert with_special == allowed
    assert without == allowed - {0, 7}


def test_pad_and_mask_are_never_predicted():
    assert np.flatnonzero(~MaskedLM().predictable(VOCABULARY)).tolist() == [VOCABULARY.pad, VOCABULARY.mask]
    assert np.flatnonzero(~MaskedLM(predict_special=False).predictable(VOCABULARY)).tolist() == [0, 1, 2, 3, 299]


def test_a_row_of_nothing_but_padding_has_no_target():
    hidden = corrupted(Row({"tokens": np.full(9, VOCABULARY.pad)}), 1, "x")
    assert len(hidden.targets["masked_lm"].positions) == 0


def test_the_head_projects_onto_the_vocabulary():
    assert MaskedLM().head == HeadSpec("masked_lm")

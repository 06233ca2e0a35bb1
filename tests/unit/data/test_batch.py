"""Rows become padded micro-batches that lose nothing and add nothing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.data.batch import HeadSpec, Row, Targets, collate

PAD = 1


@st.composite
def rows(draw):
    found = []
    for _ in range(draw(st.integers(0, 6))):
        length = draw(st.integers(1, 30))
        tokens = np.array(draw(st.lists(st.integers(5, 99), min_size=length, max_size=length)), dtype=np.uint16)
        targets = {}
        for name in draw(st.sets(st.sampled_from(["masked_lm", "sop"]))):
            positions = np.array(sorted(draw(st.sets(st.integers(0, length - 1), max_size=5))), dtype=np.int64)
            targets[name] = Targets(positions, tokens[positions])
        found.append(Row({"tokens": tokens, "segments": np.arange(length), "label": np.array(3)}, targets))
    return found


@given(rows(), st.integers(0, 3))
def test_every_value_survives_and_the_rest_is_padding(rows, fillers):
    width = len(rows) + fillers
    batch = collate(rows, PAD, width)
    assert batch.lengths.tolist() == [len(row.inputs["tokens"]) for row in rows] + [1] * fillers
    assert set(batch.inputs) == ({"tokens", "segments"} if rows else {"tokens"})
    for name, padded in batch.inputs.items():
        assert padded.dtype == np.int64
        assert padded.shape[0] == width
        for number, row in enumerate(rows):
            length = batch.lengths[number]
            assert np.array_equal(padded[number, :length], row.inputs[name])
            assert (padded[number, length:] == (PAD if name == "tokens" else 0)).all()
        assert (padded[len(rows) :] == (PAD if name == "tokens" else 0)).all()


@given(rows())
def test_the_length_is_the_least_multiple_of_eight(rows):
    length = collate(rows, PAD, max(1, len(rows))).inputs["tokens"].shape[1]
    longest = max((len(row.inputs["tokens"]) for row in rows), default=1)
    assert length % 8 == 0
    assert longest <= length < longest + 8


@given(rows(), st.integers(0, 3))
def test_targets_point_at_their_tokens_in_the_flattened_batch(rows, fillers):
    batch = collate(rows, PAD, len(rows) + fillers)
    flat = batch.inputs["tokens"].reshape(-1)
    assert set(batch.targets) == {name for row in rows for name in row.targets}
    for name, (positions, labels) in batch.targets.items():
        assert positions.dtype == labels.dtype == np.int64
        assert np.array_equal(flat[positions], labels)
        assert len(labels) == sum(len(row.targets[name].labels) for row in rows if name in row.targets)
        assert (np.diff(positions) > 0).all()


@given(rows(), st.integers(0, 3))
def test_tokens_count_what_is_no_padding(rows, fillers):
    batch = collate(rows, PAD, len(rows) + fillers)
    assert batch.tokens == sum(len(row.inputs["tokens"]) for row in rows) + fillers


def test_a_head_of_the_vocabulary_has_no_classes_of_its_own():
    assert HeadSpec("masked_lm").classes == 0

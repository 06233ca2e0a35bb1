"""Permutation language modelling: what is chosen, against the figures of the reference, and what is seen, against its rule."""

import math
from functools import lru_cache
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.data.document import TokenizedDocument, tokens
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats.memory_segments import MemorySegments
from ptm_dist.objectives.permutation_lm import PermutationLM
from ptm_dist.rng import Draws, RowDraws
from tests.texts import rows_of

VOCABULARY = Vocabulary(size=32_000, begin=3, pad=5, end=4, unknown=0, mask=6, document_end=7)
SEP, CLS = 4, 3
KIND = "permutation_lm"


@lru_cache
def published():
    """Return rows of 512 in which three tokens in ten go on with a word, forward and backward."""
    draws, documents = Draws(0, "text"), []
    for number in range(250):
        lengths = (5 + draws.integers(30, 40)).tolist()
        sentences = [tokens(draws.integers(length, 31_000) + 100, draws.uniform(length) < 0.3) for length in lengths]
        documents.append(TokenizedDocument(str(number), sentences))
    return [Row(row) for row in rows_of(MemorySegments(length=512), documents, VOCABULARY)]


def plain_row(length, seed=0, **fields):
    """Return a row without special tokens."""
    return Row({"tokens": (Draws(seed, "plain").integers(length, 31_000) + 100).astype(np.uint16)} | fields)


def half_row(length, seed=0, **fields):
    return plain_row(length, seed, reuse=np.array(length // 2, dtype=np.uint16), **fields)


def corrupted(rows, seed=1, epoch=0, objective=None, first=0):
    draws = RowDraws(seed, "train", [(epoch, first + number) for number in range(len(rows))])
    return (objective or PermutationLM()).corrupt(rows, VOCABULARY, draws)


def chosen_of(row):
    """Return which tokens of a row are targets, bool."""
    found = np.zeros(len(row.inputs["tokens"]), dtype=bool)
    found[row.targets[KIND].positions] = True
    return found


def runs_of(chosen):
    """Return (first, tokens) of each run of chosen tokens."""
    places = groupby(enumerate(np.flatnonzero(chosen).tolist()), lambda pair: pair[1] - pair[0])
    return [(found[0][1], len(found)) for found in (list(group) for _, group in places)]


def near(count, total, share):
    """Is a count within four standard deviations of what is expected?"""
    return abs(count - total * share) < 4 * math.sqrt(total * share * (1 - share))


# What is chosen


def test_85_of_512_are_chosen_43_and_42():
    for row in corrupted([half_row(512, seed) for seed in range(50)]):
        chosen = chosen_of(row)
        assert (chosen[:256].sum(), chosen[256:].sum()) == (43, 42)
    for row in corrupted([plain_row(length) for length in range(2, 40)]):
        assert len(row.targets[KIND].positions) == len(row.inputs["tokens"]) // 6
    (row,) = corrupted([half_row(512)], objective=PermutationLM(one_in=7))
    assert len(row.targets[KIND].positions) == 73


@pytest.mark.parametrize(("backward", "targets"), [(False, 84.7), (True, 84.5)])
def test_some_of_the_chosen_are_special_and_dropped(backward, targets):
    """Check 60 of the reference: 0.29 of 42; more in backward rows, whose text begins with <cls> and <sep>, where spans reach them."""
    rows = corrupted([row for row in published() if row.inputs["backward"][0] == backward])
    counts = np.array([len(row.targets[KIND].positions) for row in rows])
    assert len(rows) > 700
    assert counts.mean() == pytest.approx(targets, abs=0.1)
    assert {83, 84, 85} <= set(counts.tolist()) <= {82, 83, 84, 85}
    for row in rows:
        assert not np.isin(row.targets[KIND].labels, [SEP, CLS]).any()
        assert chosen_of(row)[:256].sum() == 43


@pytest.mark.parametrize(("starts", "coverage"), [(1.0, 36.4), (0.7, 35.4)])
def test_spans_cover_a_seventh(starts, coverage):
    found = [PermutationLM()._spans(Draws(2, "starts", n).uniform(256) < starts, 43, Draws(1, "spans", n)).sum() for n in range(2000)]
    assert np.mean(found) == pytest.approx(coverage, abs=0.15)
    assert np.std(found) == pytest.approx(1.3, abs=0.1)


def test_spans_of_n_tokens_are_as_likely_as_one_nth():
    """Before single tokens fill up; at least one token stands between two spans."""
    chosen = PermutationLM()._spans(np.ones(200_000, dtype=bool), 200_000, Draws(1, "spans"))
    runs = [length for _, length in runs_of(chosen)]
    law = [1 / n / sum(1 / k for k in range(1, 6)) for n in range(1, 6)]
    assert [round(share, 3) for share in law] == [0.438, 0.219, 0.146, 0.109, 0.088]
    assert set(runs) == {1, 2, 3, 4, 5}
    for n, share in enumerate(law, start=1):
        assert runs.count(n) / len(runs) == pytest.approx(share, abs=0.01)


def test_spans_lie_anywhere_in_their_context():
    """The first span has from none to five tokens before it if it is of one, up to eleven if it is of two."""
    firsts = {1: [], 2: []}
    for number in range(6000):
        ((start, size), *_) = runs_of(PermutationLM(longest=2)._spans(np.ones(60, dtype=bool), 60, Draws(1, "spans", number)))
        firsts[size].append(start)
    assert near(len(firsts[1]), 6000, 2 / 3)
    for size, starts in firsts.items():
        assert set(starts) == set(range(6 * size))
        assert all(near(starts.count(start), len(starts), 1 / (6 * size)) for start in range(6 * size))


def test_runs_after_filling_up():
    rows = corrupted([half_row(512, seed) for seed in range(300)])
    runs = [length for row in rows for half in (chosen_of(row)[:256], chosen_of(row)[256:]) for _, length in runs_of(half)]
    for length, share in enumerate((0.56, 0.18, 0.11, 0.08, 0.07), start=1):
        assert runs.count(length) / len(runs) == pytest.approx(share, abs=0.02)


@given(st.integers(1, 300), st.integers(0, 60), st.integers(1, 7), st.integers(1, 9), st.integers(0, 2**32))
@settings(deadline=None)
def test_spans_begin_with_words(length, goal, longest, context, seed):
    starts = Draws(seed, "starts").uniform(length) < 0.6
    chosen = PermutationLM(longest=longest, context=context)._spans(starts, goal, Draws(seed, "spans"))
    runs = runs_of(chosen)
    assert chosen.sum() <= goal
    assert not chosen[-1], "the last token is in no span"
    assert all(starts[first] and size <= longest for first, size in runs)


def test_backward_rows_are_turned_to_choose():
    """What is chosen of a part that runs backward is what is chosen of the part turned round."""
    marks = (Draws(1, "marks").uniform(512) < 0.5).astype(np.uint8)
    turned = np.concatenate([marks[:256][::-1], marks[256:][::-1]])
    forward = corrupted([half_row(512, marks=marks, backward=np.zeros(512, dtype=np.uint8))] * 40)
    backward = corrupted([half_row(512, marks=turned, backward=np.ones(512, dtype=np.uint8))] * 40)
    for one, other in zip(forward, backward, strict=True):
        assert np.array_equal(chosen_of(one)[:256], chosen_of(other)[:256][::-1])
        assert np.array_equal(chosen_of(one)[256:], chosen_of(other)[256:][::-1])
    assert any(chosen_of(one).tolist() != chosen_of(other).tolist() for one, other in zip(forward, backward, strict=True))


def test_only_the_bit_of_words_counts():
    marks = (Draws(1, "marks").uniform(512) < 0.5).astype(np.uint8)
    one, two = (corrupted([half_row(512, marks=found)] * 20) for found in (marks, marks | 14))
    three, four = corrupted([half_row(512, marks=marks * 14)] * 20), corrupted([half_row(512)] * 20)
    for found, same in ((one, two), (three, four)):
        assert all(np.array_equal(a.targets[KIND], b.targets[KIND]) for a, b in zip(found, same, strict=True))
    assert any(
        len(a.targets[KIND].positions) and not np.array_equal(a.targets[KIND], b.targets[KIND]) for a, b in zip(one, four, strict=True)
    )


# What is seen


def hidden_by_rule(special, target, ranks):
    """Which key is hidden from which query in one part: section 6.4 of the reference page, word by word."""
    plain = [not (s or t) for s, t in zip(special, target, strict=True)]
    keys = [-1 if p else rank for p, rank in zip(plain, ranks, strict=True)]
    queries = [rank if t else rank + 1 for t, rank in zip(target, keys, strict=True)]
    return [[query <= key and not free for key, free in zip(keys, plain, strict=True)] for query in queries]


def ranks_of(keys, raised):
    """Return what ranks a part has, for plain tokens any that are left."""
    ranks = keys - raised
    left = iter(sorted(set(range(len(ranks))) - set(ranks.tolist())))
    return [next(left) if rank == -1 else int(rank) for rank in ranks]


@pytest.mark.parametrize("number", [0, 700, 1400])
def test_orders_make_the_mask_of_the_reference(number):
    """Check 55 is in it: nothing of the second part is seen in the first, everything of the first in the second."""
    (row,) = corrupted(published()[number : number + 1])
    keys, queries = row.inputs["key_order"], row.inputs["query_order"]
    target, special = chosen_of(row), np.isin(row.inputs["tokens"], [SEP, CLS])
    wanted = np.ones((512, 512), dtype=bool)
    wanted[256:, :256] = False
    for part, raised in ((slice(0, 256), 0), (slice(256, 512), 257)):
        ranks = ranks_of(keys[part], raised)
        assert sorted(ranks) == list(range(256))
        wanted[part, part] = hidden_by_rule(special[part].tolist(), target[part].tolist(), ranks)
    assert np.array_equal(queries[:, None] <= keys[None, :], wanted)
    assert np.array_equal(keys == queries, target)


def test_how_much_targets_see():
    """Check 54 of the reference: all plain tokens, half of the other targets, half of <sep> and <cls>."""
    seen_by_half = {0: [], 1: []}
    for row in corrupted(published()[:400]):
        target, special = chosen_of(row), np.isin(row.inputs["tokens"], [SEP, CLS])
        for half in (0, 1):
            part = np.zeros(512, dtype=bool)
            part[256 * half : 256 * (half + 1)] = True
            asked, plain = part & target, part & ~target & ~special
            seen = row.inputs["query_order"][asked][:, None] > row.inputs["key_order"][None, :]
            count = int(asked.sum())
            assert seen[:, asked].sum() == math.comb(count, 2)
            assert seen[:, plain].all()
            assert seen[:, :256].all() == bool(half)
            assert not seen[:, 256:].any() or half
            expected = plain.sum() + (count - 1) / 2 + (part & special).sum() / 2
            seen_by_half[half].append(seen[:, part].sum() / count - expected)
    assert not np.any(seen_by_half[0]), "without <sep> and <cls> nothing is left to chance"
    assert abs(np.mean(seen_by_half[1])) < 0.1


def test_every_order_is_as_likely():
    row, orders = plain_row(18), []
    for found in corrupted([row] * 3000):
        ranks = found.inputs["key_order"][chosen_of(found)]
        orders.append(tuple(np.argsort(ranks).tolist()))
    assert len(set(orders)) == math.factorial(3)
    assert all(near(orders.count(order), 3000, 1 / 6) for order in set(orders))


# Rows and draws


def test_tokens_stay_and_are_their_own_targets():
    (before,) = published()[:1]
    before = before.with_targets("earlier", Targets(np.array([0]), np.array([1])))
    kept = {name: values.copy() for name, values in before.inputs.items()}
    (row,) = corrupted([before])
    assert row.inputs.keys() - kept.keys() == {"key_order", "query_order"}
    assert all(np.array_equal(row.inputs[name], values) for name, values in kept.items())
    assert row.targets["earlier"] is before.targets["earlier"]
    positions, labels = row.targets[KIND]
    assert np.array_equal(labels, kept["tokens"][positions])
    assert (np.diff(positions) > 0).all()
    assert positions.dtype == labels.dtype == np.int64
    assert row.inputs["key_order"].shape == row.inputs["query_order"].shape == (512,)


@given(st.lists(st.integers(1, 80), min_size=1, max_size=5), st.integers(0, 2**40), st.integers(0, 9), st.integers(0, 10**9), st.booleans())
@settings(deadline=None)
def test_a_row_is_changed_alike_in_any_company(lengths, seed, epoch, first, backward):
    rows = []
    for number, length in enumerate(lengths):
        ids = Draws(seed, "ids", number).integers(length, 12).astype(np.uint16)
        rows.append(Row({"tokens": ids, "reuse": np.uint16(length // 3), "backward": np.full(length, backward, dtype=np.uint8)}))
    together = corrupted(rows, seed, epoch, first=first)
    for number, row in enumerate(rows):
        (alone,) = corrupted([row], seed, epoch, first=first + number)
        found = together[number]
        assert all(np.array_equal(found.inputs[name], alone.inputs[name]) for name in ("key_order", "query_order"))
        assert np.array_equal(found.targets[KIND], alone.targets[KIND])
        # <cls>, <sep>, <pad> and <mask>; the end of a document is text.
        assert not np.isin(found.targets[KIND].labels, [3, 4, 5, 6]).any()
        assert len(found.targets[KIND].positions) <= lengths[number] // 6


def test_each_reading_asks_for_other_tokens_in_another_order():
    row = half_row(512)
    first, second = ([corrupted([row], epoch=epoch, first=n)[0] for n in range(100)] for epoch in (0, 1))
    for key in ("key_order", "query_order"):
        assert not any(np.array_equal(a.inputs[key], b.inputs[key]) for a, b in zip(first, second, strict=True))
    assert not any(np.array_equal(a.targets[KIND], b.targets[KIND]) for a, b in zip(first, second, strict=True))


def test_it_says_what_it_is():
    objective = PermutationLM()
    assert objective.head == HeadSpec(KIND)
    assert objective.reads == {"marks", "reuse"}
    assert objective.variants == 0
    assert np.flatnonzero(~objective.predictable(VOCABULARY)).tolist() == [3, 4, 5, 6]

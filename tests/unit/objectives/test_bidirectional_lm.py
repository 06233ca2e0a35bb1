"""ELMo's objective: what its rows ask, what the model sees of them, and how they go on from one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ptm_dist.corpus.shard import write_dataset
from ptm_dist.data.batch import HeadSpec, MicroBatch, Row, Targets, collate
from ptm_dist.data.characters import character_ids
from ptm_dist.data.document import TokenizedDocument
from ptm_dist.data.loader import Reader, Reading
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import DataIntegrityError
from ptm_dist.formats.word_streams import WordStreams
from ptm_dist.models.elmo import Elmo, ElmoBackbone
from ptm_dist.objectives.bidirectional_lm import BidirectionalLM
from ptm_dist.rng import RowDraws
from ptm_dist.schedule import Moment
from tests.texts import rows_of
from tests.unit.formats.test_word_streams import BEGIN, END, UNKNOWN, VOCABULARY, corpus, halves, spelled
from tests.unit.models.kit import randomise

LM = BidirectionalLM()
SMALL = Elmo(cell=7, projection=6, character_width=3, filters=((1, 4), (3, 6)), softmax="full")


def corrupted(rows: Sequence[Row]) -> list[Row]:
    return LM.corrupt(rows, VOCABULARY, RowDraws(0, "train", [(0, number) for number in range(len(rows))]))


def rows(length: int, *texts: Sequence[Sequence[int]]) -> list[Row]:
    """Return the rows of some texts as the model sees them."""
    found = corrupted([Row(row) for row in rows_of(WordStreams(length=length), corpus(*texts), VOCABULARY)])
    return [row.without(LM.reads) for row in found]


def batch_of(found: Sequence[Row]) -> MicroBatch:
    return collate(found, VOCABULARY.pad, len(found))


def build() -> tuple[ElmoBackbone, torch.nn.Module]:
    """Return a backbone and a head in fp64, in which every number counts."""
    torch.manual_seed(0)
    backbone = SMALL.backbone(VOCABULARY).double().eval()
    head = SMALL.head(LM.head, backbone, VOCABULARY).double().eval()
    randomise(backbone, 0.6)
    randomise(head, 0.6)
    return backbone, head


def read(backbone: ElmoBackbone, batch: MicroBatch, memory: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    return backbone({"characters": torch.from_numpy(batch.inputs["characters"])}, torch.from_numpy(batch.lengths), memory)


def targets_of(batch: MicroBatch) -> tuple[Tensor, Tensor]:
    return tuple(map(torch.from_numpy, batch.targets[LM.kind]))


texts = st.lists(st.lists(st.lists(st.integers(3, 298), max_size=9), max_size=5), min_size=1, max_size=3)


@given(texts, st.integers(4, 12))
def test_every_position_asks_for_the_next_word_and_shows_the_characters_of_its_own(texts, half):
    before = [Row(row) for row in rows_of(WordStreams(length=2 * half), corpus(*texts), VOCABULARY)]
    for given_row, row in zip(before, corrupted(before), strict=True):
        positions, labels = row.targets[LM.kind]
        assert positions.tolist() == list(range(len(row.inputs["tokens"])))
        assert labels.tolist() == given_row.inputs["targets"].tolist()
        assert positions.dtype == labels.dtype == np.int64
        names = {BEGIN: "<S>", END: "</S>"}
        words = [names.get(token, f"w{token}") for token in row.inputs["tokens"].tolist()]
        assert np.array_equal(row.inputs["characters"], character_ids(words))
        assert all(row.inputs[name] is values for name, values in given_row.inputs.items())


def test_words_that_the_vocabulary_lacks_are_read_by_their_characters():
    sentence = spelled([UNKNOWN, UNKNOWN, UNKNOWN], ["naïve", "<S>", "<UNK>"])
    (row,) = corrupted([Row(row) for row in rows_of(WordStreams(), [TokenizedDocument("0", [sentence])], VOCABULARY)])
    wanted = character_ids(["<S>", "naïve", "", "<UNK>", "</S>", "<UNK>", "", "naïve"])
    wanted[[2, 6], 1:5] = [ord("<") + 1, ord("S") + 1, ord(">") + 1, 260]
    assert np.array_equal(row.inputs["characters"], wanted)
    assert row.targets[LM.kind].labels.tolist() == [*[UNKNOWN] * 3, END, *[UNKNOWN] * 3, BEGIN]


def test_a_row_is_the_same_in_whatever_company():
    before = [Row(row) for row in rows_of(WordStreams(length=8), corpus([[5, 6, 7], [8], [9, 10, 11, 12]]), VOCABULARY)]
    together = corrupted([Row(before[0].inputs, {"earlier": Targets(np.array([0]), np.array([1]))}), *before[1:]])
    assert together[0].targets["earlier"].labels.tolist() == [1]
    assert len({len(row.inputs["tokens"]) for row in before}) == 2
    for number, row in enumerate(together):
        (alone,) = corrupted([before[number]])
        assert np.array_equal(row.inputs["characters"], alone.inputs["characters"])
        assert np.array_equal(row.targets[LM.kind], alone.targets[LM.kind])
        assert "characters" not in before[number].inputs
    assert corrupted([]) == []


@pytest.mark.parametrize("name", ["letters", "targets"])
def test_rows_of_another_format_are_refused(name):
    (row, *_) = rows_of(WordStreams(), corpus([[5, 6]]), VOCABULARY)
    with pytest.raises(DataIntegrityError, match="bidirectional_lm: rows have no letters or no targets"):
        corrupted([Row(row), Row(row).without(frozenset({name}))])


def test_what_the_objective_says_of_itself():
    assert LM.head == HeadSpec("bidirectional_lm")
    assert np.flatnonzero(~LM.predictable(VOCABULARY)).tolist() == [VOCABULARY.pad]
    assert LM.predictable(Vocabulary(300, BEGIN, END, END, UNKNOWN, None)).all()


def test_a_micro_batch_has_the_characters_and_none_of_what_only_the_objective_reads():
    found = rows(12, [[5, 6, 7], [8, 9], [10, 11]])
    batch = collate(found, VOCABULARY.pad, 5)
    assert batch.inputs.keys() == {"tokens", "marks", "characters"}
    assert batch.inputs["characters"].shape == (5, 16, 50)
    assert batch.inputs["characters"].dtype == np.int64
    assert batch.lengths.tolist() == [12, 8, 1, 1, 1]
    for number, length in enumerate([12, 8, 0, 0, 0]):
        assert (batch.inputs["characters"][number, :length] > 0).all()
        assert not batch.inputs["characters"][number, length:].any()
    assert batch.targets[LM.kind].positions.tolist() == [*range(12), *range(16, 24)]


@torch.no_grad()
def test_the_loss_is_half_of_each_directions_mean():
    backbone, head = build()
    batch = batch_of(rows(12, [[5, 6, 7], [8, 9], [10, 11, 12, 13]]))
    hidden, _ = read(backbone, batch)
    positions, labels = targets_of(batch)
    losses = torch.nn.functional.cross_entropy(head(hidden, positions), labels, reduction="none")
    places, half = positions % hidden.shape[1], torch.from_numpy(batch.lengths)[positions // hidden.shape[1]] // 2
    loss = head.loss(hidden, positions, labels)
    assert loss.sum.item() / loss.targets == pytest.approx(0.5 * (losses[places < half].mean() + losses[places >= half].mean()).item())


TEXT = [list(range(start, start + size)) for start, size in ((10, 3), (20, 5), (30, 2), (40, 4), (50, 1))]
"""20 positions of each stream; no word twice."""


@torch.no_grad()
def test_rows_with_memory_are_one_longer_row():
    backbone, head = build()
    (whole,) = rows(40, TEXT)
    for length in (20, 10, 16):
        wanted, last = read(backbone, batch_of([whole]))
        states, memory, loss = [], None, 0.0
        for row in rows(length, TEXT):
            batch = batch_of([row])
            hidden, memory = read(backbone, batch, memory)
            states.append(hidden[0, : int(batch.lengths[0])].chunk(2))
            loss += head.loss(hidden, *targets_of(batch)).sum
        assert len(states) == -(-40 // length)
        joined = torch.cat([torch.cat(parts) for parts in zip(*states, strict=True)])
        torch.testing.assert_close(joined, wanted[0], rtol=0, atol=1e-12)
        for name, values in last.items():
            torch.testing.assert_close(memory[name], values, rtol=0, atol=1e-12)
        torch.testing.assert_close(loss, head.loss(wanted, *targets_of(batch_of([whole]))).sum)


def test_no_gradient_flows_into_the_row_before():
    backbone, head = build()
    words = words_read(backbone)
    first, second = (batch_of([row]) for row in rows(20, TEXT))
    _, memory = read(backbone, first)
    hidden, _ = read(backbone, second, memory)
    before, own = torch.autograd.grad(head.loss(hidden, *targets_of(second)).sum, words, allow_unused=True)
    assert before is None
    assert own.any()


def words_read(backbone: ElmoBackbone) -> list[Tensor]:
    """Return a list that gets the vectors of words of every forward."""
    words: list[Tensor] = []
    backbone.words.register_forward_hook(lambda _, __, found: words.append(found))
    return words


def test_no_word_takes_part_in_its_own_prediction():
    backbone, head = build()
    words = words_read(backbone)
    batch = batch_of(rows(40, TEXT[:2]))
    hidden, _ = read(backbone, batch)
    tokens, half = torch.from_numpy(batch.inputs["tokens"][0, : batch.lengths[0]]), int(batch.lengths[0]) // 2
    for position, label in zip(*targets_of(batch), strict=True):
        loss = head.loss(hidden, position[None], label[None]).sum
        (gradient,) = torch.autograd.grad(loss, words, retain_graph=True)
        moved = gradient.abs().sum(1) > 0
        start = 0 if position < half else half
        assert moved.nonzero().flatten().tolist() == list(range(start, int(position) + 1))
        # Unless it ends a sentence, the word is an input later on in its direction, and somewhere in the other.
        assert label in (BEGIN, END) or ((tokens == label).sum() == 2 and not moved[tokens == label].any())


def test_lanes_read_the_streams_on_from_batch_to_batch(tmp_path):
    text = [list(range(3 + number, 6 + number + number % 7)) for number in range(60)]
    stored = rows_of(WordStreams(length=8), corpus(text), VOCABULARY)
    write_dataset(iter(stored), tmp_path, VOCABULARY, {})
    lanes, times = 4, len(stored) // 4
    reader = Reader(Reading({"t.train": tmp_path}, {"t": (LM,)}, VOCABULARY, seed=3, lanes=lanes, micro=3, stateful=frozenset({"t"})))
    found: list[list[dict[str, np.ndarray]]] = [[] for _ in range(lanes)]
    for time in range(times):
        batches = reader.batch(Moment(time, 0, "t", "t.train", lanes, time * lanes))
        read_rows = [row for batch in batches for row in rows_in(batch)]
        for lane, row in zip(found, read_rows, strict=True):
            lane.append(row)
    for number, lane in enumerate(found):
        start = number * len(stored) // lanes
        for field in ("tokens", "targets"):
            assert halves(lane, field) == halves(stored[start : start + times], field)


def rows_in(batch: MicroBatch) -> list[dict[str, np.ndarray]]:
    """Return words and targets of the rows of a micro-batch that are no fillers."""
    assert "letters" not in batch.inputs
    positions, labels = batch.targets[LM.kind]
    numbers = positions // batch.inputs["tokens"].shape[1]
    return [
        {"tokens": tokens[:length], "targets": labels[numbers == number]}
        for number, (tokens, length) in enumerate(zip(batch.inputs["tokens"], batch.lengths, strict=True))
        if length > 1
    ]

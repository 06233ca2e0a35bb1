"""Held-out figures: of each source what counting by hand gives, of all what the parts add up to, on any number of ranks."""

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch

from ptm_dist.data.batch import HeadSpec, Targets
from ptm_dist.data.loader import Reader, Reading
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.models.heads import LossSum
from ptm_dist.objectives.base import Objective
from ptm_dist.train.evaluation import HeldOut
from ptm_dist.train.memory import LaneMemory
from tests.dummies import WhichThird
from tests.unit.data.rows import write_rows, write_sources

VOCABULARY = Vocabulary(size=300, begin=0, pad=1, end=2, unknown=3, mask=299)
LANES = 6
KINDS = {"every": 0, "tests.dummies:WhichThird": 3}


class Every(Objective):
    """Ask for each token of a row but those that are 200 or more."""

    kind: Literal["every"] = "every"

    @property
    def head(self):
        return HeadSpec("causal_lm")

    def predictable(self, vocabulary):
        return np.arange(vocabulary.size) < 200

    def corrupt(self, rows, vocabulary, draws, step=None):
        places = [np.flatnonzero(row.inputs["tokens"] < 200) for row in rows]
        return [
            row.with_targets(self.kind, Targets(p, row.inputs["tokens"][p].astype(np.int64))) for row, p in zip(rows, places, strict=True)
        ]


class Remembering:
    """In place of a model: a target costs its label and all tokens that its lane has read before, in thousandths; even labels are right."""

    def evaluate(self, task, batch, weights, memory=None):
        rows, length = batch.inputs["tokens"].shape
        before = memory["read"] if memory else torch.zeros(rows, dtype=torch.float64)
        losses = {}
        for kind in weights:
            positions, labels = batch.targets.get(kind, (np.zeros(0, int), np.zeros(0, int)))
            total = (torch.from_numpy(labels).double() + before[positions // length]).sum() / 1000
            losses[kind] = LossSum(total, len(labels), torch.tensor((labels % 2 == 0).sum()))
        real = torch.arange(length) < torch.from_numpy(batch.lengths)[:, None]
        return losses, {"read": before + (torch.from_numpy(batch.inputs["tokens"]) * real).sum(1)}


class Together:
    """The contexts of some ranks that are threads."""

    def __init__(self, world):
        self.world, self._given, self._barrier = world, {}, Barrier(world)

    def of(self, rank):
        def added(values):
            self._given[rank] = values
            self._barrier.wait(20)
            return [sum(column) for column in zip(*(self._given[other] for other in range(self.world)), strict=True)]

        return SimpleNamespace(rank=rank, world=self.world, sum=added)


def measured(directory, world, micro, stateful, rows):
    """Return what each rank measures."""
    together, objectives = Together(world), (Every(), WhichThird())
    recipe = SimpleNamespace(tasks={"t": SimpleNamespace(objectives=objectives)}, evaluate=SimpleNamespace(rows=rows))
    tasks = frozenset({"t"} if stateful else ())

    def measure(rank):
        reading = Reading({"t.validation": directory}, {"t": objectives}, VOCABULARY, 3, LANES, micro, tasks, rank, world)
        context = together.of(rank)
        held_out = HeldOut(recipe, context, Remembering(), Reader(reading), LaneMemory(context, tasks, LANES, micro))
        return held_out.measure("t")

    with ThreadPoolExecutor(world) as ranks:
        return list(ranks.map(measure, range(world)))


def entropy(counts):
    total = sum(counts.values())
    return -sum(count / total * math.log(count / total) for count in counts.values())


def by_hand(rows, count, stateful):
    """Return loss, right ones and labels of each objective over `count` rows of a source, a lane after the other."""
    lanes = min(LANES, count) if stateful else count
    found = {kind: [0.0, 0, []] for kind in KINDS}
    for lane in range(lanes):
        read = 0
        for row in rows[lane * len(rows) // lanes :][: count // lanes]:
            labels = {"every": [token for token in row.tolist() if token < 200], "tests.dummies:WhichThird": [int(row.sum()) % 3]}
            for kind, own in labels.items():
                found[kind][0] += sum(label + read for label in own) / 1000
                found[kind][1] += sum(label % 2 == 0 for label in own)
                found[kind][2] += own
            read += int(row.sum()) if stateful else 0
    return found


def expected(kind, loss, right, labels, rows):
    tokens = Counter(token for row in rows for token in row.tolist() if token < 200)
    classes = Counter(labels)
    language = kind == "every"
    return {
        "loss": pytest.approx(loss / len(labels)),
        "accuracy": pytest.approx(right / len(labels)),
        "targets": len(labels),
        "unigram_entropy": pytest.approx(entropy(tokens)) if language else None,
        "baseline_loss": None if language else pytest.approx(entropy(classes)),
        "baseline_accuracy": None if language else pytest.approx(max(classes.values()) / len(labels)),
    }


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Two sources of very different rows, in the order in which they are stored."""
    draws = np.random.default_rng(0)
    low = [draws.integers(4, 30, draws.integers(5, 12)) for _ in range(90)]
    high = [draws.integers(150, 220, draws.integers(20, 30)) for _ in range(31)]
    directory = write_sources(tmp_path_factory.mktemp("both"), {"high": high, "low": low}, VOCABULARY, 8)
    return directory, {"high": [*high[::2], *high[1::2]], "low": [*low[::2], *low[1::2]]}


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize(("world", "micro"), [(1, 100), (1, 4), (2, 3), (3, 1)])
def test_figures_are_those_counted_by_hand(sources, world, micro, stateful):
    directory, rows = sources
    first, *others = measured(directory, world, micro, stateful, 60)
    assert all(other == first for other in others), "every rank knows the figures"
    counts = {"high": 16 + 28 * 15 // 89, "low": 16 + 28 - 28 * 15 // 89}
    hands = {source: by_hand(rows[source], counts[source], stateful) for source in rows}
    for kind in KINDS:
        assert first[kind]["sources"] == {source: expected(kind, *hands[source][kind], rows[source]) for source in rows}
        sums = [a + b for a, b in zip(hands["high"][kind], hands["low"][kind], strict=True)]
        whole = {name: value for name, value in first[kind].items() if name != "sources"}
        assert whole == expected(kind, *sums, [*rows["high"], *rows["low"]])
        parts = first[kind]["sources"].values()
        assert whole["loss"] == pytest.approx(sum(p["loss"] * p["targets"] for p in parts) / sum(p["targets"] for p in parts), rel=1e-12)


def test_of_one_source_there_is_one_figure(sources, tmp_path):
    rows = sources[1]["low"]
    (found,) = measured(write_rows(tmp_path, rows, VOCABULARY, 8), 1, 4, False, 60)
    hand = by_hand(rows, 60, False)
    assert found == {kind: expected(kind, *hand[kind], rows) | {"sources": {}} for kind in KINDS}


def test_of_rows_without_a_target_nothing_is_told(tmp_path):
    rows = {"asked": [np.array([5, 6, 7])] * 3, "never": [np.array([250, 251])] * 2}
    (found,) = measured(write_sources(tmp_path, rows, VOCABULARY, 8), 1, 4, False, 60)
    assert list(found["every"]["sources"]) == ["asked"]
    assert list(found["tests.dummies:WhichThird"]["sources"]) == ["asked", "never"]
    assert found["every"]["loss"] == found["every"]["sources"]["asked"]["loss"] == pytest.approx(0.006)

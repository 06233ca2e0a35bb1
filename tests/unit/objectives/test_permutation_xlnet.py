"""The rows of memory_segments through permutation_lm and XLNet: the loss, and what its gradient reaches."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from ptm_dist.data.batch import HeadSpec, Row, collate
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats.memory_segments import MemorySegments
from ptm_dist.models.xlnet import Xlnet
from ptm_dist.objectives.permutation_lm import PermutationLM
from ptm_dist.rng import Draws, RowDraws
from tests.texts import document, rows_of

VOCABULARY = Vocabulary(size=90, begin=3, pad=5, end=4, unknown=0, mask=6, document_end=7)
LENGTH, REUSE = 40, 20
SETTINGS = Xlnet(layers=2, hidden=12, heads=3, head_width=4, intermediate=20, memory_length=8, reuse_length=REUSE)


@dataclass
class Made:
    model: nn.ModuleDict
    rows: list[Row]

    def inputs(self, rows):
        batch = collate(rows, VOCABULARY.pad, len(rows))
        places, labels = (torch.from_numpy(values) for values in batch.targets["permutation_lm"])
        return {name: torch.from_numpy(values) for name, values in batch.inputs.items()}, torch.from_numpy(batch.lengths), places, labels


@pytest.fixture(scope="module")
def made():
    torch.manual_seed(0)
    backbone = SETTINGS.backbone(VOCABULARY).double()
    model = nn.ModuleDict({"backbone": backbone, "head": SETTINGS.head(HeadSpec("permutation_lm"), backbone, VOCABULARY)}).double().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(mean=1.0 if "norm.weight" in name else 0.0, std=0.2)
    draws = Draws(1, "text")
    documents = [document(str(number), [(draws.integers(6, 80) + 10).tolist() for _ in range(4)]) for number in range(8)]
    examples = [Row(example) for example in rows_of(MemorySegments(length=LENGTH, reuse=REUSE), documents, VOCABULARY)]
    rows = PermutationLM().corrupt(examples, VOCABULARY, RowDraws(1, "train", [(0, number) for number in range(len(examples))]))
    return Made(model, [row.without(PermutationLM().reads) for row in rows])


def test_rows_are_learned_from(made):
    inputs, lengths, places, labels = made.inputs(made.rows[:1] + made.rows[-1:])
    assert set(inputs) == {"tokens", "segments", "backward", "key_order", "query_order"}
    hidden, memory = made.model.backbone(inputs, lengths)
    loss = made.model.head.loss(hidden, places, labels)
    assert loss.targets == len(places) >= 10
    assert loss.sum.isfinite()
    gradients = torch.autograd.grad(loss.sum, list(made.model.parameters()))
    assert all(gradient.isfinite().all() and gradient.abs().max() > 0 for gradient in gradients)
    following, *_ = made.model.backbone(*made.inputs(made.rows[1:2] + made.rows[-1:])[:2], memory)
    alone, *_ = made.model.backbone(*made.inputs(made.rows[1:2] + made.rows[-1:])[:2])
    assert (following - alone).abs().amax((1, 2)).min() > 1e-3
    assert memory["states"].shape == (2, 2, 8, 12)


@pytest.mark.parametrize("number", [0, -1], ids=["forward", "backward"])
def test_no_target_feels_itself_or_what_comes_later(made, number):
    """Checks 52 and 55 of the reference, by gradient, with orders as they are drawn."""
    inputs, lengths, places, _ = made.inputs([made.rows[number]])
    assert bool(inputs["backward"][0, 0]) == (number == -1)
    embedded = made.model.backbone.words(inputs["tokens"]).detach().requires_grad_()
    handle = made.model.backbone.words.register_forward_hook(lambda *_: embedded)
    hidden, _ = made.model.backbone(inputs, lengths)
    handle.remove()
    key, query = inputs["key_order"][0], inputs["query_order"][0]
    halves = set()
    for place in places.tolist():
        gradient = torch.autograd.grad(hidden[0, place].square().sum(), embedded, retain_graph=True)[0].norm(dim=-1)[0]
        seen = query[place] > key
        assert (gradient[seen] > 0).all()
        assert not gradient[~seen].any()
        assert not seen[place]
        assert seen[:REUSE].all() == (place >= REUSE)
        assert place >= REUSE or not seen[REUSE:].any()
        halves.add(place >= REUSE)
    assert halves == {False, True}


@torch.no_grad()
def test_a_backward_row_is_a_forward_row_turned(made):
    """Check 58, under an order that the objective drew."""
    inputs, lengths, *_ = made.inputs([made.rows[-1]])
    nothing = {"states": torch.zeros(1, 2, 0, 12, dtype=torch.float64)}
    found, _ = made.model.backbone(inputs, lengths, nothing)
    turned = {name: values.flip(1) for name, values in inputs.items()} | {"backward": torch.zeros_like(inputs["backward"])}
    again, _ = made.model.backbone(turned, lengths, nothing)
    torch.testing.assert_close(again.flip(1), found, rtol=0, atol=1e-12)
    wrong, _ = made.model.backbone(inputs | {"backward": torch.zeros_like(inputs["backward"])}, lengths, nothing)
    assert (wrong - found).abs().max() > 1e-3


def test_orders_survive_padding(made):
    """Rows of unequal length in one batch: what is past a row's end is no target."""
    short = PermutationLM().corrupt([Row({"tokens": np.arange(10, 34)})], VOCABULARY, RowDraws(1, "train", [(0, 0)]))[0]
    backward = {"backward": np.zeros(24, dtype=np.uint8), "segments": np.zeros(24, dtype=np.uint8)}
    rows = [Row(short.inputs | backward, short.targets), made.rows[0]]
    inputs, lengths, places, labels = made.inputs(rows)
    hidden, _ = made.model.backbone(inputs, lengths)
    alone_inputs, alone_lengths, alone_places, alone_labels = made.inputs(rows[:1])
    alone, _ = made.model.backbone(alone_inputs, alone_lengths)
    first = places < LENGTH
    assert first.sum() == len(alone_places) == 4
    found, wanted = (
        made.model.head.loss(*given).sum for given in ((hidden, places[first], labels[first]), (alone, alone_places, alone_labels))
    )
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)

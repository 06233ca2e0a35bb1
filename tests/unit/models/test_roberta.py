"""What is RoBERTa's own, and what one encoder shows for all."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptm_dist.data.batch import HeadSpec
from ptm_dist.models.roberta import Roberta
from tests.unit.models.kit import build, outputs_of, randomise, rows_of, vocabulary_of

SETTINGS, SIZE = Roberta(layers=3, hidden=24, heads=4, intermediate=33, positions=9), 130


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def logits_of(model: nn.ModuleDict, inputs: dict[str, Tensor], lengths: Tensor) -> Tensor:
    """Return [valid tokens, V]."""
    return outputs_of(model, inputs, lengths)["masked_lm"]


def test_positions_count_from_the_pad_position():
    model = build(SETTINGS, SIZE)
    seen = []
    model.backbone.positions.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    model.backbone({"tokens": torch.tensor([[0, 5, 6, 2, 1, 1]])}, torch.tensor([4]))
    assert seen[0].tolist() == [[2, 3, 4, 5, 1, 1]]


def test_initial_weights():
    backbone = build(Roberta(layers=2, hidden=96, heads=4, intermediate=128), 1000).backbone
    assert not backbone.words.weight[1].any()
    assert not backbone.positions.weight[1].any()
    for name, weight in backbone.named_parameters():
        if name.endswith("bias"):
            assert not weight.any(), name
        elif "norm" in name:
            assert (weight == 1).all(), name
        else:
            assert weight.std().item() == pytest.approx(0.02, rel=0.05), name
            assert weight.abs().max() > 0.05  # normal, not cut off at two deviations


def test_longest_row():
    backbone = build(Roberta(layers=1, hidden=8, heads=2, intermediate=8), 64).backbone
    tokens = torch.full((1, 513), 7)
    assert backbone({"tokens": tokens[:, :512]}, torch.tensor([512]))[0].shape == (1, 512, 8)
    assert backbone({"tokens": tokens}, torch.tensor([512]))[0].shape == (1, 513, 8), "padding may be wider than the table"
    with pytest.raises(ValueError, match=r"513 tokens, model\.positions allows 512"):
        backbone({"tokens": tokens}, torch.tensor([513]))


def word_gradients(model: nn.ModuleDict, inputs: dict[str, Tensor], lengths: Tensor) -> Tensor:
    model.zero_grad()
    logits = logits_of(model, inputs, lengths)
    F.cross_entropy(logits, torch.arange(len(logits)) % logits.shape[1]).backward()
    gradient = model.backbone.words.weight.grad
    assert gradient is not None
    return gradient.clone()


def test_tied_table_adds_both_gradients():
    settings, size = SETTINGS, SIZE
    model = build(settings, size).double()
    randomise(model)
    batch = rows_of(settings, size)
    head, backbone = model.heads.masked_lm, model.backbone
    assert head.project.word_table is backbone.words.weight
    total = word_gradients(model, *batch)
    head.project.word_table = nn.Parameter(backbone.words.weight.detach().clone())
    from_input = word_gradients(model, *batch)
    from_output = head.project.word_table.grad
    assert from_input.any()
    assert from_output.any()
    torch.testing.assert_close(total, from_input + from_output, rtol=0, atol=1e-12)
    assert not total[size:].any(), "padded rows stay as they are"


@torch.no_grad()
def test_logits_never_show_padded_rows():
    settings, size = SETTINGS, SIZE
    model = build(settings, size)
    batch = rows_of(settings, size)
    logits = logits_of(model, *batch)
    assert model.backbone.words.weight.shape[0] == 192
    assert logits.shape == (int(batch[1].sum()), size)
    model.backbone.words.weight[size:] = 1e6
    model.heads.masked_lm.project.bias[size:] = 1e6
    assert torch.equal(logits_of(model, *batch), logits)


@torch.no_grad()
def test_classifier_reads_the_given_positions():
    settings, size = SETTINGS, SIZE
    backbone = settings.backbone(vocabulary_of(size)).eval()
    head = settings.head(HeadSpec("sequence", classes=3), backbone, vocabulary_of(size)).eval()
    inputs, lengths = rows_of(settings, size)
    hidden, _ = backbone(inputs, lengths)
    first_tokens = torch.arange(len(lengths)) * hidden.shape[1]
    torch.testing.assert_close(head(hidden, first_tokens), head.classify(hidden[:, 0]))


def test_heads_must_divide_hidden():
    with pytest.raises(ValueError, match="hidden 10 is not a multiple of heads 3"):
        Roberta(hidden=10, heads=3)


def test_layers_are_distinct():
    layers = build(SETTINGS, SIZE).backbone.encoder.layers
    assert all(not torch.equal(a.feed_forward.up.weight, b.feed_forward.up.weight) for a, b in pairwise(layers))

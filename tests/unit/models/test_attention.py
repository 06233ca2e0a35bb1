"""Packed rows and padded rows: the same outputs, losses and gradients; and what each may not see."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ptm_dist.models import attention, decoder, encoder
from ptm_dist.models.attention import Packed, Padded, packs
from tests.unit.models.kit import build, name_of, real, rows_of, variants

PACKING = [(settings, size) for settings, size in variants() if settings.kind in {"bert", "roberta", "ernie", "albert", "gpt", "gpt2"}]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def layout(monkeypatch):
    """Say which layout the families use."""

    def use(kind):
        for module in (encoder, decoder):
            monkeypatch.setattr(module, "arrange", lambda x, lengths, width, dropout: kind(lengths, x.shape[1]))

    return use


def loss_and_gradients(model, inputs, lengths, labels):
    model.zero_grad()
    hidden, _ = model.backbone(inputs, lengths)
    positions = real(lengths, hidden.shape[1]).flatten().nonzero().squeeze(1)
    total = sum(
        head.loss(hidden, positions, labels[positions] % (2 if name == "sequence" else 50)).sum for name, head in model.heads.items()
    )
    (total / len(positions)).backward()
    return hidden, total / len(positions), {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize(("settings", "size"), PACKING, ids=name_of)
def test_packed_and_padded_rows_give_equal_losses_and_gradients(settings, size, layout):
    model = build(settings, size)
    inputs, lengths = rows_of(settings, size)
    labels = torch.randint(50, (inputs["tokens"].numel(),))
    layout(Padded)
    padded = loss_and_gradients(model, inputs, lengths, labels)
    layout(Packed)
    packed = loss_and_gradients(model, inputs, lengths, labels)
    valid = real(lengths, inputs["tokens"].shape[1])
    assert (packed[0][valid] - padded[0][valid]).abs().max() < 1e-5
    assert abs(packed[1] - padded[1]) < 1e-5
    assert packed[2].keys() == padded[2].keys()
    assert max((packed[2][name] - padded[2][name]).abs().max() for name in padded[2]) < 1e-5


@pytest.mark.parametrize("causal", [False, True])
def test_packed_rows_equal_attention_row_by_row(causal):
    lengths = torch.tensor([5, 1, 9, 3])
    rows = Packed(lengths, 9)
    q, k, v = (torch.randn(1, 18, 2, 4, dtype=torch.float64) for _ in range(3))
    found = rows.attend(q, k, v, causal, 0.0)[0]
    for cut in torch.arange(18).split(lengths.tolist()):
        alone = (x[0, cut].transpose(0, 1) for x in (q, k, v))
        wanted = F.scaled_dot_product_attention(*alone, is_causal=causal).transpose(0, 1)
        assert torch.allclose(found[cut], wanted, atol=1e-12)


def test_laying_and_restoring_keeps_every_token():
    lengths = torch.tensor([2, 4, 1])
    x = torch.randn(3, 4, 6)
    for kind in (Padded, Packed):
        back = kind(lengths, 4).restore(kind(lengths, 4).lay(x))
        assert torch.equal(back[real(lengths, 4)], x[real(lengths, 4)])
    assert Packed(lengths, 4).lay(x).shape == (1, 7, 6)


def test_packed_rows_refuse_attention_dropout():
    q = torch.zeros(1, 3, 1, 4)
    with pytest.raises(ValueError, match="no attention dropout"):
        Packed(torch.tensor([3]), 3).attend(q, q, q, False, 0.1)


def test_cpu_never_packs():
    assert not packs(torch.zeros(1), 64, 0.0)


def test_the_causal_argument_is_one_that_this_torch_knows():
    import inspect

    from torch.nn.attention.varlen import varlen_attn

    for causal in (False, True):
        assert attention._causal_argument(causal).keys() <= inspect.signature(varlen_attn).parameters.keys()

"""The loss of logits, as a sum and a count."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.models.heads import cross_entropy_sum


@given(st.integers(1, 12), st.integers(2, 40), st.integers(0, 10**6))
def test_loss_is_the_sum_of_negative_log_likelihoods(targets, classes, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(targets, classes, generator=generator, dtype=torch.float64) * 5
    labels = torch.randint(classes, (targets,), generator=generator)
    loss = cross_entropy_sum(logits, labels)
    by_hand = sum(math.log(sum(math.exp(x) for x in row)) - row[label] for row, label in zip(logits.tolist(), labels.tolist(), strict=True))
    assert loss.sum.dtype == torch.float64
    assert loss.sum.item() == pytest.approx(by_hand, rel=1e-5, abs=1e-5)
    assert loss.sum.item() == pytest.approx(F.cross_entropy(logits, labels, reduction="sum").item(), rel=1e-5, abs=1e-5)
    assert loss.targets == targets
    assert loss.correct.item() == sum(row.index(max(row)) == label for row, label in zip(logits.tolist(), labels.tolist(), strict=True))


def test_no_target_costs_nothing_and_has_a_gradient():
    logits = torch.zeros(0, 10, requires_grad=True)
    loss = cross_entropy_sum(logits, torch.zeros(0, dtype=torch.int64))
    loss.sum.backward()
    assert (loss.sum.item(), loss.targets, loss.correct.item()) == (0.0, 0, 0)
    assert logits.grad is not None


def test_half_precision_logits_are_summed_in_fp32():
    logits = torch.zeros(4000, 16, dtype=torch.bfloat16)
    loss = cross_entropy_sum(logits, torch.zeros(4000, dtype=torch.int64))
    assert loss.sum.item() == pytest.approx(4000 * math.log(16), rel=1e-5)

"""Every family computes on a GPU what transformers computes there, and what the CPU computes; packed rows are padded rows."""

from __future__ import annotations

import copy

import pytest
import torch

from ptm_dist.models import decoder, encoder
from ptm_dist.models.attention import Packed, Padded, packs
from ptm_dist.models.interop import LAYOUTS
from tests.unit.models.kit import (
    build,
    name_of,
    outputs_of,
    randomise,
    real,
    reference_of,
    reference_outputs,
    rows_of,
    stored,
    variants,
    vocabulary_of,
    worst,
)
from tests.unit.models.test_attention import loss_and_gradients
from tests.unit.models.test_parity import tolerance

GPU = torch.device("cuda")
each = pytest.mark.parametrize(("settings", "size"), variants(), ids=name_of)
WIDE = {"layers": 3, "hidden": 48, "heads": 3, "positions": 40}
"""Heads of 16: the kernels for packed rows want multiples of 8."""
PACKING = {settings.kind: (type(settings)(**WIDE), 130) for settings, _ in variants() if settings.kind != "xlnet"}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def to_gpu(inputs, lengths):
    return {name: values.to(GPU) for name, values in inputs.items()}, lengths.to(GPU)


@each
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@torch.no_grad()
def test_a_family_is_that_of_transformers_and_of_the_cpu(settings, size, dtype):
    model = build(settings, size).to(dtype)
    randomise(model)
    config, tensors = LAYOUTS[settings.kind].to_hugging_face(stored(model), settings, vocabulary_of(size))
    batch = rows_of(settings, size)
    on_cpu, moved = outputs_of(model, *batch), to_gpu(*batch)
    found = outputs_of(model.to(GPU), *moved)
    assert worst(found, reference_outputs(reference_of(config, tensors).to(GPU), *moved)) < tolerance(settings, dtype)
    assert max((found[name].cpu() - on_cpu[name]).abs().max().item() for name in found) < (1e-9 if dtype is torch.float64 else 1e-4)


@pytest.mark.parametrize(("settings", "size"), PACKING.values(), ids=PACKING)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_packed_rows_are_as_near_to_fp32_as_padded_ones(settings, size, dtype, monkeypatch):
    model = build(settings, size).to(GPU)
    inputs, lengths = to_gpu(*rows_of(settings, size, rows=9))
    labels = torch.randint(50, (inputs["tokens"].numel(),), device=GPU)
    valid = real(lengths, inputs["tokens"].shape[1])
    width = settings.hidden // settings.heads

    def measure(kind, precise):
        for module in (encoder, decoder):
            monkeypatch.setattr(module, "arrange", lambda x, lengths, width, dropout: kind(lengths, x.shape[1]))
        with torch.autocast("cuda", dtype, enabled=not precise):
            assert packs(torch.zeros(1, device=GPU), width, 0.0) is not precise, "what a run would do"
            states, loss, gradients = loss_and_gradients(model, inputs, lengths, labels)
        return {"states": states[valid].detach().float(), "loss": loss.detach()[None].float()} | copy.deepcopy(gradients)

    truth, padded, packed = measure(Padded, True), measure(Padded, False), measure(Packed, False)
    assert packed.keys() == truth.keys()
    least = max(float(values.norm()) for name, values in truth.items() if name not in {"states", "loss"}) * 1e-3
    for name, values in truth.items():
        scale = max(float(values.norm()), least)
        off, usual = (float((found[name].float() - values).norm()) / scale for found in (packed, padded))
        assert off < max(2 * usual, 4 * torch.finfo(dtype).eps), (name, off, usual)

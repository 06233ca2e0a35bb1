"""What every family does, whatever it is: no leaks, no influence of padding, an initial loss of guessing, learning by heart."""

from __future__ import annotations

import math

import pytest
import torch

from ptm_dist.data.batch import HeadSpec
from ptm_dist.errors import ConfigError
from ptm_dist.models.albert import Albert
from ptm_dist.models.bert import Bert
from ptm_dist.models.ernie import Ernie
from ptm_dist.models.gpt import Gpt
from ptm_dist.models.gpt2 import Gpt2
from ptm_dist.models.roberta import Roberta
from tests.unit.models.kit import build, name_of, outputs_of, randomise, real, reference_of, rows_of, stored, variants, vocabulary_of

EACH = pytest.mark.parametrize(("settings", "size"), variants(), ids=name_of)
FAMILIES = [Bert, Roberta, Ernie, Albert, Gpt, Gpt2]
CAUSAL = [(settings, size) for settings, size in variants() if settings.kind in {"gpt", "gpt2"}]
SEEING_ALL = [(settings, size) for settings, size in variants() if settings.kind not in {"gpt", "gpt2"}]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def influence(settings, size, batch) -> torch.Tensor:
    """Return [L, R, L]: the gradient norm of each output with respect to each token's embedding."""
    inputs, lengths = batch
    model = build(settings, size)
    randomise(model)
    with torch.no_grad():
        embedded = model.backbone.words(inputs["tokens"])
    embedded.requires_grad_()
    model.backbone.words.forward = lambda _: embedded
    hidden, _ = model.backbone(inputs, lengths)
    rows = [torch.autograd.grad(hidden[:, place].sum(), embedded, retain_graph=True)[0].norm(dim=-1) for place in range(hidden.shape[1])]
    return torch.stack(rows)


@pytest.mark.parametrize(("settings", "size"), CAUSAL, ids=name_of)
def test_causal_models_see_no_future(settings, size):
    batch = rows_of(settings, size)
    found = influence(settings, size, batch)
    length = found.shape[0]
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    assert torch.equal(found.transpose(0, 1)[:, future], torch.zeros(len(found[0]), int(future.sum())))
    assert (found[:, 0].T[~future.T.bool()] > 0).all()


@pytest.mark.parametrize(("settings", "size"), SEEING_ALL, ids=name_of)
def test_encoders_see_all_real_tokens_and_no_padding(settings, size):
    batch = rows_of(settings, size)
    found = influence(settings, size, batch)
    valid = real(batch[1], found.shape[0])
    for row in range(found.shape[1]):
        seen = found[valid[row], row]
        assert torch.equal(seen[:, ~valid[row]], torch.zeros_like(seen[:, ~valid[row]]))
        assert (seen[:, valid[row]] > 0).all()


@EACH
@torch.no_grad()
def test_padding_changes_no_output(settings, size):
    model = build(settings, size).double()
    randomise(model)
    inputs, lengths = rows_of(settings, size)
    wanted = outputs_of(model, inputs, lengths)
    wider = {name: torch.cat([values, torch.randint(1, 2, (len(values), 8))], 1) for name, values in inputs.items()}
    changed = outputs_of(model, wider, lengths)
    assert all((changed[name] - values).abs().max() < 1e-12 for name, values in wanted.items())
    valid = real(lengths, inputs["tokens"].shape[1])
    other = {name: torch.where(valid, values, torch.ones_like(values)) for name, values in inputs.items()}
    other["tokens"] = torch.where(valid, inputs["tokens"], 9)
    changed = outputs_of(model, other, lengths)
    assert all((changed[name] - values).abs().max() < 1e-12 for name, values in wanted.items())


PUBLISHED = [(Bert(layers=2), 30522), (Roberta(layers=2), 50265), (Ernie(layers=2), 18000), (Albert(layers=2), 30000)]
PUBLISHED += [(Gpt(layers=2), 40478), (Gpt2(layers=2), 50257)]


@pytest.mark.parametrize(("settings", "size"), PUBLISHED, ids=name_of)
@torch.no_grad()
def test_initial_loss_is_that_of_guessing(settings, size):
    model = build(settings, size)
    tokens = torch.randint(4, size, (2, 64))
    hidden, _ = model.backbone({"tokens": tokens}, torch.full((2,), 64))
    name = next(name for name in model.heads if name.endswith("lm"))
    # A causal model sees the token that it is asked for, an encoder too, where nothing is masked: ask for others.
    loss = model.heads[name].loss(hidden, torch.arange(128), torch.randint(4, size, (128,)))
    assert -0.1 < loss.sum.item() / 128 - math.log(size) < 0.4


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_can_be_learned_by_heart(family):
    wide = {"intermediate": 64} if "intermediate" in family.model_fields else {}
    settings = family(layers=2, hidden=32, heads=2, positions=16, dropout=0.0, attention_dropout=0.0, **wide)
    model = build(settings, 71)
    inputs, lengths = rows_of(settings, 71)
    labels = inputs["tokens"].roll(-1, 1).flatten()
    positions = real(lengths - 1, 16).flatten().nonzero().squeeze(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    name = next(name for name in model.heads if name.endswith("lm"))
    for _ in range(300):
        optimizer.zero_grad()
        hidden, _ = model.backbone(inputs, lengths)
        loss = model.heads[name].loss(hidden, positions, labels[positions])
        (loss.sum / loss.targets).backward()
        optimizer.step()
    assert loss.sum / loss.targets < 0.05
    assert loss.correct > 0.98 * loss.targets


@EACH
def test_dropout_is_active_in_training_only(settings, size):
    model = build(settings, size)
    batch = rows_of(settings, size)
    once, again = model.backbone(*batch)[0], model.backbone(*batch)[0]
    assert torch.equal(once, again)
    model.train()
    assert not torch.equal(model.backbone(*batch)[0], model.backbone(*batch)[0])


@pytest.mark.parametrize(("settings", "size"), [found for found in variants() if "positions" in type(found[0]).model_fields], ids=name_of)
def test_rows_longer_than_the_table_are_refused(settings, size):
    model = build(settings, size)
    with pytest.raises(ValueError, match=f"model.positions allows {settings.positions}"):
        model.backbone({"tokens": torch.zeros(1, settings.positions + 1, dtype=torch.int64)}, torch.tensor([settings.positions + 1]))


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_that_a_family_cannot_have_are_refused(family):
    other = "masked_lm" if family in {Gpt, Gpt2} else "causal_lm"
    settings = family(layers=1, hidden=12, heads=3)
    backbone = settings.backbone(vocabulary_of(71))
    for kind in (other, "permutation_lm", "bidirectional_lm"):
        with pytest.raises(ConfigError, match=f"cannot train {kind}; it has"):
            settings.head(HeadSpec(kind), backbone, vocabulary_of(71))


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_is_near_fp32(family):
    settings = family(layers=2, hidden=32, heads=2, positions=16)
    model = build(settings, 71)
    batch = rows_of(settings, 71)
    wanted = outputs_of(model, *batch)
    found = outputs_of(model.bfloat16(), *batch)
    assert all((found[name].float() - values).abs().max() < 0.1 for name, values in wanted.items())


def deviation(weights, part):
    return torch.cat([weight.flatten() for name, weight in weights.items() if name.endswith(part)]).std().item()


def test_truncated_weights_of_bert():
    weights = stored(build(Bert(layers=2), 30522))
    table = weights["backbone.words.weight"]
    assert table.std().item() == pytest.approx(0.0176, rel=0.01)
    assert table.abs().max().item() <= 0.04
    assert not any(weight.any() for name, weight in weights.items() if name.endswith(".bias"))
    assert all((weight == 1).all() for name, weight in weights.items() if name.endswith("norm.weight"))


def test_residual_maps_of_gpt2_start_small():
    weights = stored(build(Gpt2(layers=12, hidden=192), 1000))
    assert deviation(weights, "attention.output.weight") == pytest.approx(0.02 / math.sqrt(24), rel=0.02)
    assert deviation(weights, "feed_forward.down.weight") == pytest.approx(0.02 / math.sqrt(24), rel=0.02)
    assert deviation(weights, "positions.weight") == pytest.approx(0.01, rel=0.02)
    assert deviation(weights, "words.weight") == pytest.approx(0.02, rel=0.02)


def test_blocks_of_gpt_end_in_a_norm():
    """After the last block every position has mean 0 and variance 1, as LayerNorms start with one and zero."""
    settings = Gpt(layers=2, hidden=48, heads=3, positions=20)
    hidden, _ = build(settings, 71).backbone(*rows_of(settings, 71))
    assert hidden.mean(-1).abs().max() < 1e-5
    assert (hidden.var(-1, unbiased=False) - 1).abs().max() < 1e-3


def test_the_task_embedding_counts_only_where_there_is_one():
    with_tasks = Ernie(layers=1, hidden=12, heads=3, positions=9, task_types=4)
    inputs, lengths = rows_of(with_tasks, 71)
    for settings, changes in ((with_tasks, True), (with_tasks.model_copy(update={"task_types": 0}), False)):
        model = build(settings, 71)
        other = inputs | {"task_types": (inputs["task_types"] + 1) % 4}
        same = torch.equal(model.backbone(inputs, lengths)[0], model.backbone(other, lengths)[0])
        assert same is not changes


@pytest.mark.parametrize("sharing", ["attention", "ffn", "none"])
@torch.no_grad()
def test_albert_exports_any_sharing(sharing):
    """transformers has groups only, so what is shared otherwise is written out; what comes back computes the same."""
    from ptm_dist.models.interop import LAYOUTS
    from tests.unit.models.kit import load, reference_outputs, worst

    settings, size = Albert(layers=3, hidden=24, heads=4, intermediate=20, positions=9, embedding=6, sharing=sharing), 71
    model = build(settings, size)
    randomise(model)
    config, tensors = LAYOUTS["albert"].to_hugging_face(stored(model), settings, vocabulary_of(size))
    batch = rows_of(settings, size)
    wanted = outputs_of(model, *batch)
    assert worst(wanted, reference_outputs(reference_of(config, tensors), *batch)) < 1e-5
    read, weights = LAYOUTS["albert"].from_hugging_face(config, tensors)
    back = build(read, size)
    load(back, weights)
    assert all(torch.equal(outputs_of(back, *batch)[name], values) for name, values in wanted.items())


def test_albert_layers_use_the_parts_of_their_group():
    used = Albert(layers=6, groups=3, inner_groups=2, hidden=12, heads=3).encoder().used
    assert used == [(b, b) for group in range(3) for _ in range(2) for b in (2 * group, 2 * group + 1)]
    assert Albert(layers=3, sharing="attention", hidden=12, heads=3).encoder().used == [(0, 0), (0, 1), (0, 2)]
    assert Albert(layers=3, sharing="ffn", hidden=12, heads=3).encoder().used == [(0, 0), (1, 0), (2, 0)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": 5, "groups": 2}, "5 cannot be cut into 2"),
        ({"sharing": "ffn", "groups": 2}, "knows no groups"),
        ({"heads": 7}, "multiple of heads"),
    ],
)
def test_albert_refuses_what_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        Albert(**settings)


@pytest.mark.parametrize("settings", [settings for settings, _ in CAUSAL], ids=name_of)
@torch.no_grad()
def test_cached_decoding_equals_the_full_pass(settings):
    """Rows of different lengths, continued piece by piece."""
    model = build(settings, 71).double()
    randomise(model)
    tokens = torch.randint(4, 71, (3, 8))
    first = torch.tensor([4, 2, 3])
    hidden, memory = model.backbone({"tokens": tokens[:, :4]}, first, {})
    texts = [tokens[row, :n].tolist() for row, n in enumerate(first)]
    for step in range(3):
        lengths = torch.tensor([1, 2, 1])
        piece = torch.randint(4, 71, (3, 2), generator=torch.Generator().manual_seed(step))
        if settings.positions < max(len(text) for text in texts) + 2:
            break
        hidden, memory = model.backbone({"tokens": piece}, lengths, memory)
        texts = [text + piece[row, : lengths[row]].tolist() for row, text in enumerate(texts)]
        for row, text in enumerate(texts):
            wanted, _ = model.backbone({"tokens": torch.tensor([text])}, torch.tensor([len(text)]))
            assert (hidden[row, lengths[row] - 1] - wanted[0, -1]).abs().max() < 1e-12

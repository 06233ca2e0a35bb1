"""RoBERTa against transformers, and what can be known of it without."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaForMaskedLM

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.models.interop.roberta import from_hugging_face, to_hugging_face
from ptm_dist.models.roberta import Roberta

MASKED_LM = HeadSpec("masked_lm")
SHAPES = [
    (Roberta(layers=1, hidden=12, heads=3, intermediate=20, positions=17), 71),
    (Roberta(layers=3, hidden=24, heads=4, intermediate=33, positions=9), 130),
    (Roberta(layers=2, hidden=40, heads=1, intermediate=7, positions=31, norm_eps=1e-3), 64),
    (Roberta(layers=4, hidden=30, heads=10, intermediate=90, positions=64), 515),
]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def vocabulary_of(size: int) -> Vocabulary:
    return Vocabulary(size, begin=0, pad=1, end=2, unknown=3, mask=size - 1)


def build(settings: Roberta, size: int) -> nn.ModuleDict:
    vocabulary = vocabulary_of(size)
    backbone = settings.backbone(vocabulary)
    heads = nn.ModuleDict({"masked_lm": settings.head(MASKED_LM, backbone, vocabulary)})
    return nn.ModuleDict({"backbone": backbone, "heads": heads}).eval()


@torch.no_grad()
def randomise(model: nn.Module, std: float = 0.3) -> None:
    """Every number counts: biases are not zero, LayerNorms not the identity, padded rows not empty."""
    for name, weight in model.named_parameters():
        weight.normal_(mean=1.0 if "norm.weight" in name or "layer_norm.weight" in name else 0.0, std=std)


def stored(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach()[: getattr(weight, "stored_rows", None)] for name, weight in model.named_parameters()}


@torch.no_grad()
def load(model: nn.Module, weights: dict[str, Tensor]) -> None:
    assert weights.keys() == dict(model.named_parameters()).keys()
    for name, weight in weights.items():
        model.get_parameter(name)[: weight.shape[0]].copy_(weight)


def rows_of(settings: Roberta, size: int, rows: int = 5) -> tuple[Tensor, Tensor]:
    """Random rows, the first as long as the table allows, the others padded."""
    lengths = torch.randint(1, settings.positions + 1, (rows,))
    lengths[0] = settings.positions
    tokens = torch.randint(4, size, (rows, settings.positions))
    return tokens.masked_fill(torch.arange(settings.positions) >= lengths[:, None], 1), lengths


def logits_of(model: nn.ModuleDict, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Return [valid tokens, V]."""
    positions = (torch.arange(tokens.shape[1]) < lengths[:, None]).flatten().nonzero().squeeze(1)
    return model.heads.masked_lm(model.backbone({"tokens": tokens}, lengths), positions)


def reference_logits(model: RobertaForMaskedLM, tokens: Tensor, lengths: Tensor) -> Tensor:
    valid = torch.arange(tokens.shape[1]) < lengths[:, None]
    return model(input_ids=tokens, attention_mask=valid.long()).logits[valid]


@pytest.mark.parametrize(("settings", "size"), SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
class TestAgainstTransformers:
    @torch.no_grad()
    def test_export(self, settings, size, dtype, tolerance):
        model = build(settings, size).to(dtype)
        randomise(model)
        config, tensors = to_hugging_face(stored(model), settings, vocabulary_of(size))
        reference = RobertaForMaskedLM(RobertaConfig(**config)).to(dtype).eval()
        missing, extra = reference.load_state_dict(tensors, strict=False)
        assert set(missing) == {"lm_head.decoder.weight", "lm_head.decoder.bias"}  # tied
        assert not extra
        batch = rows_of(settings, size)
        error = (logits_of(model, *batch) - reference_logits(reference, *batch)).abs().max().item()
        assert error < tolerance

    @torch.no_grad()
    def test_import(self, settings, size, dtype, tolerance):
        config, _ = to_hugging_face(stored(build(settings, size)), settings, vocabulary_of(size))
        reference = RobertaForMaskedLM(RobertaConfig(**config)).to(dtype).eval()
        randomise(reference)
        read, weights = from_hugging_face(reference.config.to_dict(), reference.state_dict())
        assert read == settings
        model = build(read, size).to(dtype)
        load(model, weights)
        batch = rows_of(settings, size)
        error = (logits_of(model, *batch) - reference_logits(reference, *batch)).abs().max().item()
        assert error < tolerance


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        (Roberta(), 124_696_665),
        (Roberta(layers=24, hidden=1024, heads=16, intermediate=4096), 355_411_033),
    ],
)
def test_parameter_counts(settings, count):
    with torch.device("meta"):
        model = build(settings, 50265)
    assert sum(weight.numel() for weight in stored(model).values()) == count
    assert model.backbone.positions.weight.shape == (514, settings.hidden)


def test_positions_count_from_the_pad_position():
    model = build(*SHAPES[0])
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
    assert backbone({"tokens": tokens[:, :512]}, torch.tensor([512])).shape == (1, 512, 8)
    assert backbone({"tokens": tokens}, torch.tensor([512])).shape == (1, 513, 8), "padding may be wider than the table"
    with pytest.raises(ValueError, match=r"513 tokens, model\.positions allows 512"):
        backbone({"tokens": tokens}, torch.tensor([513]))


@torch.no_grad()
def test_initial_loss_is_that_of_guessing():
    settings, size = Roberta(layers=2, hidden=128, heads=4, intermediate=256, positions=32), 50265
    tokens, lengths = rows_of(settings, size, rows=16)
    logits = logits_of(build(settings, size), tokens, lengths)
    assert F.cross_entropy(logits, torch.randint(size, (len(logits),))).item() == pytest.approx(math.log(size), abs=0.15)


def word_gradients(model: nn.ModuleDict, tokens: Tensor, lengths: Tensor) -> Tensor:
    model.zero_grad()
    logits = logits_of(model, tokens, lengths)
    F.cross_entropy(logits, torch.arange(len(logits)) % logits.shape[1]).backward()
    gradient = model.backbone.words.weight.grad
    assert gradient is not None
    return gradient.clone()


def test_tied_table_adds_both_gradients():
    settings, size = SHAPES[1]
    model = build(settings, size).double()
    randomise(model)
    batch = rows_of(settings, size)
    head, backbone = model.heads.masked_lm, model.backbone
    assert head.word_table is backbone.words.weight
    total = word_gradients(model, *batch)
    head.word_table = nn.Parameter(backbone.words.weight.detach().clone())
    from_input = word_gradients(model, *batch)
    from_output = head.word_table.grad
    assert from_input.any()
    assert from_output.any()
    torch.testing.assert_close(total, from_input + from_output, rtol=0, atol=1e-12)
    assert not total[size:].any(), "padded rows stay as they are"


@torch.no_grad()
def test_padding_changes_no_valid_output():
    settings, size = SHAPES[3]
    model = build(settings, size).double()
    randomise(model)
    tokens, lengths = rows_of(settings, size)
    together = model.backbone({"tokens": tokens}, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = model.backbone({"tokens": tokens[row : row + 1, :length]}, lengths[row : row + 1])
        torch.testing.assert_close(together[row, :length], alone[0], rtol=0, atol=1e-12)
    other = torch.where(tokens == 1, 9, tokens)
    torch.testing.assert_close(logits_of(model, other, lengths), logits_of(model, tokens, lengths), rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("rates", [{"dropout": 0.5, "attention_dropout": 0.0}, {"dropout": 0.0, "attention_dropout": 0.5}])
def test_dropout_is_active_in_training_only(rates):
    settings, size = SHAPES[1]
    model = build(settings.model_copy(update=rates), size)
    randomise(model)
    batch = rows_of(settings, size)
    assert torch.equal(logits_of(model, *batch), logits_of(model, *batch))
    model.train()
    assert not torch.allclose(logits_of(model, *batch), logits_of(model, *batch))


@torch.no_grad()
def test_logits_never_show_padded_rows():
    settings, size = SHAPES[0]
    model = build(settings, size)
    batch = rows_of(settings, size)
    logits = logits_of(model, *batch)
    assert model.backbone.words.weight.shape[0] == 128
    assert logits.shape == (int(batch[1].sum()), size)
    model.backbone.words.weight[size:] = 1e6
    model.heads.masked_lm.bias[size:] = 1e6
    assert torch.equal(logits_of(model, *batch), logits)


@torch.no_grad()
def test_classifier_reads_the_given_positions():
    settings, size = SHAPES[0]
    backbone = settings.backbone(vocabulary_of(size)).eval()
    head = settings.head(HeadSpec("sequence", classes=3), backbone, vocabulary_of(size)).eval()
    tokens, lengths = rows_of(settings, size)
    hidden = backbone({"tokens": tokens}, lengths)
    first_tokens = torch.arange(len(tokens)) * tokens.shape[1]
    torch.testing.assert_close(head(hidden, first_tokens), head.classify(hidden[:, 0]))


def test_heads_must_divide_hidden():
    with pytest.raises(ValueError, match="hidden 10 is not a multiple of heads 3"):
        Roberta(hidden=10, heads=3)


def test_layers_are_distinct():
    layers = build(*SHAPES[3]).backbone.encoder.layers
    assert all(not torch.equal(a.up.weight, b.up.weight) for a, b in pairwise(layers))

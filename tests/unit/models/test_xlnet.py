"""XLNet against transformers, against brute force, and against what can be known of it without."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import XLNetConfig, XLNetLMHeadModel, XLNetModel

from ptm_dist.data.batch import HeadSpec
from ptm_dist.errors import ConfigError
from ptm_dist.models.interop.xlnet import XlnetLayout
from ptm_dist.models.xlnet import Xlnet, find_targets, look, next_token_inputs, shift, sinusoids
from tests.unit.models.kit import build, load, name_of, randomise, real, stored, vocabulary_of

LM = {"permutation_lm": HeadSpec("permutation_lm")}
LAYOUT = XlnetLayout()
SMALL = Xlnet(layers=2, hidden=12, heads=3, head_width=5, intermediate=20)
VARIANTS = [
    (Xlnet(layers=1, hidden=12, heads=3, head_width=4, intermediate=20), 71),
    (Xlnet(layers=3, hidden=24, heads=4, head_width=6, intermediate=33, clamp_length=3, activation="gelu"), 130),
    (Xlnet(layers=2, hidden=40, heads=1, head_width=40, intermediate=7, attention="uni", activation="relu", norm_eps=1e-3), 64),
    (Xlnet(layers=4, hidden=30, heads=5, head_width=6, intermediate=90, attention="uni", clamp_length=5, attention_dropout=0.2), 515),
]
each = pytest.mark.parametrize(("settings", "size"), VARIANTS, ids=name_of)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def double(settings: Xlnet, size: int) -> nn.ModuleDict:
    """Return a model in fp64 in which every number counts."""
    model = build(settings, size, LM).double()
    randomise(model)
    return model


def run(model: nn.ModuleDict, inputs: dict[str, Tensor], memory: dict[str, Tensor] | None = None) -> Tensor:
    """Return the states of full rows."""
    rows, length = inputs["tokens"].shape
    return model.backbone(inputs, torch.full((rows,), length), memory)[0]


def no_memory(settings: Xlnet, rows: int) -> dict[str, Tensor]:
    return {"states": torch.zeros(rows, settings.layers, 0, settings.hidden, dtype=torch.float64)}


def orders(kinds: str, raised: int = 0) -> dict[str, list[int]]:
    """Return the orders of a part as the reference draws them: `.` is plain, `t` a target, `s` a special token."""
    ranks = torch.randperm(len(kinds)).tolist()
    keys = [-1 if kind == "." else rank for kind, rank in zip(kinds, ranks, strict=True)]
    queries = [key if kind == "t" else key + 1 for kind, key in zip(kinds, keys, strict=True)]
    return {"key_order": [key + raised for key in keys], "query_order": [query + raised for query in queries]}


def two_parts(kinds: str, first: int) -> dict[str, Tensor]:
    """Return the orders, [1, L], of a part of `first` tokens and one that sees it."""
    one, two = orders(kinds[:first]), orders(kinds[first:], raised=first + 1)
    return {name: torch.tensor([one[name] + two[name]]) for name in one}


def log_probabilities(model: nn.ModuleDict, inputs: dict[str, Tensor], truth: Tensor | None = None) -> Tensor:
    """Return the log-probability of the true token at every position of full rows, [R, L]."""
    rows, length = inputs["tokens"].shape
    logits = model.heads.permutation_lm(run(model, inputs), torch.arange(rows * length)).unflatten(0, (rows, length))
    return logits.log_softmax(-1).gather(2, (inputs["tokens"] if truth is None else truth)[..., None])[..., 0]


# Against transformers


def exact_positions(distances: Tensor, frequencies: Tensor, bsz: int | None = None) -> Tensor:
    """The sinusoids of transformers, in fp64 all the way."""
    width = 2 * len(frequencies)
    angles = distances.double()[:, None] / 10000.0 ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
    return torch.cat([angles.sin(), angles.cos()], -1)[:, None].expand(-1, bsz or 1, -1)


def random_inputs(settings: Xlnet, size: int, parts: set[str]) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
    """Return inputs, lengths and memory of four rows. Orders are any numbers, but all queries see the first key."""
    rows, length = 4, 9
    inputs = {"tokens": torch.randint(size, (rows, length))}
    if "orders" in parts:
        inputs["key_order"] = torch.randint(-2, 5, (rows, length))
        inputs["query_order"] = torch.randint(-2, 6, (rows, length))
        inputs["key_order"][:, 0] = -9
    if "segments" in parts:
        inputs["segments"] = torch.randint(3, (rows, length))
    if "backward" in parts:
        inputs["backward"] = torch.tensor([0, 0, 1, 1])[:, None].expand(rows, length)
    lengths = torch.tensor([9, 2, 7, 5]) if "padding" in parts else torch.full((rows,), length)
    past = 5 if "memory" in parts else 0
    memory = {"states": torch.randn(rows, settings.layers, past, settings.hidden)}
    return inputs, lengths, memory


def reference_states(
    reference: XLNetLMHeadModel, inputs: dict[str, Tensor], lengths: Tensor, memory: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return states, logits at targets (in order), and the memory afterwards, all of transformers."""
    rows, length = inputs["tokens"].shape
    dtype = reference.dtype
    causal = (
        torch.ones(length, length, dtype=torch.bool).triu(1) if reference.config.attn_type == "uni" else torch.zeros(length, length).bool()
    )
    hidden = causal.expand(rows, -1, -1) | ~real(lengths, length)[:, None, :]
    named = {"input_ids": inputs["tokens"], "token_type_ids": inputs.get("segments")}
    targets = torch.zeros(rows, length, dtype=torch.bool)
    if "key_order" in inputs:
        hidden = hidden | (inputs["query_order"][:, :, None] <= inputs["key_order"][:, None, :])
        targets = (inputs["query_order"] == inputs["key_order"]) & real(lengths, length)
        named["target_mapping"] = torch.eye(length, dtype=dtype).expand(rows, -1, -1)
    if (hidden & ~causal).any():
        # Its causal mask cannot be added to another; distances to earlier keys are the same without.
        reference.transformer.attn_type = "bi"
        named["perm_mask"] = hidden.to(dtype)
    reference.transformer.bi_data = "backward" in inputs
    mems = list(memory.transpose(0, 2).to(dtype).transpose(0, 1)) if memory.shape[2] else None
    found = reference(**named, mems=mems, use_mems=True, output_hidden_states=True)
    if "key_order" in inputs:
        states = torch.where(targets[..., None], found.hidden_states[-1], found.hidden_states[-2])
    else:
        states = found.hidden_states[-1]
    return states, found.logits[targets], torch.stack(list(found.mems)).permute(2, 0, 1, 3)


CASES = [set(), {"segments", "memory"}, {"orders"}, {"orders", "memory", "segments", "backward"}, {"orders", "segments", "padding"}]


@each
@pytest.mark.parametrize(
    "parts", [*CASES, {"orders", "memory", "padding", "backward", "segments"}], ids=lambda parts: "+".join(sorted(parts)) or "plain"
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=["fp64", "fp32"])
@torch.no_grad()
def test_transformers_computes_the_same(settings, size, parts, dtype, tolerance, monkeypatch):
    if dtype is torch.float64:
        monkeypatch.setattr(XLNetModel, "positional_embedding", staticmethod(exact_positions))
    settings = settings.model_copy(update={"memory_length": 6, "reuse_length": 4})
    model = build(settings, size, LM).to(dtype)
    randomise(model)
    config, tensors = LAYOUT.to_hugging_face(stored(model), settings, vocabulary_of(size))
    reference = XLNetLMHeadModel(XLNetConfig(**config)).to(dtype).eval()
    assert reference.load_state_dict(tensors, strict=False) == (["lm_loss.weight"], [])  # tied
    inputs, lengths, memory = random_inputs(settings, size, parts)
    memory = {"states": memory["states"].to(dtype)}
    found, remembered = model.backbone(inputs, lengths, memory)
    states, logits, mems = reference_states(reference, inputs, lengths, memory["states"])
    valid, length = real(lengths, 9), 9
    assert (found - states)[valid].abs().max() < tolerance
    places = [row * length + place for row, place in find_targets(inputs, lengths)[0].nonzero().tolist()]
    ours = model.heads.permutation_lm(found, torch.tensor(places, dtype=torch.int64))
    assert len(ours) == len(logits)
    assert not len(ours) or (ours - logits).abs().max() < tolerance
    if "padding" not in parts:
        assert remembered["states"].shape == mems.shape
        assert (remembered["states"] - mems).abs().max() < tolerance


@each
@torch.no_grad()
def test_a_transformers_model_comes_in(settings, size):
    config, _ = LAYOUT.to_hugging_face(stored(build(settings, size, LM)), settings, vocabulary_of(size))
    reference = XLNetLMHeadModel(XLNetConfig(**json.loads(json.dumps(config)))).eval()
    randomise(reference)
    read, weights = LAYOUT.from_hugging_face(reference.config.to_dict(), reference.state_dict())
    assert read == settings
    model = build(read, size, LM)
    load(model, weights)
    tokens = torch.randint(size, (3, 7))
    prepared = reference.prepare_inputs_for_generation(tokens, use_mems=False)
    found = model.heads.permutation_lm(run(model, next_token_inputs(tokens)), torch.tensor([7, 15, 23]))
    # Its context sees each other under uni as well, and its causal mask breaks with any other.
    if settings.attention == "bi":
        assert (found - reference(**prepared).logits[:, 0]).abs().max() < 1e-4
    again = LAYOUT.to_hugging_face(weights, read, vocabulary_of(size))
    assert again[0] == config
    assert all(torch.equal(again[1][name], tensor) for name, tensor in reference.state_dict().items() if name != "lm_loss.weight")


def test_what_transformers_cannot_have_is_refused():
    weights = stored(build(SMALL, 71, LM))
    with pytest.raises(ConfigError, match="heads 3 x head_width 5 is not hidden 12"):
        LAYOUT.to_hugging_face(weights, SMALL, vocabulary_of(71))


@pytest.mark.parametrize(
    ("settings", "body", "whole"),
    [
        (Xlnet(), 116_718_336, 116_750_336),
        (Xlnet(layers=24, hidden=1024, heads=16, intermediate=4096), 360_268_800, 360_300_800),
    ],
    ids=["base", "large"],
)
def test_parameter_counts(settings, body, whole):
    with torch.device("meta"):
        weights = stored(build(settings, 32000, LM))
    assert sum(weight.numel() for name, weight in weights.items() if name.startswith("backbone.")) == body
    assert sum(weight.numel() for weight in weights.values()) == whole


# Positions


@pytest.mark.parametrize(("length", "past"), [(5, 0), (1, 0), (4, 3), (3, 8)])
def test_shift_finds_every_distance(length, past):
    keys, asked = past + length, torch.tensor([[0, length - 1], [length // 2, 0]])
    distances = torch.arange(keys, -length, -1).expand(2, 3, length + 2, -1)
    columns = look({"tokens": torch.zeros(2, length, dtype=torch.int64)}, torch.tensor([length] * 2), asked, past, causal=False).columns
    found = shift(distances, columns)
    for row in range(2):
        places = [*range(length), *asked[row].tolist()]
        for query, key in itertools.product(range(length + 2), range(keys)):
            assert (found[row, :, query, key] == past + places[query] - key).all()


def test_sinusoids_are_sines_then_cosines():
    found = sinusoids(torch.tensor([-3.0, 700.0], dtype=torch.float64), 6)
    for row, distance in enumerate((-3, 700)):
        wanted = [wave(distance / 10000 ** (2 * k / 6)) for wave in (math.sin, math.cos) for k in range(3)]
        assert found[row].tolist() == pytest.approx(wanted, abs=1e-12)


@torch.no_grad()
def test_only_distances_matter():
    """Tokens that nobody sees, before a row, shift it and change nothing."""
    model, tokens = double(SMALL, 71), torch.randint(71, (2, 11))
    unseen = torch.tensor([5] * 4 + [0] * 7).expand(2, -1)
    found = run(model, {"tokens": tokens, "key_order": unseen, "query_order": unseen + 1 - 5 * (unseen > 0).long() + 1})
    torch.testing.assert_close(found[:, 4:], run(model, {"tokens": tokens[:, 4:]}), rtol=0, atol=1e-12)


@pytest.mark.parametrize("clamp_length", [-1, 3])
@torch.no_grad()
def test_backward_rows_read_the_other_way(clamp_length):
    model, tokens = double(SMALL.model_copy(update={"clamp_length": clamp_length}), 71), torch.randint(71, (3, 9))
    backward = torch.tensor([1, 0, 1])[:, None].expand(-1, 9)
    plain = run(model, {"tokens": tokens})
    turned = run(model, {"tokens": torch.where(backward == 1, tokens.flip(1), tokens), "backward": backward})
    torch.testing.assert_close(torch.where(backward[..., None] == 1, turned.flip(1), turned), plain, rtol=0, atol=1e-12)
    assert (run(model, {"tokens": tokens, "backward": backward})[0] - plain[0]).abs().max() > 1e-3


# Orders


def reference_mask(kinds: str, ranks: list[int]) -> list[list[bool]]:
    """Which key is hidden from which query in one part, as systems-elmo-gpt-bert-xlnet.md, 6.4, has it."""
    keys = [-1 if kind == "." else rank for kind, rank in zip(kinds, ranks, strict=True)]
    queries = [key if kind == "t" else key + 1 for kind, key in zip(kinds, keys, strict=True)]
    return [[query <= key and kind != "." for key, kind in zip(keys, kinds, strict=True)] for query in queries]


def test_orders_make_the_mask_of_the_reference():
    kinds = "".join(".ts"[number] for number in torch.multinomial(torch.tensor([0.7, 0.2, 0.1]), 80, replacement=True))
    made = two_parts(kinds, 40)
    inputs = made | {"tokens": torch.zeros(1, 80, dtype=torch.int64)}
    target, places = find_targets(inputs, torch.tensor([80]))
    assert target[0].tolist() == [kind == "t" for kind in kinds]
    hidden = look(inputs, torch.tensor([80]), places, 7, causal=False).hidden[0]
    assert not hidden[:, :7].any(), "memory is seen by all"
    wanted = torch.ones(80, 80, dtype=torch.bool)
    wanted[40:, :40] = False
    for half in (slice(0, 40), slice(40, 80)):
        ranks = (made["key_order"][0, half] - 41 * (half.start > 0)).tolist()
        wanted[half, half] = torch.tensor(reference_mask(kinds[half], ranks))
    assert torch.equal(hidden[80:, 7:], wanted[target[0]])
    assert torch.equal(hidden[:80, 7:], wanted & ~torch.eye(80, dtype=torch.bool))


def test_how_much_targets_see():
    """A target sees all plain tokens, on average half of the other targets, and half of the special tokens."""
    kinds, counts = "t" * 42 + "s" * 4 + "." * 210, []
    for _ in range(50):
        inputs = {name: torch.tensor([values]) for name, values in orders(kinds).items()} | {
            "tokens": torch.zeros(1, 256, dtype=torch.int64)
        }
        seen = ~look(inputs, torch.tensor([256]), torch.arange(42)[None], 0, causal=False).hidden[0, 256:]
        assert seen[:, :42].sum() == math.comb(42, 2)
        counts.append(seen.sum().item() / 42)
    assert sum(counts) / len(counts) == pytest.approx(210 + 41 / 2 + 4 / 2, abs=0.5)


@pytest.mark.parametrize("kinds", [".tttt", "tt.tst.", "t.tt", "ttt", "stts"])
@pytest.mark.parametrize("attention", ["bi", "uni"])
@torch.no_grad()
def test_probabilities_of_all_sequences_sum_to_one(kinds, attention):
    size, settings = 3, Xlnet(layers=2, hidden=10, heads=2, head_width=3, intermediate=9, attention=attention)
    model = double(settings, size)
    places = [place for place, kind in enumerate(kinds) if kind == "t"]
    for _ in range(3):
        sequences = torch.tensor(list(itertools.product(range(size), repeat=len(places))))
        tokens = torch.randint(size, (1, len(kinds))).repeat(len(sequences), 1)
        tokens[:, places] = sequences
        made = {name: torch.tensor(values).expand(len(tokens), -1) for name, values in orders(kinds).items()}
        logs = log_probabilities(model, made | {"tokens": tokens})[:, places].sum(1)
        assert logs.exp().sum().item() == pytest.approx(1, abs=1e-9)
        assert logs.std() > 0.1


@torch.no_grad()
def test_the_loss_is_autoregressive():
    """Each target is asked for alone, with any tokens in place of those that come later in the order."""
    kinds, size = ".t.tst.tt.st.t", 71
    model, tokens = double(SMALL, size), torch.randint(size, (1, len(kinds)))
    inputs = two_parts(kinds, 8) | {"tokens": tokens}
    places = torch.tensor([place for place, kind in enumerate(kinds) if kind == "t"])
    loss = model.heads.permutation_lm.loss(run(model, inputs), places, tokens[0, places])
    total = 0.0
    for place in places.tolist():
        later = inputs["key_order"][0] >= inputs["query_order"][0, place]
        alone = inputs["key_order"] + 1
        alone[0, place] -= 1
        replaced = torch.where(later, torch.randint(size, (len(kinds),)), tokens[0])[None]
        total -= log_probabilities(model, inputs | {"tokens": replaced, "query_order": alone}, truth=tokens)[0, place].item()
    assert loss.targets == len(places)
    assert loss.sum.item() == pytest.approx(total, abs=1e-9)


def test_no_target_feels_what_it_may_not_see():
    kinds = ".t.tst.tt.st.t"
    model, length = double(SMALL, 71), len(kinds)
    inputs = two_parts(kinds, 8) | {"tokens": torch.randint(71, (1, length))}
    embedded = model.backbone.words(inputs["tokens"]).detach().requires_grad_()
    model.backbone.words.forward = lambda _: embedded
    hidden = run(model, inputs)
    for place in range(length):
        gradient = torch.autograd.grad(hidden[0, place].square().sum(), embedded, retain_graph=True)[0].norm(dim=-1)[0]
        seen = inputs["query_order"][0, place] > inputs["key_order"][0]
        if kinds[place] != "t":
            seen[place] = True
        assert (gradient[seen] > 0).all()
        assert (gradient[~seen] == 0).all()
        assert place >= 8 or not gradient[8:].any()


def test_a_target_that_sees_nothing():
    model, tokens = double(SMALL, 71), torch.randint(71, (2, 6))
    order = torch.tensor([[3, 1, 2, 0, 5, 4], [0, 1, 2, 3, 4, 5]])
    inputs = {"tokens": tokens, "key_order": order, "query_order": order}
    found = run(model, inputs)
    found.sum().backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())
    other = run(model, inputs | {"tokens": (tokens + 1) % 71})
    assert torch.equal(found[[0, 1], [3, 0]], other[[0, 1], [3, 0]])
    assert not torch.isclose(found[[0, 1], [1, 1]], other[[0, 1], [1, 1]]).any()


@torch.no_grad()
def test_the_content_stream_needs_no_targets():
    """Taking all targets for special tokens leaves the mask of the content stream as it was, so also its states."""
    settings = SMALL.model_copy(update={"memory_length": 4})
    model = double(settings, 71)
    inputs = two_parts(".t.tst.tt.st.t", 8) | {"tokens": torch.randint(71, (1, 14))}
    untargeted = inputs | {"query_order": inputs["key_order"] + 1}
    lengths, plain = torch.tensor([14]), inputs["key_order"] != inputs["query_order"]
    both, memory = model.backbone(inputs, lengths)
    alone, memory_alone = model.backbone(untargeted, lengths)
    torch.testing.assert_close(both[plain], alone[plain], rtol=0, atol=1e-12)
    torch.testing.assert_close(memory["states"], memory_alone["states"], rtol=0, atol=1e-12)
    assert not torch.isclose(both[~plain], alone[~plain]).any()


# Segments, memory, padding


@torch.no_grad()
def test_segments_are_only_compared():
    model = double(SMALL, 71)
    inputs = {"tokens": torch.randint(71, (2, 9)), "segments": torch.tensor([0] * 4 + [1] * 3 + [2] * 2).expand(2, -1)}
    found = run(model, inputs)
    torch.testing.assert_close(run(model, inputs | {"segments": 7 - inputs["segments"]}), found, rtol=0, atol=1e-12)
    merged = run(model, inputs | {"segments": inputs["segments"].clamp(max=1)})
    assert (merged - found).abs().amax((1, 2)).min() > 1e-3
    one = run(model, inputs | {"segments": torch.full((2, 9), 4)})
    torch.testing.assert_close(one, run(model, {"tokens": inputs["tokens"]}), rtol=0, atol=1e-12)


@torch.no_grad()
def test_pieces_with_memory_are_one_text():
    settings = SMALL.model_copy(update={"memory_length": 20, "attention": "uni"})
    model, tokens = double(settings, 71), torch.randint(71, (3, 13))
    wanted = run(model, {"tokens": tokens}, no_memory(settings, 3))
    memory, found = no_memory(settings, 3), []
    for piece in tokens.split([6, 1, 4, 2], 1):
        states, memory = model.backbone({"tokens": piece}, torch.full((3,), piece.shape[1]), memory)
        found.append(states)
    torch.testing.assert_close(torch.cat(found, 1), wanted, rtol=0, atol=1e-12)
    assert memory["states"].shape == (3, 2, 13, 12)


def test_memory_is_the_last_of_old_memory_and_first_layer_inputs():
    settings = SMALL.model_copy(update={"memory_length": 6, "reuse_length": 4})
    model, tokens = double(settings, 71), torch.randint(71, (3, 16))
    entered: list[Tensor] = []
    for layer in model.backbone.layers:
        layer.register_forward_hook(lambda _, given, __: entered.append(given[0][:, :8]))
    lengths = torch.tensor([8, 3, 1])
    _, first = model.backbone({"tokens": tokens[:, :8]}, torch.tensor([8, 8, 8]))
    hidden, second = model.backbone({"tokens": tokens[:, 8:]}, lengths, first)
    once, twice = torch.stack(entered[:2], 1), torch.stack(entered[2:], 1)
    assert not first["states"][:, :, :2].any()
    assert torch.equal(first["states"][:, :, 2:], once[:, :, :4])
    for row, new in enumerate((4, 3, 1)):
        assert torch.equal(second["states"][row, :, : 6 - new], first["states"][row, :, new:])
        assert torch.equal(second["states"][row, :, 6 - new :], twice[row, :, :new])
    assert hidden.requires_grad
    assert not second["states"].requires_grad


@torch.no_grad()
def test_no_memory_is_a_memory_of_zeros():
    settings = SMALL.model_copy(update={"memory_length": 5})
    model, inputs = double(settings, 71), {"tokens": torch.randint(71, (2, 7))}
    zeros = {"states": torch.zeros(2, 2, 5, 12, dtype=torch.float64)}
    found = run(model, inputs)
    assert torch.equal(found, run(model, inputs, zeros))
    assert torch.equal(found, run(model, inputs, {}))
    assert (found - run(model, inputs, no_memory(settings, 2))).abs().max() > 1e-3
    assert model.backbone({"tokens": inputs["tokens"]}, torch.tensor([7, 7]), no_memory(settings, 2))[1]["states"].shape == (2, 2, 5, 12)
    assert build(SMALL, 71, LM).backbone(inputs, torch.tensor([7, 7]))[1] == {}


@torch.no_grad()
def test_padding_changes_nothing():
    settings = SMALL.model_copy(update={"memory_length": 5})
    model, lengths = double(settings, 71), torch.tensor([9, 1, 6, 4])
    kinds = ".t.tst.tt"
    inputs = {name: torch.stack([torch.tensor(orders(kinds)[name]) for _ in range(4)]) for name in ("key_order", "query_order")}
    inputs |= {
        "tokens": torch.randint(71, (4, 9)),
        "segments": torch.randint(2, (4, 9)),
        "backward": torch.tensor([[0], [1], [1], [0]]).expand(-1, 9),
    }
    valid = real(lengths, 9)
    padded = {name: torch.where(valid, values, 0) for name, values in inputs.items()}  # equal orders, as those of targets
    memory = {"states": torch.randn(4, 2, 5, 12, dtype=torch.float64)}
    found, remembered = model.backbone(padded, lengths, memory)
    for row, length in enumerate(lengths.tolist()):
        alone = {name: values[row : row + 1, :length] for name, values in padded.items()}
        wanted, kept = model.backbone(alone, lengths[row : row + 1], {"states": memory["states"][row : row + 1]})
        torch.testing.assert_close(found[row, :length], wanted[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(remembered["states"][row], kept["states"][0], rtol=0, atol=1e-12)
    assert found.isfinite().all()


# Weights, heads, learning


def test_initial_weights():
    weights = stored(build(Xlnet(layers=2, hidden=192, heads=12, head_width=16, intermediate=256), 1000, LM))
    for name, weight in weights.items():
        if name == "backbone.mask_vector":
            limit = math.sqrt(6 / 193)
            assert 0.9 * limit < weight.abs().max() <= limit
            assert weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.1)
        elif name.endswith(("up.bias", "down.bias", "norm.bias", "project.bias")):
            assert not weight.any(), name
        elif "norm" in name:
            assert (weight == 1).all(), name
        else:
            assert weight.std().item() == pytest.approx(0.02, rel=0.15), name


def test_decay_spares_norms_and_biases_of_maps_only():
    from ptm_dist.optimizers.adam import AdamW
    from ptm_dist.optimizers.base import parameter_groups

    model = build(SMALL, 71, LM)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    spared = [
        names[id(parameter)]
        for group in parameter_groups(model, AdamW(learning_rate=1.0))
        if group["plain"]
        for parameter in group["params"]
    ]
    assert {name.partition("layers.")[2][2:] or name for name in spared} == {
        *("attention.norm.weight", "attention.norm.bias", "norm.weight", "norm.bias", "up.bias", "down.bias"),
        "heads.permutation_lm.project.bias",
    }


@torch.no_grad()
def test_heads():
    backbone, states = SMALL.backbone(vocabulary_of(71)), torch.randn(2, 9, 12)
    sequence = SMALL.head(HeadSpec("sequence", classes=3), backbone, vocabulary_of(71)).eval()
    dense = sequence.pooler[0].dense
    last = torch.tensor([8, 12])
    wanted = sequence.classify(torch.tanh(dense(torch.stack([states[0, 8], states[1, 3]]))))
    torch.testing.assert_close(sequence(states, last), wanted)
    tokens = SMALL.head(HeadSpec("tokens", classes=4), backbone, vocabulary_of(71)).eval()
    torch.testing.assert_close(tokens(states, last)[1], tokens.classify(states[1, 3]))
    with pytest.raises(ConfigError, match="cannot train masked_lm; it has permutation_lm, sequence, tokens"):
        SMALL.head(HeadSpec("masked_lm"), backbone, vocabulary_of(71))
    with pytest.raises(ValueError, match="hidden 11 is odd"):
        Xlnet(hidden=11)


def task(size: int, rows: int = 4) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Return inputs of rows of 20, places of the targets in the flattened rows, and their labels."""
    drawn = [orders("...tt..t..s.tt....ts") for _ in range(rows)]
    inputs = {name: torch.tensor([row[name] for row in drawn]) for name in ("key_order", "query_order")}
    inputs["tokens"] = torch.randint(size, (rows, 20))
    places = (inputs["key_order"] == inputs["query_order"]).flatten().nonzero()[:, 0]
    return inputs, places, inputs["tokens"].flatten()[places]


@torch.no_grad()
def test_initial_loss_is_that_of_guessing():
    size = 32000
    model = build(Xlnet(layers=2, hidden=128, heads=4, head_width=32, intermediate=256), size, LM)
    inputs, places, labels = task(size, rows=16)
    loss = model.heads.permutation_lm.loss(run(model, inputs), places, labels)
    assert -0.1 < loss.sum.item() / loss.targets - math.log(size) < 0.4


@pytest.mark.parametrize("precision", ["module", "autocast"])
def test_half_precision_is_near(precision):
    model = build(SMALL.model_copy(update={"memory_length": 3}), 71, LM)
    inputs, places, labels = task(71)
    wanted = model.heads.permutation_lm(run(model, inputs), places)
    model = model.bfloat16() if precision == "module" else model
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
        loss = model.heads.permutation_lm.loss(run(model, inputs), places, labels)
        found = model.heads.permutation_lm(run(model, inputs), places)
    loss.sum.backward()
    assert (found.float() - wanted).abs().max() < 0.1
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())


@torch.no_grad()
def test_dropout_falls_where_the_reference_has_it():
    """Once on embeddings, distances (apart for each row) and the result; in a layer on attention's output, inside and after the maps."""
    model, dropped = build(SMALL.model_copy(update={"dropout": 0.5}), 71, LM).train(), []
    for part in model.backbone.modules():
        if isinstance(part, nn.Dropout):
            part.register_forward_hook(lambda _, __, result: dropped.append((tuple(result.shape), (result == 0).float().mean().item())))
    inputs, places, _ = task(71)
    run(model, inputs)
    states = (4, 20 + len(places) // 4, 12)
    layer = [states, (*states[:2], 20), states]
    assert [shape for shape, _ in dropped] == [(4, 40, 12), states, *layer, *layer, (4, 20, 12)]
    assert all(0.4 < share < 0.6 for _, share in dropped)


@torch.no_grad()
@pytest.mark.parametrize("rates", [{"dropout": 0.5, "attention_dropout": 0.0}, {"dropout": 0.0, "attention_dropout": 0.5}])
def test_dropout_is_active_in_training_only(rates):
    model = build(SMALL.model_copy(update=rates), 71, LM)
    inputs, _, _ = task(71)
    assert torch.equal(run(model, inputs), run(model, inputs))
    model.train()
    assert not torch.allclose(run(model, inputs), run(model, inputs))


@pytest.mark.parametrize("attention", ["bi", "uni"])
def test_learns_a_batch_by_heart(attention):
    settings = Xlnet(layers=2, hidden=32, heads=2, head_width=16, intermediate=64, attention=attention, dropout=0.0, attention_dropout=0.0)
    model = build(settings, 71, LM).train()
    inputs, places, labels = task(71)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(150):
            loss = model.heads.permutation_lm.loss(run(model, inputs), places, labels)
            optimizer.zero_grad()
            loss.sum.div(loss.targets).backward()
            optimizer.step()
    finally:
        torch.use_deterministic_algorithms(False)
    assert F.relu(loss.sum / loss.targets - 0.05) == 0
    assert loss.correct == loss.targets

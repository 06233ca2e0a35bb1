"""ELMo against a slow network written from the paper's formulas, step by step, number by number, on weights as bilm-tf stores them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.characters import character_ids
from ptm_dist.errors import ConfigError
from ptm_dist.models.elmo import Elmo, ElmoBackbone, Highway, LstmLayer
from ptm_dist.models.scalar_mix import ScalarMix
from tests.unit.models.kit import randomise, real, vocabulary_of

LM = HeadSpec("bidirectional_lm")
SMALL = {"cell": 7, "projection": 6, "character_width": 3, "filters": ((1, 2), (2, 3), (4, 5)), "word_length": 9, "softmax": "full"}
VARIANTS = [
    Elmo(**SMALL),
    Elmo(**SMALL, layers=1, highways=1, activation="tanh"),
    Elmo(**SMALL, layers=3, highways=0, cell_clip=0.3, projection_clip=0.2),
    Elmo(**SMALL | {"filters": ((9, 4),), "cell": 2}),
]
EACH = pytest.mark.parametrize("settings", VARIANTS, ids=["two layers", "tanh", "three layers, clipped", "one filter"])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def build(settings: Elmo = VARIANTS[0]) -> ElmoBackbone:
    """Return a backbone in fp64 in which every number counts."""
    backbone = settings.backbone(vocabulary_of(50)).double().eval()
    randomise(backbone, 0.6)
    return backbone


def words_of(rows: int, length: int, word_length: int = 9) -> Tensor:
    """Return the characters of random words, [R, L, C]."""
    letters = np.random.default_rng(0).integers(97, 123, (rows * length, word_length))
    words = ["".join(map(chr, row[: 1 + number % word_length])) for number, row in enumerate(letters)]
    words[0], words[-1] = "<S>", "é"
    return torch.from_numpy(character_ids(words, word_length)).view(rows, length, word_length)


def states_of(backbone: ElmoBackbone, characters: Tensor, lengths: Tensor, memory: dict[str, Tensor] | None = None) -> Tensor:
    return backbone({"characters": characters}, lengths, memory)[0]


def full(characters: Tensor) -> Tensor:
    """Return the lengths of rows without padding."""
    return torch.full((len(characters),), characters.shape[1])


# The slow network


def bilm_weights(backbone: ElmoBackbone) -> dict[str, np.ndarray]:
    """Return the weights under the names and in the shapes of bilm-tf."""
    p = {name: weight.detach().numpy() for name, weight in backbone.named_parameters()}
    found = {"char_embed": p["words.characters.weight"][1:]}
    for i in range(len(backbone.words.convolutions)):
        found[f"CNN/W_cnn_{i}"] = p[f"words.convolutions.{i}.weight"].transpose(2, 1, 0)[None]
        found[f"CNN/b_cnn_{i}"] = p[f"words.convolutions.{i}.bias"]
    for i in range(len(backbone.words.highways)):
        for part in ("carry", "transform"):
            found[f"CNN_high_{i}/W_{part}"] = p[f"words.highways.{i}.{part}.weight"].T
            found[f"CNN_high_{i}/b_{part}"] = p[f"words.highways.{i}.{part}.bias"]
    found |= {"CNN_proj/W_proj": p["words.project.weight"].T, "CNN_proj/b_proj": p["words.project.bias"]}
    for layer in range(len(backbone.layers)):
        for d in range(2):
            cell = f"RNN_{d}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            found[f"{cell}/W_0"], found[f"{cell}/W_P_0"] = p[f"layers.{layer}.kernel"][d], p[f"layers.{layer}.projection"][d]
            found[f"{cell}/B"] = np.split(p[f"layers.{layer}.bias"], 2)[d]
    return found


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def slow_word(weights: dict[str, np.ndarray], settings: Elmo, characters: np.ndarray) -> np.ndarray:
    letters = weights["char_embed"][characters - 1]
    activation = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh}[settings.activation]
    features = []
    for i, (width, count) in enumerate(settings.filters):
        kernel, bias = weights[f"CNN/W_cnn_{i}"][0], weights[f"CNN/b_cnn_{i}"]
        windows = [letters[start : start + width] for start in range(settings.word_length - width + 1)]
        features += [activation(max((window * kernel[:, :, n]).sum() + bias[n] for window in windows)) for n in range(count)]
    x = np.array(features)
    for i in range(settings.highways):
        gate = sigmoid(x @ weights[f"CNN_high_{i}/W_carry"] + weights[f"CNN_high_{i}/b_carry"])
        x = gate * np.maximum(x @ weights[f"CNN_high_{i}/W_transform"] + weights[f"CNN_high_{i}/b_transform"], 0) + (1 - gate) * x
    return x @ weights["CNN_proj/W_proj"] + weights["CNN_proj/b_proj"]


def slow_step(x, cell, state, weights, clips):
    """Return cell and state, one number after the other."""
    kernel, bias, projection = weights
    size, width = projection.shape
    before = [*x, *state]
    z = [sum(v * kernel[k][column] for k, v in enumerate(before)) + bias[column] for column in range(4 * size)]
    cells, shown = [], []
    for s in range(size):
        i, j, f, o = (z[gate * size + s] for gate in range(4))
        c = sigmoid(f + 1.0) * cell[s] + sigmoid(i) * math.tanh(j)
        cells.append(min(max(c, -clips[0]), clips[0]))
        shown.append(sigmoid(o) * math.tanh(cells[-1]))
    states = [sum(shown[s] * projection[s][p] for s in range(size)) for p in range(width)]
    return np.array(cells), np.array([min(max(m, -clips[1]), clips[1]) for m in states])


def slow_direction(weights, settings, words, d, memory=None, dropped=None):
    """Return the states of all layers, of the words that direction `d` reads in this order, and its memory; `dropped` masks its inputs."""
    layers, after = [list(words)], []
    for layer in range(settings.layers):
        cell = f"RNN_{d}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
        c, m = memory[layer] if memory else (np.zeros(settings.cell), np.zeros(settings.projection))
        outputs = []
        for t, word in enumerate(layers[-1]):
            x = word * dropped[layer][t] if dropped is not None else word
            own = [weights[f"{cell}/{name}"] for name in ("W_0", "B", "W_P_0")]
            c, m = slow_step(x, c, m, own, (settings.cell_clip, settings.projection_clip))
            outputs.append(m + x if layer else m)
        layers.append(outputs)
        after.append((c, m))
    return layers, after


def memory_of_row(memory, row, d):
    return [(cells[d].numpy(), states[d].numpy()) for cells, states in zip(memory["cells"][row], memory["states"][row], strict=True)]


def slow_training_row(weights, settings, characters, memory):
    """Return top states of a row and what both directions remember."""
    half = len(characters) // 2
    found, after = np.zeros((len(characters), settings.projection)), []
    for d, part in enumerate((characters[:half], characters[half : 2 * half])):
        words = [slow_word(weights, settings, word) for word in part]
        layers, left = slow_direction(weights, settings, words, d, memory and memory[d])
        if half:
            found[d * half : (d + 1) * half] = layers[-1]
        after.append(left)
    return found, after


def slow_representation(weights, settings, characters, memory):
    words = [slow_word(weights, settings, word) for word in characters]
    ahead, left = slow_direction(weights, settings, words, 0, memory and memory[0])
    back, right = slow_direction(weights, settings, words[::-1], 1, memory and memory[1])
    return np.array([[np.concatenate(pair) for pair in zip(a, b[::-1], strict=True)] for a, b in zip(ahead, back, strict=True)]), [
        left,
        right,
    ]


def close(found: Tensor, wanted: np.ndarray) -> None:
    torch.testing.assert_close(found, torch.from_numpy(np.asarray(wanted)), rtol=0, atol=1e-9)


def check_memory(settings, memory, row, after):
    for d in range(2):
        for layer in range(settings.layers):
            close(memory["cells"][row, layer, d], after[d][layer][0])
            close(memory["states"][row, layer, d], after[d][layer][1])


@EACH
@torch.no_grad()
def test_training_rows_are_those_of_the_slow_network(settings):
    backbone = build(settings)
    weights, characters, memory = bilm_weights(backbone), words_of(5, 10), None
    for lengths in ([10, 10, 10, 10, 10], [10, 4, 7, 1, 2]):
        found, after = backbone({"characters": characters}, torch.tensor(lengths), memory)
        for row, length in enumerate(lengths):
            before = memory and [memory_of_row(memory, row, d) for d in range(2)]
            wanted, left = slow_training_row(weights, settings, characters[row, :length].numpy(), before)
            close(found[row, :length], wanted)
            check_memory(settings, after, row, left)
        memory = after


@EACH
@torch.no_grad()
def test_representations_are_those_of_the_slow_network(settings):
    backbone = build(settings)
    weights, characters, memory = bilm_weights(backbone), words_of(3, 6), None
    for lengths in ([6, 3, 1], [2, 6, 5]):
        found, after = backbone.representations(characters, torch.tensor(lengths), memory)
        assert found.shape == (3, settings.layers + 1, 6, 12)
        for row, length in enumerate(lengths):
            before = memory and [memory_of_row(memory, row, d) for d in range(2)]
            wanted, left = slow_representation(weights, settings, characters[row, :length].numpy(), before)
            close(found[row, :, :length], wanted)
            assert not found[row, :, length:].any()
            check_memory(settings, after, row, left)
        assert torch.equal(found[:, 0, :, :6], found[:, 0, :, 6:])
        memory = after


class Masks(nn.Module):
    """Dropout whose masks are known."""

    def __init__(self):
        super().__init__()
        self.drawn = []

    def forward(self, x):
        self.drawn.append(torch.bernoulli(torch.full_like(x, 0.5)) * 2)
        return x * self.drawn[-1]


@torch.no_grad()
def test_dropout_is_at_the_input_of_each_layer_and_before_the_softmax():
    settings = VARIANTS[2]
    backbone, characters = build(settings), words_of(1, 8)
    backbone.dropout = Masks()
    found = states_of(backbone, characters, full(characters))[0]
    weights, drawn = bilm_weights(backbone), backbone.dropout.drawn
    assert len(drawn) == settings.layers + 1
    for d in range(2):
        words = [slow_word(weights, settings, word) for word in characters[0, 4 * d : 4 * d + 4].numpy()]
        layers, _ = slow_direction(weights, settings, words, d, dropped=[mask[d, :, 0].numpy() for mask in drawn[:-1]])
        close(found[4 * d : 4 * d + 4], np.array(layers[-1]) * drawn[-1][d, :, 0].numpy())


def test_dropout_follows_the_training_flag():
    backbone, characters = VARIANTS[0].backbone(vocabulary_of(50)), words_of(2, 8)
    for read in (
        lambda: states_of(backbone, characters, full(characters)),
        lambda: backbone.representations(characters, full(characters))[0],
    ):
        backbone.eval()
        assert torch.equal(quiet := read(), read())
        backbone.train()
        assert not torch.equal(noisy := read(), read())
    assert torch.equal(noisy[:, 0], quiet[:, 0]), "words themselves are read as they are"


# The cell


def test_the_cell_without_clips_is_that_of_torch():
    cell, width, steps, rows = 11, 5, 9, 4
    layer = LstmLayer(Elmo(**SMALL | {"cell": cell, "projection": width, "cell_clip": 1e9, "projection_clip": 1e9})).double()
    randomise(layer, 0.7)
    x, cells, states = (torch.randn(2, *shape, dtype=torch.float64) for shape in ((steps, rows, width), (rows, cell), (rows, width)))
    y, last_cells, last_states = layer(x, torch.full((rows,), steps), (cells.transpose(0, 1), states.transpose(0, 1)))
    for d in range(2):
        other = nn.LSTM(width, cell, proj_size=width).double()
        i, j, f, o = (part.T for part in layer.kernel[d].chunk(4, 1))
        kernel = torch.cat([i, f, j, o])
        bias = [part.clone() for part in layer.bias.chunk(2)[d].chunk(4)]
        bias[2] += 1.0
        with torch.no_grad():
            other.weight_ih_l0.copy_(kernel[:, :width])
            other.weight_hh_l0.copy_(kernel[:, width:])
            other.bias_ih_l0.copy_(torch.cat([bias[0], bias[2], bias[1], bias[3]]))
            other.bias_hh_l0.zero_()
            other.weight_hr_l0.copy_(layer.projection[d].T)
        wanted, (state, memory) = other(x[d], (states[None, d], cells[None, d]))
        torch.testing.assert_close(y[d], wanted, rtol=0, atol=1e-12)
        torch.testing.assert_close(last_cells[:, d], memory[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(last_states[:, d], state[0], rtol=0, atol=1e-12)


@torch.no_grad()
def test_clips_hold_but_not_for_the_residual_sum():
    backbone = build(Elmo(**SMALL))
    for layer in backbone.layers:
        layer.kernel.mul_(20)
        layer.projection.mul_(20)
    characters = words_of(4, 40)
    outputs = []
    for layer in backbone.layers:
        layer.register_forward_hook(lambda _, __, found: outputs.append(found[0]))
    found, memory = backbone({"characters": characters}, full(characters))
    assert memory["cells"].abs().max() == 3.0
    assert memory["states"].abs().max() == 3.0
    assert all(output.abs().max() == 3.0 for output in outputs)
    assert 3.0 < found.abs().max() <= 6.0


def test_nothing_flows_back_through_a_clipped_number():
    layer = LstmLayer(Elmo(**SMALL)).double()
    randomise(layer, 0.5)
    x = torch.randn(2, 1, 3, 6, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        layer.projection.mul_(1e12)
    layer(x, torch.ones(3, dtype=torch.int64), None)[0].sum().backward()
    assert not x.grad.any()


# The word


@torch.no_grad()
def test_highway_gates_the_transform():
    highway = Highway(5).double()
    randomise(highway)
    x = torch.randn(3, 5, dtype=torch.float64)
    gate = torch.sigmoid(x @ highway.carry.weight.T + highway.carry.bias)
    torch.testing.assert_close(highway(x), gate * F.relu(highway.transform(x)) + (1 - gate) * x)
    highway.carry.bias.fill_(-1e3)
    assert torch.equal(highway(x), x)
    highway.carry.bias.fill_(1e3)
    torch.testing.assert_close(highway(x), F.relu(highway.transform(x)))


@torch.no_grad()
def test_padding_inside_a_word_is_read():
    backbone = build()
    characters = words_of(1, 4)[0]
    before = backbone.words(characters)
    backbone.words.characters.weight[261] += 5.0
    assert ((backbone.words(characters) - before).abs().amax(1) > 0).tolist() == [(word == 261).any().item() for word in characters]


def test_no_word_is_a_row_of_zeros_that_nothing_trains():
    backbone = VARIANTS[0].backbone(vocabulary_of(50))
    table = backbone.words.characters.weight
    assert not table[0].any()
    characters = words_of(2, 6)
    characters[0, 0, 5:] = 0
    states_of(backbone, characters, full(characters)).square().sum().backward()
    assert not table.grad[0].any()
    assert table.grad[261].any()


# What sees what


def test_directions_see_what_they_have_read_and_nothing_else():
    settings = VARIANTS[2]
    backbone, rows, length = build(settings), 2, 8
    words = torch.randn(rows * length, settings.projection, dtype=torch.float64, requires_grad=True)
    backbone.words.forward = lambda _: words
    characters = words_of(rows, length)
    states = states_of(backbone, characters, full(characters)).flatten(0, 1)
    seen = torch.stack([torch.autograd.grad(state.sum(), words, retain_graph=True)[0].norm(dim=1) for state in states])
    half = torch.ones(length // 2, length // 2, dtype=torch.float64).tril()
    assert torch.equal((seen > 0).double(), torch.block_diag(*[half] * 4))
    read = backbone.representations(characters, full(characters))[0]
    for layer in range(1, settings.layers + 1):
        for direction, wanted in ((slice(6), torch.tril), (slice(6, 12), torch.triu)):
            states = read[:, layer, :, direction].flatten(0, 1)
            seen = torch.stack([torch.autograd.grad(state.sum(), words, retain_graph=True)[0].norm(dim=1) for state in states])
            assert torch.equal((seen > 0).double(), torch.block_diag(*[wanted(torch.ones(length, length, dtype=torch.float64))] * 2))


def test_a_label_has_no_gradient_to_its_own_word():
    """The label at a position is the next word that the direction reads: its loss knows the words up to here, and not that one."""
    backbone = build()
    words = torch.randn(12, 6, dtype=torch.float64, requires_grad=True)
    backbone.words.forward = lambda _: words
    head = VARIANTS[0].head(LM, backbone, vocabulary_of(50)).double()
    hidden = states_of(backbone, words_of(1, 12), torch.tensor([12]))
    for start in (0, 6):
        for t in range(6):
            loss = head.loss(hidden, torch.tensor([start + t]), torch.tensor([7]))
            (gradient,) = torch.autograd.grad(loss.sum, words, retain_graph=True)
            assert gradient[start : start + t + 1].norm(dim=1).all()
            assert not gradient[:start].any()
            assert not gradient[start + t + 1 :].any()


@torch.no_grad()
def test_weights_of_one_direction_are_nothing_to_the_other():
    for d, own in ((0, slice(4)), (1, slice(4, 8))):
        backbone, characters = build(), words_of(2, 8)
        before = states_of(backbone, characters, full(characters))
        for layer in backbone.layers:
            for weight in (layer.kernel[d], layer.bias.chunk(2)[d], layer.projection[d]):
                weight.add_(0.1)
        after = states_of(backbone, characters, full(characters))
        other = slice(4, 8) if d == 0 else slice(4)
        assert torch.equal(after[:, other], before[:, other])
        assert (after[:, own] != before[:, own]).all()
        backbone.words.convolutions[0].bias.add_(0.1)
        assert (states_of(backbone, characters, full(characters)) != after).any(-1).all()


# Memory


@torch.no_grad()
def test_two_batches_of_twenty_are_one_of_forty():
    backbone, characters = build(), words_of(3, 80)
    whole, last = backbone({"characters": characters}, full(characters))
    ahead, back = characters.chunk(2, 1)
    memory, parts = None, []
    for a, b in zip(ahead.split(20, 1), back.split(20, 1), strict=True):
        states, memory = backbone({"characters": torch.cat([a, b], 1)}, torch.full((3,), 40), memory)
        parts.append(states)
    pieced = torch.cat([part[:, half] for half in (slice(20), slice(20, 40)) for part in parts], 1)
    torch.testing.assert_close(pieced, whole, rtol=0, atol=1e-12)
    for name, values in last.items():
        torch.testing.assert_close(memory[name], values, rtol=0, atol=1e-12)
        assert memory[name].shape == (3, 2, 2, {"cells": 7, "states": 6}[name])


def test_gradients_stop_at_memory():
    backbone, characters = build(), words_of(2, 8)
    words = torch.randn(16, 6, dtype=torch.float64, requires_grad=True)
    of_words, backbone.words.forward = backbone.words.forward, lambda _: words
    _, memory = backbone({"characters": characters}, full(characters))
    assert not any(values.requires_grad for values in memory.values())
    backbone.words.forward = of_words
    states = states_of(backbone, characters, full(characters), memory)
    assert torch.autograd.grad(states.sum(), words, allow_unused=True) == (None,)


@torch.no_grad()
def test_memory_of_short_rows_is_that_of_the_rows_alone():
    backbone, characters = build(), words_of(4, 12)
    lengths = torch.tensor([12, 6, 1, 9])
    _, start = backbone({"characters": characters}, full(characters))
    _, together = backbone({"characters": characters}, lengths, start)
    for row, length in enumerate(lengths.tolist()):
        before = {name: values[row : row + 1] for name, values in start.items()}
        _, alone = backbone({"characters": characters[row : row + 1, :length]}, lengths[row : row + 1], before)
        for name, values in alone.items():
            torch.testing.assert_close(together[name][row], values[0], rtol=0, atol=1e-12)
    for name, values in start.items():
        assert torch.equal(together[name][2], values[2]), "a row of half a word reads nothing"


@torch.no_grad()
def test_no_memory_is_zeros():
    backbone, characters = build(), words_of(2, 6)
    zeros = {"cells": torch.zeros(2, 2, 2, 7).double(), "states": torch.zeros(2, 2, 2, 6).double()}
    wanted = states_of(backbone, characters, full(characters))
    assert torch.equal(states_of(backbone, characters, full(characters), zeros), wanted)
    assert torch.equal(states_of(backbone, characters, full(characters), {}), wanted)


# What every family does


@EACH
@torch.no_grad()
def test_padding_changes_no_output(settings):
    backbone, characters = build(settings), words_of(4, 10)
    lengths = torch.tensor([10, 3, 6, 1])
    valid = real(lengths, 10)
    garbage = torch.where(valid[..., None], characters, torch.randint(262, characters.shape))
    wider = torch.cat([characters, torch.randint(262, (4, 7, 9))], 1)
    for read in (lambda x: states_of(backbone, x, lengths)[:, None], lambda x: backbone.representations(x, lengths)[0]):
        wanted = read(characters)
        torch.testing.assert_close(read(garbage), wanted, rtol=0, atol=1e-12)
        torch.testing.assert_close(read(wider)[:, :, :10], wanted, rtol=0, atol=1e-12)
        assert not read(wider)[:, :, 10:].any()


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ({}, 93_600_864),
        ({"cell": 2048, "projection": 256, "highways": 1}, 28_027_744),
        ({"cell": 1024, "projection": 128, "highways": 1}, 13_593_312),
    ],
    ids=["original", "medium", "small"],
)
def test_published_counts(shape, wanted):
    settings = Elmo(**shape)
    with torch.device("meta"):
        backbone = settings.backbone(vocabulary_of(793_471))
        head = settings.head(LM, backbone, vocabulary_of(793_471))
    count = sum(weight.numel() for weight in backbone.parameters())
    assert count == wanted
    trained = count - backbone.words.characters.weight[0].numel()
    assert trained == wanted - 16
    softmax = sum(weight[: weight.stored_rows].numel() for weight in head.parameters())
    assert softmax == 793_471 * (settings.projection + 1)
    if not shape:
        assert sum(weight.numel() for weight in backbone.words.convolutions.parameters()) == 199_168
        assert sum(weight.numel() for weight in backbone.layers.parameters()) == 75_563_008
        assert trained + softmax == 500_651_471


def test_initial_weights():
    backbone = Elmo(cell=512, projection=64, filters=((1, 40), (5, 260))).backbone(vocabulary_of(50))
    words, layer = backbone.words, backbone.layers[1]
    uniform = [
        (words.characters.weight[1:], 1.0),
        *((convolution.weight, 0.05) for convolution in words.convolutions),
        *((matrix, math.sqrt(6 / (128 + 2048))) for matrix in layer.kernel),
        *((matrix, math.sqrt(6 / (512 + 64))) for matrix in layer.projection),
    ]
    for weight, limit in uniform:
        assert weight.abs().max().item() == pytest.approx(limit, rel=0.02)
        assert weight.abs().max() <= limit
        assert weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.06)
    matrices = [part.weight for highway in words.highways for part in (highway.carry, highway.transform)]
    for weight in (*matrices, words.project.weight):
        assert weight.std().item() == pytest.approx(300**-0.5, rel=0.02)
    assert all((highway.carry.bias == -2.0).all() for highway in words.highways)
    zeros = [*(part.bias for part in words.convolutions), *(part.transform.bias for part in words.highways), words.project.bias, layer.bias]
    assert not any(bias.any() for bias in zeros)
    tanh = Elmo(cell=4, projection=4, filters=((5, 2000),), highways=0, activation="tanh").backbone(vocabulary_of(50))
    assert tanh.words.convolutions[0].weight.std().item() == pytest.approx(80**-0.5, rel=0.02)
    settings = Elmo()
    assert math.sqrt(6 / (2 * settings.projection + 4 * settings.cell)) == pytest.approx(0.01857, abs=1e-5)


@torch.no_grad()
def test_initial_loss_is_that_of_guessing():
    settings = Elmo(cell=256, projection=64, softmax="full")
    backbone = settings.backbone(vocabulary_of(5000)).eval()
    head = settings.head(LM, backbone, vocabulary_of(5000))
    characters = words_of(4, 32, 50)
    loss = head.loss(states_of(backbone, characters, full(characters)), torch.arange(128), torch.randint(5000, (128,)))
    assert -0.1 < loss.sum.item() / 128 - math.log(5000) < 0.4


@pytest.mark.parametrize("softmax", ["full", "sampled", "adaptive"])
def test_a_batch_can_be_learned_by_heart(softmax):
    shape = {"cell": 48, "projection": 32, "filters": ((1, 8), (2, 16), (3, 24)), "word_length": 12, "dropout": 0.0}
    settings = Elmo(**shape, softmax=softmax, negatives=32, cutoffs=(20,))
    backbone = settings.backbone(vocabulary_of(64))
    head = settings.head(LM, backbone, vocabulary_of(64))
    characters, labels = words_of(4, 20, 12), torch.randint(64, (80,))
    optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        loss = head.loss(states_of(backbone, characters, full(characters)), torch.arange(80), labels)
        (loss.sum / loss.targets).backward()
        optimizer.step()
    learned = head.eval().loss(states_of(backbone, characters, full(characters)), torch.arange(80), labels)
    assert learned.sum / 80 < 0.1
    assert learned.correct == 80


@pytest.mark.parametrize("lengths", [[8, 8], [8, 3], [1, 1]])
def test_every_parameter_takes_part(lengths):
    backbone, characters = build(), words_of(2, 8)
    head = Elmo(**SMALL | {"softmax": "sampled", "negatives": 9}).head(LM, backbone, vocabulary_of(50)).double()
    nothing = torch.zeros(0, dtype=torch.int64)
    head.loss(states_of(backbone, characters, torch.tensor(lengths)), nothing, nothing).sum.backward()
    assert all(weight.grad is not None for weight in (*backbone.parameters(), *head.parameters()))


def test_loss_and_gradient_do_not_depend_on_how_rows_are_split():
    backbone, characters = build(), words_of(4, 8)
    head = VARIANTS[0].head(LM, backbone, vocabulary_of(50)).double().eval()
    labels = torch.randint(50, (4, 8))

    def run(rows: slice) -> Tensor:
        part = characters[rows]
        count = 8 * len(part)
        return head.loss(states_of(backbone, part, full(part)), torch.arange(count), labels[rows].flatten()).sum / 32

    whole = torch.autograd.grad(run(slice(4)), list(backbone.parameters()))
    pieces = [torch.autograd.grad(run(slice(*cut)), list(backbone.parameters())) for cut in ((0, 1), (1, 4))]
    for one, parts in zip(whole, zip(*pieces, strict=True), strict=True):
        torch.testing.assert_close(one, sum(parts), rtol=0, atol=1e-10)


def test_low_precision_is_near_fp32():
    backbone, characters = VARIANTS[0].backbone(vocabulary_of(50)).eval(), words_of(3, 12)
    lengths = torch.tensor([12, 7, 4])
    wanted, memory = backbone({"characters": characters}, lengths)
    wanted, _ = backbone({"characters": characters}, lengths, memory)
    with torch.autocast("cpu", torch.bfloat16):
        _, mixed_memory = backbone({"characters": characters}, lengths)
        mixed, _ = backbone({"characters": characters}, lengths, mixed_memory)
    backbone.bfloat16()
    _, low_memory = backbone({"characters": characters}, lengths)
    low, _ = backbone({"characters": characters}, lengths, low_memory)
    assert low.dtype == torch.bfloat16
    assert low_memory["cells"].dtype == mixed_memory["cells"].dtype == torch.float32
    for found in (mixed, low):
        assert (found.float() - wanted).abs().max() < 0.05
        found.float().sum().backward(retain_graph=True)


def test_deterministic_algorithms_are_enough():
    torch.use_deterministic_algorithms(True)
    try:
        for softmax in ("full", "sampled", "adaptive"):
            settings = Elmo(**SMALL | {"softmax": softmax, "negatives": 9, "cutoffs": (20,)})
            backbone, characters = build(settings).train(), words_of(2, 8)
            head = settings.head(LM, backbone, vocabulary_of(50)).double()
            head.loss(states_of(backbone, characters, full(characters)), torch.arange(16), torch.arange(16)).sum.backward()
    finally:
        torch.use_deterministic_algorithms(False)


# Settings


def test_heads():
    settings = Elmo(**SMALL)
    backbone = settings.backbone(vocabulary_of(50))
    hidden = states_of(backbone, words_of(2, 4), torch.tensor([4, 4]))
    for spec in (HeadSpec("tokens", 3), HeadSpec("sequence", 5)):
        assert settings.head(spec, backbone, vocabulary_of(50))(hidden, torch.tensor([0, 4, 7])).shape == (3, spec.classes)
    for kind in ("masked_lm", "causal_lm", "permutation_lm"):
        with pytest.raises(ConfigError, match=f"cannot train {kind}; it has bidirectional_lm, sequence, tokens"):
            settings.head(HeadSpec(kind), backbone, vocabulary_of(50))


@pytest.mark.parametrize(
    ("softmax", "message"),
    [("sampled", "model.negatives: the vocabulary has 50 words, not 8192"), ("adaptive", "model.cutoffs: the vocabulary has only 50")],
)
def test_a_vocabulary_too_small_for_the_softmax_is_refused(softmax, message):
    settings = Elmo(**SMALL | {"softmax": softmax, "projection": 64})
    with pytest.raises(ConfigError, match=message):
        settings.head(LM, settings.backbone(vocabulary_of(50)), vocabulary_of(50))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"word_length": 6}, "filters are wider than word_length 6"),
        ({"cutoffs": (5, 5)}, r"cutoffs \[5, 5\] do not ascend"),
        ({"softmax": "adaptive", "projection": 16}, "projection 16 leaves cluster 3 no dimension"),
        ({"filters": ()}, "at least 1 item"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Elmo(**change)


# Reading for a task


@torch.no_grad()
def test_scalar_mix_begins_with_the_mean_of_layers():
    states = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    mix = ScalarMix(3).double()
    torch.testing.assert_close(mix(states, torch.tensor([5, 3])), states.mean(1))
    mix.weights.copy_(torch.tensor([0.3, -1.0, 2.0]))
    mix.gamma.fill_(1.7)
    shares = [math.exp(x) / sum(map(math.exp, (0.3, -1.0, 2.0))) for x in (0.3, -1.0, 2.0)]
    torch.testing.assert_close(mix(states, torch.tensor([5, 3])), 1.7 * sum(share * states[:, j] for j, share in enumerate(shares)))


@torch.no_grad()
def test_scalar_mix_normalises_each_layer_over_all_real_tokens():
    states, lengths = 5 * torch.randn(2, 3, 5, 4, dtype=torch.float64) + 2, torch.tensor([5, 3])
    mix, valid = ScalarMix(3, normalise=True).double(), real(lengths, 5)
    normed = [F.layer_norm(flat := states[:, j][valid].flatten(), flat.shape, eps=1e-12).view(-1, 4) for j in range(3)]
    torch.testing.assert_close(mix(states, lengths)[valid], sum(normed) / 3, rtol=0, atol=1e-12)
    states[1, :, 3:] = 1e6
    torch.testing.assert_close(mix(states, lengths)[valid], sum(normed) / 3, rtol=0, atol=1e-12)

"""The optimizers against torch's own and against the published formulas, and what an inactive group keeps."""

import copy
import math

import numpy as np
import pytest
import torch

from ptm_dist.optimizers import OPTIMIZERS, Adagrad, AdamW, BertAdam, Lamb
from ptm_dist.optimizers.base import FlatOptimizer, Segments, parameter_groups

RATE, DECAY = 1e-2, 0.1
EACH = pytest.mark.parametrize("kind", OPTIMIZERS)


def model(layers=1):
    torch.manual_seed(0)
    backbone = torch.nn.ModuleDict({"embedding": torch.nn.Embedding(11, 7), "norm": torch.nn.LayerNorm(7)})
    backbone["layers"] = torch.nn.ModuleList([torch.nn.Linear(7, 7) for _ in range(layers)])
    return torch.nn.ModuleDict({"backbone": backbone, "heads": torch.nn.ModuleDict({"a": torch.nn.Linear(7, 3)})})


def give_gradients(net, step=0):
    for number, parameter in enumerate(net.parameters()):
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(100 * step + number))


def build(net, settings):
    return settings.build(parameter_groups(net, settings))


def steps(net, settings, count=5):
    optimizer = build(net, settings)
    for step in range(count):
        give_gradients(net, step)
        optimizer.step()
    return [parameter.detach() for parameter in net.parameters()]


def reference_steps(update, count=5, decays=lambda values: values.ndim > 1):
    """Apply a formula in float64: update(weights, gradient, memory, step counted from 1, weight decay) -> new weights."""
    net = model()
    weights = [parameter.detach().double().numpy() for parameter in net.parameters()]
    memories = [{} for _ in weights]
    for step in range(count):
        give_gradients(net, step)
        gradients = [parameter.grad.double().numpy() for parameter in net.parameters()]
        decay = [DECAY if decays(values) else 0.0 for values in weights]
        weights = [update(*each, step + 1) for each in zip(weights, gradients, memories, decay, strict=True)]
    return [torch.from_numpy(values) for values in weights]


def moments(memory, gradient, betas=(0.9, 0.999)):
    for name, beta, value in (("m", betas[0], gradient), ("v", betas[1], gradient**2)):
        memory[name] = beta * memory.get(name, 0.0) + (1 - beta) * value
    return memory["m"], memory["v"]


def bert_adam(weights, gradient, memory, decay, step):
    m, v = moments(memory, gradient)
    return weights - RATE * (m / (np.sqrt(v) + 1e-6) + decay * weights)


def lamb(adapts):
    def update(weights, gradient, memory, decay, step):
        m, v = moments(memory, gradient)
        direction = m / (np.sqrt(v) + 1e-6) + decay * weights
        norms = np.linalg.norm(weights), np.linalg.norm(direction)
        ratio = norms[0] / norms[1] if adapts(weights) and min(norms) > 0 else 1.0
        return weights - RATE * ratio * direction

    return update


def fairseq_adam(weights, gradient, memory, decay, step):
    m, v = moments(memory, gradient)
    size = RATE * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    return weights * (1 - RATE * decay) - size * m / (np.sqrt(v) + 1e-4)


def adagrad(weights, gradient, memory, decay, step):
    memory["sum"] = memory.get("sum", 1.0) + gradient**2
    return weights - RATE * gradient / np.sqrt(memory["sum"])


common = {"learning_rate": RATE, "weight_decay": DECAY}


@pytest.mark.parametrize(
    ("settings", "formula"),
    [
        (BertAdam(**common), bert_adam),
        (Lamb(**common), lamb(lambda weights: weights.ndim > 1)),
        (Lamb(**common, adapt_norms_and_biases=True), lamb(lambda weights: True)),
        (AdamW(**common, eps=1e-4, eps_joins="raw"), fairseq_adam),
        (Adagrad(learning_rate=RATE), adagrad),
    ],
    ids=["bert_adam", "lamb", "lamb_ymcui", "fairseq", "adagrad"],
)
@pytest.mark.parametrize(("count", "tolerance"), [(1, 1e-7), (5, 5e-7)])
def test_published_formulas(settings, formula, count, tolerance):
    for ours, expected in zip(steps(model(), settings, count), reference_steps(formula, count), strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=tolerance, atol=tolerance)


def test_adamw_is_torch_s():
    ours = steps(model(), AdamW(**common, decay_norms_and_biases=True))
    theirs = model()
    reference = torch.optim.AdamW(theirs.parameters(), lr=RATE, weight_decay=DECAY)
    for step in range(5):
        give_gradients(theirs, step)
        reference.step()
    for one, other in zip(ours, theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=0, atol=1e-7)


@pytest.mark.parametrize(("step", "size"), [(1, 3.162), (10, 6.53), (100, 3.24), (1000, 1.26)])
def test_bert_adam_s_first_steps_are_long(step, size):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = BertAdam(learning_rate=1.0, eps=1e-12).build([{"params": [weight]}])
    for _ in range(step):
        before, weight.grad = weight.item(), torch.full((1,), 3.7)
        optimizer.step()
    assert before - weight.item() == pytest.approx(size, rel=2e-3)


def test_elmo_s_first_step():
    weight = torch.nn.Parameter(torch.zeros(4))
    weight.grad = torch.tensor([0.0, 1e-3, -2.0, 100.0])
    Adagrad(learning_rate=0.2).build([{"params": [weight]}]).step()
    expected = [-0.2 * g / math.sqrt(1 + g * g) for g in weight.grad.tolist()]
    assert weight.tolist() == pytest.approx(expected, rel=1e-6)


def test_lamb_s_first_step_is_as_long_as_the_weights():
    weight = torch.nn.Parameter(torch.randn(5, 3))
    length, weight.grad = weight.norm().item(), torch.randn(5, 3)
    before = weight.detach().clone()
    Lamb(learning_rate=RATE, weight_decay=0.0).build([{"params": [weight]}]).step()
    assert (weight - before).norm().item() == pytest.approx(RATE * length, rel=1e-5)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_lamb_in_parts_is_lamb(world):
    """Ranks that hold parts of two parameters, end to end in one flat tensor, and add their tables."""
    torch.manual_seed(1)
    wholes = [torch.randn(4, 5), torch.randn(7)]
    gradients = [torch.randn(4, 5), torch.randn(7)]
    whole = [torch.nn.Parameter(tensor.clone()) for tensor in wholes]
    for parameter, gradient in zip(whole, gradients, strict=True):
        parameter.grad = gradient
    settings = Lamb(learning_rate=RATE, weight_decay=DECAY)
    settings.build([{"params": whole, "weight_decay": DECAY}]).step()

    flat, slope = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (wholes, gradients))
    bounds = [(rank * 27 // world, (rank + 1) * 27 // world) for rank in range(world)]
    tables = {}

    def run(adds):
        results = []
        for rank, (first, last) in enumerate(bounds):
            part = torch.nn.Parameter(flat[first:last].clone())
            part.grad = slope[first:last].clone()
            pieces = [(n, max(a, first) - first, min(b, last) - max(a, first)) for n, (a, b) in enumerate([(0, 20), (20, 27)])]
            optimizer = settings.build([{"params": [part], "weight_decay": DECAY}])
            held = [piece for piece in pieces if piece[2] > 0]
            optimizer.link({part: Segments(2, held)}, lambda table, rank=rank: adds(rank, table))
            optimizer.step()
            results.append(part.detach())
        return torch.cat(results)

    run(lambda rank, table: tables.update({rank: table.clone()}))
    parts = run(lambda rank, table: table.copy_(sum(tables.values())))
    torch.testing.assert_close(parts, torch.cat([parameter.detach().flatten() for parameter in whole]), rtol=0, atol=1e-7)


@EACH
def test_it_is_not_a_class_that_deepspeed_swaps(kind):
    optimizer = build(model(), OPTIMIZERS[kind](learning_rate=RATE))
    bases = type(optimizer).__mro__
    assert bases[bases.index(FlatOptimizer) + 1] is torch.optim.Optimizer


@EACH
def test_padding_stays_zero(kind):
    weight = torch.nn.Parameter(torch.zeros(4))
    optimizer = OPTIMIZERS[kind](learning_rate=RATE).build([{"params": [weight], "weight_decay": DECAY}])
    for value in optimizer.init_state(weight).values():
        value.zero_()
    for _ in range(3):
        weight.grad = torch.zeros(4)
        optimizer.step()
    assert weight.tolist() == [0.0] * 4


@EACH
def test_an_inactive_group_keeps_every_bit(kind):
    net = model()
    optimizer = build(net, OPTIMIZERS[kind](learning_rate=RATE))
    give_gradients(net)
    optimizer.step()
    before = copy.deepcopy({name: (parameter.detach(), optimizer.state[parameter]) for name, parameter in net.named_parameters()})
    for group in optimizer.param_groups:
        group["active"] = group["part"] == "backbone"
    optimizer.step()
    for name, parameter in net.named_parameters():
        weight, state = before[name]
        same = [torch.equal(parameter, weight), *(torch.equal(optimizer.state[parameter][key], state[key]) for key in state)]
        assert all(same) if name.startswith("heads.") else not any(same[:2])


@pytest.mark.parametrize(("everything", "plain"), [(True, DECAY), (False, 0.0)])
def test_decay_spares_biases_and_norms_unless_told(everything, plain):
    groups = parameter_groups(model(), AdamW(**common, decay_norms_and_biases=everything))
    assert {(group["name"], group["weight_decay"]) for group in groups} == {
        ("backbone", DECAY),
        ("backbone.plain", plain),
        ("a", DECAY),
        ("a.plain", plain),
    }


def test_lower_layers_learn_more_slowly():
    """The shares of XLNet's table: the last layer and the heads at the full rate, each layer below at 0.75 of the one above."""
    net = model(layers=3)
    share = {id(p): group["lr_share"] for group in parameter_groups(net, AdamW(**common, layer_decay=0.75)) for p in group["params"]}
    found = {name: share[id(parameter)] for name, parameter in net.named_parameters()}
    assert found["backbone.embedding.weight"] == found["backbone.norm.bias"] == 0.75**3
    assert [found[f"backbone.layers.{number}.weight"] for number in range(3)] == [0.75**2, 0.75, 1.0]
    assert found["heads.a.bias"] == 1.0

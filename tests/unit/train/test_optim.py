"""The optimizers against torch's own, and what an inactive group keeps."""

import copy

import pytest
import torch

from ptm_dist.recipe import AdamW as Settings
from ptm_dist.train.optim import AdamW, parameter_groups


def settings(**changes):
    return Settings.model_validate({"learning_rate": 1e-2, "betas": (0.9, 0.95), "eps": 1e-6, "weight_decay": 0.1} | changes)


def model():
    torch.manual_seed(0)
    net = torch.nn.ModuleDict({"backbone": torch.nn.Linear(7, 5), "heads": torch.nn.ModuleDict({"a": torch.nn.Linear(5, 3)})})
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter)
    return net


def test_it_is_torch_adamw_step_for_step():
    ours, theirs = model(), model()
    optimizer = AdamW(parameter_groups(ours, settings(decay_norms_and_biases=True)), settings())
    reference = torch.optim.AdamW(theirs.parameters(), lr=1e-2, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1)
    for step in range(5):
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            one.grad = other.grad = torch.randn(one.shape, generator=torch.Generator().manual_seed(step))
        optimizer.step()
        reference.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-7)


def test_it_is_not_a_class_that_deepspeed_swaps():
    assert AdamW.__bases__ == (torch.optim.Optimizer,)


def test_an_inactive_group_keeps_every_bit():
    net = model()
    optimizer = AdamW(parameter_groups(net, settings()), settings())
    optimizer.step()
    before = {name: parameter.clone() for name, parameter in net.named_parameters()}
    states = copy.deepcopy({name: optimizer.state[parameter] for name, parameter in net.named_parameters()})
    for group in optimizer.param_groups:
        group["active"] = group["part"] == "backbone"
    optimizer.step()
    for name, parameter in net.named_parameters():
        idle = name.startswith("heads.")
        assert torch.equal(parameter, before[name]) == idle
        assert (optimizer.state[parameter]["step"] == states[name]["step"]) == idle
        assert torch.equal(optimizer.state[parameter]["exp_avg"], states[name]["exp_avg"]) == idle


@pytest.mark.parametrize(("everything", "plain"), [(True, 0.1), (False, 0.0)])
def test_decay_spares_biases_unless_told(everything, plain):
    groups = {group["name"]: group for group in parameter_groups(model(), settings(decay_norms_and_biases=everything))}
    decay_of = {id(p): group["weight_decay"] for group in groups.values() for p in group["params"]}
    assert set(decay_of.values()) == {0.1, plain}
    assert {group["part"] for group in groups.values()} == {"backbone", "a"}

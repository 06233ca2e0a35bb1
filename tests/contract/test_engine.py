"""Every family under every ZeRO stage and world size trains like one process that sees the whole batch."""

import multiprocessing
from functools import cache

import pytest
import torch

from ptm_dist.train.launch import free_port
from tests.contract import engine_ranks
from tests.contract.engine_ranks import STEPS, cases, parts_of, recipe_of

TOLERANCE = 5e-6


@cache
def expected(family, optimizer):
    torch.set_num_threads(1)
    return engine_ranks.reference(recipe_of(family, optimizer))


def run(stage, world, path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.contract.engine_ranks"])
    port = free_port()
    ranks = [context.Process(target=engine_ranks.run_rank, args=(rank, world, stage, port, path)) for rank in range(world)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(120)
        rank.kill()
    return torch.load(path, weights_only=True)


def apart(found, wanted, key):
    """Return the norm of the difference over the norm of what is wanted, for the worst tensor.

    A tensor is taken to be no smaller than a thousandth of the whole: the bias of keys, which softmax does not feel, is rounding only.
    """
    names = [name for name in wanted if name.endswith(f"|{key}")]
    least = 1e-3 * float(torch.cat([wanted[name] for name in names]).double().norm())
    return max((found[name].double() - wanted[name].double()).norm().item() / max(wanted[name].norm().item(), least) for name in names)


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_gradients_and_updates_are_those_of_one_process(stage, world, tmp_path):
    states = run(stage, world, tmp_path / "states.pt")
    for family, optimizer in cases():
        found, wanted = states[f"{family} {optimizer}"], expected(family, optimizer)
        assert [step.keys() for step in found] == [step.keys() for step in wanted]
        assert apart(found[0], wanted[0], "exp_avg") < TOLERANCE, (family, optimizer, "gradients")
        for step in range(len(STEPS)):
            assert apart(found[step], wanted[step], "weight") < TOLERANCE, (family, optimizer, step)
        _require_idle(found, recipe_of(family, optimizer))


def _require_idle(states, recipe):
    """The head of no step keeps every bit, and so does a head between its steps."""
    for before, after, (task, _) in zip(states, states[1:], STEPS[1:], strict=False):
        parts = parts_of(recipe, task)
        idle = [name for name in after if name.startswith("heads.") and name.split(".")[1] not in parts]
        assert any("second" in name for name in idle)
        assert all(torch.equal(before[name], after[name]) for name in idle)
    assert all(not states[-1][name].any() for name in states[-1] if "second" in name and not name.endswith("|weight"))

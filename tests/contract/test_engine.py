"""Every family under every ZeRO stage and world size trains like one process that sees the whole batch."""

import json
import multiprocessing
from functools import cache

import pytest
import torch

from ptm_dist.train.context import listen
from ptm_dist.train.state import StateFiles
from tests.contract import engine_ranks
from tests.contract.engine_ranks import STEPS, active, cases, recipe_of
from tests.tiny import has_fp16

TOLERANCE = 2e-5 if torch.cuda.is_available() else 5e-6
"""Of a GPU too: what is wanted was computed on a CPU."""


@cache
def expected(family, optimizer):
    torch.set_num_threads(1)
    return engine_ranks.reference(recipe_of(family, optimizer))


def run(world, body, *args):
    """Do `body` on ranks of one process group."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ptm_dist.train.warm", "tests.contract.engine_ranks"])
    with listen() as listener:
        ranks = [context.Process(target=engine_ranks.run_rank, args=(rank, world, listener, body, *args)) for rank in range(world)]
        for rank in ranks:
            rank.start()
    for rank in ranks:
        rank.join(120)
        rank.kill()
    assert [rank.exitcode for rank in ranks] == [0] * world


def apart(found, wanted, key):
    """Return the norm of the difference over the norm of what is wanted, for the worst tensor.

    A tensor is taken to be no smaller than a thousandth of the whole: the bias of keys, which softmax does not feel, is rounding only.
    """
    names = [name for name in wanted if name.endswith(f"|{key}")]
    least = 1e-3 * float(torch.cat([wanted[name] for name in names]).double().norm())
    return max((found[name].double() - wanted[name].double()).norm().item() / max(wanted[name].norm().item(), least) for name in names)


WORLDS = [(stage, world) for stage in (0, 1, 2, 3) for world in (1, 2, 4)]
LONG = {(1, 4), (2, 4), (3, 4), (2, 2), (3, 1)}
"""What the others show nearly as well."""


@pytest.mark.parametrize(("stage", "world"), [pytest.param(*pair, marks=[pytest.mark.slow] * (pair in LONG)) for pair in WORLDS])
def test_gradients_and_updates_are_those_of_one_process(stage, world, tmp_path):
    run(world, engine_ranks.train_all, stage, tmp_path / "states.pt")
    states = torch.load(tmp_path / "states.pt", weights_only=True)
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
        parts = active(recipe, task)
        idle = [name for name in after if name.startswith("heads.") and name.split(".")[1] not in parts]
        assert any("second" in name for name in idle)
        assert all(torch.equal(before[name], after[name]) for name in idle)
    assert all(not states[-1][name].any() for name in states[-1] if "second" in name and not name.endswith("|weight"))


@pytest.mark.skipif(not has_fp16(), reason="this machine has no fp16")
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_overflow_leaves_every_bit_and_halves_the_scale(stage, tmp_path):
    run(1, engine_ranks.overflow, stage, tmp_path / "found.pt")
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    before, skipped, applied = found["states"]
    (_, held, scale), (norm, held_then, scale_then) = found["told"]
    assert (held, scale, held_then, scale_then) == (False, 2.0**59, True, 2.0**10)
    assert all(torch.equal(before[name], skipped[name]) for name in before)
    # The second step is the one that fp32 would have done, to half precision.
    wanted = expected("roberta", "adamw")[0]
    assert apart(applied, wanted, "exp_avg") < 5e-3
    assert 0 < norm < 10


MOVES = [(2, 2), (1, 3), (4, 0), (2, 1)]
"""World sizes and ZeRO stages, one after the other."""


def test_state_moves_between_worlds_and_stages_bit_for_bit(tmp_path):
    """Weights, moments and step counts are equal across each switch, and the last one appends a head."""
    before = tmp_path / "nothing"
    for number, (world, stage) in enumerate(MOVES):
        after = tmp_path / str(number)
        tasks = ("first", "second", "third") if number == len(MOVES) - 1 else ("first", "second")
        run(world, engine_ranks.move_all, stage, after, before, tasks)
        told = json.loads((after / "told.json").read_text())
        for name in told if number else ():
            _require_equal(StateFiles(before / name / "trained"), StateFiles(after / name / "loaded"), told[name])
            assert bool(told[name]) == (len(tasks) == 3)
        before = after


def _require_equal(before, after, fresh):
    assert all(name.startswith("heads.third") for name in fresh)
    assert set(after.shapes) == {*before.shapes, *fresh}
    for name in before.shapes:
        assert after.steps[name] == before.steps[name]
        assert all(torch.equal(after.whole(name, kind), before.whole(name, kind)) for kind in before.kinds)
    for name in fresh:
        assert after.steps[name] == 0
        assert not any(after.whole(name, kind).any() for kind in after.kinds if kind != "weight")

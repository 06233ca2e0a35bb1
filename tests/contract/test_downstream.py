"""Labelled tasks under every ZeRO stage, on one rank and on two, train like one process that sees the whole batch."""

from functools import cache

import pytest
import torch

from tests.contract import downstream_ranks, engine_ranks
from tests.contract.downstream_ranks import CASES, STEPS, recipe_of, rows_of
from tests.contract.test_engine import TOLERANCE, apart, run


@cache
def expected(family):
    torch.set_num_threads(1)
    return engine_ranks.reference(recipe_of(family), STEPS, rows_of)


def fresh(family):
    torch.manual_seed(0)
    model = engine_ranks.PretrainingModel(recipe_of(family), engine_ranks.VOCABULARY)
    return {name: weight.detach()[: getattr(weight, "stored_rows", None)].flatten() for name, weight in model.named_parameters()}


WORLDS = [(stage, world) for stage in (0, 1, 2, 3) for world in (1, 2)]


LONG = {(0, 2), (1, 1), (2, 2), (3, 1)}
"""What the others show nearly as well."""


@pytest.mark.parametrize(("stage", "world"), [pytest.param(*pair, marks=[pytest.mark.slow] * (pair in LONG)) for pair in WORLDS])
def test_gradients_and_updates_are_those_of_one_process(stage, world, tmp_path):
    run(world, downstream_ranks.train_all, stage, tmp_path / "states.pt")
    states = torch.load(tmp_path / "states.pt", weights_only=True)
    for family, frozen in CASES.items():
        found, wanted = ([_felt(state) for state in run_of] for run_of in (states[family], expected(family)))
        assert apart(found[0], wanted[0], "exp_avg") < TOLERANCE, (family, "gradients")
        for step in range(len(STEPS)):
            assert apart(found[step], wanted[step], "weight") < TOLERANCE, (family, step)
        _require_still(states[family], fresh(family), frozen)


def _felt(state):
    """Leave out biases of scores, which a softmax over the tokens of a row does not feel: their gradients are rounding only."""
    unfelt = ("answer_span.classify.bias", "choose.classify.bias", "start.bias", "end.bias")
    return {name: values for name, values in state.items() if not name.partition("|")[0].endswith(unfelt)}


def _require_still(states, first, frozen):
    """In steps of tasks that freeze it, the backbone keeps every bit; in others it learns, and so does the head in all."""
    before = {f"{name}|weight": values for name, values in first.items()}
    for after, (task, _) in zip(states, STEPS, strict=True):
        names = [name for name in before if name.startswith("backbone.") and name.endswith("|weight")]
        assert all(torch.equal(before[name], after[name]) for name in names) == (task in frozen), task
        heads = [name for name in before if name.startswith(f"heads.{task}-") and name.endswith("classify.weight|weight")]
        assert all(not torch.equal(before[name], after[name]) for name in heads)
        before = after

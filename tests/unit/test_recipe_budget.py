"""Budgets: what they say, what is none, and how many updates they are, against arithmetic done another way."""

import json
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.errors import ConfigError
from ptm_dist.recipe_budget import parse_budget
from ptm_dist.recipe_io import dump_recipe, load_recipe, recipe_from_json, recipe_to_json
from ptm_dist.train.budget import settle, told_budgets
from tests.tiny import tiny_recipe

UNITS = {"tokens": ("tokens", 1), "token": ("tokens", 1), "epochs": ("epochs", 1), "epoch": ("epochs", 1)}
UNITS |= {"hours": ("hours", 1), "hour": ("hours", 1), "minutes": ("hours", 60), "minute": ("hours", 60)}
ZEROS = {"": 0, "K": 3, "M": 6, "B": 9, "T": 12}
TASK = recipe_to_json(tiny_recipe())["tasks"]["mlm"]


def with_stages(*stages, **changes):
    tasks = {task: TASK for stage in stages for task in stage["steps"]}
    return tiny_recipe(stages=[{"name": f"s{number}"} | stage for number, stage in enumerate(stages)], **({"tasks": tasks} | changes))


def data_of(**sizes) -> Any:
    """Prepared data of which only (rows, tokens) of each task are there."""
    return SimpleNamespace(open=lambda task, split: SimpleNamespace(rows=sizes[task][0], tokens=sizes[task][1]))


@given(
    st.integers(0, 10**6),
    st.text("0123456789", max_size=6),
    st.none() | st.integers(0, 99),
    st.sampled_from(sorted(ZEROS)),
    st.sampled_from(sorted(UNITS)),
)
def test_what_a_budget_says(whole, part, exponent, large, unit):
    number = f"{whole}.{part}" if part else f"{whole}"
    text = f"{number}{'' if exponent is None else f'e{exponent}'}{large} {unit}"
    amount = Fraction(Decimal(number)) * 10 ** ((exponent or 0) + ZEROS[large])
    if not amount:
        with pytest.raises(ValueError, match="should be more than 0"):
            parse_budget(text)
        return
    found = parse_budget(text)
    assert (found.amount, found.unit) == (amount / UNITS[unit][1], UNITS[unit][0])
    kept = with_stages({"steps": {"mlm": f"  {text.replace(' ', '   ')} "}})
    assert kept.budgets == {("s0", "mlm"): text}
    assert recipe_from_json(json.loads(json.dumps(recipe_to_json(kept)))) == kept


def test_the_same_amount_is_the_same_budget():
    assert parse_budget("90 minutes") == parse_budget("1.5 hours")
    assert parse_budget("137B tokens") == parse_budget("137e9 tokens") == parse_budget("137000000000 tokens")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("40 epcohs", '"40 epcohs": epcohs is no unit; did you mean epochs?'),
        ("2 days", '"2 days": days is no unit; write tokens, epochs, hours or minutes'),
        ("1000 steps", '"1000 steps" is in updates, which need no unit; write 1000'),
        ("1.5K updates", '"1.5K updates" is in updates, which need no unit; write 1500'),
        ("0 epochs", '"0 epochs" should be more than 0'),
        ("0.0e9 tokens", '"0.0e9 tokens" should be more than 0'),
        ("1e400 tokens", '"1e400 tokens" is no number of updates and no budget; write it like 900000, 40 epochs'),
        *[
            (text, f'"{text}" is no number of updates and no budget; write it like 900000, 40 epochs, 137B tokens')
            for text in ("many", "1,000 tokens", "40epochs", "-3 epochs", "3 B tokens", "137b tokens", "nan hours", "٣ epochs", "3 Hours")
        ],
        ("true", "true is a truth value; write a whole number"),
        ("3.5", "3.5 is a decimal number; write a whole number"),
        ("'7'", '"7" is text; write 7'),
        ("0", "0 should be greater than 0"),
    ],
)
def test_what_is_no_budget(tmp_path, written, message):
    (tmp_path / "recipe.yaml").write_text(dump_recipe(tiny_recipe()))
    with pytest.raises(ConfigError) as error:
        load_recipe([tmp_path / "recipe.yaml"], [f"stages.0.steps.mlm={written}"])
    assert str(error.value).startswith(f"stages.0.steps.mlm: {message}")
    assert str(error.value).endswith("(command line)")


def test_a_schedule_takes_updates_only(tmp_path):
    schedule = {"kind": "continual", "tasks": ["mlm"], "steps_per_task": 5}
    (tmp_path / "recipe.yaml").write_text(dump_recipe(tiny_recipe(stages=[], schedule=schedule)))
    with pytest.raises(ConfigError, match=r'schedule.steps_per_task: "2 epochs" is text; write a whole number'):
        load_recipe([tmp_path / "recipe.yaml"], ["schedule.steps_per_task=2 epochs"])


def test_nothing_has_steps_before_budgets_have():
    recipe = with_stages({"steps": {"mlm": 3}}, {"steps": {"mlm": "2.5 hours", "other": "1K tokens"}})
    assert recipe.length == "3 steps of mlm, 2.5 hours of mlm, 1K tokens of other"
    for ask in (lambda: recipe.total_steps, lambda: recipe.planned_stages, lambda: recipe.learning_rate(0), lambda: recipe.plan({})):
        with pytest.raises(ConfigError, match=r"the steps of 2.5 hours of mlm in stage s1, 1K tokens of other in stage s1 are not known"):
            ask()
    found = recipe.with_steps({("s1", "mlm"): 4, ("s1", "other"): 5})
    assert (found.total_steps, found.length, found.budgets) == (12, "12 steps", {})
    assert found == with_stages({"steps": {"mlm": 3}}, {"steps": {"mlm": 4, "other": 5}})
    assert found.digest != recipe.digest


@given(epochs=st.integers(1, 5000), size=st.integers(1, 5000), rows=st.integers(1, 300))
def test_epochs_are_the_fewest_updates_that_read_as_many_rows(epochs, size, rows):
    """Half a hundredth of an epoch is the finest that is asked for here; rows are counted one update after the other."""
    recipe = with_stages({"steps": {"mlm": f"{epochs / 200} epochs"}, "rows": rows})
    (found,) = settle(recipe, data_of(mlm=(size, 7 * size)), {})
    read = updates = 0
    while 200 * read < epochs * size:
        read, updates = read + rows, updates + 1
    assert (found.steps, found.rows) == (updates, rows)


@given(tokens=st.integers(1, 10**6), rows=st.integers(1, 99), size=st.integers(1, 999), extra=st.integers(0, 9999))
def test_tokens_of_a_batch_of_rows_are_their_mean(tokens, rows, size, extra):
    recipe = with_stages({"steps": {"mlm": f"{tokens} tokens"}, "rows": rows})
    (found,) = settle(recipe, data_of(mlm=(size, size + extra)), {})
    # In units of a token over `size`, so that everything is a whole number.
    update = rows * (size + extra)
    assert (found.steps - 1) * update < tokens * size <= found.steps * update


@given(tokens=st.integers(1, 10**6), batch=st.integers(1, 10**4), mean=st.integers(1, 64))
def test_a_batch_in_tokens_has_so_many(tokens, batch, mean):
    for recipe in (
        with_stages({"steps": {"mlm": f"{tokens} tokens"}}, batch={"rows": None, "tokens": batch}),
        with_stages({"steps": {"mlm": f"{tokens} tokens"}, "tokens": batch}),
    ):
        (found,) = settle(recipe, data_of(mlm=(10, 10 * mean)), {})
        assert (found.steps - 1) * batch < tokens <= found.steps * batch
        assert list(told_budgets(recipe)) == [f"stage s0: {tokens} tokens of mlm = {found.steps:,} steps"]


@given(minutes=st.integers(1, 10**4), milliseconds=st.integers(1, 10**5))
def test_each_task_has_its_own_hours_and_its_own_seconds_an_update(minutes, milliseconds):
    recipe = with_stages({"steps": {"mlm": f"{minutes} minutes", "other": "1 hour"}})
    one, other = settle(recipe, data_of(mlm=(9, 9), other=(9, 9)), {("s0", "mlm"): milliseconds / 1000, ("s0", "other"): 0.5})
    assert (one.steps - 1) * Fraction(milliseconds / 1000) < minutes * 60 <= one.steps * Fraction(milliseconds / 1000)
    assert other.steps == 7200
    assert other.line == "stage s0: 1 hour of other = 7,200 steps of 16 rows, at 0.500 s a step"


@given(
    growth=st.builds(lambda start, steps: {"start": start / 20, "steps": steps}, st.integers(1, 20), st.integers(1, 60)),
    before=st.integers(0, 40),
    epochs=st.integers(1, 40),
    size=st.integers(1, 400),
)
def test_growing_batches_read_as_many_rows_too(growth, before, epochs, size):
    stages = [{"steps": {"mlm": before}}] if before else []
    recipe = with_stages(*stages, {"steps": {"mlm": f"{epochs / 4} epochs"}}, batch={"rows": 16, "warmup": growth})
    (found,) = settle(recipe, data_of(mlm=(size, size)), {})
    share = [min(1, growth["start"] + (1 - growth["start"]) * step / growth["steps"]) for step in range(before, before + found.steps + 1)]
    rows = [max(1, round(16 * part)) for part in share]
    assert 4 * sum(rows[: found.steps]) >= epochs * size > 4 * sum(rows[: found.steps - 1])


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 200)), min_size=2, max_size=3), st.integers(1, 50))
def test_growing_batches_of_several_tasks_read_enough_for_each(wanted, steps):
    names = ["mlm", "b", "c"][: len(wanted)]
    budgets = {name: f"{quarters / 4} epochs" for name, (quarters, _) in zip(names, wanted, strict=True)}
    recipe = with_stages({"steps": budgets}, batch={"rows": 8, "warmup": {"start": 0.1, "steps": steps}})
    found = settle(recipe, data_of(**{name: (size, size) for name, (_, size) in zip(names, wanted, strict=True)}), {})
    plan = recipe.with_steps({(part.stage, part.task): part.steps for part in found}).plan(dict.fromkeys(names, 1.0))
    read = dict.fromkeys(names, 0)
    for step in range(plan.total_steps):
        read[plan.at(step).task] += plan.at(step).rows
    for name, (quarters, size) in zip(names, wanted, strict=True):
        assert 4 * read[name] >= quarters * size


def test_what_is_told_before_data_are_prepared():
    recipe = with_stages({"steps": {"mlm": "40 epochs", "other": "2.5 hours"}}, {"steps": {"mlm": 9}}, {"steps": {"mlm": "3.3e9 tokens"}})
    assert list(told_budgets(recipe)) == [
        "stage s0: 40 epochs of mlm (steps follow when data are prepared)",
        "stage s0: 2.5 hours of other (steps follow when training starts and some are timed)",
        "stage s2: 3.3e9 tokens of mlm (steps follow when data are prepared)",
    ]

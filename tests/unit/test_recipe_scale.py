"""Recipes within limits: every published one fits on a laptop, and nothing else changes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.cli.systems import SYSTEMS
from ptm_dist.errors import ConfigError
from ptm_dist.recipe_io import dump_recipe, flatten, load_recipe, recipe_diff, recipe_to_json
from ptm_dist.recipe_scale import scaled
from ptm_dist.train.module import parameter_counts
from tests.tiny import tiny_recipe

CONFIGS = Path(__file__).parents[2] / "configs"
PUBLISHED = sorted(SYSTEMS)
PLAIN = recipe_to_json(tiny_recipe())


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_recipe_fits_on_a_laptop(name):
    whole = load_recipe([CONFIGS / f"{name}.yaml"])
    small = load_recipe([CONFIGS / f"{name}.yaml", CONFIGS / "scale" / "laptop.yaml"])
    assert 1490 <= small.total_steps <= 1510
    assert sum(parameter_counts(small).values()) < 4_000_000
    assert max(task.format.length for task in small.tasks.values()) <= 128
    assert max(small.batch.rows or 0, *(stage.rows or 0 for stage in small.planned_stages)) <= 8
    parts = ("model.kind", "tokenizer.kind", "optimizer.kind", "optimizer.schedule.kind", "schedule")
    changed = {key for key, _, _ in recipe_diff(whole, small)}
    assert not changed & set(parts)
    kinds = {key: value for key, value in flatten(whole).items() if key.endswith(".kind") or ".objectives." in key}
    assert kinds == {key: value for key, value in flatten(small).items() if key in kinds}, "objectives stay what they are"


def test_stages_and_warm_up_shrink_alike():
    small = load_recipe([CONFIGS / "bert.yaml"], ["at_most.steps=1000"])
    assert [stage.steps for stage in small.stages] == [{"short": 900}, {"long": 100}]
    assert small.optimizer.schedule.warmup_steps == 10
    assert load_recipe([CONFIGS / "bert.yaml"], ["at_most.steps=2000000"]) == load_recipe([CONFIGS / "bert.yaml"])
    ernie = load_recipe([CONFIGS / "ernie2.yaml"], ["at_most.steps=500"])
    assert [sum(stage.steps.values()) for stage in ernie.planned_stages] == [36, 68, 100, 132, 164]
    both = scaled(
        recipe_to_json(ernie) | {"stages": [{"name": "more", "steps": {"masking": 500}, "rows": None, "tokens": None}]}, {"steps": 100}
    )
    assert both["schedule"]["steps_per_task"] == 10
    assert both["stages"][0]["steps"] == {"masking": 50}


@given(st.integers(1, 60), st.sampled_from(["batch.rows", "model.hidden", "tasks.mlm.format.length", "checkpoint.every_steps"]))
def test_a_limit_bounds_one_number_and_nothing_else(limit, path):
    limits = limit
    for part in reversed(path.split(".")):
        limits = {part: limits}
    before, after = _flat(PLAIN), _flat(scaled(PLAIN, limits))
    assert after[path] == min(before[path], limit)
    assert {key: value for key, value in after.items() if key != path} == {key: value for key, value in before.items() if key != path}


def _flat(plain, keys=()):
    if not isinstance(plain, dict):
        return {".".join(keys): plain}
    return {key: value for name, part in plain.items() for key, value in _flat(part, (*keys, name)).items()}


def test_stars_lists_and_what_is_not_there():
    found = scaled(PLAIN, {"tasks": {"*": {"format": {"length": 8}}}, "stages": {"*": {"rows": 4}}, "model": {"cell": 5, "layers": 1}})
    assert found["tasks"]["mlm"]["format"]["length"] == 8
    assert found["stages"] == PLAIN["stages"], "a setting that is not given is not bounded"
    assert found["model"] == PLAIN["model"] | {"layers": 1}
    assert scaled(PLAIN, {"optimizer": {"betas": 0.95}})["optimizer"]["betas"] == [0.9, 0.95]


def test_at_least_comes_after_at_most():
    found = scaled(PLAIN, {"steps": 2, "optimizer": {"learning_rate": 1e-9}}, {"optimizer": {"learning_rate": 1e-3, "nothing": 1}})
    assert found["optimizer"] == PLAIN["optimizer"] | {"learning_rate": 1e-3, "schedule": found["optimizer"]["schedule"]}
    with pytest.raises(ConfigError, match=r"at_least\.steps: no recipe has that"):
        scaled(PLAIN, None, {"steps": 5})


def test_limits_for_a_kind():
    limits = {"optimizer": [{"learning_rate": 0.01}, {"kind": "lamb", "learning_rate": 0.5}, {"kind": "adamw", "eps": 1e-3}]}
    found = scaled(PLAIN, None, limits)["optimizer"]
    assert found == PLAIN["optimizer"] | {"learning_rate": 0.01, "eps": 1e-3}, "it is adamw"


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ("small", "at_most: 'small' is no mapping"),
        ({"modle": {"layers": 2}}, "at_most.modle: no recipe has that; did you mean model?"),
        ({"model": {"layers": -1}}, "at_most.model.layers: -1 is no number from 0 up"),
        ({"model": {"layers": True}}, "at_most.model.layers: True is no number from 0 up"),
        ({"tasks": {"*": {"format": {"length": "8"}}}}, r"at_most.tasks.\*.format.length: '8' is no number"),
        ({"steps": 0.5}, "at_most.steps: 0.5 is no whole number"),
    ],
)
def test_limits_that_are_none(limits, message):
    with pytest.raises(ConfigError, match=message):
        scaled(PLAIN, limits)


@pytest.mark.parametrize("limit", ["at_most.steps=1500", "at_most.stages.*.steps.mlm=9", "at_least.stages.*.steps.mlm=2"])
def test_budgets_are_not_bounded_in_steps(tmp_path, limit):
    """What is no larger than so many steps cannot be said before it has steps; other limits hold as ever."""
    (tmp_path / "recipe.yaml").write_text(dump_recipe(tiny_recipe(stages=[{"name": "a", "steps": {"mlm": "2 epochs"}}])))
    with pytest.raises(
        ConfigError, match=r"at_(most|least): stages.0.steps.mlm is 2 epochs, .* write some there, such as stages.0.steps.mlm=1500"
    ):
        load_recipe([tmp_path / "recipe.yaml"], [limit])
    assert load_recipe([tmp_path / "recipe.yaml"], [limit, "stages.0.steps.mlm=5"]).total_steps == 5
    assert load_recipe([tmp_path / "recipe.yaml"], ["at_most.batch.rows=4"]).batch.rows == 4

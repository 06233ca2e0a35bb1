"""The recipe: what it refuses, and which of its settings name a run."""

import contextlib
import json
from functools import reduce
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from ptm_dist.changes import Change, tag_of
from ptm_dist.errors import ConfigError
from ptm_dist.optimizers import OPTIMIZERS
from ptm_dist.rates import RATES
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import dump_recipe, flatten, load_recipe, recipe_from_json, recipe_to_json
from ptm_dist.recipe_parts import Batch
from tests.tiny import PLAIN, tiny_recipe

ALLOWED = {
    "paper",
    "batch.micro",
    "engine.workers",
    "engine.threads",
    "engine.zero_stage",
    "engine.timeout_seconds",
    "engine.determinism",
    "checkpoint.every_steps",
    "checkpoint.keep_last",
    "evaluate.every_steps",
    "evaluate.rows",
    "data.loader_processes",
    "data.prefetch_steps",
    "metrics.host",
    "metrics.port",
}
"""What a run may be resumed with other values of. A new setting belongs here only if it changes no weight."""
FOR_A_REASON = "optimizer.", "engine.precision"

EXTENSION = {"after_steps": 40, "rate": "hold"}
GROWTH = {"start": 0.5, "steps": 10}
CONTINUAL = {"kind": "continual_multi_task", "tasks": ["mlm"], "steps_per_task": 40}
MLM = recipe_to_json(tiny_recipe())["tasks"]["mlm"]
TOGETHER = {
    "batch.tokens": {"batch.rows": None, "batch.tokens": 64},
    "schedule": {"schedule": CONTINUAL, "stages": []},
    "batch.warmup": {"batch.warmup": GROWTH},
    "extended": {"extended": EXTENSION},
    "corpus.units": {"corpus.units": {"kind": "english"}},
    "tasks.mlm.heads_of": {"tasks": {"mlm": MLM | {"heads_of": "other"}, "other": MLM}},
    "tasks.mlm.objectives.0.most": {"tasks.mlm.objectives.0.most": 5, "tasks.mlm.objectives.0.choose": "budget"},
    "tasks.mlm.objectives.0.spans": {"tasks.mlm.objectives.0.spans": {"kind": "ngrams"}, "tasks.mlm.objectives.0.choose": "budget"},
}
"""Settings that cannot change alone."""


def choices(node):
    """Yield every word that the schema lists as a choice."""
    if isinstance(node, dict):
        yield from (word for word in node.get("enum", ()) if isinstance(word, str))
        yield from (word for child in node.values() for word in choices(child))
    elif isinstance(node, list):
        yield from (word for child in node for word in choices(child))


WORDS = sorted(set(choices(Recipe.model_json_schema())))


def others(value):
    """Yield values of the kind of `value` that differ from it."""
    match value:
        case bool():
            yield not value
        case int():
            yield from (value + 1, value - 1, 2 * value)
        case float():
            yield value / 2 or 0.25
        case str():
            yield from (word for word in [*WORDS, "other"] if word != value)
        case None:
            yield from ("other", 5)
        case [float(), *_]:
            yield [item / 2 for item in value]
        case list():
            yield from ([*value, "other"], [*value, "own"], [*value, 5])
        case dict():
            yield {"other": 5}


def with_values(changes):
    """Return the tiny recipe, every default written out, with other values at some dotted paths."""
    plain = recipe_to_json(tiny_recipe())
    for path, value in changes.items():
        *parents, last = path.split(".")
        node = reduce(lambda node, key: node[int(key) if isinstance(node, list) else key], parents, plain)
        node[int(last) if isinstance(node, list) else last] = value
    return recipe_from_json(plain)


def changed(key):
    """Yield recipes in which the setting `key`, and no other unless it must, has another value."""
    for value in others(FLAT[key]):
        with contextlib.suppress(ConfigError):
            yield with_values(TOGETHER.get(key, {key: value}))


FLAT = flatten(tiny_recipe())
ONE_CHOICE = {key for key in FLAT if next(changed(key), None) is None}


def test_only_kinds_and_units_have_one_choice():
    assert {key.rpartition(".")[2] for key in ONE_CHOICE} <= {"kind", "unit", "trackers"}


def test_the_table_names_settings_that_exist():
    assert set(FLAT) >= ALLOWED


@pytest.mark.parametrize("key", sorted(set(FLAT) - ONE_CHOICE))
def test_the_digest_follows_what_decides_the_weights_and_nothing_else(key):
    recipe = next(changed(key))
    assert recipe != tiny_recipe()
    assert (recipe.digest == tiny_recipe().digest) == (key in ALLOWED)
    expected = "allowed" if key in ALLOWED else "reason" if key.startswith(FOR_A_REASON) else "frozen"
    assert tiny_recipe().change_of(key) == expected


def sections(section=Recipe):
    """Yield every model of the schema whose fields are tagged one by one."""
    yield section
    for field in section.model_fields.values():
        for found in (field.annotation, *get_args(field.annotation)):
            if isinstance(found, type) and issubclass(found, BaseModel) and hasattr(found, "change"):
                yield from sections(found)


def test_every_key_has_a_tag():
    found = {section.__name__ for section in sections()}
    assert found >= {"Recipe", "Batch", "BatchWarmup", "Engine", "Checkpoints", "Evaluation", "Data", "Metrics", "Extension"}
    known = [*sections(), *OPTIMIZERS.values(), *RATES.values()]
    assert all(tag_of(section, field) in get_args(Change) for section in known for field in section.model_fields)


class TestLearningRate:
    PLAN = {"optimizer": {"learning_rate": 1.0, "schedule": {"kind": "linear", "warmup_steps": 10}}}

    @pytest.mark.parametrize("rate", ["stretch", "hold", "restart"])
    def test_beyond_the_planned_steps(self, rate):
        """40 steps were planned, so that step 39 had 1 of 30 parts of the peak; 70 it becomes."""
        longer = tiny_recipe(**self.PLAN, stages=[{"name": "main", "steps": {"mlm": 70}}], extended={"after_steps": 40, "rate": rate})
        before = tiny_recipe(**self.PLAN)
        kept = range(40) if rate != "stretch" else ()
        assert [longer.learning_rate(step) for step in kept] == [before.learning_rate(step) for step in kept]
        found = [longer.learning_rate(40), longer.learning_rate(49), longer.learning_rate(69)]
        exact = {"stretch": [30 / 60, 21 / 60, 1 / 60], "hold": [1 / 30] * 3, "restart": [0.1, 0.9, 1 / 20]}[rate]
        assert found == pytest.approx(exact)

    def test_stages_may_each_warm_up(self):
        schedule = {"kind": "linear", "warmup_steps": 10, "restart": "stage"}
        stages = [{"name": "a", "steps": {"mlm": 20}}, {"name": "b", "steps": {"mlm": 40}}]
        recipe = tiny_recipe(optimizer={"learning_rate": 1.0, "schedule": schedule}, stages=stages)
        found = [recipe.learning_rate(step) for step in (5, 10, 15, 25, 30, 45)]
        assert found == pytest.approx([0.5, 1.0, 0.5, 0.5, 1.0, 0.5])


class TestDigest:
    def test_it_is_a_sha256_and_does_not_depend_on_the_writing(self):
        reversed_keys = json.dumps(dict(reversed(PLAIN.items())))
        assert Recipe.model_validate_json(reversed_keys).digest == tiny_recipe().digest
        assert len(tiny_recipe().digest) == 64

    def test_defaults_written_out_are_the_same_recipe(self, tmp_path):
        path = tmp_path / "whole.yaml"
        path.write_text(dump_recipe(tiny_recipe()))
        assert load_recipe([path]).digest == tiny_recipe().digest

    def test_one_is_one_point_zero(self):
        one, other = (tiny_recipe(optimizer={"clip_norm": value}) for value in (1, 1.0))
        assert one.digest == other.digest

    def test_the_names_of_tasks_and_stages_and_their_order_count(self):
        two = [{"name": "a", "steps": {"mlm": 1}}, {"name": "b", "steps": {"mlm": 2}}]
        assert tiny_recipe(stages=two).digest != tiny_recipe(stages=two[::-1]).digest

    def test_it_is_known(self):
        frozen = tiny_recipe().frozen()
        assert frozen["batch"] == {"rows": 16, "tokens": None, "warmup": None, "lanes": 8}
        assert frozen["engine"] == {"precision": "fp32"}
        assert frozen["tasks"]["mlm"]["objectives"][0]["kind"] == "masked_lm"


FORMAT, OBJECTIVE = "tasks.mlm.format", "tasks.mlm.objectives.0"
REFUSED = [
    ({"batch.rows": None}, "batch: give either rows or tokens"),
    ({"batch.tokens": 5}, "batch: give either rows or tokens"),
    ({"model.hidden": 33}, "model: hidden 33 is not a multiple of heads 2"),
    ({"model.positions": 16}, "tasks.mlm.format.length 32 exceeds the model's positions 16"),
    ({"stages.0.steps.nsp": 5}, "stages.0.steps: 'nsp' is not defined; there are: mlm"),
    ({"tasks.mlm.sources": ["wiki"]}, "tasks.mlm.sources: 'wiki' is not defined; there are: own"),
    ({"stages.0.steps.mlm": 0}, "stages.0.steps.mlm: 0 should be greater than 0"),
    ({"stages": []}, "stages: give these or a schedule"),
    ({"schedule": CONTINUAL, "stages.0.name": "stage-1"}, "stages: two are named 'stage-1'; give one of them another name"),
    ({"extended": EXTENSION | {"sources": ["wiki"]}}, "extended.sources: 'wiki' is not defined; there are: own"),
    (
        {"model": {"kind": "ernie", "task_types": 1}, "tasks": {"mlm": MLM, "other": MLM}},
        "model.task_types 1: there are 2 tasks, and each needs a row",
    ),
    ({"sources": 3}, "sources: 3 is a number; write a mapping"),
    ({"name": "a/b"}, 'name: "a/b" should match pattern'),
    ({"name": "x" * 65}, "name: "),
    ({"checkpoint.keep_last": 1}, "checkpoint.keep_last: 1 should be greater than or equal to 2"),
    ({"optimizer.learning_rate": 0}, "optimizer.learning_rate: 0 should be greater than 0"),
    ({"optimizer.betas": [0.9, 1.5]}, "optimizer.betas.1: 1.5 should be less than 1"),
    ({"stages.0.rows": 4, "stages.0.tokens": 64}, "stages.0: give either rows or tokens"),
    ({OBJECTIVE: {"kind": "masked_lm", "unit": "word"}}, f"{OBJECTIVE}: masked_lm hides words, phrases or entities here; add corpus.units"),
    ({FORMAT: {"kind": "token_labels", "label": "capital", "length": 32}}, f"{FORMAT}: token_labels needs to know words; add corpus.units"),
    ({OBJECTIVE: {"kind": "bidirectional_lm"}}, f"{OBJECTIVE}: bidirectional_lm does not go with full_sentences"),
    (
        {FORMAT: {"kind": "reordered_sentences", "length": 32}, OBJECTIVE: {"kind": "classify_sequence", "classes": 9}},
        f"{OBJECTIVE}.classes is 9, but reordered_sentences makes 33 classes",
    ),
    (
        {FORMAT: {"kind": "memory_segments", "length": 32}},
        "batch.rows 16: the rows of tasks.mlm go on from batch to batch, one in each lane",
    ),
    (
        {"model": {"kind": "bert", "intermediate": 8}, FORMAT: {"kind": "reordered_sentences", "most": 3, "length": 32}},
        "model.segments 2: rows of tasks.mlm have 3 segments; write that",
    ),
    ({"model": {"kind": "xlnet", "memory_length": 8}}, "model.memory_length 8: the rows of tasks.mlm do not go on from one another"),
    (
        {"model": {"kind": "xlnet", "memory_length": 8}, FORMAT: {"kind": "memory_segments", "length": 32}, "batch.rows": 8},
        "model.reuse_length 0: the rows of tasks.mlm advance by 16 tokens; write that",
    ),
    ({"tasks.mlm.heads_of": "nsp"}, "tasks.mlm.heads_of: 'nsp' is not defined; there are: mlm"),
    ({"tasks.mlm.heads_of": "mlm"}, "tasks.mlm.heads_of: mlm has the heads of mlm itself; write that"),
    (
        {"tasks": {"mlm": MLM | {"heads_of": "other"}, "other": MLM | {"objectives": [{"kind": "causal_lm"}]}}},
        "tasks.mlm.heads_of: other has no masked_lm with as many classes",
    ),
    ({"metrics.port": 70000}, "metrics.port: 70000 should be less than or equal to 65535"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=str)
def test_refused(changes, message):
    with pytest.raises(ConfigError) as error:
        with_values(changes)
    assert str(error.value).startswith(message)


CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_that_is_shipped_is_one(path):
    recipe = load_recipe([path])
    assert recipe.name == path.stem
    assert recipe.total_steps > 0


@pytest.mark.parametrize("section", ["sources", "tasks"])
def test_nothing_to_train_on_is_refused(section):
    with pytest.raises(ValidationError, match="at least 1 item"):
        Recipe.model_validate_json(json.dumps(PLAIN | {section: {}}))


class TestRecipe:
    def test_it_never_changes(self):
        with pytest.raises(ValidationError, match="frozen"):
            tiny_recipe().seed = 3  # pyright: ignore[reportAttributeAccessIssue]

    def test_total_steps_add_up(self):
        stages = [{"name": "a", "steps": {"mlm": 3}}, {"name": "b", "steps": {"mlm": 4}}]
        assert tiny_recipe(stages=stages).total_steps == 7

    def test_no_source_named_means_all(self):
        both = {"b": PLAIN["sources"]["own"], "a": PLAIN["sources"]["own"]}
        assert tiny_recipe(sources=both).sources_of("mlm") == ["a", "b", "own"]
        assert tiny_recipe(sources=both, tasks={"mlm": {"sources": ["b"]}}).sources_of("mlm") == ["b"]

    def test_rows_follow_from_tokens(self):
        assert Batch(rows=16).rows_of(30.0) == 16
        assert Batch(tokens=1000).rows_of(30.0) == 33
        assert Batch(tokens=10).rows_of(30.0) == 1

    def test_a_schedule_stands_for_stages(self):
        plain = tiny_recipe().model_dump(mode="json")
        schedule = {"kind": "continual_multi_task", "tasks": ["mlm", "two"], "steps_per_task": 30}
        made = plain | {"tasks": {"mlm": plain["tasks"]["mlm"], "two": plain["tasks"]["mlm"]}, "stages": [], "schedule": schedule}
        recipe = Recipe.model_validate_json(json.dumps(made))
        assert [stage.steps for stage in recipe.planned_stages] == [{"mlm": 20}, {"mlm": 10, "two": 30}]
        assert recipe.total_steps == 60
        assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
        for wrong in (made | {"schedule": None}, made | {"tasks": plain["tasks"]}):
            with pytest.raises(ValidationError, match=r"give these or a schedule|'two' is not defined"):
                Recipe.model_validate_json(json.dumps(wrong))

    def test_tasks_count_as_they_join(self):
        tasks = dict.fromkeys(["zoo", "mlm", "act", "never"], PLAIN["tasks"]["mlm"])
        schedule = {"kind": "continual_multi_task", "tasks": ["zoo", "mlm"], "steps_per_task": 30}
        recipe = tiny_recipe(tasks=tasks, schedule=schedule, stages=[{"name": "more", "steps": {"act": 1, "zoo": 1}}])
        assert recipe.task_numbers == {"zoo": 0, "mlm": 1, "act": 2, "never": 3}
        assert Recipe.model_validate_json(json.dumps(recipe.model_dump(mode="json"), sort_keys=True)).task_numbers == recipe.task_numbers

    @given(
        st.lists(st.sets(st.sampled_from("abcdef"), min_size=1), min_size=1, max_size=4), st.sets(st.sampled_from("ABCDghi"), min_size=1)
    )
    def test_a_task_that_joins_moves_no_other(self, planned, joining):
        def numbers(*stages):
            tasks = dict.fromkeys(set().union(*stages), PLAIN["tasks"]["mlm"])
            plain = [{"name": f"s{number}", "steps": dict.fromkeys(stage, 1)} for number, stage in enumerate(stages)]
            return Recipe.model_validate_json(json.dumps(PLAIN | {"tasks": tasks, "stages": plain})).task_numbers

        before, after = numbers(*planned), numbers(*planned, joining)
        assert {task: after[task] for task in before} == before
        assert sorted(after.values()) == list(range(len(after)))

    def test_stages_follow_those_of_a_schedule(self):
        recipe = tiny_recipe(schedule=CONTINUAL, stages=[{"name": "more", "steps": {"mlm": 5}, "rows": 8}])
        assert [(stage.name, stage.steps) for stage in recipe.planned_stages] == [("stage-1", {"mlm": 40}), ("more", {"mlm": 5})]
        assert recipe.total_steps == 45
        assert recipe.stage_ends == {40: "after-stage-1"}

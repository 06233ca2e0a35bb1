"""A sweep is every combination of some values, each a run with a name of its own, and its table is what the runs say."""

import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.driver.run import Places, Watcher
from ptm_dist.driver.sweep import (
    Axis,
    axes_of,
    cause_text,
    figures_of,
    known_failures,
    labels,
    planned,
    run_name,
    split_values,
    write_table,
)
from ptm_dist.driver.sweep_queue import Queue, Room
from ptm_dist.errors import ConfigError, RunOwnedError
from ptm_dist.recipe_io import overlaid
from ptm_dist.recipe_yaml import parse
from ptm_dist.run import RunFolder
from tests.tiny import tiny_recipe

TEXTS = st.text(st.characters(categories=["L", "N", "P", "S"]) | st.sampled_from(" ,[]{}\"'\\:"), max_size=8)
LEAVES = st.one_of(st.integers(), st.booleans(), st.floats(-1e6, 1e6), TEXTS)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=2), max_leaves=6)


def make(overrides):
    return overlaid(tiny_recipe(), [], overrides)


def plan(*overrides, path=None):
    shared, axes = axes_of(overrides)
    return planned(axes, lambda chosen: make([*shared, *chosen]), path)


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_whatever_values_are_joined_by_commas_are_split_again(values):
    texts = [json.dumps(value, ensure_ascii=False) for value in values]
    assert split_values(",".join(texts)) == texts
    assert [parse(text, "")[0] for text in texts] == values


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1e-4,3e-4", ["1e-4", "3e-4"]),
        ("1", ["1"]),
        ("[1,2],[3]", ["[1,2]", "[3]"]),
        ("{kind: adamw, learning_rate: 1e-3}, {kind: lamb}", ["{kind: adamw, learning_rate: 1e-3}", "{kind: lamb}"]),
        ('"a,b",c', ['"a,b"', "c"]),
        ("'it''s, so',x", ["'it''s, so'", "x"]),
        ("it's,hers", ["it's", "hers"]),
        (r'"a\",b",c', [r'"a\",b"', "c"]),
        ("a,,b", ["a", "", "b"]),
    ],
)
def test_commas_in_quotes_and_brackets_belong_to_a_value(text, parts):
    assert split_values(text) == parts


def test_a_sweep_is_every_combination_in_order():
    sweep = plan("seed=1,2", "optimizer.learning_rate=1e-3,3e-3", "batch.rows=32")
    assert [run.values for run in sweep.runs] == [
        {"seed": "1", "optimizer.learning_rate": "1e-3"},
        {"seed": "1", "optimizer.learning_rate": "3e-3"},
        {"seed": "2", "optimizer.learning_rate": "1e-3"},
        {"seed": "2", "optimizer.learning_rate": "3e-3"},
    ]
    assert [(run.recipe.seed, run.recipe.optimizer.learning_rate, run.recipe.batch.rows) for run in sweep.runs] == [
        (1, 1e-3, 32),
        (1, 3e-3, 32),
        (2, 1e-3, 32),
        (2, 3e-3, 32),
    ]
    assert [run.name for run in sweep.runs][:2] == ["tiny-seed-1-learning_rate-1e-3", "tiny-seed-1-learning_rate-3e-3"]
    assert all(run.recipe.name == run.name and run.path == sweep.path / run.name for run in sweep.runs)


def test_the_directory_is_that_of_the_same_command_and_of_no_other():
    path = plan("seed=1,2").path
    assert re.fullmatch(r"runs/sweep-[0-9a-f]{8}", str(path))
    assert plan("seed=1,2").path == path
    assert plan("seed=1,3").path != path
    assert plan("seed=1,2", "batch.rows=32").path != path


def test_kinds_and_places_in_lists_vary_too():
    sweep = plan("optimizer.kind=adamw,lamb", "optimizer.learning_rate=1e-3", "stages[0].steps.mlm=8,16")
    assert [(run.recipe.optimizer.kind, run.recipe.total_steps) for run in sweep.runs] == [
        ("adamw", 8),
        ("adamw", 16),
        ("lamb", 8),
        ("lamb", 16),
    ]
    assert sweep.runs[0].name == "tiny-kind-adamw-mlm-8"


def test_settings_that_enter_no_digest_make_runs_of_their_own():
    names = [run.name for run in plan("engine.workers=1,2").runs]
    assert names == ["tiny-workers-1", "tiny-workers-2"]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["seed=1"], "nothing varies"),
        ([], "nothing varies"),
        (["seed=1,2", "seed=3"], "seed: given 2 times"),
        (["stages.0.steps.mlm=1,2", "stages[0].steps.mlm=3,4"], "stages.0.steps.mlm: given 2 times"),
        (["seed=1,,2"], "a value is empty"),
        (["seed=1,2,1"], "the value 1 is given twice"),
        (["name=a,b"], "a sweep names its runs itself"),
        (["optimizer.learning_rate=1e-3,0.001"], "are the same recipe"),
        ([f"seed={','.join(map(str, range(40)))}", f"batch.rows={','.join(map(str, range(8, 48)))}"], "1,600 runs; 1,000 is the most"),
        (["optimizer.learning_rat=1,2"], "learning_rate"),
    ],
)
def test_what_is_no_sweep_is_refused(overrides, problem):
    with pytest.raises(ConfigError, match=problem):
        plan(*overrides)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){0,3}", fullmatch=True),
        st.lists(st.text(min_size=1), min_size=2, max_size=3, unique=True),
        min_size=1,
        max_size=3,
    )
)
def test_names_are_names_and_never_those_of_another_combination(axes):
    names = [run_name("base", dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name) for name in names)
    told_apart = {name.strip("\"'") for values in axes.values() for name in values}
    if len(told_apart) == sum(len(values) for values in axes.values()):
        assert len(set(names)) == len(names)


def test_labels_are_as_short_as_they_can_be():
    assert labels(["optimizer.learning_rate", "seed"]) == {"optimizer.learning_rate": "learning_rate", "seed": "seed"}
    keys = ["stages.0.steps.mlm", "stages.1.steps.mlm"]
    assert labels(keys) == {keys[0]: "0.steps.mlm", keys[1]: "1.steps.mlm"}
    assert labels(["rows", "batch.rows"]) == {"rows": "rows", "batch.rows": "batch.rows"}


def write_events(run, *events):
    run.path.mkdir(parents=True)
    RunFolder(run.path).events_path.write_text("".join(json.dumps(event) + "\n" for event in events))


def test_the_table_says_what_the_event_logs_say_best_first(tmp_path):
    sweep = plan("seed=1,2,3", path=tmp_path / "sweep")
    worse, better, _ = sweep.runs

    def step(number, seconds):
        return {"event": "step", "step": number, "tokens": 100, "seconds": seconds, "loss": 1.0}

    def measured(loss):
        return {"event": "evaluated", "step": 2, "task": "mlm", "objective": "masked_lm", "loss": loss}

    write_events(worse, {"event": "attempt_started", "step": 0}, step(0, 9.0), step(1, 0.5), measured(7.0), step(2, 1.5), measured(5.0))
    write_events(better, measured(4.0))
    failure = (50, "the loss is not finite")
    rows = write_table(
        sweep,
        [
            figures_of(run, state, why)
            for run, state, why in zip(sweep.runs, ["finished", "failed", "waiting"], [None, failure, None], strict=True)
        ],
    )
    assert [row["name"] for row in rows] == ["tiny-seed-2", "tiny-seed-1", "tiny-seed-3"], "the last word counts, and none comes last"
    assert rows[1]["held_out"] == {"mlm": 5.0}
    assert rows[1]["tokens_per_second"] == 100.0, "the first step of an attempt pays for warm-up"
    assert (rows[1]["step"], rows[1]["total_steps"]) == (3, 40)
    assert (rows[2]["step"], rows[2]["held_out"], rows[2]["tokens_per_second"]) == (0, {}, None)
    assert json.loads((sweep.path / "sweep.json").read_text()) == {"axes": {"seed": ["1", "2", "3"]}, "runs": rows}
    assert known_failures(sweep) == {"tiny-seed-2": "the loss is not finite"}


def test_a_run_that_diverged_comes_last(tmp_path):
    sweep = plan("seed=1,2", path=tmp_path / "sweep")
    for run, loss in zip(sweep.runs, (float("nan"), 6.0), strict=True):
        write_events(run, {"event": "evaluated", "step": 0, "task": "mlm", "objective": "masked_lm", "loss": loss})
    rows = write_table(sweep, [figures_of(run, "finished") for run in sweep.runs])
    assert [(row["name"], row["held_out"]) for row in rows] == [("tiny-seed-2", {"mlm": 6.0}), ("tiny-seed-1", {})]


def test_of_several_objectives_each_is_told_by_its_name(tmp_path):
    objectives = [{"kind": "masked_lm"}, {"kind": "classify_sequence"}]
    tasks = {"mlm": {"format": {"kind": "sentence_pair", "length": 32}, "objectives": objectives}}
    sweep = planned((Axis("seed", ("1", "2")),), lambda chosen: overlaid(tiny_recipe(tasks=tasks), [], chosen), tmp_path)
    write_events(
        sweep.runs[0], *({"event": "evaluated", "step": 0, "task": "mlm", "objective": o["kind"], "loss": 1.0} for o in objectives)
    )
    assert figures_of(sweep.runs[0], "running").held_out == {"mlm masked_lm": 1.0, "mlm classify_sequence": 1.0}


def queue_of(tmp_path, *overrides, parallel=None):
    sweep = plan(*overrides, path=tmp_path / "sweep")
    return sweep, Queue(
        sweep, Places(sweep.path, tmp_path / "cache", "local"), Watcher(lambda *_: None, lambda _: None, lambda _: None), parallel
    )


def test_runs_start_while_there_is_room(tmp_path):
    sweep, queue = queue_of(tmp_path, "engine.workers=1,2,4", "seed=1,2")
    small, middle, large = (run for run in sweep.runs if run.recipe.seed == 1)
    room = Room(cpus=3.0, gpus=0.0)
    assert queue._may_start(middle, [small], room)
    assert not queue._may_start(middle, [middle], room)
    assert queue._may_start(large, [], room), "alone it waits for a cluster that grows"
    assert not queue._may_start(large, [small], room)
    assert queue._may_start(small, [middle], Room(cpus=8.0, gpus=3.0))
    assert not queue._may_start(middle, [middle], Room(cpus=8.0, gpus=3.0)), "a GPU for each worker"
    _, narrow = queue_of(tmp_path, "seed=1,2", parallel=1)
    assert not narrow._may_start(small, [small], Room(cpus=64.0, gpus=0.0))


def test_a_second_sweep_over_the_same_runs_is_refused(tmp_path):
    sweep, queue = queue_of(tmp_path, "seed=1,2")
    sweep.path.mkdir()
    with RunFolder(sweep.path).owned("sweep"), pytest.raises(RunOwnedError):
        queue.work()


def test_every_end_of_a_process_has_words():
    assert "not finite" in cause_text(50)
    assert cause_text(-9) == "ended by signal 9"
    assert cause_text(3) == "exit code 3"

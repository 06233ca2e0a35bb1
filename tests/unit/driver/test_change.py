"""Longer runs and forks: what is asked, what is refused, what history says."""

from pathlib import Path

import pytest

from ptm_dist.driver.change import extended, fork
from ptm_dist.errors import ConfigError, ResumeMismatchError
from ptm_dist.prepared import DataFolders
from ptm_dist.report import Run
from ptm_dist.run import RunFolder
from ptm_dist.train.committed import name_of, pins_of
from tests.tiny import PLAIN, tiny_recipe

TASK = PLAIN["tasks"]["mlm"]
TWO = {"tasks": {"mlm": TASK, "other": TASK}}


def claimed(path, **changes):
    run = RunFolder(path / "run")
    run.claim(tiny_recipe(**changes))
    return run


def stages(*steps, **changes):
    return tiny_recipe(stages=[{"name": f"s{number}", "steps": counts} for number, counts in enumerate(steps)], **changes)


def test_a_new_run_and_one_that_is_no_longer_are_left_alone(tmp_path):
    recipe = tiny_recipe()
    assert extended(RunFolder(tmp_path / "new"), recipe, None) == recipe
    assert extended(claimed(tmp_path), recipe, None) == recipe


def test_the_question_shows_every_rate(tmp_path):
    run = claimed(tmp_path, optimizer={"learning_rate": 1e-3, "schedule": {"kind": "linear", "warmup_steps": 0}})
    with pytest.raises(ConfigError) as error:
        extended(run, run.recipe().model_copy(update={"stages": stages({"mlm": 80}).stages}), None)
    # 1 of 40 parts is left at the end, 40 of 80 are where the shape is stretched.
    for text in ("planned for 40 steps", "is 2.5e-05", "stretch (the shape over all steps; 0.0005 at step 40)", "hold (stays at 2.5e-05)"):
        assert text in str(error.value)


def test_the_answer_is_written_into_the_run(tmp_path):
    run = claimed(tmp_path)
    before = run.recipe().digest
    longer = extended(run, tiny_recipe(stages=[{"name": "main", "steps": {"mlm": 60}}]), "hold")
    assert run.recipe() == longer
    assert (longer.extended.after_steps, longer.extended.rate) == (40, "hold")
    assert run.history()[0]["because"] == "extended from 40 to 60 steps, rate: hold"
    assert {before, longer.digest} == run.known_digests()
    assert extended(run, tiny_recipe(stages=[{"name": "main", "steps": {"mlm": 60}}]), None) == longer


@pytest.mark.parametrize(
    ("steps", "fine"),
    [
        (({"mlm": 20, "other": 20}, {"mlm": 5}), True),
        (({"mlm": 40, "other": 40},), True),
        (({"mlm": 20, "other": 30},), False),
        (({"mlm": 60, "other": 20},), False),
    ],
)
def test_steps_that_were_planned_stay_what_they_are(tmp_path, steps, fine):
    run = RunFolder(tmp_path / "run")
    run.claim(stages({"mlm": 20, "other": 20}, **TWO))
    if fine:
        assert extended(run, stages(*steps, **TWO), "stretch").extended
        return
    with pytest.raises(ConfigError, match="would be of other tasks"):
        extended(run, stages(*steps, **TWO), "stretch")


def test_batches_that_were_planned_stay_what_they_are(tmp_path):
    run = claimed(tmp_path)
    first, more = {"name": "main", "steps": {"mlm": 40}}, {"name": "more", "steps": {"mlm": 5}, "rows": 4}
    with pytest.raises(ConfigError, match="would be of other tasks or batches"):
        extended(run, tiny_recipe(stages=[first | {"rows": 8}, more]), "hold")
    assert extended(run, tiny_recipe(stages=[first, more]), "hold").total_steps == 45


def test_a_new_stage_with_its_own_warm_up_asks_nothing(tmp_path):
    schedule = {"optimizer": {"schedule": {"kind": "linear", "warmup_steps": 5, "restart": "stage"}}}
    run = RunFolder(tmp_path / "run")
    run.claim(stages({"mlm": 20}, **schedule))
    longer = extended(run, stages({"mlm": 20}, {"mlm": 10}, **schedule), None)
    assert longer.total_steps == 30
    assert [longer.learning_rate(step) for step in range(20)] == [run.recipe().learning_rate(step) for step in range(20)]


SOURCE = PLAIN["sources"]["own"]
NAMED = TASK | {"sources": ["own"]}
JOINED = {"tasks": {"mlm": NAMED, "other": NAMED | {"sources": ["own", "new"]}}, "sources": {"new": SOURCE}}


def test_a_task_joins_with_its_source(tmp_path):
    run = claimed(tmp_path)
    longer = extended(run, stages({"mlm": 40}, {"mlm": 5, "other": 5}, **JOINED), "hold")
    assert (longer.extended.after_steps, longer.later_sources) == (40, ("new",))
    assert run.recipe() == longer
    run.claim(longer)
    further = {"tasks": JOINED["tasks"] | {"third": NAMED | {"sources": ["a"]}}, "sources": {"a": SOURCE, "new": SOURCE}}
    again = extended(run, stages({"mlm": 40}, {"mlm": 5, "other": 5}, {"third": 5}, **further), "hold")
    assert (again.extended.after_steps, again.later_sources) == (50, ("new", "a")), "in the order in which they joined, not of names"


def test_tasks_keep_their_rows_whatever_the_name_of_a_new_one(tmp_path):
    run = claimed(tmp_path)
    longer = extended(run, stages({"mlm": 40}, {"mlm": 5, "early": 5}, tasks={"mlm": TASK, "early": TASK}), "hold")
    assert longer.task_numbers == run.recipe().task_numbers == {"mlm": 0, "early": 1}


def test_a_source_that_would_join_an_old_task(tmp_path):
    run = claimed(tmp_path)
    wide = JOINED | {"tasks": JOINED["tasks"] | {"mlm": TASK}}
    with pytest.raises(ConfigError, match=r"tasks.mlm.sources: none are named, .* and new would join .* Name its sources: \[own\]"):
        extended(run, stages({"mlm": 40}, {"other": 5}, **wide), "hold")
    wider = JOINED | {"tasks": JOINED["tasks"] | {"mlm": NAMED | {"sources": ["own", "new"]}}}
    changed = extended(run, stages({"mlm": 40}, {"other": 5}, **wider), "hold")
    with pytest.raises(ResumeMismatchError, match=r"tasks\.mlm\.sources: .* -> "):
        run.claim(changed)


def test_a_task_that_is_there_stays_what_it_is(tmp_path):
    run = claimed(tmp_path)
    other = {"tasks": {"mlm": TASK | {"format": {"kind": "full_sentences", "length": 16}}, "other": TASK}}
    changed = extended(run, stages({"mlm": 40}, {"other": 5}, **other), "hold")
    with pytest.raises(ResumeMismatchError, match=r"tasks\.mlm\.format\.length: 32 -> 16"):
        run.claim(changed)
    with pytest.raises(ResumeMismatchError, match=r"tasks\.other"):
        run.claim(extended(run, tiny_recipe(**TWO), "hold"))
    assert run.recipe() == tiny_recipe()


def test_another_task_in_a_schedule_would_move_the_others(tmp_path):
    schedule = {"kind": "continual_multi_task", "tasks": ["mlm", "other"], "steps_per_task": 30}
    run = RunFolder(tmp_path / "run")
    run.claim(tiny_recipe(schedule=schedule, stages=[], **TWO))
    three = {"tasks": TWO["tasks"] | {"third": TASK}}
    with pytest.raises(ConfigError, match="keep stages and schedule as they are and write it last under stages"):
        extended(run, tiny_recipe(schedule=schedule | {"tasks": ["mlm", "other", "third"]}, stages=[], **three), "hold")
    last = [{"name": "third", "steps": {"mlm": 10, "other": 10, "third": 10}}]
    longer = extended(run, tiny_recipe(schedule=schedule, stages=last, **three), "hold")
    assert [stage.steps for stage in longer.planned_stages] == [{"mlm": 20}, {"mlm": 10, "other": 30}, last[0]["steps"]]


@pytest.mark.parametrize(
    ("more", "kept"), [({"s1": {"mlm": 5}}, ("after-s0",)), ({"s0": {"mlm": 45}}, ())], ids=["a stage more", "a longer stage"]
)
def test_the_end_of_a_finished_run_is_kept_where_a_stage_ends(tmp_path, more, kept):
    run = RunFolder(tmp_path / "run")
    run.claim(stages({"mlm": 40}))
    (run.checkpoints / name_of(40)).mkdir(parents=True)
    steps = {"s0": {"mlm": 40}} | more
    extended(run, tiny_recipe(stages=[{"name": name, "steps": counts} for name, counts in steps.items()]), "hold")
    assert pins_of(run.checkpoints, 40) == kept


def test_other_changes_are_not_a_longer_run(tmp_path):
    run = claimed(tmp_path)
    both = tiny_recipe(seed=8, stages=[{"name": "main", "steps": {"mlm": 60}}])
    assert extended(run, both, "hold") == both
    with pytest.raises(ResumeMismatchError, match="seed: 7 -> 8"):
        run.claim(both)


def test_a_reason_is_kept_and_an_allowed_change_needs_none(tmp_path):
    run = claimed(tmp_path)
    run.claim(tiny_recipe(engine={"workers": 1}))
    assert run.history() == []
    hotter = tiny_recipe(optimizer={"learning_rate": 1.0})
    with pytest.raises(ResumeMismatchError, match="--because"):
        run.claim(hotter)
    run.claim(hotter, because="an experiment")
    assert run.history()[0]["changes"] == [["optimizer.learning_rate", 3e-3, 1.0], ["engine.workers", 1, 2]]


def test_a_fork_keeps_model_and_tokens(tmp_path, monkeypatch):
    run = claimed(tmp_path)
    monkeypatch.setattr(Run, "checkpoint", lambda self, step: tmp_path / "step")
    for change in ({"model": {"layers": 3}}, {"tokenizer": {"vocab_size": 512}}):
        with pytest.raises(ConfigError, match="a fork keeps weights and tokens"):
            fork(Run(run), 8, tiny_recipe(**change), tmp_path / "fork")
    with pytest.raises(ConfigError, match="there is a run here already"):
        fork(Run(run), 8, tiny_recipe(seed=8), run.path)


def test_a_fork_over_other_text_keeps_the_tokenizer_of_the_weights(tmp_path, monkeypatch):
    """Learned anew from other text, the same settings would give other ids, and the weights would mean other words."""
    run, step = claimed(tmp_path), tmp_path / "step-000000000008"
    step.mkdir()
    monkeypatch.setattr(Run, "checkpoint", lambda self, number: step)
    monkeypatch.setattr("ptm_dist.driver.change.verify", lambda path: None)
    run.set_data(DataFolders(tmp_path / "tokenizer-1" / "tokenizer", {}))
    fork(Run(run), 8, tiny_recipe(seed=8), tmp_path / "same")
    assert RunFolder(tmp_path / "same").recipe().tokenizer == tiny_recipe().tokenizer
    changes = fork(Run(run), 8, tiny_recipe(sources={"new": SOURCE}), tmp_path / "other")
    told = RunFolder(tmp_path / "other").recipe().tokenizer
    assert (told.kind, told.folder) == ("existing", str(tmp_path / "tokenizer-1" / "tokenizer"))
    assert ("tokenizer.kind", "byte_bpe", "existing") in changes


def test_data_that_join_leave_those_that_are_there(tmp_path):
    def data(tokenizer="tokenizer-1", cache="cache", **tasks):
        splits = {task: {split: Path(cache, made, split) for split in ("train", "validation")} for task, made in tasks.items()}
        return DataFolders(Path(cache, tokenizer, "tokenizer"), splits)

    run = claimed(tmp_path)
    run.set_data(data(mlm="examples-1"))
    run.checkpoints.mkdir()
    run.set_data(data(mlm="examples-1", other="examples-2", cache="elsewhere"))
    assert list(run.data().datasets) == ["mlm", "other"]
    for others, told in (
        (data(mlm="examples-3", other="examples-2"), "mlm.train, mlm.validation"),
        (data(mlm="examples-1"), "other.train, other.validation"),
        (data("tokenizer-2", mlm="examples-1", other="examples-2"), "tokenizer"),
    ):
        with pytest.raises(ResumeMismatchError, match=rf"other data, of {told} \("):
            run.set_data(others)
    assert not run.has_data

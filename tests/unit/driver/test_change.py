"""Longer runs and forks: what is asked, what is refused, what history says."""

import pytest

from ptm_dist.driver.change import extended, fork
from ptm_dist.errors import ConfigError, ResumeMismatchError
from ptm_dist.report import Run
from ptm_dist.run import RunFolder
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
    assert extended(RunFolder(tmp_path / "new"), recipe, None) is recipe
    assert extended(claimed(tmp_path), recipe, None) is recipe


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


def test_other_changes_are_not_a_longer_run(tmp_path):
    run = claimed(tmp_path)
    both = tiny_recipe(seed=8, stages=[{"name": "main", "steps": {"mlm": 60}}])
    assert extended(run, both, "hold") is both
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

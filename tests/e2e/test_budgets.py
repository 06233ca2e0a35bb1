"""Budgets: steps that the data and timed updates say, found once and kept through kills, forks and longer runs."""

import json

import pytest

from ptm_dist.driver import run as driver
from ptm_dist.driver.change import fork
from ptm_dist.driver.run import Places, Watcher, prepare_run, train_run, where_it_stands
from ptm_dist.errors import ConfigError, ResumeMismatchError
from ptm_dist.recipe_io import load_recipe, overlaid, read_recipe
from ptm_dist.report import Run
from ptm_dist.run import RunFolder
from ptm_dist.store import read_json
from tests.tiny import ledger, ptm, tiny_recipe

LOCAL = ("--launcher", "local")
ALONE = {"engine": {"workers": 1, "zero_stage": 0}}


def stages(*budgets):
    return [{"name": f"s{number}", "steps": {"mlm": budget}} for number, budget in enumerate(budgets)]


def places_of(run, **options):
    return Places(run.path, run.path / "cache", "local", **options)


def killed_at(step):
    return {"PTM_TESTING": "1", "PTM_FAULTS": json.dumps([{"point": "step.begin", "rank": 0, "step": step, "action": "kill", "count": 1}])}


def fewest(run, epochs, rows=16):
    """Return the updates that read `epochs` of the training data, counted one by one."""
    size = sum(chunk["rows"] for chunk in read_json(run.data().datasets["mlm"]["train"] / "manifest.json")["chunks"])
    read = updates = 0
    while read < epochs * size:
        read, updates = read + rows, updates + 1
    return updates


@pytest.fixture
def told():
    return []


@pytest.fixture
def watcher(told):
    return Watcher(lambda *_: None, lambda _: None, told.append)


@pytest.fixture
def driven(monkeypatch, told):
    """Take the place of what starts workers and of what times them: 0.25 seconds an update, and each use of either is told."""

    def timed(recipe, data, folder, launcher):
        told.append(f"timed with {launcher}")
        return dict.fromkeys(driver.in_hours(recipe), 0.25)

    def train(run, launcher, on_event, *supervised):
        told.append(f"trained for {run.recipe().total_steps} steps")

    monkeypatch.setattr(driver, "timed", timed)
    monkeypatch.setattr(driver, "train", train)


def test_epochs_are_exact_and_stay_through_a_kill_a_fork_and_more_of_them(make_run, tmp_path, watcher, told):
    run, file = make_run(stages=stages("1.25 epochs"), **ALONE)
    recipe, steps, more = load_recipe([file]), fewest(run, 1.25), fewest(run, 2)
    assert 8 < steps < more
    killed = ptm("train", file, "--run", run.path, *LOCAL, **killed_at(steps - 1))
    assert killed.returncode == 60, killed.stderr
    assert f"run {run.path}: new, 1.25 epochs of mlm\n" in killed.stdout
    assert f"stage s0: 1.25 epochs of mlm = {steps:,} steps of 16 rows\n" in killed.stdout
    assert read_recipe(run.recipe_path) == recipe.with_steps({("s0", "mlm"): steps})
    kept = run.budgets_path.read_bytes()

    train_run(recipe, places_of(run), watcher)
    assert len(told) == 1
    assert f"resuming at step 8 of {steps:,}" in told[0]
    assert sorted(dict(ledger(run.path))) == list(range(steps))

    longer = tiny_recipe(stages=stages("2 epochs"), **ALONE)
    with pytest.raises(ConfigError, match=f"planned for {steps} steps.* to {more}: --extend"):
        train_run(longer, places_of(run), watcher)
    assert run.budgets_path.read_bytes() == kept
    train_run(longer, places_of(run, extend="hold"), watcher)
    assert f"stage s0: 2 epochs of mlm = {more:,} steps of 16 rows" in told
    assert sorted(dict(ledger(run.path))) == list(range(more))
    train_run(tiny_recipe(stages=stages("2.0 epochs"), **ALONE), places_of(run), watcher)
    assert told[-1] == f"run {run.path}: finished, {more:,} steps"
    with pytest.raises(ResumeMismatchError, match=f"{more} -> {steps}"):
        train_run(recipe, places_of(run), watcher)

    child = RunFolder(tmp_path / "fork")
    fork(Run(run), more, overlaid(run.recipe(), [], ["stages.0.steps.mlm=2.5 epochs"]), child.path)
    child.set_data(run.data())
    assert "of 2.5 epochs of mlm" in where_it_stands(child, child.recipe())
    train_run(load_recipe([child.recipe_path]), places_of(child), watcher)
    assert sorted(dict(ledger(child.path))) == list(range(more, fewest(run, 2.5)))


def test_hours_are_timed_once(make_run, watcher, told, driven):
    run, recipe = make_run(stages=stages(5, "0.01 hours", "3 minutes"), **ALONE)
    places = places_of(run)
    train_run(load_recipe([recipe]), places, watcher)
    assert told == [
        f"run {run.path}: new, 5 steps of mlm, 0.01 hours of mlm, 3 minutes of mlm",
        "timing some steps of mlm in stage s1, mlm in stage s2",
        "timed with local",
        "stage s1: 0.01 hours of mlm = 144 steps of 16 rows, at 0.250 s a step",
        "stage s2: 3 minutes of mlm = 720 steps of 16 rows, at 0.250 s a step",
        "trained for 869 steps",
    ]
    told.clear()
    train_run(load_recipe([recipe]), places, watcher)
    train_run(run.recipe(), places, watcher)
    assert told == [f"run {run.path}: new, 869 steps", "trained for 869 steps"] * 2


def test_a_stage_in_hours_joins_a_run_that_has_steps(make_run, watcher, told, driven):
    run, recipe = make_run(stages=stages(40), **ALONE)
    longer = tiny_recipe(stages=stages(40, "1 minute"), **ALONE)
    places = places_of(run)
    with pytest.raises(ConfigError, match=r"planned for 40 steps.* to 280: --extend"):
        train_run(longer, places, watcher)
    assert run.recipe() == load_recipe([recipe])
    train_run(longer, places_of(run, extend="stretch"), watcher)
    assert told[-1] == "trained for 280 steps"
    train_run(longer, places, watcher)
    assert told[-2:] == [f"run {run.path}: new, 280 steps", "trained for 280 steps"]


def test_another_recipe_is_refused_before_anything_is_prepared_or_timed(make_run, watcher, told, driven):
    run, _ = make_run(stages=stages(40), **ALONE)
    other = tiny_recipe(stages=stages("1 minute"), seed=8, **ALONE)
    with pytest.raises(ResumeMismatchError, match="seed: 7 -> 8"):
        train_run(other, places_of(run), watcher)
    assert told == []


def test_preparing_settles_epochs_and_leaves_hours_to_the_machine_that_trains(ray_head, tmp_path, watcher, told, driven):
    for name, budget in (("epochs", "2 epochs"), ("hours", "2 hours")):
        run = prepare_run(tiny_recipe(stages=stages(budget)), Places(tmp_path / name, tmp_path / "cache"), watcher)
        assert (run.recipe().budgets == {}) == (name == "epochs")
    assert len(told) == 1
    with pytest.raises(ConfigError, match="the steps of 2 hours of mlm in stage s0 are not known here"):
        run.recipe().plan({"mlm": 1.0})


def test_timing_is_real_leaves_nothing_and_begins_anew_after_a_kill(make_run, watcher, told):
    run, file = make_run(stages=stages("0.0001 hours"), **ALONE)
    assert ptm("train", file, "--run", run.path, *LOCAL, **killed_at(2)).returncode == 60
    assert not run.budgets_path.exists()
    assert run.recipe() == load_recipe([file])
    train_run(load_recipe([file]), places_of(run), watcher)
    (found,) = run.budgets()
    assert found["seconds"] > 0
    assert (found["steps"] - 1) * found["seconds"] < 0.36 <= found["steps"] * found["seconds"]
    assert sorted(dict(ledger(run.path))) == list(range(found["steps"]))
    assert not (run.path / "timing").exists()
    train_run(load_recipe([file]), places_of(run), watcher)
    assert told[-1] == f"run {run.path}: finished, {found['steps']:,} steps"

"""A run that goes on in another way: changed for a reason, longer, forked, from other weights; and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from ptm_dist.events import read_events
from ptm_dist.recipe_io import dump_recipe
from ptm_dist.report import load_run
from ptm_dist.run import RunFolder
from ptm_dist.train.committed import list_checkpoints
from ptm_dist.train.launch import launch
from ptm_dist.train.state import StateFiles
from tests.tiny import STEPS, ledger, ptm, tiny_recipe

LOCAL = ("--launcher", "local")
ALONE = {"engine": {"workers": 1, "zero_stage": 1}, "checkpoint": {"keep_last": 9}}
PLUGINS = {"PYTHONPATH": str(Path(__file__).parent.parent.parent)}


@pytest.fixture
def trained(make_run):
    """A finished run of one worker, and its recipe file."""
    run, recipe = make_run("trained", **ALONE)
    launch(run, run.next_attempt(), 1)
    return run, recipe


def rates(run):
    return {event["step"]: event["learning_rate"] for event in read_events(run.events_path, "step")}


def killed_at(step):
    return {"PTM_TESTING": "1", "PTM_FAULTS": json.dumps([{"point": "step.begin", "rank": 0, "step": step, "action": "kill", "count": 1}])}


def test_a_reason_lets_a_run_go_on_with_another_rate(make_run):
    run, recipe = make_run(**ALONE)
    assert ptm("train", recipe, "--run", run.path, *LOCAL, **killed_at(20)).returncode == 60
    changed = ("train", recipe, "optimizer.learning_rate=1e-4", "--run", run.path, *LOCAL)
    refused = ptm(*changed)
    assert refused.returncode == 22, refused.stderr
    assert "optimizer.learning_rate: 0.003 -> 0.0001" in refused.stderr
    assert "--because" in refused.stderr
    accepted = ptm(*changed, "--because", "the loss rose")
    assert accepted.returncode == 0, accepted.stderr
    assert "resuming at step 16" in accepted.stdout
    assert RunFolder(run.path).history()[0]["because"] == "the loss rose"
    found = rates(run)
    assert found[15] / tiny_recipe().learning_rate(15) == pytest.approx(1.0)
    assert found[16] / tiny_recipe().learning_rate(16) == pytest.approx(1e-4 / 3e-3)


def test_what_is_frozen_names_the_two_ways_on(trained):
    run, recipe = trained
    refused = ptm("train", recipe, "seed=8", "--run", run.path, *LOCAL, "--because", "no reason is enough")
    assert refused.returncode == 22
    assert "seed: 7 -> 8" in refused.stderr
    assert "ptm fork" in refused.stderr
    assert "another directory with --run" in refused.stderr


def test_a_longer_run_asks_what_the_rate_should_do(trained):
    run, recipe = trained
    longer = ("train", recipe, "stages.0.steps.mlm=48", "--run", run.path, *LOCAL)
    asked = ptm(*longer)
    assert asked.returncode == 20
    for option in ("--extend stretch", "--extend hold", "--extend restart"):
        assert option in asked.stderr
    assert ptm(*longer, "--extend", "restart").returncode == 0
    assert sorted(dict(ledger(run.path))) == list(range(48))
    found = rates(run)
    assert [found[step] for step in (40, 44)] == pytest.approx([3e-3 / 5, 4 * 3e-3 / 5])
    assert ptm(*longer).stdout.startswith(f"run {run.path}: finished, 48 steps"), "the answer is kept"


def test_a_fork_with_another_task_says_which_weights_are_new(trained, tiny_data, tmp_path):
    """A head appended after step 24: what is old is equal bit for bit, and the run goes on from its place in the data."""
    run, _ = trained
    plain = json.loads(run.recipe_path.read_text())
    third = {"format": plain["tasks"]["mlm"]["format"], "objectives": [{"kind": "tests.dummies:WhichThird"}]}
    stages = [*plain["stages"], {"name": "more", "steps": {"mlm": 4, "third": 4}}]
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(json.dumps({"tasks": {"third": third}, "stages": stages}))
    forked = ptm("fork", run.path, "--at", "24", overlay, "--run", tmp_path / "fork", **PLUGINS)
    assert forked.returncode == 0, forked.stderr
    assert "tasks.third" in forked.stdout
    child = RunFolder(tmp_path / "fork")
    assert child.parent()["step"] == 24
    result = ptm("train", child.recipe_path, "--run", child.path, *LOCAL, "--cache", tmp_path / "cache", **PLUGINS)
    assert result.returncode == 0, result.stderr
    assert "resuming at step 24" in result.stdout
    assert "new, with fresh weights: heads.third-" in result.stdout
    assert sorted(dict(ledger(child.path))) == list(range(24, 48))
    ours, theirs = dict(ledger(child.path)), dict(ledger(run.path))
    assert ours[24] == theirs[24], "the same batch, the same weights, the same dropout"


def test_init_takes_what_fits_and_names_what_does_not(trained, make_run, tmp_path):
    run, _ = trained
    portable = tmp_path / "portable"
    assert ptm("checkpoint", "convert", f"{run.path}@24", portable, "--weights-only").returncode == 0
    assert sorted(path.name for path in portable.iterdir()) == ["rank-00000.safetensors", "recipe.json", "tokenizer"]
    assert StateFiles(portable).kinds == ["weight"]
    exported = tmp_path / "exported"
    assert ptm("export", run.path, exported).returncode == 0
    sources = {f"{run.path}@24": 24, str(portable): 24, str(exported): STEPS}
    for number, (init, step) in enumerate(sources.items()):
        child, recipe = make_run(f"child{number}", init=init, **ALONE)
        child_recipe = tiny_recipe(init=init, **ALONE, stages=[{"name": "main", "steps": {"mlm": 1}}], optimizer={"learning_rate": 1e-30})
        child.recipe_path.unlink()
        recipe.write_text(dump_recipe(child_recipe))
        result = ptm("train", recipe, "--run", child.path, *LOCAL)
        assert result.returncode == 0, result.stderr
        assert f"weights from {init}, every parameter" in result.stdout
        expected = load_run(run.path).weights(step)
        assert all(torch.equal(weight, expected[name]) for name, weight in load_run(child.path).weights().items())
        if step == STEPS:  # the last thing that both did was to evaluate
            ours, theirs = (load_run(path).evaluations().iloc[-1]["loss"] for path in (child.path, run.path))
            assert ours == pytest.approx(theirs, abs=1e-4)


def test_init_refuses_what_is_not_there_and_other_tokens(trained, tmp_path):
    run, recipe = trained
    words = ("train", recipe, "--run", tmp_path / "new", "--cache", tmp_path / "cache", *LOCAL)
    nothing = ptm(*words, f"init={tmp_path}/nothing")
    assert nothing.returncode == 20
    assert "holds no weights" in nothing.stderr
    absent = ptm(*words, f"init={run.path}@25")
    assert "of step 25; there are: " in absent.stderr
    other = ptm(*words, f"init={run.path}", "tokenizer.vocab_size=320", "--run", tmp_path / "other")
    assert other.returncode == 20
    assert "trained with another tokenizer" in other.stderr


def test_one_file_resumes_as_the_many_do(make_run, tmp_path):
    run, _ = make_run(engine={"zero_stage": 3})
    launch(run, run.next_attempt(), 2)
    assert ptm("checkpoint", "convert", run.path, tmp_path / "one").returncode == 0
    many, one = StateFiles(load_run(run.path).checkpoint()), StateFiles(tmp_path / "one")
    assert one.kinds == many.kinds == ["exp_avg", "exp_avg_sq", "weight"]
    assert one.steps == many.steps
    assert all(torch.equal(one.whole(name, kind), many.whole(name, kind)) for name in many.shapes for kind in many.kinds)


def test_a_pinned_checkpoint_stays(trained):
    run, _ = trained
    step = list_checkpoints(run.checkpoints)[0].step
    assert ptm("checkpoint", "pin", f"{run.path}@{step}", "--name", "best").returncode == 0
    assert "pinned: best" in ptm("checkpoint", "ls", run.path).stdout
    refused = ptm("checkpoint", "pin", f"{run.path}@7")
    assert refused.returncode == 20
    assert "no checkpoint of step 7" in refused.stderr


def test_workers_that_lanes_cannot_be_dealt_to(make_run):
    run, recipe = make_run()
    refused = ptm("train", recipe, "engine.workers=3", "--run", run.path, *LOCAL)
    assert refused.returncode == 20, refused.stderr
    assert "Take a divisor: 1, 2, 4, 8." in refused.stderr


def test_other_code_says_so(make_run):
    run, recipe = make_run(**ALONE)
    assert ptm("train", recipe, "--run", run.path, *LOCAL, **killed_at(20)).returncode == 60
    log = run.events_path.read_text()
    code = next(read_events(run.events_path, "attempt_started"))["code"]
    run.events_path.write_text(log.replace(code, "0.0.1+00000000"))
    again = ptm("train", recipe, "--run", run.path, *LOCAL)
    assert f"this attempt runs other code (0.0.1+00000000 -> {code})" in again.stdout


@pytest.mark.slow
def test_workers_and_stages_in_turn(make_run):
    """2, 1, 4, 2 workers under stages 2, 3, 0, 1: every step once, and losses of an undisturbed run."""
    quiet = {"model": {"dropout": 0.0, "attention_dropout": 0.0}}
    undisturbed, _ = make_run("undisturbed", **quiet)
    launch(undisturbed, undisturbed.next_attempt(), 2)
    run, recipe = make_run("moving", **quiet)
    for workers, stage, last in ((2, 2, 8), (1, 3, 16), (4, 0, 24), (2, 1, None)):
        engine = (f"engine.workers={workers}", f"engine.zero_stage={stage}")
        result = ptm("train", recipe, *engine, "--run", run.path, *LOCAL, **(killed_at(last) if last else {}))
        assert result.returncode == (60 if last else 0), result.stderr
    expected, found = dict(ledger(undisturbed.path)), dict(ledger(run.path))
    assert list(found) == list(expected)
    for step in (8, 16, 24):
        assert found[step] == pytest.approx(expected[step], rel=1e-5)
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-3)

"""Stages: rows of another length, batches of another size, the same heads, and a checkpoint that stays where each ends."""

import json

import pytest

from ptm_dist.driver.prepare import prepare
from ptm_dist.events import read_events
from ptm_dist.prepared import DataFolders
from ptm_dist.recipe_io import dump_recipe
from ptm_dist.run import RunFolder
from ptm_dist.train.committed import list_checkpoints
from ptm_dist.train.launch import launch
from tests.tiny import ledger, ptm, tiny_recipe

OBJECTIVES = [{"kind": "masked_lm", "choose": "budget", "predict_special": False}, {"kind": "classify_sequence"}]


def two_phases():
    """BERT's way: short rows first, then long ones in smaller batches, with one pair of heads."""
    plain = tiny_recipe().model_dump(mode="json")
    plain["model"] = {"kind": "bert", "layers": 1, "hidden": 32, "heads": 2, "intermediate": 64, "positions": 32}
    plain["tasks"] = {
        "short": {"format": {"kind": "segment_pair", "length": 16}, "objectives": OBJECTIVES},
        "long": {"format": {"kind": "segment_pair", "length": 32}, "objectives": OBJECTIVES, "heads_of": "short"},
    }
    plain["stages"] = [{"name": "short", "steps": {"short": 20}}, {"name": "long", "steps": {"long": 10}, "rows": 6}]
    plain["checkpoint"] = {"every_steps": 8, "keep_last": 2}
    return tiny_recipe().model_validate_json(json.dumps(plain))


@pytest.fixture(scope="module")
def undisturbed(ray_head, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages")
    prepared = prepare(two_phases(), folder / "cache", lambda *_: None)
    run = RunFolder(folder / "run")
    run.claim(two_phases())
    run.set_data(DataFolders(prepared.tokenizer, prepared.datasets))
    launch(run, run.next_attempt(), 2)
    return run


def test_the_heads_of_the_first_phase_are_trained_further(undisturbed):
    steps = list(read_events(undisturbed.events_path, "step"))
    assert [(step["task"], step["rows"]) for step in steps] == [("short", 16)] * 20 + [("long", 6)] * 10
    manifest = max(list_checkpoints(undisturbed.checkpoints), key=lambda found: found.step)
    assert manifest.step == 30
    from ptm_dist.report import Run

    heads = {name.split(".")[1] for name in Run(undisturbed).weights() if name.startswith("heads.")}
    assert heads == {"masked_lm", "short-classify_sequence"}


def test_the_checkpoint_of_a_stage_stays(undisturbed):
    kept = {found.step: found.pins for found in list_checkpoints(undisturbed.checkpoints)}
    assert kept == {20: ("after-short",), 24: (), 30: ()}


def test_killed_after_the_boundary_it_goes_on_as_if_nothing_had_happened(undisturbed, tmp_path):
    run = RunFolder(tmp_path / "run")
    run.claim(two_phases())
    run.set_data(undisturbed.data())
    (tmp_path / "recipe.yaml").write_text(dump_recipe(two_phases()))
    faults = {"PTM_TESTING": "1", "PTM_FAULTS": json.dumps([{"point": "step.begin", "rank": 0, "step": 22, "action": "kill", "count": 1}])}
    words = ("train", tmp_path / "recipe.yaml", "--run", run.path, "--launcher", "local")
    assert ptm(*words, **faults).returncode == 60
    again = ptm(*words)
    assert again.returncode == 0, again.stderr
    assert "resuming at step 20" in again.stdout
    assert ledger(run.path) == ledger(undisturbed.path)

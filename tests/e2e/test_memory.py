"""Families that carry memory from batch to batch: it is saved by lane, so a run goes on with equal losses, on any number of workers."""

import json

import pytest
import transformers

from ptm_dist.events import read_events
from ptm_dist.models.interop import read_model
from ptm_dist.recipe_io import dump_recipe
from ptm_dist.report import load_run
from ptm_dist.run import RunFolder
from ptm_dist.train.launch import launch
from tests.tiny import ledger, ptm, tiny_recipe

STEPS, LANES = 24, 8
WIDTHS = {"dropout": 0.0, "layers": 2}
ELMO = {
    "tokenizer": {"kind": "words", "vocab_size": 500},
    "model": {"kind": "elmo", "cell": 32, "projection": 16, "filters": [[1, 8], [2, 8]], "highways": 1, "softmax": "full"} | WIDTHS,
    "tasks": {"lm": {"format": {"kind": "word_streams", "length": 20}, "objectives": [{"kind": "bidirectional_lm"}]}},
}
XLNET = {
    "tokenizer": {"kind": "unigram", "specials": "xlnet", "lower_case": False, "vocab_size": 300},
    "model": {"kind": "xlnet", "hidden": 32, "heads": 2, "head_width": 16, "intermediate": 64, "attention_dropout": 0.0}
    | {"memory_length": 24, "reuse_length": 16}
    | WIDTHS,
    "tasks": {"lm": {"format": {"kind": "memory_segments", "length": 32, "reuse": 16}, "objectives": [{"kind": "permutation_lm"}]}},
}
SYSTEMS = {"elmo": ELMO, "xlnet": XLNET}


def recipe_of(kind, workers):
    plain = tiny_recipe().model_dump(mode="json") | SYSTEMS[kind] | {"name": kind}
    plain["engine"] |= {"workers": workers}
    plain["batch"] = {"rows": LANES, "micro": 3, "lanes": LANES}
    return tiny_recipe().model_validate_json(json.dumps(plain | {"stages": [{"name": "main", "steps": {"lm": STEPS}}]}))


@pytest.fixture(scope="module", params=SYSTEMS)
def undisturbed(request, tmp_path_factory):
    """A run of two workers from text to export: (kind, folder)."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "recipe.yaml").write_text(dump_recipe(recipe_of(request.param, 2)))
    printed = ptm("run", folder / "recipe.yaml", "--run", folder / "run", "--cache", folder / "cache", "--launcher", "local")
    assert printed.returncode == 0, printed.stderr
    return request.param, folder


def another(undisturbed, name, workers):
    kind, folder = undisturbed
    run = RunFolder(folder / name)
    run.claim(recipe_of(kind, workers))
    run.set_data(RunFolder(folder / "run").data())
    return run


def finish(run, workers):
    launch(run, run.next_attempt(), workers)
    return ledger(run.path)


def test_it_learns_and_is_exported(undisturbed):
    kind, folder = undisturbed
    losses = [loss for _, loss in ledger(folder / "run")]
    assert losses[-1] < losses[0] - 0.2
    measured = list(read_events(RunFolder(folder / "run").events_path, "evaluated"))
    assert measured[-1]["loss"] < measured[0]["loss"] + 0.1
    settings, weights = read_model(folder / "run" / "export")
    assert settings == load_run(folder / "run").recipe.model
    assert weights.keys() == load_run(folder / "run").weights().keys()
    if kind == "xlnet":
        _, told = transformers.XLNetLMHeadModel.from_pretrained(folder / "run" / "export", output_loading_info=True)
        assert not told["missing_keys"]
        assert not told["unexpected_keys"]


def test_killed_and_resumed_losses_are_equal_bit_for_bit(undisturbed):
    _, folder = undisturbed
    run = another(undisturbed, "killed", 2)
    (folder / "killed.yaml").write_text(dump_recipe(run.recipe()))
    faults = {"PTM_TESTING": "1", "PTM_FAULTS": json.dumps([{"point": "step.begin", "rank": 1, "step": 13, "action": "kill", "count": 1}])}
    words = ("train", folder / "killed.yaml", "--run", run.path, "--launcher", "local")
    assert ptm(*words, **faults).returncode == 60
    assert ptm(*words).returncode == 0
    assert ledger(run.path) == ledger(folder / "run")


@pytest.mark.slow
def test_another_number_of_workers_goes_on_with_the_same_memory(undisturbed):
    _, folder = undisturbed
    expected = [loss for _, loss in ledger(folder / "run")]
    for workers in (1, 4):
        run = another(undisturbed, f"of-{workers}", workers)
        found = [loss for _, loss in finish(run, workers)]
        assert found == pytest.approx(expected, rel=1e-4), "rows, masks and memory are those of two workers"

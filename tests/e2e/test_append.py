"""The example of docs/own-task.md in small: a task of the user's own, over a new source, joins a run that has ended."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from ptm_dist.corpus.docstrings import topics
from ptm_dist.data.dataset import Dataset
from ptm_dist.driver.run import Places, Watcher, prepare_run
from ptm_dist.errors import ConfigError, ResumeMismatchError
from ptm_dist.events import read_events
from ptm_dist.recipe_io import load_recipe
from ptm_dist.report import load_run
from ptm_dist.run import RunFolder
from ptm_dist.store import sha256_file
from ptm_dist.train.committed import list_checkpoints
from ptm_dist.train.launch import launch
from tests.tiny import ledger, ptm

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples"
SMALL = {
    "tokenizer": {"vocab_size": 400},
    "corpus": {"split": {"validation": 0.2}},
    "model": {"layers": 1, "hidden": 16, "intermediate": 32, "dropout": 0.1, "attention_dropout": 0.1},
    "schedule": {"steps_per_task": 8},
    "batch": {"rows": 8, "lanes": 8},
    "engine": {"workers": 1},
    "checkpoint": {"every_steps": 8, "keep_last": 2},
    "evaluate": {"every_steps": 100, "rows": 16},
}
TOPICS = [document.text[:1500] for document in topics()]
TEXTS = {"docs": TOPICS[:30], "numbers": [*TOPICS[30:45], TOPICS[0]]}
END, MORE = 24, {"masking": 3, "capital": 3, "reorder": 3, "place": 9}
PINNED = {4: ("after-stage-1",), 12: ("after-stage-2",)}
OWN = {"PYTHONPATH": str(EXAMPLE)}
WATCHER = Watcher(lambda *_: None, print, print)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The recipes of the page, small, as lists of files: of the run, and with the task that joins."""
    folder = tmp_path_factory.mktemp("append")
    for name, texts in TEXTS.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    text = {name: {"kind": "text", "paths": [str(folder / f"{name}.jsonl")]} for name in ("docs", "numbers")}
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL | {"sources": {"docs": text["docs"]}}))
    (folder / "more.yaml").write_text(yaml.safe_dump({"sources": text, "stages": [{"name": "place", "steps": MORE}]}))
    small, more = folder / "small.yaml", folder / "more.yaml"
    return [EXAMPLE / "own_base.yaml", small], [EXAMPLE / "own_appended.yaml", small, more]


@pytest.fixture(scope="module")
def base(ray_head, files, tmp_path_factory):
    """A run of the first recipe that has ended; beside it the cache of its data."""
    folder = tmp_path_factory.mktemp("base")
    run = prepare_run(load_recipe(files[0]), Places(folder / "run", folder / "cache"), WATCHER)
    launch(run, run.next_attempt(), 1)
    return run


@pytest.fixture
def append(base, files, tmp_path):
    """A copy of that run, and what to call to let the task join it."""
    run = RunFolder(tmp_path / "run")
    shutil.copytree(base.path, run.path)
    words = ("train", *files[1], "--run", run.path, "--cache", base.path.parent / "cache", "--launcher", "local")
    return run, lambda **environment: ptm(*words, **OWN, **environment)


def hashes(*folders):
    """Return the SHA-256 of every file below some folders, by its path within."""
    found = {str(path.relative_to(folder)): path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: sha256_file(path) for name, path in found.items() if not name.endswith(".lock")}


@pytest.mark.slow
def test_a_task_joins_a_run_that_has_ended(base, append, tmp_path, monkeypatch):
    run, go_on = append
    cache = base.path.parent / "cache"
    kept = [info.path for info in list_checkpoints(run.checkpoints) if info.pins or info.step == END]
    assert {info.step: info.pins for info in list_checkpoints(run.checkpoints) if info.pins} == PINNED
    before, prepared = [hashes(path) for path in kept], hashes(cache)

    killed = go_on(PTM_TESTING="1", PTM_FAULTS=json.dumps([{"point": "step.begin", "rank": 0, "step": 36, "action": "kill", "count": 1}]))
    assert killed.returncode == 60, killed.stderr
    assert f"resuming at step {END} of 42" in killed.stdout
    assert f"step {END}: new, with fresh weights: heads.place-classify_sequence." in killed.stdout
    undisturbed = RunFolder(tmp_path / "undisturbed")
    shutil.copytree(base.path, undisturbed.path)
    for path in (run.recipe_path, run.data_path, run.history_path):
        shutil.copy2(path, undisturbed.path)
    again = go_on()
    assert again.returncode == 0, again.stderr
    assert "resuming at step 32 of 42" in again.stdout

    assert {info.step: info.pins for info in list_checkpoints(run.checkpoints)} == PINNED | {END: ("after-stage-3",), 40: (), 42: ()}
    assert [hashes(path) for path in kept] == before
    assert {name: value for name, value in hashes(cache).items() if name in prepared} == prepared
    known, found = base.data(), run.data()
    assert found.tokenizer == known.tokenizer
    assert {task: found.datasets[task] for task in known.datasets} == known.datasets
    counts = Dataset.open(found.datasets["place"]["train"]).about["counts"]
    assert counts["kept"] == len({*TEXTS["docs"], *TEXTS["numbers"]})
    assert Dataset.open(known.datasets["masking"]["train"]).about["counts"]["kept"] == len(set(TEXTS["docs"])), "what both have stays here"
    old = dict(ledger(base.path))
    assert list(dict(ledger(run.path))) == list(range(42))
    assert {step: loss for step, loss in ledger(run.path) if step < END} == old, "nothing was trained again"
    rates = {event["step"]: event["learning_rate"] for event in read_events(run.events_path, "step")}
    assert rates[END] == rates[0], "the new stage has a warm-up of its own"
    last = {event["task"] for event in read_events(run.events_path, "evaluated") if event["step"] == 42}
    assert last == {"masking", "capital", "reorder", "place"}

    monkeypatch.syspath_prepend(EXAMPLE)
    launch(undisturbed, undisturbed.next_attempt(), 1)
    assert ledger(run.path) == ledger(undisturbed.path)
    ours, theirs = (load_run(found.path).weights(42) for found in (run, undisturbed))
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("tasks.capital.format.length=32", ResumeMismatchError, "tasks.capital.format.length: 64 -> 32"),
        ("tasks.capital.sources=[]", ConfigError, "tasks.capital.sources: none are named, which means all, and numbers would join them"),
    ],
)
def test_what_was_trained_stays_what_it_is(base, files, monkeypatch, change, error, message):
    monkeypatch.syspath_prepend(EXAMPLE)
    before = hashes(base.path)
    with pytest.raises(error, match=message):
        prepare_run(load_recipe(files[1], [change]), Places(base.path, base.path.parent / "cache"), WATCHER)
    assert hashes(base.path) == before


def test_the_page_shows_the_files_that_are_there():
    page = (EXAMPLE.parent / "own-task.md").read_text()
    rule = (EXAMPLE / "own_task.py").read_text().partition("    def examples")[2]
    assert rule.strip() in page
    assert (EXAMPLE / "own_appended.yaml").read_text().strip() in page

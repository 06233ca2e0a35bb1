"""Held-out figures by source, of real runs: those of each source measured alone with the trained model, whoever measures."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ptm_dist.corpus.shard import write_dataset
from ptm_dist.data.dataset import Dataset, RowReader
from ptm_dist.data.loader import Reader
from ptm_dist.driver.prepare import prepare
from ptm_dist.events import read_events
from ptm_dist.prepared import DataFolders
from ptm_dist.report import load_run, summary
from ptm_dist.run import RunFolder
from ptm_dist.train.attempt import reading_of
from ptm_dist.train.launch import launch
from ptm_dist.train.module import to_device
from tests.tiny import TEXT, tiny_recipe

STEPS, LANES = 4, 8
BERT = {
    "model": {"kind": "bert", "layers": 1, "hidden": 32, "heads": 2, "intermediate": 64, "positions": 32},
    "tasks": {
        "lm": {"format": {"kind": "segment_pair", "length": 32}, "objectives": [{"kind": "masked_lm"}, {"kind": "classify_sequence"}]}
    },
}
ELMO = {
    "tokenizer": {"kind": "words", "vocab_size": 500},
    "model": {"kind": "elmo", "layers": 1, "cell": 32, "projection": 16, "filters": [[1, 8], [2, 8]], "highways": 1, "softmax": "full"},
    "tasks": {"lm": {"format": {"kind": "word_streams", "length": 12}, "objectives": [{"kind": "bidirectional_lm"}]}},
}
SYSTEMS = {"bert": BERT, "elmo": ELMO}


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """A text of numbers only."""
    draws, path = np.random.default_rng(0), tmp_path_factory.mktemp("numbers") / "numbers.jsonl"
    texts = [" ".join(f"{' '.join(map(str, draws.integers(10, 99, 8)))}." for _ in range(8)) for _ in range(40)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture(scope="module", params=SYSTEMS)
def prepared(request, ray_head, numbers, tmp_path_factory):
    sources = {"text": {"kind": "text", "paths": [str(TEXT)]}, "numbers": {"kind": "text", "paths": [str(numbers)]}}
    changes = {"sources": sources, "batch": {"rows": LANES, "micro": 3, "lanes": LANES}, "evaluate": {"every_steps": STEPS, "rows": 4000}}
    plain = tiny_recipe().model_dump(mode="json") | SYSTEMS[request.param] | changes
    plain["model"] |= {"dropout": 0.0}
    plain["stages"] = [{"name": "main", "steps": {"lm": STEPS}}]
    recipe = tiny_recipe().model_validate_json(json.dumps(plain))
    found = prepare(recipe, tmp_path_factory.mktemp("cache"), lambda *_: None)
    return recipe, DataFolders(found.tokenizer, found.datasets)


def trained(prepared, folder, workers, processes):
    recipe, data = prepared
    settings = {"engine": {"workers": workers}, "data": {"loader_processes": processes}}
    recipe = recipe.model_validate_json(json.dumps(recipe.model_dump(mode="json") | settings))
    run = RunFolder(folder)
    run.claim(recipe)
    run.set_data(data)
    launch(run, run.next_attempt(), workers)
    return run


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory):
    """A run of one worker."""
    return trained(prepared, tmp_path_factory.mktemp("one") / "run", 1, 0)


def measured(run):
    return {event["objective"]: event for event in read_events(run.events_path, "evaluated")}


def alone(run, source, folder):
    """Return (loss, right ones, targets) of each objective over a data set of one source, a row at a time."""
    recipe, data = run.recipe(), run.data()
    held_out, model = data.open("lm", "validation"), load_run(run.path).model()
    rows = RowReader(held_out, 4)
    write_dataset((rows.row(number) for number in held_out.sources[source].rows), folder, data.vocabulary, {})
    reading = replace(reading_of(recipe, data, 0, 1), directories={"lm.validation": folder}, micro=1)
    (times,) = Reader(reading).held_out("lm", "lm.validation", Dataset.open(folder).rows).values()
    found = {objective.kind: np.zeros(3) for objective in recipe.tasks["lm"].objectives}
    memories = {}
    for batches in times:
        for lane, batch in enumerate(batches):
            with torch.no_grad():
                memory = memories.get(lane) if reading.stateful else None
                _, losses, memories[lane] = model("lm", *to_device(batch, torch.device("cpu")), dict.fromkeys(found, 1.0), memory)
            for kind, loss in losses.items():
                found[kind] += [float(loss.sum), float(loss.correct), loss.targets]
    return found


def test_figures_of_a_source_are_those_of_it_alone(run, tmp_path):
    found = measured(run)
    parts = {source: alone(run, source, tmp_path / source) for source in ("numbers", "text")}
    for kind, event in found.items():
        assert event["sources"].keys() == parts.keys()
        for source, tallies in parts.items():
            loss, right, targets = tallies[kind]
            told = event["sources"][source]
            assert (told["loss"], told["accuracy"]) == (pytest.approx(loss / targets, rel=1e-4), pytest.approx(right / targets, abs=1e-2))
            assert told["targets"] == targets > 0
        loss, _, targets = sum(tallies[kind] for tallies in parts.values())
        assert event["targets"] == targets
        assert event["loss"] == pytest.approx(loss / targets, rel=1e-4)
    shown = [name for name, _ in summary(load_run(run.path))]
    assert shown.count("  numbers") == shown.count("  text") == len(found)
    frame = load_run(run.path).evaluations()
    for _, rows in frame.groupby("step"):
        assert sorted(rows["source"]) == sorted(["", "numbers", "text"] * len(found))


@pytest.mark.slow
def test_two_workers_and_a_loader_process_measure_the_same(prepared, run, tmp_path):
    one, two = measured(run), measured(trained(prepared, tmp_path / "two", 2, 1))
    for kind, event in one.items():
        for told, other in ((event, two[kind]), *((event["sources"][name], two[kind]["sources"][name]) for name in event["sources"])):
            assert told["targets"] == other["targets"]
            assert told["loss"] == pytest.approx(other["loss"], rel=1e-3)
            for name in ("unigram_entropy", "baseline_loss", "baseline_accuracy"):
                assert told[name] == other[name]

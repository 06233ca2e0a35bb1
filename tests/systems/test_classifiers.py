"""Each classifier learns one shard by heart, and nothing where labels are drawn at random."""

import json

import pytest

from ptm_dist.driver.prepare import prepare
from ptm_dist.events import read_events
from ptm_dist.prepared import DataFolders
from ptm_dist.run import RunFolder
from ptm_dist.train.launch import launch
from tests.systems.stories import write_stories
from tests.tiny import tiny_recipe

pytestmark = pytest.mark.slow

LENGTH = 48
FORMATS = {
    "nsp": {"kind": "segment_pair", "pair": "nsp"},
    "sop": {"kind": "segment_pair", "pair": "sop"},
    "sentence_pair": {"kind": "sentence_pair"},
    "dialogue": {"kind": "dialogue", "fake_share": 0.5},
    "distance": {"kind": "sentence_distance"},
    "reorder": {"kind": "reordered_sentences", "most": 3},
    "discourse": {"kind": "discourse"},
    "relevance": {"kind": "relevance"},
    "capital": {"kind": "token_labels", "label": "capital"},
    "in_document": {"kind": "token_labels", "label": "in_document"},
}
MODEL = {"kind": "bert", "layers": 2, "hidden": 64, "heads": 2, "intermediate": 128, "positions": LENGTH, "segments": 3}
MODEL |= {"dropout": 0.0, "attention_dropout": 0.0}
CLASSES = {"distance": 3, "reorder": 9, "discourse": 14, "relevance": 3}
BY_HEART = {name: 2 / CLASSES[name] if name == "reorder" else 0.9 for name in FORMATS}


def trained(task, layout, stories, folder, held_out):
    """Train a small BERT on nothing but one classifier, and return the last measurement on the `held_out` split."""
    objective = (
        {"kind": "classify_tokens"} if "token_labels" in str(layout) else {"kind": "classify_sequence", "classes": CLASSES.get(task, 2)}
    )
    text = write_stories(folder / "stories.jsonl", "en", stories)
    plain = tiny_recipe().model_dump(mode="json") | {
        "sources": {"own": {"kind": "text", "paths": [str(text)]}},
        "tokenizer": {"kind": "wordpiece", "vocab_size": 500},
        "model": MODEL,
        "tasks": {task: {"format": layout, "objectives": [objective]}},
        "stages": [{"name": "main", "steps": {task: 400}}],
        "batch": {"rows": 16, "micro": 16, "lanes": 8},
        "checkpoint": {"every_steps": 1000, "keep_last": 2},
        "evaluate": {"every_steps": 1000, "rows": 256},
    }
    plain["corpus"]["units"] = {"kind": "english"}
    plain["engine"]["workers"] = 1
    plain["optimizer"]["learning_rate"] = 2e-3
    recipe = tiny_recipe().model_validate_json(json.dumps(plain))
    run = RunFolder(folder / "run")
    run.claim(recipe)
    prepared = prepare(recipe, folder / "cache", lambda *_: None)
    splits = prepared.datasets[task]
    run.set_data(DataFolders(prepared.tokenizer, {task: splits | {"validation": splits[held_out]}}))
    launch(run, run.next_attempt(), 1)
    return list(read_events(run.events_path, "evaluated"))[-1]


@pytest.mark.parametrize("task", FORMATS)
def test_a_shard_is_learned_by_heart(task, ray_head, tmp_path):
    found = trained(task, FORMATS[task] | {"length": LENGTH}, 16, tmp_path, "train")
    assert found["accuracy"] > BY_HEART[task], found


@pytest.mark.parametrize("task", ["nsp", "reorder", "capital"])
def test_random_labels_cannot_be_guessed(task, ray_head, tmp_path):
    of = FORMATS[task] | {"length": LENGTH}
    layout = {"kind": "tests.systems.random_labels:RandomLabels", "length": LENGTH, "of": of}
    found = trained(task, layout, 120, tmp_path, "validation")
    chance, targets = 1 / CLASSES.get(task, 2), found["targets"]
    assert abs(found["accuracy"] - chance) < 4 * (chance * (1 - chance) / targets) ** 0.5, found

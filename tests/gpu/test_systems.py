"""Every system in small on one GPU: prepared, trained, killed, resumed, measured, exported, loaded; near the losses of two CPU ranks."""

from __future__ import annotations

import json

import pytest

from ptm_dist.driver.prepare import prepare
from ptm_dist.events import read_events, steps_of
from ptm_dist.prepared import DataFolders
from ptm_dist.recipe_io import dump_recipe
from ptm_dist.run import RunFolder
from tests.systems.ride import GOLDEN, SMALL, SYSTEMS, over_texts
from tests.systems.stories import write_stories
from tests.systems.test_systems import KILLED_AT, STORIES, require_loads
from tests.tiny import ptm

NEAR = {"fp32": 2e-3, "bf16": 3e-2}
DRAWS_ON_THE_DEVICE = 0.2
"""ELMo's negatives are drawn where it runs, by another generator on a GPU."""


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    return {
        language: over_texts(folder / f"{language}.yaml", language, write_stories(folder / f"{language}.jsonl", language, STORIES))
        for language in ("en", "zh")
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("precision", NEAR)
@pytest.mark.parametrize("name", SYSTEMS)
def test_from_text_to_a_model(name, precision, texts, cache, ray_head, tmp_path):
    here = tmp_path / "here.yaml"
    here.write_text(f"engine: {{workers: 1, precision: {precision}}}\n")
    recipe = SYSTEMS[name].load(SMALL, texts[SYSTEMS[name].language], here)
    run, file = RunFolder(tmp_path / "run"), tmp_path / "recipe.yaml"
    file.write_text(dump_recipe(recipe))
    run.claim(recipe)
    prepared = prepare(recipe, cache, lambda *_: None)
    run.set_data(DataFolders(prepared.tokenizer, prepared.datasets))
    fault = [{"point": "step.begin", "rank": 0, "step": KILLED_AT, "action": "kill", "count": 1}]
    words = (file, "--run", run.path, "--launcher", "local")
    assert ptm("train", *words, PTM_TESTING="1", PTM_FAULTS=json.dumps(fault)).returncode == 60
    result = ptm("run", *words)
    assert result.returncode == 0, result.stderr
    found = [[step, event["task"], event["loss"]] for step, event in sorted(steps_of(run.events_path).items())]
    known = GOLDEN.losses(name, found)
    assert [step[:2] for step in found] == [step[:2] for step in known]
    near = DRAWS_ON_THE_DEVICE if name == "elmo" else NEAR[precision]
    assert [loss for *_, loss in found] == pytest.approx([loss for *_, loss in known], rel=near)
    assert list(read_events(run.events_path, "evaluated"))
    require_loads(run)

"""Overlays whose sources stand in for the corpora of any recipe: each published one, and the rules."""

from pathlib import Path

import pytest

from ptm_dist.cli.systems import SYSTEMS
from ptm_dist.errors import ConfigError
from ptm_dist.recipe_io import load_recipe, recipe_diff
from ptm_dist.recipe_merge import laid_over, merged

CONFIGS = Path(__file__).parents[2] / "configs"
LANGUAGE = {name: "chinese" if name.endswith(("_zh", "_wwm", "_ext")) or name == "ernie1" else "english" for name in SYSTEMS}
SOURCE = {"english": "docs", "chinese": "news"}
ALLOWED = ("engine.", "batch.micro", "data.", "checkpoint.", "evaluate.")
"""What an overlay for machines may change: nothing that decides what is learned."""


def overlay(name):
    return CONFIGS / f"{name}.yaml"


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_every_published_recipe_reads_text_that_can_be_installed(name):
    files = [overlay(name), overlay("scale/laptop"), overlay(f"sources/{LANGUAGE[name]}")]
    found, whole = load_recipe(files), load_recipe(files[:2])
    source = SOURCE[LANGUAGE[name]]
    assert list(found.sources) == [source]
    assert {task: found.sources_of(task) for task in found.tasks} == {task: [source] for task in whole.tasks}
    assert list(load_recipe([files[0], files[2], files[1]]).sources) == [source], "overlays may stand in any order"
    changed = {key.split(".")[0] for key, _, _ in recipe_diff(whole, found) if not key.endswith((".sources", ".vocab_size"))}
    assert changed == ({"sources", "tasks"} if name == "ernie2" else {"sources"})


def test_discovery_becomes_connectives_found_in_the_text():
    found = load_recipe([overlay("ernie2"), overlay("sources/english")]).tasks["discourse"]
    assert (found.format.kind, found.format.classes, found.sources) == ("discourse", 14, ("docs",))
    before = load_recipe([overlay("ernie2")]).tasks["discourse"]
    assert found.objectives[0] == before.objectives[0]
    assert [found.objectives[1].classes, before.objectives[1].classes] == [14, 174]


@pytest.mark.parametrize("name", sorted(SYSTEMS))
@pytest.mark.parametrize("machine", ["one_gpu", "cluster"])
def test_machines_change_nothing_that_is_published(name, machine):
    whole, found = load_recipe([overlay(name)]), load_recipe([overlay(name), overlay(f"scale/{machine}")])
    changed = {key for key, _, _ in recipe_diff(whole, found)}
    assert {"engine.precision", "batch.micro"} <= changed
    assert all(key.startswith(ALLOWED) for key in changed)
    assert found.batch.lanes % found.engine.workers == 0


def test_a_domain_goes_on_from_a_released_model():
    recipe = load_recipe([overlay("domain_zh")], text=["my_texts"])
    assert recipe.init == recipe.tokenizer.folder == "bert-base-chinese"
    assert recipe.learning_rate(0) < recipe.learning_rate(200) == recipe.optimizer.learning_rate > recipe.learning_rate(1999)
    published = load_recipe([overlay("bert_zh")])
    assert recipe.model == published.model, "what bert-base-chinese is"
    assert recipe.optimizer.learning_rate <= published.optimizer.learning_rate / 2
    assert recipe.tasks["mlm"].objectives[0].unit == "word"


def test_own_text_takes_the_place_of_both():
    found = load_recipe([overlay("ernie2"), overlay("sources/english")], text=["mine"])
    assert {task: found.sources_of(task) for task in found.tasks} == {task: ["text"] for task in found.tasks}
    assert found.tasks["discourse"].format.kind == "discourse"


def test_a_recipe_may_extend_an_overlay(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"extends: [{overlay('gpt')}, {overlay('sources/english')}]\nsources: {{more: {{kind: text, paths: [more]}}}}\n")
    assert list(load_recipe([path]).sources) == ["docs", "more"]
    path.write_text(f"extends: {overlay('sources/english')}\nsources: {{docs: {{packages: [python]}}}}\n")
    assert load_recipe([overlay("gpt"), path]).sources["docs"].packages == ("python",)


BASE = {"sources": {"a": 1, "b": 2, "c": 3}, "tasks": {"one": {"sources": ["b", "a"]}, "two": {"sources": ["c"]}, "three": {}}}


@pytest.mark.parametrize(
    ("stand_ins", "sources", "read"),
    [
        ({"*": "x"}, {"x": 9, "y": 8}, [["x"], ["x"]]),
        ({"c": "y", "*": "x"}, {"x": 9, "y": 8}, [["x"], ["y"]]),
        ({"a": "x", "nobody": "y"}, {"b": 2, "c": 3, "x": 9}, [["b", "x"], ["c"]]),
        ({"b": "a"}, {"a": 1, "c": 3, "x": 9, "y": 8}, [["a"], ["c"]]),
        ({}, {"a": 1, "b": 2, "c": 3, "x": 9, "y": 8}, [["b", "a"], ["c"]]),
        ({"*": "a"}, {"a": 1, "x": 9, "y": 8}, [["a"], ["a"]]),
    ],
)
def test_each_corpus_becomes_what_stands_in_for_it(stand_ins, sources, read):
    over = {"sources": {"x": 9, "y": 8}, "stand_ins": {"sources": stand_ins}}
    found = laid_over(BASE, over)
    assert found["sources"] == sources
    assert [found["tasks"][name]["sources"] for name in ("one", "two")] == read
    assert found["tasks"]["three"] == {}, "no names mean all sources"
    assert "stand_ins" not in found
    assert BASE["tasks"]["one"]["sources"] == ["b", "a"], "nothing is changed in place"


def test_tasks_are_laid_over_where_they_are():
    found = laid_over(BASE, {"stand_ins": {"tasks": {"two": {"format": "f"}, "four": {"format": "g"}}}})
    assert found["tasks"] == BASE["tasks"] | {"two": {"sources": ["c"], "format": "f"}}


def test_without_stand_ins_files_merge_as_ever():
    assert laid_over({"a": {"kind": "x", "b": 1}}, {"a": {"c": [2]}}) == {"a": {"kind": "x", "b": 1, "c": [2]}}
    assert merged({"a": {"kind": "x", "b": 1}}, {"a": {"kind": "y"}}) == {"a": {"kind": "y"}}


@pytest.mark.parametrize(
    ("stand_ins", "message"),
    [
        ("docs", "stand_ins: write mappings under sources and tasks"),
        ({"sources": "docs"}, "stand_ins: write mappings under sources and tasks"),
        ({"source": {}}, "stand_ins.source: unknown key; one of: sources, tasks"),
        ({"sources": {"*": 5}}, r"stand_ins.sources.\*: 5 is no text; write the name of a source"),
        ({"sources": {"a": "z"}}, "stand_ins.sources.a: 'z' is not defined; there are: a, b, c"),
    ],
)
def test_stand_ins_that_are_none(stand_ins, message):
    with pytest.raises(ConfigError, match=message):
        laid_over(BASE, {"stand_ins": stand_ins})


def test_an_overlay_before_its_recipe_is_named():
    with pytest.raises(ConfigError, match=r"stand_ins: no recipe is listed before this file \(.*english.yaml:\d+\); list it after one"):
        load_recipe([overlay("sources/english"), overlay("gpt")])


def test_what_is_wrong_in_a_task_is_found_in_the_overlay(tmp_path):
    path = tmp_path / "overlay.yaml"
    path.write_text("stand_ins:\n  tasks:\n    lm:\n      format: {kind: contiguous, lenght: 8}\n")
    with pytest.raises(ConfigError, match=r"tasks.lm.format.lenght: unknown key; did you mean length\? \(.*overlay.yaml:4\)"):
        load_recipe([overlay("gpt"), path])

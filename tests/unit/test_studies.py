"""Studies compare what they say: arms differ in one thing, pretraining is as small as told, and simple models are measured rightly."""

import json
from pathlib import Path

import pytest

from ptm_dist.corpus.labelled import Labelled
from ptm_dist.finetune.bootstrap import Spread
from ptm_dist.recipe_io import flatten, read_settings
from tests.studies import pretraining, trends
from tests.studies.baselines import baseline
from tests.studies.finetune import TASKS, line
from tests.systems.ride import CONFIGS


@pytest.fixture
def somewhere(tmp_path, monkeypatch):
    """Empty files in the places of the texts."""
    for name in pretraining.ENGLISH:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setenv("PTM_TEXTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def differences(arms, language):
    """Return the keys in which recipes differ, without their names."""
    flat = [flatten(trends.recipe(arm, language, 1)) for arm in arms]
    keys = {key for one in flat for key in one}
    return {key for key in keys if len({json.dumps(one.get(key)) for one in flat}) > 1} - {"name", "paper"}


@pytest.mark.parametrize(
    ("language", "arms", "expected"),
    [
        ("en", ("dynamic_masks", "static_masks"), {"tasks.mlm.objectives.0.static_masks"}),
        ("en", ("albert", "albert_nsp"), {"tasks.pairs.format.pair"}),
        ("en", ("albert", "albert_unshared"), {"model.sharing"}),
        ("en", ("albert", "albert_narrow"), {"model.embedding"}),
        ("zh", ("ernie1", "ernie1_phrases"), {"tasks.entity.objectives.0.unit"}),
        ("zh", ("ernie1_phrases", "ernie1_tokens"), {"tasks.phrase.objectives.0.unit", "tasks.entity.objectives.0.unit"}),
    ],
)
def test_arms_differ_in_what_is_compared_and_nothing_else(somewhere, language, arms, expected):
    assert differences(arms, language) == expected


def test_whole_words_and_characters_differ_in_what_is_masked_together(somewhere):
    found = differences(("words_zh", "tokens_zh"), "zh")
    assert {key for key in found if not key.startswith("corpus.units")} == {
        "tasks.short.objectives.0.unit",
        "tasks.long.objectives.0.unit",
    }


@pytest.mark.parametrize("name", pretraining.SYSTEMS)
def test_every_system_is_as_small_as_the_study_says(somewhere, name):
    system = pretraining.SYSTEMS[name]
    recipe = system.recipe(name)
    assert (recipe.total_steps, recipe.model.layers, recipe.seed) == (pytest.approx(system.steps, abs=5), 2, 1)
    assert {task.format.length for task in recipe.tasks.values()} <= {40, 64, 128}
    assert recipe.batch.rows == 32 or recipe.batch.tokens == 2048


def test_texts_that_are_not_there_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PTM_TEXTS", str(tmp_path))
    with pytest.raises(SystemExit, match=r"news_articles\.jsonl\.gz: not there\. Name the folder"):
        pretraining.texts("en")


@pytest.mark.parametrize(
    ("scratch", "pretrained", "beyond"),
    [((50, 1), (52.1, 1), "yes"), ((50, 1), (51.9, 1), "no"), ((50, 1), (40, 1), "no")],
)
def test_a_gain_counts_beyond_both_deviations_together(scratch, pretrained, beyond):
    assert line("bert", [Spread(*scratch, 3), Spread(*pretrained, 3)])[-1] == beyond


def labelled(folder, reader, train, test):
    for name, text in (("train", train), ("test", test)):
        (folder / f"{name}.jsonl").write_text(text, encoding="utf8")
    settings = {"reader": reader, "train": [f"{folder}/train.jsonl"], "test": [f"{folder}/test.jsonl"]}
    return Labelled.model_validate_json(json.dumps(settings))


class TestBaselines:
    def test_texts_by_words_that_tell_the_class(self, tmp_path):
        lines = [json.dumps({"a": f"{word} {number}", "label": word}) + "\n" for number in range(6) for word in ("dark", "light")]
        source = labelled(tmp_path, {"kind": "json_lines", "first": "a", "label": "label"}, "".join(lines[:8]), "".join(lines[8:]))
        assert baseline(source, "test", "accuracy") == 100

    def test_tags_by_neighbours(self, tmp_path):
        def item(name):
            return json.dumps({"text": f"met {name} today", "entities": [[4, 4 + len(name), "PER"]]}) + "\n"

        reader = {"kind": "entity_spans", "words": "spaces", "entities": "entities"}
        source = labelled(tmp_path, reader, "".join(map(item, ("Ann", "Bob", "Cy"))), item("Dora"))
        assert baseline(source, "test", "f1") == 100

    def test_answers_by_the_nearest_sentence(self, tmp_path):
        def data(context, question, answer):
            answers = [{"text": answer, "answer_start": context.index(answer)}]
            return json.dumps(
                {"data": [{"paragraphs": [{"context": context, "qas": [{"id": "1", "question": question, "answers": answers}]}]}]}
            )

        text = data("大海很蓝。月亮在夜里发光。", "什么在夜里发光？", "月亮在夜里发光。")
        source = labelled(tmp_path, {"kind": "squad"}, text, text)
        assert baseline(source, "test", "exact") == 100


@pytest.mark.parametrize("task", [name for tasks in TASKS.values() for name in tasks])
def test_a_task_reads_files_of_the_folder_of_labels_and_no_others(task, tmp_path, monkeypatch):
    monkeypatch.setenv("PTM_LABELLED", str(tmp_path))
    (settings,) = (tasks[task] for tasks in TASKS.values() if task in tasks)
    overrides = [word for word in settings.settings(task) if word.startswith("sources.")]
    (source,) = read_settings([CONFIGS / "finetune" / f"{task}.yaml"], overrides)["sources"].values()
    named = [file for split in ("train", "validation", "test") for file in source.get(split, [])]
    assert named
    assert all(Path(file).parent == tmp_path for file in named)

"""Data of probes: with the tokenizer that a run has, found again, and never mistaken for what it is trained on."""

import json
from pathlib import Path

import pytest

from ptm_dist.corpus.existing import Existing
from ptm_dist.corpus.tokenizer import ByteBPE, load_tokenizer
from ptm_dist.data.dataset import Dataset, RowReader
from ptm_dist.data.joining import BERT, GPT, NEW
from ptm_dist.driver.labelled import prepare_probes
from ptm_dist.errors import DataIntegrityError, DataUnavailableError, ResumeMismatchError
from ptm_dist.models import FAMILIES
from ptm_dist.prepared import DataFolders
from ptm_dist.run import RunFolder
from tests.tiny import TEXT, merged, tiny_recipe

TEXTS = [("It was kind and warm.", "good"), ("A cold, grim day.", "bad")] * 6


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """The tokenizer of a run, as preparation leaves it."""
    folder = tmp_path_factory.mktemp("cache") / "tokenizer-123456789abc" / "tokenizer"
    folder.mkdir(parents=True)
    texts = (json.loads(line)["text"] for line in TEXT.read_text().splitlines())
    for name, data in ByteBPE(vocab_size=384).train(texts).items():
        (folder / name).write_bytes(data)
    return folder


def table(folder, rows=TEXTS):
    path = folder / "moods.csv"
    path.write_text("\n".join(["text,mood", *(f'"{text} {number}",{mood}' for number, (text, mood) in enumerate(rows))]) + "\n")
    return path


def recipe_of(path, **changes):
    reader = {"kind": "table", "separator": ",", "first": "text", "label": "mood"}
    source = {"kind": "labelled", "reader": reader, "train": [str(path)], "validation_share": 0.4}
    probe = {"sources": source, "format": {"kind": "texts", "length": 24}, "labels": ["good", "bad"]}
    return tiny_recipe(evaluate={"downstream": {"mood": merged(probe, changes)}})


def rows_of(folder):
    dataset = Dataset.open(folder)
    return [RowReader(dataset, 1).row(number) for number in range(dataset.rows)]


@pytest.mark.usefixtures("ray_head")
def test_rows_are_laid_with_the_tokenizer_of_the_run_and_found_again(tokenizer, tmp_path):
    recipe, told = recipe_of(table(tmp_path)), []
    found = prepare_probes(recipe, tokenizer, tmp_path / "cache", lambda *event: told.append(event))
    assert found.keys() == set(recipe.probe_data.values())
    (splits,) = found.values()
    rows = {split: rows_of(splits[split]) for split in ("train", "validation")}
    assert sum(map(len, rows.values())) == len(TEXTS)
    text = load_tokenizer(tokenizer).decode(rows["train"][0]["tokens"][1:-1].tolist())
    assert text.strip().startswith(("It was kind and warm.", "A cold, grim day."))
    assert {int(row["label"]) for split in rows.values() for row in split} == {0, 1}
    assert Dataset.open(splits["train"]).about["tokenizer"] == "tokenizer-123456789abc"
    assert told == [("labelled", 0, 2), ("labelled", 1, 2), ("labelled", 2, 2)]
    assert prepare_probes(recipe, tokenizer, tmp_path / "cache", lambda *event: told.append(event)) == found
    assert told[3:] == [("labelled", 2, 2)], "nothing is done again"


@pytest.mark.usefixtures("ray_head")
def test_without_the_tokens_of_a_fine_tuning_a_row_begins_and_ends_as_in_pretraining(tokenizer, tmp_path):
    recipe = recipe_of(table(tmp_path)).model_copy(update={"model": FAMILIES["gpt"]()})
    (splits,) = prepare_probes(recipe, tokenizer, tmp_path / "cache", lambda *_: None).values()
    vocabulary = load_tokenizer(tokenizer).vocabulary
    for row in rows_of(splits["train"]):
        assert (row["tokens"][0], row["tokens"][-1]) == (vocabulary.begin, vocabulary.end)


@pytest.mark.usefixtures("ray_head")
def test_a_tokenizer_of_a_fine_tuning_has_the_tokens_of_its_layout(tokenizer, tmp_path):
    with_new, folder = Existing(folder=str(tokenizer), special=NEW), tmp_path / "tokenizer-2" / "tokenizer"
    folder.mkdir(parents=True)
    for name, data in with_new.train(iter(())).items():
        (folder / name).write_bytes(data)
    recipe = recipe_of(table(tmp_path)).model_copy(update={"model": FAMILIES["gpt"](), "tokenizer": with_new})
    (splits,) = prepare_probes(recipe, folder, tmp_path / "cache", lambda *_: None).values()
    for row in rows_of(splits["train"]):
        assert (row["tokens"][0], row["tokens"][-1]) == (384, 386)


def test_a_layout_without_new_tokens_has_as_many():
    plain = GPT.without_new()
    assert [symbol for symbol, _ in plain.pair] == ["begin", "A", "end", "B", "end"]
    assert (plain.specials(1), plain.specials(2), plain.place(9)) == (GPT.specials(1), GPT.specials(2), 8)
    assert BERT.without_new() == BERT


@pytest.mark.usefixtures("ray_head")
def test_items_that_cannot_be_used_are_a_named_error_that_says_where_to_write_skip(tokenizer, tmp_path):
    recipe = recipe_of(table(tmp_path, [*TEXTS, ("What?", "odd")]))
    with pytest.raises(DataIntegrityError, match=r"1 items cannot be used \(1 unknown_label\)") as error:
        prepare_probes(recipe, tokenizer, tmp_path / "cache", lambda *_: None)
    assert str(error.value).startswith("evaluate.downstream.mood.sources: ")
    assert "write evaluate.downstream.mood.sources.bad=skip" in str(error.value)


@pytest.mark.usefixtures("ray_head")
def test_a_file_that_is_not_there_is_a_named_error(tokenizer, tmp_path):
    with pytest.raises(DataUnavailableError, match=r"nowhere\.csv"):
        prepare_probes(recipe_of(tmp_path / "nowhere.csv"), tokenizer, tmp_path / "cache", lambda *_: None)


def test_probes_of_a_run_come_and_go_without_making_its_data_other_data(tmp_path):
    def data(mlm="examples-1", **probes):
        made = {"mlm": mlm, **{f"probe:{name}": stage for name, stage in probes.items()}}
        splits = {name: {split: Path("cache", stage, split) for split in ("train", "validation")} for name, stage in made.items()}
        return DataFolders(Path("cache", "tokenizer-1", "tokenizer"), splits)

    run = RunFolder(tmp_path)
    run.claim(tiny_recipe())
    run.checkpoints.mkdir()
    for found in (data(), data(mood="labelled-1"), data(mood="labelled-2", other="labelled-3"), data()):
        run.set_data(found)
        assert run.data().datasets.keys() == found.datasets.keys()
    with pytest.raises(ResumeMismatchError, match=r"other data, of mlm\.train, mlm\.validation"):
        run.set_data(data("examples-2"))


def test_a_run_lacks_data_until_those_of_its_probe_are_there(tokenizer, tmp_path):
    def write(*names):
        folders = {name: {split: tmp_path / name / split for split in ("train", "validation")} for name in names}
        for folder in (folder for splits in folders.values() for folder in splits.values()):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "manifest.json").write_text("{}")
        return DataFolders(tokenizer, folders)

    run, recipe = RunFolder(tmp_path / "run"), recipe_of(tmp_path / "moods.csv")
    run.claim(recipe)
    assert not run.has_data_of(["mlm"])
    run.set_data(write("mlm"))
    assert (run.has_data_of(["mlm"]), run.has_data) == (True, False)
    run.set_data(write("mlm", recipe.probe_data["mood"]))
    assert run.has_data
    run.claim(recipe_of(tmp_path / "moods.csv", labels=["bad", "good"]))
    assert not run.has_data, "with labels in another order it is another data set"
    run.claim(tiny_recipe())
    assert run.has_data

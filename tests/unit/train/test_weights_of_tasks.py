"""Starting from a folder of transformers with the head of a labelled task: backbone and pooler come along, the head where it fits."""

import json

import pytest
import torch

from ptm_dist.corpus.tokenizer import load_tokenizer
from ptm_dist.finetune.export import hugging_face
from ptm_dist.models.base import stored_shape
from ptm_dist.models.interop import read_model
from ptm_dist.models.interop.folder import write_folder
from ptm_dist.recipe_io import recipe_from_json, recipe_to_json
from ptm_dist.run import RunFolder
from ptm_dist.train.module import PretrainingModel
from ptm_dist.train.state import StateFiles
from ptm_dist.train.weights import make_portable_model, source_of, take_over
from tests.tiny import tiny_recipe
from tests.unit.models.kit import randomise, stored
from tests.unit.train.test_weights import SETTINGS, WORDS

ROBERTA = {key: value for key, value in SETTINGS.model_dump().items() if key not in {"kind", "segments", "pooler"}} | {"kind": "roberta"}
TEXT = {"kind": "classify_text", "labels": ["no", "yes", "maybe"]}


def recipe_of(tokenizer, init=None, model=None, **tasks):
    """Return a recipe of tasks, each with its objective, whose formats go by them."""
    formats = {"classify_text": "texts", "regress_text": "texts", "tag_words": "tagged_words", "answer_span": "questions"}
    plain = recipe_to_json(tiny_recipe()) | {
        "model": model or SETTINGS.model_dump(),
        "tokenizer": {"kind": "existing", "folder": str(tokenizer)},
        "sources": {"own": {"kind": "labelled", "reader": {"kind": "squad"}, "train": ["x"]}},
        "tasks": {name: {"format": {"kind": formats[one["kind"]], "length": 32}, "objectives": [one]} for name, one in tasks.items()},
        "stages": [{"name": "only", "steps": dict.fromkeys(tasks, 1)}],
    }
    return recipe_from_json(plain | {"init": init and str(init)})


@pytest.fixture
def written(tmp_path):
    """Write a fine-tuned model with an objective as a Hugging Face folder."""

    def write(objective, model=None, words=WORDS):
        (tmp_path / "vocab").mkdir()
        (tmp_path / "vocab" / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
        recipe = recipe_of(tmp_path / "vocab", model=model, told=objective)
        tokenizer = put_tokenizer(recipe, tmp_path / "tokenizer")
        torch.manual_seed(0)
        made = PretrainingModel(recipe, load_tokenizer(tokenizer).vocabulary)
        randomise(made)
        out = hugging_face(recipe, stored(made), load_tokenizer(tokenizer).vocabulary, "told")
        write_folder(tmp_path / "theirs", *out, tokenizer, "# BERT\n")
        return tmp_path / "theirs"

    return write


def put_tokenizer(recipe, folder):
    folder.mkdir()
    for name, data in recipe.tokenizer.train(iter(())).items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def start(tmp_path):
    """Return what a run takes, and what it finds nothing for."""

    def begin(recipe):
        tokenizer = put_tokenizer(recipe, tmp_path / "own")
        (tmp_path / "run").mkdir()
        take_over(source_of(recipe.init), recipe, tokenizer, RunFolder(tmp_path / "run"))
        found = StateFiles(tmp_path / "run" / "init").weights()
        model = PretrainingModel(recipe, load_tokenizer(tokenizer).vocabulary)
        shapes = {name: stored_shape(parameter) for name, parameter in model.named_parameters()}
        return found, {name for name, shape in shapes.items() if name not in found or found[name].shape != shape}

    return begin


def test_a_head_of_the_same_shape_comes_along(written, start):
    folder = written(TEXT)
    found, fresh = start(recipe_of(folder, folder, mine=TEXT))
    _, theirs = read_model(folder)
    assert not fresh
    assert torch.equal(found["heads.mine-classify_text.classify.weight"], theirs["heads.text.classify.weight"])
    assert torch.equal(found["backbone.pooler.dense.weight"], theirs["backbone.pooler.dense.weight"])


@pytest.mark.parametrize("objective", [{"kind": "classify_text", "labels": ["a", "b"]}, {"kind": "regress_text"}])
def test_a_head_of_another_shape_starts_fresh(written, start, objective):
    folder = written(TEXT)
    found, fresh = start(recipe_of(folder, folder, mine=objective))
    assert fresh == {f"heads.mine-{objective['kind']}.classify.{leaf}" for leaf in ("weight", "bias")}
    assert "backbone.pooler.dense.weight" in found


def test_all_of_a_head_starts_fresh_if_a_part_does(written, start):
    """As in fairseq, where RoBERTa's dense layer would fit."""
    folder = written(TEXT, ROBERTA, ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]", "the", "cat"])
    two = {"kind": "classify_text", "labels": ["a", "b"]}
    _, fresh = start(recipe_of(folder, folder, ROBERTA, mine=two))
    assert fresh == {f"heads.mine-classify_text.{part}.{leaf}" for part in ("summary.dense", "classify") for leaf in ("weight", "bias")}


def test_classes_of_the_same_names_are_put_in_order(written, start):
    folder = written(TEXT)
    found, fresh = start(recipe_of(folder, folder, mine={"kind": "classify_text", "labels": ["Maybe", "no", "YES"]}))
    _, theirs = read_model(folder)
    assert not fresh
    for leaf in ("weight", "bias"):
        assert torch.equal(found[f"heads.mine-classify_text.classify.{leaf}"], theirs[f"heads.text.classify.{leaf}"][[2, 0, 1]])


@pytest.mark.parametrize("names", [["x", "y", "z"], ["no", "yes", "perhaps"]])
def test_classes_of_other_names_stay_as_they_are(written, start, names):
    folder = written(TEXT)
    found, _ = start(recipe_of(folder, folder, mine={"kind": "classify_text", "labels": names}))
    assert torch.equal(found["heads.mine-classify_text.classify.bias"], read_model(folder)[1]["heads.text.classify.bias"])


def test_of_two_tasks_neither_takes_it(written, start):
    folder = written(TEXT)
    _, fresh = start(recipe_of(folder, folder, one=TEXT, other=TEXT))
    assert len(fresh) == 4
    assert not any(name.startswith("backbone.") for name in fresh)


def test_answers_come_along_and_a_pooler_that_they_do_not_have_starts_fresh(written, start):
    folder = written({"kind": "answer_span"})
    found, fresh = start(recipe_of(folder, folder, mine={"kind": "answer_span"}))
    assert torch.equal(found["heads.mine-answer_span.classify.weight"], read_model(folder)[1]["heads.span.classify.weight"])
    assert fresh == {"backbone.pooler.dense.weight", "backbone.pooler.dense.bias"}


def test_another_kind_of_head_stays_behind(written, start):
    tags = {"kind": "tag_words", "tags": ["O", "B-X", "I-X"]}
    folder = written(TEXT)
    found, fresh = start(recipe_of(folder, folder, mine=tags))
    assert fresh == {"heads.mine-tag_words.classify.weight", "heads.mine-tag_words.classify.bias"}
    assert "heads.text.classify.weight" in found


def test_a_portable_folder_of_it_does_as_well(written, start, tmp_path):
    folder = written(TEXT)
    make_portable_model(source_of(str(folder)), tmp_path / "portable")
    _, fresh = start(recipe_of(tmp_path / "portable" / "tokenizer", tmp_path / "portable", mine=TEXT))
    assert not fresh


def test_the_configuration_may_say_nothing_of_labels(written, start):
    folder = written(TEXT)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if key not in {"id2label", "label2id"}}))
    _, fresh = start(recipe_of(folder, folder, mine={"kind": "classify_text", "labels": ["maybe", "no", "yes"]}))
    assert not fresh

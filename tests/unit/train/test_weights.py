"""Weights that a run starts from: whose they may be, and what becomes of them."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from ptm_dist.corpus.existing import Existing
from ptm_dist.corpus.tokenizer import load_tokenizer
from ptm_dist.data.batch import HeadSpec
from ptm_dist.errors import ConfigError
from ptm_dist.models.bert import Bert
from ptm_dist.models.interop import LAYOUTS
from ptm_dist.models.interop.folder import write_folder
from ptm_dist.models.xlnet import Xlnet
from ptm_dist.recipe_io import recipe_from_json, recipe_to_json
from ptm_dist.run import RunFolder
from ptm_dist.train.state import StateFiles
from ptm_dist.train.weights import FREE, make_portable_model, pair_heads, source_of, take_over
from tests.tiny import merged, tiny_recipe

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "im", "##mu", "##no"]
SETTINGS = Bert(layers=1, hidden=12, heads=3, intermediate=20, positions=32)
HEADS = {"masked_lm": HeadSpec("masked_lm"), "sequence": HeadSpec("sequence", 2)}


@pytest.fixture
def folder(tmp_path):
    """A Hugging Face folder with a BERT for pretraining."""
    (tmp_path / "vocab").mkdir()
    (tmp_path / "vocab" / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
    files = Existing(folder=str(tmp_path / "vocab")).train(iter(()))
    (tmp_path / "tokenizer").mkdir()
    for name, data in files.items():
        (tmp_path / "tokenizer" / name).write_bytes(data)
    vocabulary = load_tokenizer(tmp_path / "tokenizer").vocabulary
    torch.manual_seed(0)
    backbone = SETTINGS.backbone(vocabulary)
    heads = nn.ModuleDict({name: SETTINGS.head(spec, backbone, vocabulary) for name, spec in HEADS.items()})
    nn.init.normal_(heads["masked_lm"].project.bias)
    parameters = nn.ModuleDict({"backbone": backbone, "heads": heads}).named_parameters()
    weights = {name: weight.detach()[: getattr(weight, "stored_rows", None)] for name, weight in parameters}
    write_folder(tmp_path / "theirs", *LAYOUTS["bert"].to_hugging_face(weights, SETTINGS, vocabulary), tmp_path / "tokenizer", "# BERT\n")
    return tmp_path / "theirs"


def recipe_of(folder, add=None, special=(), **model):
    plain = merged(recipe_to_json(tiny_recipe()), {"tasks": {"nsp": {"objectives": [{"kind": f"{__name__}:Pairs"}]}}})
    plain["tasks"]["nsp"] |= {"format": plain["tasks"]["mlm"]["format"]}
    plain |= {
        "model": SETTINGS.model_dump() | model,
        "tokenizer": {"kind": "existing", "folder": str(folder), "special": list(special)} | ({"add": add} if add else {}),
    }
    return recipe_from_json(plain | {"init": str(folder)})


class Pairs(__import__("tests.dummies", fromlist=["WhichThird"]).WhichThird):
    """Tells true pairs of sentences."""

    kind: str = f"{__name__}:Pairs"

    @property
    def head(self):
        return HeadSpec("sequence", 2)


def taken(recipe, tmp_path, name="run"):
    """Return the weights that a run of `recipe` starts from."""
    tokenizer = tmp_path / f"{name}-tokenizer"
    tokenizer.mkdir()
    for file, data in recipe.tokenizer.train(iter(())).items():
        (tokenizer / file).write_bytes(data)
    (tmp_path / name).mkdir()
    take_over(source_of(recipe.init), recipe, tokenizer, RunFolder(tmp_path / name))
    return StateFiles(tmp_path / name / "init").weights()


def test_a_hugging_face_folder_gives_its_weights_under_our_names(folder, tmp_path):
    recipe, theirs = recipe_of(folder), source_of(str(folder)).weights()
    found = taken(recipe, tmp_path)
    (pair,) = pair_heads(recipe)
    assert torch.equal(found[f"heads.{pair}.classify.weight"], theirs["heads.sequence.classify.weight"])
    assert torch.equal(found["backbone.pooler.dense.weight"], theirs["backbone.pooler.dense.weight"])
    assert found.keys() == {name.replace("heads.sequence", f"heads.{pair}") for name in theirs}


def test_an_imported_model_is_the_same_model(folder, tmp_path):
    source = source_of(str(folder))
    make_portable_model(source, tmp_path / "portable")
    again = source_of(str(tmp_path / "portable"))
    assert again.settings == source.settings == SETTINGS
    assert all(torch.equal(again.weights()[name], weight) for name, weight in source.weights().items())
    assert load_tokenizer(again.tokenizer).vocabulary.size == len(WORDS)


def test_rows_of_added_words_are_means_of_their_pieces(folder, tmp_path):
    (tmp_path / "words.txt").write_text("immuno\nthe cat\n")
    found = taken(recipe_of(folder, add=str(tmp_path / "words.txt")), tmp_path)
    old = source_of(str(folder)).weights()
    for name in ("backbone.words.weight", "heads.masked_lm.project.bias"):
        assert len(found[name]) == len(WORDS) + 2
        assert torch.equal(found[name][: len(WORDS)], old[name])
        for row, pieces in ((-2, [8, 9, 10]), (-1, [5, 6])):
            assert torch.allclose(found[name][row], old[name][pieces].mean(0))


def test_rows_of_special_tokens_are_fresh_and_come_last(folder, tmp_path):
    (tmp_path / "words.txt").write_text("immuno\n")
    special = [f"<{number}>" for number in range(300)]
    recipe = recipe_of(folder, add=str(tmp_path / "words.txt"), special=special, init_std=0.05)
    found, old = taken(recipe, tmp_path), source_of(str(folder)).weights()
    table, bias = found["backbone.words.weight"], found["heads.masked_lm.project.bias"]
    assert table.shape == (len(WORDS) + 301, 12)
    assert torch.allclose(table[len(WORDS)], old["backbone.words.weight"][[8, 9, 10]].mean(0))
    fresh = table[len(WORDS) + 1 :]
    assert fresh.std().item() == pytest.approx(0.05, rel=0.06)
    assert abs(fresh.mean().item()) < 0.005
    assert bias.shape == (len(WORDS) + 301,)
    assert not bias[len(WORDS) + 1 :].any()
    assert torch.equal(taken(recipe, tmp_path, "again")["backbone.words.weight"], table), "they are drawn from the seed"
    others = taken(recipe.model_copy(update={"seed": 8}), tmp_path, "other")["backbone.words.weight"]
    assert not torch.equal(others[-1], table[-1])
    assert found.keys() == {name.replace("heads.sequence", f"heads.{pair_heads(recipe)[0]}") for name in old}


def test_only_tables_of_tokens_grow(folder, tmp_path):
    """Though other tensors may happen to be as long: the vocabulary has 11 tokens, and one tensor is made to have 11 numbers."""
    source = source_of(str(folder))
    weights = source.weights() | {"heads.other.classify.bias": torch.zeros(len(WORDS))}
    recipe = recipe_of(folder, special=["<a>"])
    (tmp_path / "tokenizer-1").mkdir()
    for file, data in recipe.tokenizer.train(iter(())).items():
        (tmp_path / "tokenizer-1" / file).write_bytes(data)
    (tmp_path / "run").mkdir()
    take_over(dataclasses.replace(source, weights=lambda: weights), recipe, tmp_path / "tokenizer-1", RunFolder(tmp_path / "run"))
    found = StateFiles(tmp_path / "run" / "init").weights()
    assert {name for name in found if name in weights and len(found[name]) != len(weights[name])} == {
        "backbone.words.weight",
        "heads.masked_lm.project.bias",
    }


def test_xlnet_may_do_without_the_memory_it_was_trained_with():
    one, other = (Xlnet(memory_length=n, reuse_length=n, layers=1) for n in (384, 0))
    assert {key for key, value in one.model_dump().items() if other.model_dump()[key] != value} <= FREE


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"norm_eps": 1e-5}, r"model.norm_eps is 1e-05, the weights were trained with 1e-12"),
        ({"activation": "relu"}, "model.activation is 'relu', the weights were trained with 'gelu'"),
        ({"hidden": 24}, "model.hidden is 24"),
    ],
)
def test_another_model_is_refused(folder, tmp_path, model, message):
    with pytest.raises(ConfigError, match=message):
        taken(recipe_of(folder, **model), tmp_path)


def test_what_may_differ_may_differ(folder, tmp_path):
    assert taken(recipe_of(folder, dropout=0.3, init_std=0.1), tmp_path)


def test_another_tokenizer_is_refused(folder, tmp_path):
    recipe = recipe_of(folder)
    other = tmp_path / "other"
    other.mkdir()
    for name, data in recipe.tokenizer.train(iter(())).items():
        (other / name).write_bytes(data.replace(b'"cat"', b'"dog"'))
    with pytest.raises(ConfigError, match=r"another tokenizer \(tokenizer.json differ\). Take it: tokenizer="):
        take_over(source_of(recipe.init), recipe, other, RunFolder(tmp_path))


class TestOldPickles:
    def put(self, folder, value):
        (folder / "model.safetensors").unlink()
        torch.save(value, folder / "pytorch_model.bin")

    def test_tensors_are_read(self, folder):
        source = source_of(str(folder))
        tensors = LAYOUTS["bert"].to_hugging_face(source.weights(), SETTINGS, load_tokenizer(folder.parent / "tokenizer").vocabulary)[1]
        self.put(folder, tensors)
        assert all(torch.equal(weight, source.weights()[name]) for name, weight in source_of(str(folder)).weights().items())

    def test_anything_else_is_refused(self, folder):
        self.put(folder, {"weights": print})
        with pytest.raises(ConfigError, match="refused, it holds more than tensors"):
            source_of(str(folder))
        torch.save({"epoch": 3}, folder / "pytorch_model.bin")
        with pytest.raises(ConfigError, match="refused, it is no table of tensors"):
            source_of(str(folder))


def test_a_family_that_nobody_knows_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "t5"}))
    with pytest.raises(ConfigError, match="model_type is 't5'; ptm_dist reads albert, bert, elmo, ernie"):
        source_of(str(folder))

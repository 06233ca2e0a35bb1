"""Fine-tuned models in transformers: every family with every head goes out, computes the same there, and comes back bit for bit."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import XLNetModel

from ptm_dist.finetune.export import hugging_face
from ptm_dist.models.interop import LAYOUTS, read_labels, read_model
from ptm_dist.models.interop.folder import read_folder, write_folder
from ptm_dist.models.interop.layout import TaskHead
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import recipe_from_json, recipe_to_json
from ptm_dist.train.module import PretrainingModel
from tests.contract.engine_ranks import VOCABULARY, families
from tests.tiny import tiny_recipe
from tests.unit.models.kit import randomise, real, stored
from tests.unit.models.test_xlnet import exact_positions

LENGTH, ROWS, CHOICES = 12, 5, 3
LABELS, TAGS = ["no", "yes", "maybe"], ["O", "B-X", "I-X", "B-Y"]
FORMATS = {"text": "texts", "value": "texts", "tags": "tagged_words", "span": "questions", "choice": "choices"}
"""Tasks are called by the kind of their head."""
OBJECTIVES: dict[str, dict[str, Any]] = {
    "text": {"kind": "classify_text", "labels": LABELS, "dropout": 0.25},
    "value": {"kind": "regress_text", "dropout": 0.25},
    "tags": {"kind": "tag_words", "tags": TAGS, "dropout": 0.25},
    "span": {"kind": "answer_span", "dropout": 0.25},
    "choice": {"kind": "choose", "choices": CHOICES, "dropout": 0.25},
}
AUTO = {
    "text": "AutoModelForSequenceClassification",
    "value": "AutoModelForSequenceClassification",
    "tags": "AutoModelForTokenClassification",
    "span": "AutoModelForQuestionAnswering",
    "choice": "AutoModelForMultipleChoice",
}
OWN_CLASS = {
    ("xlnet", "span"): "XLNetForQuestionAnswering",
    ("gpt", "choice"): "OpenAIGPTDoubleHeadsModel",
    ("gpt2", "choice"): "GPT2DoubleHeadsModel",
}
"""What no Auto class opens, or another."""
FAMILIES = {
    "bert": {"segments": 3},
    "roberta": {},
    "ernie": {"task_types": 7},
    "albert": {"groups": 2},
    "gpt": {},
    "gpt2": {},
    "xlnet": {"head_width": 8},
}
DROPOUTS = {"albert": "classifier_dropout_prob", "xlnet": "summary_last_dropout", "gpt": "summary_first_dropout"}
CASES = [(family, kind) for family in FAMILIES for kind in OBJECTIVES if (family, kind) not in {("gpt", "tags"), ("gpt", "span")}]
each = pytest.mark.parametrize(("family", "kind"), CASES)


@pytest.fixture(autouse=True)
def _exact(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(XLNetModel, "positional_embedding", staticmethod(exact_positions))


def recipe_of(family: str, kinds=tuple(OBJECTIVES), model=None, **objective) -> Recipe:
    """Return a recipe with a task for each kind of head."""
    settings = families()[family] | FAMILIES.get(family, {}) | (model or {})
    at = "last" if family in {"gpt", "gpt2", "xlnet"} else "first"
    tasks = {}
    for kind in kinds:
        made = OBJECTIVES[kind] | ({"at": at} if kind in {"text", "value", "choice"} else {}) | objective
        layout = {"kind": FORMATS[kind], "length": 32} | ({"both_orders": True} if "views" in objective else {})
        tasks[kind] = {"format": layout, "objectives": [made]}
    plain = recipe_to_json(tiny_recipe()) | {
        "model": settings,
        "sources": {"own": {"kind": "labelled", "reader": {"kind": "squad"}, "train": ["x"]}},
        "tasks": tasks,
        "stages": [{"name": "only", "steps": dict.fromkeys(tasks, 1)}],
    }
    return recipe_from_json(plain)


def model_of(recipe: Recipe, dtype=torch.float64) -> PretrainingModel:
    model = PretrainingModel(recipe, VOCABULARY).to(dtype).eval()
    randomise(model)
    return model


@pytest.fixture
def written(tmp_path):
    """Write what a model is in transformers into a folder, and return its path."""

    def write(recipe, weights, task):
        (tmp_path / "tokenizer").mkdir(exist_ok=True)
        (tmp_path / "tokenizer" / "tokenizer.json").write_text("{}")
        write_folder(tmp_path / "export", *hugging_face(recipe, weights, VOCABULARY, task), tmp_path / "tokenizer", "# A model\n")
        return tmp_path / "export"

    return write


def opened(folder, family, kind):
    """Return the model that transformers opens, with nothing missing and nothing left over."""
    name = OWN_CLASS.get((family, kind), AUTO[kind])
    model, told = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    tensors = read_folder(folder)[1]
    if family == "xlnet" and tensors["transformer.mask_emb"].dtype is torch.float64:
        model.double().load_state_dict(tensors)  # its matrices are fp32 there, whatever the file holds
    return model.eval()


def rows_of(family, kind) -> tuple[dict[str, Tensor], Tensor]:
    """Return rows of different lengths, those of choices side by side; of XLNet's answers, which have no Auto class, full ones."""
    several = CHOICES if kind == "choice" else 1
    lengths = torch.randint(3, LENGTH + 1, (ROWS * several,))
    lengths[0] = LENGTH
    if (family, kind) == ("xlnet", "span"):
        lengths[:] = LENGTH
    tokens = torch.randint(4, VOCABULARY.size - 1, (ROWS * several, LENGTH)).masked_fill(~real(lengths, LENGTH), VOCABULARY.pad)
    inputs = {"tokens": tokens}
    if family not in {"gpt", "gpt2", "roberta"}:
        inputs["segments"] = torch.randint(2, tokens.shape)
    return inputs, lengths


@torch.no_grad()
def ours(model, kind, inputs, lengths) -> Tensor:
    """Return what our head says: [rows, classes], [rows], [rows, choices], or of each token that is real."""
    if kind == "choice":
        inputs = {name: values.view(ROWS, CHOICES, LENGTH).transpose(1, 2) for name, values in inputs.items()}
        lengths = lengths.view(ROWS, CHOICES)
        steps = (lengths - 1 if model_reads(model) == "last" else torch.zeros_like(lengths)) * CHOICES + torch.arange(CHOICES)
        places = torch.arange(ROWS)[:, None] * LENGTH * CHOICES + steps
        return model.predict(kind, inputs, lengths, places.flatten()).view(ROWS, CHOICES)
    places = torch.arange(ROWS) * LENGTH + (lengths - 1 if model_reads(model) == "last" else 0)
    if kind in {"tags", "span"}:
        places = real(lengths, LENGTH).flatten().nonzero().squeeze(1)
    return model.predict(kind, inputs, lengths, places)


def model_reads(model) -> str:
    return "last" if type(model.backbone).__name__ in {"Decoder", "XlnetBackbone"} else "first"


NAMES = {"tokens": "input_ids", "segments": "token_type_ids"}


@torch.no_grad()
def theirs(reference, family, kind, inputs, lengths) -> Tensor:
    """Return the same from transformers, whose XLNet reads rows that are filled up on the left."""
    valid = real(lengths, LENGTH)
    if family == "xlnet":
        shifts = (torch.arange(LENGTH) - (LENGTH - lengths)[:, None]) % LENGTH
        inputs, valid = {name: values.gather(1, shifts) for name, values in inputs.items()}, valid.gather(1, shifts)
    named = {NAMES[name]: values for name, values in inputs.items()} | {"attention_mask": valid.long()}
    if kind == "choice":
        named = {name: values.view(ROWS, CHOICES, LENGTH) for name, values in named.items()}
        if (family, kind) in OWN_CLASS:
            del named["attention_mask"]  # OpenAIGPTDoubleHeadsModel takes none of choices; all is causal
            return reference(**named, mc_token_ids=(lengths - 1).view(ROWS, CHOICES)).mc_logits
        return reference(**named).logits
    found = reference(**named)
    if kind == "span":
        return torch.stack([found.start_logits, found.end_logits], -1)[valid]
    return found.logits[valid] if kind == "tags" else found.logits.squeeze(-1)


IN_FP32 = [("bert", "text"), ("gpt2", "text"), ("xlnet", "choice")]
CLOSE = {torch.float64: 1e-10, torch.float32: 1e-5}


@pytest.mark.parametrize(
    ("family", "kind", "dtype"), [*((*case, torch.float64) for case in CASES), *((*case, torch.float32) for case in IN_FP32)]
)
def test_transformers_computes_the_same(family, kind, dtype, written):
    recipe = recipe_of(family)
    model = model_of(recipe, dtype)
    reference, batch = opened(written(recipe, stored(model), kind), family, kind), rows_of(family, kind)
    assert_says_what_the_head_tells(family, kind, reference.config)
    if (family, kind) == ("xlnet", "span"):
        assert_same_beams(model, reference, batch, CLOSE[dtype])
        return
    found, wanted = ours(model, kind, *batch), theirs(reference, family, kind, *batch)
    assert found.dtype == wanted.dtype == dtype
    assert found.std() > 0.01
    assert (found - wanted).abs().max() < CLOSE[dtype] * max(1.0, wanted.abs().max().item())


@torch.no_grad()
def assert_same_beams(model, reference, batch, close):
    """XLNetForQuestionAnswering gives shares, not logits, of ends for each of the likeliest starts; of answerability it says nothing."""
    inputs, lengths = batch
    head, hidden = model.look("span", inputs, lengths)
    starts, tops, ends = head.beams(hidden, torch.arange(ROWS * LENGTH), 5)
    reference.end_n_top = LENGTH
    found = reference(input_ids=inputs["tokens"], token_type_ids=inputs["segments"], cls_index=torch.full((ROWS,), LENGTH - 1))
    assert torch.equal(tops % LENGTH, found.start_top_index)
    shares = starts.view(ROWS, LENGTH).softmax(-1).gather(1, tops % LENGTH)
    assert (shares - found.start_top_log_probs).abs().max() < close
    told = ends.view(ROWS, LENGTH, 5).softmax(1).sort(1, descending=True).values
    assert (told - found.end_top_log_probs.view(ROWS, LENGTH, 5)).abs().max() < close
    assert told.std() > 0.01
    assert not found.cls_logits.any()


def in_their_place(recipe, weights, kind) -> dict[str, Tensor]:
    """Return the weights that a folder with one head should give back, where they are those of the model."""
    (objective,) = recipe.tasks[kind].objectives
    own = f"heads.{kind}-{objective.kind}."
    kept = {name.replace(own, f"heads.{kind}."): weight for name, weight in weights.items() if name.startswith((own, "backbone."))}
    if kind in {"tags", "span"}:
        kept = {name: weight for name, weight in kept.items() if "pooler" not in name}
    if "backbone.tables.task_types.weight" in kept:
        table, first = kept["backbone.tables.task_types.weight"], sorted(OBJECTIVES).index(kind)
        kept["backbone.tables.task_types.weight"] = torch.cat([table[[first]], table[:first], table[first + 1 :]])
    return kept


@each
def test_it_comes_back_bit_for_bit(family, kind, written, tmp_path):
    """From our folder, and from that which transformers makes of it."""
    recipe = recipe_of(family)
    weights = stored(model_of(recipe, torch.float32))
    folder = written(recipe, weights, kind)
    settings, back = read_model(folder)
    pooled = {"pooler": False} if kind in {"tags", "span"} and hasattr(settings, "pooler") else {}
    assert settings == recipe.model.model_copy(update=pooled)
    wanted = in_their_place(recipe, weights, kind)
    assert back.keys() == wanted.keys()
    moved = {name for name in back if not torch.equal(back[name], wanted[name])}
    score = {"gpt": "backbone.layers.1.feed_forward_norm.bias", "gpt2": "backbone.norm.bias"} if kind in {"text", "value"} else {}
    assert moved == ({score[family], f"heads.{kind}.classify.bias"} if family in score else set())
    assert not any(back[name].any() for name in moved if name.endswith("classify.bias")), "what is without a bias has one of zero"
    opened(folder, family, kind).save_pretrained(tmp_path / "theirs")
    saved_settings, saved = read_model(tmp_path / "theirs")
    assert saved_settings == settings
    assert saved.keys() == back.keys()
    assert all(torch.equal(saved[name], back[name]) for name in back)
    assert read_labels(tmp_path / "theirs") == read_labels(folder) == {"text": tuple(LABELS), "tags": tuple(TAGS)}.get(kind, ())
    config, tensors = read_folder(folder)
    head = TaskHead(recipe.tasks[kind].objectives[0].head, read_labels(folder))
    again = LAYOUTS[family].to_hugging_face(back, settings, VOCABULARY, head)
    assert json.loads(json.dumps(again[0])) == config
    assert again[1].keys() == tensors.keys()
    assert all(again[1][name].numpy().tobytes() == tensors[name].numpy().tobytes() for name in tensors)


def assert_says_what_the_head_tells(family, kind, config):
    names = {"text": LABELS, "tags": TAGS, "value": ["LABEL_0"]}.get(kind)
    if names:
        assert (config.num_labels, config.id2label) == (len(names), dict(enumerate(names)))
        assert config.label2id == {name: number for number, name in enumerate(names)}
    assert config.problem_type == {"text": "single_label_classification", "value": "regression"}.get(kind)
    assert config.pad_token_id == VOCABULARY.pad
    known = {"gpt": {"choice"}, "gpt2": {"choice", "tags"}, "xlnet": {"text", "value", "choice"}}.get(family, {*OBJECTIVES} - {"span"})
    if kind in known:
        key = {"gpt2": {"tags": "classifier_dropout"}.get(kind, "summary_first_dropout")}.get(
            family, DROPOUTS.get(family, "classifier_dropout")
        )
        assert getattr(config, key) == 0.25


@pytest.mark.parametrize("kind", ["text", "value", "choice"])
@pytest.mark.parametrize("family", ["bert", "ernie", "albert"])
def test_a_head_with_a_pooler_of_its_own_has_the_place_of_the_pooler(family, kind, written):
    """As these classes have one in any case."""
    recipe = recipe_of(family, model={"pooler": False})
    model = model_of(recipe)
    folder, batch = written(recipe, stored(model), kind), rows_of(family, kind)
    assert (ours(model, kind, *batch) - theirs(opened(folder, family, kind), family, kind, *batch)).abs().max() < 1e-10
    settings, back = read_model(folder)
    (objective,) = recipe.tasks[kind].objectives
    assert settings.pooler
    own = model.get_parameter(f"heads.{kind}-{objective.kind}.summary.dense.weight")
    assert torch.equal(back["backbone.pooler.dense.weight"], own)


def test_the_pooler_of_a_frozen_backbone_goes_along(written):
    recipe = recipe_of("bert", ["text"], freeze=True)
    model = model_of(recipe)
    batch = rows_of("bert", "text")
    found = theirs(opened(written(recipe, stored(model), "text"), "bert", "text"), "bert", "text", *batch)
    assert (ours(model, "text", *batch) - found).abs().max() < 1e-10

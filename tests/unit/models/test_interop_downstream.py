"""Fine-tuned models in transformers: every family with every head goes out, computes the same there, and comes back bit for bit."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import XLNetModel

from ptm_dist.errors import ConfigError
from ptm_dist.finetune.export import hugging_face
from ptm_dist.models.interop import LAYOUTS, read_labels, read_model
from ptm_dist.models.interop.folder import read_folder, write_folder
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import recipe_from_json, recipe_to_json
from ptm_dist.train.module import PretrainingModel
from tests.contract.engine_ranks import VOCABULARY, families
from tests.tiny import merged, tiny_recipe
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
        tasks[kind] = {"format": {"kind": FORMATS[kind], "length": 32}, "objectives": [made]}
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


CLOSE = {torch.float64: 1e-10, torch.float32: 1e-5}


@each
@pytest.mark.parametrize("dtype", CLOSE, ids=str)
def test_transformers_computes_the_same(family, kind, dtype, written):
    recipe = recipe_of(family)
    model = model_of(recipe, dtype)
    reference, batch = opened(written(recipe, stored(model), kind), family, kind), rows_of(family, kind)
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

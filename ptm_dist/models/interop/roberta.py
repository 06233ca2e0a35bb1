"""RoBERTa as transformers' RobertaForMaskedLM, and back."""

from __future__ import annotations

import re
from typing import Final

import torch
from pydantic import ValidationError
from torch import nn

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.models.interop.folder import Config, Tensors, require_tensors
from ptm_dist.models.roberta import PAD_POSITION, Roberta

FIELDS: Final = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "intermediate": "intermediate_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "norm_eps": "layer_norm_eps",
    "init_std": "initializer_range",
}
"""Our setting: its name in config.json."""

FIXED: Final = {
    "model_type": "roberta",
    "hidden_act": "gelu",  # the head of RobertaForMaskedLM uses gelu whatever this says
    "pad_token_id": PAD_POSITION,  # positions count from it
    "type_vocab_size": 1,
    "tie_word_embeddings": True,
    "is_decoder": False,
    "add_cross_attention": False,
}
"""What config.json says of every model of this family."""

PARTS: Final = {
    "backbone.words": "roberta.embeddings.word_embeddings",
    "backbone.positions": "roberta.embeddings.position_embeddings",
    "backbone.norm": "roberta.embeddings.LayerNorm",
    "heads.masked_lm.dense": "lm_head.dense",
    "heads.masked_lm.norm": "lm_head.layer_norm",
    "heads.masked_lm": "lm_head",
}
"""Our module: its name in transformers."""

LAYER_PARTS: Final = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "output_norm": "output.LayerNorm",
}
"""Our module of an encoder layer: its name in transformers, the same for all descendants of BERT."""

WORDS: Final = "backbone.words.weight"
POSITIONS: Final = "backbone.positions.weight"
TYPES: Final = "roberta.embeddings.token_type_embeddings.weight"

COPIES: Final = {
    "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
    "lm_head.decoder.bias": "lm_head.bias",
}
"""Tensors that some files hold twice: the copy and what it is tied to."""

UNUSED: Final = ("roberta.embeddings.position_ids", "roberta.pooler.")
"""What names of older files begin with that RobertaForMaskedLM has no use for either."""


def to_hugging_face(weights: Tensors, settings: Roberta, vocabulary: Vocabulary) -> tuple[Config, Tensors]:
    """Return config.json and the tensors of RobertaForMaskedLM; classifier heads have no place there and stay behind.

    Raises:
        ConfigError: RobertaForMaskedLM cannot compute what this model computes, or weights are missing or misshapen.

    """
    if settings.activation != FIXED["hidden_act"]:
        raise ConfigError(f"model.activation is {settings.activation!r}; only gelu exports, RobertaForMaskedLM has it fixed.")
    if vocabulary.pad != PAD_POSITION:
        raise ConfigError(f"tokenizer: pad is {vocabulary.pad}, must be {PAD_POSITION}: Hugging Face counts positions from it.")
    shapes = _shapes(settings, vocabulary.size)
    weights = {name: weight for name, weight in weights.items() if name.startswith(("backbone.", "heads.masked_lm."))}
    require_tensors(weights, shapes, "weights")
    tensors = {_theirs(name): weights[name] for name in shapes}
    tensors[TYPES] = weights[WORDS].new_zeros(1, settings.hidden)
    return _config(settings, vocabulary, weights[WORDS].dtype), tensors


def from_hugging_face(config: Config, tensors: Tensors) -> tuple[Roberta, Tensors]:
    """Return the settings and weights of a RobertaForMaskedLM.

    ptm_dist has no row of segment type: the positions take it up, which moves logits by rounding, by nothing when it is zero.

    Raises:
        ConfigError: ptm_dist cannot compute what that model computes, or tensors are missing, extra or misshapen.

    """
    settings = _settings(config)
    shapes = _shapes(settings, config["vocab_size"])
    tensors = _without_copies(tensors)
    require_tensors(tensors, {_theirs(name): shape for name, shape in shapes.items()} | {TYPES: (1, settings.hidden)}, "tensors")
    weights = {name: tensors[_theirs(name)] for name in shapes}
    if tensors[TYPES].any():
        weights[POSITIONS] = weights[POSITIONS] + tensors[TYPES]
    return settings, weights


def _config(settings: Roberta, vocabulary: Vocabulary, dtype: torch.dtype) -> Config:
    return {
        "architectures": ["RobertaForMaskedLM"],
        **FIXED,
        **{theirs: getattr(settings, ours) for ours, theirs in FIELDS.items()},
        "max_position_embeddings": settings.positions + PAD_POSITION + 1,
        "vocab_size": vocabulary.size,
        "bos_token_id": vocabulary.begin,
        "eos_token_id": vocabulary.end,
        "dtype": str(dtype).removeprefix("torch."),
    }


def _settings(config: Config) -> Roberta:
    needed = ["model_type", "max_position_embeddings", "vocab_size", *FIELDS.values()]
    wrong = [
        *(f"{key} is missing" for key in needed if key not in config),
        *(f"{key} is {config[key]!r}, must be {value!r}" for key, value in FIXED.items() if config.get(key, value) != value),
    ]
    if wrong:
        raise ConfigError(f"config.json: {'; '.join(wrong)}. Only a RobertaForMaskedLM can be imported.")
    try:
        positions = config["max_position_embeddings"] - PAD_POSITION - 1
        return Roberta(positions=positions, **{ours: config[theirs] for ours, theirs in FIELDS.items()})
    except ValidationError as error:
        reasons = "; ".join(": ".join([*map(str, item["loc"]), item["msg"]]) for item in error.errors())
        raise ConfigError(f"config.json gives impossible settings: {reasons}. Correct them there.") from error


def _shapes(settings: Roberta, vocabulary_size: int) -> dict[str, tuple[int, ...]]:
    """Return the stored shape of every parameter of backbone and masked-LM head, shared ones once."""
    # Shapes depend on no special id but these stand where fairseq has them.
    vocabulary = Vocabulary(vocabulary_size, begin=0, pad=PAD_POSITION, end=2, unknown=3, mask=vocabulary_size - 1)
    with torch.device("meta"):
        backbone = settings.backbone(vocabulary)
        heads = nn.ModuleDict({"masked_lm": settings.head(HeadSpec("masked_lm"), backbone, vocabulary)})
    parameters = nn.ModuleDict({"backbone": backbone, "heads": heads}).named_parameters()
    return {name: (getattr(weight, "stored_rows", weight.shape[0]), *weight.shape[1:]) for name, weight in parameters}


def _theirs(name: str) -> str:
    module, _, leaf = name.rpartition(".")
    if layer := re.fullmatch(r"backbone\.encoder\.layers\.(\d+)\.(.+)", module):
        return f"roberta.encoder.layer.{layer[1]}.{LAYER_PARTS[layer[2]]}.{leaf}"
    return f"{PARTS[module]}.{leaf}"


def _without_copies(tensors: Tensors) -> Tensors:
    for copy, original in COPIES.items():
        if copy in tensors and original in tensors and not torch.equal(tensors[copy], tensors[original]):
            raise ConfigError(f"tensors: {copy} differs from {original}; ptm_dist shares them, so this model cannot be imported.")
    return {name: tensor for name, tensor in tensors.items() if name not in COPIES and not name.startswith(UNUSED)}

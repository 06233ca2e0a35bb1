"""ALBERT as AlbertModel, AlbertForMaskedLM, AlbertForPreTraining, or with the head of a labelled task, and back."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.models.albert import Albert, SharingEncoder
from ptm_dist.models.interop.encoder import (
    DEFAULTS,
    FIELDS,
    SegmentedLayout,
    embedding_names,
    task_classes,
    task_dropouts,
    task_names,
)
from ptm_dist.models.interop.folder import Config, Tensors

WIDEN = "albert.encoder.embedding_hidden_mapping_in"
WORDS = "albert.embeddings.word_embeddings.weight"
LAYER = "albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}."
PARTS = {
    "attentions.query": "attention.query",
    "attentions.key": "attention.key",
    "attentions.value": "attention.value",
    "attentions.output": "attention.dense",
    "attentions.norm": "attention.LayerNorm",
    "feed_forwards.up": "ffn",
    "feed_forwards.down": "ffn_output",
    "feed_forwards.norm": "full_layer_layer_norm",
}


class AlbertLayout(SegmentedLayout):
    """ALBERT in transformers, which shares weights in groups only; other kinds of sharing are written out a group a layer."""

    family: ClassVar = Albert
    model_type: ClassVar = "albert"
    class_prefix: ClassVar = "Albert"
    prefix: ClassVar = "albert."
    fields: ClassVar = FIELDS | {"embedding": "embedding_size"}
    defaults: ClassVar = DEFAULTS | {
        "hidden_size": 4096,
        "num_attention_heads": 64,
        "intermediate_size": 16384,
        "hidden_dropout_prob": 0,
        "attention_probs_dropout_prob": 0,
        "hidden_act": "gelu_new",
        "embedding_size": 128,
        "vocab_size": 30000,
        "num_hidden_groups": 1,
        "inner_group_num": 1,
    }
    names: ClassVar = {
        **embedding_names("albert."),
        "backbone.widen": WIDEN,
        "backbone.pooler.dense": "albert.pooler",
        "heads.masked_lm.dense": "predictions.dense",
        "heads.masked_lm.norm": "predictions.LayerNorm",
        "heads.masked_lm.project.bias": "predictions.bias",
        "heads.sequence.classify": "sop_classifier.classifier",
        **task_names("albert.pooler"),
    }
    tasks: ClassVar = task_classes("Albert")
    task_dropouts: ClassVar = task_dropouts("classifier_dropout_prob")
    copies: ClassVar = {"predictions.decoder.weight": WORDS, "predictions.decoder.bias": "predictions.bias"}
    unused: ClassVar = (r"position_ids$", r"token_type_ids$")

    def theirs(self, name: str, settings: Any) -> str:
        """Return the name of a parameter; a part that several blocks use is named after the first."""
        if not name.startswith("backbone.encoder."):
            return super().theirs(name, settings)
        module, _, leaf = name.rpartition(".")
        return next(f"{theirs}.{leaf}" for ours, theirs in _blocks(settings) if ours == module)

    def config_of(self, settings: Albert, vocabulary: Vocabulary) -> Config:
        """Return what BERT has, and the groups."""
        groups = settings.groups if settings.sharing == "all" else settings.layers
        return super().config_of(settings, vocabulary) | {
            "num_hidden_groups": groups,
            "inner_group_num": settings.inner_groups,
            "classifier_dropout_prob": 0.0,
        }

    def settings_of(self, config: Config, tensors: Tensors) -> dict[str, Any]:
        """Return the same."""
        groups = {"groups": config["num_hidden_groups"], "inner_groups": config["inner_group_num"]}
        return super().settings_of(config, tensors) | groups

    def tensors_out(self, tensors: Tensors, settings: Albert) -> Tensors:
        """Repeat the parts that several blocks use, and widen by the identity where nothing is widened."""
        first: dict[str, str] = {}
        made = dict(tensors)
        for ours, theirs in _blocks(settings):
            for leaf in ("weight", "bias"):
                # safetensors refuses tensors that share memory.
                made[f"{theirs}.{leaf}"] = tensors[f"{first.setdefault(ours, theirs)}.{leaf}"].clone()
        if settings.embedding == settings.hidden:
            made |= {f"{WIDEN}.weight": torch.eye(settings.hidden).to(made[WORDS]), f"{WIDEN}.bias": made[WORDS].new_zeros(settings.hidden)}
        return made

    def extra_shapes(self, settings: Albert) -> dict[str, tuple[int, ...]]:
        """Return those of that identity."""
        width = settings.hidden
        return {f"{WIDEN}.weight": (width, width), f"{WIDEN}.bias": (width,)} if settings.embedding == width else {}

    def tensors_in(self, tensors: Tensors, settings: Albert) -> Tensors:
        """Check that it is one.

        Raises:
            ConfigError: an embedding as wide as the encoder is mapped by something else.

        """
        if settings.embedding == settings.hidden:
            weight, bias = tensors[f"{WIDEN}.weight"], tensors[f"{WIDEN}.bias"]
            if not torch.equal(weight, torch.eye(settings.hidden).to(weight)) or bias.any():
                raise ConfigError(f"tensors: {WIDEN} is not the identity; ptm_dist, like Google's code, maps no width to itself.")
        return tensors


def _blocks(settings: Albert) -> list[tuple[str, str]]:
    """Return our and their name of each part of each block."""
    with torch.device("meta"):
        used = SharingEncoder(settings).used
    made = []
    for group in range(settings.groups if settings.sharing == "all" else settings.layers):
        for inner in range(settings.inner_groups):
            # The first layer of the group.
            first = group * settings.inner_groups * (settings.layers // settings.groups if settings.sharing == "all" else 1)
            attention, feed_forward = used[first + inner]
            for ours, theirs in PARTS.items():
                kind, _, part = ours.partition(".")
                number = attention if kind == "attentions" else feed_forward
                made.append((f"backbone.encoder.{kind}.{number}.{part}", LAYER.format(group=group, inner=inner) + theirs))
    return made

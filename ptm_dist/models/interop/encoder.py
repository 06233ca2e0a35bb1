"""What the descendants of BERT have in common in transformers."""

from __future__ import annotations

from typing import Any, ClassVar

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.models.interop.folder import Config, Tensors
from ptm_dist.models.interop.layout import PAIR, Layout

FIELDS = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "intermediate": "intermediate_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "norm_eps": "layer_norm_eps",
    "init_std": "initializer_range",
}

DEFAULTS = {
    "num_hidden_layers": 12,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.02,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "vocab_size": 30522,
    "pad_token_id": 0,
}

FIXED = {"tie_word_embeddings": True, "is_decoder": False, "add_cross_attention": False}


def embedding_names(prefix: str) -> dict[str, str]:
    """Return the names of embeddings and pooler."""
    return {
        "backbone.words": f"{prefix}embeddings.word_embeddings",
        "backbone.positions": f"{prefix}embeddings.position_embeddings",
        "backbone.tables.segments": f"{prefix}embeddings.token_type_embeddings",
        "backbone.norm": f"{prefix}embeddings.LayerNorm",
        "backbone.pooler.dense": f"{prefix}pooler.dense",
    }


def layer_names(prefix: str) -> dict[str, str]:
    """Return the names of a layer."""
    parts = {
        "attention.query": "attention.self.query",
        "attention.key": "attention.self.key",
        "attention.value": "attention.self.value",
        "attention.output": "attention.output.dense",
        "attention.norm": "attention.output.LayerNorm",
        "feed_forward.up": "intermediate.dense",
        "feed_forward.down": "output.dense",
        "feed_forward.norm": "output.LayerNorm",
    }
    return {f"backbone.encoder.layers.*.{ours}": f"{prefix}encoder.layer.*.{theirs}" for ours, theirs in parts.items()}


PREDICTION_NAMES = {
    "heads.masked_lm.dense": "cls.predictions.transform.dense",
    "heads.masked_lm.norm": "cls.predictions.transform.LayerNorm",
    "heads.masked_lm.project.bias": "cls.predictions.bias",
    "heads.sequence.classify": "cls.seq_relationship",
}
"""The heads of BertForPreTraining and ErnieForPreTraining."""


def task_names(pooler: str) -> dict[str, str]:
    """Return the names of the heads of labelled tasks; where our backbone has no pooler, that of a head has its place."""
    summarised = {"classify": "classifier", "summary.dense": pooler}
    found = {f"heads.{kind}.{ours}": theirs for kind in ("text", "value", "choice") for ours, theirs in summarised.items()}
    return found | {"heads.tags.classify": "classifier", "heads.span.classify": "qa_outputs"}


def task_classes(family: str) -> dict[str, str]:
    """Return the classes that have these heads."""
    classes = {"text": "SequenceClassification", "value": "SequenceClassification", "choice": "MultipleChoice"}
    classes |= {"tags": "TokenClassification", "span": "QuestionAnswering"}
    return {kind: f"{family}For{name}" for kind, name in classes.items()}


def task_dropouts(key: str) -> dict[str, str]:
    """Return what config.json calls the dropout of each of these heads that has one."""
    return dict.fromkeys(("text", "value", "choice", "tags"), key)


class SegmentedLayout(Layout):
    """A family with segments and pooler whose heads are BERT's."""

    fields: ClassVar = FIELDS
    defaults: ClassVar = DEFAULTS
    fixed: ClassVar = FIXED
    unused: ClassVar = (r"position_ids$", r"token_type_ids$")
    heads: ClassVar = {"masked_lm": HeadSpec("masked_lm"), "sequence": PAIR}
    class_prefix: ClassVar[str]
    task_dropouts: ClassVar = task_dropouts("classifier_dropout")

    def architecture(self, heads: Any) -> str:
        """Return the class that has these heads."""
        suffix = {(): "Model", ("masked_lm",): "ForMaskedLM", ("masked_lm", "sequence"): "ForPreTraining"}
        return self.class_prefix + suffix.get(tuple(heads), "ForNextSentencePrediction")

    def for_task(self, weights: Tensors, settings: Any, kind: str) -> tuple[Tensors, Any]:
        """Leave the pooler behind where no head reads it: the class has none."""
        if kind not in {"tags", "span"}:
            return weights, settings
        weights = {name: weight for name, weight in weights.items() if not name.startswith("backbone.pooler.")}
        return weights, settings.model_copy(update={"pooler": False})

    def config_of(self, settings: Any, vocabulary: Vocabulary) -> Config:
        """Return activation, positions and segments."""
        return {
            "hidden_act": self.activations[settings.activation],
            "max_position_embeddings": settings.positions,
            "type_vocab_size": settings.segments,
        }

    def settings_of(self, config: Config, tensors: Tensors) -> dict[str, Any]:
        """Return the same, and whether there is a pooler."""
        return {
            "activation": self.activation(config, "hidden_act"),
            "positions": config["max_position_embeddings"],
            "segments": config["type_vocab_size"],
            "pooler": any(name.startswith(f"{self.prefix}pooler.") for name in tensors),
        }


def copies_of(table: str) -> dict[str, str]:
    """Return the tied tensors of the heads of BertForPreTraining."""
    return {"cls.predictions.decoder.weight": table, "cls.predictions.decoder.bias": "cls.predictions.bias"}

"""XLNet as XLNetModel, XLNetLMHeadModel, or with the head of a labelled task, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.models.interop.encoder import task_classes
from ptm_dist.models.interop.folder import Config, Tensors
from ptm_dist.models.interop.layout import Layout
from ptm_dist.models.xlnet import Xlnet

MASK = "transformer.mask_emb"
ATTENTION = "transformer.layer.{layer}.rel_attn.{part}"
TURNED = {"query": "q", "key": "k", "value": "v", "distance": "r"}
"""Matrices that transformers stores as [hidden, heads, head width]."""
PARAMETERS = {
    **{f"{ours}.weight": theirs for ours, theirs in TURNED.items()},
    "output.weight": "o",  # stored like these, and used the other way round
    "content_bias": "r_w_bias",
    "position_bias": "r_r_bias",
    "segment_bias": "r_s_bias",
    "segments": "seg_embed",
    "norm.weight": "layer_norm.weight",
    "norm.bias": "layer_norm.bias",
}

SUMMARY = {"summary.dense": "sequence_summary.summary", "classify": "logits_proj"}
SPAN = {"start": "start_logits.dense", "dense": "end_logits.dense_0", "norm": "end_logits.LayerNorm", "end": "end_logits.dense_1"}
ANSWERABLE = "answer_class."
"""A head of XLNetForQuestionAnswering that ptm_dist has not. Of zeros it tells nothing of any question: its logit is 0."""


class XlnetLayout(Layout):
    """XLNet in transformers, which has one dropout for all and, without memory given, attends to none.

    Of XLNetForQuestionAnsweringSimple only the backbone comes in: its ends do not follow a start.
    """

    family: ClassVar = Xlnet
    model_type: ClassVar = "xlnet"
    prefix: ClassVar = "transformer."
    fields: ClassVar = {
        "layers": "n_layer",
        "hidden": "d_model",
        "heads": "n_head",
        "intermediate": "d_inner",
        "dropout": "dropout",
        "norm_eps": "layer_norm_eps",
        "init_std": "initializer_range",
        "clamp_length": "clamp_len",
        "attention": "attn_type",
    }
    defaults: ClassVar = {
        "n_layer": 24,
        "d_model": 1024,
        "n_head": 16,
        "d_inner": 4096,
        "ff_activation": "gelu",
        "dropout": 0.1,
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.02,
        "mem_len": 512,
        "clamp_len": -1,
        "attn_type": "bi",
        "vocab_size": 32000,
        "pad_token_id": 5,
    }
    fixed: ClassVar = {"tie_word_embeddings": True, "untie_r": True, "same_length": False, "bi_data": False}
    transposed: ClassVar = tuple(f"attention.{part}" for part in TURNED)
    names: ClassVar = {
        "backbone.words": "transformer.word_embedding",
        "backbone.mask_vector": MASK,
        **{f"backbone.layers.*.attention.{ours}": ATTENTION.format(layer="*", part=theirs) for ours, theirs in PARAMETERS.items()},
        "backbone.layers.*.up": "transformer.layer.*.ff.layer_1",
        "backbone.layers.*.down": "transformer.layer.*.ff.layer_2",
        "backbone.layers.*.norm": "transformer.layer.*.ff.layer_norm",
        "heads.permutation_lm.project.bias": "lm_loss.bias",
        **{f"heads.{kind}.{ours}": theirs for kind in ("text", "value", "choice") for ours, theirs in SUMMARY.items()},
        "heads.tags.classify": "classifier",
        **{f"heads.span.{ours}": theirs for ours, theirs in SPAN.items()},
    }
    copies: ClassVar = {"lm_loss.weight": "transformer.word_embedding.weight"}
    unused: ClassVar = (r"^answer_class\.", r"^qa_outputs\.")
    heads: ClassVar = {"permutation_lm": HeadSpec("permutation_lm")}
    tasks: ClassVar = task_classes("XLNet")
    task_dropouts: ClassVar = dict.fromkeys(("text", "value", "choice"), "summary_last_dropout")

    def architecture(self, heads: Iterable[str]) -> str:
        """Return the class with or without the LM head."""
        return "XLNetLMHeadModel" if list(heads) else "XLNetModel"

    def config_of(self, settings: Xlnet, vocabulary: Vocabulary) -> Config:
        """Return the rest; the key attention_dropout is ours, transformers carries it along.

        Raises:
            ConfigError: the heads do not fill the width of the model exactly.

        """
        if settings.heads * settings.head_width != settings.hidden:
            made = f"heads {settings.heads} x head_width {settings.head_width}"
            raise ConfigError(f"model: {made} is not hidden {settings.hidden}; transformers has no such XLNet.")
        return {
            "d_head": settings.head_width,
            "ff_activation": self.activations[settings.activation],
            "attention_dropout": settings.attention_dropout,
            "mem_len": settings.memory_length or None,
            "reuse_len": settings.reuse_length or None,
        }

    def settings_of(self, config: Config, tensors: Tensors) -> dict[str, Any]:
        """Return the same."""
        return {
            "head_width": config.get("d_head") or config["d_model"] // config["n_head"],
            "activation": self.activation(config, "ff_activation"),
            "attention_dropout": config.get("attention_dropout", config["dropout"]),
            "memory_length": config["mem_len"] or 0,
            "reuse_length": config.get("reuse_len") or 0,
        }

    def tensors_out(self, tensors: Tensors, settings: Xlnet) -> Tensors:
        """Give every head its own dimension, and questions a classifier of answerability that tells nothing."""
        if "start_logits.dense.weight" in tensors:
            size, like = settings.hidden, tensors[MASK]
            shapes = {"dense_0.weight": (size, 2 * size), "dense_0.bias": (size,), "dense_1.weight": (1, size)}
            tensors = tensors | {ANSWERABLE + name: like.new_zeros(shape) for name, shape in shapes.items()}
        return tensors | {name: tensors[name].reshape(shape) for name, shape in self.extra_shapes(settings).items()}

    def extra_shapes(self, settings: Xlnet) -> dict[str, tuple[int, ...]]:
        """Return the shapes that this gives."""
        shape = (settings.hidden, settings.heads, settings.head_width)
        places = [(layer, part) for layer in range(settings.layers) for part in (*TURNED.values(), "o")]
        return {ATTENTION.format(layer=layer, part=part): shape for layer, part in places} | {MASK: (1, 1, settings.hidden)}

    def tensors_in(self, tensors: Tensors, settings: Xlnet) -> Tensors:
        """Return matrices."""
        return tensors | {name: tensors[name].reshape(-1, tensors[name].shape[1:].numel()) for name in self.extra_shapes(settings)}

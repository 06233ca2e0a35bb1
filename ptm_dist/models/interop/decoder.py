"""GPT and GPT-2 as OpenAIGPTLMHeadModel and GPT2LMHeadModel, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.models.gpt import Gpt
from ptm_dist.models.gpt2 import Gpt2
from ptm_dist.models.interop.folder import Config, Tensors
from ptm_dist.models.interop.layout import Layout

FIELDS = {
    "layers": "n_layer",
    "hidden": "n_embd",
    "heads": "n_head",
    "positions": "n_positions",
    "attention_dropout": "attn_pdrop",
    "norm_eps": "layer_norm_epsilon",
    "init_std": "initializer_range",
}
DEFAULTS = {
    "n_layer": 12,
    "n_embd": 768,
    "n_head": 12,
    "attn_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "resid_pdrop": 0.1,
    "layer_norm_epsilon": 1e-5,
    "initializer_range": 0.02,
}
LAYER = {
    "attention.joint": "attn.c_attn",
    "attention.output": "attn.c_proj",
    "attention_norm": "ln_1",
    "feed_forward.up": "mlp.c_fc",
    "feed_forward.down": "mlp.c_proj",
    "feed_forward_norm": "ln_2",
}


class DecoderLayout(Layout):
    """What both have in common; transformers stores their matrices as [in, out]."""

    prefix: ClassVar = "transformer."
    fields: ClassVar = FIELDS
    fixed: ClassVar = {"tie_word_embeddings": True}
    transposed: ClassVar = ("attention.joint", "attention.output", "feed_forward.up", "feed_forward.down")
    unused: ClassVar = (r"(^|\.)attn\.(masked_)?bias$", r"position_ids$")
    heads: ClassVar = {"causal_lm": HeadSpec("causal_lm")}
    always: ClassVar = ("causal_lm",)

    def config_of(self, settings: Any, vocabulary: Vocabulary) -> Config:
        """Return the dropouts, which ptm_dist has one for."""
        return {"embd_pdrop": settings.dropout, "resid_pdrop": settings.dropout}

    def settings_of(self, config: Config, tensors: Tensors) -> dict[str, Any]:
        """Return the one.

        Raises:
            ConfigError: the dropouts differ.

        """
        if config["embd_pdrop"] != config["resid_pdrop"]:
            raise ConfigError(
                f"config.json: embd_pdrop {config['embd_pdrop']} and resid_pdrop {config['resid_pdrop']} differ; make them equal."
            )
        return {"dropout": config["embd_pdrop"]}


def _names(words: str, positions: str) -> dict[str, str]:
    layers = {f"backbone.layers.*.{ours}": f"transformer.h.*.{theirs}" for ours, theirs in LAYER.items()}
    return {"backbone.words": f"transformer.{words}", "backbone.positions": f"transformer.{positions}"} | layers


class GptLayout(DecoderLayout):
    """GPT in transformers, where afn "gelu" means the tanh form."""

    family: ClassVar = Gpt
    model_type: ClassVar = "openai-gpt"
    names: ClassVar = _names("tokens_embed", "positions_embed")
    copies: ClassVar = {"lm_head.weight": "transformer.tokens_embed.weight"}
    defaults: ClassVar = DEFAULTS | {"vocab_size": 40478, "n_positions": 512, "afn": "gelu"}
    fixed: ClassVar = {**DecoderLayout.fixed, "afn": "gelu"}

    def architecture(self, heads: Iterable[str]) -> str:
        """Return the class with or without the LM head."""
        return "OpenAIGPTLMHeadModel" if list(heads) else "OpenAIGPTModel"


class Gpt2Layout(DecoderLayout):
    """GPT-2 in transformers."""

    family: ClassVar = Gpt2
    model_type: ClassVar = "gpt2"
    names: ClassVar = _names("wte", "wpe") | {"backbone.norm": "transformer.ln_f"}
    copies: ClassVar = {"lm_head.weight": "transformer.wte.weight"}
    defaults: ClassVar = DEFAULTS | {"vocab_size": 50257, "n_positions": 1024}
    fixed: ClassVar = {
        **DecoderLayout.fixed,
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    }

    def architecture(self, heads: Iterable[str]) -> str:
        """Return the class with or without the LM head."""
        return "GPT2LMHeadModel" if list(heads) else "GPT2Model"

    def settings_of(self, config: Config, tensors: Tensors) -> dict[str, Any]:
        """Return the dropout.

        Raises:
            ConfigError: the feed-forward part is not four times as wide as the rest.

        """
        if config.get("n_inner") not in {None, 4 * config["n_embd"]}:
            raise ConfigError(f"config.json: n_inner is {config['n_inner']}; ptm_dist has 4 x n_embd.")
        return super().settings_of(config, tensors)

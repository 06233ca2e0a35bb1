"""GPT and GPT-2 as OpenAIGPTLMHeadModel and GPT2LMHeadModel, or with the head of a labelled task, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.models.gpt import Gpt
from ptm_dist.models.gpt2 import Gpt2
from ptm_dist.models.interop.folder import Config, Tensors
from ptm_dist.models.interop.layout import INSTEAD, Layout

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
SCORE = "score.weight"
SCORE_BIAS = "score.bias"
"""There is none in transformers."""


class DecoderLayout(Layout):
    """What both have in common; transformers stores their matrices as [in, out].

    Its classifiers of texts have no bias, as the paper writes them; OpenAI's code has one, and so have ours. It goes into the bias of the
    last LayerNorm: with W d = b, W (h + d) = W h + b. States change by that, logits by rounding only.
    """

    prefix: ClassVar = "transformer."
    fields: ClassVar = FIELDS
    fixed: ClassVar = {"tie_word_embeddings": True}
    transposed: ClassVar = ("attention.joint", "attention.output", "feed_forward.up", "feed_forward.down")
    unused: ClassVar = (r"(^|\.)attn\.(masked_)?bias$", r"position_ids$")
    heads: ClassVar = {"causal_lm": HeadSpec("causal_lm")}
    always: ClassVar = ("causal_lm",)
    task_dropouts: ClassVar = {"choice": "summary_first_dropout", "tags": "classifier_dropout"}

    def last_norm(self, settings: Any) -> str:
        """Return the bias that is added to every state at the very end."""
        raise NotImplementedError

    def tensors_out(self, tensors: Tensors, settings: Any) -> Tensors:
        """Put the bias of a classifier of texts where transformers has one.

        Raises:
            ConfigError: no change of the states gives it.

        """
        if SCORE_BIAS not in tensors:
            return tensors
        norm, score, bias = self.last_norm(settings), tensors[SCORE].double(), tensors[SCORE_BIAS].double()
        shifted = tensors[norm] + (torch.linalg.pinv(score) @ bias).to(tensors[norm].dtype)
        gained = score @ (shifted.double() - tensors[norm].double())
        if not torch.allclose(gained, bias, rtol=1e-4, atol=1e-6):
            raise ConfigError(
                f"transformers' classifier of texts has no bias, and this one's cannot be put elsewhere: the rows of its {len(bias)} "
                f"classes depend on each other. {INSTEAD}"
            )
        rest = {name: tensor for name, tensor in tensors.items() if name != SCORE_BIAS}
        return rest | ({norm: shifted} if bias.any() else {})

    def cleaned(self, tensors: Tensors, needed: tuple[str, ...] = ()) -> Tensors:
        """Give a classifier of texts a bias of zero."""
        found = super().cleaned(tensors, needed)
        return ({SCORE_BIAS: found[SCORE].new_zeros(len(found[SCORE]))} if SCORE in found else {}) | found

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
    heads = {"text": "score", "value": "score", "choice": "multiple_choice_head.summary", "tags": "classifier", "span": "qa_outputs"}
    tables = {"backbone.words": f"transformer.{words}", "backbone.positions": f"transformer.{positions}"}
    return tables | layers | {f"heads.{kind}.classify": theirs for kind, theirs in heads.items()}


def _classes(family: str) -> dict[str, str]:
    return dict.fromkeys(("text", "value"), f"{family}ForSequenceClassification") | {"choice": f"{family}DoubleHeadsModel"}


class GptLayout(DecoderLayout):
    """GPT in transformers, where afn "gelu" means the tanh form."""

    family: ClassVar = Gpt
    model_type: ClassVar = "openai-gpt"
    names: ClassVar = _names("tokens_embed", "positions_embed")
    copies: ClassVar = {"lm_head.weight": "transformer.tokens_embed.weight"}
    tasks: ClassVar = _classes("OpenAIGPT")
    defaults: ClassVar = DEFAULTS | {"vocab_size": 40478, "n_positions": 512, "afn": "gelu"}
    fixed: ClassVar = {**DecoderLayout.fixed, "afn": "gelu"}

    def architecture(self, heads: Iterable[str]) -> str:
        """Return the class with or without the LM head."""
        return "OpenAIGPTLMHeadModel" if list(heads) else "OpenAIGPTModel"

    def last_norm(self, settings: Any) -> str:
        """Return that of the last layer."""
        return f"transformer.h.{settings.layers - 1}.ln_2.bias"


class Gpt2Layout(DecoderLayout):
    """GPT-2 in transformers."""

    family: ClassVar = Gpt2
    model_type: ClassVar = "gpt2"
    names: ClassVar = _names("wte", "wpe") | {"backbone.norm": "transformer.ln_f"}
    copies: ClassVar = {"lm_head.weight": "transformer.wte.weight"}
    tasks: ClassVar = _classes("GPT2") | {"tags": "GPT2ForTokenClassification", "span": "GPT2ForQuestionAnswering"}
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

    def last_norm(self, settings: Any) -> str:
        """Return that of the one after all layers."""
        return "transformer.ln_f.bias"

    def settings_of(self, config: Config, tensors: Tensors) -> dict[str, Any]:
        """Return the dropout.

        Raises:
            ConfigError: the feed-forward part is not four times as wide as the rest.

        """
        if config.get("n_inner") not in {None, 4 * config["n_embd"]}:
            raise ConfigError(f"config.json: n_inner is {config['n_inner']}; ptm_dist has 4 x n_embd.")
        return super().settings_of(config, tensors)

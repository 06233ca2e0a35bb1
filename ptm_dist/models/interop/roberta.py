"""RoBERTa as RobertaModel, RobertaForMaskedLM, or with the head of a labelled task, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.models.interop.encoder import (
    DEFAULTS,
    FIELDS,
    FIXED,
    embedding_names,
    layer_names,
    task_classes,
    task_dropouts,
    task_names,
)
from ptm_dist.models.interop.folder import Config, Tensors
from ptm_dist.models.interop.layout import Layout
from ptm_dist.models.roberta import PAD_POSITION, Roberta

WORDS = "roberta.embeddings.word_embeddings.weight"
POSITIONS = "roberta.embeddings.position_embeddings.weight"
TYPES = "roberta.embeddings.token_type_embeddings.weight"


class RobertaLayout(Layout):
    """RoBERTa in transformers, which has one row of segment types: zeros on the way out, added to the positions on the way in."""

    family: ClassVar = Roberta
    model_type: ClassVar = "roberta"
    prefix: ClassVar = "roberta."
    fields: ClassVar = FIELDS
    defaults: ClassVar = DEFAULTS | {"pad_token_id": PAD_POSITION, "vocab_size": 50265}
    fixed: ClassVar = FIXED | {
        "hidden_act": "gelu",  # the head of RobertaForMaskedLM uses gelu whatever this says
        "pad_token_id": PAD_POSITION,  # positions count from it
        "type_vocab_size": 1,
    }
    names: ClassVar = {
        **embedding_names("roberta."),
        **layer_names("roberta."),
        "heads.masked_lm.dense": "lm_head.dense",
        "heads.masked_lm.norm": "lm_head.layer_norm",
        "heads.masked_lm.project.bias": "lm_head.bias",
        **task_names("roberta.pooler.dense"),
        **{f"heads.{kind}.summary.dense": "classifier.dense" for kind in ("text", "value")},
        **{f"heads.{kind}.classify": "classifier.out_proj" for kind in ("text", "value")},
    }
    copies: ClassVar = {"lm_head.decoder.weight": WORDS, "lm_head.decoder.bias": "lm_head.bias"}
    unused: ClassVar = (r"position_ids$", r"token_type_ids$", r"^roberta\.pooler\.", r"^pooler\.")
    heads: ClassVar = {"masked_lm": HeadSpec("masked_lm")}
    tasks: ClassVar = task_classes("Roberta")
    task_dropouts: ClassVar = task_dropouts("classifier_dropout")

    def architecture(self, heads: Iterable[str]) -> str:
        """Return the class that has these heads."""
        return "RobertaForMaskedLM" if list(heads) else "RobertaModel"

    def config_of(self, settings: Roberta, vocabulary: Vocabulary) -> Config:
        """Return the rows of the position table.

        Raises:
            ConfigError: the activation or the pad id is none that RobertaForMaskedLM can have.

        """
        if settings.activation != "gelu":
            raise ConfigError(f"model.activation is {settings.activation!r}; only gelu exports, RobertaForMaskedLM has it fixed.")
        if vocabulary.pad != PAD_POSITION:
            raise ConfigError(f"tokenizer: pad is {vocabulary.pad}, must be {PAD_POSITION}: Hugging Face counts positions from it.")
        return {"max_position_embeddings": settings.positions + settings.position_offset}

    def settings_of(self, config: Config, tensors: Tensors) -> dict[str, Any]:
        """Return the longest row."""
        return {"positions": config["max_position_embeddings"] - Roberta.position_offset}

    def tensors_out(self, tensors: Tensors, settings: Roberta) -> Tensors:
        """Add a row of zeros."""
        return tensors | {TYPES: tensors[WORDS].new_zeros(1, settings.hidden)}

    def extra_shapes(self, settings: Roberta) -> dict[str, tuple[int, ...]]:
        """Return that of the row."""
        return {TYPES: (1, settings.hidden)}

    def tensors_in(self, tensors: Tensors, settings: Roberta) -> Tensors:
        """Fold the row into the positions, which moves logits by rounding, by nothing when it is zero."""
        return tensors | {POSITIONS: tensors[POSITIONS] + tensors[TYPES]} if tensors[TYPES].any() else tensors

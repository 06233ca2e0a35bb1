"""RoBERTa: BERT's encoder without segments or pooler, positions counted from padding_idx + 1."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.models.base import Backbone
from ptm_dist.models.encoder import Encoder, EncoderShape, MaskedLMHead, TokenHead, cut, initialise, padded_rows

PAD_POSITION = 1
"""Pads get position 1, the first token of a row position 2: fairseq counts from the pad id."""

Positive = Annotated[int, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]


class Roberta(BaseModel):
    """The RoBERTa family; the defaults are the base size.

    Source: Liu et al. 2019 and fairseq models/roberta/model.py. Deviation: fairseq has no segment row; Hugging Face's class has
    one of zeros, which only the export writes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["roberta"] = "roberta"
    layers: Positive = 12
    hidden: Positive = 768
    heads: Positive = 12
    intermediate: Positive = 3072
    positions: Annotated[int, Field(gt=0, description="longest row in tokens; the table has two rows more")] = 512
    activation: Literal["gelu", "gelu_tanh", "relu"] = "gelu"
    dropout: Probability = 0.1
    attention_dropout: Probability = 0.1
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    init_std: Annotated[float, Field(gt=0)] = 0.02

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is not a multiple of heads {self.heads}")
        return self

    @property
    def longest(self) -> int:
        """Most tokens a row may have."""
        return self.positions

    @property
    def shape(self) -> EncoderShape:
        """The dimensions of the encoder."""
        names = EncoderShape.__dataclass_fields__
        return EncoderShape(**{name: getattr(self, name) for name in names})

    def backbone(self, vocabulary: Vocabulary) -> RobertaBackbone:
        """Build the backbone with fresh weights."""
        return RobertaBackbone(self, vocabulary)

    def head(self, spec: HeadSpec, backbone: nn.Module, vocabulary: Vocabulary) -> nn.Module:
        """Build a head with fresh weights; the masked-LM head shares the word table of the backbone."""
        if spec.kind == "masked_lm":
            head: nn.Module = MaskedLMHead(self.shape, backbone.get_parameter("words.weight"), vocabulary.size)
        else:
            head = TokenHead(self.shape, spec.classes)
        initialise(head, self.init_std)
        return head


class RobertaBackbone(Backbone):
    """Embeddings and encoder."""

    def __init__(self, settings: Roberta, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.words = nn.Embedding(padded_rows(vocabulary.size), settings.hidden, padding_idx=vocabulary.pad)
        cut(self.words.weight, vocabulary.size)
        self.positions = nn.Embedding(settings.positions + PAD_POSITION + 1, settings.hidden, padding_idx=PAD_POSITION)
        self.norm = nn.LayerNorm(settings.hidden, eps=settings.norm_eps)
        self.dropout = nn.Dropout(settings.dropout)
        self.encoder = Encoder(settings.shape)
        self.longest = settings.positions
        initialise(self, settings.init_std)

    def forward(self, inputs: dict[str, Tensor], lengths_R: Tensor) -> Tensor:
        """Encode inputs["tokens"], int64 [R, L], into [R, L, H].

        Raises:
            ValueError: a row is longer than the position table.

        """
        tokens_RL = inputs["tokens"]
        length = tokens_RL.shape[1]
        if int(lengths_R.max()) > self.longest:
            raise ValueError(f"a row has {int(lengths_R.max())} tokens, model.positions allows {self.longest}")
        steps_L = torch.arange(length, device=tokens_RL.device)
        places_RL = torch.where(steps_L < lengths_R[:, None], steps_L + PAD_POSITION + 1, PAD_POSITION)
        embedded = self.words(tokens_RL) + self.positions(places_RL)
        return self.encoder(self.dropout(self.norm(embedded)), lengths_R)

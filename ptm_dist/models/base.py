"""What every model family is: its own configuration that builds a backbone and heads."""

from __future__ import annotations

from typing import Annotated, ClassVar, Protocol, Self, TypeAlias

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.joining import Joining
from ptm_dist.data.vocabulary import Vocabulary

Memory: TypeAlias = dict[str, Tensor]
"""What a backbone carries from one segment of a text to the next, without gradient; rows come first: [R, ...]."""


Positive: TypeAlias = Annotated[int, Field(gt=0)]
Probability: TypeAlias = Annotated[float, Field(ge=0, lt=1)]


class Family(Protocol):
    """A model family with its dimensions."""

    joining: ClassVar[Joining]
    """How it lays one text or two into a row of a labelled task."""

    kind: str

    def backbone(self, vocabulary: Vocabulary) -> Backbone:
        """Build the backbone."""
        ...

    def head(self, spec: HeadSpec, backbone: nn.Module, vocabulary: Vocabulary) -> nn.Module:
        """Build a head over that backbone.

        Raises:
            ConfigError: this family has no such head.

        """
        ...

    @property
    def longest(self) -> int:
        """Most tokens a row may have."""
        ...


class TransformerSettings(BaseModel):
    """What the settings of every Transformer with a table of positions have; the defaults are the base size."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    layers: Positive = 12
    hidden: Positive = 768
    heads: Positive = 12
    positions: Annotated[int, Field(gt=0, description="longest row in tokens")] = 512
    dropout: Probability = 0.1
    attention_dropout: Probability = 0.1
    norm_eps: Annotated[float, Field(gt=0)] = 1e-12
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


class Backbone(nn.Module):
    """Tokens to hidden states."""

    def forward(self, inputs: dict[str, Tensor], lengths_R: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """Return hidden states [R, L, H], and the memory for the rows' next segments, empty where the family has none.

        `inputs` are int64 [R, L], `tokens` among them; a row's positions at or after its length hold nothing, and what stands
        there has no influence. `memory` is what the call for the rows' previous segments returned; at a text's beginning it is
        None, or empty to ask a family for memory that it needs for generation only.
        """
        raise NotImplementedError

    def read(self, inputs: dict[str, Tensor], lengths_R: Tensor) -> Tensor:
        """Return what heads of labelled tasks look at, [R, L, H]: the hidden states, if a family says nothing else."""
        return self(inputs, lengths_R)[0]


def padded_rows(count: int) -> int:
    """Return `count` rounded up to a multiple of 64, which matrix units prefer."""
    return -(-count // 64) * 64


def cut(parameter: Tensor, rows: int) -> None:
    """Mark that only the first `rows` rows of a padded parameter exist for checkpoints and exports."""
    parameter.stored_rows = rows  # pyright: ignore[reportAttributeAccessIssue] - tensors take any attribute


def stored_shape(parameter: Tensor) -> tuple[int, ...]:
    """Return the shape that checkpoints and exports know: rows that only fill a table up do not exist outside."""
    shape = tuple(getattr(parameter, "ds_shape", parameter.shape))  # under ZeRO 3 the parameter itself is empty
    return (getattr(parameter, "stored_rows", shape[0]), *shape[1:]) if shape else shape


def word_table(vocabulary: Vocabulary, width: int, pad: int | None = None) -> nn.Embedding:
    """Return a table with a row for each id, filled up to a multiple of 64 rows; the row of `pad` takes no gradient."""
    table = nn.Embedding(padded_rows(vocabulary.size), width, padding_idx=pad)
    cut(table.weight, vocabulary.size)
    return table


@torch.no_grad()
def initialise(module: nn.Module, std: float, truncated: bool = False) -> None:
    """Draw every matrix from N(0, std), cut at two deviations if `truncated`; zero every bias, leave LayerNorms at one and zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            if truncated:
                # The bounds of torch are absolute. As in TensorFlow, the cut is not made up for: the deviation is 0.88 std.
                nn.init.trunc_normal_(part.weight, std=std, a=-2 * std, b=2 * std)
            else:
                nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear) and getattr(part, "bias", None) is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            part.weight[part.padding_idx].zero_()

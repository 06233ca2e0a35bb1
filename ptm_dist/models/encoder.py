"""The post-norm Transformer encoder that BERT and its descendants share.

Shape letters: R rows, L length, H hidden, A attention heads, V vocabulary, T targets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """The dimensions of an encoder."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    activation: str
    dropout: float
    attention_dropout: float
    norm_eps: float


class SelfAttention(nn.Module):
    """Multi-head attention over all valid tokens of a row."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.dropout = shape.attention_dropout
        self.query = nn.Linear(shape.hidden, shape.hidden)
        self.key = nn.Linear(shape.hidden, shape.hidden)
        self.value = nn.Linear(shape.hidden, shape.hidden)
        self.output = nn.Linear(shape.hidden, shape.hidden)

    def forward(self, x_RLH: Tensor, valid: Tensor | None) -> Tensor:
        """Attend; `valid` is bool [R, 1, 1, L], None when no row is padded."""
        R, L, H = x_RLH.shape
        projections = (self.query, self.key, self.value)
        q, k, v = (project(x_RLH).view(R, L, self.heads, H // self.heads).transpose(1, 2) for project in projections)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=valid, dropout_p=dropout)
        return self.output(attended.transpose(1, 2).reshape(R, L, H))


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each with dropout, residual and a LayerNorm after the sum."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.attention = SelfAttention(shape)
        self.attention_norm = nn.LayerNorm(shape.hidden, eps=shape.norm_eps)
        self.up = nn.Linear(shape.hidden, shape.intermediate)
        self.down = nn.Linear(shape.intermediate, shape.hidden)
        self.output_norm = nn.LayerNorm(shape.hidden, eps=shape.norm_eps)
        self.activation = ACTIVATIONS[shape.activation]
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x_RLH: Tensor, valid: Tensor | None) -> Tensor:
        """Return [R, L, H]."""
        x_RLH = self.attention_norm(x_RLH + self.dropout(self.attention(x_RLH, valid)))
        return self.output_norm(x_RLH + self.dropout(self.down(self.activation(self.up(x_RLH)))))


class Encoder(nn.Module):
    """A stack of encoder layers."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.layers))

    def forward(self, x_RLH: Tensor, lengths_R: Tensor) -> Tensor:
        """Encode embeddings; positions at or after a row's length are neither attended to nor meaningful."""
        valid = valid_mask(lengths_R, x_RLH.shape[1])
        for layer in self.layers:
            x_RLH = layer(x_RLH, valid)
        return x_RLH


def valid_mask(lengths_R: Tensor, length: int) -> Tensor | None:
    """Return bool [R, 1, 1, L], true at real tokens; None when all rows are full, which lets attention skip the mask."""
    if bool((lengths_R == length).all()):
        return None
    return (torch.arange(length, device=lengths_R.device) < lengths_R[:, None])[:, None, None, :]


class MaskedLMHead(nn.Module):
    """Transform, then project onto the word table that the embedding uses too, at target positions only."""

    def __init__(self, shape: EncoderShape, word_table: nn.Parameter, vocabulary_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(shape.hidden, shape.hidden)
        self.norm = nn.LayerNorm(shape.hidden, eps=shape.norm_eps)
        self.activation = ACTIVATIONS[shape.activation]
        self.word_table = word_table
        self.bias = nn.Parameter(torch.zeros(word_table.shape[0]))
        cut(self.bias, vocabulary_size)
        self.vocabulary_size = vocabulary_size

    def forward(self, hidden_RLH: Tensor, positions_T: Tensor) -> Tensor:
        """Return logits [T, V] at `positions_T`, which count through the flattened [R x L]."""
        x_TH = self.norm(self.activation(self.dense(hidden_RLH.flatten(0, 1)[positions_T])))
        return F.linear(x_TH, self.word_table, self.bias)[:, : self.vocabulary_size]


class TokenHead(nn.Module):
    """A linear classifier at target positions; for whole sequences the target position is the first token."""

    def __init__(self, shape: EncoderShape, classes: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(shape.dropout)
        self.classify = nn.Linear(shape.hidden, classes)

    def forward(self, hidden_RLH: Tensor, positions_T: Tensor) -> Tensor:
        """Return logits [T, classes] at `positions_T`, which count through the flattened [R x L]."""
        return self.classify(self.dropout(hidden_RLH.flatten(0, 1)[positions_T]))


def padded_rows(count: int) -> int:
    """Return `count` rounded up to a multiple of 64, which matrix units prefer."""
    return -(-count // 64) * 64


def cut(parameter: Tensor, rows: int) -> None:
    """Mark that only the first `rows` rows of a padded parameter exist for checkpoints and exports."""
    parameter.stored_rows = rows  # pyright: ignore[reportAttributeAccessIssue] - tensors take any attribute


def initialise(module: nn.Module, std: float) -> None:
    """Draw every matrix from N(0, std), zero every bias, leave LayerNorms at one and zero. Source: BERT's reference code."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=std)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=std)
            if part.padding_idx is not None:
                with torch.no_grad():
                    part.weight[part.padding_idx].zero_()

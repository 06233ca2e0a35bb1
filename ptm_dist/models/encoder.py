"""The post-norm Transformer encoder that BERT and its descendants share.

Shape letters: R rows, L length, E width of embeddings, H hidden, A attention heads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.joining import BERT, Joining
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.models.attention import Rows, arrange, real
from ptm_dist.models.base import Backbone, Memory, Positive, TransformerSettings, initialise, word_table
from ptm_dist.models.downstream import DOWNSTREAM, SUMMARISED, Still, task_head
from ptm_dist.models.heads import ACTIVATIONS, ClassifierHead, MaskedLMHead, Pooler


class EncoderFamily(TransformerSettings):
    """What all families of this encoder are made of; a family adds what is its own. The defaults are the base size.

    Source: Devlin et al. 2019 (BERT) and its reference code: every linear map has a bias, dropout follows the embeddings, the attention
    probabilities and both residual branches, nothing lies between the two maps of the feed-forward part.
    """

    position_offset: ClassVar[int] = 0
    """Rows at the beginning of the position table that no token uses."""
    truncated_init: ClassVar[bool] = True
    """Are weights drawn from a normal distribution that is cut at two deviations?"""
    joining: ClassVar[Joining] = BERT

    intermediate: Positive = 3072
    activation: Literal["gelu", "gelu_tanh", "relu"] = "gelu"

    @property
    def embedding_width(self) -> int:
        """Width of the embedding tables."""
        return self.hidden

    @property
    def tables(self) -> dict[str, int]:
        """Embedding tables beside those of words and positions: the input that is looked up, and the rows."""
        return {}

    @property
    def pooled(self) -> bool:
        """Is there a pooler under the heads of whole sequences?"""
        return False

    def encoder(self) -> Encoder:
        """Build the layers."""
        return Encoder(self)

    def backbone(self, vocabulary: Vocabulary) -> EncoderBackbone:
        """Build the backbone with fresh weights."""
        backbone = EncoderBackbone(self, vocabulary)
        initialise(backbone, self.init_std, self.truncated_init)
        return backbone

    def head(self, spec: HeadSpec, backbone: nn.Module, vocabulary: Vocabulary) -> nn.Module:
        """Build a head with fresh weights; the masked-LM head shares the word table of the backbone.

        Raises:
            ConfigError: this family has no such head.

        """
        if spec.kind == "masked_lm":
            table = backbone.get_parameter("words.weight")
            head: nn.Module = MaskedLMHead(self.hidden, self.activation, self.norm_eps, table, vocabulary.size)
        elif spec.kind in {"sequence", "tokens"}:
            pooler = backbone.get_submodule("pooler") if self.pooled and spec.kind == "sequence" else None
            head = ClassifierHead(self.hidden, spec.classes, pooler)
        elif spec.kind in DOWNSTREAM:
            head = task_head(spec, self.hidden, self._summary(spec, backbone) if spec.kind in SUMMARISED else None)
        else:
            raise ConfigError(
                f"model: an encoder cannot train {spec.kind}; it has masked_lm, sequence, tokens and those of labelled tasks."
            )
        for name, part in head.named_children():
            if name not in {"pooler", "summary"}:
                initialise(part, self.init_std, self.truncated_init)
        return head

    def _summary(self, spec: HeadSpec, backbone: nn.Module) -> nn.Module:
        """Return what stands for a row in a labelled task: the pooler of the backbone, or a fresh one in its place, as in fairseq."""
        if self.pooled:
            pooler = backbone.get_submodule("pooler")
            return Still(pooler) if spec.frozen else pooler
        pooler = Pooler(self.hidden, spec.dropout)
        initialise(pooler, self.init_std, self.truncated_init)
        return pooler


class SegmentedFamily(EncoderFamily):
    """An encoder with embeddings of segment types and a pooler, as BERT has them."""

    segments: Annotated[int, Field(gt=0, description="rows of the table of segment types")] = 2
    pooler: bool = True
    """Put a projection with tanh under the heads of whole sequences."""

    @property
    def tables(self) -> dict[str, int]:
        """The table of segment types."""
        return {"segments": self.segments}

    @property
    def pooled(self) -> bool:
        """What `pooler` says."""
        return self.pooler


class EncoderBackbone(Backbone):
    """Embeddings and encoder."""

    def __init__(self, settings: EncoderFamily, vocabulary: Vocabulary) -> None:
        super().__init__()
        width, offset = settings.embedding_width, settings.position_offset
        self.words = word_table(vocabulary, width, vocabulary.pad if offset else None)
        self.positions = nn.Embedding(settings.positions + offset, width, padding_idx=offset - 1 if offset else None)
        self.tables = nn.ModuleDict({name: nn.Embedding(rows, width) for name, rows in settings.tables.items()})
        self.norm = nn.LayerNorm(width, eps=settings.norm_eps)
        self.dropout = nn.Dropout(settings.dropout)
        self.widen = nn.Linear(width, settings.hidden) if width != settings.hidden else nn.Identity()
        self.encoder = settings.encoder()
        if settings.pooled:
            self.pooler = Pooler(settings.hidden)
        self.offset, self.longest = offset, settings.positions

    def forward(self, inputs: dict[str, Tensor], lengths_R: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """Encode `tokens` and what the other tables look up (row 0 where an input is absent), int64 [R, L], into [R, L, H].

        Raises:
            ValueError: a row is longer than the position table.

        """
        tokens_RL = inputs["tokens"]
        if int(lengths_R.max()) > self.longest:
            raise ValueError(f"a row has {int(lengths_R.max())} tokens, model.positions allows {self.longest}")
        # Padding may lie beyond the table; it is looked up somewhere inside, and nobody attends to it.
        places = torch.arange(tokens_RL.shape[1], device=tokens_RL.device).clamp(max=self.longest - 1) + self.offset
        if self.offset:
            places = places.where(real(lengths_R, tokens_RL.shape[1]), self.offset - 1)
        x_RLE = self.words(tokens_RL) + self.positions(places)
        for name, table in self.tables.items():
            x_RLE = x_RLE + table(inputs.get(name, tokens_RL.new_zeros(1, 1)))
        return self.encoder(self.widen(self.dropout(self.norm(x_RLE))), lengths_R), {}


class SelfAttention(nn.Module):
    """Multi-head attention over all tokens of a row, with dropout, residual and a LayerNorm after the sum."""

    def __init__(self, settings: EncoderFamily) -> None:
        super().__init__()
        self.heads, self.attention_dropout = settings.heads, settings.attention_dropout
        self.query = nn.Linear(settings.hidden, settings.hidden)
        self.key = nn.Linear(settings.hidden, settings.hidden)
        self.value = nn.Linear(settings.hidden, settings.hidden)
        self.output = nn.Linear(settings.hidden, settings.hidden)
        self.dropout = nn.Dropout(settings.dropout)
        self.norm = nn.LayerNorm(settings.hidden, eps=settings.norm_eps)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        """Return the states in the layout of `rows`."""
        q, k, v = (project(x).unflatten(-1, (self.heads, -1)) for project in (self.query, self.key, self.value))
        attended = rows.attend(q, k, v, causal=False, dropout=self.attention_dropout if self.training else 0.0)
        return self.norm(x + self.dropout(self.output(attended.flatten(-2))))


class FeedForward(nn.Module):
    """Two maps with an activation between them, with dropout, residual and a LayerNorm after the sum."""

    def __init__(self, settings: EncoderFamily) -> None:
        super().__init__()
        self.up = nn.Linear(settings.hidden, settings.intermediate)
        self.down = nn.Linear(settings.intermediate, settings.hidden)
        self.activation = ACTIVATIONS[settings.activation]
        self.dropout = nn.Dropout(settings.dropout)
        self.norm = nn.LayerNorm(settings.hidden, eps=settings.norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Return the states in the layout they came in."""
        return self.norm(x + self.dropout(self.down(self.activation(self.up(x)))))


class EncoderLayer(nn.Module):
    """Attention, then feed-forward."""

    def __init__(self, settings: EncoderFamily) -> None:
        super().__init__()
        self.attention = SelfAttention(settings)
        self.feed_forward = FeedForward(settings)


class Encoder(nn.Module):
    """A stack of layers."""

    def __init__(self, settings: EncoderFamily) -> None:
        super().__init__()
        self.head_width, self.attention_dropout = settings.hidden // settings.heads, settings.attention_dropout
        self.build(settings)

    def build(self, settings: EncoderFamily) -> None:
        """Make the layers."""
        self.layers = nn.ModuleList(EncoderLayer(settings) for _ in range(settings.layers))

    def blocks(self) -> Iterable[tuple[nn.Module, nn.Module]]:
        """Return attention and feed-forward part of each layer, from the bottom."""
        return ((layer.get_submodule("attention"), layer.get_submodule("feed_forward")) for layer in self.layers)

    def forward(self, x_RLH: Tensor, lengths_R: Tensor) -> Tensor:
        """Encode embeddings; positions at or after a row's length are neither attended to nor meaningful."""
        rows = arrange(x_RLH, lengths_R, self.head_width, self.attention_dropout if self.training else 0.0)
        x = rows.lay(x_RLH)
        for attention, feed_forward in self.blocks():
            x = feed_forward(attention(x, rows))
        return rows.restore(x)

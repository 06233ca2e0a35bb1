"""XLNet: permutation language modelling over relative positions and a memory of earlier segments.

Two streams in one. The content stream asks from every position, the query stream from the targets alone, where one trained vector stands
for the token. Weights and keys are the same for both: memory and content stream. So a layer knows of no streams: it gets Q = L + P queries,
those of the positions and after them those of the targets.

Orders. `key_order` and `query_order` are a factorisation: query i may not see key j iff query_order[i] <= key_order[j]; in the content
stream a position sees itself all the same. The two orders of a target are equal, which hides it from its own query; any other token has
query_order = key_order + 1. The reference draws a part of n tokens so: plain tokens have key_order -1, targets and special tokens their
rank in a permutation, 0 to n - 1. Then all see the plain tokens, which see nothing else; the others see what ranks below them as well.
A second part that sees all of the first, and that the first never sees, is drawn alike and both its orders raised by n + 1. That changes
no comparison within it; queries of the first are at most n and keys of the second at least n, so hidden; queries of the second are at
least n + 1 and keys of the first at most n - 1, so seen.

Generation. `next_token_inputs` appends a position that nobody sees as the only target. The context is fully visible to itself, as plain
tokens are in training. Memory holds earlier segments: pass these without orders and carry on the memory of those calls alone, because
what a predicting call returns may hold the appended position.

Shape letters: R rows, L length, P most targets of a row, Q queries, S tokens in memory, K = S + L keys, N distances, B rows or 1, H hidden,
A attention heads, D width of a head.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.joining import XLNET, Joining
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.models.attention import real
from ptm_dist.models.base import Backbone, Memory, Positive, Probability, initialise, word_table
from ptm_dist.models.downstream import DOWNSTREAM, HIDDEN_SCORE, StartThenEndHead, task_head
from ptm_dist.models.heads import ACTIVATIONS, ClassifierHead, Pooler, TiedLMHead


class Xlnet(BaseModel):
    """The XLNet family; the defaults are the base size. Each layer has biases of its own in attention (`untie_r` in the reference).

    A text without memory begins with `memory_length` zero vectors that are attended to, as in the reference: keep 0 where no memory is
    carried along, above all in fine-tuning. With `attention: uni` no token sees a later one, as in Transformer-XL.

    Source: Yang et al. 2019, sections 2.2 to 2.5; zihangdai/xlnet, modeling.py. Deviations: a query that sees no key attends to nothing
    (there to all keys alike, hidden ones included); `backward` says which rows run right to left (there the second half of a batch). The
    mask vector starts from TensorFlow's default, uniform up to sqrt(6 / (1 + hidden)), as there; Hugging Face draws it like the matrices.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    joining: ClassVar[Joining] = XLNET

    kind: Literal["xlnet"] = "xlnet"
    layers: Positive = 12
    hidden: Positive = 768
    heads: Positive = 12
    head_width: Positive = 64
    intermediate: Positive = 3072
    activation: Literal["gelu", "gelu_tanh", "relu"] = "gelu_tanh"
    dropout: Probability = 0.1
    attention_dropout: Probability = 0.1
    norm_eps: Annotated[float, Field(gt=0)] = 1e-12
    init_std: Annotated[float, Field(gt=0)] = 0.02
    memory_length: Annotated[int, Field(ge=0, description="tokens of memory kept")] = 0
    reuse_length: Annotated[int, Field(ge=0, description="first tokens of a segment that enter memory; 0: all")] = 0
    clamp_length: Annotated[int, Field(ge=-1, description="distance beyond which all count as this one; -1: none")] = -1
    attention: Literal["bi", "uni"] = "bi"

    @model_validator(mode="after")
    def _sinusoids_come_in_pairs(self) -> Self:
        if self.hidden % 2:
            raise ValueError(f"hidden {self.hidden} is odd; the sinusoids of a distance come in pairs")
        return self

    @property
    def longest(self) -> int:
        """Most tokens a row may have: more than anybody can compute, as no table of positions ends."""
        return 1 << 20

    def backbone(self, vocabulary: Vocabulary) -> XlnetBackbone:
        """Build the backbone with fresh weights."""
        backbone = XlnetBackbone(self, vocabulary)
        initialise(backbone, self.init_std)
        nn.init.xavier_uniform_(backbone.mask_vector)
        for part in backbone.modules():
            if isinstance(part, RelativeAttention):
                for parameter in (part.content_bias, part.position_bias, part.segment_bias, part.segments):
                    nn.init.normal_(parameter, std=self.init_std)
        return backbone

    def head(self, spec: HeadSpec, backbone: nn.Module, vocabulary: Vocabulary) -> nn.Module:
        """Build a head with fresh weights; the permutation-LM head shares the word table of the backbone.

        Raises:
            ConfigError: this family has no such head.

        """
        if spec.kind == "permutation_lm":
            return TiedLMHead(backbone.get_parameter("words.weight"), vocabulary.size, bias=True)
        if spec.kind == "span":
            head = StartThenEndHead(self.hidden, self.norm_eps, spec.dropout)
        elif spec.kind in DOWNSTREAM:
            head = task_head(spec, self.hidden, Pooler(self.hidden))
        elif spec.kind in {"sequence", "tokens"}:
            summary = nn.Sequential(Pooler(self.hidden), nn.Dropout(self.dropout)) if spec.kind == "sequence" else None
            head = ClassifierHead(self.hidden, spec.classes, summary)
        else:
            raise ConfigError(
                f"model: XLNet cannot train {spec.kind}; it has permutation_lm, sequence, tokens and those of labelled tasks."
            )
        initialise(head, self.init_std)
        return head


def next_token_inputs(tokens_RL: Tensor) -> dict[str, Tensor]:
    """Return inputs [R, L + 1] that ask for the token after each row, at the last position. Rows must be full."""
    tokens = F.pad(tokens_RL, (0, 1))
    return {"tokens": tokens, "key_order": F.pad(torch.zeros_like(tokens_RL), (0, 1), value=1), "query_order": torch.ones_like(tokens)}


class XlnetBackbone(Backbone):
    """Word embeddings and layers; nothing is added to embeddings, and no LayerNorm stands outside the layers."""

    def __init__(self, settings: Xlnet, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.settings = settings
        self.words = word_table(vocabulary, settings.hidden)
        self.mask_vector = nn.Parameter(torch.empty(1, settings.hidden))
        self.dropout = nn.Dropout(settings.dropout)
        self.layers = nn.ModuleList(XlnetLayer(settings) for _ in range(settings.layers))

    def forward(self, inputs: dict[str, Tensor], lengths_R: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """Return the states of the content stream, at targets those of the query stream, [R, L, H].

        `inputs`, int64 [R, L]: `tokens`; `key_order` and `query_order` (absent: no target, and tokens see each other); `segments`, ids that
        are only compared, memory being of 0 (absent: 0); `backward`, 1 in rows that run right to left and count distances the other way.

        `memory` has the inputs of the layers, `states` [R, layers, S, H]. None and empty stand for zeros with S = memory_length; memory of
        S = 0 is none at all. Rows may differ in length: the memory of each ends with its own last token.
        """
        tokens_RL, settings = inputs["tokens"], self.settings
        rows, length = tokens_RL.shape
        fresh = (rows, settings.layers, settings.memory_length, settings.hidden)
        past = memory["states"] if memory else self.words.weight.new_zeros(fresh)
        target_RL, places_RP = find_targets(inputs, lengths_R)
        sight = look(inputs, lengths_R, places_RP, past.shape[2], settings.attention == "uni")
        distances_BNH = self._distances(inputs, past.shape[2])
        kept_RSH = self._kept(past.shape[2] + lengths_R.clamp(max=settings.reuse_length or length))
        x_RQH = self.dropout(torch.cat([self.words(tokens_RL), self.mask_vector.expand(*places_RP.shape, -1)], 1))
        states = []
        for number, layer in enumerate(self.layers):
            context_RKH = torch.cat([past[:, number], x_RQH[:, :length]], 1)
            states.append(context_RKH.detach().gather(1, kept_RSH))
            x_RQH = layer(x_RQH, context_RKH, distances_BNH, sight)
        content_RLH, asked_RPH = x_RQH[:, :length], x_RQH[:, length:]
        answered_RLH = content_RLH.scatter(1, places_RP[..., None].expand_as(asked_RPH), asked_RPH)
        # Rows with fewer targets than P have answers that nobody asked for.
        hidden_RLH = self.dropout(torch.where(target_RL[..., None], answered_RLH, content_RLH))
        return hidden_RLH, {"states": torch.stack(states, 1)} if settings.memory_length else {}

    def _kept(self, ends_R: Tensor) -> Tensor:
        """Return where each row's next memory is in [memory; row] if it ends before `ends_R`, as indices to gather [R, S, H]."""
        count = min(self.settings.memory_length, int(ends_R.min()))
        kept_RS = (ends_R - count)[:, None] + torch.arange(count, device=ends_R.device)
        return kept_RS[..., None].expand(-1, -1, self.settings.hidden)

    def _distances(self, inputs: dict[str, Tensor], past: int) -> Tensor:
        """Return the sinusoids of all distances that keys may have, those of the farthest before a query first, [B, N, H]."""
        rows, length = inputs["tokens"].shape
        weight = self.words.weight
        last = -length if self.settings.attention == "bi" else -1
        # Half precision cannot tell large distances apart.
        distances_N = torch.arange(past + length, last, -1, dtype=torch.float64, device=weight.device)
        if self.settings.clamp_length > 0:
            distances_N = distances_N.clamp(-self.settings.clamp_length, self.settings.clamp_length)
        table_BNH = sinusoids(distances_N, self.settings.hidden).to(weight.dtype)[None]
        if "backward" in inputs:
            # The opposite distance has the same cosines and the opposite sines.
            sign_R11 = 1 - 2 * inputs["backward"][:, :1, None].to(weight.dtype)
            sine, cosine = table_BNH.chunk(2, dim=-1)
            table_BNH = torch.cat([sine * sign_R11, cosine.expand(rows, -1, -1)], -1)
        if self.training and self.settings.dropout:
            table_BNH = table_BNH.expand(rows, -1, -1)  # Each row drops its own.
        return self.dropout(table_BNH)


def sinusoids(distances_N: Tensor, width: int) -> Tensor:
    """Return [N, width]: sines, then cosines, of each distance at width / 2 frequencies that fall from 1 towards 1 / 10000."""
    frequencies = 10000 ** -(torch.arange(0, width, 2, dtype=distances_N.dtype, device=distances_N.device) / width)
    angles = distances_N[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)


class Sight(NamedTuple):
    """What queries see: `hidden` and of another segment `foreign`, bool [R, Q, K]; `blind`, without any key, bool [R, Q].

    `columns` [R, P, K] tells which of the N distances a target and a key have.
    """

    hidden: Tensor
    foreign: Tensor
    blind: Tensor
    columns: Tensor


def find_targets(inputs: dict[str, Tensor], lengths_R: Tensor) -> tuple[Tensor, Tensor]:
    """Return which positions are targets, bool [R, L], and their places, int64 [R, P], filled up with places of others."""
    target_RL = real(lengths_R, inputs["tokens"].shape[1])
    target_RL = target_RL & (inputs["key_order"] == inputs["query_order"]) if "key_order" in inputs else torch.zeros_like(target_RL)
    most = int(target_RL.sum(1).max())
    return target_RL, target_RL.byte().argsort(dim=1, descending=True, stable=True)[:, :most]


def look(inputs: dict[str, Tensor], lengths_R: Tensor, places_RP: Tensor, past: int, causal: bool) -> Sight:
    """Return what the positions, and after them the targets, see of `past` tokens in memory and of their row."""
    rows, length = inputs["tokens"].shape
    steps_K = torch.arange(past + length, device=lengths_R.device)
    at_RQ = torch.cat([steps_K[:length].expand(rows, -1), places_RP], 1)
    hidden_RQL = ~real(lengths_R, length)[:, None, :].expand(-1, at_RQ.shape[1], -1)
    if causal:
        hidden_RQL = hidden_RQL | (at_RQ[..., None] < steps_K[:length])
    if "key_order" in inputs:
        hidden_RQL = hidden_RQL | (inputs["query_order"].gather(1, at_RQ)[..., None] <= inputs["key_order"][:, None, :])
    hidden_RQL = hidden_RQL & ~torch.eye(at_RQ.shape[1], length, dtype=torch.bool, device=lengths_R.device)
    hidden_RQK = F.pad(hidden_RQL, (past, 0))
    segments_RL = inputs.get("segments", torch.zeros_like(inputs["tokens"]))
    foreign_RQK = segments_RL.gather(1, at_RQ)[..., None] != F.pad(segments_RL, (past, 0))[:, None, :]
    columns_RPK = length - places_RP[..., None] + steps_K
    if causal:
        columns_RPK = columns_RPK.clamp(max=past + length)  # Later keys have no distance, and are hidden.
    return Sight(hidden_RQK, foreign_RQK, hidden_RQK.all(-1), columns_RPK)


def shift(scores_RAQN: Tensor, columns_RPK: Tensor) -> Tensor:
    """Return [R, A, Q, K] from scores of queries and distances: number L - i + j is that of position i and key j.

    For the L positions it is a view: skip L scores, then read on in rows of N - 1.
    """
    length = scores_RAQN.shape[2] - columns_RPK.shape[1]
    content = scores_RAQN[:, :, :length].flatten(2)[..., length:].unflatten(2, (length, -1))[..., : columns_RPK.shape[2]]
    columns_RAPK = columns_RPK[:, None].expand(-1, scores_RAQN.shape[1], -1, -1)
    return torch.cat([content, scores_RAQN[:, :, length:].gather(3, columns_RAPK)], 2)


class RelativeAttention(nn.Module):
    """Attention by content, distance and segment, with dropout, residual and a LayerNorm after the sum."""

    def __init__(self, settings: Xlnet) -> None:
        super().__init__()
        self.shape, self.attention_dropout = (settings.heads, settings.head_width), settings.attention_dropout
        width = settings.heads * settings.head_width
        self.query, self.key, self.value, self.distance = (nn.Linear(settings.hidden, width, bias=False) for _ in range(4))
        self.output = nn.Linear(width, settings.hidden, bias=False)
        self.content_bias, self.position_bias, self.segment_bias = (nn.Parameter(torch.empty(self.shape)) for _ in range(3))
        self.segments = nn.Parameter(torch.empty(2, *self.shape))
        self.dropout = nn.Dropout(settings.dropout)
        self.norm = nn.LayerNorm(settings.hidden, eps=settings.norm_eps)

    def forward(self, x_RQH: Tensor, context_RKH: Tensor, distances_BNH: Tensor, sight: Sight) -> Tensor:
        """Return [R, Q, H]; keys and values are of the context."""
        q_RQAD = self.query(x_RQH).unflatten(-1, self.shape)
        k_RKAD, v_RKAD = (project(context_RKH).unflatten(-1, self.shape) for project in (self.key, self.value))
        scores_RAQK = self._score_places(q_RQAD, self.distance(distances_BNH).unflatten(-1, self.shape), sight)
        q, k, v = (x.transpose(1, 2) for x in (q_RQAD + self.content_bias, k_RKAD, v_RKAD))
        rate = self.attention_dropout if self.training else 0.0
        attended_RQAD = F.scaled_dot_product_attention(q, k, v, attn_mask=scores_RAQK, dropout_p=rate).transpose(1, 2)
        # Blind queries have weighed all hidden keys alike.
        seen_RQAD = attended_RQAD.masked_fill(sight.blind[..., None, None], 0.0)
        return self.norm(x_RQH + self.dropout(self.output(seen_RQAD.flatten(-2))))

    def _score_places(self, q_RQAD: Tensor, r_BNAD: Tensor, sight: Sight) -> Tensor:
        """Return what distance, segment and being hidden add to the scores of keys, [R, A, Q, K]."""
        scale = self.shape[1] ** -0.5
        scores_RAQK = shift(torch.einsum("rqad,rnad->raqn", (q_RQAD + self.position_bias) * scale, r_BNAD), sight.columns)
        # A softmax feels only by how much the score of another segment differs from that of the same.
        foreign_RAQ = torch.einsum("rqad,ad->raq", (q_RQAD + self.segment_bias) * scale, self.segments[1] - self.segments[0])
        scores_RAQK.addcmul_(sight.foreign[:, None].to(scores_RAQK.dtype), foreign_RAQ[..., None])
        return scores_RAQK.masked_fill_(sight.hidden[:, None], max(HIDDEN_SCORE, torch.finfo(scores_RAQK.dtype).min))


class XlnetLayer(nn.Module):
    """Attention, then two maps with an activation and dropout between them, with dropout, residual and a LayerNorm after the sum."""

    def __init__(self, settings: Xlnet) -> None:
        super().__init__()
        self.attention = RelativeAttention(settings)
        self.up = nn.Linear(settings.hidden, settings.intermediate)
        self.down = nn.Linear(settings.intermediate, settings.hidden)
        self.activation = ACTIVATIONS[settings.activation]
        self.dropout = nn.Dropout(settings.dropout)
        self.norm = nn.LayerNorm(settings.hidden, eps=settings.norm_eps)

    def forward(self, x_RQH: Tensor, context_RKH: Tensor, distances_BNH: Tensor, sight: Sight) -> Tensor:
        """Return [R, Q, H]."""
        x_RQH = self.attention(x_RQH, context_RKH, distances_BNH, sight)
        return self.norm(x_RQH + self.dropout(self.down(self.dropout(self.activation(self.up(x_RQH))))))

"""The causal Transformer that GPT and GPT-2 share.

Shape letters: R rows, L length, S tokens in memory, H hidden, A attention heads, D width of a head.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.joining import GPT, Joining
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.models.attention import Rows, arrange, real
from ptm_dist.models.base import Backbone, Memory, TransformerSettings, initialise, word_table
from ptm_dist.models.downstream import DOWNSTREAM, task_head
from ptm_dist.models.heads import ACTIVATIONS, ClassifierHead, TiedLMHead


class DecoderFamily(TransformerSettings):
    """What GPT and GPT-2 are made of. The defaults are the smallest published size; the feed-forward part is four times as wide.

    Memory holds the keys and values of the tokens seen so far, so that generation forwards each token once.
    """

    joining: ClassVar[Joining] = GPT
    norm_first: ClassVar[bool]
    """Is the LayerNorm before each part, with a last one after the stack, or after each residual sum?"""

    positions: Annotated[int, Field(gt=0, description="longest row in tokens")] = 1024
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5

    def backbone(self, vocabulary: Vocabulary) -> Decoder:
        """Build the backbone with fresh weights."""
        backbone = Decoder(self, vocabulary)
        initialise(backbone, self.init_std)
        return backbone

    def head(self, spec: HeadSpec, backbone: nn.Module, vocabulary: Vocabulary) -> nn.Module:
        """Build a head with fresh weights; the LM head is the word table, without a bias.

        Raises:
            ConfigError: this family has no such head.

        """
        if spec.kind == "causal_lm":
            return TiedLMHead(backbone.get_parameter("words.weight"), vocabulary.size, bias=False)
        if spec.kind not in {"sequence", "tokens"} | DOWNSTREAM:
            raise ConfigError(
                f"model: a causal model cannot train {spec.kind}; it has causal_lm, sequence, tokens and those of labelled tasks."
            )
        head = task_head(spec, self.hidden) if spec.kind in DOWNSTREAM else ClassifierHead(self.hidden, spec.classes)
        initialise(head, self.init_std)
        return head


class Decoder(Backbone):
    """Embeddings, causal layers, and where it has one the last LayerNorm."""

    def __init__(self, settings: DecoderFamily, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.words = word_table(vocabulary, settings.hidden)
        self.positions = nn.Embedding(settings.positions, settings.hidden)
        self.dropout = nn.Dropout(settings.dropout)
        self.layers = nn.ModuleList(DecoderLayer(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(settings.hidden, eps=settings.norm_eps) if settings.norm_first else nn.Identity()
        self.longest, self.head_width, self.attention_dropout = (
            settings.positions,
            settings.hidden // settings.heads,
            settings.attention_dropout,
        )

    def forward(self, inputs: dict[str, Tensor], lengths_R: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """Encode `tokens`, int64 [R, L], into [R, L, H].

        Without `memory` nothing is remembered. With it, an empty one at the beginning of a text, the tokens continue the rows that it
        comes from, and what is returned holds these too: `keys` and `values` [R, layers, S, A, D], and `real` bool [R, S], since rows
        may have been padded.

        Raises:
            ValueError: a row is longer than the position table.

        """
        tokens_RL = inputs["tokens"]
        past_R = memory["real"].sum(1) if memory else torch.zeros_like(lengths_R)
        if int((past_R + lengths_R).max()) > self.longest:
            raise ValueError(f"a row has {int((past_R + lengths_R).max())} tokens, model.positions allows {self.longest}")
        steps_L = torch.arange(tokens_RL.shape[1], device=tokens_RL.device)
        places_RL = (past_R[:, None] + steps_L).clamp(max=self.longest - 1)
        x_RLH = self.dropout(self.words(tokens_RL) + self.positions(places_RL))
        if memory is not None:
            return self._remembering(x_RLH, lengths_R, memory)
        rows = arrange(x_RLH, lengths_R, self.head_width, self.attention_dropout if self.training else 0.0)
        x = rows.lay(x_RLH)
        for layer in self.layers:
            x = layer(x, rows)
        return self.norm(rows.restore(x)), {}

    def _remembering(self, x_RLH: Tensor, lengths_R: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        rows = Remembered(memory, real(lengths_R, x_RLH.shape[1]))
        for layer in self.layers:
            x_RLH = layer(x_RLH, rows)
        return self.norm(x_RLH), rows.grown()


class Remembered:
    """Rows [R, L] that attend to what was remembered of them as well, layer by layer."""

    def __init__(self, memory: Memory, real_RL: Tensor) -> None:
        self._memory = memory
        self._kept: list[tuple[Tensor, Tensor]] = []
        length = real_RL.shape[1]
        before_RS = memory.get("real", real_RL[:, :0])
        self._real = torch.cat([before_RS, real_RL], 1)
        earlier = torch.ones(length, before_RS.shape[1], dtype=torch.bool, device=real_RL.device)
        now = torch.ones(length, length, dtype=torch.bool, device=real_RL.device).tril()
        self._mask = (torch.cat([earlier, now], 1) & self._real[:, None, :])[:, None]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, causal: bool, dropout: float) -> Tensor:
        """Attend over memory and [R, L, A, D], and remember k and v."""
        if self._memory:
            number = len(self._kept)
            k, v = torch.cat([self._memory["keys"][:, number], k], 1), torch.cat([self._memory["values"][:, number], v], 1)
        self._kept.append((k.detach(), v.detach()))
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self._mask, dropout_p=dropout).transpose(1, 2)

    def grown(self) -> Memory:
        """Return the memory with these tokens in it."""
        keys, values = (torch.stack(found, 1) for found in zip(*self._kept, strict=True))
        return {"keys": keys, "values": values, "real": self._real}


class DecoderLayer(nn.Module):
    """Causal attention, then feed-forward, each with dropout, a residual sum, and its LayerNorm before or after."""

    def __init__(self, settings: DecoderFamily) -> None:
        super().__init__()
        self.norm_first, self.heads, self.attention_dropout = settings.norm_first, settings.heads, settings.attention_dropout
        self.attention = nn.ModuleDict(
            {"joint": nn.Linear(settings.hidden, 3 * settings.hidden), "output": nn.Linear(settings.hidden, settings.hidden)}
        )
        self.attention_norm = nn.LayerNorm(settings.hidden, eps=settings.norm_eps)
        self.feed_forward = nn.ModuleDict(
            {"up": nn.Linear(settings.hidden, 4 * settings.hidden), "down": nn.Linear(4 * settings.hidden, settings.hidden)}
        )
        self.feed_forward_norm = nn.LayerNorm(settings.hidden, eps=settings.norm_eps)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor, rows: Rows | Remembered) -> Tensor:
        """Return the states in the layout of `rows`."""
        if self.norm_first:
            x = x + self._attend(self.attention_norm(x), rows)
            return x + self._feed_forward(self.feed_forward_norm(x))
        x = self.attention_norm(x + self._attend(x, rows))
        return self.feed_forward_norm(x + self._feed_forward(x))

    def _attend(self, x: Tensor, rows: Rows | Remembered) -> Tensor:
        q, k, v = self.attention["joint"](x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        attended = rows.attend(q, k, v, causal=True, dropout=self.attention_dropout if self.training else 0.0)
        return self.dropout(self.attention["output"](attended.flatten(-2)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.feed_forward["down"](ACTIVATIONS["gelu_tanh"](self.feed_forward["up"](x))))

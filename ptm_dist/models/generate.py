"""Text from left to right: greedy, or drawn from what a model finds likely.

Shape letters: H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ptm_dist.errors import ConfigError
from ptm_dist.models.base import Memory
from ptm_dist.models.decoder import Decoder
from ptm_dist.models.xlnet import XlnetBackbone, next_token_inputs


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. Temperature 0 takes the likeliest; `top_k` 0 and `top_p` 1 keep all tokens in the draw."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: one of them is impossible.

        """
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ConfigError(f"{self}: temperature and top_k are at least 0, top_p is above 0 and at most 1.")

    def kept(self, logits_V: Tensor) -> Tensor:
        """Return the probabilities to draw from: those of the fewest likeliest tokens that reach `top_p`, of `top_k` at most."""
        scores, order = (logits_V.double() / self.temperature).sort(descending=True, stable=True)
        shares = scores.softmax(-1)
        # A token stays if those before it do not reach top_p yet, so one always stays.
        dropped = shares.cumsum(-1) - shares >= self.top_p
        if self.top_k:
            dropped[self.top_k :] = True
        shares = shares.masked_fill(dropped, 0.0)
        return torch.zeros_like(shares).scatter(0, order, shares / shares.sum())

    def draw(self, logits_V: Tensor, generator: torch.Generator) -> int:
        """Return the id of the next token."""
        if self.temperature == 0:
            return int(logits_V.argmax())
        return int(torch.multinomial(self.kept(logits_V), 1, generator=generator))


class Reader(Protocol):
    """Reads a text piece by piece."""

    def read(self, ids: Sequence[int]) -> Tensor:
        """Return the state [1, 1, H] that predicts what follows all that was read, these tokens included."""
        ...


class CausalReader:
    """A causal model: each token is forwarded once, its keys and values are remembered."""

    def __init__(self, backbone: Decoder) -> None:
        self._backbone, self._memory = backbone, Memory()

    def read(self, ids: Sequence[int]) -> Tensor:
        """Return the state of the last token."""
        hidden, self._memory = self._backbone({"tokens": torch.tensor([ids])}, torch.tensor([len(ids)]), self._memory)
        return hidden[:, -1:]


class SegmentReader:
    """XLNet: what has filled a segment becomes memory, the rest is read again with each token, as it sees itself as a whole."""

    def __init__(self, backbone: XlnetBackbone) -> None:
        self._backbone, self._memory, self._rest = backbone, Memory(), list[int]()
        settings = backbone.settings
        self._segment = (settings.reuse_length or settings.memory_length) if settings.memory_length else 0

    def read(self, ids: Sequence[int]) -> Tensor:
        """Return the state of a position after the last token."""
        self._rest += ids
        while self._segment and len(self._rest) > self._segment:
            filled, self._rest = self._rest[: self._segment], self._rest[self._segment :]
            _, self._memory = self._backbone({"tokens": torch.tensor([filled])}, torch.tensor([len(filled)]), self._memory)
        hidden, _ = self._backbone(next_token_inputs(torch.tensor([self._rest])), torch.tensor([len(self._rest) + 1]), self._memory)
        return hidden[:, -1:]


def reader_of(backbone: nn.Module) -> Reader:
    """Return a reader for a backbone.

    Raises:
        ConfigError: it does not predict from left to right.

    """
    if isinstance(backbone, Decoder):
        return CausalReader(backbone)
    if isinstance(backbone, XlnetBackbone):
        return SegmentReader(backbone)
    raise ConfigError("this model sees both sides of a text and generates none. Take one of kind gpt, gpt2 or xlnet, or try fill-mask.")


@torch.no_grad()
def generate(backbone: nn.Module, head: nn.Module, prompt: Sequence[int], sampling: Sampling, generator: torch.Generator) -> Iterator[int]:
    """Yield the ids of one token after the other, without an end.

    Raises:
        ConfigError: the model cannot generate, or the prompt is empty.
        ValueError: the text has grown longer than the model allows.

    """
    if not len(prompt):
        raise ConfigError("nothing to begin with: give a prompt of one token at least.")
    reader, position = reader_of(backbone), torch.tensor([0])
    piece = list(prompt)
    while True:
        piece = [sampling.draw(head(reader.read(piece), position)[0], generator)]
        yield piece[0]

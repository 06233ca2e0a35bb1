"""ALBERT: a narrow embedding, widened once, and an encoder whose layers share their weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from torch import nn

from ptm_dist.models.base import Positive
from ptm_dist.models.encoder import Encoder, EncoderFamily, FeedForward, SegmentedFamily, SelfAttention


class Albert(SegmentedFamily):
    """The ALBERT family; the defaults are the base size of version 1 (version 2 has no dropout).

    `sharing` says which parts of a layer all layers have in common. `groups` cuts the stack into as many runs of layers, which share
    among themselves only; each layer of a group runs its `inner_groups` blocks one after the other. Where the embedding is as wide as
    the encoder, nothing widens it.

    Source: Lan et al. 2020, sections 3.1 and 4.5; google-research/albert, modeling.py. Only sharing in groups is in the reference
    code; `attention` and `ffn` are the paper's table 4 (a LayerNorm goes with the part it follows). Deviation: none known. Hugging
    Face's SOP head has a dropout that the reference has not.
    """

    kind: Literal["albert"] = "albert"
    embedding: Positive = 128
    activation: Literal["gelu", "gelu_tanh", "relu"] = "gelu_tanh"
    sharing: Literal["all", "attention", "ffn", "none"] = "all"
    groups: Annotated[int, Field(gt=0, description="runs of layers, each with weights of its own")] = 1
    inner_groups: Annotated[int, Field(gt=0, description="blocks that one layer of a group runs")] = 1

    @model_validator(mode="after")
    def _groups_divide(self) -> Self:
        if self.groups > self.layers or self.layers % self.groups:
            raise ValueError(f"layers {self.layers} cannot be cut into {self.groups} equal groups")
        if self.sharing != "all" and (self.groups, self.inner_groups) != (1, 1):
            raise ValueError(f"sharing {self.sharing!r} knows no groups; set groups and inner_groups to 1")
        return self

    @property
    def embedding_width(self) -> int:
        """Width of the embedding tables."""
        return self.embedding

    def encoder(self) -> Encoder:
        """Build the layers."""
        return SharingEncoder(self)


class SharingEncoder(Encoder):
    """A stack of layers that are made of fewer parts than it has layers."""

    def build(self, settings: EncoderFamily) -> None:
        """Make the parts, and list which of them each block uses."""
        assert isinstance(settings, Albert)
        distinct = settings.groups * settings.inner_groups
        shared = {part: settings.sharing in {"all", part} for part in ("attention", "ffn")}
        counts = {part: distinct if shared[part] else settings.layers for part in shared}
        self.attentions = nn.ModuleList(SelfAttention(settings) for _ in range(counts["attention"]))
        self.feed_forwards = nn.ModuleList(FeedForward(settings) for _ in range(counts["ffn"]))
        self.used: list[tuple[int, int]] = []
        for layer in range(settings.layers):
            group = layer * settings.groups // settings.layers
            for inner in range(settings.inner_groups):
                block = group * settings.inner_groups + inner
                self.used.append((block if shared["attention"] else layer, block if shared["ffn"] else layer))

    def blocks(self) -> Iterable[tuple[nn.Module, nn.Module]]:
        """Return attention and feed-forward part of each block, from the bottom."""
        return ((self.attentions[attention], self.feed_forwards[feed_forward]) for attention, feed_forward in self.used)

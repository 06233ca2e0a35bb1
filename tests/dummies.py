"""Plug-ins from outside the package, as small as they can be: a task head, and a family that uses one layer three times."""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import nn

from ptm_dist.data.batch import HeadSpec, Targets
from ptm_dist.models.base import Backbone
from ptm_dist.models.heads import Head
from ptm_dist.objectives.base import Objective


class WhichThird(Objective):
    """Tell the sum of a row's tokens modulo 3 from its first state."""

    kind: Literal["tests.dummies:WhichThird"] = "tests.dummies:WhichThird"

    @property
    def head(self):
        return HeadSpec("sequence", 3)

    def corrupt(self, rows, vocabulary, draws, step=None):
        labels = [int(row.inputs["tokens"].sum()) % 3 for row in rows]
        return [row.with_targets(self.kind, Targets(np.array([0]), np.array([label]))) for row, label in zip(rows, labels, strict=True)]


class Looped(BaseModel):
    """One layer, applied three times, and a vocabulary head tied to the embedding."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["tests.dummies:Looped"] = "tests.dummies:Looped"
    hidden: int = 13

    @property
    def longest(self):
        return 512

    def backbone(self, vocabulary):
        return LoopedBackbone(vocabulary.size, self.hidden)

    def head(self, spec, backbone, vocabulary):
        return Tied(backbone.get_parameter("words.weight")) if spec.classes == 0 else AtPositions(self.hidden, spec.classes)


class LoopedBackbone(Backbone):
    def __init__(self, size, hidden):
        super().__init__()
        self.words = nn.Embedding(size, hidden)
        self.layer, self.norm = nn.Linear(hidden, hidden), nn.LayerNorm(hidden)

    def forward(self, inputs, lengths_R, memory=None):
        states = self.words(inputs["tokens"])
        for _ in range(3):
            states = self.norm(states + torch.tanh(self.layer(states)))
        return states, {}


class Tied(Head):
    def __init__(self, table):
        super().__init__()
        self.table = table

    def forward(self, hidden_RLH, positions_T):
        return F.linear(hidden_RLH.flatten(0, 1)[positions_T], self.table)


class AtPositions(Head):
    def __init__(self, hidden, classes):
        super().__init__()
        self.classify = nn.Linear(hidden, classes)

    def forward(self, hidden_RLH, positions_T):
        return self.classify(hidden_RLH.flatten(0, 1)[positions_T])

"""Heads of labelled tasks: classes, values, tags, answers and choices.

Shape letters: R rows, L length, H hidden, T targets, C candidates, J layers, N sequences (rows, or those that stand side by side in rows).
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.example import ENDS, STARTS
from ptm_dist.models.attention import real
from ptm_dist.models.heads import Head, LossSum, cross_entropy_sum, exact
from ptm_dist.models.scalar_mix import ScalarMix

DOWNSTREAM: Final = frozenset({"text", "value", "tags", "span", "choice"})
"""The kinds of these heads."""
SUMMARISED: Final = frozenset({"text", "value", "choice"})
"""Those that read what stands for a row."""
HIDDEN_SCORE: Final = -1e30
"""The score of what a softmax hides: nothing beside any other, and finite, so that where all is hidden no gradient has a NaN."""
NOBODY: Final = -1


def task_head(spec: HeadSpec, width: int, summary: nn.Module | None = None, encoder: TaskEncoder | None = None) -> Head:
    """Return the head of a kind in DOWNSTREAM over states of a width, with weights as torch draws them.

    `summary` makes of the state that stands for a row what is classified; tags and answers are told from the states themselves. An
    `encoder` is a model of the task between the backbone and all that.
    """
    if spec.kind == "span":
        return SpanHead(width, spec.dropout, encoder)
    kind = {"value": ValueHead, "choice": ChoiceHead}.get(spec.kind, LabelHead)
    return kind(spec, width, summary if spec.kind in SUMMARISED else None, encoder)


class TaskHead(Head):
    """What heads of labelled tasks have in common."""

    def __init__(self, dropout: float, encoder: TaskEncoder | None = None) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.encoder = encoder

    def encode(self, states_NLH: Tensor, lengths_N: Tensor) -> Tensor:
        """Return what the encoder makes of the states, if there is one."""
        return states_NLH if self.encoder is None else self.encoder(states_NLH, lengths_N)


class LabelHead(TaskHead):
    """The class of a row, or of a word: a linear map of its state, or of the sum of what stands for it in each of its views."""

    def __init__(self, spec: HeadSpec, width: int, summary: nn.Module | None = None, encoder: TaskEncoder | None = None) -> None:
        super().__init__(spec.dropout, encoder)
        self.summary, self.views = summary, spec.views
        self.classify = nn.Linear(width, spec.classes or 1)

    def forward(self, hidden_RLH: Tensor, positions_T: Tensor) -> Tensor:
        """Return logits [T / views, classes]; the views of a row are targets that follow one another."""
        x_TH = hidden_RLH.flatten(0, 1)[positions_T]
        if self.summary is not None:
            x_TH = self.summary(x_TH)
        return self.classify(self.dropout(x_TH.view(len(x_TH) // self.views, self.views, x_TH.shape[1]).sum(1)))

    def loss(self, hidden_RLH: Tensor, positions_T: Tensor, labels_T: Tensor) -> LossSum:
        """Return the cross-entropy of the labels, int64 [T], one for each view."""
        return cross_entropy_sum(self(hidden_RLH, positions_T), labels_T[:: self.views])


class ValueHead(LabelHead):
    """A number for a row."""

    def forward(self, hidden_RLH: Tensor, positions_T: Tensor) -> Tensor:
        """Return values [T / views]."""
        return super().forward(hidden_RLH, positions_T).squeeze(-1)

    def loss(self, hidden_RLH: Tensor, positions_T: Tensor, labels_T: Tensor) -> LossSum:
        """Return the squared error of the labels, float [T], one for each view; no value is ever right."""
        values, wanted = exact(self(hidden_RLH, positions_T)), labels_T[:: self.views]
        return LossSum(F.mse_loss(values, wanted.to(values.dtype), reduction="sum"), len(wanted), torch.zeros_like(wanted.sum()))


class ChoiceHead(LabelHead):
    """A score for each of the sequences that stand side by side in a row.

    Source: Devlin et al. 2019, section 4.4; Radford et al. 2018, section 3.3. Deviation: GPT's code drops the same of all answers of a row.
    """

    def forward(self, hidden_RLH: Tensor, positions_T: Tensor) -> Tensor:
        """Return scores [T]."""
        return super().forward(hidden_RLH, positions_T).squeeze(-1)

    def loss(self, hidden_RLH: Tensor, positions_T: Tensor, labels_T: Tensor) -> LossSum:
        """Return the cross-entropy of the scores of each row; the label is 1 where the right one stands, int64 [T]."""
        laid_RL = laid(self(hidden_RLH, positions_T), positions_T, hidden_RLH.shape[:2])
        total, targets, correct_R = _picked(laid_RL, places_of(labels_T == 1, positions_T, hidden_RLH.shape[:2]))
        return LossSum(total, targets, correct_R.sum())


class SpanHead(TaskHead):
    """How well an answer starts and ends at each token."""

    def __init__(self, width: int, dropout: float, encoder: TaskEncoder | None = None) -> None:
        super().__init__(dropout, encoder)
        self.classify = nn.Linear(width, 2)

    def forward(self, hidden_RLH: Tensor, positions_T: Tensor) -> Tensor:
        """Return scores of starts and ends, [T, 2]."""
        return self.classify(self.dropout(hidden_RLH.flatten(0, 1)[positions_T]))

    def loss(self, hidden_RLH: Tensor, positions_T: Tensor, labels_T: Tensor) -> LossSum:
        """Return the loss of answers; labels, int64 [T], have a bit each where they start and where they end."""
        return span_loss(self(hidden_RLH, positions_T), positions_T, labels_T, hidden_RLH.shape[:2])


class StartThenEndHead(TaskHead):
    """How well an answer starts at each token, and how well it ends there if it starts at a given one.

    In training that is where it does start, else where it starts most likely.

    Source: Yang et al. 2019; zihangdai/xlnet, function_builder.py. Deviation: no classifier of answerability.
    """

    def __init__(self, width: int, norm_eps: float, dropout: float) -> None:
        super().__init__(dropout)
        self.start = nn.Linear(width, 1)
        self.dense = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.end = nn.Linear(width, 1)

    def forward(self, hidden_RLH: Tensor, positions_T: Tensor) -> Tensor:
        """Return scores of starts, and of ends after the likeliest start, [T, 2]."""
        hidden_RLH = self.dropout(hidden_RLH)
        starts_T = self._starts(hidden_RLH, positions_T)
        likeliest_R = laid(starts_T, positions_T, hidden_RLH.shape[:2]).argmax(-1)
        return torch.stack([starts_T, self._ends(hidden_RLH, positions_T, likeliest_R)], -1)

    def loss(self, hidden_RLH: Tensor, positions_T: Tensor, labels_T: Tensor) -> LossSum:
        """Return the loss of answers, where ends follow the start that is right."""
        hidden_RLH = self.dropout(hidden_RLH)
        right_R = places_of((labels_T & STARTS) != 0, positions_T, hidden_RLH.shape[:2]).clamp(min=0)
        scores_T2 = torch.stack([self._starts(hidden_RLH, positions_T), self._ends(hidden_RLH, positions_T, right_R)], -1)
        return span_loss(scores_T2, positions_T, labels_T, hidden_RLH.shape[:2])

    def beams(self, hidden_RLH: Tensor, positions_T: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores of starts [T], the positions of the `count` likeliest of each row [R, C], and scores of ends for each, [T, C].

        Of a row with fewer tokens to pick the others are any positions.
        """
        starts_T = self._starts(hidden_RLH, positions_T)
        places_RC = laid(starts_T, positions_T, hidden_RLH.shape[:2]).topk(count, dim=-1).indices
        ends_TC = torch.stack([self._ends(hidden_RLH, positions_T, places_R) for places_R in places_RC.unbind(1)], -1)
        first_R1 = torch.arange(len(places_RC), device=places_RC.device)[:, None] * hidden_RLH.shape[1]
        return starts_T, first_R1 + places_RC, ends_TC

    def _starts(self, hidden_RLH: Tensor, positions_T: Tensor) -> Tensor:
        return self.start(hidden_RLH.flatten(0, 1)[positions_T]).squeeze(-1)

    def _ends(self, hidden_RLH: Tensor, positions_T: Tensor, starts_R: Tensor) -> Tensor:
        rows, length = hidden_RLH.shape[:2]
        begun_RH = hidden_RLH[torch.arange(rows, device=starts_R.device), starts_R]
        both = torch.cat([hidden_RLH.flatten(0, 1)[positions_T], begun_RH[positions_T // length]], -1)
        return self.end(self.norm(torch.tanh(self.dense(both)))).squeeze(-1)


def laid(scores_T: Tensor, positions_T: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return scores laid out by row, [R, L] fp32; where nothing was asked they are as low as can be."""
    scores_T = exact(scores_T)
    return scores_T.new_full(shape, HIDDEN_SCORE).flatten().scatter(0, positions_T, scores_T).view(shape)


def places_of(chosen_T: Tensor, positions_T: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return where in its row the chosen one of the targets is, int64 [R]; NOBODY in rows that have none."""
    rows, length = shape
    picked = positions_T[chosen_T]
    return picked.new_full((rows,), NOBODY).scatter(0, picked // length, picked % length)


def span_loss(scores_T2: Tensor, positions_T: Tensor, labels_T: Tensor, shape: tuple[int, ...]) -> LossSum:
    """Return the mean of the cross-entropies of start and end, added over rows; an answer is right where both are."""
    (start, targets, right_R), (end, _, also_right_R) = (
        _picked(laid(scores_T, positions_T, shape), places_of((labels_T & bit) != 0, positions_T, shape))
        for scores_T, bit in zip(scores_T2.unbind(-1), (STARTS, ENDS), strict=True)
    )
    return LossSum((start + end) / 2, targets, (right_R & also_right_R).sum())


def _picked(laid_RL: Tensor, right_R: Tensor) -> LossSum:
    """Return the cross-entropy over each row that has a right place, their number, and which rows are right, bool [R]."""
    total = F.cross_entropy(laid_RL, right_R, ignore_index=NOBODY, reduction="sum")
    return LossSum(total, int((right_R != NOBODY).sum()), laid_RL.detach().argmax(-1) == right_R)


class Still(nn.Module):
    """A part of a backbone under a head that learns alone."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        """Return what it makes of x, with a gradient of zero."""
        return without_gradient(self.part(x))


def without_gradient(x: Tensor) -> Tensor:
    """Return the same, with zero for the gradient of all that made it. Under ZeRO 3 what has none at all is given its last one again."""
    return x.detach() + 0.0 * x


class TaskEncoder(nn.Module):
    """ELMo's model of a task: a mix of the layers, dropout, and an LSTM in both directions.

    With `pooled` its states are [most; mean] over the sequence, the same at each of its tokens.

    Source: Peters et al. 2018, section 3.3. The papers have another model for each task; this one serves all.
    """

    def __init__(self, layers: int, width: int, hidden: int, dropout: float, pooled: bool) -> None:
        super().__init__()
        self.layers, self.pooled = layers, pooled
        self.mix, self.dropout = ScalarMix(layers), nn.Dropout(dropout)
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=True)
        self.width = 2 * hidden * (2 if pooled else 1)

    def forward(self, states_NLH: Tensor, lengths_N: Tensor) -> Tensor:
        """Return [N, L, width] of the layers side by side, [N, L, J x H]."""
        length = states_NLH.shape[1]
        layers_NJLH = states_NLH.unflatten(-1, (self.layers, -1)).transpose(1, 2)
        mixed_NLH = self.dropout(self.mix(layers_NJLH, lengths_N))
        packed = pack_padded_sequence(mixed_NLH, lengths_N.cpu(), batch_first=True, enforce_sorted=False)
        found_NLH = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=length)[0]
        if not self.pooled:
            return found_NLH
        real_NL1 = real(lengths_N, length)[..., None]
        # Not amax, which keeps all that it compares for its gradient.
        most_NH = found_NLH.masked_fill(~real_NL1, -torch.inf).max(1).values
        mean_NH = found_NLH.sum(1) / lengths_N[:, None]
        return torch.cat([most_NH, mean_NH], -1)[:, None].expand(-1, length, -1)

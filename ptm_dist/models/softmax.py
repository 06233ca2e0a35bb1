"""Language-model heads with weights of their own for large vocabularies: over all words, over a sample, over clusters of words.

Sampling and clusters rely on ids that go by frequency, the most frequent word first, as in the lists of words that ELMo is trained with.

Shape letters: R rows, L length, H hidden, V vocabulary, T targets, C sampled words, N draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptm_dist.models.base import cut, padded_rows
from ptm_dist.models.heads import Head, LossSum, cross_entropy_sum

MOST_LOGITS: Final = 1 << 28
"""Logits that a full softmax computes at once: a gibibyte in fp32."""


class FullSoftmax(Head):
    """A linear map onto all words, not tied to the input.

    Source: allenai/bilm-tf, training.py: weights normal with deviation 1 / sqrt(H), biases zero.
    """

    def __init__(self, hidden: int, vocabulary_size: int) -> None:
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.weight = nn.Parameter(torch.empty(padded_rows(vocabulary_size), hidden))
        self.bias = nn.Parameter(torch.zeros(padded_rows(vocabulary_size)))
        for parameter in (self.weight, self.bias):
            cut(parameter, vocabulary_size)
        nn.init.normal_(self.weight, std=hidden**-0.5)

    def forward(self, hidden_RLH: Tensor, positions_T: Tensor) -> Tensor:
        """Return logits [T, V]; the rows that only fill the table up are cut off."""
        return F.linear(hidden_RLH.flatten(0, 1)[positions_T], self.weight, self.bias)[:, : self.vocabulary_size]

    def loss(self, hidden_RLH: Tensor, positions_T: Tensor, labels_T: Tensor) -> LossSum:
        """Return the loss of the labels, piece by piece: evaluation holds the logits of one piece at a time."""
        piece = max(1, MOST_LOGITS // self.vocabulary_size)
        pieces = zip(positions_T.split(piece), labels_T.split(piece), strict=True)
        losses = [cross_entropy_sum(self(hidden_RLH, positions), labels) for positions, labels in pieces]
        return LossSum(sum_of([loss.sum for loss in losses]), len(labels_T), sum_of([loss.correct for loss in losses]))


class SampledSoftmax(FullSoftmax):
    """In training a label competes with words drawn at random, in evaluation with all.

    Each forward draws `negatives` distinct words twice, for the targets of forward and of backward streams, with torch's generator. A
    logit is lowered by the log of how often its word is expected among the drawn; a drawn label does not compete with itself. So the
    loss of training lies far below that of evaluation, and `correct` counts labels that win against the draw.

    The streams are the halves of a row (see `ElmoBackbone`). Lengths are unknown here: a row is taken to end at its last target, as it
    does where every word has a label. Otherwise some targets meet the other draw, which is just as good.

    Source: Jean et al. 2015, section 3; TensorFlow's sampled_softmax_loss as bilm-tf calls it. The gradient of the weights is sparse there
    and here dense with rows of zeros, the same to Adagrad.
    """

    def __init__(self, hidden: int, vocabulary_size: int, negatives: int) -> None:
        super().__init__(hidden, vocabulary_size)
        self.negatives = negatives

    def forward(self, hidden_RLH: Tensor, positions_T: Tensor, labels_T: Tensor | None = None) -> Tensor:
        """Return logits [T, V]; with labels [T, 1 + C], the label's first, and targets of forward streams before the others.

        One forward for both, because ZeRO gathers weights around the forward of the module that owns them.
        """
        if labels_T is None:
            return super().forward(hidden_RLH, positions_T)
        x_TH = hidden_RLH.flatten(0, 1)[positions_T]
        backward_T = in_second_half(positions_T, *hidden_RLH.shape[:2])
        return torch.cat([self._compete(x_TH[stream_T], labels_T[stream_T]) for stream_T in (~backward_T, backward_T)])

    def loss(self, hidden_RLH: Tensor, positions_T: Tensor, labels_T: Tensor) -> LossSum:
        """Return the loss of the labels against a draw in training, against all words in evaluation."""
        if not self.training:
            return super().loss(hidden_RLH, positions_T, labels_T)
        return cross_entropy_sum(self(hidden_RLH, positions_T, labels_T), torch.zeros_like(labels_T))

    def _compete(self, x_TH: Tensor, labels_T: Tensor) -> Tensor:
        drawn_C, tries = draw_distinct(self.negatives, self.vocabulary_size, labels_T.device)
        ids = torch.cat([labels_T, drawn_C])
        expected = expected_counts(ids, self.vocabulary_size, tries)
        # The gradient of an embedding is summed in a fixed order.
        weights, biases = F.embedding(ids, self.weight), F.embedding(ids, self.bias[:, None])[:, 0]
        shifts = (biases - expected.log()).to(torch.promote_types(x_TH.dtype, torch.float32))
        targets = len(labels_T)
        true_T = (x_TH * weights[:targets]).sum(-1) + shifts[:targets]
        drawn_TC = x_TH @ weights[targets:].T + shifts[targets:]
        return torch.cat([true_T[:, None], drawn_TC.masked_fill(labels_T[:, None] == drawn_C, -math.inf)], 1)


def in_second_half(positions_T: Tensor, rows: int, length: int) -> Tensor:
    """Return bool [T]: does a target lie in the second half of its row, which ends at the row's last target?"""
    target_RL = torch.zeros(rows * length, dtype=torch.bool, device=positions_T.device).index_fill(0, positions_T, True).view(rows, length)
    ends_R = (target_RL * torch.arange(1, length + 1, device=positions_T.device)).amax(1)
    return 2 * (positions_T % length) >= ends_R[positions_T // length]


def draw_distinct(count: int, vocabulary_size: int, device: torch.device) -> tuple[Tensor, int]:
    """Draw words from the log-uniform distribution until there are `count` distinct ones; return them, and the number of draws.

    P(word) = ln((word + 2) / (word + 1)) / ln(V + 1), close to Zipf's law.
    """
    drawn_N = torch.zeros(0, dtype=torch.int64, device=device)
    first_C = drawn_N
    while len(first_C) < count:
        uniform = torch.rand(max(4 * count, len(drawn_N)), dtype=torch.float64, device=device)
        # Rounding may reach V, and must not.
        more = (torch.exp(uniform * math.log(vocabulary_size + 1)).long() - 1).clamp(max=vocabulary_size - 1)
        drawn_N = torch.cat([drawn_N, more])
        first_C = first_occurrences(drawn_N)
    return drawn_N[first_C[:count]], int(first_C[count - 1]) + 1


def first_occurrences(values_N: Tensor) -> Tensor:
    """Return where each distinct value stands first, in ascending order."""
    ordered_N, places_N = values_N.sort(stable=True)
    new_N = torch.ones_like(ordered_N, dtype=torch.bool)
    new_N[1:] = ordered_N[1:] != ordered_N[:-1]
    return places_N[new_N].sort().values


def expected_counts(words: Tensor, vocabulary_size: int, tries: int) -> Tensor:
    """Return the probability, fp64, that a word is among `tries` draws: 1 - (1 - P)^tries."""
    probability = torch.log1p(1 / (words.double() + 1)) / math.log(vocabulary_size + 1)
    return -torch.expm1(tries * torch.log1p(-probability))


class AdaptiveSoftmax(Head):
    """Frequent words and clusters of rarer ones first, then the word within a cluster, from fewer dimensions the rarer it is.

    Source: Grave et al. 2017, in torch's form: each cluster has a quarter of the dimensions of the one before. Not in ELMo.
    """

    def __init__(self, hidden: int, vocabulary_size: int, cutoffs: Sequence[int]) -> None:
        super().__init__()
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(hidden, vocabulary_size, cutoffs)
        for part in self.softmax.modules():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=part.in_features**-0.5)

    def forward(self, hidden_RLH: Tensor, positions_T: Tensor) -> Tensor:
        """Return log-probabilities [T, V]."""
        return self.softmax.log_prob(hidden_RLH.flatten(0, 1)[positions_T])

    def loss(self, hidden_RLH: Tensor, positions_T: Tensor, labels_T: Tensor) -> LossSum:
        """Return the loss of the labels.

        What torch's module returns, but in fp32 at least, and through every cluster even if no label is in it, as ZeRO wants it.
        """
        x_TH = hidden_RLH.flatten(0, 1)[positions_T]
        first, *_ = starts = self.softmax.cutoffs[:-1]
        clusters_T = torch.bucketize(labels_T, torch.tensor(starts, device=labels_T.device), right=True)
        top_T = labels_T.where(clusters_T == 0, first + clusters_T - 1)
        sums = [cross_entropy_sum(self.softmax.head(x_TH), top_T).sum]
        for number, start in enumerate(starts):
            inside_T = clusters_T == number + 1
            sums.append(cross_entropy_sum(self.softmax.tail[number](x_TH[inside_T]), labels_T[inside_T] - start).sum)
        with torch.no_grad():
            correct = (self.softmax.predict(x_TH) == labels_T).sum()
        return LossSum(sum_of(sums), len(labels_T), correct)


def sum_of(parts: list[Tensor]) -> Tensor:
    """Return the sum of scalars."""
    return torch.stack(parts).sum()

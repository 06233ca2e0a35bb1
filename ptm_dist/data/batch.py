"""What training reads: corrupted rows, cut into micro-batches of padded arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

HeadKind = Literal[
    "masked_lm", "causal_lm", "permutation_lm", "bidirectional_lm", "sequence", "tokens", "text", "value", "tags", "span", "choice"
]


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """The head an objective needs: what it reads from the backbone and how many classes it tells apart (0: the vocabulary, or no classes).

    `dropout` is that of the head itself. Of a row that is laid in several `views` it adds up what it reads. One over a `frozen` backbone
    learns alone; nor does a pooler between them learn.
    """

    kind: HeadKind
    classes: int = 0
    dropout: float = 0.0
    views: int = 1
    frozen: bool = False

    @property
    def over_vocabulary(self) -> bool:
        """Does it predict tokens? Then all tasks share it."""
        return self.kind.endswith("_lm")


class Targets(NamedTuple):
    """What an objective predicts in one row or micro-batch: the label at each position, [targets] both, int64 but for float labels."""

    positions: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, slots=True)
class Row:
    """An example on its way to the model: inputs of one length (`tokens` among them), 0-D values, targets by objective.

    An input has one value a token, or an array of one shape a token: the characters of a word. Where K sequences stand side by side each
    input is [length, K, ...], `real` tells which tokens are none that fill up, and positions of targets count through [length x K].
    """

    inputs: dict[str, np.ndarray]
    targets: dict[str, Targets] = field(default_factory=dict)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of the row, int64 [], or of each of its sequences [K]."""
        tokens = self.inputs["tokens"]
        return self.inputs["real"].sum(0, dtype=np.int64) if tokens.ndim > 1 else np.array(len(tokens), dtype=np.int64)

    def beside(self, pad: int) -> Row:
        """Return the row with its sequences side by side, if `part` says that it has several, laid end to end; it has no targets yet."""
        if "part" not in self.inputs:
            return self
        part = self.inputs["part"]
        sizes = np.bincount(part)
        steps = np.arange(len(part)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        inputs = {name: values for name, values in self.inputs.items() if name != "part"} | {"real": np.ones(len(part), dtype=bool)}
        for name, values in inputs.items():
            if values.ndim:
                laid = np.full((sizes.max(), len(sizes)), pad if name == "tokens" else values.dtype.type(), values.dtype)
                laid[steps, part] = values
                inputs[name] = laid
        return Row(inputs, self.targets)

    def with_targets(self, name: str, targets: Targets) -> Row:
        """Return the same row with targets of one more objective."""
        return Row(self.inputs, self.targets | {name: targets})

    def without(self, names: frozenset[str]) -> Row:
        """Return the same row without some inputs."""
        return Row({name: values for name, values in self.inputs.items() if name not in names}, self.targets)


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What one rank forwards at once.

    `inputs` are int64 [rows, length, ...], padded with zeros except `tokens`, padded with the pad id; `lengths` is int64 [rows];
    target positions count through the flattened [rows x length]. Of rows with K sequences side by side `inputs` are [rows, length, K, ...],
    `lengths` [rows, K], and positions count through [rows x length x K].
    """

    inputs: dict[str, np.ndarray]
    lengths: np.ndarray
    targets: dict[str, Targets]

    @property
    def tokens(self) -> int:
        """Tokens that are not padding."""
        return int(self.lengths.sum())

    def sequences_asked(self, name: str) -> int:
        """Return how many sequences have a target of an objective: those of rows that hold one, and each of those side by side."""
        _, length, *beside = self.inputs["tokens"].shape
        positions = self.targets[name].positions if name in self.targets else np.zeros(0, dtype=np.int64)
        return len(np.unique(sequence_of(positions, length, *beside)))


def sequence_of(positions: Any, length: int, beside: int = 1) -> Any:
    """Return the number of the sequence that each target is in, of arrays or tensors of positions through [rows x length x beside]."""
    return positions // (length * beside) * beside + positions % beside


def collate(rows: Sequence[Row], pad: int, width: int) -> MicroBatch:
    """Pad `rows` to the longest of them, rounded up to a multiple of 8, and fill up to `width` rows.

    A filler row is one pad token without targets: every rank forwards the same shapes the same number of times, and the
    filler adds nothing to any sum or count.
    """
    length = -(-max((len(row.inputs["tokens"]) for row in rows), default=1) // 8) * 8
    names = rows[0].inputs if rows else {"tokens": np.array([pad])}
    inputs = {
        name: np.full((width, length, *values.shape[1:]), pad if name == "tokens" else 0, dtype=np.int64)
        for name, values in names.items()
        if values.ndim and name != "real"
    }
    lengths = np.ones((width, *inputs["tokens"].shape[2:]), dtype=np.int64)
    for number, row in enumerate(rows):
        lengths[number] = row.lengths
        for name, padded in inputs.items():
            padded[number, : len(row.inputs[name])] = row.inputs[name]
    return MicroBatch(inputs, lengths, _shift_targets(rows, math.prod(inputs["tokens"].shape[1:])))


def _shift_targets(rows: Sequence[Row], places: int) -> dict[str, Targets]:
    shifted = {}
    for name in {name for row in rows for name in row.targets}:
        found = [(number, row.targets[name]) for number, row in enumerate(rows) if name in row.targets]
        positions = np.concatenate([number * places + targets.positions for number, targets in found])
        labels = np.concatenate([targets.labels for _, targets in found])
        shifted[name] = Targets(positions.astype(np.int64), labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64))
    return shifted

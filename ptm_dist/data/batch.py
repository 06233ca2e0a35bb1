"""What training reads: corrupted rows, cut into micro-batches of padded arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

HeadKind = Literal["masked_lm", "causal_lm", "permutation_lm", "bidirectional_lm", "sequence", "tokens"]


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """The head an objective needs: what it reads from the backbone and how many classes it tells apart (0: the vocabulary)."""

    kind: HeadKind
    classes: int = 0


class Targets(NamedTuple):
    """What an objective predicts in one row or micro-batch: the label at each position, int64 [targets] both."""

    positions: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, slots=True)
class Row:
    """An example on its way to the model: inputs of one length (`tokens` among them), 0-D values, targets by objective.

    An input has one value a token, or an array of one shape a token: the characters of a word.
    """

    inputs: dict[str, np.ndarray]
    targets: dict[str, Targets] = field(default_factory=dict)

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
    target positions count through the flattened [rows x length].
    """

    inputs: dict[str, np.ndarray]
    lengths: np.ndarray
    targets: dict[str, Targets]

    @property
    def tokens(self) -> int:
        """Tokens that are not padding."""
        return int(self.lengths.sum())


def collate(rows: Sequence[Row], pad: int, width: int) -> MicroBatch:
    """Pad `rows` to the longest of them, rounded up to a multiple of 8, and fill up to `width` rows.

    A filler row is one pad token without targets: every rank forwards the same shapes the same number of times, and the
    filler adds nothing to any sum or count.
    """
    lengths = np.array([len(row.inputs["tokens"]) for row in rows] + [1] * (width - len(rows)), dtype=np.int64)
    length = -(-int(lengths.max(initial=1)) // 8) * 8
    names = rows[0].inputs if rows else {"tokens": np.array([pad])}
    inputs = {
        name: np.full((width, length, *values.shape[1:]), pad if name == "tokens" else 0, dtype=np.int64)
        for name, values in names.items()
        if values.ndim
    }
    for number, row in enumerate(rows):
        for name, padded in inputs.items():
            padded[number, : lengths[number]] = row.inputs[name]
    return MicroBatch(inputs, lengths, _shift_targets(rows, length))


def _shift_targets(rows: Sequence[Row], length: int) -> dict[str, Targets]:
    shifted = {}
    for name in {name for row in rows for name in row.targets}:
        found = [(number, row.targets[name]) for number, row in enumerate(rows) if name in row.targets]
        positions = [number * length + targets.positions for number, targets in found]
        shifted[name] = Targets(
            np.concatenate(positions).astype(np.int64), np.concatenate([targets.labels for _, targets in found]).astype(np.int64)
        )
    return shifted

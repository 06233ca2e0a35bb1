"""What every objective is: a change of rows drawn when they are read, with targets for a head."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ptm_dist.data.batch import HeadSpec, Row
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.rng import RowDraws


class Objective(BaseModel):
    """A training objective; it is its own configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Any  # the name of the class in the table; a literal there
    weight: Annotated[float, Field(gt=0, description="what the mean loss is multiplied with before losses are added")] = 1.0

    @property
    def head(self) -> HeadSpec:
        """The head that predicts the targets; it computes the loss."""
        raise NotImplementedError

    @property
    def names(self) -> tuple[str, ...]:
        """What the classes, tags or choices are called, in the order of their numbers; nothing where there are none."""
        return ()

    @property
    def averages_rows(self) -> bool:
        """Does every sequence count as one, however many targets it has?"""
        return False

    @property
    def reads(self) -> frozenset[str]:
        """The fields of an example, beside `tokens`, that the objective reads and the model does not."""
        return frozenset()

    @property
    def needs_marks(self) -> bool:
        """Can it not do without knowing words, phrases or entities?"""
        return False

    @property
    def variants(self) -> int:
        """How many changes of a row there are, one epoch after the other; 0: a new one every epoch."""
        return 0

    def predictable(self, vocabulary: Vocabulary) -> np.ndarray:
        """Return which ids can be a target, bool [vocabulary size]: none unless the head is over the vocabulary."""
        return np.zeros(vocabulary.size, dtype=bool)

    def count(self, labels: np.ndarray) -> int:
        """Return how many predictions the labels of a row or a micro-batch stand for: the mean loss is over these."""
        return len(labels)

    def corrupt(self, rows: Sequence[Row], vocabulary: Vocabulary, draws: RowDraws, step: int | None = None) -> list[Row]:
        """Return `rows` as the model sees them, with targets added under the objective's name.

        What becomes of a row depends on its own draws and on `step` alone, never on the rows beside it. Step None is for rows that are held
        out: whatever changes in the course of a run is as at its end.
        """
        raise NotImplementedError


@lru_cache(maxsize=64)
def allowed(size: int, without: frozenset[int | None]) -> np.ndarray:
    """Return bool [size], False at the ids `without`."""
    found = np.ones(size, dtype=bool)
    found[[number for number in without if number is not None]] = False
    found.flags.writeable = False
    return found

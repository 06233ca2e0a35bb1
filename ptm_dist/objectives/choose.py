"""The right one of several answers."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.errors import DataIntegrityError
from ptm_dist.objectives.downstream import Downstream, class_of, summaries


class Choose(Downstream):
    """Tell which of the answers that stand side by side is right, by a softmax over one score of each.

    Source: Devlin et al. 2019, section 4.4; Radford et al. 2018, section 3.3.
    """

    reads_format: ClassVar[str] = "choices"

    kind: Literal["choose"] = "choose"
    choices: Annotated[int, Field(ge=2, le=255, description="answers of each item")]
    at: Annotated[Literal["first", "last"], Field(description="the token that stands for an answer")] = "first"

    @property
    def head(self) -> HeadSpec:
        """A score of the state that stands for each answer."""
        return HeadSpec("choice", 0, self.dropout, frozen=self.freeze)

    @property
    def names(self) -> tuple[str, ...]:
        """The numbers of the answers."""
        return tuple(map(str, range(self.choices)))

    def count(self, labels: np.ndarray) -> int:
        """Return the number of rows: in each one answer is right."""
        return int(labels.sum())

    def targets(self, row: Row) -> Targets:
        """Return the token that stands for each answer, labelled 1 where it is right.

        Raises:
            DataIntegrityError: the format gave another number of answers, or no label among them.

        """
        asked = summaries(row, self.at)
        if len(asked) != self.choices:
            raise DataIntegrityError(f"{self.kind}: a row has {len(asked)} answers side by side, not {self.choices}. Correct choices.")
        right = class_of(row, self.kind, self.choices)
        return Targets(asked, (np.arange(self.choices) == right).astype(np.int64))

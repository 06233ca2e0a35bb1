"""The answer to a question as a stretch of a text."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.data.example import ENDS, NO_LABEL, STARTS
from ptm_dist.errors import DataIntegrityError
from ptm_dist.objectives.downstream import Downstream


class AnswerSpan(Downstream):
    """Tell where the answer in a row starts and where it ends, each by a softmax over the tokens that may be picked.

    The loss of a row is the mean of the two. Rows without the answer have both at the token that stands for nothing.

    Source: Devlin et al. 2019, sections 4.2 and 4.3. Deviation from Yang et al. 2019: XLNet has no classifier of its own for questions
    that cannot be answered; the token that stands for nothing tells them, as in BERT.
    """

    reads_format: ClassVar[str] = "questions"

    kind: Literal["answer_span"] = "answer_span"
    dropout: Annotated[float, Field(ge=0, lt=1, description="dropout of the head")] = 0.0

    @property
    def head(self) -> HeadSpec:
        """Two scores of each token."""
        return HeadSpec("span", 0, self.dropout, frozen=self.freeze)

    @property
    def reads(self) -> frozenset[str]:
        """`pick`, uint8 a token, as well."""
        return super().reads | {"pick"}

    def count(self, labels: np.ndarray) -> int:
        """Return the number of rows: each has one start."""
        return int(((labels & STARTS) != 0).sum())

    def targets(self, row: Row) -> Targets:
        """Return which tokens may be picked; a label has a bit for the start of the answer and one for its end.

        Raises:
            DataIntegrityError: the format did not say, or not exactly one token is the start or the end.

        """
        pick = row.inputs.get("pick")
        if pick is None:
            raise DataIntegrityError(f"{self.kind}: rows do not say what may be picked. Take a format that does: {self.reads_format}.")
        asked = np.flatnonzero(pick != NO_LABEL)
        labels = pick.reshape(-1)[asked].astype(np.int64)
        for bit, name in ((STARTS, "starts"), (ENDS, "ends")):
            found = int(((labels & bit) != 0).sum())
            if found != 1:
                raise DataIntegrityError(f"{self.kind}: the answer of a row {name} at {found} tokens; it must be one.")
        return Targets(asked, labels)

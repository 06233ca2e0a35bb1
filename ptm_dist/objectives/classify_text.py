"""Classification of a text, or of a pair of texts."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.objectives.downstream import Names, OfTexts, class_of


class ClassifyText(OfTexts):
    """Tell the class of a row: sentiment, topic, whether one sentence follows from another, whether two mean the same.

    Source: Devlin et al. 2019, section 4.1; Radford et al. 2018, section 3.3, for the two views of a pair.
    """

    kind: Literal["classify_text"] = "classify_text"
    labels: Names
    """The names of the classes in the order of their numbers."""

    @property
    def head(self) -> HeadSpec:
        """A classifier of the state that stands for a row."""
        return HeadSpec("text", len(self.labels), self.dropout, self.views, self.freeze)

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the classes."""
        return self.labels

    def targets(self, row: Row) -> Targets:
        """Return the class of the row at the token that stands for it, in each view.

        Raises:
            DataIntegrityError: the format gave no label, one that is no class, or another number of views.

        """
        return Targets(self.asked(row), np.full(self.views, class_of(row, self.kind, len(self.labels)), dtype=np.int64))

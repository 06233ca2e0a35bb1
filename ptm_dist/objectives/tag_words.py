"""Tags of words."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.data.example import NO_LABEL
from ptm_dist.errors import DataIntegrityError
from ptm_dist.objectives.downstream import Downstream, Names


class TagWords(Downstream):
    """Tell the tag of each word, such as B-PER, from the state of its first token.

    Source: Devlin et al. 2019, section 5.3.
    """

    reads_format: ClassVar[str] = "tagged_words"

    kind: Literal["tag_words"] = "tag_words"
    tags: Annotated[Names, Field(max_length=NO_LABEL)]
    """The names of the tags in the order of their numbers."""

    @property
    def head(self) -> HeadSpec:
        """A classifier of the state at each word."""
        return HeadSpec("tags", len(self.tags), self.dropout, frozen=self.freeze)

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the tags."""
        return self.tags

    @property
    def reads(self) -> frozenset[str]:
        """`labels`, uint8 a token, as well."""
        return super().reads | {"labels"}

    def targets(self, row: Row) -> Targets:
        """Return the tags of the words.

        Raises:
            DataIntegrityError: the format gave no labels, or one that is no tag.

        """
        labels = row.inputs.get("labels")
        if labels is None:
            raise DataIntegrityError(f"{self.kind}: rows have no labels. Take a format that gives some: {self.reads_format}.")
        asked = np.flatnonzero(labels != NO_LABEL)
        found = labels.reshape(-1)[asked].astype(np.int64)
        if found.max(initial=0) >= len(self.tags):
            raise DataIntegrityError(f"{self.kind}: a word has the tag {found.max()}, not one of 0 to {len(self.tags) - 1}.")
        return Targets(asked, found)

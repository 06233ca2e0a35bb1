"""A format with the labels of another one drawn anew: what is left to learn of them is what gives them away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from ptm_dist.data.document import Cut, TokenizedDocument
from ptm_dist.data.example import Example
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats import FORMATS, Format
from ptm_dist.formats.base import Skipped
from ptm_dist.plugins import plugin
from ptm_dist.rng import Draws

NO_LABEL = 255


class RandomLabels(Format):
    """The rows of `of`, each label as likely as any other."""

    kind: Literal["tests.systems.random_labels:RandomLabels"]
    of: Annotated[Any, plugin(FORMATS)]

    @property
    def needs_marks(self) -> bool:
        """As `of`."""
        return self.of.needs_marks

    @property
    def classes(self) -> int:
        """As `of`."""
        return self.of.classes

    @property
    def cut(self) -> Cut:
        """As `of`."""
        return self.of.cut

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Skipped) -> Iterator[Example]:
        """Yield the rows of `of` with labels drawn for each."""
        for number, row in enumerate(self.of.examples(documents, vocabulary, skipped)):
            name = "label" if "label" in row else "labels"
            drawn = Draws(11, "random labels", number).integers(row[name].size, self.classes or 2).reshape(row[name].shape)
            kept = (row[name] == NO_LABEL) & (name == "labels")
            drawn[kept] = NO_LABEL
            yield row | {name: drawn.astype(row[name].dtype)}

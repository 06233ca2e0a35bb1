"""What objectives of labelled items have in common: rows stand side by side where they hold several, and words are spelled for ELMo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import AfterValidator, Field

from ptm_dist.data.batch import Row, Targets
from ptm_dist.data.characters import character_ids_of_letters
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import DataIntegrityError
from ptm_dist.objectives.base import Objective
from ptm_dist.rng import RowDraws


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stands twice; each name has one number")
    return names


Names: TypeAlias = Annotated[tuple[str, ...], Field(min_length=2), AfterValidator(_distinct)]


class Downstream(Objective):
    """An objective of labelled items: its targets are those that a format laid down, and nothing of a row is hidden."""

    reads_format: ClassVar[str]
    """The kind of format whose rows have what it asks for."""

    dropout: Annotated[float, Field(ge=0, lt=1, description="dropout of the head")] = 0.1
    freeze: Annotated[bool, Field(description="the head learns alone; the backbone stays as it is, without dropout")] = False

    @property
    def reads(self) -> frozenset[str]:
        """`part`, uint8 a token, in rows that hold several; `letters`, the bytes of words, for a model that spells."""
        return frozenset({"part", "letters"})

    def corrupt(self, rows: Sequence[Row], vocabulary: Vocabulary, draws: RowDraws, step: int | None = None) -> list[Row]:
        """Leave what rows say as it is; put those that hold several sequences side by side, and spell words where they have letters.

        Raises:
            DataIntegrityError: the format gave no labels, or some that are none of the objective.

        """
        ready = [_spelled(row.beside(vocabulary.pad), vocabulary) for row in rows]
        return [row.with_targets(self.kind, self.targets(row)) for row in ready]

    def targets(self, row: Row) -> Targets:
        """Return what is asked of a row, its sequences side by side.

        Raises:
            DataIntegrityError: it does not say, or not as the objective wants it.

        """
        raise NotImplementedError


class OfTexts(Downstream):
    """One answer a row from the token that stands for each text in it."""

    reads_format: ClassVar[str] = "texts"

    at: Annotated[Literal["first", "last"], Field(description="the token that stands for a text")] = "first"
    views: Annotated[int, Field(ge=1, description="how often a row is laid: 2 where `both_orders` are; what stands for them is added")] = 1

    def count(self, labels: np.ndarray) -> int:
        """Return the number of rows: each view has the label."""
        return len(labels) // self.views

    def asked(self, row: Row) -> np.ndarray:
        """Return the positions that stand for the texts of a row, int64 [views].

        Raises:
            DataIntegrityError: the row is laid in another number of views.

        """
        found = summaries(row, self.at)
        if len(found) != self.views:
            raise DataIntegrityError(
                f"{self.kind}: a row holds {len(found)} texts side by side, not {self.views}. "
                "Write views: 2 where the format has both_orders and all items are pairs, else neither."
            )
        return found


def summaries(row: Row, at: Literal["first", "last"]) -> np.ndarray:
    """Return the position of the first or the last token of each sequence of a row, int64 [K], in [length x K]."""
    lengths = np.atleast_1d(row.lengths)
    steps = np.zeros_like(lengths) if at == "first" else lengths - 1
    return steps * len(lengths) + np.arange(len(lengths))


def class_of(row: Row, kind: str, classes: int) -> int:
    """Return the number in `label`.

    Raises:
        DataIntegrityError: there is none, or one that is no class.

    """
    label = row.inputs.get("label")
    if label is None or not 0 <= int(label) < classes:
        raise DataIntegrityError(f"{kind}: a row has the label {label}, not one of 0 to {classes - 1}.")
    return int(label)


def _spelled(row: Row, vocabulary: Vocabulary) -> Row:
    """Return a row with `characters`, int64 [.., C], of the words whose letters it has; zeros where no word stands."""
    if "letters" not in row.inputs or "characters" in row.inputs:
        return row
    tokens, letters = (row.inputs[name].reshape(-1) for name in ("tokens", "letters"))
    characters = character_ids_of_letters(letters, tokens == vocabulary.begin, tokens == vocabulary.end)
    characters[~row.inputs.get("real", np.ones(len(tokens), dtype=bool)).reshape(-1)] = 0
    return Row(row.inputs | {"characters": characters.reshape(*row.inputs["tokens"].shape, -1)}, row.targets)

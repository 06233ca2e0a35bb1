"""ERNIE 1.0's dialogue language model: three turns of a dialogue, one of which may be of another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import Field

from ptm_dist.data.document import Cut, TokenizedDocument
from ptm_dist.data.example import Example
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats.base import Format, Length, Skipped, another, classifier_row, dice, labelled, truncated
from ptm_dist.rng import Dice

TURNS: Final = 3
TRIES: Final = 10
"""How often another turn is looked for that does not read the same."""

Turns = list[tuple[np.ndarray, int]]
"""What was said, and by whom."""


class Dialogue(Format):
    """[CLS] u [SEP] u [SEP] u [SEP]: three turns that follow one another, and whether all are of one dialogue (label 1) or not (0).

    Who speaks first is Q, everybody else is R, and a row is QRQ, QRR or QQR. `segments` is 0 at tokens of Q and 1 at those of R: the
    embedding of roles takes the place of that of segment types. [CLS] is of the first turn, each [SEP] of the turn it ends. In a fake row
    one turn, the first, second or third, is replaced by one of another dialogue; its role stays.

    Rows of a dialogue do not overlap: each begins with the turn after the one before or, where one speaker has three turns in a row, a
    turn later. Pass p begins with turn p modulo 3, so that passes have other rows. Other dialogues are those of the same part of the
    corpus that make a row; they change none but the fake rows. One dialogue alone has real rows only.

    Source: Sun et al. 2019 (ERNIE 1.0), section 3.4. No code of it is public: the layout, the roles of special tokens and how often rows
    are fake are this project's; labels are ERNIE's, the other way round than BERT's.
    """

    kind: Literal["dialogue"] = "dialogue"
    length: Length
    """Most tokens of a row, [CLS] and the three [SEP] included; too long a row loses tokens from its longest turn, at either end."""
    fake_share: Annotated[float, Field(ge=0, le=1, description="share of rows with a turn of another dialogue")] = 0.5
    passes: Annotated[int, Field(ge=1, description="times that each dialogue is cut anew")] = 1
    seed: Annotated[int, Field(ge=0)] = 12345

    @property
    def classes(self) -> int:
        """Fake or real."""
        return 2

    def meaning(self, label: int) -> str:
        """Say what a label means."""
        return "real" if label else "fake"

    @property
    def cut(self) -> Cut:
        """Turns, with who speaks."""
        return Cut("turns")

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Skipped) -> Iterator[Example]:
        """Yield rows with `segments` and `label`; documents without one are counted as empty, few_turns or one_speaker."""
        usable = []
        for document in documents:
            turns = labelled(document)
            if any(_windows(turns, 0)):
                usable.append((document.key, turns))
            else:
                skipped["empty" if not turns else "few_turns" if len(turns) < TURNS else "one_speaker"] += 1
        texts = [[turn for turn, _ in turns] for _, turns in usable]
        for number in range(self.passes):
            for index, (key, turns) in enumerate(usable):
                own, others = dice(self.seed, self.kind, key, number)
                for start, roles in _windows(turns, number % TURNS):
                    said = texts[index][start : start + TURNS]
                    fake, place = own.share() < self.fake_share, own.between(0, TURNS - 1)
                    foreign = _foreign(texts, index, said[place], others) if fake and len(texts) > 1 else None
                    if foreign is not None:
                        said[place] = foreign
                    cut = truncated(said, self.length - 1 - TURNS, own if foreign is None else others)
                    row = classifier_row(cut, vocabulary, int(foreign is None))
                    yield row | {"segments": np.array(roles, dtype=np.uint8)[row["segments"]]}


def _windows(turns: Turns, start: int) -> Iterator[tuple[int, list[int]]]:
    """Yield where rows begin, and their roles."""
    while start + TURNS <= len(turns):
        roles = [int(speaker != turns[start][1]) for _, speaker in turns[start : start + TURNS]]
        if any(roles):
            yield start, roles
        start += TURNS if any(roles) else 1


def _foreign(texts: list[list[np.ndarray]], index: int, said: np.ndarray, draws: Dice) -> np.ndarray | None:
    """Return a turn of another dialogue that does not read as what was said; none if no such turn is found."""
    for _ in range(TRIES):
        other = texts[another(index, len(texts), draws)]
        turn = other[draws.between(0, len(other) - 1)]
        if not np.array_equal(turn["id"], said["id"]):
            return turn
    return None

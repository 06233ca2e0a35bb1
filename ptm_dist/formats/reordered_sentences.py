"""ERNIE 2.0's sentence reordering: segments of a text in a random order, which is the label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import factorial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ptm_dist.data.document import TokenizedDocument
from ptm_dist.data.example import Example
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats.base import Format, Length, Skipped, classifier_row, dice, filled, joined
from ptm_dist.rng import Dice


class ReorderedSentences(Format):
    """[CLS] s [SEP] s [SEP] ...: a run of whole sentences, split into 1 to `most` segments that stand in a random order.

    The number of segments is as likely as any other up to `most` or to the sentences of the run, where these are fewer; so are the places
    where a run is split and, given their number, the orders. The label is the order: `permutation(label)` tells it. `segments` counts the
    places of a row from 0, so the model needs `segments: MOST`.

    Runs follow one another without a gap; each takes as many sentences as fit whatever their order. A sentence longer than a row is cut
    to fit. A document of one sentence makes a row with label 0. Other documents change nothing.

    Source: Sun et al. 2020 (ERNIE 2.0), section 4.2.2. The paper leaves `most` open; it is 4 in PaddlePaddle/ERNIE, whose task of 33
    classes is called multi_sent_sorted. Deviation: baidu/Senta has no class for one segment, so its 32 labels are other numbers.
    """

    kind: Literal["reordered_sentences"] = "reordered_sentences"
    length: Length
    """Most tokens of a row, [CLS] and every [SEP] included."""
    most: Annotated[int, Field(ge=1, le=5, description="segments of a row at most: 3, 9, 33, 153 classes for 2, 3, 4, 5")] = 4
    passes: Annotated[int, Field(ge=1, description="times that each document is split anew")] = 1
    seed: Annotated[int, Field(ge=0)] = 12345

    @property
    def classes(self) -> int:
        """The orders of 1 to `most` segments."""
        return classes(self.most)

    @property
    def segments(self) -> int:
        """As many as are reordered."""
        return self.most

    def meaning(self, label: int) -> str:
        """Say what a label means."""
        return "segments " + " ".join(map(str, permutation(label)))

    def examples(self, documents: Iterable[TokenizedDocument], vocabulary: Vocabulary, skipped: Skipped) -> Iterator[Example]:
        """Yield rows with `segments` and `label`; documents without text are counted as empty."""
        room = self.length - 1 - self.most
        found = [(document.key, list(_runs(filled(document), room))) for document in documents]
        skipped["empty"] += sum(not runs for _, runs in found)
        for number in range(self.passes):
            for key, runs in found:
                draws, _ = dice(self.seed, self.kind, key, number)
                for run in runs:
                    parts = _split(run, draws.between(1, min(self.most, len(run))), draws)
                    label = classes(len(parts) - 1) + draws.between(0, factorial(len(parts)) - 1)
                    yield classifier_row([parts[place] for place in permutation(label)], vocabulary, label)


def classes(most: int) -> int:
    """Return how many orders 1 to `most` segments have together: 1, 3, 9, 33, 153 for 1 to 5."""
    return sum(factorial(count) for count in range(1, most + 1))


def rank(order: Sequence[int]) -> int:
    """Return the label of an order, which lists for each place of a row the segment that stands there.

    Orders of fewer segments come first, those of as many in lexicographic order.
    """
    places = enumerate(order, start=1)
    return classes(len(order) - 1) + sum(
        sum(later < here for later in order[place:]) * factorial(len(order) - place) for place, here in places
    )


def permutation(label: int) -> tuple[int, ...]:
    """Return the order that has this label: `rank(permutation(label)) == label`."""
    count = 1
    while label >= factorial(count):
        label -= factorial(count)
        count += 1
    left, order = list(range(count)), []
    for behind in reversed(range(count)):
        place, label = divmod(label, factorial(behind))
        order.append(left.pop(place))
    return tuple(order)


def _runs(sentences: list[np.ndarray], room: int) -> Iterator[list[np.ndarray]]:
    """Yield sentences that follow one another, as many as have `room` tokens together."""
    run: list[np.ndarray] = []
    taken = 0
    for sentence in (found[:room] for found in sentences):
        if taken + len(sentence) > room:
            yield run
            run, taken = [], 0
        run.append(sentence)
        taken += len(sentence)
    if run:
        yield run


def _split(run: list[np.ndarray], count: int, draws: Dice) -> list[np.ndarray]:
    """Split a run between sentences into `count` segments, each choice of places as likely."""
    places = list(range(1, len(run)))
    cuts = sorted(places.pop(draws.between(0, len(places) - 1)) for _ in range(count - 1))
    return [joined(run[start:end]) for start, end in zip([0, *cuts], [*cuts, len(run)], strict=True)]

"""Labels of rows."""

import numpy as np
import pytest

from ptm_dist.data.batch import HeadSpec, Row
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import DataIntegrityError
from ptm_dist.objectives.classify_sequence import ClassifySequence
from ptm_dist.rng import RowDraws

VOCABULARY = Vocabulary(size=100, begin=0, pad=1, end=2, unknown=3, mask=99)


def corrupted(objective, *labels):
    rows = [Row({"tokens": np.arange(7)} | ({} if label is None else {"label": np.array(label, dtype=np.uint16)})) for label in labels]
    return objective.corrupt(rows, VOCABULARY, RowDraws(1, "x", [(0, number) for number in range(len(rows))]))


@pytest.mark.parametrize(("at", "place"), [("first", 0), ("last", 6)])
def test_the_label_of_each_row_is_asked_for_at_one_position(at, place):
    objective = ClassifySequence(classes=3, at=at)
    found = [one.targets["classify_sequence"] for one in corrupted(objective, 2, 0, 1)]
    assert [[values.tolist() for values in targets] for targets in found] == [[[place], [label]] for label in (2, 0, 1)]
    assert {values.dtype for targets in found for values in targets} == {np.dtype(np.int64)}
    assert objective.head == HeadSpec("sequence", 3)


def test_a_label_that_is_no_class_is_refused():
    with pytest.raises(DataIntegrityError, match="has the label 2, not one of 0 to 1"):
        corrupted(ClassifySequence(), 0, 2)
    with pytest.raises(DataIntegrityError, match="has the label None"):
        corrupted(ClassifySequence(), 1, None)

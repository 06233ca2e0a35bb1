"""Labels of rows."""

import numpy as np
import pytest

from ptm_dist.data.batch import HeadSpec, Row
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import DataIntegrityError
from ptm_dist.objectives.classify_sequence import ClassifySequence
from ptm_dist.rng import Draws

VOCABULARY = Vocabulary(size=100, begin=0, pad=1, end=2, unknown=3, mask=99)


def corrupted(objective, **inputs):
    return objective.corrupt(Row({"tokens": np.arange(7)} | inputs), VOCABULARY, Draws(1, "x"))


@pytest.mark.parametrize(("at", "place"), [("first", 0), ("last", 6)])
def test_the_label_of_the_row_is_asked_for_at_one_position(at, place):
    objective = ClassifySequence(classes=3, at=at)
    found = corrupted(objective, label=np.array(2, dtype=np.uint8))
    assert [values.tolist() for values in found.targets["classify_sequence"]] == [[place], [2]]
    assert objective.head == HeadSpec("sequence", 3)


def test_a_label_that_is_no_class_is_refused():
    with pytest.raises(DataIntegrityError, match="has the label 2, not one of 0 to 1"):
        corrupted(ClassifySequence(), label=np.array(2))
    with pytest.raises(DataIntegrityError, match="has the label None"):
        corrupted(ClassifySequence())

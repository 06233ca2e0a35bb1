"""Labels of tokens."""

import numpy as np
import pytest
from pydantic import ValidationError

from ptm_dist.data.batch import HeadSpec, Row
from ptm_dist.data.example import NO_LABEL
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import DataIntegrityError
from ptm_dist.objectives.classify_tokens import ClassifyTokens
from ptm_dist.rng import RowDraws

VOCABULARY = Vocabulary(size=100, begin=0, pad=1, end=2, unknown=3, mask=99)


def corrupted(objective, *labels):
    rows = [Row({"tokens": np.arange(len(row)), "labels": np.array(row, dtype=np.uint8)}) for row in labels]
    return rows, objective.corrupt(rows, VOCABULARY, RowDraws(1, "x", [(0, number) for number in range(len(rows))]))


def test_the_label_of_each_token_that_has_one_is_asked_for_at_its_position():
    # [CLS] Paris is BIG [SEP], whether a word begins with a capital letter; then a row of nothing but special tokens.
    objective = ClassifyTokens()
    rows, found = corrupted(objective, [NO_LABEL, 1, 0, 1, NO_LABEL], [NO_LABEL, NO_LABEL])
    assert [one.inputs for one in found] == [row.inputs for row in rows]
    targets = [one.targets["classify_tokens"] for one in found]
    assert [[values.tolist() for values in some] for some in targets] == [[[1, 2, 3], [1, 0, 1]], [[], []]]
    assert {values.dtype for some in targets for values in some} == {np.dtype(np.int64)}


def test_a_label_that_is_no_class_is_refused():
    with pytest.raises(DataIntegrityError, match="a token has the label 2, not one of 0 to 1"):
        corrupted(ClassifyTokens(), [0, 1], [1, 2])
    assert len(corrupted(ClassifyTokens(classes=3), [0, 1], [1, 2])[1]) == 2


def test_rows_without_labels_are_refused():
    with pytest.raises(DataIntegrityError, match=r"rows have no labels\. Take a format that gives some"):
        ClassifyTokens().corrupt([Row({"tokens": np.arange(3)})], VOCABULARY, RowDraws(1, "x", [(0, 0)]))


def test_the_head_has_a_class_for_each_label_and_none_for_the_lack_of_one():
    assert ClassifyTokens(classes=7).head == HeadSpec("tokens", 7)
    assert ClassifyTokens().reads == {"labels"}
    with pytest.raises(ValidationError, match="less than 255"):
        ClassifyTokens(classes=NO_LABEL)
    assert not ClassifyTokens().predictable(VOCABULARY).any()

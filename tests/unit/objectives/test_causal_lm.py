"""Causal language modelling: the label at a position is the token after it."""

import numpy as np

from ptm_dist.data.batch import HeadSpec, Row
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.objectives.causal_lm import CausalLM
from ptm_dist.rng import RowDraws

VOCABULARY = Vocabulary(size=100, begin=0, pad=1, end=2, unknown=3, mask=99)


def corrupted(*rows):
    return CausalLM().corrupt(rows, VOCABULARY, RowDraws(1, "x", [(0, number) for number in range(len(rows))]))


def test_each_token_is_the_label_of_the_one_before():
    rows = [Row({"tokens": np.array(tokens, dtype=np.uint16)}) for tokens in ([0, 7, 8, 9, 2], [0, 5, 2])]
    found = corrupted(*rows)
    assert [one.inputs for one in found] == [row.inputs for row in rows]
    assert [[values.tolist() for values in one.targets["causal_lm"]] for one in found] == [[[0, 1, 2, 3], [7, 8, 9, 2]], [[0, 1], [5, 2]]]
    assert found[0].targets["causal_lm"].labels.dtype == np.int64
    assert corrupted() == []


def test_a_row_of_one_token_has_no_target():
    (found,) = corrupted(Row({"tokens": np.array([0])}))
    assert len(found.targets["causal_lm"].positions) == len(found.targets["causal_lm"].labels) == 0


def test_all_but_padding_can_be_predicted():
    assert np.flatnonzero(~CausalLM().predictable(VOCABULARY)).tolist() == [1]
    assert CausalLM().head == HeadSpec("causal_lm")

"""Causal language modelling: the label at a position is the token after it."""

import numpy as np

from ptm_dist.data.batch import HeadSpec, Row
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.objectives.causal_lm import CausalLM
from ptm_dist.rng import Draws

VOCABULARY = Vocabulary(size=100, begin=0, pad=1, end=2, unknown=3, mask=99)


def test_each_token_is_the_label_of_the_one_before():
    row = Row({"tokens": np.array([0, 7, 8, 9, 2], dtype=np.uint16)})
    found = CausalLM().corrupt(row, VOCABULARY, Draws(1, "x"))
    assert found.inputs == row.inputs
    assert found.targets["causal_lm"].positions.tolist() == [0, 1, 2, 3]
    assert found.targets["causal_lm"].labels.tolist() == [7, 8, 9, 2]


def test_a_row_of_one_token_has_no_target():
    assert len(CausalLM().corrupt(Row({"tokens": np.array([0])}), VOCABULARY, Draws(1, "x")).targets["causal_lm"].labels) == 0


def test_all_but_padding_can_be_predicted():
    assert np.flatnonzero(~CausalLM().predictable(VOCABULARY)).tolist() == [1]
    assert CausalLM().head == HeadSpec("causal_lm")

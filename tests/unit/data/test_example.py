"""Examples survive being packed into chunks, and a chunk whose arrays do not fit is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.data.example import pack, row, row_starts, token_dtype
from ptm_dist.errors import DataIntegrityError


def example(length, seed=0):
    values = np.arange(seed, seed + length)
    return {"tokens": values.astype("<u2"), "words": values.astype("<u1"), "label": np.array(seed, dtype="<u1")}


@given(st.lists(st.integers(0, 20), min_size=1, max_size=10))
def test_examples_come_back_as_they_were(lengths):
    examples = [example(length, number) for number, length in enumerate(lengths)]
    chunk = pack(examples)
    starts = row_starts(chunk)
    assert starts.tolist() == [0, *np.cumsum(lengths)]
    for number, expected in enumerate(examples):
        found = row(chunk, number, starts)
        assert found.keys() == expected.keys()
        for field, values in expected.items():
            assert np.array_equal(found[field], values)
            assert found[field].dtype == values.dtype


def test_one_value_is_a_column():
    chunk = pack([example(3, 7), example(2, 8)])
    assert chunk["label"].tolist() == [[7], [8]]
    assert chunk["tokens"].ndim == 1
    assert row(chunk, 1, row_starts(chunk))["label"].ndim == 0


@pytest.mark.parametrize("field", ["tokens", "label", "words"])
def test_arrays_that_do_not_fit_are_refused(field):
    chunk = pack([example(3), example(2)])
    chunk[field] = chunk[field][:-1]
    with pytest.raises(DataIntegrityError, match=f"array '{field}'"):
        row_starts(chunk)


def test_ids_take_two_bytes_while_they_fit():
    assert token_dtype(65_536) == np.dtype("<u2")
    assert token_dtype(65_537) == np.dtype("<u4")

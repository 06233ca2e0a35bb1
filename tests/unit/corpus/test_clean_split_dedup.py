import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ptm_dist.corpus.clean import CleanSettings, clean
from ptm_dist.corpus.dedup import first_of_each, text_key
from ptm_dist.corpus.split import SPLITS, SplitSettings, split_codes, split_key, split_of
from ptm_dist.data.document import Document

PLAIN = CleanSettings()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("plain", "plain"),
        ("nul\0 bell\a", "nul bell"),
        ("cafe\u0301", "caf\u00e9"),
        ("dos\r\nmac\rtwo\u2028three", "dos\nmac\ntwo\nthree"),
        ("\ufeffmark", "mark"),
        ("tab\tstays", "tab\tstays"),
    ],
)
def test_clean_normalises(text, kept):
    assert clean(Document("a", text), PLAIN) == Document("a", kept)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "empty"), (" \n\0", "empty"), ("half \ud800 of it", "surrogates"), ("ab\ufffdcd", "replacement_characters")],
)
def test_clean_names_the_reason(text, reason):
    assert clean(Document("a", text), PLAIN) == reason


def test_short_texts_are_dropped_only_if_asked():
    assert clean(Document("a", "abc"), CleanSettings(least_characters=4)) == "too_short"
    assert clean(Document("a", "abcd"), CleanSettings(least_characters=4)) == Document("a", "abcd")


@given(st.text())
def test_cleaning_is_idempotent(text):
    once = clean(Document("a", text), PLAIN)
    assert isinstance(once, str) or clean(once, PLAIN) == once


def test_case_and_space_do_not_tell_texts_apart():
    assert text_key("Hello  World\n") == text_key("hello world")
    assert text_key("hello world") != text_key("hello worlds")


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=40))
def test_the_first_of_each_stays(rows):
    keys = np.array(rows, dtype=np.uint64).reshape(-1, 2)
    assert first_of_each(keys).tolist() == [row not in rows[:place] for place, row in enumerate(rows)]


def test_splits_follow_from_source_and_id_alone():
    both = SplitSettings(validation=0.1, test=0.2)
    ids = [str(number) for number in range(5000)]
    names = [split_of("web", document, both) for document in ids]
    shares = {split: names.count(split) / len(ids) for split in SPLITS}
    assert shares == {
        "train": pytest.approx(0.7, abs=0.02),
        "validation": pytest.approx(0.1, abs=0.02),
        "test": pytest.approx(0.2, abs=0.02),
    }
    assert [split_of("web", document, both) for document in reversed(ids)] == names[::-1]
    assert [split_of("books", document, both) for document in ids] != names
    codes = split_codes(np.array([split_key("web", document) for document in ids], dtype=np.uint64), both)
    assert [SPLITS[code] for code in codes] == names


def test_a_larger_test_share_takes_no_validation_document():
    small, large = SplitSettings(validation=0.1), SplitSettings(validation=0.1, test=0.5)
    ids = [str(number) for number in range(500)]
    held_out = [document for document in ids if split_of("a", document, small) == "validation"]
    assert held_out == [document for document in ids if split_of("a", document, large) == "validation"]


@settings(max_examples=20)
@given(st.floats(0.5, 0.99))
def test_something_is_left_to_train_on(share):
    with pytest.raises(ValidationError, match="stay below 1"):
        SplitSettings(validation=share, test=0.5)

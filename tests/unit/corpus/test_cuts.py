"""What a format asks for of a document, and the marks of tokens from those of characters."""

import numpy as np
import pytest

from ptm_dist.corpus.cuts import pieces, token_marks
from ptm_dist.data.document import Cut, Document
from ptm_dist.data.marks import CAPITAL, ENTITY, PHRASE, WORD

TEXT = "It rained. However, we left.\nSo, they stayed."


def cut(kind, text=TEXT, groups=(), **meta):
    return [(piece.text, piece.label) for piece in pieces(Document("a", text, meta), Cut(kind, groups))]


def test_sentences_and_the_whole_text():
    assert cut("sentences") == [("It rained.", 0), ("However, we left.", 0), ("So, they stayed.", 0)]
    assert cut("text") == [(TEXT, 0)]


def test_a_title_comes_first():
    assert cut("titled", title=" A  wet day ")[:2] == [("A wet day", 1), ("It rained.", 0)]
    assert cut("titled")[0] == ("It rained.", 0)


def test_a_line_is_a_turn_of_who_is_told_or_of_two_who_take_turns():
    assert cut("turns", "Hi.\n\n you  there?\nYes.") == [("Hi.", 0), ("you there?", 1), ("Yes.", 0)]
    assert cut("turns", "Hi.\nyou there?\nYes.", speakers="0 0 1") == [("Hi.", 0), ("you there?", 0), ("Yes.", 1)]


def test_a_pair_has_its_label():
    assert cut("pair", "It rains.", pair="It is wet.", label="2") == [("It rains.", 2), ("It is wet.", 2)]
    assert cut("pair", "It rains.") == [("It rains.", 0)]


def test_a_connective_goes_and_leaves_its_group():
    groups = (("however", "but"), ("so", "so that", "因此"))
    assert cut("connectives", groups=groups) == [("It rained.", 0), ("we left.", 1), ("they stayed.", 2)]
    assert cut("connectives", "下雨了。因此，我们没去。", groups=groups) == [("下雨了。", 0), ("我们没去。", 2)]
    assert cut("connectives", "So that it may rain, sow. Sofas, too. However,", groups=groups) == [
        ("So that it may rain, sow.", 0),
        ("Sofas, too.", 0),
        ("However,", 0),
    ]


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        ([[0, 3], [3, 5], [6, 8], [9, 15]], [CAPITAL, CAPITAL | WORD | PHRASE | ENTITY, PHRASE | ENTITY, CAPITAL | PHRASE | ENTITY]),
        ([[0, 5], [6, 7], [6, 7], [7, 8]], [CAPITAL, PHRASE | ENTITY, WORD | PHRASE | ENTITY, WORD | PHRASE | ENTITY]),
        ([], []),
        ([[2, 5]], [CAPITAL]),
    ],
)
def test_tokens_have_the_marks_of_their_first_character(offsets, expected):
    # "Banks of Vienna", one entity.
    inside = PHRASE | ENTITY
    marks = np.array(
        [CAPITAL, *[CAPITAL | WORD | inside] * 4, inside, inside, WORD | inside, inside, CAPITAL | inside, *[15] * 5], np.uint8
    )
    assert token_marks(marks, np.array(offsets, dtype=np.int32).reshape(-1, 2)).tolist() == expected

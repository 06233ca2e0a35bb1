"""Words, phrases and entities of English."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers, pre_tokenizers

from ptm_dist.corpus.english import EnglishUnits
from ptm_dist.data.marks import ENTITY, PHRASE, WORD
from tests.unit.corpus.test_units import units_by


def units_of(text, bit, units=None):
    """Return the texts of the units at a level, without those of white space."""
    (marks,) = (units or EnglishUnits()).marks([text])
    return [text[start:end] for start, end in units_by(marks, bit) if text[start:end].strip()]


def long_ones(text, bit, units=None):
    """Return the units of several words."""
    words = units_of(text, WORD, units)
    return [unit for unit in units_of(text, bit, units) if unit not in words]


def test_words():
    assert units_of("Don't say: O’Neill's 3.14 high-speed 'quotes'!? a_b 中文", WORD) == [
        *("Don't", "say", ":", "O’Neill's", "3", ".", "14", "high", "-", "speed", "'", "quotes", "'", "!", "?", "a", "_", "b", "中", "文")
    ]


@given(st.text(alphabet='aZ9é 中文.,-_()?!"\t\n', max_size=40))
def test_words_are_those_that_bert_bounds(text):
    """BERT cuts apostrophes off, and takes other symbols for letters; else the rules are the same."""
    normalizer = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False)
    theirs = [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(normalizer.normalize_str(text))]
    assert units_of(text, WORD) == theirs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He saw the very old man.", []),
        ("The old man saw a high-speed train and his two big dogs.", ["The old man", "a high-speed train", "his two big dogs"]),
        ("This is an idea that the other people never liked.", ["an idea", "the other people"]),
        ("The few who saw the man walking quickly had a meeting.", ["the man", "a meeting"]),
        ("the long and winding road", ["the long"]),
        ("the first large public meeting house", ["the first large public"]),
        ("a high-", ["a high"]),
        ("a", []),
    ],
)
def test_noun_phrases(text, expected):
    assert long_ones(text, PHRASE) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yesterday Mark Carney left the Bank of England.", ["Mark Carney", "Bank of England"]),
        (
            "In London, J. K. Rowling met Charles de Gaulle's sister Ann-Marie Smith.",
            ["J. K. Rowling", "Charles de Gaulle's", "Ann-Marie Smith"],
        ),
        ("He works for Johnson & Johnson on Monday March 3 with Mr Smith.", ["Johnson & Johnson"]),
        ("I said: The United States of America. But President Obama slept.", ["United States of America"]),
        ("Paris is big. He went to Rome.", []),
        ("Five Things That Nobody Told You About Learning Rust", []),
        ("Bank of the", []),
        ("New\nYork and  San  Francisco", ["New\nYork"]),
        ("He met One Two Alpha Beta Gamma Delta Epsilon Zeta Eta Theta in this town over there again and again, said people.", []),
    ],
)
def test_names(text, expected):
    assert [unit for unit in long_ones(text, ENTITY) if unit not in units_of(text, PHRASE)] == expected


def test_dictionaries_have_the_first_word(tmp_path):
    path = tmp_path / "phrases.tsv"
    path.write_text("ice cream\nthe house\tphrase\nhouse of cards\nWhite House\tORG\nbig ice\tperson\nan ICE\n")
    units = EnglishUnits(dictionaries=(str(path),))
    text = "Ice Cream in the house of cards, a big ice cream at the White House, not the white house."
    assert long_ones(text, PHRASE, units) == ["Ice Cream", "the house", "big ice", "White House", "white house"]
    # "big ice" is a person there; the other phrases stay what they are where there is no entity.
    assert long_ones(text, ENTITY, units) == ["Ice Cream", "the house", "big ice", "White House", "white house"]


def test_an_entity_takes_words_out_of_a_phrase():
    text = "He read the United Nations report."
    assert units_of(text, PHRASE) == ["He", "read", "the United Nations report", "."]
    assert units_of(text, ENTITY) == ["He", "read", "the", "United Nations", "report", "."]

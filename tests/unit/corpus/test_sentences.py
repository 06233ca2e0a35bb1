import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.corpus.sentences import sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Smith met Mrs. Jones at 3.5 p.m. on Monday. They spoke.", ["Dr. Smith met Mrs. Jones at 3.5 p.m. on Monday.", "They spoke."]),
        ('"Stop!" he said. "Go." Then he left.', ['"Stop!" he said.', '"Go."', "Then he left."]),
        ("See Fig. 3 and J. R. R. Tolkien, e.g. The Hobbit.", ["See Fig. 3 and J. R. R. Tolkien, e.g. The Hobbit."]),
        ("It was in 1998. Then came 1999.", ["It was in 1998.", "Then came 1999."]),
        ("1. Open the door. Go in.", ["1. Open the door.", "Go in."]),
        ("A line that is\nwrapped. Another\none.\n\nA title\n\nText.", ["A line that is wrapped.", "Another one.", "A title", "Text."]),
        ("Things:\n- one\n- two", ["Things:", "- one", "- two"]),
        ("Title\n" + "long " * 30 + "\nNext", ["Title", ("long " * 30).strip(), "Next"]),
        ("", []),
        (" \n\n ", []),
    ],
)
def test_rules(text, expected):
    assert sentences(text) == expected


@given(st.text(alphabet=st.sampled_from("aB1.!?\"') \n-…\u00e9\u2028"), max_size=200))
def test_no_character_is_lost(text):
    found = sentences(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(sentence and sentence == sentence.strip() for sentence in found)

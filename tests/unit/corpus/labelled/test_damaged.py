"""Whatever a file holds, a reader yields items and reasons that can be written down, or says what is wrong with the file."""

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptm_dist.data.item import Bad
from ptm_dist.errors import PtmError
from tests.unit.corpus.labelled.reading import read

PARAGRAPH = {"context": "abc", "qas": [{"id": "1", "question": "q", "answers": [{"text": "b", "answer_start": 0}]}]}
FILES = {
    "table": ({"first": "a", "label": "c", "group": "b"}, b"a\tb\tc\nx\ty\t1\nz\tw\t-\n"),
    "quoted": ({"kind": "table", "separator": ",", "first": "a", "label": "c"}, b'a,b,c\n"x, ""1""",y,1\n"z\nz",w,-\n'),
    "json_lines": ({"first": "a", "label": "c", "group": "g", "id": "i"}, {"a": "x", "c": 1, "g": "q", "i": 3}),
    "squad": ({"offsets": "find"}, {"data": [{"paragraphs": [PARAGRAPH]}]}),
    "race": ({}, {"id": "h", "article": "A", "questions": ["q"], "options": [["a", "b"]], "answers": ["A"]}),
    "choices": ({"context": "c"}, {"c": "x", "choices": {"a": 1, "b": 0}, "label": 1}),
    "conll": ({}, b"a O\nb B-X\n\nc I-X\n"),
    "entity_spans": ({"words": "characters"}, {"text": "abc", "label": {"X": {"a": [[0, 1]]}, "Y": [[2, 3]]}}),
}
ODD = [None, True, -1, 3, 1.5, "", " ", "\ud800", "x", [], {}, [1], ["x"], [[]], {"x": 1}]


def damaged_value(draw, value):
    """Return a value with some of its parts replaced or left out."""
    if draw(st.integers(0, 7)) == 0:
        return draw(st.sampled_from(ODD))
    if isinstance(value, dict):
        return {key: damaged_value(draw, part) for key, part in value.items() if draw(st.integers(0, 15))}
    return [damaged_value(draw, part) for part in value] if isinstance(value, list) else value


def damaged_bytes(draw, data):
    """Return bytes with some replaced by others."""
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(data)))
        data = (
            data[:place]
            + draw(st.sampled_from([b"", b"\n", b"\r", b"\t", b'"', b",", b" ", b"[", b"}", b"\xff", b"\x00"]))
            + data[place + 1 :]
        )
    return data


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_nothing_else_comes_out(name, data):
    given, whole = FILES[name]
    found = whole if isinstance(whole, bytes) else json.dumps(damaged_value(data.draw, whole)).encode()
    with suppress(PtmError):
        for item in read({"kind": name} | given, damaged_bytes(data.draw, found)):
            assert (item.where and item.why) if isinstance(item, Bad) else item.id
            texts = [value for field in item.__slots__ if isinstance(value := getattr(item, field), str)]
            assert all(text.encode() is not None for text in [*texts, *(getattr(item, "tags", None) or ())])

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.data.item import Bad, TaggedItem
from tests.unit.corpus.labelled.reading import only_items, read

CLUENER = {"kind": "entity_spans", "words": "characters", "ends": "inclusive"}
LIST = {"kind": "entity_spans", "words": "spaces", "entities": "entities"}


def lines(*records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def tags_of(settings, *records):
    return [item.why if isinstance(item, Bad) else item.tags for item in read(settings, lines(*records))]


def test_cluener_has_names_by_type_with_the_last_character():
    record = {"text": "王五在北京 工作", "label": {"name": {"王五": [[0, 1]]}, "address": {"北京": [[3, 4]]}}}
    tags = ("B-name", "I-name", "O", "B-address", "I-address", "O", "O", "O")
    assert only_items(CLUENER, lines(record)) == [TaggedItem("file:1", tuple(record["text"]), tags, "")]


def test_test_data_have_no_entities():
    assert only_items(CLUENER | {"id": "id"}, lines({"id": 4, "text": "北京"})) == [TaggedItem("4", ("北", "京"), None, "")]


def test_the_same_name_twice_and_an_entity_told_twice():
    record = {"text": "京、京", "label": {"address": {"京": [[0, 0], [2, 2], [0, 0]]}}}
    assert tags_of(CLUENER, record) == [("B-address", "O", "B-address")]


def test_tools_for_annotation_have_lists():
    text = "Ann Lee lives in Bonn"
    found = ("B-PER", "I-PER", "O", "O", "B-LOC")
    objects = {"text": text, "entities": [{"start": 17, "end": 21, "type": "LOC"}, {"start": 0, "end": 7, "type": "PER"}]}
    triples = {"text": text, "entities": [[0, 7, "PER"], [17, 21, "LOC"]]}
    by_type = {"text": text, "entities": {"PER": [[0, 7]], "LOC": [[17, 21]]}}
    assert tags_of(LIST, objects, triples, by_type, {"text": text, "entities": []}) == [found] * 3 + [("O",) * 5]
    named = {"text": text, "entities": [{"from": 0, "to": 6, "label": "PER"}]}
    assert tags_of(LIST | {"start": "from", "end": "to", "type": "label", "ends": "inclusive"}, named) == [
        ("B-PER", "I-PER", "O", "O", "O")
    ]


def test_lists_as_text_are_found_in_their_order():
    settings = LIST | {"entities": {"field": "told", "pattern": r"(?:\[|, )(.+?) - (PER|ORG)"}}
    record = {"text": "Banks , Bank and Co , Inc met Bank", "told": "[Bank - ORG, Co , Inc - ORG, Bank - PER]"}
    assert tags_of(settings, record, {"text": "no one", "told": "nothing"}) == [
        ("O", "O", "B-ORG", "O", "B-ORG", "I-ORG", "I-ORG", "O", "B-PER"),
        ("O", "O"),
    ]
    assert tags_of(settings, record | {"told": "[Bank - ORG, Bank - ORG, Bank - PER]"}) == ["entity_not_in_text"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"label": {"a": {"王五": [[0, 1]]}, "b": {"五在": [[1, 2]]}}}, "overlapping_entities"),
        ({"label": {"a": {"王五": [[0, 1]]}, "b": {"王五": [[0, 1]]}}}, "overlapping_entities"),
        ({"label": {"a": {"王五": [[0, 1]], "五": [[1, 1]]}}}, "overlapping_entities"),
        ({"label": {"a": {"王六": [[0, 1]]}}}, "entity_not_in_text"),
        ({"label": {"a": [[1, 3]]}}, "entity_not_in_text"),
        ({"label": {"a": [[-1, 0]]}}, "entity_not_in_text"),
        ({"label": {"a": [[2, 1]]}}, "entity_not_in_text"),
        ({"label": {"a": [[1]]}}, "missing_field"),
        ({"label": {"a": 3}}, "missing_field"),
        ({"label": {"": [[0, 1]]}}, "missing_field"),
        ({"label": [[0, 1, 5]]}, "missing_field"),
        ({"label": [{"start": 0}]}, "missing_field"),
        ({"label": "a"}, "missing_field"),
        ({"text": " "}, "empty_text"),
        ({"text": None}, "missing_field"),
    ],
)
def test_bad_records_have_a_reason(change, reason):
    assert read(CLUENER, lines({"text": "王五在", "label": {}} | change)) == [Bad("file:1", reason)]


@pytest.mark.parametrize("span", [[0, 3, "X"], [1, 4, "X"], [4, 5, "X"]])
def test_entities_must_not_cut_words(span):
    assert tags_of(LIST, {"text": "Anne  came", "entities": [span]}) == ["cut_word"]
    assert len(tags_of(LIST | {"words": "characters"}, {"text": "Anne  came", "entities": [span]})[0]) == 10


def test_bytes_that_are_not_utf8_and_a_very_long_text():
    assert read(CLUENER, b'{"text": "\xff"}\n') == [Bad("file:1", "bad_encoding")]
    text = "word " * 100_000
    (item,) = only_items(LIST, lines({"text": text, "entities": [[0, 4, "X"], [499_995, 499_999, "X"]]}))
    assert (item.tags[0], item.tags[-1], len(item.words)) == ("B-X", "B-X", 100_000)


@given(st.lists(st.tuples(st.text("ab ", min_size=1, max_size=4), st.sampled_from(["", "X", "Y"])), min_size=1, max_size=8))
def test_characters_carry_the_type_of_the_span_that_they_are_in(pieces):
    text = "".join(piece for piece, _ in pieces) + "."
    spans, expected = [], ["O"] * len(text)
    place = 0
    for piece, kind in pieces:
        if kind:
            spans.append([place, place + len(piece), kind])
            expected[place : place + len(piece)] = [f"{'I' if number else 'B'}-{kind}" for number in range(len(piece))]
        place += len(piece)
    settings = LIST | {"words": "characters"}
    assert tags_of(settings, {"text": text, "entities": spans[::-1]}) == [tuple(expected)]

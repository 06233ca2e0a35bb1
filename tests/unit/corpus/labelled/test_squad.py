import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.corpus.labelled.squad import _nearest
from ptm_dist.data.item import NOT_THERE, Answer, Bad, QuestionItem
from ptm_dist.errors import DataIntegrityError
from tests.unit.corpus.labelled.reading import only_items, read

SQUAD = {"kind": "squad"}
FIND = SQUAD | {"offsets": "find"}
CONTEXT = "Ann met Bob in Bonn. Bob left."


def document(*questions, context=CONTEXT, **article):
    return json.dumps(
        {"version": "1.1", "data": [article | {"paragraphs": [{"context": context, "qas": list(questions)}]}]}, ensure_ascii=False
    )


def question(*answers, name="q1", **more):
    return {"id": name, "question": "Who?", "answers": [{"text": text, "answer_start": start} for text, start in answers]} | more


def test_squad_1():
    found = only_items(SQUAD, document(question(("Bob", 8), ("Ann", 0)), title="People"))
    assert found == [QuestionItem("q1", "Who?", CONTEXT, (Answer("Bob", 8), Answer("Ann", 0)))]
    assert CONTEXT[found[0].answers[0].start : found[0].answers[0].end] == "Bob"


def test_squad_2_has_questions_without_an_answer():
    known = question(is_impossible=True, plausible_answers=[{"text": "Ann", "answer_start": 0}])
    unknown = question(name="q2")
    del unknown["answers"]
    found = only_items(SQUAD, document(known, unknown, question(("Ann", 0), name="q3", is_impossible=False)))
    assert [(item.impossible, item.labelled, len(item.answers)) for item in found] == [(True, True, 0), (False, False, 0), (False, True, 1)]


def test_drcd_and_cmrc_have_ids_at_paragraphs():
    paragraph = {"id": "DEV_0", "context": "他在北京。", "qas": [question(("北京", 2), name="DEV_0_QUERY_0")]}
    data = json.dumps({"version": "v1.0", "data": [{"title": "t", "id": "DEV_0", "paragraphs": [paragraph]}]})
    assert only_items(SQUAD, data) == [QuestionItem("DEV_0_QUERY_0", "Who?", "他在北京。", (Answer("北京", 2),))]


def test_cmrc_in_its_first_layout_has_no_offsets():
    questions = [{"query_id": "TRIAL_1_QUERY_0", "query_text": "在哪里？", "answers": ["北京"]}]
    data = json.dumps([{"context_id": "TRIAL_1", "context_text": "他在北京，爱北京。", "qas": questions, "title": "t"}])
    assert read(SQUAD, data) == [Bad("TRIAL_1_QUERY_0", "answer_not_in_context")]
    assert only_items(FIND, data) == [QuestionItem("TRIAL_1_QUERY_0", "在哪里？", "他在北京，爱北京。", (Answer("北京", 2),))]


class TestOffsets:
    @pytest.mark.parametrize(("start", "found"), [(8, 8), (9, 8), (12, 8), (15, 21), (21, 21), (99, 21), (-1, 8)])
    def test_the_nearest_place_is_taken(self, start, found):
        (item,) = only_items(FIND, document(question(("Bob", start))))
        assert item.answers == (Answer("Bob", found),)
        assert (read(SQUAD, document(question(("Bob", start)))) == [item]) == (start == found)

    def test_what_is_nowhere_stands_last_and_only_that_is_bad(self):
        given = question(("Cid", -1), ("Bob", 9), ("Ann", 0))
        (item,) = only_items(FIND, document(given))
        assert item.answers == (Answer("Bob", 8), Answer("Ann", 0), Answer("Cid", NOT_THERE))
        assert read(SQUAD, document(given)) == [Bad("q1", "answer_not_in_context")]
        assert read(FIND, document(question(("Cid", 3)))) == [Bad("q1", "answer_not_in_context")]

    @given(st.text("ab", max_size=30), st.text("ab", min_size=1, max_size=3), st.integers(0, 35))
    def test_nearest_by_trying_all_places(self, context, text, start):
        places = [place for place in range(len(context)) if context[place:].startswith(text)]
        assert _nearest(context, text, start) == min(places, key=lambda place: (abs(place - start), place), default=NOT_THERE)


class TestBad:
    @pytest.mark.parametrize(
        ("context", "asked", "reason"),
        [
            (" ", question(("Ann", 0)), "empty_text"),
            (CONTEXT, question(("Ann", 0), question=""), "empty_text"),
            (CONTEXT, question(("", 0)), "empty_text"),
            (CONTEXT, question(("Ann", 0), question=None), "missing_field"),
            (CONTEXT, question((None, 0)), "missing_field"),
            (None, question(("Ann", 0)), "missing_field"),
            (CONTEXT, question(("Ann", None)), "answer_not_in_context"),
        ],
    )
    def test_questions_have_a_reason(self, context, asked, reason):
        assert read(SQUAD, document(asked, question(("Ann", 0), name="next"), context=context))[0] == Bad("q1", reason)

    def test_without_an_id_it_is_the_place(self):
        asked = question(("Ann", 0), name=None)
        assert only_items(SQUAD, document(asked, asked))[1].id == "file#1-2"

    def test_bytes_that_are_not_utf8_spoil_one_question(self):
        data = document(question(("Ann", 0), question="W?h"), question(("Ann", 0), name="q2")).encode().replace(b"W?h", b"W\xffh")
        assert read(SQUAD, data)[0] == Bad("q1", "bad_encoding")
        assert isinstance(read(SQUAD, data)[1], QuestionItem)
        assert read(SQUAD, data.replace(b"q2", b"q\xff"))[1].id == "file#1-2"

    @pytest.mark.parametrize("data", ["", "{", '{"data": 3}', "{}", "3"])
    def test_other_files_are_damaged(self, data):
        with pytest.raises(DataIntegrityError, match=r"^file: (not JSON|there are no questions in it)"):
            read(SQUAD, data)

    def test_odd_shapes_inside_are_no_crash(self):
        data = json.dumps({"data": [3, {"paragraphs": [3, {"context": "a", "qas": [3]}]}]})
        assert [(item.where, item.why) for item in read(SQUAD, data)] == [
            ("file#1", "missing_field"),
            ("file#2", "missing_field"),
            ("file#3-1", "missing_field"),
        ]
        columns = question() | {"answers": {"text": ["Ann"], "answer_start": [0]}}
        assert read(SQUAD, document(columns)) == [Bad("q1", "missing_field")]

    def test_a_mark_at_the_beginning_and_a_very_long_context(self):
        context = "word " * 100_000 + "end"
        (item,) = only_items(SQUAD, b"\xef\xbb\xbf" + document(question(("end", 500_000)), context=context).encode())
        assert item.answers[0].start == 500_000

import json

import pytest

from ptm_dist.corpus.labelled.choices import NONE_OF_THEM, number_of
from ptm_dist.data.item import Bad, ChoiceItem
from ptm_dist.errors import DataIntegrityError
from tests.unit.corpus.labelled.reading import only_items, read

RACE = {"kind": "race"}
ARTICLE = {
    "id": "high7.txt",
    "article": "Ann bought a red car.",
    "questions": ["What did Ann buy?", "The car is _ ."],
    "options": [["A car", "A bus", "A cat", "A hat"], ["blue", "red", "old", "new"]],
    "answers": ["A", "B"],
}
PLAIN = {"kind": "choices", "context": "context", "question": "question"}


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


class TestRace:
    def test_a_file_is_an_article(self):
        assert only_items(RACE, json.dumps(ARTICLE), "train/high/7.txt") == [
            ChoiceItem("high7.txt-0", ARTICLE["article"], "What did Ann buy?", ("A car", "A bus", "A cat", "A hat"), 0),
            ChoiceItem("high7.txt-1", ARTICLE["article"], "The car is _ .", ("blue", "red", "old", "new"), 1),
        ]

    def test_files_may_be_indented_or_have_several_articles(self):
        assert len(only_items(RACE, "\ufeff" + json.dumps(ARTICLE, indent=2))) == 2
        assert [item.id for item in only_items(RACE, lines(ARTICLE, ARTICLE | {"id": None}))] == [
            "high7.txt-0",
            "high7.txt-1",
            "file:2-0",
            "file:2-1",
        ]

    def test_test_data_may_have_no_answers(self):
        assert [item.label for item in only_items(RACE, json.dumps(ARTICLE | {"answers": []}))] == [None, None]

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            ({"answers": ["A", "E"]}, [0, Bad("high7.txt-1", "unknown_label")]),
            ({"questions": [" ", "What?"]}, [Bad("high7.txt-0", "empty_text"), 1]),
            ({"options": [["a", ""], ["c", "d"]]}, [Bad("high7.txt-0", "empty_text"), 1]),
            ({"options": [[], ["c", "d"]]}, [Bad("high7.txt-0", "missing_field"), 1]),
            ({"options": [["a", "b"]]}, [Bad("high7.txt", "missing_field")]),
            ({"questions": None}, [Bad("high7.txt", "missing_field")]),
            ({"article": None}, [Bad("high7.txt-0", "missing_field"), Bad("high7.txt-1", "missing_field")]),
        ],
    )
    def test_bad_questions(self, change, found):
        assert [item if isinstance(item, Bad) else item.label for item in read(RACE, json.dumps(ARTICLE | change))] == found

    def test_what_is_not_json(self):
        assert read(RACE, "once upon a time") == [Bad("file:1", "not_json")]

    def test_bytes_that_are_not_utf8(self):
        data = json.dumps(ARTICLE).encode().replace(b"A hat", b"A \xffhat")
        assert [item if isinstance(item, Bad) else item.label for item in read(RACE, data)] == [Bad("high7.txt-0", "bad_encoding"), 1]


class TestRecords:
    def test_a_list_of_choices(self):
        data = lines(
            {"context": "C", "question": "Q", "choices": ["x", "y"], "label": 1, "n": 5},
            {"context": "C", "question": "Q", "choices": ["x", "y"]},
        )
        first = ChoiceItem("5", "C", "Q", ("x", "y"), 1)
        assert only_items(PLAIN | {"id": "n"}, data) == [first, ChoiceItem("file:2", "C", "Q", ("x", "y"))]

    def test_copa_has_a_field_for_each(self):
        settings = {"kind": "choices", "context": "premise", "question": "question", "choices": ["choice1", "choice2"]}
        data = lines({"premise": "It rained.", "choice1": "I ran.", "choice2": "I ate.", "question": "effect", "label": 0})
        assert only_items(settings, data) == [ChoiceItem("file:1", "It rained.", "effect", ("I ran.", "I ate."), 0)]

    def test_commonsense_questions_have_objects(self):
        settings = {"kind": "choices", "question": "question.stem", "choices": "question.choices.*.text", "label": "answerKey"}
        asked = {"stem": "Where?", "choices": [{"label": "A", "text": "here"}, {"label": "B", "text": "there"}]}
        assert only_items(settings, lines({"question": asked, "answerKey": "B"})) == [
            ChoiceItem("file:1", "", "Where?", ("here", "there"), 1)
        ]

    def test_scores_as_in_big_bench(self):
        settings = {"kind": "choices", "at": "examples", "context": "input", "choices": "target_scores"}
        data = json.dumps({"examples": [{"input": "I", "target_scores": {"x": 0, "y": 1, "z": 0}}]})
        assert only_items(settings, data) == [ChoiceItem("file#1", "I", "", ("x", "y", "z"), 1)]

    @pytest.mark.parametrize("name", ["swag.csv", "swag.csv.gz", "swag.csv.zst#2"])
    def test_swag_is_a_table(self, name):
        settings = {"kind": "choices", "context": "sent1", "question": "sent2", "choices": ["ending0", "ending1"]}
        data = ',video-id,sent1,sent2,ending0,ending1,label\n0,v,"A man, old,",He,walks.,flies.,0\n'
        assert only_items(settings, data, name) == [ChoiceItem(f"{name}:2", "A man, old,", "He", ("walks.", "flies."), 0)]

    def test_story_cloze_counts_from_one(self):
        settings = {"kind": "choices", "context": "Sentence1", "choices": ["Quiz1", "Quiz2"], "label": "Right", "count_from": 1}
        data = "Sentence1\tQuiz1\tQuiz2\tRight\nOne.\tEnd.\tStop.\t2\nOne.\tEnd.\tStop.\t3\n"
        assert read(settings, data, "x.tsv") == [ChoiceItem("x.tsv:2", "One.", "", ("End.", "Stop."), 1), Bad("x.tsv:3", "unknown_label")]

    def test_choices_that_stand_in_a_text(self):
        settings = {"kind": "choices", "label": {"field": "answer", "pattern": "is ([A-C])"}}
        settings |= {"context": {"field": "prompt", "pattern": "^(.*)\n"}, "choices": {"field": "prompt", "pattern": r"[A-C]\) (\w+)"}}
        assert only_items(settings, lines({"prompt": "Story.\nA) one B) two C) six", "answer": "It is C"})) == [
            ChoiceItem("file:1", "Story.", "", ("one", "two", "six"), 2)
        ]

    def test_bad_records(self):
        good = {"context": "C", "question": "Q", "choices": ["x", "y"], "label": 1}
        changes = [
            {"context": ""},
            {"question": None},
            {"choices": []},
            {"choices": "xy"},
            {"choices": ["x", 3]},
            {"choices": {}},
            {"choices": {"x": 1, "y": None}},
            {"label": 2},
        ]
        reasons = ["empty_text", *["missing_field"] * 6, "unknown_label"]
        found = read(PLAIN, lines(*[good | change for change in changes]) + "{\n")
        assert found == [Bad(f"file:{number}", why) for number, why in enumerate([*reasons, "not_json"], 1)]

    def test_a_list_that_is_not_json_is_damaged(self):
        with pytest.raises(DataIntegrityError):
            read(PLAIN | {"at": "x"}, "{")


@pytest.mark.parametrize(
    ("label", "count_from", "found"),
    [
        (0, 0, 0),
        ("1", 0, 1),
        (1, 1, 0),
        (0, 1, NONE_OF_THEM),
        (-1, 0, NONE_OF_THEM),
        ("C", 0, 2),
        ("C", 1, 2),
        (" B ", 0, 1),
        ("D", 0, NONE_OF_THEM),
        ("c", 0, NONE_OF_THEM),
        ("six", 0, 2),
        ("ten", 0, NONE_OF_THEM),
        ("twice", 0, NONE_OF_THEM),
        (True, 0, NONE_OF_THEM),
        (None, 0, NONE_OF_THEM),
    ],
)
def test_what_a_label_means(label, count_from, found):
    choices = ("twice", "twice", "one") if label == "twice" else ("one", "two", "six")
    assert number_of(label, choices, count_from) == found

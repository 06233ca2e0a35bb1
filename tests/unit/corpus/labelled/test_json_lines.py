import json

import pytest
from pydantic import ValidationError

from ptm_dist.corpus.labelled.records import Found, value_at
from ptm_dist.data.item import Bad, TextItem
from ptm_dist.errors import ConfigError, DataIntegrityError
from tests.unit.corpus.labelled.reading import only_items, read

SNLI = {"kind": "json_lines", "first": "sentence1", "second": "sentence2", "label": "gold_label", "id": "pairID"}
TEXT = {"kind": "json_lines", "first": "text", "label": "label"}


def lines(*records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def snli(label, name):
    return {"annotator_labels": [label], "gold_label": label, "pairID": name, "sentence1": "A man eats.", "sentence2": "A man sleeps."}


class TestPublishedLayouts:
    def test_snli_and_mnli_leave_out_what_people_did_not_agree_on(self):
        data = lines(snli("contradiction", "3.jpg#1r1c"), snli("-", "3.jpg#1r1n"))
        first = TextItem("3.jpg#1r1c", "A man eats.", "A man sleeps.", "contradiction")
        assert read(SNLI, data) == [first, Bad("file:2", "no_label")]
        assert only_items(SNLI | {"without_label": "keep"}, data)[1] == TextItem("3.jpg#1r1n", "A man eats.", "A man sleeps.")

    def test_ocnli_has_numbers_for_ids(self):
        settings = SNLI | {"label": "label", "id": "id"}
        data = lines(
            {"level": "easy", "sentence1": "我走了。", "sentence2": "我还在。", "label": "contradiction", "prem_id": "p1", "id": 12}
        )
        assert only_items(settings, data) == [TextItem("12", "我走了。", "我还在。", "contradiction")]

    def test_clue_has_numbers_for_classes(self):
        settings = {"kind": "json_lines", "first": "sentence", "label": "label", "labels": {"100": "story"}}
        data = lines(
            {"label": 100, "label_desc": "news_story", "sentence": "从前"},
            {"label": 7, "sentence": "后来"},
            {"label": True, "sentence": "是"},
        )
        assert [item.label for item in only_items(settings, data)] == ["story", "7", "true"]

    def test_articles_have_two_texts(self):
        settings = {"kind": "json_lines", "first": "title", "second": "text", "label": "label"}
        assert only_items(settings, lines({"title": "T", "text": "long", "label": "sport"})) == [TextItem("file:1", "T", "long", "sport")]

    def test_values(self):
        settings = TEXT | {"value": True}
        found = read(settings, lines({"text": "a", "label": 0.3}, {"text": "b", "label": "-1"}, {"text": "c", "label": "x"}, {"text": "d"}))
        assert [item.label for item in found[:2]] == [0.3, -1.0]
        assert found[2:] == [Bad("file:3", "not_a_number"), Bad("file:4", "no_label")]


class TestPlaces:
    def test_a_list_is_recognised(self):
        records = [{"text": "a", "label": 1}, {"text": "", "label": 1}]
        expected = [TextItem("file#1", "a", label="1"), Bad("file#2", "empty_text")]
        assert read(TEXT, " \n" + json.dumps(records, indent=1)) == expected
        assert read(TEXT | {"at": "data.train"}, json.dumps({"data": {"train": records}})) == expected

    def test_columns_are_records(self):
        data = json.dumps({"train": {"text": ["a", "b"], "label": [0.5, 1]}, "valid": {"text": ["c"], "label": [0]}})
        assert [item.first for item in only_items(TEXT | {"at": "train"}, data)] == ["a", "b"]
        assert [item.label for item in only_items(TEXT | {"at": "valid", "value": True}, data)] == [0.0]

    @pytest.mark.parametrize("value", [{"a": {"text": "x"}}, {"a": {"text": ["x"], "label": []}}, {"b": 1}, 3, {"a": {}}])
    def test_what_is_no_list_is_refused(self, value):
        with pytest.raises(ConfigError, match=r"reader\.at: 'a' of file is neither a list of records nor columns of equal length"):
            read(TEXT | {"at": "a"}, json.dumps(value))

    def test_a_broken_list_is_damaged(self):
        with pytest.raises(DataIntegrityError, match="file: not JSON"):
            read(TEXT, '[{"text": "a"')

    def test_dotted_names_and_stars(self):
        assert value_at({"a": {"b": 1}, "a.b": "whole"}, "a.b") == "whole"
        nested = {"q": {"x": [{"c": 1}, {"c": 2}, 3]}}
        assert value_at(nested, "q.x.1.c") == 2
        assert value_at(nested, "q.x.*.c") == [1, 2, None]
        assert value_at(nested, "q.x.*") == nested["q"]["x"]
        assert [value_at(nested, path) for path in ("q.x.9", "q.y.z", "q.x.c", "")] == [None] * 4
        assert value_at([["a", "b"]], "0.1") == "b"

    def test_a_part_of_a_text(self):
        settings = TEXT | {"first": {"field": "text", "pattern": "Q: (.*)"}}
        assert read(settings, lines({"text": "x Q: why", "label": 1}, {"text": "y", "label": 1})) == [
            TextItem("file:1", "why", label="1"),
            Bad("file:2", "missing_field"),
        ]

    @pytest.mark.parametrize(("pattern", "message"), [("((", "no regular expression"), ("abc", "needs a group in brackets")])
    def test_a_pattern_must_find_something(self, pattern, message):
        with pytest.raises(ValidationError, match=message):
            Found(field="text", pattern=pattern)


class TestBadRecords:
    def test_each_has_its_line_and_reason(self):
        data = b"\xef\xbb\xbf" + b"\n".join(
            [
                b'{"text": "good", "label": 1}\r\n',
                b'{"text": "\xff", "label": 1}',
                b"nonsense",
                b'{"label": 1}',
                b'{"text": 3, "label": 1}',
                b'{"text": " ", "label": 1}',
                b'{"text": "x", "label": null}',
                b'"text"',
                b'{"text": "\\ud800", "label": 1}',
                b'{"text": "x", "label": "\\ud800"}',
                b"[" * 100_000,
            ]
        )
        assert read(TEXT, data) == [
            TextItem("file:1", "good", label="1"),
            Bad("file:3", "bad_encoding"),
            Bad("file:4", "not_json"),
            Bad("file:5", "missing_field"),
            Bad("file:6", "missing_field"),
            Bad("file:7", "empty_text"),
            Bad("file:8", "no_label"),
            Bad("file:9", "missing_field"),
            Bad("file:10", "bad_encoding"),
            Bad("file:11", "bad_encoding"),
            Bad("file:12", "not_json"),
        ]

    def test_only_some_records(self):
        data = lines({"text": "a", "label": 1, "set": "x"}, {"text": "b", "label": 1, "set": "y"}, {"text": "c", "label": 1})
        assert [item.first for item in only_items(TEXT | {"only": {"set": "x"}}, data)] == ["a"]

    def test_a_very_long_text_passes(self):
        (item,) = only_items(TEXT, lines({"text": "word " * 100_000, "label": 1}))
        assert len(item.first.split()) == 100_000

    def test_line_separators_of_unicode_end_no_line(self):
        assert only_items(TEXT, lines({"text": "a\u2028b\x85c", "label": 1}))[0].first == "a\u2028b\x85c"

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ptm_dist.corpus.labelled.table import Table
from ptm_dist.data.item import Bad, TextItem
from ptm_dist.errors import ConfigError, DataIntegrityError
from tests.unit.corpus.labelled.reading import only_items, read

COLA = {"kind": "table", "header": False, "first": 3, "label": 1}
SST = {"kind": "table", "first": "sentence", "label": "label", "labels": {"0": "negative", "1": "positive"}}
XNLI = {"kind": "table", "first": "sentence1", "second": "sentence2", "label": "gold_label", "id": "pairID", "only": {"language": "zh"}}
CSV = {"kind": "table", "separator": ",", "first": "text", "label": "label"}


class TestPublishedLayouts:
    def test_cola_has_no_header(self):
        found = only_items(COLA, "gj04\t1\t\tShe left early.\nbc01\t0\t*\tLeft she early the.\n", "train.tsv")
        assert found == [TextItem("train.tsv:1", "She left early.", label="1"), TextItem("train.tsv:2", "Left she early the.", label="0")]

    def test_sst_has_names_for_classes(self):
        found = only_items(SST, 'sentence\tlabel\na "fine film \t1\ndull\t0\n')
        assert found == [TextItem("file:2", 'a "fine film ', label="positive"), TextItem("file:3", "dull", label="negative")]

    def test_mrpc_begins_with_a_mark_and_has_quotes_that_mean_nothing(self):
        settings = {"kind": "table", "first": "#1 String", "second": "#2 String", "label": "Quality"}
        data = b'\xef\xbb\xbfQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t7\t8\t"He left , " she said .\tShe said he left .\r\n'
        assert only_items(settings, data) == [TextItem("file:2", '"He left , " she said .', "She said he left .", "1")]

    def test_sts_has_values(self):
        settings = {"kind": "table", "first": "sentence1", "second": "sentence2", "label": "score", "id": "index", "value": True}
        columns = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        rows = "0\tnews\tf\t2012\t1\tn\tn\tA dog runs.\tA dog is running.\t4.750\n1\tnews\tf\t2012\t2\tn\tn\tA\tB\tnone\n"
        rows += "2\tnews\tf\t2012\t2\tn\tn\tA\tB\tnan\n"
        assert read(settings, columns + rows) == [
            TextItem("0", "A dog runs.", "A dog is running.", 4.75),
            Bad("file:3", "not_a_number"),
            Bad("file:4", "not_a_number"),
        ]

    def test_qqp_has_lines_that_break_off(self):
        settings = {"kind": "table", "first": "question1", "second": "question2", "label": "is_duplicate", "id": "id"}
        data = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n5\t1\t2\tWhy?\tHow come?\t1\n6\t3\t4\tWhere\n7\t5\t6\tA\tB\tC\t0\n"
        assert read(settings, data) == [
            TextItem("5", "Why?", "How come?", "1"),
            Bad("file:3", "missing_column"),
            Bad("file:4", "missing_column"),
        ]

    @pytest.mark.parametrize(
        ("header", "row", "first", "second", "label"),
        [
            ("index question sentence label", "3 Who Ann entailment", "question", "sentence", "label"),
            ("index sentence1 sentence2 label", "3 Who Ann entailment", "sentence1", "sentence2", "label"),
            (
                "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
                "sentence1 sentence2 label1 gold_label",
                "3 1 1n fiction ( ( (ROOT (ROOT Who Ann neutral entailment",
                "sentence1",
                "sentence2",
                "gold_label",
            ),
        ],
        ids=["qnli", "rte and wnli", "mnli"],
    )
    def test_qnli_rte_wnli_and_mnli_are_named_columns(self, header, row, first, second, label):
        settings = {"kind": "table", "first": first, "second": second, "label": label, "id": "index"}
        data = "\t".join(header.split()) + "\n" + "\t".join(row.split()) + "\n"
        assert only_items(settings, data) == [TextItem("3", "Who", "Ann", "entailment")]

    def test_test_data_without_labels(self):
        data = "index\tsentence\n0\tnobody knows\n"
        with pytest.raises(ConfigError, match=r"file has no column 'label'; its first line has 'index', 'sentence'\."):
            read(SST, data)
        assert only_items(SST | {"without_label": "keep"}, data) == [TextItem("file:2", "nobody knows")]

    def test_xnli_is_filtered_by_language(self):
        data = "language\tgold_label\tsentence1\tsentence2\tpairID\nen\tneutral\tA\tB\t1\nzh\tentailment\t他来了。\t有人来了。\t1\n"
        assert only_items(XNLI, data) == [TextItem("1", "他来了。", "有人来了。", "entailment")]
        assert len(only_items(XNLI | {"only": {"language": ["zh", "en"]}}, data)) == 2

    def test_lcqmc_and_chnsenticorp(self):
        pairs = {"kind": "table", "first": "text_a", "second": "text_b", "label": "label"}
        assert only_items(pairs, "text_a\ttext_b\tlabel\n怎么去\t如何去\t1\n") == [TextItem("file:2", "怎么去", "如何去", "1")]
        single = {"kind": "table", "first": "text_a", "label": "label"}
        assert only_items(single, 'label\ttext_a\n1\t"好"的房间\n') == [TextItem("file:2", '"好"的房间', label="1")]

    def test_thucnews_has_the_class_first_and_no_header(self):
        settings = {"kind": "table", "header": False, "first": 1, "label": 0}
        assert only_items(settings, "体育\t比赛结束\n财经\t股市上涨\n")[1] == TextItem("file:2", "股市上涨", label="财经")


class TestQuotes:
    def test_a_csv_has_separators_quotes_and_lines_in_its_cells(self):
        data = 'text,label\r\n"One, ""two""\r\nthree",a\r\n\r\nplain,b\r\n'
        assert only_items(CSV, data) == [
            TextItem("file:2", 'One, "two"\r\nthree', label="a"),
            TextItem("file:5", "plain", label="b"),
        ]

    def test_a_row_whose_quotes_do_not_fit_is_bad_and_the_next_one_is_read(self):
        assert read(CSV, 'text,label\n"one" two,a\nthree,b\n') == [Bad("file:2", "bad_quoting"), TextItem("file:3", "three", label="b")]

    def test_a_quote_that_is_never_closed_would_swallow_the_file(self):
        with pytest.raises(DataIntegrityError, match=r"file, line 3: a quote is opened and never closed\..*reader.quoting: false"):
            read(CSV, 'text,label\none,a\n"two,b\nthree,c\n')
        assert len(only_items(CSV | {"quoting": False}, 'text,label\none,a\n"two,b\nthree,c\n')) == 3

    def test_the_limit_of_the_csv_module_is_left_as_it_was(self):
        before = csv.field_size_limit()
        (item,) = only_items(CSV, f'text,label\n"{"word " * 100_000}",a\n')
        assert len(item.first) == 500_000
        assert csv.field_size_limit() == before

    @given(
        st.lists(
            st.tuples(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), st.sampled_from("ab")), max_size=5
        )
    )
    @settings(deadline=None)
    def test_what_the_csv_module_writes_comes_back(self, rows):
        file = io.StringIO(newline="")
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([("text", "label"), *rows])
        assert [(item.first, item.label) for item in only_items(CSV, file.getvalue())] == rows

    @given(
        st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r"), min_size=1).filter(str.strip), max_size=5)
    )
    @settings(deadline=None)
    def test_without_quotes_every_text_on_a_line_comes_back(self, texts):
        settings = {"kind": "table", "header": False, "first": 1, "label": 0}
        found = only_items(settings, "".join(f"x\t{text}\n" for text in texts))
        assert [item.first for item in found] == texts


class TestBadRows:
    def test_each_has_its_line_and_reason(self):
        data = b"sentence\tlabel\ngood\t1\n \t1\n\xff\xfe\t0\nno label\t\n\xe4\xbd\xa0\t0\nanother label\t7\n"
        assert read(SST, data) == [
            TextItem("file:2", "good", label="positive"),
            Bad("file:3", "empty_text"),
            Bad("file:4", "bad_encoding"),
            Bad("file:5", "no_label"),
            TextItem("file:6", "你", label="negative"),
            TextItem("file:7", "another label", label="7"),
        ]

    def test_a_dash_is_no_label_unless_it_is_renamed(self):
        settings = {"kind": "table", "header": False, "first": 0, "label": 1}
        assert read(settings, "a\t-\n") == [Bad("file:1", "no_label")]
        assert read(settings | {"without_label": "keep"}, "a\t-\n") == [TextItem("file:1", "a")]
        assert read(settings | {"labels": {"-": "minus"}}, "a\t-\n") == [TextItem("file:1", "a", label="minus")]

    def test_no_line_at_all(self):
        with pytest.raises(ConfigError, match="file has no column 'sentence'; its first line has no line at all"):
            read(SST, "")
        assert read(COLA, "") == []

    def test_a_very_long_text_passes(self):
        (item,) = only_items(COLA, "x\t1\t\t" + "word " * 100_000 + "\n")
        assert len(item.first.split()) == 100_000

    def test_names_without_a_header_are_refused(self):
        with pytest.raises(ValidationError, match="column 'label': without a header columns have no names; give numbers, from 0"):
            Table.model_validate_json(json.dumps(COLA | {"label": "label"}))

    @pytest.mark.parametrize("field", [-1, True, [0], 1.5])
    def test_what_is_no_column_is_refused(self, field):
        with pytest.raises(ValidationError, match=r"expected a name, a number from 0, or .field, pattern., got"):
            Table.model_validate_json(json.dumps({"kind": "table", "first": field}))


def test_a_group_goes_with_the_item():
    settings = {"kind": "table", "first": "text", "group": "film"}
    assert only_items(settings, "text\tfilm\ngood\tTwo\n") == [TextItem("file:2", "good", group="Two")]

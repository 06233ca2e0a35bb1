import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.corpus.labelled.tags import Span, tags_of_spans, to_bio
from ptm_dist.data.item import Bad, TaggedItem
from tests.unit.corpus.labelled.reading import only_items, read

CONLL = {"kind": "conll"}
CONLL_2003 = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
German JJ I-NP I-MISC
French JJ I-NP B-MISC

-DOCSTART- -X- O O

Ann NNP I-NP I-PER
"""
MSRA = {"kind": "conll", "sentence": "line", "header": True, "joined": ""}


class TestWordsALine:
    def test_conll_2003_begins_entities_with_i(self):
        found = only_items(CONLL | {"scheme": "iob1"}, CONLL_2003)
        assert found == [
            TaggedItem("file:3", ("EU", "rejects", "German", "French"), ("B-ORG", "O", "B-MISC", "B-MISC")),
            TaggedItem("file:10", ("Ann",), ("B-PER",)),
        ]

    def test_documents_may_begin_with_fewer_columns_and_no_empty_line(self):
        found = only_items(CONLL, "-DOCSTART-\nAnn B-PER\n-DOCSTART-\nBob B-PER\n")
        assert found == [TaggedItem("file:2", ("Ann",), ("B-PER",)), TaggedItem("file:4", ("Bob",), ("B-PER",))]

    def test_columns_by_number(self):
        (chunks,) = only_items(CONLL | {"tag": 2}, "EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n")
        assert chunks.tags == ("B-NP", "B-VP")
        found = read(CONLL | {"word": 1, "tag": 0, "separator": "\t"}, "B-PER\tAnn Lee\r\nO\twaits\r\n\t\r\nO\t!\r\n")
        assert found == [TaggedItem("file:1", ("Ann Lee", "waits"), ("B-PER", "O")), TaggedItem("file:4", ("!",), ("O",))]

    def test_files_without_tags(self):
        assert only_items(CONLL | {"tag": None}, "Ann\nwaits\n") == [TaggedItem("file:1", ("Ann", "waits"))]

    def test_full_width_spaces_are_words_of_chinese(self):
        found = only_items(CONLL | {"joined": ""}, "\u3000 O\n北 B-LOC\n京 I-LOC\n")
        assert found == [TaggedItem("file:1", ("\u3000", "北", "京"), ("O", "B-LOC", "I-LOC"), "")]

    def test_another_character_between_columns(self):
        assert only_items(CONLL | {"separator": "\x02"}, "北\x02B-LOC\n京\x02I-LOC\n") == [
            TaggedItem("file:1", ("北", "京"), ("B-LOC", "I-LOC"))
        ]

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b"lonely", "missing_column"),
            (b"a b c", "missing_column"),
            (b" O", "missing_column"),
            (b"a X-PER", "unknown_tag"),
            (b"a PER", "unknown_tag"),
            (b"a B-", "unknown_tag"),
            (b"\xff O", "bad_encoding"),
        ],
    )
    def test_a_bad_line_spoils_its_sentence_and_no_other(self, line, reason):
        found = read(CONLL, b"\xef\xbb\xbfx O\n\nfirst O\n" + line + b"\n\nlast B-PER\n")
        assert found == [TaggedItem("file:1", ("x",), ("O",)), Bad("file:3", reason), TaggedItem("file:6", ("last",), ("B-PER",))]

    @pytest.mark.parametrize("columns", [{"word": 2}, {"tag": 5}, {"word": 1}, {"word": -2, "tag": 0}, {"word": -3}])
    def test_columns_that_are_not_there_or_the_same(self, columns):
        assert read(CONLL | columns, "a O\n") == [Bad("file:1", "missing_column")]

    def test_empty_files_and_a_very_long_sentence(self):
        assert read(CONLL, "") == read(CONLL | {"header": True}, "") == read(CONLL, "\n\n\t\n") == []
        (item,) = only_items(CONLL, "word O\n" * 100_000)
        assert len(item.words) == len(item.tags) == 100_000


class TestSentencesALine:
    def test_msra_of_ernie(self):
        data = "text_a\tlabel\n他\x02在\x02北\x02京\tO\x02O\x02B-LOC\x02I-LOC\n好\tO\n"
        assert only_items(MSRA, data) == [
            TaggedItem("file:2", ("他", "在", "北", "京"), ("O", "O", "B-LOC", "I-LOC"), ""),
            TaggedItem("file:3", ("好",), ("O",), ""),
        ]

    def test_bad_sentences(self):
        found = read(MSRA, "text_a\tlabel\n他\x02在\tO\n好\tO\n他\x02\x02在\tO\x02O\x02O\n在\n")
        assert found == [
            Bad("file:2", "missing_column"),
            TaggedItem("file:3", ("好",), ("O",), ""),
            Bad("file:4", "missing_column"),
            Bad("file:5", "missing_column"),
        ]


entities = st.lists(st.tuples(st.sampled_from(["", "PER", "geo-loc"]), st.integers(1, 4)), max_size=8)
MARKS = {"bio": "BIIB", "bioes": "BIES", "bmes": "BMES", "bilou": "BILU"}
"""What the first, an inner, the last and an only word of an entity has."""


def written(found, marks):
    tags = []
    for name, size in found:
        first, inner, last, single = marks
        words = [single] if size == 1 else [first, *inner * (size - 2), last]
        tags += [f"{mark}-{name}" if name else "O" for mark in words]
    return tags


class TestSchemes:
    @given(entities)
    def test_all_say_the_same(self, found):
        expected = tuple(written(found, MARKS["bio"]))
        assert to_bio(written(found, MARKS["bio"]), "bio") == expected
        assert to_bio(written(found, MARKS["bioes"]), "bioes") == expected
        assert to_bio(written(found, MARKS["bilou"]), "bioes") == expected
        assert to_bio(written(found, MARKS["bmes"]), "bmes") == expected

    @given(entities)
    def test_iob1_needs_b_between_neighbours_only(self, found):
        tags, before = [], ""
        for name, size in found:
            first = "B" if name == before else "I"
            tags += [f"{mark}-{name}" if name else "O" for mark in first + "I" * (size - 1)]
            before = name
        assert to_bio(tags, "iob1") == tuple(written(found, MARKS["bio"]))

    @pytest.mark.parametrize(
        ("tag", "scheme"), [("E-PER", "bio"), ("I-PER", "bmes"), ("M-PER", "bioes"), ("o", "bio"), ("", "bio"), ("B", "bio")]
    )
    def test_other_tags_are_none(self, tag, scheme):
        assert to_bio(["O", tag], scheme) is None

    @given(entities)
    def test_spans_of_words_come_back_as_tags(self, found):
        words, spans, place = [], [], 0
        for name, size in found:
            first = place
            for _ in range(size):
                words.append((place, place + 2))
                place += 3
            spans += [Span(first, place - 1, name)] if name else []
        if words:
            assert tags_of_spans(words, spans[::-1]) == tuple(written(found, MARKS["bio"]))

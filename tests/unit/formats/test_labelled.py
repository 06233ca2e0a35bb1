"""Rows of labelled items: laid as transformers lays them, windows that lose nothing, answers and words found again by their characters."""

from itertools import pairwise

import numpy as np
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st

from ptm_dist.corpus.tokenizer import ByteBPE, load_tokenizer
from ptm_dist.corpus.unigram import Unigram
from ptm_dist.corpus.word_list import WordList
from ptm_dist.corpus.wordpiece import WordPiece
from ptm_dist.data import joining
from ptm_dist.data.example import NO_LABEL
from ptm_dist.data.item import Answer, Bad, ChoiceItem, QuestionItem, TaggedItem, TextItem
from ptm_dist.errors import ConfigError
from ptm_dist.formats.choices import Choices
from ptm_dist.formats.labelled import NOWHERE, Made, Tools
from ptm_dist.formats.questions import ENDS, NOT_HERE, STARTS, Questions, windows
from ptm_dist.formats.tagged_words import TaggedWords
from ptm_dist.formats.texts import Texts
from tests.real_text import mixed_lines

THEIRS = {"bert": "BertTokenizer", "roberta": "RobertaTokenizer", "albert": "AlbertTokenizer", "xlnet": "XLNetTokenizer"}
OURS = {
    "bert": WordPiece(vocab_size=3000),
    "roberta": ByteBPE(vocab_size=2000),
    "albert": Unigram(vocab_size=4000),
    "xlnet": Unigram(vocab_size=4000, specials="xlnet"),
    "elmo": WordList(vocab_size=2000),
}
JOININGS = {
    "bert": joining.BERT, "albert": joining.BERT, "roberta": joining.ROBERTA, "xlnet": joining.XLNET, "elmo": joining.ELMO,
}  # fmt: skip
TEXT = "The committee met in Geneva on Tuesday; nobody from the ministry came, and Dr. Ōkubo's report was read aloud."


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizers")
    texts = [*mixed_lines()[:9500:12], *[TEXT] * 3]
    for name, tokenizer in OURS.items():
        (path / name).mkdir()
        for file, data in tokenizer.train(iter(texts)).items():
            (path / name / file).write_bytes(data)
    return path


@pytest.fixture(scope="module")
def tools(folders):
    return lambda name, names=(): Tools(load_tokenizer(folders / name), JOININGS[name], tuple(names))


def made(format, items, tools, training=True):
    found = list(format.rows(items, tools, training))
    assert all(isinstance(row, Made) for row in found), found
    return found


@pytest.mark.parametrize("name", THEIRS)
def test_one_text_and_two_are_laid_as_transformers_lays_them(folders, tools, name):
    theirs = getattr(transformers, THEIRS[name]).from_pretrained(folders / name)
    items = [TextItem("1", TEXT, label="no"), TextItem("2", "Who came?", TEXT, "no"), TextItem("3", TEXT, "Nobody.", "yes")]
    for item, row in zip(items, made(Texts(length=64), items, tools(name, ("no", "yes"))), strict=True):
        told = theirs(*([item.first] if item.second is None else [item.first, item.second]), truncation="longest_first", max_length=64)
        assert row.example["tokens"].tolist() == told["input_ids"]
        if "token_type_ids" in told and name != "roberta":
            assert row.example["segments"].tolist() == told["token_type_ids"]
        assert row.example["label"] == ("no", "yes").index(item.label)


@pytest.mark.parametrize("name", JOININGS)
def test_rows_are_never_longer_than_asked(tools, name):
    items = [TextItem("1", TEXT, " ".join([TEXT] * 3), "a"), TextItem("2", TEXT * 4, label="a")]
    rows = made(Texts(length=20), items, tools(name, ("a", "b")))
    assert [len(row.example["tokens"]) for row in rows] == [20, 20]


def test_similarity_in_gpts_way_lays_both_orders_with_tokens_of_its_own(folders):
    tokenizer = load_tokenizer(folders / "roberta")
    (row,) = made(Texts(length=64, both_orders=True), [TextItem("1", "one", "two", 0.5)], Tools(tokenizer, joining.GPT))
    size = tokenizer.vocabulary.size
    one, two = (ids.tolist() for ids in tokenizer.encode(["one", "two"]))
    start, delimiter, extract = size - 3, size - 2, size - 1
    assert row.example["tokens"].tolist() == [start, *one, delimiter, *two, extract, start, *two, delimiter, *one, extract]
    assert row.example["part"].tolist() == [0] * (len(one) + len(two) + 3) + [1] * (len(one) + len(two) + 3)
    assert row.example["value"] == np.float32(0.5)


@given(tokens=st.integers(1, 200), room=st.integers(1, 60), stride=st.integers(1, 80))
def test_windows_read_every_token_and_are_as_long_as_they_may_be(tokens, room, stride):
    found = list(windows(tokens, room, stride))
    assert set().union(*(range(first, end) for first, end in found)) == set(range(tokens))
    assert all(end - first == min(room, tokens - first) for first, end in found)
    assert all(after - before == min(stride, room) for (before, _), (after, _) in pairwise(found))


@pytest.mark.parametrize("name", JOININGS)
@pytest.mark.parametrize("wanted", ["Geneva", "Tuesday", "The committee", "Ōkubo's report", "aloud"])
def test_an_answer_is_found_again_by_the_characters_of_its_tokens(tools, name, wanted):
    context = f"{TEXT} {TEXT.replace('Geneva', 'Basel')}"
    item = QuestionItem("1", "Where did they meet?", context, (Answer(wanted, context.index(wanted)),))
    rows = made(Questions(length=40, stride=8), [item], tools(name))
    assert len(rows) > 2
    seen = set()
    for row in rows:
        pick, spans = row.example["pick"], row.spans
        told = [np.flatnonzero((pick != NOT_HERE) & (pick & bit > 0)) for bit in (STARTS, ENDS)]
        assert [len(places) for places in told] == [1, 1]
        start, end = (int(places[0]) for places in told)
        assert len(pick) <= 40
        summary = len(pick) - 1 if name == "xlnet" else 0
        if start != summary:
            found = context[spans[start, 0] : spans[end, 1]]
            assert wanted in found
            assert len(found) <= len(wanted) + 2
            seen.add(found)
        assert (pick[(spans[:, 0] == NOWHERE) & (np.arange(len(pick)) != summary)] == (NOT_HERE if name == "xlnet" else 0)).all()
    assert len(seen) == 1
    covered = np.concatenate([row.spans[row.spans[:, 0] != NOWHERE] for row in rows])
    assert {i for first, end in covered for i in range(first, end)} >= {i for i, letter in enumerate(context) if not letter.isspace()}


def test_a_question_that_nobody_can_answer_points_at_the_row_itself(tools):
    (row,) = made(Questions(length=64), [QuestionItem("1", "Who paid?", TEXT, impossible=True)], tools("bert"))
    assert row.example["pick"][0] == STARTS | ENDS
    assert (row.example["pick"][1:] == 0).all()


WORDS = ("Dr.", "Ōkubo", "met", "the", "committee", "in", "Geneva", "(", "Switzerland", ")", "yesterday")
TAGS = ("O", "B-PER", "O", "O", "O", "O", "B-LOC", "O", "B-LOC", "O", "O")


@pytest.mark.parametrize("name", JOININGS)
@pytest.mark.parametrize("length", [10, 64])
def test_each_word_is_asked_once_at_its_first_token(tools, name, length):
    asked = {}
    for row in made(TaggedWords(length=length), [TaggedItem("1", WORDS, TAGS)], tools(name, ("O", "B-PER", "B-LOC"))):
        assert len(row.example["tokens"]) <= length
        for label, word in zip(row.example["labels"], row.words, strict=True):
            assert (label == NO_LABEL) == (word == NOWHERE)
            if word != NOWHERE:
                assert word not in asked
                asked[int(word)] = ("O", "B-PER", "B-LOC")[label]
    assert asked == dict(enumerate(TAGS))


def test_chinese_characters_are_words_without_anything_between_them(tools):
    words = tuple("委员会在日内瓦开会")
    rows = made(TaggedWords(length=32), [TaggedItem("1", words, ("O",) * 9, joined="")], tools("bert", ("O", "B-LOC")))
    assert rows[0].words.tolist() == [NOWHERE, *range(9), NOWHERE]


def test_choices_stand_side_by_side(tools):
    item = ChoiceItem("1", TEXT, "Where?", ("Geneva", "Basel", "Bern"), 2)
    (row,) = made(Choices(length=32), [item], tools("bert", ("0", "1", "2")))
    example, tokenizer = row.example, tools("bert").tokenizer
    assert example["label"] == 2
    for number, choice in enumerate(item.choices):
        mine = example["tokens"][example["part"] == number]
        assert len(mine) <= 32
        ending = tokenizer.encode([f"Where? {choice}"])[0].tolist()
        assert mine.tolist()[-len(ending) - 1 :] == [*ending, tokenizer.vocabulary.end]


def test_rows_for_prediction_need_no_label(tools):
    found = [
        made(Texts(length=16), [TextItem("1", TEXT)], tools("bert", ("a",)), training=False),
        made(TaggedWords(length=16), [TaggedItem("1", WORDS)], tools("bert", ("O",)), training=False),
        made(Questions(length=32), [QuestionItem("1", "Who?", TEXT)], tools("bert"), training=False),
        made(Choices(length=16), [ChoiceItem("1", TEXT, "Who?", ("a", "b"))], tools("bert", "01"), training=False),
    ]
    assert all(rows for rows in found)


@pytest.mark.parametrize(
    ("format", "item", "names", "why"),
    [
        (Texts(length=16), TextItem("1", "", label="a"), "a", "empty_text"),
        (Texts(length=16), TextItem("1", "word", "\n", label="a"), "a", "empty_text"),
        (Texts(length=16), TextItem("1", "word", label="b"), "a", "unknown_label"),
        (Texts(length=16), TextItem("1", "word"), "a", "no_label"),
        (TaggedWords(length=16), TaggedItem("1", (), ()), "O", "empty_text"),
        (TaggedWords(length=16), TaggedItem("1", ("one",), ("B-X",)), "O", "unknown_tag"),
        (TaggedWords(length=16), TaggedItem("1", ("one",)), "O", "no_tags"),
        (Questions(length=16), QuestionItem("1", "Who?", "", impossible=True), "", "empty_text"),
        (Questions(length=16), QuestionItem("1", "Who?", TEXT), "", "no_answer"),
        (Questions(length=8), QuestionItem("1", "Who was it that came to them?", TEXT, impossible=True), "", "no_room"),
        (Choices(length=16), ChoiceItem("1", TEXT, "", ("a", "b"), 0), "012", "number_of_choices"),
        (Choices(length=16), ChoiceItem("1", TEXT, "", ("a", "b")), "01", "no_label"),
    ],
)
def test_items_that_cannot_be_used_are_named_with_the_reason(tools, format, item, names, why):
    assert list(format.rows([item], tools("bert", names), training=True)) == [Bad("1", why)]


def test_documents_are_refused():
    with pytest.raises(ConfigError, match="format texts: it reads labelled items, not documents"):
        Texts(length=16).examples([], None, None)

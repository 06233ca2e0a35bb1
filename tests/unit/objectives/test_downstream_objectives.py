"""What labelled rows are asked, where, and how they come to stand side by side."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ptm_dist.data.batch import HeadSpec, Row, collate
from ptm_dist.data.characters import character_ids
from ptm_dist.data.example import ENDS, NO_LABEL, STARTS
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import DataIntegrityError
from ptm_dist.objectives.answer_span import AnswerSpan
from ptm_dist.objectives.causal_lm import CausalLM
from ptm_dist.objectives.choose import Choose
from ptm_dist.objectives.classify_text import ClassifyText
from ptm_dist.objectives.regress_text import RegressText
from ptm_dist.objectives.tag_words import TagWords
from ptm_dist.rng import RowDraws

VOCABULARY = Vocabulary(size=100, begin=0, pad=1, end=1, unknown=3, mask=None)
"""As that of ELMo, the token that ends a row is the one that pads."""
MOOD = ("sad", "so so", "glad")


def corrupted(objective, **inputs):
    """Return a row of one or several sequences as it is read."""
    row = Row({name: np.asarray(values) for name, values in inputs.items()})
    return objective.corrupt([row], VOCABULARY, RowDraws(1, "x", [(0, 0)]))[0]


def asked(objective, **inputs):
    return [values.tolist() for values in corrupted(objective, **inputs).targets[objective.kind]]


def beside(lengths, seed=0):
    """Return sequences of these lengths laid end to end, and each alone."""
    rng = np.random.default_rng(seed)
    alone = [rng.integers(0, 99, length).astype(np.uint16) for length in lengths]
    parts = np.repeat(np.arange(len(lengths), dtype=np.uint8), lengths)
    return {"tokens": np.concatenate(alone), "segments": np.concatenate(alone) % 3, "part": parts}, alone


class TestSideBySide:
    @given(st.lists(st.lists(st.integers(1, 12), min_size=3, max_size=3), min_size=1, max_size=4), st.integers(0, 2), st.integers(0, 99))
    def test_every_token_finds_its_place_and_the_rest_is_padding(self, rows, fillers, seed):
        made = [beside(lengths, seed + number) for number, lengths in enumerate(rows)]
        found = [Row(example).beside(VOCABULARY.pad) for example, _ in made]
        batch = collate(found, VOCABULARY.pad, len(rows) + fillers)
        assert batch.lengths.tolist() == rows + [[1, 1, 1]] * fillers
        assert batch.inputs.keys() == {"tokens", "segments"}
        assert batch.tokens == sum(map(sum, rows)) + 3 * fillers
        for number, (_, alone) in enumerate(made):
            for k, tokens in enumerate(alone):
                held = batch.inputs["tokens"][number, :, k]
                assert held[: len(tokens)].tolist() == tokens.tolist()
                assert (held[len(tokens) :] == VOCABULARY.pad).all()
                assert batch.inputs["segments"][number, :, k].tolist() == [*(tokens % 3).tolist(), *[0] * (len(held) - len(tokens))]

    @given(st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=2), min_size=1, max_size=4), st.sampled_from(["first", "last"]))
    def test_positions_count_through_them(self, rows, at):
        objective = ClassifyText(labels=MOOD, views=2, at=at)
        made = [beside(lengths, number) for number, lengths in enumerate(rows)]
        batch = collate([corrupted(objective, **example, label=1) for example, _ in made], VOCABULARY.pad, len(rows) + 1)
        wanted = [tokens[0 if at == "first" else -1] for _, alone in made for tokens in alone]
        assert batch.inputs["tokens"].reshape(-1)[batch.targets["classify_text"].positions].tolist() == wanted
        assert objective.count(batch.targets["classify_text"].labels) == len(rows)

    def test_a_row_of_one_sequence_stays_as_it_is(self):
        row = Row({"tokens": np.arange(5)})
        assert row.beside(1) is row
        assert row.lengths == 5

    def test_the_next_token_is_that_of_the_same_sequence(self):
        example, (first, second) = beside([4, 3])
        row = corrupted(CausalLM(per_row=True), **example)
        positions, labels = row.targets["causal_lm"]
        before = row.inputs["tokens"].reshape(-1)[positions].tolist()
        assert sorted(zip(before, labels.tolist(), strict=True)) == sorted(
            zip([*first[:-1], *second[:-1]], [*first[1:], *second[1:]], strict=True)
        )
        batch = collate([row, corrupted(CausalLM(), **beside([1, 2])[0])], 1, 3)
        assert batch.sequences_asked("causal_lm") == 3, "a sequence of one token has no target"

    def test_words_are_spelled_each_in_its_place(self):
        example = {
            "tokens": [0, 7, 1, 0, 8, 9, 1],
            "part": [0, 0, 0, 1, 1, 1, 1],
            "letters": np.array(["", "ab", "", "", "c", "<S>", ""], "S48"),
        }
        found = corrupted(ClassifyText(labels=MOOD, views=2), **example, label=0)
        characters = found.inputs["characters"]
        assert characters.shape == (4, 2, 50)
        assert np.array_equal(characters[:3, 0], character_ids(["<S>", "ab", "</S>"]))
        assert not characters[3, 0].any(), "no word stands where the other sequence goes on"
        assert np.array_equal(characters[[0, 1, 3], 1], character_ids(["<S>", "c", "</S>"]))
        assert characters[2, 1, 1] == ord("<") + 1, "a word of the text that is written like a mark is none"
        plain = corrupted(
            TagWords(tags=("O", "B-X")), tokens=[0, 7, 1], letters=np.array(["", "ab", ""], "S48"), labels=np.array([255, 1, 255], np.uint8)
        )
        assert np.array_equal(plain.inputs["characters"], character_ids(["<S>", "ab", "</S>"]))

    def test_two_objectives_may_read_one_row(self):
        example, _ = beside([4, 3])
        letters = np.array([b"w"] * 7, "S48")
        once = corrupted(ClassifyText(labels=MOOD, views=2), **example, letters=letters, label=2)
        (both,) = CausalLM().corrupt([once], VOCABULARY, RowDraws(1, "x", [(0, 0)]))
        (again,) = RegressText(views=2).corrupt(
            [Row(both.inputs | {"value": np.array(1.0)}, both.targets)], VOCABULARY, RowDraws(1, "x", [(0, 0)])
        )
        assert again.targets.keys() == {"classify_text", "causal_lm", "regress_text"}
        assert again.inputs["characters"] is once.inputs["characters"]


class TestTexts:
    @pytest.mark.parametrize(("at", "place"), [("first", 0), ("last", 4)])
    def test_the_class_is_asked_at_the_token_that_stands_for_the_row(self, at, place):
        objective = ClassifyText(labels=MOOD, at=at, dropout=0.2)
        assert asked(objective, tokens=np.arange(5), label=np.uint16(2)) == [[place], [2]]
        assert objective.head == HeadSpec("text", 3, dropout=0.2)
        assert (objective.names, RegressText().names) == (MOOD, ())

    def test_a_value_stays_a_float(self):
        row = corrupted(RegressText(), tokens=np.arange(5), value=np.float32(3.25))
        assert row.targets["regress_text"].labels.dtype == np.float32
        batch = collate([row, corrupted(RegressText(), tokens=np.arange(3), value=np.float32(-1))], 1, 3)
        assert batch.targets["regress_text"].labels.dtype == np.float32
        assert batch.targets["regress_text"].labels.tolist() == [3.25, -1.0]

    def test_what_is_wrong_with_a_row_is_said(self):
        for label in (3, None):
            with pytest.raises(DataIntegrityError, match=f"classify_text: a row has the label {label}, not one of 0 to 2"):
                corrupted(ClassifyText(labels=MOOD), tokens=np.arange(3), **({} if label is None else {"label": label}))
        for value in (np.nan, None):
            with pytest.raises(DataIntegrityError, match=f"regress_text: a row has the value {value}"):
                corrupted(RegressText(), tokens=np.arange(3), **({} if value is None else {"value": value}))
        with pytest.raises(DataIntegrityError, match=r"a row holds 1 texts side by side, not 2. Write views: 2 where"):
            corrupted(ClassifyText(labels=MOOD, views=2), tokens=np.arange(3), label=0)
        with pytest.raises(DataIntegrityError, match="a row holds 2 texts side by side, not 1"):
            corrupted(RegressText(), **beside([2, 2])[0], value=0.5)

    @pytest.mark.parametrize(("names", "message"), [(["a"], "at least 2"), (["a", "b", "a"], "a stands twice; each name has one number")])
    def test_names_are_several_and_distinct(self, names, message):
        for kind, field in ((ClassifyText, "labels"), (TagWords, "tags")):
            with pytest.raises(ValidationError, match=message):
                kind(**{field: tuple(names)})


class TestTags:
    def test_words_are_asked_at_their_first_token(self):
        labels = np.array([NO_LABEL, 1, NO_LABEL, 0, NO_LABEL], dtype=np.uint8)
        assert asked(TagWords(tags=("O", "B-X")), tokens=np.arange(5), labels=labels) == [[1, 3], [1, 0]]
        assert TagWords(tags=("O", "B-X")).head == HeadSpec("tags", 2, dropout=0.1)

    def test_what_is_wrong_with_a_row_is_said(self):
        with pytest.raises(DataIntegrityError, match="a word has the tag 2, not one of 0 to 1"):
            corrupted(TagWords(tags=("O", "B-X")), tokens=np.arange(2), labels=np.array([2, NO_LABEL], dtype=np.uint8))
        with pytest.raises(DataIntegrityError, match=r"rows have no labels. Take a format that gives some: tagged_words"):
            corrupted(TagWords(tags=("O", "B-X")), tokens=np.arange(2))

    def test_there_are_no_more_tags_than_a_byte_tells_apart(self):
        with pytest.raises(ValidationError, match="at most 255"):
            TagWords(tags=tuple(map(str, range(256))))


class TestAnswers:
    def test_all_tokens_that_may_be_picked_are_asked(self):
        pick = np.array([0, NO_LABEL, STARTS, 0, ENDS, NO_LABEL], dtype=np.uint8)
        assert asked(AnswerSpan(), tokens=np.arange(6), pick=pick) == [[0, 2, 3, 4], [0, 1, 0, 2]]
        assert AnswerSpan().count(np.array([0, 1, 0, 2, 3, 0, 0])) == 2
        assert AnswerSpan().head == HeadSpec("span")

    @pytest.mark.parametrize(
        ("pick", "message"),
        [
            ([0, 0, 2], "the answer of a row starts at 0 tokens; it must be one"),
            ([1, 1, 2], "the answer of a row starts at 2 tokens"),
            ([1, 3, 0], "the answer of a row starts at 2 tokens"),
            ([1, 0, 0], "the answer of a row ends at 0 tokens"),
            (None, "rows do not say what may be picked. Take a format that does: questions"),
        ],
    )
    def test_what_is_wrong_with_a_row_is_said(self, pick, message):
        with pytest.raises(DataIntegrityError, match=message):
            corrupted(AnswerSpan(), tokens=np.arange(3), **({} if pick is None else {"pick": np.array(pick, dtype=np.uint8)}))


class TestChoices:
    @pytest.mark.parametrize(("at", "places"), [("first", [0, 1, 2]), ("last", [9, 4, 8])])
    def test_each_answer_is_asked_and_one_is_right(self, at, places):
        objective = Choose(choices=3, at=at)
        assert asked(objective, **beside([4, 2, 3])[0], label=1) == [places, [0, 1, 0]]
        assert objective.names == ("0", "1", "2")
        assert objective.count(np.array([0, 1, 0, 1, 0, 0])) == 2

    def test_what_is_wrong_with_a_row_is_said(self):
        with pytest.raises(DataIntegrityError, match=r"a row has 2 answers side by side, not 3. Correct choices"):
            corrupted(Choose(choices=3), **beside([2, 2])[0], label=0)
        with pytest.raises(DataIntegrityError, match="a row has the label 2, not one of 0 to 1"):
            corrupted(Choose(choices=2), **beside([2, 2])[0], label=2)


def test_a_frozen_head_says_so():
    made = [ClassifyText(labels=MOOD, freeze=True), RegressText(freeze=True), TagWords(tags=MOOD, freeze=True), AnswerSpan(freeze=True)]
    assert all(objective.head.frozen for objective in [*made, Choose(choices=2, freeze=True)])
    assert not CausalLM().head.frozen


def test_recipes_from_before_there_was_per_row_keep_their_digests():
    assert "per_row" not in CausalLM().model_dump()
    assert CausalLM(per_row=True).model_dump()["per_row"]

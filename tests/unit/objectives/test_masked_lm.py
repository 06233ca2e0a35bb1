"""Masked language modelling: the rules of each system as fields, what they hide, what is predicted.

Numbers: reference systems-elmo-gpt-bert-xlnet.md, section 9, checks 35 to 38; systems-ernie-wwm-roberta-albert.md, section 13, checks 10,
11, 25, 26, 28, 29 and 30. Rules beside plain loops: tests/unit/test_masking.py.
"""

import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ptm_dist.data.batch import HeadSpec, Row, Targets
from ptm_dist.data.loader import Reader, Reading
from ptm_dist.data.marks import CAPITAL, ENTITY, PHRASE, WORD
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError, DataIntegrityError
from ptm_dist.masking import Units, choose_spans
from ptm_dist.objectives.masked_lm import Block, Geometric, MaskedLM, Ngrams, Ramp
from ptm_dist.rng import Draws, RowDraws, share_of
from ptm_dist.schedule import Moment
from tests.unit.data.rows import write_rows

BERT = {"choose": "budget", "predict_special": False, "random_ids": "all"}
SYSTEMS = {
    "RoBERTa": {},
    "fairseq, whole words": {"unit": "word", "action_per": "group"},
    "BERT, 128 tokens": BERT | {"most": 20},
    "BERT, 512 tokens": BERT | {"most": 77},
    "BERT-wwm": BERT | {"unit": "word", "most": 77},
    "ERNIE 1.0, basic": {"choose": "each", "predict_special": False, "random_ids": "all_but_pad"},
    "ERNIE 1.0, phrases": {"unit": "phrase", "choose": "each", "predict_special": False, "random_ids": "all_but_pad"},
    "ERNIE 1.0, entities": {"unit": "entity", "choose": "each", "predict_special": False, "random_ids": "all_but_pad"},
    "ALBERT": BERT | {"unit": "word", "spans": {"kind": "ngrams"}, "most": 20},
    "SpanBERT": BERT | {"unit": "word", "spans": {"kind": "geometric"}, "action_per": "group"},
    "roberta_zh": BERT | {"unit": "word", "rate": 0.1, "most": 23},
    "RoBERTa, 10 static masks": {"static_masks": 10},
}
OBJECTIVES = {name: MaskedLM.model_validate_json(json.dumps(fields)) for name, fields in SYSTEMS.items()}
BITS = {"word": WORD, "phrase": PHRASE, "entity": ENTITY}
VOCABULARY = Vocabulary(size=300, begin=0, pad=1, end=2, unknown=3, mask=299)
LARGE = Vocabulary(size=30_000, begin=101, pad=0, end=102, unknown=100, mask=103)
ROWS, LENGTH = 2048, 512
seeds = st.integers(0, 2**63 - 1)
systems = pytest.mark.parametrize("objective", [pytest.param(found, id=name) for name, found in OBJECTIVES.items()])


def row_of(length, seed=0, unknown=False):
    """Return a row [CLS] A [SEP] B [SEP] with marks of units of two or three tokens on average."""
    draws = Draws(seed, "text")
    text = draws.integers(length, 295) + 4
    if unknown:
        text[draws.uniform(length) < 0.1] = VOCABULARY.unknown
    text[0], text[length // 2], text[-1] = VOCABULARY.begin, VOCABULARY.end, VOCABULARY.end
    marks = (draws.integers(length, 16) * (text > 3)).astype(np.uint8)
    return Row({"tokens": text.astype(np.uint16), "segments": np.zeros(length, np.uint8), "marks": marks})


def corrupted(objective, rows, seed, *keys, step=None):
    return objective.corrupt(rows, VOCABULARY, RowDraws(seed, "train", keys), step)


def same(one, other):
    pairs = zip((*one.inputs.values(), *one.targets["masked_lm"]), (*other.inputs.values(), *other.targets["masked_lm"]), strict=True)
    return one.inputs.keys() == other.inputs.keys() and all(np.array_equal(a, b) for a, b in pairs)


@systems
@given(st.lists(st.tuples(st.integers(2, 70), st.integers(0, 9), st.integers(0, 10**9)), min_size=1, max_size=6), seeds, st.randoms())
@settings(max_examples=25)
def test_a_row_is_hidden_the_same_way_in_whatever_company(objective, found, seed, random):
    rows, keys = [row_of(length, number) for length, _, number in found], [key for _, *key in found]
    together = corrupted(objective, rows, seed, *keys)
    assert all(same(one, corrupted(objective, [row], seed, key)[0]) for one, row, key in zip(together, rows, keys, strict=True))
    order = random.sample(range(len(rows)), len(rows))
    again = corrupted(objective, [rows[number] for number in order], seed, *(keys[number] for number in order))
    assert all(same(together[number], one) for number, one in zip(order, again, strict=True))


def units_in(row, objective):
    """Return the positions of the units that may be hidden, by a loop over the marks."""
    units, tokens, bit = [], row.inputs["tokens"].tolist(), BITS.get(objective.unit, 0)
    inside = False
    for position, (token, mark) in enumerate(zip(tokens, row.inputs["marks"].tolist(), strict=True)):
        if may := objective.predict_special or token not in VOCABULARY.special_ids:
            if inside and mark & bit:
                units[-1].append(position)
            else:
                units.append([position])
        inside = may
    return units


@systems
@given(st.integers(2, 120), st.integers(0, 2**32))
@settings(max_examples=50)
def test_units_are_hidden_whole_and_labels_restore_the_row(objective, length, seed):
    row = row_of(length, seed, unknown=True)
    before = row.inputs["tokens"].copy()
    (found,) = corrupted(objective, [row], seed, (0, 0))
    (positions, labels), tokens, units = found.targets["masked_lm"], found.inputs["tokens"].copy(), units_in(row, objective)
    assert {tokens.dtype, positions.dtype, labels.dtype} == {np.dtype(np.int64)}
    assert (np.diff(positions) > 0).all()
    tokens[positions] = labels
    assert np.array_equal(tokens, before)
    assert np.array_equal(row.inputs["tokens"], before)
    hidden = [unit for unit in units if unit[0] in positions]
    assert [position for unit in hidden for position in unit] == positions.tolist()
    if objective.choose == "budget":
        budget = min(objective.most or length, max(1, round(objective.rate * length)))
        assert len(positions) <= budget
        # Nothing that would still fit is left out, but by spans that met another one.
        assert objective.spans or all(len(unit) > budget - len(positions) for unit in units if unit not in hidden)
    if objective.choose == "share":
        assert len(hidden) - objective.rate * len(units) == pytest.approx(0, abs=1)


def in_fairseq_s_words(row, draws):
    """Hide as the RoBERTa of this project did before rows were changed a batch at a time."""
    tokens = row.inputs["tokens"].astype(np.int64)
    count = int(0.15 * len(tokens) + draws.uniform(1)[0])
    chosen = np.sort(draws.permutation(len(tokens))[:count])
    action, pool = draws.uniform(count), np.setdiff1d(np.arange(VOCABULARY.size), [0, 1, 2, 3])
    drawn = pool[draws.integers(count, len(pool))]
    hidden = tokens.copy()
    hidden[chosen] = np.where(action < 0.8, VOCABULARY.mask, np.where(action < 0.9, drawn, tokens[chosen]))
    return Row(row.inputs | {"tokens": hidden}).with_targets("masked_lm", Targets(chosen, tokens[chosen]))


@given(st.lists(st.integers(2, 200), min_size=1, max_size=4), seeds)
def test_the_draws_of_roberta_are_spent_in_a_fixed_order(lengths, seed):
    rows, keys = [row_of(length, seed % 99) for length in lengths], [(3, number) for number in range(len(lengths))]
    draws = RowDraws(seed, "train", keys)
    found = corrupted(MaskedLM(), rows, seed, *keys)
    assert all(same(one, in_fairseq_s_words(row, draws.of(index))) for index, (one, row) in enumerate(zip(found, rows, strict=True)))


def test_more_rows_than_a_block_holds_are_hidden_block_by_block():
    rows, keys = [row_of(512, number) for number in range(150)], [(0, number) for number in range(150)]
    together = corrupted(MaskedLM(), rows, 1, *keys)
    assert all(same(together[number], corrupted(MaskedLM(), [rows[number]], 1, keys[number])[0]) for number in (0, 63, 64, 127, 128, 149))
    assert corrupted(MaskedLM(), [], 1) == []


@cache
def text(length=LENGTH):
    """Return a million tokens as rows [CLS] A [SEP] B [SEP] of units of two tokens, but for the last of a part."""
    rows = ROWS * LENGTH // length
    tokens = 200 + Draws(0, "large").integers(rows * length, LARGE.size - 200).reshape(rows, length)
    tokens[:, 0], tokens[:, [length // 2, -1]] = LARGE.begin, LARGE.end
    goes_on = np.broadcast_to(np.arange(length) % 2 == 0, tokens.shape) & ~special(tokens)
    return Block(tokens, np.full(rows, length), goes_on)


def special(tokens):
    return np.isin(tokens, LARGE.special_ids)


def hide(objective, epoch=0, length=LENGTH, step=None):
    """Return which tokens of the text are hidden, bool [rows, length], and what the model sees."""
    block = text(length) if objective.needs_marks else text(length)._replace(goes_on=None)
    hidden = objective.hide(block, LARGE, RowDraws(5, "train", [(epoch, row) for row in range(len(block.tokens))]), step)
    mask = np.zeros(block.tokens.size, dtype=bool)
    mask[hidden.places] = True
    assert np.array_equal(hidden.tokens.reshape(-1)[~mask], block.tokens.reshape(-1)[~mask])
    return mask.reshape(block.tokens.shape), hidden.tokens


@systems
def test_80_10_10_over_a_million_tokens(objective):
    (mask, shown), tokens = hide(objective), text().tokens
    kinds = [shown[mask] == LARGE.mask, (shown != tokens)[mask] & (shown[mask] != LARGE.mask), (shown == tokens)[mask]]
    by_group = objective.action_per == "group"
    assert [kind.mean() for kind in kinds] == pytest.approx([0.8, 0.1, 0.1], abs=0.01 if by_group else 0.005)
    assert objective.predict_special or not mask[special(tokens)].any()
    if objective.needs_marks and not objective.spans:
        masked, kept = _in_pairs(mask, shown == LARGE.mask, shown == tokens)
        mixed = (masked[:, 0] != masked[:, 1]) | (kept[:, 0] != kept[:, 1])
        assert mixed.mean() < 1e-3 if by_group else mixed.mean() == pytest.approx(0.34, abs=0.006)


def _in_pairs(mask, *values):
    """Return values at both tokens of each hidden unit of two, one after the other."""
    goes_on = text().goes_on
    second = mask & goes_on
    first = np.zeros_like(second)
    first[:, :-1] = second[:, 1:]
    return [np.stack([value[first], value[second]], axis=1) for value in values]


@pytest.mark.parametrize(
    ("name", "length", "count"),
    [("BERT, 128 tokens", 128, 19), ("BERT, 128 tokens", 512, 20), ("BERT, 512 tokens", 512, 77), ("BERT, 512 tokens", 128, 19)],
)
def test_bert_hides_a_fixed_number_of_tokens(name, length, count):
    mask, _ = hide(OBJECTIVES[name], length=length)
    assert (mask.sum(axis=1) == count).all()
    if count in (19, 77):
        assert mask.mean() == pytest.approx(0.149, abs=0.003)


@pytest.mark.parametrize(("rate", "length", "count"), [(0.01, 4, 1), (0.5, 9, 4), (0.5, 11, 6), (0.15, 30, 4), (0.15, 10, 2)])
def test_a_budget_is_one_token_at_least_and_rounds_halves_to_even(rate, length, count):
    rows = [Row({"tokens": np.array([0, *range(10, 8 + length), 2])})]
    (hidden,) = corrupted(MaskedLM(choose="budget", predict_special=False, rate=rate), rows, 0, (0, 0))
    assert len(hidden.targets["masked_lm"].positions) == count


def test_the_lengths_of_spans_are_drawn_apart_from_their_places():
    objective, draws = MaskedLM(**BERT, spans=Ngrams()), RowDraws(5, "train", [(0, row) for row in range(ROWS)])
    units = Units(~special(text().tokens), None, draws.words(1 + LENGTH)[:, 1:])
    chosen = choose_spans(units, np.full(ROWS, 77), (1, 1 / 2, 1 / 3), share_of(draws.words(LENGTH, stream=1)))
    assert np.array_equal(np.flatnonzero(hide(objective)[0]), chosen.places)


def test_bert_s_tokens_are_all_as_likely():
    counts = hide(OBJECTIVES["BERT, 512 tokens"])[0].sum(axis=0)
    assert np.delete(counts, [0, 256, 511]).tolist() == pytest.approx([ROWS * 77 / 509] * 509, abs=4.5 * (ROWS * 0.15 * 0.85) ** 0.5)


@pytest.mark.parametrize(("name", "tolerance"), [("ERNIE 1.0, basic", 0.0015), ("ERNIE 1.0, phrases", 0.002)])
def test_ernie_hides_each_unit_on_its_own(name, tolerance):
    objective, text_tokens = OBJECTIVES[name], ~special(text().tokens)
    mask = hide(objective)[0][text_tokens]
    assert len(mask) > 900_000
    assert mask.mean() == pytest.approx(0.15, abs=tolerance)
    counts = hide(objective)[0].sum(axis=1)
    size = 2 if objective.needs_marks else 1
    assert counts.var() == pytest.approx(509 * 0.15 * 0.85 * size, rel=4 * (2 / ROWS) ** 0.5), "no budget holds a row to a number"


def test_whole_words_fill_bert_s_budget_as_far_as_they_fit():
    mask, _ = hide(OBJECTIVES["BERT-wwm"])
    assert (mask.sum(axis=1) == 77).mean() > 0.99, "nearly all rows have a word of one token to end with"
    goes_on = text().goes_on
    assert np.array_equal(mask[:, 1:][goes_on[:, 1:]], mask[:, :-1][goes_on[:, 1:]])


def test_77_of_512_in_four_of_five_rows():
    draws = [RowDraws(0, "train", [(epoch, row) for row in range(ROWS)]) for epoch in range(10)]
    block = text()._replace(goes_on=None)
    counts = np.concatenate([np.bincount(MaskedLM().hide(block, LARGE, some).places // LENGTH, minlength=ROWS) for some in draws])
    assert set(counts.tolist()) == {76, 77}
    assert (counts == 77).mean() == pytest.approx(0.8, abs=0.012)
    assert counts.mean() == pytest.approx(76.8, abs=0.012)


def test_epochs_choose_independently():
    first, second = hide(MaskedLM(), 0)[0], hide(MaskedLM(), 1)[0]
    assert (first == second).all(axis=1).sum() < 2
    overlap = (first & second).sum(axis=1) / (first | second).sum(axis=1)
    assert overlap.mean() == pytest.approx(0.15 / 1.85, abs=0.003)
    assert np.array_equal(first, hide(MaskedLM(), 0)[0])


def test_ten_static_masks_take_turns_over_forty_epochs(tmp_path):
    rows = [row_of(60, number).inputs["tokens"] for number in range(8)]
    folder = write_rows(tmp_path, rows, VOCABULARY, rows_per_chunk=4)
    reader = Reader(Reading({"t.train": folder}, {"t": (MaskedLM(static_masks=10),)}, VOCABULARY, seed=3, lanes=2, micro=8))
    seen = []
    for epoch in range(40):
        (batch,) = reader.batch(Moment(epoch, 0, "t", "t.train", 8, 8 * epoch))
        restored = batch.inputs["tokens"].copy()
        restored.reshape(-1)[batch.targets["masked_lm"].positions] = batch.targets["masked_lm"].labels
        seen.append({tuple(text): tuple(tokens) for text, tokens in zip(restored.tolist(), batch.inputs["tokens"].tolist(), strict=True)})
    assert all(len(found) == 8 for found in seen)
    assert all(seen[epoch] == seen[epoch % 10] for epoch in range(40))
    assert all(len({found[text] for found in seen}) == 10 for text in seen[0])


def test_a_mark_on_inner_characters_stands_for_a_temporary_continuation():
    # A vocabulary with each character twice, alone and as the inside of a word; 使用 语言 模型 来 预测 as single characters.
    words = ["使用", "语言", "模型", "来", "预测", "下", "一个", "词"]
    characters = sorted(set("".join(words)))
    inner = {200 + number for number in range(len(characters))}
    ids = [VOCABULARY.begin, *(10 + characters.index(character) for word in words for character in word), VOCABULARY.end]
    marks = [0, *(WORD * (place > 0) for word in words for place in range(len(word))), 0]
    rows = [Row({"tokens": np.array(ids), "marks": np.array(marks, dtype=np.uint8)})] * 300
    objective = MaskedLM(**BERT, unit="word", rate=0.3, random_share=0.0)
    seen = set()
    for row in corrupted(objective, rows, 0, *((0, number) for number in range(300))):
        positions, labels = row.targets["masked_lm"]
        spans = [set(range(start, start + len(word))) for start, word in zip(1 + np.cumsum([0, *map(len, words[:-1])]), words, strict=True)]
        assert all(span <= set(positions.tolist()) or not span & set(positions.tolist()) for span in spans)
        assert 1 <= len(positions) <= round(0.3 * len(ids))
        assert not inner & {*row.inputs["tokens"].tolist(), *labels.tolist()}
        seen.update(positions.tolist())
    assert seen == set(range(1, len(ids) - 1))


@systems
def test_text_that_is_not_marked_is_hidden_token_by_token(objective):
    rows = [Row(row_of(90, number).inputs | {"marks": np.zeros(90, dtype=np.uint8)}) for number in range(20)]
    keys = [(0, number) for number in range(20)]
    tokens = objective.model_copy(update={"unit": "token"})
    assert all(same(*pair) for pair in zip(corrupted(objective, rows, 1, *keys), corrupted(tokens, rows, 1, *keys), strict=True))


def test_each_unit_has_its_own_mark():
    # A word of two tokens in a phrase of four, which is part of an entity of five; all are in a row of seven.
    marks = np.array([0, 0, WORD | PHRASE | ENTITY, PHRASE | ENTITY, PHRASE | ENTITY | CAPITAL, ENTITY, 0], dtype=np.uint8)
    row = Row({"tokens": np.array([0, 10, 11, 12, 13, 14, 2]), "marks": marks})
    expected = {"token": 1, "word": 2, "phrase": 4, "entity": 5}
    for unit, size in expected.items():
        objective = MaskedLM(unit=unit, choose="each", predict_special=False, rate=0.5)
        found = {
            tuple(one.targets["masked_lm"].positions.tolist())
            for one in corrupted(objective, [row] * 200, 0, *((0, n) for n in range(200)))
        }
        assert min(len(hidden) for hidden in found if 1 in hidden) == size
        assert objective.reads == ({"marks"} if unit != "token" else set())
        assert objective.needs_marks == (unit != "token")


def test_a_rate_may_go_in_a_straight_line():
    objective = MaskedLM.model_validate_json('{"rate": {"start": 0.30, "end": 0.15, "steps": 1000}}')
    assert objective.rate == Ramp(start=0.3, end=0.15, steps=1000)
    assert [objective.rate_at(step) for step in (0, 500, 1000, 9999, None)] == pytest.approx([0.3, 0.225, 0.15, 0.15, 0.15])
    shares = [hide(objective, step=step)[0].mean() for step in (0, 500, 1000, None)]
    assert shares == pytest.approx([0.3, 0.225, 0.15, 0.15], abs=1e-4)
    assert np.array_equal(hide(objective)[0], hide(MaskedLM())[0])


@pytest.mark.parametrize(
    ("fields", "never"),
    [("text_or_mask", {LARGE.begin, LARGE.pad, LARGE.end, LARGE.unknown}), ("all_but_pad", {LARGE.pad}), ("all", set())],
)
def test_random_tokens_are_any_but_those_named(fields, never):
    vocabulary = Vocabulary(size=104, begin=101, pad=0, end=102, unknown=100, mask=103)
    block = Block(np.full((64, 512), 50), np.full(64, 512))
    objective = MaskedLM(rate=0.9, mask_share=0.0, random_share=1.0, random_ids=fields)
    hidden = objective.hide(block, vocabulary, RowDraws(0, "x", [(0, row) for row in range(64)]))
    drawn = np.bincount(hidden.tokens.reshape(-1)[hidden.places], minlength=104)
    assert set(np.flatnonzero(drawn == 0).tolist()) == never
    assert np.abs(drawn[drawn > 0] - drawn[drawn > 0].mean()).max() < 4.5 * drawn[drawn > 0].mean() ** 0.5


def test_shares_are_settings():
    kept, _ = (hide(MaskedLM(mask_share=0.5, random_share=0.2)) for _ in range(2))
    mask, shown = kept
    assert (shown[mask] == LARGE.mask).mean() == pytest.approx(0.5, abs=0.005)
    assert (shown == text().tokens)[mask].mean() == pytest.approx(0.3, abs=0.005)


def test_spans_of_spanbert_are_3_8_words_on_average():
    weights = np.array(Geometric().weights)
    assert (weights * np.arange(1, 11)).sum() / weights.sum() == pytest.approx(3.797, abs=1e-3)
    assert weights[1:] / weights[:-1] == pytest.approx([0.8] * 9)
    assert Ngrams().weights == pytest.approx((1, 1 / 2, 1 / 3))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"spans": Ngrams()}, "spans goes with a budget"),
        ({"most": 20, "choose": "each"}, "most goes with a budget"),
        ({"mask_share": 0.95}, "more than 1 together"),
        ({"rate": 1.0}, "less than 1"),
        ({"rate": "0.15"}, "valid number"),
        ({"rate": {"start": 0.3, "end": 0.15}}, "steps"),
        ({"spans": {"kind": "ngram"}, "choose": "budget"}, "did you mean 'ngrams'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        MaskedLM(**fields)


def test_what_is_missing_is_named():
    row = Row({"tokens": np.arange(9)})
    with pytest.raises(DataIntegrityError, match=r"rows have no marks, so no word is known\. Prepare the data with corpus\.units\."):
        corrupted(OBJECTIVES["BERT-wwm"], [row], 1, (0, 0))
    without = Vocabulary(size=300, begin=0, pad=0, end=0, unknown=None, mask=None)
    with pytest.raises(ConfigError, match="no mask token"):
        MaskedLM().corrupt([row], without, RowDraws(1, "x", [(0, 0)]))


def test_the_example_itself_and_other_targets_stay():
    row = Row(row_of(40).inputs, {"sop": Targets(np.array([0]), np.array([1]))})
    before = row.inputs["tokens"].copy()
    (hidden,) = corrupted(MaskedLM(), [row], 1, (0, 0))
    assert np.array_equal(row.inputs["tokens"], before)
    assert hidden.targets["sop"] is row.targets["sop"]
    assert hidden.inputs["segments"] is row.inputs["segments"]
    assert "masked_lm" not in row.targets


def test_pad_and_mask_are_never_predicted():
    assert np.flatnonzero(~MaskedLM().predictable(VOCABULARY)).tolist() == [VOCABULARY.pad, VOCABULARY.mask]
    assert np.flatnonzero(~MaskedLM(predict_special=False).predictable(VOCABULARY)).tolist() == [0, 1, 2, 3, 299]


@systems
def test_a_row_without_text_has_no_target(objective):
    for tokens in (np.full(9, VOCABULARY.pad), np.array([], dtype=np.int64)):
        (hidden,) = corrupted(objective, [Row({"tokens": tokens, "marks": np.zeros(len(tokens), np.uint8)})], 1, (0, 0))
        assert len(hidden.targets["masked_lm"].positions) == 0
        assert np.array_equal(hidden.inputs["tokens"], tokens)


def test_the_head_projects_onto_the_vocabulary():
    assert MaskedLM().head == HeadSpec("masked_lm")

"""How rows are shown: what was hidden, what belongs together, labels, and an order of prediction."""

import numpy as np
import pytest

from ptm_dist.cli.examples import _Shown
from ptm_dist.corpus.tokenizer import FolderTokenizer
from ptm_dist.corpus.wordpiece import WordPiece
from ptm_dist.data.batch import Row, Targets
from ptm_dist.data.marks import ENTITY, WORD
from tests.tiny import tiny_recipe

TOKENIZER = FolderTokenizer(WordPiece(vocab_size=160, least_count=1).train(iter(["aa bb cc dd"] * 9)).__getitem__)
MASK = TOKENIZER.vocabulary.mask


def shown(tokens, changed=None, targets=None, objective=None, **fields):
    tokens = np.array(tokens)
    recipe = tiny_recipe(
        corpus={"units": {"kind": "english"}},
        tasks={"mlm": {"format": {"kind": "segment_pair"}, "objectives": [objective or {"kind": "masked_lm"}]}},
    )
    arrays = {name: np.array(value) for name, value in fields.items()}
    after = Row(arrays | {"tokens": tokens if changed is None else np.array(changed)}, targets or {})
    return _Shown(recipe, "mlm", TOKENIZER, arrays | {"tokens": tokens}, after).text(5)


def ids(text):
    (found,) = TOKENIZER.encode([text])
    return found.tolist()


def style_of(text, part):
    """Return the style at the first place of a part."""
    at = text.plain.index(part)
    return next(str(span.style) for span in text.spans if span.start <= at < span.end and span.style != "bold")


def test_hidden_replaced_and_kept_tokens():
    a, b, c, d = ids("aa bb cc dd")
    text = shown([a, b, c, d], [MASK, a, c, d], {"masked_lm": Targets(np.array([0, 1, 2]), np.array([a, b, c]))})
    assert text.plain == "mlm row 5: 4 tokens\n [MASK]‹aa› aa‹bb› cc‹as is› dd"
    assert [style_of(text, part) for part in ("[MASK]", "aa‹bb", "cc")] == ["bold red", "bold magenta", "bold yellow"]


@pytest.mark.parametrize(("unit", "expected"), [("token", " aa bb cc dd"), ("word", " aa‿bb cc dd"), ("entity", " aa‿bb‿cc dd")])
def test_what_is_masked_together_is_tied(unit, expected):
    marks = [0, WORD | ENTITY, ENTITY, 0]
    objective = {"kind": "masked_lm", "unit": unit}
    assert shown(ids("aa bb cc dd"), objective=objective, marks=marks).plain.split("\n")[1] == expected


def test_segments_have_colours_and_labels_a_meaning():
    text = shown(ids("aa bb cc dd"), label=1, segments=[0, 0, 1, 1])
    assert text.plain.startswith("mlm row 5: 4 tokens, label 1 (another document)\n")
    assert style_of(text, "cc") == "cyan"


def test_labels_of_tokens_and_the_order_of_prediction():
    labels = {"classify_tokens": Targets(np.array([0, 1, 2]), np.array([1, 0, 1]))}
    assert shown(ids("aa bb cc dd"), targets=labels).plain.endswith(" aa/1 bb cc/1 dd")
    order = {"permutation_lm": Targets(np.array([1, 3]), np.array([7, 7]))}
    text = shown(ids("aa bb cc dd"), targets=order, key_order=[-1, 4, -1, 0], backward=[1, 1, 1, 1])
    assert text.plain == "mlm row 5: 4 tokens, right to left\n aa bb‹2› cc dd‹1›"

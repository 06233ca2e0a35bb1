"""RoBERTa's short formats: batches of constant tokens (systems page B, checks 32 and 33)."""

import numpy as np
import pytest

from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats import FORMATS
from ptm_dist.rng import Draws
from tests.texts import document, rows_of
from tests.tiny import tiny_recipe

VOCABULARY = Vocabulary(30_000, 0, 1, 2, 3, 4)


@pytest.fixture(scope="module")
def documents():
    draws = Draws(0, "documents")
    sizes = [5 + draws.integers(int(count), 40) for count in 2 + draws.integers(3000, 30)]
    return [document(str(number), [5 + draws.integers(int(size), 20_000) for size in found]) for number, found in enumerate(sizes)]


@pytest.mark.parametrize(("short", "long"), [("doc_sentences", "full_sentences"), ("sentence_pair", "segment_pair")])
def test_tokens_of_a_batch_stay_within_two_percent(documents, short, long):
    tokens = {}
    for kind in (short, long):
        rows = rows_of(FORMATS[kind](length=512), documents, VOCABULARY)
        lengths = np.array([len(row["tokens"]) for row in rows])
        batch = tiny_recipe(batch={"rows": None, "tokens": 256 * 512}).batch
        tokens[kind] = batch.rows_of(lengths.mean()) * lengths.mean()
    assert tokens[short] == pytest.approx(tokens[long], rel=0.02)


def test_doc_sentences_never_hold_two_documents(documents):
    sizes = [sum(len(sentence) + 1 for sentence in found.sentences) for found in documents]
    rows = rows_of(FORMATS["doc_sentences"](length=512), documents, VOCABULARY)
    assert len(rows) >= len(documents)
    stream = np.concatenate([row["tokens"][1:] for row in rows])
    bounds = set(np.cumsum(sizes).tolist())
    ends = np.cumsum([len(row["tokens"]) - 1 for row in rows]).tolist()
    assert bounds <= set(ends), "where a document ends a row ends"
    assert stream.tolist() == [token for found in documents for sentence in found.sentences for token in [*sentence["id"].tolist(), 2]]

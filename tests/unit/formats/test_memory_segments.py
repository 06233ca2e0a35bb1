"""XLNet's rows: the stream they walk along, and the pair behind it against every pair that the rules allow."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ptm_dist.data.document import TokenizedDocument, tokens
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.formats.memory_segments import MemorySegments
from ptm_dist.order import Order
from ptm_dist.rng import Draws
from tests.texts import document, rows_of

VOCABULARY = Vocabulary(size=1 << 20, begin=3, pad=5, end=4, unknown=0, mask=6, document_end=7)
SEP, CLS, EOD = 4, 3, 7


def corpus(*sizes):
    """Return documents of sentences of these sizes. Every token is of its own, and its mark is its last bit."""
    token, found = 10, []
    for number, lengths in enumerate(sizes):
        ends = np.cumsum([token, *lengths])
        sentences = [np.arange(start, end) for start, end in pairwise(ends)]
        found.append(TokenizedDocument(str(number), [tokens(sentence, sentence % 2) for sentence in sentences]))
        token = int(ends[-1])
    return found


def stream_of(documents):
    """Return the sentences of the stream as lists."""
    return [list(part) for document in documents for part in (*(s["id"].tolist() for s in document.sentences if len(s)), [EOD])]


def flat(sentences):
    return [token for sentence in sentences for token in sentence]


def long_text(tokens_at_least, seed=0):
    """Return the documents of a long stream: sentences of 3 to 42 tokens, documents of 1 to 30 sentences."""
    sizes, count = [], 0
    draws = Draws(seed, "corpus")
    while count < tokens_at_least:
        sizes.append((draws.integers(1 + int(draws.integers(1, 30)[0]), 40) + 3).tolist())
        count += sum(sizes[-1])
    return corpus(*sizes)


@pytest.fixture(scope="module")
def published():
    documents = long_text(60_000)
    return flat(stream_of(documents)), rows_of(MemorySegments(length=512), documents, VOCABULARY)


def test_layout(published):
    """Check 61 of the reference."""
    for row in published[1]:
        ids = row["tokens"]
        first, last = np.flatnonzero(ids == SEP)
        assert (len(ids), last, ids[-1]) == (512, 510, CLS)
        assert (first - 256) + (last - first - 1) == 253
        assert first > 256
        assert last > first + 1
        assert row["segments"].tolist() == [0] * (first + 1) + [1] * (last - first) + [2]
        assert row["segments"].dtype == row["backward"].dtype == np.uint8
        assert int(row["reuse"]) == 256
        assert int(row["label"]) in (0, 1)
        text = ids > EOD
        assert np.array_equal(row["marks"], np.where(text, ids % 2, 0))


def test_rows_walk_along_the_stream(published):
    """Check 57: what a row keeps for memory is followed by what the next keeps; left to right, then right to left."""
    stream, rows = published
    count = len(rows) // 2
    assert [int(row["backward"].max()) for row in rows] == [int(row["backward"].min()) for row in rows] == [0] * count + [1] * count
    for text, found in ((stream, rows[:count]), (stream[::-1], rows[count:])):
        assert flat(row["tokens"][:256].tolist() for row in found) == text[: 256 * count]
        assert len(text) - 256 * count < 512
        for number, row in enumerate(found):
            first = row["tokens"].tolist().index(SEP)
            assert row["tokens"][256:first].tolist() == text[256 * (number + 1) :][: first - 256]


def test_lanes_read_on(published):
    """In the order of tasks with memory a lane leaves its text only where the direction changes: one lane of all, once an epoch."""
    _, rows = published
    order = Order(np.array([7, len(rows) - 7]), lanes=5, seed=1, stateful=True)
    broken = 0
    for lane in range(5):
        read = [rows[order.locate(lane + 5 * entry).row]["tokens"].tolist() for entry in range(len(rows) // 5)]
        broken += sum(following[: row.index(SEP) - 256] != row[256 : row.index(SEP)] for row, following in pairwise(read))
    assert broken == 1


def test_one_direction_is_the_first_half(published):
    documents = long_text(60_000)
    forward = rows_of(MemorySegments(length=512, both_directions=False), documents, VOCABULARY)
    assert len(forward) == len(published[1]) // 2
    for row, same in zip(forward, published[1], strict=False):
        assert same.keys() - row.keys() == {"backward"}
        assert all(np.array_equal(values, same[name]) for name, values in row.items())


def fitted(first, second, count):
    """Take tokens from the right of the longer part, one by one."""
    first, second = list(first), list(second)
    while len(first) + len(second) > count:
        (first if len(first) > len(second) else second).pop()
    return first, second


def possible(sentences, start, count):
    """Return every (A, B, label) that may follow `start` tokens of a stream: by its words, and with no thought of speed."""
    text, starts, place = flat(sentences), [], 0
    for sentence in sentences:
        starts.append(place)
        place += len(sentence)
    ends = [*starts[1:], place]
    cuts = [end for end in ends if start < end < start + count]
    enough = min(end for end in ends if end >= start + count)
    found = [(*fitted(text[start:cut], text[cut:enough], count), 1) for cut in cuts]
    for cut in cuts or [enough]:
        wanted = max(1, count - (cut - start))
        for place in range(len(text) - wanted + 1):
            begin = max(number for number in starts if number <= place)
            end = min(number for number in ends if number >= place + wanted)
            found.append((*fitted(text[start:cut], text[begin:end], count), 0))
    return found


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=8), min_size=1, max_size=4),
    st.integers(12, 24),
    st.sampled_from([None, 1, 5]),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_a_pair_is_one_that_the_rules_allow(sizes, length, reuse, seed):
    documents = corpus(*sizes)
    layout = MemorySegments(length=length, reuse=reuse, seed=seed)
    rows = rows_of(layout, documents, VOCABULARY)
    sentences = stream_of([found for found in documents if sum(map(len, found.sentences))])
    advance, count = reuse or length // 2, length - (reuse or length // 2) - 3
    starts = range(0, len(flat(sentences)) - advance - count + 1, advance)
    assert len(rows) == 2 * len(starts)
    for number, row in enumerate(rows):
        backward, start = divmod(number, len(starts))
        text = [sentence[::-1] for sentence in sentences[::-1]] if backward else sentences
        ids = row["tokens"].tolist()
        middle = ids.index(SEP)
        assert ids[:advance] == flat(text)[start * advance : (start + 1) * advance]
        pair = ids[advance:middle], ids[middle + 1 : -2], int(row["label"])
        assert pair in possible(text, (start + 1) * advance, count)


def test_ends_and_random_places_are_uniform():
    """Sentences of 11 tokens fit rows exactly: 22 of them may end A."""
    documents = corpus([11] * 3000)
    layout = MemorySegments(length=11 + 253 + 3, reuse=11, both_directions=False)
    rows = rows_of(layout, documents, VOCABULARY)
    labels = np.array([int(row["label"]) for row in rows])
    assert abs(labels.sum() - len(rows) / 2) < 4 * (len(rows) / 4) ** 0.5
    separators = np.array([np.flatnonzero(row["tokens"] == SEP)[0] for row in rows])
    ends = Counter(((separators[labels == 1] - 11) // 11).tolist())
    assert ends.keys() == set(range(1, 23))
    expected = labels.sum() / 22
    assert all(abs(found - expected) < 4 * expected**0.5 for found in ends.values())
    begins = np.array([row["tokens"][separator + 1] - 10 for row, separator in zip(rows, separators, strict=True)])
    assert ((begins % 11 == 0) | (begins < 0)).all(), "B begins with a sentence, or with the end of the document"
    shares = begins[(labels == 0) & (begins >= 0)] / 33_000
    assert abs(shares.mean() - 0.5) < 4 * 12**-0.5 / len(shares) ** 0.5 + 253 / 33_000
    assert np.histogram(shares, 10, (0, 1))[0].min() > len(shares) / 10 - 4 * (len(shares) / 10) ** 0.5 - len(shares) * 253 / 33_000


def test_every_pair_that_the_rules_allow_comes_up():
    documents = corpus([5, 3, 1, 4], [2, 6, 3])
    rows = [rows_of(MemorySegments(length=20, reuse=4, seed=seed), documents, VOCABULARY)[0] for seed in range(3000)]
    found = set()
    for row in rows:
        ids = row["tokens"].tolist()
        found.add((*ids[4 : ids.index(SEP)], "", *ids[ids.index(SEP) + 1 : -2], int(row["label"])))
    assert found == {(*one, "", *two, label) for one, two, label in possible(stream_of(documents), 4, 13)}


def test_draws_differ_by_row_direction_document_and_seed():
    documents = corpus([3] * 600)
    renamed = [TokenizedDocument(f"x{found.id}", found.sentences) for found in documents]
    cases = [(1, documents), (2, documents), (1, renamed)]
    labels = [[int(row["label"]) for row in rows_of(MemorySegments(length=64, seed=seed), found, VOCABULARY)] for seed, found in cases]
    sequences = {tuple(part) for found in labels for part in (found[: len(found) // 2], found[len(found) // 2 :])}
    assert len(sequences) == 6
    assert {0, 1} == set(labels[0])


def test_what_gives_no_row_is_counted():
    skipped = Counter()
    documents = [document("a", [[]]), document("b", [[8] * 20]), document("c", [])]
    assert list(MemorySegments(length=32).examples(iter(documents), VOCABULARY, skipped)) == []
    assert skipped == {"empty": 2, "too_short": 1}
    skipped.clear()
    assert len(list(MemorySegments(length=24).examples(iter(documents), VOCABULARY, skipped))) == 2
    assert skipped == {"empty": 2}


def test_a_tokenizer_without_eod_ends_documents_as_it_ends_segments():
    plain = Vocabulary(size=300, begin=3, pad=5, end=4, unknown=0, mask=6)
    rows = rows_of(MemorySegments(length=16, reuse=6, both_directions=False), [document(name, [[9] * 4]) for name in "abcde"], plain)
    assert [row["tokens"][:6].tolist() for row in rows] == [[9, 9, 9, 9, 4, 9], [9, 9, 9, 4, 9, 9], [9, 9, 4, 9, 9, 9]]


@pytest.mark.parametrize(("length", "reuse"), [(8, None), (32, 28), (32, 40)])
def test_a_pair_needs_room(length, reuse):
    with pytest.raises(ValidationError, match=f"length {length} leaves no room for a pair"):
        MemorySegments(length=length, reuse=reuse)
    assert MemorySegments(length=9).pair_tokens == MemorySegments(length=32, reuse=27).pair_tokens == 2


def test_it_says_what_it_is():
    assert MemorySegments.stateful
    assert MemorySegments(length=64).classes == 2
    assert [MemorySegments(length=64).meaning(label) for label in (0, 1)] == ["random place", "goes on"]
    assert MemorySegments(length=65).reused == 32

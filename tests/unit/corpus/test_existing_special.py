"""Special tokens that a tokenizer gets for fine-tuning: the last ids, which no text is cut into, in transformers too."""

import json

import pytest
import transformers

from ptm_dist.corpus.existing import ADDED, Existing
from ptm_dist.corpus.gpt_bpe import GptBPE
from ptm_dist.corpus.tokenizer import ByteBPE, load_tokenizer
from ptm_dist.corpus.wordpiece import WordPiece
from ptm_dist.data.joining import NEW
from ptm_dist.errors import ConfigError

TEXTS = ["the cat sat on the mat, the other cat did not; 100, or 5. " * 5]
MADE = {
    "gpt": GptBPE(vocab_size=120, least_count=1),
    "gpt2": ByteBPE(vocab_size=300, specials="gpt2"),
    "bert": WordPiece(vocab_size=150, least_count=1),
}


def write(files, folder):
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(params=MADE)
def folder(request, tmp_path):
    return write(MADE[request.param].train(iter(TEXTS)), tmp_path / "before")


def with_special(folder, into, **more):
    return write(Existing(folder=str(folder), special=NEW, **more).train(iter(())), into)


def test_they_are_the_last_ids_in_their_order(folder, tmp_path):
    before, after = load_tokenizer(folder), load_tokenizer(with_special(folder, tmp_path / "after"))
    size = before.vocabulary.size
    assert after.vocabulary.to_json() == before.vocabulary.to_json() | {"size": size + 3}
    assert after.decode([size, size + 1, size + 2]).replace(" ", "") == "".join(NEW)
    assert Existing(folder=str(folder), special=NEW).vocab_size == size + 3
    told = json.loads((tmp_path / "after" / ADDED).read_text())["words"]
    assert told == {str(size + number): [] for number in range(3)}


def test_a_text_that_is_written_like_them_is_a_text(folder, tmp_path):
    text = "the <start> cat <extract> sat<delimiter>"
    before, after = load_tokenizer(folder), load_tokenizer(with_special(folder, tmp_path / "after"))
    assert after.encode([text])[0].tolist() == before.encode([text])[0].tolist()


def test_transformers_finds_them(folder, tmp_path):
    after = with_special(folder, tmp_path / "after")
    size = load_tokenizer(folder).vocabulary.size
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(after)
    assert theirs.convert_tokens_to_ids(list(NEW)) == [size, size + 1, size + 2]
    assert len(theirs) == size + 3


def test_words_come_before_them(folder, tmp_path):
    (tmp_path / "words.txt").write_text("the mat\n")
    size = load_tokenizer(folder).vocabulary.size
    after = load_tokenizer(with_special(folder, tmp_path / "after", add=str(tmp_path / "words.txt")))
    assert after.vocabulary.size == size + 4
    assert after.encode(["on the mat"])[0].tolist()[-1] == size
    assert after.decode([size + 3]) == "<extract>"


def test_a_tokenizer_that_has_them_stays_as_it_is(folder, tmp_path):
    once = with_special(folder, tmp_path / "once")
    twice = with_special(once, tmp_path / "twice")
    assert (twice / "tokenizer.json").read_bytes() == (once / "tokenizer.json").read_bytes()
    assert not (twice / ADDED).exists()


def test_one_that_stands_elsewhere_is_refused(folder, tmp_path):
    write(Existing(folder=str(folder), special=("<extract>", "<other>")).train(iter(())), tmp_path / "once")
    with pytest.raises(ConfigError, match=r"tokenizer.special: they must be the last ids of .*<extract> \d+ of \d+. Rename them"):
        with_special(tmp_path / "once", tmp_path / "twice")


def test_digests_from_before_stay():
    assert "special" not in Existing(folder="x").model_dump()

"""Tokenizers of GPT-2, GPT, ALBERT, XLNet and ERNIE that others made, in each form in which they come."""

import json
import shutil

import pytest
import transformers

from ptm_dist.corpus.existing import Existing, open_tokenizer
from ptm_dist.corpus.gpt_bpe import GptBPE
from ptm_dist.corpus.tokenizer import ByteBPE, load_tokenizer
from ptm_dist.corpus.unigram import Unigram
from ptm_dist.errors import ConfigError, DataIntegrityError

TEXTS = ["the cat sat on the mat, the other cat did not; 100, or 5. " * 5, "naïve [MASK] <mask> <s> <unk>\n"]
TEXT = "the cats sat, [MASK] <mask> <s> <unk> <|endoftext|> on 100, mats"
MADE = {
    "roberta": (ByteBPE(vocab_size=300), "RobertaTokenizer"),
    "gpt2": (ByteBPE(vocab_size=300, specials="gpt2"), "GPT2Tokenizer"),
    "gpt": (GptBPE(vocab_size=120, least_count=1), "OpenAIGPTTokenizer"),
    "albert": (Unigram(vocab_size=80), "AlbertTokenizer"),
    "xlnet": (Unigram(vocab_size=80, specials="xlnet"), "XLNetTokenizer"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folders = {}
    for name, (tokenizer, _) in MADE.items():
        folders[name] = tmp_path_factory.mktemp(name)
        for file, data in tokenizer.train(iter(TEXTS)).items():
            (folders[name] / file).write_bytes(data)
    return folders


def without(folder, names, into):
    """Copy a folder less some files."""
    shutil.copytree(folder, into, ignore=shutil.ignore_patterns(*names))
    return into


@pytest.mark.parametrize("name", MADE)
def test_older_files_are_as_good_as_tokenizer_json(made, name, tmp_path):
    """Without vocabulary.json, which only ptm_dist writes, special tokens are found by what Hugging Face calls them."""
    ours, older = load_tokenizer(made[name]), open_tokenizer(without(made[name], ["tokenizer.json", "vocabulary.json"], tmp_path / name))
    assert older.encode([TEXT])[0].tolist() == ours.encode([TEXT])[0].tolist()
    assert older.vocabulary == ours.vocabulary


@pytest.mark.parametrize("name", MADE)
def test_bare_files_without_a_word_on_special_tokens_are_enough(made, name, tmp_path):
    names = ["tokenizer.json", "vocabulary.json", "special_tokens_map.json", "tokenizer_config.json"]
    assert open_tokenizer(without(made[name], names, tmp_path / name)).vocabulary == load_tokenizer(made[name]).vocabulary


@pytest.mark.parametrize("name", sorted(MADE.keys() - {"gpt"}))
def test_what_transformers_saved_is_read_back(made, name, tmp_path):
    theirs = getattr(transformers, MADE[name][1]).from_pretrained(made[name])
    theirs.save_pretrained(tmp_path / name)
    found, ours = open_tokenizer(tmp_path / name), load_tokenizer(made[name])
    assert found.vocabulary == ours.vocabulary
    plain = "the cats sat, on 100, mats"
    assert found.encode([plain])[0].tolist() == theirs(plain, add_special_tokens=False)["input_ids"]
    unknown = {ours.vocabulary.unknown}
    assert not set(found.encode([TEXT])[0].tolist()) & (set(found.vocabulary.special_ids) - unknown), "special tokens in a text are letters"


def test_gpt_saved_by_transformers_has_one_special_token(made, tmp_path):
    """It cuts words as transformers does."""
    theirs = transformers.OpenAIGPTTokenizer.from_pretrained(made["gpt"])
    theirs.save_pretrained(tmp_path / "gpt")
    found = open_tokenizer(tmp_path / "gpt")
    assert found.encode(["the -- cat's"])[0].tolist() == theirs("the -- cat's")["input_ids"]
    assert found.vocabulary == load_tokenizer(made["gpt"]).vocabulary


@pytest.mark.parametrize(("name", "ids"), [("albert", (2, 0, 3, 1, 4, None)), ("xlnet", (3, 5, 4, 0, 6, 7))])
def test_special_ids_of_sentencepiece_models(made, name, ids, tmp_path):
    found = open_tokenizer(without(made[name], ["*.json"], tmp_path / name)).vocabulary
    assert (found.begin, found.pad, found.end, found.unknown, found.mask, found.document_end) == ids


def test_nothing_is_unknown_to_gpt2(made, tmp_path):
    """Though Hugging Face names a token for it, the same that begins and ends."""
    folder = without(made["gpt2"], ["vocabulary.json"], tmp_path / "gpt2")
    assert json.loads((folder / "special_tokens_map.json").read_text())["unk_token"] == "<|endoftext|>"
    found = open_tokenizer(folder).vocabulary
    assert (found.unknown, found.mask) == (None, None)
    assert found.begin == found.pad == found.end == found.size - 1


def test_a_space_before_each_text_is_a_setting(made, tmp_path):
    folder = without(made["roberta"], ["tokenizer.json", "vocabulary.json"], tmp_path / "spaced")
    config = json.loads((folder / "tokenizer_config.json").read_text()) | {"add_prefix_space": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert open_tokenizer(folder).encode(["the"])[0].tolist() == load_tokenizer(made["roberta"]).encode([" the"])[0].tolist()


def test_ids_of_ernie(tmp_path):
    """Its special tokens have other places than BERT's: [MASK] third, [UNK] the last."""
    words = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(17_959)), "[UNK]"]
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    found = open_tokenizer(tmp_path).vocabulary
    assert (found.size, found.pad, found.begin, found.end, found.mask, found.unknown) == (17_964, 0, 1, 2, 3, 17_963)


def test_a_word_of_200_letters_has_pieces_and_one_of_201_is_unknown(tmp_path):
    """As in the original; the tokenizers library ends at 100."""
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##a\n")
    ids = open_tokenizer(tmp_path).encode(["a" * 200, "a" * 201])
    assert [found.tolist() for found in ids] == [[5, *[6] * 199], [1]]


def test_each_file_counts_for_the_digest(made, tmp_path):
    for name, file in (("gpt2", "merges.txt"), ("gpt2", "vocab.json"), ("albert", "spiece.model")):
        folder = without(made[name], ["tokenizer.json", "vocabulary.json"], tmp_path / file)
        before = Existing(folder=str(folder)).library
        with (folder / file).open("ab") as opened:
            opened.write(b" ")
        assert Existing(folder=str(folder)).library != before


def test_what_cannot_be_read_is_said(made, tmp_path):
    """Each with the file, and what to do."""
    cases = [
        ("gpt2", "vocab.json", b'{"a": 0}', ConfigError, "neither all bytes, as that of GPT-2, nor the end of a line"),
        ("gpt2", "merges.txt", b"no suchpair\n", ConfigError, "cannot be read .* Save the tokenizer again"),
        ("albert", "spiece.model", b"\xff", DataIntegrityError, "spiece.model"),
    ]
    for name, file, data, error, message in cases:
        folder = without(made[name], ["tokenizer.json", "vocabulary.json"], tmp_path / file)
        (folder / file).write_bytes(data)
        with pytest.raises(error, match=message):
            open_tokenizer(folder)
    folder = without(made["albert"], ["tokenizer.json", "vocabulary.json"], tmp_path / "accents")
    (folder / "tokenizer_config.json").write_text(json.dumps({"keep_accents": True}))
    with pytest.raises(ConfigError, match="without accents"):
        open_tokenizer(folder)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match="the tokenizer cannot be read"):
        open_tokenizer(tmp_path / "broken")

"""Preparation beyond plain sentences: units that outlive a change of tokenizer and mask, other cuts, documents that cannot be used."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from ptm_dist.corpus.chinese import ChineseUnits
from ptm_dist.corpus.english import EnglishUnits
from ptm_dist.corpus.split import SplitSettings
from ptm_dist.corpus.tokenizer import ByteBPE, load_tokenizer
from ptm_dist.corpus.word_list import WordList
from ptm_dist.corpus.wordpiece import WordPiece
from ptm_dist.data.dataset import Dataset, RowReader
from ptm_dist.data.example import NO_LABEL
from ptm_dist.data.marks import WORD
from ptm_dist.driver.prepare import prepare
from ptm_dist.errors import DataUnavailableError
from ptm_dist.formats import FORMATS
from ptm_dist.objectives.masked_lm import MaskedLM

from . import small_corpus

pytestmark = pytest.mark.usefixtures("ray_head")
WWM = (MaskedLM(unit="word", choose="budget"),)


def recipe_of(folder, layout, objectives=(), tokenizer=None, units=None):
    recipe = small_corpus.recipe_of(folder, split=SplitSettings(validation=0.3), units=units)
    recipe.tokenizer = tokenizer or recipe.tokenizer
    recipe.tasks = {"t": SimpleNamespace(format=layout, objectives=objectives, sources=())}
    return recipe


def write(folder, texts):
    folder.mkdir(exist_ok=True)
    lines = [text if isinstance(text, dict) else {"text": text} for text in texts]
    (folder / "a.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return folder


def rows(prepared, split="train"):
    dataset = Dataset.open(prepared.datasets["t"][split])
    reader = RowReader(dataset, 2)
    return [reader.read(number, place) for number, chunk in enumerate(dataset.chunks) for place in range(chunk.rows)]


def stages(cache, name):
    return sorted(path.name for path in cache.glob(f"{name}-*"))


CHINESE = [f"使用语言模型来预测下一个词的概率，第{number}次。我们在北京大学研究汉语。" for number in range(12)]


@pytest.mark.parametrize("tokenizer", [WordPiece(vocab_size=900, chinese=("gb2312",), least_count=1), ByteBPE(vocab_size=262)])
def test_words_of_chinese_are_marked_whatever_the_tokenizer(tmp_path, tokenizer):
    if tokenizer.kind == "wordpiece":
        tokenizer = tokenizer.model_copy(update={"vocab_size": 9000})
    folder = write(tmp_path / "zh", CHINESE)
    recipe = recipe_of(folder, FORMATS["full_sentences"](length=96), WWM, tokenizer, ChineseUnits())
    prepared = prepare(recipe, tmp_path / "cache", lambda *_: None)
    opened, found = load_tokenizer(prepared.tokenizer), set()
    for row in rows(prepared):
        begins = np.flatnonzero((row["marks"] & WORD) == 0)
        words = np.split(row["tokens"], begins[1:])
        found |= {opened.decode(word.tolist()).replace(" ", "") for word in words}
    assert {"使用", "语言", "模型", "来", "预测", "概率", "，", "我们", "汉语"} <= found
    assert not any(len(word) == 1 and word in "使用语言模型预测概率汉" for word in found), "no word is cut in two"


def test_units_are_found_once_for_any_tokenizer_and_mask(tmp_path):
    folder, cache = write(tmp_path / "zh", CHINESE), tmp_path / "cache"
    layout = FORMATS["full_sentences"](length=64)
    prepare(recipe_of(folder, layout, WWM, units=ChineseUnits()), cache, lambda *_: None)
    units, tokens, examples = (stages(cache, name) for name in ("units", "tokens", "examples"))
    plain = prepare(recipe_of(folder, layout, (MaskedLM(),), units=ChineseUnits()), cache, lambda *_: None)
    assert "marks" not in rows(plain)[0], "marks are stored where somebody reads them"
    assert (stages(cache, "units"), stages(cache, "tokens")) == (units, tokens)
    assert len(stages(cache, "examples")) == len(examples) + 1
    prepare(recipe_of(folder, layout, WWM, ByteBPE(vocab_size=400), ChineseUnits()), cache, lambda *_: None)
    assert stages(cache, "units") == units
    assert len(stages(cache, "tokens")) == len(tokens) + 1
    prepare(recipe_of(folder, layout, WWM, units=ChineseUnits(entities=False)), cache, lambda *_: None)
    assert len(stages(cache, "units")) == len(units) + 1


def test_capitals_are_those_of_the_text_as_it_was_written(tmp_path):
    folder = write(tmp_path / "en", [f"Paris is BIG number{'s' * number}." for number in range(12)])
    recipe = recipe_of(folder, FORMATS["token_labels"](length=32, label="capital"), (), WordPiece(vocab_size=160), EnglishUnits())
    prepared = prepare(recipe, tmp_path / "cache", lambda *_: None)
    opened = load_tokenizer(prepared.tokenizer)
    for row in rows(prepared):
        labels = {NO_LABEL: "-"} | {number: str(number) for number in (0, 1)}
        pieces = opened.pieces(row["tokens"].tolist())
        told, word = [], ""
        for piece, label in zip(pieces[1:-1], row["labels"].tolist()[1:-1], strict=True):
            word = piece if piece.startswith(" ") or not piece.strip().isalpha() else word + piece
            told.append((word.strip(), labels[label]))
        by_word = {}
        for word, label in told:
            by_word.setdefault(word[:1], set()).add(label)
        assert by_word == {"p": {"1"}, "i": {"0"}, "b": {"1"}, "n": {"0"}, ".": {"0"}}, "every piece of a word has its label, in lower case"


def test_text_keeps_its_spaces_for_gpt(tmp_path):
    texts = [f"One line {number}.\n\n  Another,  with spaces.\n" for number in range(12)]
    recipe = recipe_of(write(tmp_path / "en", texts), FORMATS["contiguous"](length=16), (), ByteBPE(vocab_size=300, specials="gpt2"))
    prepared = prepare(recipe, tmp_path / "cache", lambda *_: None)
    opened = load_tokenizer(prepared.tokenizer)
    stream = opened.decode([int(token) for row in rows(prepared) for token in row["tokens"]])
    kept = [text.strip() for text in texts if text.strip() in stream]
    assert stream == "".join(f"{text}<|endoftext|>" for text in kept)
    assert len(kept) > 4


def test_words_come_with_their_letters_for_elmo(tmp_path):
    folder = write(tmp_path / "en", [f"Ünïcode words, word{number}." for number in range(12)])
    recipe = recipe_of(folder, FORMATS["word_streams"](length=8), (), WordList(vocab_size=50, least_count=2))
    prepared = prepare(recipe, tmp_path / "cache", lambda *_: None)
    unknown = load_tokenizer(prepared.tokenizer).vocabulary.unknown
    found = {
        (bytes(letters).decode(), int(token) == unknown)
        for row in rows(prepared)
        for letters, token in zip(row["letters"], row["tokens"], strict=True)
    }
    assert {("Ünïcode", False), ("words", False), (",", False), ("", False)} <= found
    assert any(word.startswith("word") and is_unknown for word, is_unknown in found), "rare words are unknown and yet spelled"


@pytest.mark.parametrize(
    ("kind", "texts", "reason"),
    [
        ("segment_pair", ["One sentence only"] * 12, "one_sentence"),
        ("relevance", ["No title here. None."] * 12, "no_title"),
        ("discourse", ["It rained. We stayed."] * 12, "no_connective"),
    ],
)
def test_where_no_document_can_be_used_the_reason_is_told(tmp_path, kind, texts, reason):
    folder = write(tmp_path / "en", [{"text": f"{text} {number}", "id": number} for number, text in enumerate(texts)])
    extra = {"pair": "sop"} if kind == "segment_pair" else {}
    recipe = recipe_of(folder, FORMATS[kind](length=32, **extra))
    with pytest.raises(DataUnavailableError, match=rf"tasks\.t: its format made no example of the train split \(\d+ {reason}\)\. Give the"):
        prepare(recipe, tmp_path / "cache", lambda *_: None)


def test_documents_that_give_no_row_are_counted(tmp_path):
    texts = ["One sentence only."] * 20 + ["Two here. The other."] * 40
    folder = write(tmp_path / "en", [text.replace(".", f" {number}.") for number, text in enumerate(texts)])
    prepared = prepare(recipe_of(folder, FORMATS["segment_pair"](length=32, pair="sop")), tmp_path / "cache", lambda *_: None)
    told = prepared.summary["examples"]["t"]
    assert sum(told[split]["skipped"]["one_sentence"] for split in told) == 20
    assert sum(told[split]["rows"] for split in told) == 40

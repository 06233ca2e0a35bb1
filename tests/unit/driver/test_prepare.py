import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ptm_dist.corpus.clean import CleanSettings
from ptm_dist.corpus.dedup import DedupSettings
from ptm_dist.corpus.split import SplitSettings
from ptm_dist.corpus.stored import read_documents
from ptm_dist.corpus.tokenizer import load_tokenizer
from ptm_dist.data.dataset import Dataset, RowReader
from ptm_dist.driver.prepare import prepare
from ptm_dist.errors import DataUnavailableError
from ptm_dist.formats.full_sentences import FullSentences
from ptm_dist.formats.segment_pair import SegmentPair

from . import small_corpus

pytestmark = pytest.mark.usefixtures("ray_head")


def quiet(*_):
    pass


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(autouse=True)
def _small_tasks(monkeypatch):
    small_corpus.use_small_tasks(monkeypatch.setattr)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts") / "corpus"
    small_corpus.write_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def built(ray_head, texts, tmp_path_factory):
    """An undisturbed preparation: (cache, what it returned)."""
    cache = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        small_corpus.use_small_tasks(patch.setattr)
        return cache, prepare(small_corpus.recipe_of(texts), cache, quiet)


def test_what_is_prepared_is_what_was_written(built):
    _, prepared = built
    counts = prepared.summary["sources"]["help"]
    assert counts["dropped"]["empty"] >= 12
    assert counts["dropped"]["duplicate"] >= 11
    assert counts["read"] == counts["kept"] + sum(counts["dropped"].values())
    assert counts["kept"] == sum(counts["splits"].values())
    assert 0.03 < counts["splits"]["validation"] / counts["kept"] < 0.07
    tokenizer = load_tokenizer(prepared.tokenizer)
    assert tokenizer.vocabulary.size == prepared.summary["vocabulary"] == 600
    assert list(prepared.datasets) == ["mlm"]
    assert list(prepared.datasets["mlm"]) == ["train", "validation"]
    for split, folder in prepared.datasets["mlm"].items():
        dataset = Dataset.open(folder)
        dataset.verify()
        assert {"rows": dataset.rows, "tokens": dataset.tokens, "skipped": {}} == prepared.summary["examples"]["mlm"][split]
        assert (dataset.about["task"], dataset.about["split"], dataset.about["format"]["length"]) == ("mlm", split, 32)
        assert dataset.about["counts"] == counts
        assert dataset.token_counts.sum() == dataset.tokens
        text = tokenizer.decode(RowReader(dataset, 1).read(0, 0)["tokens"].tolist())
        assert text.startswith("<s>")


def test_no_validation_document_is_trained_on(built):
    cache, _ = built
    documents = {path.name[:11]: list(read_documents(path)) for path in cache.glob("documents-*/*.jsonl.zst")}
    deals = {path.stem: np.load(path) for path in cache.glob("deal-*/help/*.npy")}
    texts = {
        code: {d.text for name, found in documents.items() for d, c in zip(found, deals[name], strict=True) if c == code} for code in (0, 1)
    }
    assert texts[0]
    assert texts[1]
    assert not texts[0] & texts[1]


def test_the_stock_library_reads_what_was_prepared(built):
    import webdataset

    for folder in built[1].datasets["mlm"].values():
        urls = [str(path) for path in sorted(folder.glob("*.tar"))]
        rows = sum(len(chunk["lengths.npy"]) for chunk in webdataset.WebDataset(urls, shardshuffle=False).decode())
        assert rows == Dataset.open(folder).rows


def test_a_second_time_everything_is_there(built, texts):
    cache, prepared = built
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file() and path.name != ".lock"}
    assert prepare(small_corpus.recipe_of(texts), cache, quiet) == prepared
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_rebuild_elsewhere_is_equal_to_the_byte(built, texts, tmp_path):
    shutil.copytree(texts, tmp_path / "moved")
    prepare(small_corpus.recipe_of(tmp_path / "moved"), tmp_path / "cache", quiet)
    assert contents(tmp_path / "cache") == contents(built[0])


def start(texts, cache):
    command = [sys.executable, str(Path(small_corpus.__file__)), str(texts), str(cache)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def kill_after(process, cache, markers):
    """Kill the process and its group as soon as so many tasks are done, and return their markers' times."""
    deadline = time.monotonic() + 60
    while len(list(cache.glob("*/tasks/*.json"))) < markers:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(1)  # Ray's workers notice within a moment that their driver is gone
    return {path: path.stat().st_mtime_ns for path in cache.glob("*/tasks/*.json")}


@pytest.mark.parametrize("markers", [1, 8, 18])
def test_killed_anywhere_and_started_again_gives_the_same_bytes(built, texts, tmp_path, markers):
    done = kill_after(start(texts, tmp_path), tmp_path, markers)
    assert len(done) < len(list(built[0].glob("*/tasks/*.json")))
    prepare(small_corpus.recipe_of(texts), tmp_path, quiet)
    assert contents(tmp_path) == contents(built[0])
    assert {path: path.stat().st_mtime_ns for path in done} == done


def test_too_little_text_says_what_to_do(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": ""}\n{"text": "short"}\n')
    recipe = small_corpus.recipe_of(tmp_path, clean=CleanSettings(least_characters=10))
    with pytest.raises(DataUnavailableError, match=r"2 documents were read, 0 kept; dropped: 1 empty, 1 too_short\. No text is left"):
        prepare(recipe, tmp_path / "cache", quiet)
    (tmp_path / "a.jsonl").write_text('{"text": "one document"}\n')
    with pytest.raises(DataUnavailableError, match=r"1 kept.*None of them fell into the validation split.*corpus\.split\.validation"):
        prepare(small_corpus.recipe_of(tmp_path, split=SplitSettings(validation=0.001)), tmp_path / "cache", quiet)


def test_bad_input_comes_back_from_the_worker_as_it_is(tmp_path):
    with pytest.raises(DataUnavailableError, match="matches no file"):
        prepare(small_corpus.recipe_of(tmp_path / "missing.txt"), tmp_path / "cache", quiet)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataUnavailableError, match="not UTF-8 at byte 0"):
        prepare(small_corpus.recipe_of(tmp_path / "a.txt"), tmp_path / "cache", quiet)


def test_tasks_read_the_sources_they_name(texts, tmp_path):
    recipe = small_corpus.recipe_of(texts / "0*.jsonl", split=SplitSettings(validation=0.2, test=0.2), dedup=DedupSettings(exact=False))
    recipe.sources["more"] = small_corpus.TextSource(paths=(str(texts / "1*.jsonl"),))
    recipe.tasks["long"] = SimpleNamespace(format=FullSentences(length=64), objectives=(), sources=("more",))
    prepared = prepare(recipe, tmp_path, quiet)
    both, one = (Dataset.open(prepared.datasets[task]["test"]) for task in ("mlm", "long"))
    assert both.about["counts"]["kept"] > one.about["counts"]["kept"] == prepared.summary["sources"]["more"]["kept"]
    assert "duplicate" not in both.about["counts"]["dropped"]
    assert one.lengths.max() <= 64


@pytest.fixture
def two_alphabets(tmp_path):
    """A recipe over two sources that share no letter, with pairs whose second half may be of another document."""
    draws = np.random.default_rng(0)
    for name, letters in (("low", "abcdef"), ("high", "uvwxyz")):
        words = [["".join(draws.choice(list(letters), 4)) for _ in range(60)] for _ in range(60)]
        texts = [". ".join(" ".join(found[start : start + 6]) for start in range(0, 60, 6)) + "." for found in words]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    recipe = small_corpus.recipe_of(tmp_path / "low.jsonl", split=SplitSettings(validation=0.2, test=0.2))
    recipe.sources = {name: small_corpus.TextSource(paths=(str(tmp_path / f"{name}.jsonl"),)) for name in ("low", "high")}
    recipe.tasks = {"pairs": SimpleNamespace(format=SegmentPair(length=32), objectives=(), sources=())}
    return recipe


def test_what_is_held_out_never_mixes_sources(two_alphabets, tmp_path):
    prepared = prepare(two_alphabets, tmp_path / "cache", quiet)
    tokenizer, found = load_tokenizer(prepared.tokenizer), {}
    for split, folder in prepared.datasets["pairs"].items():
        dataset = Dataset.open(folder)
        reader = RowReader(dataset, 1)
        special = tokenizer.vocabulary.special_ids
        texts = [
            tokenizer.decode([token for token in reader.row(n)["tokens"].tolist() if token not in special]) for n in range(dataset.rows)
        ]
        found[split] = [
            "".join(name for name, letter in (("low", "[a-f]"), ("high", "[u-z]")) if re.search(letter, text)) for text in texts
        ]
        if split != "train":
            assert list(dataset.sources) == ["high", "low"]
            for source, part in dataset.sources.items():
                assert {found[split][row] for row in part.rows} == {source}
                assert part.token_counts.sum() == sum(dataset.lengths[row] for row in part.rows)
            assert any(reader.row(n)["label"] for n in range(dataset.rows)), "some pairs are of two documents"
    assert "lowhigh" in found["train"], "training does mix them"
    assert list(Dataset.open(prepared.datasets["pairs"]["train"]).sources) == [""]


def test_sources_that_join_later_change_nothing_that_was_there(texts, built, tmp_path):
    """They sort before what was there and share text with it, and still no tokenizer, split or row of it becomes another."""
    cache = tmp_path / "cache"
    shutil.copytree(built[0], cache)
    known = contents(cache)
    paths = {"also": [texts / "00.jsonl"], "and": [texts / "00.jsonl", tmp_path / "new.jsonl"]}
    (tmp_path / "new.jsonl").write_text(
        "".join(json.dumps({"text": f"Number {number} is in no other file."}) + "\n" for number in range(99))
    )
    recipe = small_corpus.recipe_of(texts)
    recipe.sources |= {name: small_corpus.TextSource(paths=tuple(map(str, found))) for name, found in paths.items()}
    recipe.tasks["mlm"].sources = ("help",)
    recipe.tasks["wide"] = SimpleNamespace(format=FullSentences(length=32), objectives=(), sources=())
    recipe.later_sources = ("and", "also")
    prepared = prepare(recipe, cache, quiet)
    assert {name: value for name, value in contents(cache).items() if name in known} == known
    for folder, before in (
        (prepared.tokenizer, built[1].tokenizer),
        (prepared.datasets["mlm"]["train"], built[1].datasets["mlm"]["train"]),
    ):
        assert folder.relative_to(cache) == before.relative_to(built[0])
    kept = {name: counts["kept"] for name, counts in prepared.summary["sources"].items()}
    assert kept == {"help": built[1].summary["sources"]["help"]["kept"], "and": 99, "also": 0}
    rows = (prepared.summary["examples"][task]["train"]["tokens"] for task in ("wide", "mlm"))
    assert next(rows) > next(rows)

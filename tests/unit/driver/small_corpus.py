"""A recipe over the help topics of Python, cut into many small tasks; run as a script it prepares in a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

from ptm_dist.corpus import read
from ptm_dist.corpus.clean import CleanSettings
from ptm_dist.corpus.dedup import DedupSettings
from ptm_dist.corpus.read import InstalledDocs, TextSource
from ptm_dist.corpus.split import SplitSettings
from ptm_dist.corpus.tokenizer import ByteBPE
from ptm_dist.driver import prepare as preparation
from ptm_dist.formats.full_sentences import FullSentences


def write_corpus(folder):
    """Write 12 files of paragraphs; some are empty or occur twice."""
    folder.mkdir(parents=True)
    topics = [document.text.split("\n\n") for document in InstalledDocs().read(["topics"])]
    for number in range(12):
        paragraphs = [text for topic in topics[number::12] for text in topic]
        texts = [*paragraphs, "", "Said twice,  in two files." if number % 2 else "said twice, in two FILES."]
        (folder / f"{number:02d}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def recipe_of(*paths, **corpus):
    settings = {"clean": CleanSettings(), "dedup": DedupSettings(), "split": SplitSettings(validation=0.05), "units": None} | corpus
    tasks = {"mlm": SimpleNamespace(format=FullSentences(length=32), objectives=(), sources=())}
    return SimpleNamespace(
        sources={"help": TextSource(paths=tuple(str(path) for path in paths))},
        corpus=SimpleNamespace(**settings),
        tokenizer=ByteBPE(vocab_size=600),
        tasks=tasks,
        later_sources=(),
        is_labelled=False,
    )


def use_small_tasks(patch=setattr):
    """Make the units of work small enough that a small corpus has many."""
    patch(read, "PART_BYTES", 20_000)
    patch(preparation, "GROUP_TOKENS", 10_000)


if __name__ == "__main__":
    import ray

    use_small_tasks()
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    preparation.prepare(recipe_of(sys.argv[1]), Path(sys.argv[2]), lambda *event: print(*event, flush=True))

"""Every task of every published recipe makes rows of the text that stands in for its corpora."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from ptm_dist.cli.systems import SYSTEMS
from ptm_dist.corpus.clean import clean
from ptm_dist.corpus.stored import read_tokenized, write_documents
from ptm_dist.corpus.tokenizer import load_tokenizer
from ptm_dist.driver.tasks import DealtPart, mark_part, tokenize_part, train_tokenizer
from ptm_dist.recipe_io import load_recipe

CONFIGS = Path(__file__).parents[2] / "configs"
CHINESE = {"bert_zh", "bert_wwm", "bert_wwm_ext", "roberta_wwm_ext", "albert_zh", "ernie1", "ernie2_zh"}
FEW_PIECES = {"unigram": 800, "gpt_bpe": 800, "byte_bpe": 800, "wordpiece": 1200, "words": 2000}
"""What is learned in a moment; Chinese vocabularies hold whole character sets."""
LABELS = {"discourse": 4, "dialogue": 2, "relevance": 3, "sentence_distance": 3}
"""How many labels there are at least among 60 rows."""


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Return some documents of each language as a part of a corpus, all to train on."""
    found = {}
    for language, recipe in {"english": "gpt", "chinese": "bert_zh"}.items():
        (source,) = load_recipe([CONFIGS / f"{recipe}.yaml", CONFIGS / "sources" / f"{language}.yaml"]).sources.values()
        settings = load_recipe([CONFIGS / f"{recipe}.yaml"]).corpus.clean
        read = (clean(document, settings) for document in source.read(source.parts()[0]))
        documents = list(islice((document for document in read if not isinstance(document, str)), 50))
        folder = tmp_path_factory.mktemp(language)
        write_documents(folder / "documents.jsonl.zst", documents)
        np.save(folder / "deal.npy", np.zeros(len(documents), dtype=np.uint8))
        found[language] = DealtPart(folder / "documents.jsonl.zst", folder / "deal.npy")
    return found


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_every_task_has_rows(name, parts, tmp_path):
    language = "chinese" if name in CHINESE else "english"
    files = [CONFIGS / f"{name}.yaml", CONFIGS / "scale" / "laptop.yaml", CONFIGS / "sources" / f"{language}.yaml"]
    kind = load_recipe(files).tokenizer.kind
    few = {} if name in CHINESE else {"vocab_size": FEW_PIECES[kind]}
    recipe = load_recipe(files, [f"tokenizer={json.dumps(few)}"])
    train_tokenizer(tmp_path, recipe.tokenizer, [parts[language]])
    vocabulary = load_tokenizer(tmp_path / "tokenizer").vocabulary
    for cut in {task.format.cut for task in recipe.tasks.values()}:
        folder = tmp_path / f"{cut.kind}-{hash(cut)}"
        if recipe.corpus.units:
            mark_part(folder, "part", parts[language], cut, recipe.corpus.units)
        tokenize_part(folder, "part", parts[language], cut, (tmp_path / "tokenizer", folder if recipe.corpus.units else None))
        for task in (task for task in recipe.tasks.values() if task.format.cut == cut):
            rows = list(islice(task.format.examples(read_tokenized(folder / "part.train"), vocabulary, Counter()), 60))
            assert rows
            assert max(len(row["tokens"]) for row in rows) <= task.format.length
            labels = {int(row["label"]) for row in rows if "label" in row}
            assert len(labels) >= LABELS.get(task.format.kind, 0)
            assert all(label < task.format.classes for label in labels if task.format.classes)

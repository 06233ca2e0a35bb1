"""Held-out figures of labelled tasks: what counting by hand gives, on any number of ranks and however rows are cut."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ptm_dist.corpus.shard import write_dataset
from ptm_dist.data.loader import Reader, Reading
from ptm_dist.events import reached
from ptm_dist.train.evaluation import HeldOut
from ptm_dist.train.memory import LaneMemory
from ptm_dist.train.module import PretrainingModel, to_device
from tests.contract.downstream_ranks import OBJECTIVES, example_of, recipe_of
from tests.contract.engine_ranks import VOCABULARY
from tests.unit.train.test_evaluation import Together

COUNT = 13
FIGURES = {"loss", "accuracy", "targets", "unigram_entropy", "baseline_loss", "baseline_accuracy", "sources"}


def examples_of(task, several):
    rng = np.random.default_rng(5)
    narrow = {"tokens": np.uint16, "segments": np.uint8, "value": np.float32, "label": np.uint16}
    found = [example_of(task, rng, several) for _ in range(COUNT)]
    return [{name: v.astype(narrow.get(name, v.dtype)) for name, v in row.items() if name != "letters"} for row in found]


def measured(recipe, task, directory, world, micro):
    """Return what rank 0 measures of a model in fp64, and the logits and labels of all rows at once."""
    torch.manual_seed(0)
    model = PretrainingModel(recipe, VOCABULARY).double().eval()
    together, objectives = Together(world), recipe.tasks[task].objectives

    def engine(name, batch, weights, memory=None):
        with torch.no_grad():
            return model(name, *to_device(batch, torch.device("cpu")), weights)[1:]

    def measure(rank):
        reading = Reading({f"{task}.validation": directory}, {task: objectives}, VOCABULARY, 3, 4, micro, frozenset(), rank, world)
        context = together.of(rank)
        held_out = HeldOut(recipe, context, SimpleNamespace(evaluate=engine), Reader(reading), LaneMemory(context, frozenset(), 4, micro))
        return held_out.measure(task)

    with ThreadPoolExecutor(world) as ranks:
        return next(iter(ranks.map(measure, range(world)))), model


def by_hand(model, objective, task, directory):
    """Return loss, accuracy and number of predictions of all rows, a row after the other."""
    reader = Reader(Reading({f"{task}.validation": directory}, {task: (objective,)}, VOCABULARY, 3, 4, 1))
    loss, right, count = 0.0, 0, 0
    for batches in reader.held_out(task, f"{task}.validation", COUNT)[""]:
        for batch in batches:
            inputs, lengths, targets = to_device(batch, torch.device("cpu"))
            positions, labels = targets[objective.kind]
            with torch.no_grad():
                logits = model.predict(task, inputs, lengths, positions)
            if objective.kind == "regress_text":
                pairs, loss = [], loss + (logits - labels[:: objective.views]).square().sum().item()
                count += 1
            elif objective.kind == "answer_span":
                pairs = [(logits[:, side], (labels & bit != 0).nonzero().item()) for side, bit in enumerate((1, 2))]
                loss += sum(F.cross_entropy(scores, torch.tensor(place)).item() for scores, place in pairs) / 2
                right, count = right + all(int(scores.argmax()) == place for scores, place in pairs), count + 1
            elif objective.kind == "choose":
                loss += F.cross_entropy(logits, labels.argmax()).item()
                right, count = right + int(logits.argmax() == labels.argmax()), count + 1
            else:
                labels = labels[:: objective.head.views]
                loss += F.cross_entropy(logits, labels, reduction="sum").item()
                right, count = right + int((logits.argmax(-1) == labels).sum()), count + len(labels)
    return loss / count, right / count, count


@pytest.mark.parametrize("family", ["bert", "gpt"])
@pytest.mark.parametrize("task", OBJECTIVES)
def test_figures_are_those_counted_by_hand(task, family, tmp_path):
    recipe = recipe_of(family)
    objective = recipe.tasks[task].objectives[0]
    examples = examples_of(task, 3 if task == "picked" else objective.head.views)
    write_dataset(iter(examples), tmp_path / "rows", VOCABULARY, {})
    found, model = measured(recipe, task, tmp_path / "rows", 1, 100)
    loss, accuracy, count = by_hand(model, objective, task, tmp_path / "rows")
    told = found[objective.kind]
    assert told.keys() == FIGURES
    assert (told["loss"], told["targets"]) == (pytest.approx(loss, rel=1e-9), count)
    assert told["accuracy"] == (None if task == "values" else pytest.approx(accuracy))
    assert told["unigram_entropy"] is None
    assert (told["baseline_accuracy"] is None) == (task not in {"classes", "tags"})
    if task == "classes":
        shares = np.bincount([int(example["label"]) for example in examples]) / COUNT
        assert told["baseline_accuracy"] == pytest.approx(shares.max())
    if family == "gpt":
        language = found["causal_lm"]
        assert language["targets"] == COUNT * (3 if task == "picked" else objective.head.views)
        assert 0 <= language["accuracy"] <= 1
        assert language["unigram_entropy"] > 0
    for world, micro in ((2, 3), (1, 2), (3, 100)):
        again, _ = measured(recipe, task, tmp_path / "rows", world, micro)
        assert again.keys() == found.keys()
        for kind, figures in again.items():
            wanted = {name: pytest.approx(value, rel=1e-9) for name, value in found[kind].items() if value not in (None, {})}
            assert figures == found[kind] | wanted


def test_a_value_is_told_without_an_accuracy():
    assert reached({"loss": 0.25, "accuracy": None}, ".2%") == "0.2500 squared error"
    assert reached({"loss": 0.25, "accuracy": 0.5}, ".2%") == "0.2500 nats, accuracy 50.00%"

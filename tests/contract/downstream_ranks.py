"""What each rank does of labelled tasks: a few steps of several families, over rows of every kind."""

import numpy as np
import torch

from ptm_dist.data.batch import Row
from ptm_dist.data.example import ENDS, NO_LABEL, STARTS
from ptm_dist.recipe_io import recipe_from_json, recipe_to_json
from ptm_dist.rng import RowDraws
from tests.contract.engine_ranks import OPTIMIZERS, VOCABULARY, families, train
from tests.tiny import merged, tiny_recipe

ROWS = 6
STEPS = [("classes", 2), ("picked", 1), ("answers", 2), ("tags", 3), ("classes", 1), ("values", 2)]
"""Task and number of micro-batches of each step."""
FORMATS = {"classes": "texts", "values": "texts", "tags": "tagged_words", "answers": "questions", "picked": "choices"}
OBJECTIVES = {
    "classes": {"kind": "classify_text", "labels": ["a", "b", "c"], "dropout": 0.0},
    "values": {"kind": "regress_text", "dropout": 0.0},
    "tags": {"kind": "tag_words", "tags": ["O", "B-X", "I-X"], "dropout": 0.0},
    "answers": {"kind": "answer_span"},
    "picked": {"kind": "choose", "choices": 3, "dropout": 0.0},
}
CASES = {
    "bert": (),
    "roberta": (),
    "gpt": (),
    "xlnet": (),
    "elmo": tuple(OBJECTIVES),
    "albert": tuple(OBJECTIVES),
    "ernie": ("classes", "tags"),
}
"""Family, and the tasks that freeze its backbone."""


def recipe_of(family, stage=0):
    """Return a recipe of all tasks; those of GPT have its language model beside them, and read pairs in both orders."""
    tasks = {}
    for name, objective in OBJECTIVES.items():
        made = objective | {"freeze": name in CASES[family]}
        layout = {"kind": FORMATS[name], "length": 32}
        beside = []
        if family == "gpt":
            beside = [{"kind": "causal_lm", "weight": 0.5, "per_row": True}]
            if FORMATS[name] == "texts":
                made |= {"views": 2, "at": "last"}
                layout |= {"both_orders": True}
        tasks[name] = {"format": layout, "objectives": [made, *beside]}
    plain = merged(recipe_to_json(tiny_recipe()), {"engine": {"zero_stage": stage}})
    sources = {"own": {"kind": "labelled", "reader": {"kind": "squad"}, "train": ["x"]}}
    plain |= {"model": families()[family], "optimizer": OPTIMIZERS["adamw"] | {"clip_norm": 0.5}, "sources": sources}
    return recipe_from_json(plain | {"tasks": tasks, "stages": [{"name": "only", "steps": {"classes": 2}}]})


def example_of(task, rng, several):
    """Return an example of a task; `several` of its sequences stand side by side."""
    lengths = rng.integers(3, 15, several)
    length = int(lengths.sum())
    made = {"tokens": rng.integers(4, 99, length), "segments": np.arange(length) * 2 // length}
    made["letters"] = np.array([f"w{token}".encode() for token in made["tokens"]], dtype="S48")
    if several > 1:
        made["part"] = np.repeat(np.arange(several, dtype=np.uint8), lengths)
    labels = rng.integers(0, 3, length).astype(np.uint8)
    labels[0] = NO_LABEL
    pick = np.where(rng.random(length) < 0.5, NO_LABEL, 0).astype(np.uint8)
    first, last = sorted(rng.integers(0, length, 2))
    pick[[first, last]] = 0
    pick[first] |= STARTS
    pick[last] |= ENDS
    own = {"classes": {"label": rng.integers(0, 3)}, "values": {"value": 3 + rng.normal()}, "picked": {"label": rng.integers(0, 3)}}
    own |= {"tags": {"labels": labels}, "answers": {"pick": pick}}
    return made | {name: np.asarray(value) for name, value in own[task].items()}


def rows_of(recipe, step):
    """Return the rows of a step as they are read: the same for every rank."""
    task, _ = STEPS[step]
    objectives = recipe.tasks[task].objectives
    several = 3 if task == "picked" else getattr(objectives[0], "views", 1)
    rows = [Row(example_of(task, np.random.default_rng([step, number]), several)) for number in range(ROWS)]
    if recipe.model.kind != "elmo":
        rows = [row.without(frozenset({"letters"})) for row in rows]
    for objective in objectives:
        rows = objective.corrupt(rows, VOCABULARY, RowDraws(1, "contract", [(step, number) for number in range(ROWS)]))
    return [row.without(frozenset().union(*(objective.reads for objective in objectives))) for row in rows]


def train_all(context, stage, path):
    """Train every case, and let rank 0 write what came out."""
    found = {family: train(recipe_of(family, stage), context, STEPS, rows_of) for family in CASES}
    if context.rank == 0:
        torch.save(found, path)

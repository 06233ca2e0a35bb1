"""What each rank of the engine's contract does: a few steps of every family, and every tensor of the state gathered."""

import json
import os
import signal

import numpy as np
import torch

from ptm_dist.data.batch import Row, collate
from ptm_dist.data.characters import character_ids
from ptm_dist.data.loader import die_with_parent
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.models import FAMILIES
from ptm_dist.models.base import stored_shape
from ptm_dist.optimizers.base import parameter_groups
from ptm_dist.recipe_io import recipe_from_json, recipe_to_json
from ptm_dist.rng import RowDraws
from ptm_dist.train.context import join, leave, meet_at
from ptm_dist.train.engine import Engine
from ptm_dist.train.module import PretrainingModel, count_of, parts_of, to_device
from ptm_dist.train.state import read_state, write_state
from tests.tiny import merged, tiny_recipe

VOCABULARY = Vocabulary(size=100, begin=0, pad=1, end=2, unknown=3, mask=99)
ROWS = 8
STEPS = [("lm", 2), ("first", 1), ("lm", 4), ("first", 2)]
"""Task and number of micro-batches of each step; the head of the task named second stays idle."""
SMALL = {
    "layers": 2,
    "hidden": 16,
    "heads": 2,
    "intermediate": 32,
    "positions": 32,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "embedding": 8,
}
SMALL |= {"cell": 12, "projection": 8, "filters": [[1, 3], [2, 4]], "softmax": "full"}
LM = {"elmo": "bidirectional_lm", "gpt": "causal_lm", "gpt2": "causal_lm", "xlnet": "permutation_lm"}
"""The families whose language model is no masked one."""
OPTIMIZERS = {
    # A large eps: without it the first step is the sign of the gradient, which a rounding error can turn.
    "adamw": {"kind": "adamw", "learning_rate": 1e-2, "eps": 1e-3},
    "lamb": {"kind": "lamb", "learning_rate": 1e-2, "eps": 1e-3},
}


def families():
    """Return the settings of every family, in small, and of one that uses a layer three times."""
    known = {kind: {"kind": kind} | {k: v for k, v in SMALL.items() if k in family.model_fields} for kind, family in FAMILIES.items()}
    return known | {"looped": {"kind": "tests.dummies:Looped"}}


def cases():
    """Return every family with AdamW, and two with every other optimizer: those look at tensors, not at families."""
    return [
        (family, optimizer) for family in families() for optimizer in OPTIMIZERS if optimizer == "adamw" or family in {"looped", "roberta"}
    ]


def recipe_of(family, optimizer, stage=0, clip_norm=0.5, tasks=("first", "second")):
    objectives = {"lm": LM.get(family, "masked_lm")} | dict.fromkeys(tasks, "tests.dummies:WhichThird")
    made = {name: {"format": {"kind": "full_sentences", "length": 32}, "objectives": [{"kind": kind}]} for name, kind in objectives.items()}
    plain = merged(recipe_to_json(tiny_recipe()), {"engine": {"zero_stage": stage}})
    plain |= {"model": families()[family], "optimizer": OPTIMIZERS[optimizer] | {"clip_norm": clip_norm}}
    if family == "elmo":
        made["lm"]["format"]["kind"] = "word_streams"
        plain["batch"] |= {"rows": 8, "lanes": 8}
    return recipe_from_json(plain | {"tasks": made, "stages": [{"name": "only", "steps": {"lm": 2}}]})


def rows_of(recipe, step):
    """Return the rows of a step, corrupted: the same for every rank."""
    task, _ = STEPS[step]
    found = []
    for number in range(ROWS):
        rng = np.random.default_rng([step, number])
        length = 2 * rng.integers(3, 15)
        tokens = rng.integers(4, 99, length)
        words = [f"w{token}" for token in tokens]
        row = Row({"tokens": tokens, "segments": np.arange(length) * 2 // length, "characters": character_ids(words)})
        (objective,) = recipe.tasks[task].objectives
        if objective.kind == "bidirectional_lm":
            row = Row(row.inputs | {"letters": np.array(words, dtype="S48"), "targets": np.roll(tokens, -1)})
        (row,) = objective.corrupt([row], VOCABULARY, RowDraws(1, "contract", [(step, number)]))
        found.append(row.without(objective.reads))
    return found


def shares_of(recipe, task, rows, world=1):
    """Return what the sums of the losses of a step are multiplied with."""
    batch = collate(rows, VOCABULARY.pad, len(rows))
    return {objective.kind: objective.weight * world / count_of(objective, batch) for objective in recipe.tasks[task].objectives}


def batches_of(rows, rank, world, number):
    mine = rows[rank * len(rows) // world : (rank + 1) * len(rows) // world]
    width = -(-len(mine) // number)
    return [collate(mine[start : start + width], VOCABULARY.pad, width) for start in range(0, number * width, width)]


def active(recipe, task):
    return parts_of(task, recipe.tasks[task].objectives)


def train(recipe, context, steps=STEPS, rows_of=rows_of):
    """Return the state after each step, as whole tensors by name, on rank 0."""
    torch.manual_seed(0)
    engine = Engine(PretrainingModel(recipe, VOCABULARY), recipe, context)
    states = []
    for step, (task, number) in enumerate(steps):
        rows = rows_of(recipe, step)
        weights = shares_of(recipe, task, rows, context.world)
        for micro, batch in enumerate(batches_of(rows, context.rank, context.world, number)):
            engine.train(task, batch, weights, (step, micro))
        engine.step(1e-2, active(recipe, task))
        states.append(whole_state(engine, context))
    engine.close()
    return states


def move(recipe, context, source, directory):
    """Load the state in `source`, write it again as it was loaded, do a step, and write what came out; return the fresh names."""
    torch.manual_seed(0)
    engine = Engine(PretrainingModel(recipe, VOCABULARY), recipe, context)
    fresh = read_state(engine, source) if source.exists() else []
    write(engine, directory / "loaded")
    rows = rows_of(recipe, 0)
    weights = shares_of(recipe, "lm", rows, context.world)
    for micro, batch in enumerate(batches_of(rows, context.rank, context.world, 2)):
        engine.train("lm", batch, weights, (0, micro))
    engine.step(1e-2, active(recipe, "lm"))
    write(engine, directory / "trained")
    engine.close()
    return fresh


def write(engine, directory):
    if engine.context.rank == 0:
        directory.mkdir(parents=True)
    engine.context.gather(None)
    write_state(engine, directory)
    engine.context.gather(None)


def whole_state(engine, context):
    mine = []
    for fragment in engine.layout.owned:
        state = engine.optimizer.state[fragment.flat]
        for key, tensor in (("weight", fragment.flat), *((key, state[key]) for key in engine.optimizer.moments)):
            mine.append((f"{fragment.name}|{key}", fragment.start, fragment.of(tensor).cpu().numpy().copy()))
    whole = {}
    for name, start, values in (item for items in context.gather(mine) for item in items):
        shape = engine.layout.shapes[name.rpartition("|")[0]]
        whole.setdefault(name, torch.full((int(np.prod(shape)),), float("nan")))[start : start + len(values)] = torch.from_numpy(values)
    return whole


def reference(recipe, steps=STEPS, rows_of=rows_of):
    """Return the same from one process that knows neither ranks nor micro-batches nor DeepSpeed."""
    torch.manual_seed(0)
    model = PretrainingModel(recipe, VOCABULARY)
    optimizer = recipe.optimizer.build(parameter_groups(model, recipe.optimizer))
    names = dict(model.named_parameters())
    for parameter in names.values():
        optimizer.init_state(parameter)
    states = []
    for step, (task, _) in enumerate(steps):
        rows = rows_of(recipe, step)
        weights = shares_of(recipe, task, rows)
        (batch,) = batches_of(rows, 0, 1, 1)
        optimizer.zero_grad()
        model(task, *to_device(batch, torch.device("cpu")), weights)[0].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optimizer.clip_norm)
        for group in optimizer.param_groups:
            group["active"] = group["part"] in active(recipe, task)
        optimizer.step()
        whole = {}
        for name, parameter in names.items():
            for key, tensor in (("weight", parameter), *((key, optimizer.state[parameter][key]) for key in optimizer.moments)):
                kept = tensor.detach()[: stored_shape(parameter)[0]] if tensor.ndim else tensor.detach()
                whole[f"{name}|{key}"] = kept.flatten().clone()
        states.append(whole)
    return states


def train_all(context, stage, path):
    """Train every case, and let rank 0 write what came out."""
    found = {f"{family} {optimizer}": train(recipe_of(family, optimizer, stage), context) for family, optimizer in cases()}
    if context.rank == 0:
        torch.save(found, path)


def move_all(context, stage, path, before, tasks):
    """Move the state of every case from the folder `before` to `path`; rank 0 writes which names were fresh."""
    told = {}
    for family, optimizer in cases():
        name = f"{family} {optimizer}"
        recipe = recipe_of(family, optimizer, stage, tasks=tasks)
        told[name] = move(recipe, context, before / name / "trained", path / name)
    if context.rank == 0:
        (path / "told.json").write_text(json.dumps(told))


def overflow(context, stage, path):
    """Do a step of fp16 whose scale is far too large, then one whose scale is not; rank 0 writes what happened."""
    if not torch.cuda.is_available():
        # DeepSpeed looks for an autocast of GPUs only, to switch it off; here it shall see that of the CPU.
        torch.is_autocast_enabled = lambda *_: torch.is_autocast_cpu_enabled()
    plain = recipe_to_json(recipe_of("roberta", "adamw", stage))
    recipe = recipe_from_json(merged(plain, {"engine": {"precision": "fp16"}}))
    torch.manual_seed(0)
    engine = Engine(PretrainingModel(recipe, VOCABULARY), recipe, context)
    states, told = [whole_state(engine, context)], []
    for scale in (2.0**60, 2.0**10):
        engine.loss_scale.value = scale
        rows = rows_of(recipe, 0)
        (batch,) = batches_of(rows, context.rank, context.world, 1)
        engine.prepare()
        engine.train("lm", batch, shares_of(recipe, "lm", rows, context.world), (0, 0))
        told.append((*engine.step(1e-2, active(recipe, "lm")), engine.loss_scale.value))
        states.append(whole_state(engine, context))
    if context.rank == 0:
        torch.save({"states": states, "told": told}, path)
    engine.close()


def run_rank(rank, world, listener, body, *args):
    """Be a rank that does `body`."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    store = meet_at(listener, rank, world)  # noqa: F841  It serves while it is kept.
    body(join(1, 60), *args)
    leave()
    os._exit(0)

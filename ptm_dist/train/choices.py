"""What a recipe leaves to the machine: decided once by all ranks together, written into the run, and kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import torch

from ptm_dist.data.batch import MicroBatch
from ptm_dist.data.loader import Reader
from ptm_dist.recipe import Recipe
from ptm_dist.run import RunFolder
from ptm_dist.schedule import Schedule
from ptm_dist.store import read_json, write_json
from ptm_dist.train.context import WorkerContext
from ptm_dist.train.module import DTYPES, PretrainingModel, to_device

HEADROOM: Final = 0.8
"""The share of free memory that is planned for."""
SPIKES: Final = 1.5
"""Gradients of activations, and copies while kernels run, over what the backward pass keeps."""


def settle(recipe: Recipe, run: RunFolder, context: WorkerContext, schedule: Schedule, reader: Reader) -> tuple[Recipe, dict[str, str]]:
    """Return the recipe with every `auto` replaced, and why each was chosen; the first attempt decides."""
    known: dict[str, Any] = context.gather(read_json(run.choices_path) if run.choices_path.exists() else {})[0]
    if recipe.engine.precision == "auto":
        known.setdefault("precision", context.gather(best_precision(context.device))[0])
        recipe = recipe.model_copy(update={"engine": recipe.engine.model_copy(update={"precision": known["precision"][0]})})
    if recipe.batch.micro == "auto":
        if "micro" not in known:
            found = context.gather(largest_micro(recipe, context, schedule, reader))
            known["micro"] = min(found, key=lambda choice: choice[0])
        recipe = recipe.model_copy(update={"batch": recipe.batch.model_copy(update={"micro": known["micro"][0]})})
    if known and context.rank == 0:
        write_json(run.choices_path, known)
    return recipe, {key: f"{value}: {why}" for key, (value, why) in known.items()}


def best_precision(device: torch.device) -> tuple[str, str]:
    """Return the precision that a device is good at, and why."""
    if device.type != "cuda":
        return "fp32", "there is no GPU"
    name = torch.cuda.get_device_name(device)
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16", f"{name} has it, and it needs no loss scale"
    return "fp16", f"{name} has no bf16"


def largest_micro(recipe: Recipe, context: WorkerContext, schedule: Schedule, reader: Reader) -> tuple[int, str]:
    """Return how many of the longest rows fit in a micro-batch, as a power of two, and why.

    What the backward pass keeps is counted for one row and for two; on a GPU the result is tried, and halved until it runs.
    """
    model = PretrainingModel(recipe, reader.reading.vocabulary).to(context.device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    kept = {task: [_kept_bytes(model, recipe, task, reader.longest(task, rows)) for rows in (1, 2)] for task in recipe.tasks}
    row_bytes = max(1, *(two - one for one, two in kept.values()))
    room = HEADROOM * free_bytes(context) - state_bytes(parameters, recipe.engine.zero_stage, context.world)
    most = schedule.most_rows
    fit = min(max(1, int(room / (SPIKES * row_bytes))), -(-most // context.world))
    rows = 1 << (fit.bit_length() - 1)
    while context.device.type == "cuda" and rows > 1 and not _runs(model, recipe, reader, rows):
        rows //= 2
    return rows, f"{row_bytes / 2**20:,.1f} MiB a row, {room / 2**30:,.1f} GiB free for them"


def state_bytes(parameters: int, stage: int, world: int) -> int:
    """Return the bytes of weights, gradients and optimizer state on one rank."""
    optimizer, gradients, weights = 12, 4, 4
    return int(
        parameters
        * (optimizer / (world if stage >= 1 else 1) + gradients / (world if stage >= 2 else 1) + weights / (world if stage >= 3 else 1))
    )


def free_bytes(context: WorkerContext) -> int:
    """Return the memory that this rank may use: of its GPU, or its share of the machine's."""
    if context.device.type == "cuda":
        return torch.cuda.mem_get_info(context.device)[0]
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024 // int(os.environ.get("LOCAL_WORLD_SIZE", context.world))


def _forward(model: PretrainingModel, recipe: Recipe, task: str, batch: MicroBatch) -> torch.Tensor:
    device = next(model.parameters()).device
    weights = {objective.kind: 1.0 for objective in recipe.tasks[task].objectives}
    dtype = DTYPES[recipe.engine.precision]
    with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
        return model(task, *to_device(batch, device), weights)[0]


def _kept_bytes(model: PretrainingModel, recipe: Recipe, task: str, batch: MicroBatch) -> int:
    """Return the bytes that the backward pass of a micro-batch needs beside the weights."""
    storages = {parameter.untyped_storage().data_ptr(): 0 for parameter in model.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages.setdefault(storage.data_ptr(), storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        total = _forward(model, recipe, task, batch)
    del total  # Until here the graph has kept every storage alive, so no address was used twice.
    return sum(storages.values())


def _runs(model: PretrainingModel, recipe: Recipe, reader: Reader, rows: int) -> bool:
    try:
        for task in recipe.tasks:
            _forward(model, recipe, task, reader.longest(task, rows)).backward()
            model.zero_grad(set_to_none=True)
    except torch.OutOfMemoryError:
        return False
    finally:
        torch.cuda.empty_cache()
    return True

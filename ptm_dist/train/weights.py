"""Weights to start from: `init:` of a recipe names a run, a run@step, a portable folder, or a Hugging Face folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import BaseModel
from torch import Tensor

from ptm_dist.corpus.existing import ADDED, Existing
from ptm_dist.errors import ConfigError
from ptm_dist.models import FAMILIES
from ptm_dist.models.downstream import DOWNSTREAM
from ptm_dist.models.interop import read_labels, read_model
from ptm_dist.models.interop.folder import CONFIG
from ptm_dist.models.interop.layout import PAIR
from ptm_dist.objectives.base import Objective
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import read_recipe
from ptm_dist.rng import derive_seed
from ptm_dist.run import RunFolder
from ptm_dist.store import read_json, sha256_bytes, sha256_file, write_json
from ptm_dist.train.committed import list_checkpoints, verify
from ptm_dist.train.module import head_name
from ptm_dist.train.state import StateFiles, write_weights

TOKENIZER: Final = "tokenizer"
"""The folder of the tokenizer in a portable folder, beside one file of state and recipe.json or model.json."""
MODEL: Final = "model.json"
"""The settings of a model that came without a recipe."""

FREE: Final = frozenset(
    {"dropout", "attention_dropout", "init_std", "position_std", "pooler", "task_types", "memory_length", "reuse_length"}
)
"""Settings of a model that may differ from those its weights were trained with."""

OVER_VOCABULARY: Final = ("backbone.words.weight", ".project.bias")
"""How the names of weights end that have a row for each token."""
USUAL_STD: Final = 0.02
"""The deviation of fresh rows in families that do not say."""


@dataclass(frozen=True)
class Source:
    """Weights with what is needed to understand them. `tokenizer` is a folder, of ours or of Hugging Face.

    `labels` are the names of what the head of a labelled task tells apart, where a Hugging Face folder says them.
    """

    name: str
    settings: BaseModel
    tokenizer: Path
    weights: Callable[[], dict[str, Tensor]]
    labels: tuple[str, ...] = ()


def source_of(init: str) -> Source:
    """Return what `init:` names, its checkpoint verified.

    Raises:
        ConfigError: there are no weights, or a model that ptm_dist cannot compute.
        DataIntegrityError: the checkpoint is damaged.

    """
    name, _, step = init.rpartition("@") if init.rpartition("@")[2].isdigit() and "@" in init else (init, "", "")
    run, path = RunFolder(Path(name)), Path(name)
    found = {info.step: info.path for info in list_checkpoints(run.checkpoints)}
    if found and (int(step) if step else max(found)) in found:
        directory = found[int(step) if step else max(found)]
        verify(directory)
        model: Any = run.recipe().model
        return Source(init, model, run.data().tokenizer, StateFiles(directory).weights)
    if not step and any(path.glob("rank-*.safetensors")):
        return Source(init, _portable_settings(path), path / TOKENIZER, StateFiles(path).weights)
    if not step and (path / CONFIG).exists():
        settings, weights = read_model(path)
        return Source(init, settings, path, weights.copy, read_labels(path))
    have = f" of step {step}; there are: {', '.join(map(str, sorted(found)))}" if found else ""
    raise ConfigError(
        f"init: {name} holds no weights{have}. Name a run, RUN@STEP, a Hugging Face folder, or one made by ptm checkpoint convert."
    )


def _portable_settings(path: Path) -> BaseModel:
    if (path / MODEL).exists():
        told = read_json(path / MODEL)
        return FAMILIES[told["kind"]].model_validate_json(json.dumps(told))
    model: Any = read_recipe(path / "recipe.json").model
    return model


def make_portable_model(source: Source, directory: Path) -> None:
    """Write the weights of a source as a portable folder."""
    directory.mkdir(parents=True)
    write_weights(source.weights(), directory)
    (directory / TOKENIZER).mkdir()
    for name, data in Existing(folder=str(source.tokenizer)).train(iter(())).items():
        (directory / TOKENIZER / name).write_bytes(data)
    write_json(directory / MODEL, source.settings.model_dump(mode="json"))


def take_over(source: Source, recipe: Recipe, tokenizer: Path, run: RunFolder) -> None:
    """Write the weights of `source` into the run, under the names and in the shapes that the model of `recipe` has.

    Raises:
        ConfigError: they belong to another model or were trained with another tokenizer.

    """
    require_same_settings(source, recipe)
    added = added_words(source, tokenizer)
    weights = _named_as(recipe, source.weights(), source.labels)
    if added:
        weights |= {name: _lengthened(name, weight, added, recipe) for name, weight in weights.items() if name.endswith(OVER_VOCABULARY)}
    unfinished = run.init_path.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    write_weights(weights, unfinished)
    os.rename(unfinished, run.init_path)


def require_same_settings(source: Source, recipe: Recipe) -> None:
    """Refuse weights of a model that computes something else.

    Raises:
        ConfigError: naming the settings that differ.

    """
    model: Any = recipe.model
    theirs, ours = source.settings.model_dump(), model.model_dump()
    wrong = [key for key in theirs | ours if key not in FREE and theirs.get(key) != ours.get(key)]
    if wrong:
        told = "; ".join(f"model.{key} is {ours.get(key)!r}, the weights were trained with {theirs.get(key)!r}" for key in wrong)
        raise ConfigError(f"init: {source.name}: {told}. Set the model of the recipe to that of the weights, or leave init out.")


def added_words(source: Source, tokenizer: Path) -> dict[int, list[int]]:
    """Return the ids that `tokenizer` has more than that of the source, each with the ids of its pieces.

    Raises:
        ConfigError: it is another tokenizer; its tokens mean something else.

    """
    theirs = {name: sha256_bytes(data) for name, data in Existing(folder=str(source.tokenizer)).train(iter(())).items()}
    ours = {path.name: sha256_file(path) for path in tokenizer.iterdir() if path.name in theirs}
    if theirs == ours:
        return {}
    added = read_json(tokenizer / ADDED) if (tokenizer / ADDED).exists() else {"words": {}, "of": ""}
    if added["of"] != theirs["tokenizer.json"]:
        differing = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
        raise ConfigError(
            f"init: the weights in {source.name} were trained with another tokenizer ({', '.join(differing)} differ). Take it: "
            f"tokenizer={{kind: existing, folder: {source.tokenizer}}}, or train on the same sources with the same settings."
        )
    return {int(number): pieces for number, pieces in added["words"].items()}


def _lengthened(name: str, weight: Tensor, added: dict[int, list[int]], recipe: Recipe) -> Tensor:
    """Return a table, or a bias, with a row more for each added word: the mean of the rows of its pieces.

    Without pieces it is a special token: its row is drawn as those of a fresh table are, its bias is zero.
    """
    generator = torch.Generator().manual_seed(derive_seed(recipe.seed, f"special {name}"))
    std = getattr(recipe.model, "init_std", USUAL_STD) if weight.ndim > 1 else 0.0
    fresh = std * torch.randn(len(added), *weight.shape[1:], generator=generator)
    rows = [weight[pieces].mean(0) if pieces else row for (_, pieces), row in zip(sorted(added.items()), fresh, strict=True)]
    return torch.cat([weight, torch.stack(rows)])


def _named_as(recipe: Recipe, weights: dict[str, Tensor], labels: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Return weights whose heads, of a model without tasks, have the names of those that the recipe has, where it has one that fits.

    These are the head of sentence pairs and that of a labelled task; one of other classes does not fit, and stays as it is called.
    """
    pairs = pair_heads(recipe)
    ours = {"heads.sequence.": f"heads.{pairs[0]}."} if len(pairs) == 1 else {}
    for kind, (name, objective) in _task_heads(recipe).items():
        own = f"heads.{kind}."
        last = weights.get(f"{own}classify.weight")
        if kind == "span" or (last is not None and len(last) == (objective.head.classes or 1)):
            ours[own] = f"heads.{name}."
            weights = weights | _in_order(own, weights, labels, objective.names)
    return {_renamed(name, ours): weight for name, weight in weights.items()}


def _renamed(name: str, ours: dict[str, str]) -> str:
    return next((name.replace(theirs, mine, 1) for theirs, mine in ours.items() if name.startswith(theirs)), name)


def _in_order(own: str, weights: dict[str, Tensor], theirs: tuple[str, ...], ours: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the last map of a head with its classes in our order, where they have the same names in another."""
    known, wanted = ([label.casefold() for label in labels] for labels in (theirs, ours))
    if known == wanted or sorted(known) != sorted(wanted) or len(set(known)) < len(known):
        return {}
    rows = [known.index(label) for label in wanted]
    return {name: weights[name][rows] for name in (f"{own}classify.weight", f"{own}classify.bias")}


def _task_heads(recipe: Recipe) -> dict[str, tuple[str, Objective]]:
    """Return name and objective of the head of each kind of labelled task that a recipe has just one of."""
    found: dict[str, dict[str, Objective]] = {}
    for task, told in recipe.tasks.items():
        for objective in told.objectives:
            if objective.head.kind in DOWNSTREAM:
                found.setdefault(objective.head.kind, {})[head_name(recipe.owner(task), objective)] = objective
    return {kind: next(iter(named.items())) for kind, named in found.items() if len(named) == 1}


def pair_heads(recipe: Recipe) -> list[str]:
    """Return the names of the heads of a recipe that tell true pairs of sentences."""
    found = [(name, objective) for name, task in recipe.tasks.items() for objective in task.objectives]
    return sorted({head_name(recipe.owner(name), objective) for name, objective in found if objective.head == PAIR})

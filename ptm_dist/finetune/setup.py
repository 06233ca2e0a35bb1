"""From a checkpoint and the file of a task to the recipe of a fine-tuning run.

A task's file is a part of a recipe: sources, one task or several, and whatever else it wants to set. What it leaves out is the published
setting of the system that the checkpoint is of (`presets/`), and what the checkpoint itself says: model, tokenizer, weights. Beside the
keys of a recipe both may say `epochs`, and the task how predictions are made and measured (`score`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from ptm_dist.errors import ConfigError
from ptm_dist.finetune.answers import AnswerSearch
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import load_over, read_settings
from ptm_dist.recipe_merge import merged
from ptm_dist.run import RunFolder
from ptm_dist.store import write_json
from ptm_dist.train.weights import Source, source_of

PRESETS: Final = Path(__file__).parent / "presets"
OWN_KEYS: Final = ("epochs", "score", "grid", "kinds", "objective", "beside")
"""What presets and tasks may say that is no part of a recipe."""


class Score(BaseModel):
    """How predictions are made and measured."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    metrics: tuple[str, ...] = ()
    """Names of metrics; empty takes the usual ones of the kind of task."""
    answers: AnswerSearch = AnswerSearch()
    """How answers are searched for: 100 tokens at most in Chinese (ERNIE), 30 in English (BERT)."""

    def save(self, run: RunFolder) -> None:
        """Keep it in a run."""
        write_json(run.path / "score.json", self.model_dump(mode="json"))

    @classmethod
    def of(cls, run: RunFolder) -> Self:
        """Return that of a run; the usual one where none was kept."""
        path = run.path / "score.json"
        return cls.model_validate_json(path.read_text(encoding="utf8")) if path.exists() else cls()


@dataclass(frozen=True)
class Setup:
    """A fine-tuning: its recipe, how it is measured, and what its system's authors tried, by dotted key."""

    recipe: Recipe
    score: Score
    grid: dict[str, list[Any]]


def setup(checkpoint: str, files: Sequence[str | Path], overrides: Sequence[str] = (), preset: str = "", scratch: bool = False) -> Setup:
    """Return the fine-tuning of a checkpoint on a task; with `scratch` its model starts from random weights.

    Raises:
        ConfigError: there is no such checkpoint or preset, or the files do not make a recipe of labelled tasks.
        DataIntegrityError: the checkpoint is damaged.

    """
    source = source_of(checkpoint)
    told = read_settings(files, overrides)
    tasks = told.get("tasks")
    if not isinstance(tasks, dict) or not tasks:
        raise ConfigError("finetune: no task is given. Example: ptm finetune runs/bert configs/finetune/snippets.yaml")
    defaults = _preset(preset or _system_of(checkpoint, source), _kinds(tasks))
    base = merged(_of_checkpoint(checkpoint, source, scratch), defaults)
    found = dict[str, Any]()

    def shape(data: dict[str, Any]) -> dict[str, Any]:
        found.update({key: data.pop(key) for key in OWN_KEYS if key in data})
        return _recipe_data(data, found, checkpoint, source)

    recipe = load_over(base, files, overrides, shape)
    if not recipe.is_labelled:
        raise ConfigError("finetune: the tasks read documents. Give formats of labelled items: texts, tagged_words, questions, choices.")
    return Setup(recipe, _score(found.get("score", {})), found.get("grid", {}))


def _of_checkpoint(checkpoint: str, source: Source, scratch: bool) -> dict[str, Any]:
    settings: Any = source.settings
    tokenizer: dict[str, Any] = {"kind": "existing", "folder": str(source.tokenizer.absolute())}
    if settings.joining.new:
        tokenizer["special"] = list(settings.joining.new)
    model = settings.model_dump(mode="json")
    return {"init": None if scratch else _absolute(checkpoint), "tokenizer": tokenizer, "model": model}


def _absolute(checkpoint: str) -> str:
    name, at, step = checkpoint.rpartition("@") if checkpoint.rpartition("@")[2].isdigit() else (checkpoint, "", "")
    return f"{Path(name or checkpoint).absolute()}{at}{step}"


def _system_of(checkpoint: str, source: Source) -> str:
    """Return the preset of a checkpoint: that of the system it was trained as, or of its family."""
    run = RunFolder(Path(checkpoint.partition("@")[0]))
    names = [run.recipe().name] if run.exists else []
    settings: Any = source.settings
    return next((name for name in names if (PRESETS / f"{name}.yaml").exists()), settings.kind)


def presets() -> list[str]:
    """Return the names of all presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def _preset(name: str, kinds: set[str]) -> dict[str, Any]:
    path = PRESETS / f"{name}.yaml"
    if not path.exists():
        raise ConfigError(f"--preset {name}: there is none; one of {', '.join(presets())}.")
    data = read_settings([path])
    for kind, own in data.pop("kinds", {}).items():
        data = merged(data, own) if kind in kinds else data
    return data


def _kinds(tasks: dict[str, Any]) -> set[str]:
    objectives = [objective for task in tasks.values() if isinstance(task, dict) for objective in task.get("objectives", [])]
    return {str(objective.get("kind")) for objective in objectives if isinstance(objective, dict)}


def _recipe_data(data: dict[str, Any], own: dict[str, Any], checkpoint: str, source: Source) -> dict[str, Any]:
    """Return the recipe that settings make: objectives as the family wants them, and stages of so many epochs."""
    settings: Any = source.settings
    defaults = {"at": settings.joining.summary} | own.get("objective", {})
    tasks = {name: _with_defaults(task, defaults, own.get("beside", [])) for name, task in data["tasks"].items()}
    stages = [{"name": "main", "steps": {name: f"{own.get('epochs', 3)} epochs" for name in tasks}}]
    trained = "_".join([*tasks, Path(checkpoint.partition("@")[0]).name])
    name = data.get("name") or re.sub(r"[^A-Za-z0-9._-]+", "_", trained)[:64]
    return {"stages": stages} | data | {"name": name, "tasks": tasks}


def _with_defaults(task: Any, defaults: dict[str, Any], beside: list[dict[str, Any]]) -> Any:
    if not isinstance(task, dict) or not isinstance(task.get("objectives"), list):
        return task  # Whatever is wrong is told when the recipe is made.
    first, *rest = task["objectives"]
    known = {key: value for key, value in defaults.items() if key != "at" or first.get("kind") in AT_SUMMARY}
    return task | {"objectives": [known | first, *rest, *(beside if not rest else [])]}


AT_SUMMARY: Final = ("classify_text", "regress_text", "choose")
"""Objectives that ask the state of the token that stands for a row."""


def _score(data: Any) -> Score:
    try:
        return Score.model_validate_json(json.dumps(data))
    except ValidationError as error:
        told = "; ".join(f"score.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"{told}. The keys of score are {', '.join(Score.model_fields)}.") from error

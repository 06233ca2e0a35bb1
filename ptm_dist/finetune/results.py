"""What scoring a fine-tuned model gives: figures as JSON, a line for each item, and tables of one run or of several."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import TypeAdapter, ValidationError

from ptm_dist.errors import ConfigError, DataIntegrityError, DataUnavailableError, NumericError
from ptm_dist.finetune.bootstrap import Spread, spread
from ptm_dist.store import read_json, write_atomic, write_json

HEADING: Final = ("task", "split", "metric", "value", "items", "seeds")
"""What stands above the lines of `table`."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """Figures of a checkpoint on a split of a task, and what they were measured with.

    Raises:
        NumericError: a figure is not a finite number.

    """

    task: str
    kind: str
    """The kind of the format: texts, tagged_words, questions, choices."""
    split: str
    metrics: dict[str, float]
    items: int
    """Items that were scored."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Items that were not, by reason."""
    confusion: dict[str, dict[str, int]] | None = None
    """Of each class that is right how often each was predicted."""
    predictions: str | None = None
    """Name of the file beside this one that has a line for each item."""
    checkpoint: str
    seed: int
    recipe_digest: str
    scored_at: float
    """Seconds since 1970."""

    def __post_init__(self) -> None:
        wrong = sorted(name for name, value in self.metrics.items() if not math.isfinite(value))
        if wrong:
            raise NumericError(f"{self.task}, {self.split}: {', '.join(wrong)} is not a finite number. Look at the predictions.")

    def write(self, path: Path) -> None:
        """Write the results as JSON, atomically.

        Raises:
            StorageError: the disk is full or cannot be written.

        """
        write_json(path, asdict(self))


def read_results(path: Path) -> Results:
    """Read what `Results.write` wrote.

    Raises:
        DataUnavailableError: the file is missing or is not JSON.
        DataIntegrityError: it holds something else.

    """
    try:
        return TypeAdapter(Results).validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise DataIntegrityError(f"{path}: not results of a fine-tuning ({where}: {first['msg']}). Score the checkpoint again.") from error


@dataclass(frozen=True)
class Merged:
    """Figures of one task and split over seeds."""

    task: str
    split: str
    metrics: dict[str, Spread]
    items: int
    seeds: tuple[int, ...]


def merge(results: Sequence[Results]) -> Merged:
    """Return mean and deviation of each figure that all results have; they are of one task and split, each of another seed.

    Raises:
        ConfigError: they are not.
        DataUnavailableError: there are none.

    """
    if not results:
        raise DataUnavailableError("there are no results to merge. Score a run first.")
    kinds = sorted({(one.task, one.split, one.items) for one in results})
    if len(kinds) > 1:
        told = "; ".join(f"{task}, {split}, {items:,} items" for task, split, items in kinds)
        raise ConfigError(f"results of different things have no mean: {told}. Merge those of one task and split.")
    seeds = tuple(sorted(one.seed for one in results))
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        raise ConfigError(f"{results[0].task}, {results[0].split}: seed {twice[0]} is there twice. Merge one result of each seed.")
    shared = [name for name in results[0].metrics if all(name in one.metrics for one in results)]
    metrics = {name: spread([one.metrics[name] for one in results]) for name in shared}
    return Merged(results[0].task, results[0].split, metrics, results[0].items, seeds)


def table(results: Iterable[Results | Merged]) -> list[tuple[str, ...]]:
    """Return a line for each figure, as HEADING names its columns; over several seeds the figure is mean ± deviation."""
    merged = [merge([one]) if isinstance(one, Results) else one for one in results]
    return [
        (one.task, one.split, name, str(figure), f"{one.items:,}", str(len(one.seeds)))
        for one in merged
        for name, figure in one.metrics.items()
    ]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model says of one item; `gold` and `predicted` are what their kind has: a class, a value, tags, answers."""

    id: str
    gold: Any
    predicted: Any
    score: float | None = None
    """How well the item was done, in [0, 1]; what two systems are compared by."""
    probabilities: Any = None
    """Of classes by name, or of the best answers."""
    null_odds: float | None = None
    """How much higher no answer scores than the best one; infinite ones are not kept."""


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write a JSON line for each item, without the fields it does not have.

    Raises:
        NumericError: a probability or a value is not a finite number.
        StorageError: the disk is full or cannot be written.

    """
    write_atomic(path, "".join(line_of(prediction) + "\n" for prediction in predictions).encode())


def read_predictions(path: Path) -> list[Prediction]:
    """Read what `write_predictions` wrote.

    Raises:
        DataUnavailableError: the file cannot be read.
        DataIntegrityError: a line is not a prediction.

    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataUnavailableError(f"{path}: cannot be read ({error}). Score the checkpoint again.") from error
    return [_prediction(path, number, line) for number, line in enumerate(lines, 1) if line]


def line_of(prediction: Prediction) -> str:
    """Return a prediction as JSON, without the fields it does not have.

    Raises:
        NumericError: a probability or a value is not a finite number.

    """
    fields = {name: value for name, value in vars(prediction).items() if value is not None or name in {"gold", "predicted"}}
    if prediction.null_odds is not None and math.isinf(prediction.null_odds):
        del fields["null_odds"]
    try:
        return json.dumps(fields, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError as error:
        raise NumericError(f"item {prediction.id}: the model gives a number that is not finite ({error}).") from error


def _plain(value: Any) -> Any:
    """Return a number or an array of NumPy as Python has it."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _prediction(path: Path, number: int, line: str) -> Prediction:
    try:
        return Prediction(**json.loads(line))
    except (ValueError, TypeError) as error:
        raise DataIntegrityError(f"{path}, line {number}: not a prediction ({error}). Score the checkpoint again.") from error

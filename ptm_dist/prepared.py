"""Where the prepared data of a run lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptm_dist.data.dataset import Dataset
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.recipe_parts import PROBE
from ptm_dist.store import read_json


@dataclass(frozen=True)
class DataFolders:
    """The prepared data of a run: the tokenizer, and a data set for each split of a task or a probe."""

    tokenizer: Path
    datasets: Mapping[str, Mapping[str, Path]]

    @property
    def vocabulary(self) -> Vocabulary:
        """Size and special ids of the tokenizer."""
        return Vocabulary(**read_json(self.tokenizer / "vocabulary.json"))

    def open(self, task: str, split: str) -> Dataset:
        """Open the data set of a task."""
        return Dataset.open(self.datasets[task][split])

    def prepared(self) -> dict[str, str]:
        """Return what stage of preparation made the tokenizer, and each data set that is trained on.

        Equal names mean equal bytes, wherever they lie.
        """
        trained = {task: splits for task, splits in self.datasets.items() if not task.startswith(PROBE)}
        made = {f"{task}.{split}": path.parent.name for task, splits in trained.items() for split, path in splits.items()}
        return made | {"tokenizer": self.tokenizer.parent.name}

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "tokenizer": str(self.tokenizer),
            "datasets": {task: {split: str(path) for split, path in splits.items()} for task, splits in self.datasets.items()},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> DataFolders:
        """Read what `to_json` gave."""
        datasets = {task: {split: Path(path) for split, path in splits.items()} for task, splits in value["datasets"].items()}
        return cls(Path(value["tokenizer"]), datasets)

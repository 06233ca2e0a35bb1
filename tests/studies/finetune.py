"""make study-finetune-en, make study-finetune-zh: what pretraining is worth, on real labelled data, for the eleven systems.

Each checkpoint of `make study-pretraining` is fine-tuned on each task of its language with three seeds, and the same model from random
weights with the same recipe and seeds. Beside them stands what TF-IDF and a linear model reach on the same items. PTM_LABELLED names the
folder of the labelled data (docs/studies/finetuning.md lists them).

    python -m tests.studies.finetune en|zh
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Final

from ptm_dist.finetune.bootstrap import Spread, spread
from ptm_dist.finetune.results import Results
from ptm_dist.finetune.setup import Setup, setup
from ptm_dist.run import RunFolder
from tests.finetune.tour import CONFIGS, labelled, moved
from tests.studies.baselines import baseline
from tests.studies.pretraining import STUDIES, SYSTEMS, pretrained
from tests.studies.side_by_side import columns, finetune_all

RUNS: Final = STUDIES / "finetune"
SEEDS: Final = (1, 2, 3)
STARTS: Final = ("scratch", "pretrained")


@dataclass(frozen=True)
class Task:
    """A task of configs/finetune: the figure that counts, the part that is measured, and how it is made small."""

    figure: str
    overrides: tuple[str, ...]
    split: str = "test"
    train: tuple[str, ...] = ()
    """Other files to train on; with `validation` in place of all that the task's file names."""
    validation: tuple[str, ...] = ()

    def settings(self, name: str) -> list[str]:
        """Return the overrides, with files where they lie."""
        folder, other = labelled(), {"train": self.train, "validation": self.validation, "test": ()}
        files = [f"sources.{name}.{split}=[{', '.join(str(folder / file) for file in files)}]" for split, files in other.items()]
        own = [override.replace("SOURCE", f"sources.{name}").replace("FORMAT", f"tasks.{name}.format") for override in self.overrides]
        return [*(files if self.train else moved(name, folder)), *own, "engine.workers=1", "engine.threads=1", "batch.micro=32"]


_READING: Final = ("SOURCE.most={train: 1000, validation: 1000}", "FORMAT.length=128", "FORMAT.stride=32", "epochs=2")
_TAGS: Final = ("FORMAT.length=64", "optimizer.learning_rate=1e-3", "epochs=10")
TASKS: Final = {
    "en": {
        "emotions_en": Task("accuracy", ("SOURCE.most={train: 1000}", "FORMAT.length=64")),
        "wnut16": Task("f1", _TAGS),
    },
    "zh": {
        "cluener": Task("f1", ("SOURCE.most={train: 3000}", *_TAGS)),
        "reviews_zh": Task("accuracy", ("SOURCE.most={train: 500}", "FORMAT.length=64")),
        "cmrc2018": Task("f1", _READING, split="validation"),
        "drcd": Task("f1", _READING, "validation", ("cmrc2018_dev.json.gz", "cmrc2018_trial.json.gz"), validation=("DRCD_dev.json.gz",)),
    },
}


def main(language: str) -> None:
    """Fine-tune what is missing and print the table of a language."""
    names = [name for name, system in SYSTEMS.items() if system.language == language]
    runs = pretrained(names)
    tables = [table(task, names, runs, language) for task in TASKS[language]]
    print("\n\n".join(tables))


def table(task: str, names: list[str], runs: dict[str, RunFolder], language: str) -> str:
    """Return the table of a task."""
    settings = TASKS[language][task]
    setups = {
        f"{task}-{name}-{start}-{seed}": tuning(task, settings, runs[name], scratch=start == "scratch", seed=seed)
        for name in names
        for start in STARTS
        for seed in SEEDS
    }
    found = finetune_all(RUNS, setups, settings.split)
    lines = [line(name, [figures(found, f"{task}-{name}-{start}", settings.figure) for start in STARTS]) for name in names]
    first = next(iter(setups.values()))
    simple = baseline(first.recipe.sources[task], settings.split, settings.figure)
    items = next(iter(found.values())).items
    heading = ("system", "random weights", "pretrained", "difference", "beyond the deviation")
    said = f"{task}, {settings.figure}, {items:,} items measured; TF-IDF and a linear model: {simple:.2f}"
    return f"{said}\n\n{columns(heading, lines, 1)}"


def tuning(task: str, settings: Task, run: RunFolder, *, scratch: bool, seed: int) -> Setup:
    """Return the fine-tuning of a checkpoint on a task."""
    files = [CONFIGS / f"{task}.yaml", CONFIGS / "laptop.yaml"]
    return setup(str(run.path), files, [*settings.settings(task), f"seed={seed}"], scratch=scratch)


def figures(found: dict[str, Results], start: str, figure: str) -> Spread:
    """Return mean and deviation of a figure over the seeds."""
    return spread([found[f"{start}-{seed}"].metrics[figure] for seed in SEEDS])


def line(name: str, both: list[Spread]) -> tuple[str, ...]:
    """Return the line of a system: the difference counts where it exceeds both deviations together."""
    scratch, other = both
    gained = other.mean - scratch.mean
    beyond = "yes" if gained > scratch.deviation + other.deviation else "no"
    return name, str(scratch), str(other), f"{gained:+.2f} ± {math.hypot(scratch.deviation, other.deviation):.2f}", beyond


if __name__ == "__main__":
    main(*sys.argv[1:])

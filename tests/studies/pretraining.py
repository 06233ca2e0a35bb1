"""make study-pretraining: the eleven systems at the size of `configs/studies/downstream.yaml`, which `make study-finetune` fine-tunes.

Two at a time on two cores, resumed where they stopped. English is news and dialogues, whose folder PTM_TEXTS names
(docs/studies/finetuning.md lists them); Chinese is news that a package has.

    python -m tests.studies.pretraining [SYSTEM...]
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import load_recipe
from ptm_dist.run import RunFolder
from tests.studies.side_by_side import train_all
from tests.systems.ride import CONFIGS, TEXTS, over_texts

STUDIES: Final = Path("runs") / "studies"
RUNS: Final = STUDIES / "pretraining"
SCALE: Final = CONFIGS / "studies" / "downstream.yaml"
ENGLISH: Final = ("en/news_articles.jsonl.gz", "en/bbc_news.jsonl.gz", "dialogue/chitchat_en.jsonl.gz")
IN_CHINESE: Final = ("tokenizer.chinese=[]", "tokenizer.least_count=10")
"""Characters that the text has, and no others: a small vocabulary."""


@dataclass(frozen=True)
class System:
    """A recipe, its language, and as many steps as take some ten minutes on a core."""

    language: str = "en"
    steps: int = 4000
    overrides: tuple[str, ...] = ()

    def recipe(self, name: str) -> Recipe:
        """Return the recipe of a system under the study's scale and texts."""
        return small(CONFIGS / f"{name}.yaml", self.language, self.steps, self.overrides)


SYSTEMS: Final = {
    "elmo": System(steps=2500, overrides=("tokenizer.split_punctuation=true",)),
    "gpt": System(steps=2000),
    "gpt2": System(steps=2000),
    "bert": System(),
    "xlnet": System(steps=3000),
    "roberta": System(),
    "albert": System(),
    "ernie2": System(),
    "bert_wwm": System("zh"),
    "bert_wwm_ext": System("zh"),
    "ernie1": System("zh"),
}


def main(names: list[str]) -> None:
    """Train what is missing."""
    pretrained(names or list(SYSTEMS))


def pretrained(names: list[str]) -> dict[str, RunFolder]:
    """Return the runs of systems, trained to their end."""
    return train_all(RUNS, {name: SYSTEMS[name].recipe(name) for name in names})


def small(file: Path, language: str, steps: int, overrides: tuple[str, ...] = (), some: tuple[str, ...] = ENGLISH) -> Recipe:
    """Return a recipe under the study's scale, over the texts of its language or, in English, some of them."""
    in_language = IN_CHINESE if language == "zh" else ()
    return load_recipe([file, SCALE, texts(language, some)], [*in_language, *overrides, f"at_most.steps={steps}"])


def texts(language: str, some: tuple[str, ...] = ENGLISH) -> Path:
    """Return the overlay of the texts of a language: Chinese of a package, English from files; ends the program where they are not."""
    if language == "zh":
        return TEXTS["zh"]
    folder = Path(os.environ.get("PTM_TEXTS", "texts"))
    found = [folder / name for name in some]
    missing = [str(path) for path in found if not path.exists()]
    if missing:
        sys.exit(f"{missing[0]}: not there. Name the folder of the texts: PTM_TEXTS=... (docs/studies/finetuning.md)")
    STUDIES.mkdir(parents=True, exist_ok=True)
    return over_texts(STUDIES / f"texts_{len(found)}.yaml", language, *found)


if __name__ == "__main__":
    main(sys.argv[1:])

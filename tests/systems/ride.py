"""The eleven systems and their Chinese descendants, as published and made small, from text to a model that others load."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ptm_dist.driver.prepare import prepare
from ptm_dist.prepared import DataFolders
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import dump_recipe, load_recipe
from ptm_dist.run import RunFolder
from tests.tiny import ptm

CONFIGS: Final = Path(__file__).parents[2] / "configs"
LAPTOP: Final = CONFIGS / "scale" / "laptop.yaml"
SMALL: Final = Path(__file__).with_name("small.yaml")
TEXTS: Final = {"en": CONFIGS / "sources" / "english.yaml", "zh": CONFIGS / "sources" / "chinese.yaml"}


@dataclass(frozen=True)
class System:
    """A published recipe, in the language of its corpora."""

    recipe: str
    language: str = "en"

    def files(self, *overlays: Path) -> list[Path]:
        """Return what to write after `ptm run`: the recipe, and overlays over it."""
        return [CONFIGS / f"{self.recipe}.yaml", *overlays]

    def load(self, *overlays: Path) -> Recipe:
        """Return the recipe under overlays."""
        return load_recipe(self.files(*overlays))


SYSTEMS: Final = {
    **{name: System(name) for name in ("elmo", "gpt", "gpt2", "bert", "xlnet", "roberta", "albert", "ernie2")},
    **{name: System(f"studies/{name}") for name in ("ernie2_continual", "ernie2_multi_task")},
    **{name: System(name, "zh") for name in ("bert_zh", "bert_wwm", "bert_wwm_ext", "roberta_wwm_ext", "albert_zh", "ernie1", "ernie2_zh")},
}
KILLED_AT: Final = 17
SOURCES: Final = {"en": "docs", "zh": "news"}
"""What the texts of a language are called in the overlays of TEXTS."""


def over_texts(path: Path, language: str, *texts: Path) -> Path:
    """Write an overlay like that of a language that reads `texts`, files of JSON lines, and return its path."""
    source = {"kind": "text", "paths": [str(text.absolute()) for text in texts]}
    path.write_text(f"extends: {TEXTS[language]}\nsources: {json.dumps({SOURCES[language]: source})}\n", encoding="utf8")
    return path


def kill_and_resume(recipe: Recipe, folder: Path, cache: Path, rank: int) -> tuple[RunFolder, str]:
    """Prepare a recipe, train it, kill a rank on the way, and type the command again; return the finished run and what was printed."""
    run, file = RunFolder(folder / "run"), folder / "recipe.yaml"
    file.write_text(dump_recipe(recipe))
    run.claim(recipe)
    prepared = prepare(recipe, cache, lambda *_: None)
    run.set_data(DataFolders(prepared.tokenizer, prepared.datasets))
    fault = [{"point": "step.begin", "rank": rank, "step": KILLED_AT, "action": "kill", "count": 1}]
    words = (file, "--run", run.path, "--launcher", "local")
    assert ptm("train", *words, PTM_TESTING="1", PTM_FAULTS=json.dumps(fault)).returncode == 60
    result = ptm("run", *words)
    assert result.returncode == 0, result.stderr
    return run, result.stdout


class Golden:
    """What came out before: resolved recipes, and (step, task, loss) of the small runs. PTM_GOLDEN=write takes what comes out now."""

    folder = Path(__file__).parents[1] / "golden"

    def recipe(self, name: str, found: str) -> str:
        """Return the resolved recipe that is known of a system."""
        path = self.folder / "recipes" / f"{name}.yaml"
        if os.environ.get("PTM_GOLDEN") == "write":
            path.parent.mkdir(exist_ok=True)
            path.write_text(found, encoding="utf8")
        return path.read_text(encoding="utf8")

    def losses(self, name: str, found: list[list[Any]]) -> list[list[Any]]:
        """Return the steps that are known of a system."""
        path = self.folder / "systems" / f"{name}.json"
        if os.environ.get("PTM_GOLDEN") == "write":
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(found) + "\n", encoding="ascii")
        return json.loads(path.read_text(encoding="ascii"))


GOLDEN: Final = Golden()

"""Training examples made readable: the text as the model sees it, and what is asked of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.text import Text

from ptm_dist.cli.words import out
from ptm_dist.corpus.tokenizer import FolderTokenizer, load_tokenizer
from ptm_dist.data.batch import Row
from ptm_dist.data.loader import Reader
from ptm_dist.data.marks import ENTITY, PHRASE, WORD
from ptm_dist.driver.run import Places, prepare_run
from ptm_dist.progress import watching
from ptm_dist.recipe import Recipe
from ptm_dist.run import RunFolder
from ptm_dist.train.attempt import reading_of

SEGMENTS: Final = ("", "cyan", "green", "yellow")
"""The colour of each segment, over and over."""
UNITS: Final = {"word": WORD, "ngram": WORD, "span": WORD, "phrase": PHRASE, "entity": ENTITY}
LEGEND: Final = (
    "A predicted token is followed by ‹what it was›, ‹as is› where it stayed, or ‹n› where it comes n-th in the order of prediction; "
    "‿ ties what is masked together; /n is the label of a token; segments have colours."
)


def show_examples(recipe: Recipe, count: int, cache: Path) -> None:
    """Prepare a recipe in a folder that is then removed, and print rows of it."""
    with tempfile.TemporaryDirectory(prefix="ptm-show-") as folder:
        with watching(out) as watcher:
            run = prepare_run(recipe, Places(Path(folder) / recipe.name, cache), watcher)
        for text in examples_of(recipe, run, count):
            out.print(text, end="\n\n")


def examples_of(recipe: Recipe, run: RunFolder, count: int) -> Iterator[Text]:
    """Yield the first rows of each task as training reads them in its first epoch."""
    data = run.data()
    reader = Reader(reading_of(recipe, data, rank=0, world=1))
    tokenizer = load_tokenizer(data.tokenizer)
    yield Text(LEGEND, style="dim")
    for task in recipe.tasks:
        for number in range(min(count, data.open(task, "train").rows)):
            before, after, row = reader.show(task, number)
            yield _Shown(recipe, task, tokenizer, before, after).text(row)


@dataclass(frozen=True)
class _Shown:
    recipe: Recipe
    task: str
    tokenizer: FolderTokenizer
    before: dict[str, Any]
    after: Row

    def text(self, number: int) -> Text:
        """Return a head line and the tokens."""
        told = [f"{len(self.before['tokens'])} tokens"]
        if "label" in self.before:
            label = int(self.before["label"])
            meaning = self.recipe.tasks[self.task].format.meaning(label)
            told.append(f"label {label}" + (f" ({meaning})" if meaning else ""))
        if "backward" in self.before:
            told.append("right to left" if self.before["backward"][0] else "left to right")
        shown = Text(f"{self.task} row {number:,}: {', '.join(told)}\n", style="bold")
        for part in self._tokens():
            shown.append_text(part)
        return shown

    def _tokens(self) -> Iterator[Text]:
        read = self.after.inputs["tokens"]
        # Sequences that stand side by side are shown as they are stored, one after the other.
        seen = self.tokenizer.pieces((read if read.ndim == 1 else self.before["tokens"]).tolist())
        goes_on = self._goes_on()
        notes = self._notes()
        segments = self.before.get("segments", np.zeros(len(seen), dtype=int))
        for place, piece in enumerate(seen):
            note, style = notes.get(place, ("", SEGMENTS[int(segments[place]) % len(SEGMENTS)]))
            tie = "‿" if goes_on[place] else ""
            yield Text.assemble((tie, "dim"), (piece.lstrip() if tie else piece, style), (note, style))

    def _goes_on(self) -> np.ndarray:
        """Which tokens are tied to the one before, bool [tokens]."""
        marks = self.before.get("marks", np.zeros(len(self.before["tokens"]), dtype=np.uint8))
        units = [UNITS.get(getattr(objective, "unit", ""), 0) for objective in self.recipe.tasks[self.task].objectives]
        return (marks & max(units, default=0)) > 0

    def _notes(self) -> dict[int, tuple[str, str]]:
        """Return what is said of a token, and its style."""
        notes: dict[int, tuple[str, str]] = {}
        targets, inputs = self.after.targets, self.after.inputs
        if "classify_tokens" in targets:
            notes |= {int(at): (f"/{label}", "bold green") for at, label in zip(*targets["classify_tokens"], strict=True) if label}
        if "masked_lm" in targets:
            notes |= {int(at): self._masked(int(inputs["tokens"][at]), int(label)) for at, label in zip(*targets["masked_lm"], strict=True)}
        if "permutation_lm" in targets:
            ranks = inputs["key_order"][targets["permutation_lm"].positions].argsort(kind="stable").argsort() + 1
            notes |= {int(at): (f"‹{rank}›", "bold red") for at, rank in zip(targets["permutation_lm"].positions, ranks, strict=True)}
        return notes

    def _masked(self, seen: int, label: int) -> tuple[str, str]:
        if seen == label:
            return "‹as is›", "bold yellow"
        (was,) = self.tokenizer.pieces([label])
        return f"‹{was.strip()}›", "bold red" if seen == self.tokenizer.vocabulary.mask else "bold magenta"

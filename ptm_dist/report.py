"""What a run gives: its curves, its model, an export for others, and a table of where everything is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from ptm_dist.corpus.tokenizer import load_tokenizer
from ptm_dist.data.dataset import Dataset, RowReader
from ptm_dist.data.vocabulary import Tokenizer
from ptm_dist.errors import ConfigError
from ptm_dist.events import read_events, steps_of
from ptm_dist.inference import Guesses, Model, continue_text, guess, open_model
from ptm_dist.models.generate import Sampling
from ptm_dist.models.interop import LAYOUTS
from ptm_dist.models.interop.folder import write_folder
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import save_recipe
from ptm_dist.run import RunFolder
from ptm_dist.store import explain_disk_errors
from ptm_dist.train.committed import list_checkpoints, verify
from ptm_dist.train.module import PretrainingModel
from ptm_dist.train.state import StateFiles, consolidate
from ptm_dist.train.weights import TOKENIZER, pair_heads

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Run:
    """A run as Python sees it."""

    folder: RunFolder

    @property
    def recipe(self) -> Recipe:
        """The recipe it was started with."""
        return self.folder.recipe()

    def steps(self) -> pandas.DataFrame:
        """Return a frame with a row for each step done, indexed by step: loss, learning_rate, tokens, seconds, and more."""
        import pandas

        events = steps_of(self.folder.events_path)
        return pandas.DataFrame([events[step] for step in sorted(events)]).set_index("step") if events else pandas.DataFrame()

    def evaluations(self) -> pandas.DataFrame:
        """Return a frame with a row for each held-out measurement."""
        import pandas

        return pandas.DataFrame(list(read_events(self.folder.events_path, "evaluated")))

    def checkpoint(self, step: int | None = None) -> Path:
        """Return the directory of the checkpoint of `step`, by default the newest, after checking its hashes.

        Raises:
            ConfigError: there is none.
            DataIntegrityError: it is damaged.

        """
        found = {info.step: info.path for info in list_checkpoints(self.folder.checkpoints)}
        step = max(found, default=0) if step is None else step
        if step not in found:
            have = ", ".join(map(str, sorted(found))) or "none"
            raise ConfigError(f"{self.folder.path}: no checkpoint of step {step}; there are: {have}.")
        verify(found[step])
        return found[step]

    def weights(self, step: int | None = None) -> dict[str, Tensor]:
        """Return every parameter by name, fp32, padded rows cut."""
        return StateFiles(self.checkpoint(step)).weights()

    def model(self, step: int | None = None) -> PretrainingModel:
        """Return the model of a checkpoint, in evaluation mode on the CPU."""
        model = PretrainingModel(self.recipe, self.folder.data().vocabulary)
        with torch.no_grad():
            for name, weight in self.weights(step).items():
                model.get_parameter(name)[: weight.shape[0]].copy_(weight)
        return model.eval()

    def tokenizer(self) -> Tokenizer:
        """Return its tokenizer."""
        return load_tokenizer(self.folder.data().tokenizer)


def load_run(path: str | Path) -> Run:
    """Open a run directory.

    Raises:
        ConfigError: there is no run.

    """
    folder = RunFolder(Path(path))
    folder.recipe()
    return Run(folder)


def export(run: Run, directory: Path, step: int | None = None) -> None:
    """Write the model of a checkpoint as a Hugging Face folder: config, safetensors, tokenizer, model card.

    Raises:
        ConfigError: the family has no such form, or the directory holds something else.

    """
    recipe, data = run.recipe, run.folder.data()
    if recipe.model.kind not in LAYOUTS:
        raise ConfigError(f"model.kind {recipe.model.kind!r} cannot be exported to Hugging Face; can: {', '.join(sorted(LAYOUTS))}.")
    weights, pairs = run.weights(step), pair_heads(recipe)
    if len(pairs) == 1:
        weights = {name.replace(f"heads.{pairs[0]}.", "heads.sequence.", 1): weight for name, weight in weights.items()}
    config, tensors = LAYOUTS[recipe.model.kind].to_hugging_face(weights, recipe.model, data.vocabulary)
    write_folder(directory, config, tensors, data.tokenizer, card(run))


def make_portable(run: Run, directory: Path, step: int | None = None, *, weights_only: bool = False) -> None:
    """Write a checkpoint as one file, with recipe and tokenizer: a folder that `init:` takes, wherever it is carried.

    Raises:
        ConfigError: there is no such checkpoint, or the folder is not empty.
        StorageError: the disk is full or cannot be written.

    """
    if directory.exists() and any(directory.iterdir()):
        raise ConfigError(f"{directory} is not empty. Choose another folder.")
    source = run.checkpoint(step)
    with explain_disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copytree(run.folder.data().tokenizer, directory / TOKENIZER)
        consolidate(source, directory, weights_only)
    save_recipe(run.recipe, directory / "recipe.json")


def card(run: Run) -> str:
    """Return the model card: recipe, data, held-out figures."""
    recipe, lines = run.recipe, []
    for task in recipe.tasks:
        dataset = run.folder.data().open(task, "train")
        lines.append(f"- `{task}`: {dataset.rows:,} examples, {dataset.tokens:,} tokens, digest `{dataset.digest[:16]}`")
    measured = last_evaluations(run)
    figures = [f"- `{task}`: loss {event['loss']:.4f} nats, accuracy {event['accuracy']:.4f}" for task, event in measured.items()]
    return "\n".join(
        [
            f"# {recipe.name}",
            "",
            f"Pretrained with ptm_dist. {recipe.paper}".rstrip(),
            "",
            f"Recipe digest: `{recipe.digest}`",
            "",
            "## Data",
            *lines,
            "",
            "## Held-out",
            *(figures or ["- not measured"]),
            "",
        ]
    )


def last_evaluations(run: Run) -> dict[str, dict[str, Any]]:
    """Return the last held-out measurement of each task."""
    return {event["task"]: event for event in read_events(run.folder.events_path, "evaluated")}


@dataclass(frozen=True)
class FilledMask:
    """A place of a held-out text, what stood there, and what the model puts there, best first."""

    before: str
    truth: str
    after: str
    guesses: Guesses


MOST_TRIED: Final = 64
"""Rows that are looked through for a word."""


def fill_masks(run: Run, count: int = 3, window: int = 24) -> list[FilledMask]:
    """Hide one word in each of `count` held-out texts and let the model fill it in.

    `window` is the number of tokens shown around the word; the model sees the whole row.
    """
    task = next(iter(run.recipe.tasks))
    dataset = run.folder.data().open(task, "validation")
    model = open_model(str(run.folder.path))
    return [_fill(model, tokens, place, window) for tokens, place in _rows_with_words(dataset, model.tokenizer, count)]


def continue_texts(run: Run, count: int = 2, tokens: int = 24) -> list[tuple[str, str]]:
    """Let the model go on from the beginnings of `count` held-out texts; return each beginning and what followed."""
    task = next(iter(run.recipe.tasks))
    dataset, model = run.folder.data().open(task, "validation"), open_model(str(run.folder.path))
    reader, found = RowReader(dataset, 1), []
    for chunk in range(0, len(dataset.chunks), max(1, len(dataset.chunks) // count)):
        row = reader.read(chunk, 0)["tokens"][:tokens]
        prompt = _text_of(model.tokenizer, row)
        found.append((prompt, "".join(continue_text(model, prompt, tokens, Sampling(top_p=0.9)))))
    return found[:count]


def _rows_with_words(dataset: Dataset, tokenizer: Tokenizer, count: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the first row with a whole word in it of each of `count` equal parts of a data set, with the position of one in its middle."""
    reader = RowReader(dataset, 1)
    for part in range(count):
        rows = range(part * dataset.rows // count, (part + 1) * dataset.rows // count)
        for row in rows[:MOST_TRIED]:
            tokens = reader.row(row)["tokens"].astype(np.int64)
            words = [place for place in range(2, len(tokens) - 2) if _is_word(tokenizer, tokens[place - 1 : place + 2].tolist())]
            if words:
                yield tokens, min(words, key=lambda place: abs(place - len(tokens) // 2))
                break


def _is_word(tokenizer: Tokenizer, three: list[int]) -> bool:
    """Is the middle token a word of at least four letters that neither of its neighbours continues?"""
    before, word, after = three
    text = tokenizer.decode([word]).strip()
    begins = tokenizer.decode([before, word]).endswith(f" {text}")
    return len(text) > 3 and text.isalpha() and begins and not tokenizer.decode([word, after]).strip()[len(text) :][:1].isalpha()


def _fill(model: Model, tokens: np.ndarray, place: int, window: int) -> FilledMask:
    hidden = tokens.tolist()
    hidden[place] = model.tokenizer.vocabulary.mask
    (guesses,) = guess(model, hidden, [place], 3)
    parts = (slice(max(0, place - window), place), slice(place, place + 1), slice(place + 1, place + window))
    before, truth, after = (_text_of(model.tokenizer, tokens[part]) for part in parts)
    return FilledMask(before, truth, after, guesses)


def _text_of(tokenizer: Tokenizer, tokens: np.ndarray) -> str:
    """Return the text of a row without its special tokens."""
    return tokenizer.decode([token for token in tokens.tolist() if token not in tokenizer.vocabulary.special_ids])


def summary(run: Run) -> list[tuple[str, str]]:
    """Return what a user wants to know at the end, as rows of a table."""
    steps = steps_of(run.folder.events_path)
    last = steps[max(steps)] if steps else {}
    tokens, seconds = (sum(event[key] for event in steps.values()) for key in ("tokens", "seconds"))
    rows = [("steps", f"{len(steps):,} of {run.recipe.total_steps:,}")]
    if steps:
        rows += [("training loss", f"{last['loss']:.4f} nats at step {last['step']:,}")]
        rows += [("speed", f"{tokens / seconds:,.0f} tokens/s, {tokens:,} tokens in {seconds:,.0f} s")]
    for task, event in last_evaluations(run).items():
        rows += [(f"held-out loss, {task}", f"{event['loss']:.4f} nats, accuracy {event['accuracy']:.2%}")]
        if event.get("unigram_entropy"):
            gain = event["unigram_entropy"] - event["loss"]
            rows += [("held-out unigram entropy", f"{event['unigram_entropy']:.4f} nats ({gain:.2f} nats above the model)")]
    rows += [("run", str(run.folder.path)), ("event log", str(run.folder.events_path))]
    checkpoints: Sequence[Any] = list_checkpoints(run.folder.checkpoints)
    rows += [("last checkpoint", str(max(checkpoints, key=lambda c: c.step).path))] if checkpoints else []
    return rows

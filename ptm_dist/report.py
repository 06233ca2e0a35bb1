"""What a run gives: its curves, its model, an export for others, and a table of where everything is."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from ptm_dist.corpus.tokenizer import load_tokenizer
from ptm_dist.data.dataset import Dataset, RowReader
from ptm_dist.data.marks import WORD
from ptm_dist.data.vocabulary import Tokenizer
from ptm_dist.errors import ConfigError
from ptm_dist.events import by_source, probed, reached, read_events, steps_of
from ptm_dist.finetune.export import export_task, reading_tokenizer
from ptm_dist.finetune.results import read_results
from ptm_dist.inference import Guesses, Model, continue_text, guess_together, open_model
from ptm_dist.models.generate import Sampling
from ptm_dist.models.interop import LAYOUTS
from ptm_dist.models.interop.folder import write_folder
from ptm_dist.recipe import Recipe
from ptm_dist.recipe_io import save_recipe
from ptm_dist.run import RunFolder
from ptm_dist.store import explain_disk_errors
from ptm_dist.train.committed import checkpoint_of, list_checkpoints, verify
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
        """Return a frame with a row for each held-out measurement, and one for each source in it; `source` is "" for all together."""
        import pandas

        return pandas.DataFrame([row for event in read_events(self.folder.events_path, "evaluated") for row in by_source(event)])

    def checkpoint(self, step: int | None = None) -> Path:
        """Return the directory of the checkpoint of `step`, by default the newest, after checking its hashes.

        Raises:
            ConfigError: there is none.
            DataIntegrityError: it is damaged.

        """
        found = checkpoint_of(self.folder.checkpoints, step).path
        verify(found)
        return found

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


def export(run: Run, directory: Path, step: int | None = None, task: str = "") -> None:
    """Write the model of a checkpoint as a Hugging Face folder: config, safetensors, tokenizer, model card.

    Of a fine-tuned model the head goes along, where it has several that of `task`.

    Raises:
        ConfigError: the family or the head has no such form, there is no such task, or the directory holds something else.

    """
    recipe, data = run.recipe, run.folder.data()
    if recipe.model.kind not in LAYOUTS:
        raise ConfigError(f"model.kind {recipe.model.kind!r} cannot be exported to Hugging Face; can: {', '.join(sorted(LAYOUTS))}.")
    if recipe.is_labelled:
        export_task(run.folder, directory, run.checkpoint(step), task)
        return
    weights, pairs = run.weights(step), pair_heads(recipe)
    if len(pairs) == 1:
        weights = {name.replace(f"heads.{pairs[0]}.", "heads.sequence.", 1): weight for name, weight in weights.items()}
    config, tensors = LAYOUTS[recipe.model.kind].to_hugging_face(weights, recipe.model, data.vocabulary)
    joining = recipe.model.joining.without_new()
    reading = reading_tokenizer(joining, data.tokenizer) if joining.has_segments else None
    write_folder(directory, config, tensors, data.tokenizer, card(run), reading)


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
    figures = [f"- `{name}`: loss {reached(event, '.4f')}" for name, event in measured.items()]
    about = [f"# {recipe.name}\n", f"Pretrained with ptm_dist. {recipe.paper}".rstrip(), f"\nRecipe digest: `{recipe.digest}`\n"]
    return "\n".join([*about, "## Data", *lines, "\n## Held-out", *(figures or ["- not measured"]), ""])


def last_evaluations(run: Run) -> dict[str, dict[str, Any]]:
    """Return the last held-out figures by name: of each task (and objective, if it has several), then of each source in it."""
    last = {(event["task"], event["objective"]): event for event in read_events(run.folder.events_path, "evaluated")}
    objectives = Counter(task for task, _ in last)
    return {
        ", ".join([task, *([objective] if objectives[task] > 1 else []), *([found["source"]] if found["source"] else [])]): found
        for (task, objective), event in last.items()
        for found in by_source(event)
    }


def last_probes(run: Run) -> dict[str, dict[str, Any]]:
    """Return the last figures of each probe by name."""
    return {event["probe"]: event for event in read_events(run.folder.events_path, "probed")}


@dataclass(frozen=True)
class FilledMask:
    """A place of a held-out text, what stood there, and what the model puts there, best first."""

    before: str
    truth: str
    after: str
    guesses: Guesses


MOST_TRIED: Final = 64
"""Rows that are looked through for a word."""
_CHINESE: Final = re.compile("[\u4e00-\u9fff]")
_SPACE_IN_CHINESE: Final = re.compile("(?<=[\u3001-\u303f\u4e00-\u9fff\uff01-\uff65]) (?=[\u3001-\u303f\u4e00-\u9fff\uff01-\uff65])")


def fill_masks(run: Run, count: int = 3, window: int = 24) -> list[FilledMask]:
    """Hide one word in each of `count` held-out texts and let the model fill it in; a Chinese word is two characters, both hidden.

    `window` is the number of tokens shown around the word; the model sees the whole row.
    """
    task = next(iter(run.recipe.tasks))
    dataset = run.folder.data().open(task, "validation")
    model = open_model(str(run.folder.path))
    return [_fill(model, tokens, word, window) for tokens, word in _rows_with_words(dataset, model.tokenizer, count)]


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


def _rows_with_words(dataset: Dataset, tokenizer: Tokenizer, count: int) -> Iterator[tuple[np.ndarray, range]]:
    """Yield the first row with a whole word in it of each of `count` equal parts of a data set, with the places of one in its middle."""
    reader = RowReader(dataset, 1)
    for part in range(count):
        rows = range(part * dataset.rows // count, (part + 1) * dataset.rows // count)
        for row in rows[:MOST_TRIED]:
            found = reader.row(row)
            tokens = found["tokens"].astype(np.int64)
            marks = found.get("marks", np.zeros(len(tokens), dtype=np.uint8))
            words = _chinese_words(tokenizer, tokens, marks) or _words(tokenizer, tokens)
            if words:
                yield tokens, min(words, key=lambda word: abs(word.start - len(tokens) // 2))
                break


def _words(tokenizer: Tokenizer, tokens: np.ndarray) -> list[range]:
    """Return the places of tokens that are words of at least four letters, which neither of their neighbours continues."""
    return [range(place, place + 1) for place in range(2, len(tokens) - 2) if _is_word(tokenizer, tokens[place - 1 : place + 2].tolist())]


def _is_word(tokenizer: Tokenizer, three: list[int]) -> bool:
    before, word, after = three
    text = tokenizer.decode([word]).strip()
    begins = tokenizer.decode([before, word]).endswith(f" {text}")
    return len(text) > 3 and text.isalpha() and begins and not tokenizer.decode([word, after]).strip()[len(text) :][:1].isalpha()


def _chinese_words(tokenizer: Tokenizer, tokens: np.ndarray, marks: np.ndarray) -> list[range]:
    """Return the places of Chinese words of two characters; of single characters where rows know of no words."""
    chinese = [bool(_CHINESE.fullmatch(tokenizer.decode([token]).strip())) for token in tokens.tolist()]
    goes_on = (marks & WORD).astype(bool).tolist()
    if not any(goes_on):
        return [range(place, place + 1) for place in range(2, len(tokens) - 2) if chinese[place]]
    starts = range(2, len(tokens) - 3)
    return [range(at, at + 2) for at in starts if chinese[at] and chinese[at + 1] and goes_on[at : at + 3] == [False, True, False]]


def _fill(model: Model, tokens: np.ndarray, word: range, window: int) -> FilledMask:
    hidden = tokens.tolist()
    for place in word:
        hidden[place] = model.tokenizer.vocabulary.mask
    parts = (slice(max(0, word.start - window), word.start), slice(word.start, word.stop), slice(word.stop, word.stop + window - 1))
    before, truth, after = (_text_of(model.tokenizer, tokens[part]) for part in parts)
    return FilledMask(before, truth, after, guess_together(model, hidden, list(word), 3))


def _text_of(tokenizer: Tokenizer, tokens: np.ndarray) -> str:
    """Return the text of a row without its special tokens, and without the spaces that a decoder puts between Chinese characters."""
    return _SPACE_IN_CHINESE.sub(
        "", tokenizer.decode([token for token in tokens.tolist() if token not in tokenizer.vocabulary.special_ids])
    )


def _held_out_rows(name: str, event: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what was reached, and what a guess without context reaches; of a source both in one row, below those of all."""
    told, guess, gain = reached(event, ".2%"), [], ""
    if event.get("unigram_entropy"):
        guess = [("unigram entropy", f"{event['unigram_entropy']:.4f} nats")]
        gain = f" ({event['unigram_entropy'] - event['loss']:.2f} nats above the model)"
    elif event.get("baseline_accuracy"):
        guess = [("labels alone", f"{event['baseline_loss']:.4f} nats, accuracy {event['baseline_accuracy']:.2%}")]
    if event["source"]:
        return [(f"  {event['source']}", "; ".join([told, *map(" ".join, guess)]))]
    return [(f"held-out loss, {name}", told), *((f"held-out {what}", figures + gain) for what, figures in guess)]


def summary(run: Run) -> list[tuple[str, str]]:
    """Return what a user wants to know at the end, as rows of a table."""
    steps = steps_of(run.folder.events_path)
    last = steps[max(steps)] if steps else {}
    tokens, seconds = (sum(event[key] for event in steps.values()) for key in ("tokens", "seconds"))
    rows = [("steps", f"{len(steps):,} of {run.recipe.length.removesuffix(' steps')}")]
    if steps:
        rows += [("training loss", f"{last['loss']:.4f} nats at step {last['step']:,}")]
        rows += [("speed", f"{tokens / seconds:,.0f} tokens/s, {tokens:,} tokens in {seconds:,.0f} s")]
    for name, event in last_evaluations(run).items():
        rows += _held_out_rows(name, event)
    rows += [(f"held-out accuracy, probe {name}", probed(event)) for name, event in last_probes(run).items()]
    rows += [
        (f"{one.task}, {one.split}", f"{', '.join(f'{name} {value:.2f}' for name, value in one.metrics.items())} ({one.items:,} items)")
        for one in map(read_results, sorted((run.folder.path / "results").glob("*.json")))
    ]
    rows += [("run", str(run.folder.path)), ("event log", str(run.folder.events_path))]
    checkpoints: Sequence[Any] = list_checkpoints(run.folder.checkpoints)
    rows += [("last checkpoint", str(max(checkpoints, key=lambda c: c.step).path))] if checkpoints else []
    return rows

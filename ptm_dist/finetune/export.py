"""A fine-tuned model as transformers has it: config.json and tensors with the head of one task, and its model card."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import tokenizers
from tokenizers import processors
from torch import Tensor

from ptm_dist.corpus.existing import SETTINGS
from ptm_dist.corpus.tokenizer import TOKENIZER_FILE, FolderTokenizer, json_file, load_tokenizer
from ptm_dist.data.joining import Joining
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError
from ptm_dist.finetune.results import HEADING, read_results, table
from ptm_dist.models.interop import LAYOUTS
from ptm_dist.models.interop.folder import Config, Tensors, write_folder
from ptm_dist.models.interop.layout import INSTEAD, TaskHead
from ptm_dist.recipe import Recipe
from ptm_dist.run import RunFolder
from ptm_dist.store import read_json
from ptm_dist.train.module import head_name
from ptm_dist.train.state import StateFiles

TASK_TYPES: Final = "backbone.tables.task_types.weight"
ASKED: Final = {
    "classify_text": "the class of a text, or of a pair of texts",
    "regress_text": "a number for a text, or for a pair of texts",
    "tag_words": "a tag for each word, told by its first token",
    "answer_span": "where the answer to a question starts and ends in a text",
    "choose": "which of several answers is right, told by a score for each",
}
"""What each objective tells."""


def export_task(run: RunFolder, directory: Path, checkpoint: Path, task: str = "") -> None:
    """Write a checkpoint of a fine-tuned run as a Hugging Face folder with the head of a task.

    Raises:
        ConfigError: there is no such task, no class of transformers computes this, or the directory holds something else.

    """
    recipe, data, name = run.recipe(), run.data(), one_task(run.recipe(), task)
    config, tensors = hugging_face(recipe, StateFiles(checkpoint).weights(), data.vocabulary, name)
    model: Any = recipe.model
    reading = reading_tokenizer(model.joining, data.tokenizer)
    write_folder(directory, config, tensors, data.tokenizer, card(run, name, config, checkpoint), reading)


def one_task(recipe: Recipe, task: str = "") -> str:
    """Return the task whose head goes along: the one that is named, or that there is.

    Raises:
        ConfigError: there are several, or none of that name.

    """
    names = ", ".join(recipe.tasks)
    if task and task not in recipe.tasks:
        raise ConfigError(f"--task {task}: the run has {names}.")
    if not task and len(recipe.tasks) > 1:
        raise ConfigError(f"the run has {names}; a model of transformers has the head of one task. Name it with --task.")
    return task or names


def hugging_face(recipe: Recipe, weights: Mapping[str, Tensor], vocabulary: Vocabulary, task: str) -> tuple[Config, Tensors]:
    """Return config.json and the tensors of the class of transformers for a task.

    Raises:
        ConfigError: no class of transformers computes what this model computes.

    """
    model: Any = recipe.model
    objective = recipe.tasks[task].objectives[0]
    spec, theirs = objective.head, model.joining.summary
    at = getattr(objective, "at", theirs)
    if at != theirs:
        raise ConfigError(f"tasks.{task}: the head reads the {at} token of a text, that of transformers the {theirs}. {INSTEAD}")
    own = f"heads.{head_name(recipe.owner(task), objective)}."
    named = {name.replace(own, f"heads.{spec.kind}.", 1): weight for name, weight in weights.items()}
    named = _task_first(named, recipe.task_numbers[recipe.owner(task)])
    return LAYOUTS[model.kind].to_hugging_face(named, model, vocabulary, TaskHead(spec, objective.names if spec.kind != "choice" else ()))


def _task_first(weights: Tensors, number: int) -> Tensors:
    """Return weights whose table of tasks, if there is one, has this task in the row that transformers takes when nothing is said."""
    if TASK_TYPES not in weights or number == 0:
        return weights
    table_TH = weights[TASK_TYPES]
    rows = [number, *(row for row in range(len(table_TH)) if row != number)]
    return weights | {TASK_TYPES: table_TH[rows]}


def reading_tokenizer(joining: Joining, folder: Path) -> dict[str, bytes]:
    """Return the files of a tokenizer, where they must change, that make transformers lay texts into rows as the model was trained.

    It gives segments where there are any, which the tokenizers of ALBERT and XLNet do not by themselves since transformers 5; it pads; and
    it sets special tokens that are new to the family.
    """
    vocabulary = load_tokenizer(folder).vocabulary
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    settings = read_json(folder / SETTINGS[0]) if (folder / SETTINGS[0]).exists() else {}
    if joining.has_segments:
        settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    settings["pad_token"] = settings.get("pad_token") or tokenizer.id_to_token(vocabulary.pad)
    found = {SETTINGS[0]: json_file(settings)}
    if joining.new:
        _set_special(tokenizer, joining, vocabulary.size - len(joining.new))
        found[TOKENIZER_FILE] = tokenizer.to_str(pretty=True).encode()
    return found


def _set_special(tokenizer: tokenizers.Tokenizer, joining: Joining, first: int) -> None:
    """Make a tokenizer set special tokens, of which those that are new have the ids from `first` on."""
    single, pair = (
        " ".join(f"${symbol}" if symbol in {"A", "B"} else f"<{symbol}>" for symbol, _ in layout)
        for layout in (joining.single, joining.pair)
    )
    known = [(name, first + number) for number, name in enumerate(joining.new)]
    before = [] if tokenizer.post_processor is None else [tokenizer.post_processor]
    laid = processors.TemplateProcessing(single=single, pair=pair, special_tokens=known)
    tokenizer.post_processor = processors.Sequence([*before, laid])  # pyright: ignore[reportAttributeAccessIssue]


def card(run: RunFolder, task: str, config: Config, checkpoint: Path) -> str:
    """Return the model card: task, labels, how a row is laid, data, and what was measured of this checkpoint."""
    recipe, data = run.recipe(), run.data()
    objective = recipe.tasks[task].objectives[0]
    (made,) = config["architectures"]
    start = Path(re.sub(r"@\d+$", "", recipe.init or "")).name
    model: Any = recipe.model
    lines = [f"# {recipe.name}", ""]
    lines += [f"Fine-tuned with ptm_dist{f' from `{start}`' if start else ', from random weights'}. `{made}` of transformers opens it.", ""]
    lines += [f"Recipe digest: `{recipe.digest}`", "", "## Task", f"- `{task}`: {ASKED.get(objective.kind, objective.kind)}"]
    lines += [f"- {name} is {number}" for number, name in enumerate(objective.names)] if objective.head.kind in {"text", "tags"} else []
    lines += [f"- a row is `{row}`" for row in _rows(model.joining, load_tokenizer(data.tokenizer))]
    lines += ["", "## Data"]
    for split, path in data.datasets[task].items():
        dataset = data.open(task, split)
        lines.append(
            f"- {split}: {dataset.rows:,} rows, {dataset.tokens:,} tokens, digest `{dataset.digest[:16]}`" if path.exists() else ""
        )
    return "\n".join([*lines, "", "## Results", *(_results(run, task, checkpoint) or ["- not measured"]), ""])


def _rows(joining: Joining, tokenizer: FolderTokenizer) -> list[str]:
    """Return how one text, A, and two are laid into a row."""
    texts = {-1: "A", -2: "B"}
    laid = [joining.lay([np.array([place]) for place in list(texts)[:count]], tokenizer.vocabulary).tokens for count in (1, 2)]
    return [" ".join(texts.get(token) or tokenizer.decode([token]).strip() for token in row.tolist()) for row in laid]


def _results(run: RunFolder, task: str, checkpoint: Path) -> list[str]:
    """Return a table of the figures of a checkpoint on the data of the recipe."""
    found = [read_results(path) for path in sorted((run.path / "results").glob("*.json"))]
    digest = run.recipe().digest
    known = [one for one in found if one.task == task and Path(one.checkpoint).name == checkpoint.name and one.recipe_digest == digest]
    if not known:
        return []
    columns = HEADING[1:-1]  # one task, one seed
    ruled = [columns, ["---"] * len(columns), *(line[1:-1] for line in table(known))]
    return [f"| {' | '.join(line)} |" for line in ruled]

"""Verbs under the noun model: import, fill-mask, generate and embed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Annotated

import typer

from ptm_dist.cli.words import out
from ptm_dist.errors import ConfigError

model_app = typer.Typer(no_args_is_help=True, help="Import a model, and put one to use.")

ModelArgument = Annotated[str, typer.Argument(help="A run, RUN@STEP, or an exported or Hugging Face folder.", metavar="MODEL")]
Texts = Annotated[list[str] | None, typer.Argument(help="Texts. Without any, lines of the standard input.", metavar="[TEXT]...")]


@model_app.command("import", epilog="Example: ptm model import bert-base-uncased/ models/bert-base")
def import_model(
    folder: Annotated[Path, typer.Argument(help="A Hugging Face folder.", metavar="HF_FOLDER")],
    directory: Annotated[Path, typer.Argument(help="Folder to make.", metavar="DIR")],
) -> None:
    """Turn a Hugging Face folder into a portable folder, and print the model and tokenizer sections of a recipe that starts from it."""
    from ptm_dist.train.weights import make_portable_model, source_of

    if directory.exists():
        raise ConfigError(f"{directory} exists. Choose another folder.")
    source = source_of(str(folder))
    make_portable_model(source, directory)
    parameters = sum(weight.numel() for weight in source.weights().values())
    out.print(f"# {directory}: {parameters:,} parameters. A recipe that starts from it:")
    out.print(f"init: {directory}", markup=False)
    out.print(f"tokenizer: {{kind: existing, folder: {directory / 'tokenizer'}}}", markup=False)
    out.print(f"model: {json.dumps(source.settings.model_dump(mode='json'))}", markup=False)


@model_app.command("fill-mask", epilog='Example: ptm model fill-mask runs/quickstart-1a2b3c4d "The capital of France is [MASK]."')
def fill_mask(
    model: ModelArgument,
    texts: Texts = None,
    count: Annotated[int, typer.Option("--top", min=1, help="How many words to show for each mask.")] = 5,
) -> None:
    """Find words for the masks of texts, written [MASK] or <mask>."""
    from ptm_dist.inference import fill_mask as fill
    from ptm_dist.inference import open_model

    opened = open_model(model)
    for text in _lines(texts):
        out.print(text, markup=False)
        for guesses in fill(opened, text, count):
            out.print("  " + "  ".join(f"{word} {share:.1%}" for word, share in guesses), markup=False)


@model_app.command("generate", epilog='Example: ptm model generate runs/gpt2-1a2b3c4d "Once upon a time" --tokens 40 --top-p 0.9')
def generate(
    model: ModelArgument,
    texts: Texts = None,
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens to add.")] = 50,
    temperature: Annotated[float, typer.Option(min=0, help="0 always takes the likeliest token.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Draw from so many likeliest tokens; 0: from all.")] = 0,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Draw from the fewest tokens that have this share together.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal texts.")] = 1,
) -> None:
    """Continue texts, token by token."""
    from ptm_dist.inference import continue_text, open_model
    from ptm_dist.models.generate import Sampling

    opened, sampling = open_model(model), Sampling(temperature, top_k, top_p)
    for text in _lines(texts):
        for number, piece in enumerate(continue_text(opened, text, tokens, sampling, seed)):
            sys.stdout.write(piece if number else text + piece)
            sys.stdout.flush()
        sys.stdout.write("\n")


@model_app.command("embed", epilog='Example: ptm model embed MODEL --word bank "the bank of the river" "a bank account"')
def embed(
    model: ModelArgument,
    texts: Texts = None,
    word: Annotated[str, typer.Option(help="Compare the vectors of this word in the texts.")] = "",
) -> None:
    """Print the vector of each text as a line of JSON; with --word, how alike that word is in each two of the texts."""
    from ptm_dist.inference import cosine, open_model
    from ptm_dist.inference import embed as vectors_of

    opened = open_model(model)
    found = [vectors_of(opened, text, word) for text in _lines(texts)]
    if not word:
        for vectors in found:
            sys.stdout.write(json.dumps({"text": vectors.text, "vector": vectors.mean.tolist()}, ensure_ascii=False) + "\n")
    words = [(vectors.text, vectors.word) for vectors in found if vectors.word is not None]
    for (one, vector), (other, its) in combinations(words, 2):
        out.print(f"{cosine(vector, its):.3f}  {word}: {one} | {other}", markup=False)


def _lines(texts: list[str] | None) -> Iterator[str]:
    yield from texts or (line.rstrip("\n") for line in sys.stdin if line.strip())


AT_ONCE = 256
"""Lines that are predicted together."""


@model_app.command(epilog="Example: ptm model predict runs/snippets_bert-1a2b3c4d reviews.txt > predictions.jsonl")
def predict(
    model: Annotated[str, typer.Argument(help="A fine-tuned run, or RUN@STEP.", metavar="RUN")],
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files with an item a line, text or JSON. Without any, the standard input.")
    ] = None,
    task: Annotated[str, typer.Option("--task", help="Which task, where the run has several.", show_default=False)] = "",
) -> None:
    """Print what a fine-tuned model says of each line, a line of JSON each."""
    from itertools import chain, islice

    from ptm_dist.finetune.lines import items_of
    from ptm_dist.finetune.results import line_of
    from ptm_dist.finetune.scoring import predict as predicted
    from ptm_dist.finetune.setup import Score
    from ptm_dist.finetune.tasks import TaskModel
    from ptm_dist.run import RunFolder

    opened = TaskModel.open(model)
    name = task or next(iter(opened.recipe.tasks))
    if name not in opened.recipe.tasks:
        raise ConfigError(f"--task {name}: the run has {', '.join(opened.recipe.tasks)}.")
    settings = Score.of(RunFolder(Path(model.partition("@")[0])))
    lines = chain.from_iterable(_lines_of(file) for file in files) if files else sys.stdin
    items = items_of(opened.recipe.tasks[name].format.kind, lines)
    while batch := list(islice(items, AT_ONCE)):
        found, bad = predicted(opened, name, batch, settings)
        for one in found.values():
            sys.stdout.write(line_of(one) + "\n")
        for one in bad:
            print(f"{one.where}: left out: {one.why}", file=sys.stderr)
        sys.stdout.flush()


def _lines_of(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from file
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}). Give UTF-8 text, or JSON lines.") from error

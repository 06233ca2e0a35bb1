"""Verbs under nouns: data and checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ptm_dist.cli.words import CACHE, CacheOption, RunOption, RunPath, TextOption, Words, out, places_of, recipe_of, run_and_step
from ptm_dist.errors import ConfigError

data_app = typer.Typer(no_args_is_help=True, help="Prepare, list and verify data sets.")
checkpoint_app = typer.Typer(no_args_is_help=True, help="List, verify, pin and convert checkpoints.")


@data_app.command("prepare", epilog="Example: ptm data prepare configs/quickstart.yaml")
def data_prepare(words: Words, text: TextOption = None, run: RunOption = None, cache: CacheOption = CACHE) -> None:
    """Read, clean, deduplicate, tokenize and shard; what is finished is not done again."""
    from ptm_dist.driver.run import prepare_run
    from ptm_dist.progress import watching

    recipe = recipe_of(words, text)
    with watching(out) as watcher:
        folder = prepare_run(recipe, places_of(recipe, run, cache), watcher)
    data = folder.data()
    for task, splits in data.datasets.items():
        for split in splits:
            _say_dataset(f"{task}.{split}", data.datasets[task][split])
    out.print(f"run {folder.path}: ready to train")


@data_app.command("ls", epilog="Example: ptm data ls runs/quickstart-1a2b3c4d")
def data_ls(path: RunPath) -> None:
    """List the data sets of a run."""
    from ptm_dist.run import RunFolder

    folder = RunFolder(path)
    folder.recipe()
    for task, splits in folder.data().datasets.items():
        for split, directory in splits.items():
            _say_dataset(f"{task}.{split}", directory)


@data_app.command("verify", epilog="Example: ptm data verify runs/quickstart-1a2b3c4d")
def data_verify(path: RunPath) -> None:
    """Hash every shard of the data sets of a run, or of one data set directory."""
    from ptm_dist.data.dataset import MANIFEST, Dataset
    from ptm_dist.run import RunFolder

    if (path / MANIFEST).exists():
        directories = [path]
    else:
        RunFolder(path).recipe()
        directories = [directory for splits in RunFolder(path).data().datasets.values() for directory in splits.values()]
    for directory in directories:
        Dataset.open(directory).verify()
        out.print(f"{directory}: every shard is what its manifest says")


@checkpoint_app.command("ls", epilog="Example: ptm checkpoint ls runs/quickstart-1a2b3c4d")
def checkpoint_ls(path: RunPath) -> None:
    """List the checkpoints of a run; each resumes with any number of workers and any ZeRO stage."""
    from ptm_dist.run import RunFolder
    from ptm_dist.train.committed import list_checkpoints, list_quarantined

    RunFolder(path).recipe()
    for found in list_checkpoints(RunFolder(path).checkpoints):
        world = f"written by {found.world} workers" if found.world else "unreadable manifest"
        pins = f"  pinned: {', '.join(found.pins)}" if found.pins else ""
        out.print(f"step {found.step:>10,}  {found.bytes / 2**20:10,.1f} MiB  {world}  {found.path}{pins}", markup=False)
    for set_aside in list_quarantined(RunFolder(path).checkpoints):
        out.print(f"damaged, set aside: {set_aside}", markup=False)


@checkpoint_app.command("verify", epilog="Example: ptm checkpoint verify runs/quickstart-1a2b3c4d")
def checkpoint_verify(path: RunPath) -> None:
    """Hash every file of every checkpoint of a run."""
    from ptm_dist.run import RunFolder
    from ptm_dist.train.committed import list_checkpoints, verify

    RunFolder(path).recipe()
    for found in list_checkpoints(RunFolder(path).checkpoints):
        verify(found.path)
        out.print(f"{found.path}: valid")


@checkpoint_app.command("pin", epilog="Example: ptm checkpoint pin runs/quickstart-1a2b3c4d@1000 --name before-the-fork")
def checkpoint_pin(
    path: Annotated[str, typer.Argument(help="A run directory and a step.", metavar="RUN@STEP")],
    name: Annotated[str, typer.Option(help="What it is kept for; the same name on another step moves.")] = "kept",
) -> None:
    """Keep a checkpoint for ever; others make room for newer ones."""
    from ptm_dist.run import RunFolder
    from ptm_dist.train.committed import pin

    run, step = run_and_step(path)
    if step is None:
        raise ConfigError(f"{path}: say which step to pin, RUN@STEP. ptm checkpoint ls shows what there is.")
    RunFolder(Path(run)).recipe()
    pin(RunFolder(Path(run)).checkpoints, step, name)
    out.print(f"{path}: kept as {name}")


@checkpoint_app.command("convert", epilog="Example: ptm checkpoint convert runs/quickstart-1a2b3c4d@1000 portable --weights-only")
def checkpoint_convert(
    path: Annotated[str, typer.Argument(help="A run directory, or RUN@STEP.", metavar="RUN[@STEP]")],
    directory: Annotated[Path, typer.Argument(help="Folder to make.", metavar="DIR")],
    weights_only: Annotated[bool, typer.Option("--weights-only", help="Leave the optimizer's state out.")] = False,
) -> None:
    """Write a checkpoint as one file, with recipe and tokenizer: a portable folder, which `init:` of a recipe takes."""
    from ptm_dist.report import load_run, make_portable

    name, step = run_and_step(path)
    make_portable(load_run(name), directory, step, weights_only=weights_only)
    out.print(f"{directory}: one file of state, recipe and tokenizer. Start from it with init={directory}")


def _say_dataset(name: str, directory: Path) -> None:
    from ptm_dist.data.dataset import Dataset

    dataset = Dataset.open(directory)
    of = ", ".join(f"{source} {len(part.rows):,}" for source, part in dataset.sources.items() if source)
    told = f"{dataset.rows:,} examples{of and f' ({of})'}, {dataset.tokens:,} tokens"
    out.print(f"{name}: {told}, {len(dataset.shards)} shards in {directory}")

"""The command line: verbs, help with examples, progress, and exit codes by cause. Heavy modules are imported by their verb."""

from __future__ import annotations

import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ptm_dist.cli import flat
from ptm_dist.cli.cluster import cluster_app
from ptm_dist.cli.finetune import EPILOG as FINETUNE_EPILOG
from ptm_dist.cli.finetune import finetune
from ptm_dist.cli.jobs import job_app
from ptm_dist.cli.model import model_app
from ptm_dist.cli.nouns import checkpoint_app, data_app
from ptm_dist.cli.sweep import EPILOG as SWEEP_EPILOG
from ptm_dist.cli.sweep import sweep
from ptm_dist.cli.words import (
    CACHE,
    BecauseOption,
    CacheOption,
    ClusterOption,
    ExtendOption,
    LauncherOption,
    RunOption,
    RunPath,
    TextOption,
    Words,
    out,
    places_of,
    recipe_of,
    run_and_step,
)
from ptm_dist.errors import EXIT_CODES, ConfigError, PtmError

app = typer.Typer(
    name="ptm",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From raw text to pretrained language models.\n\nStart here: [bold]ptm run configs/quickstart.yaml[/bold]",
)
app.add_typer(data_app, name="data")
app.add_typer(checkpoint_app, name="checkpoint")
app.add_typer(model_app, name="model")
app.add_typer(job_app, name="job")
app.add_typer(cluster_app, name="cluster")


@app.command(epilog="Example: ptm run configs/quickstart.yaml --text notes/ more.jsonl")
def run(
    words: Words,
    text: TextOption = None,
    run: RunOption = None,
    cache: CacheOption = CACHE,
    launcher: LauncherOption = "ray",
    cluster: ClusterOption = None,
    because: BecauseOption = "",
    extend: ExtendOption = None,
) -> None:
    """Prepare what is missing, train, export, and show what the model does."""
    from ptm_dist.driver.run import export_run, train_run
    from ptm_dist.progress import show_results, watching

    recipe = recipe_of(words, text)
    places = replace(places_of(recipe, run, cache, launcher, cluster), because=because, extend=extend)
    with watching(out) as watcher:
        finished = train_run(recipe, places, watcher)
    show_results(out, finished, export_run(finished), sys.prefix)


@app.command(epilog="Example: ptm train configs/quickstart.yaml --trial")
def train(
    words: Words,
    text: TextOption = None,
    run: RunOption = None,
    cache: CacheOption = CACHE,
    launcher: LauncherOption = "ray",
    cluster: ClusterOption = None,
    because: BecauseOption = "",
    extend: ExtendOption = None,
    trial: Annotated[bool, typer.Option("--trial", help="Do three steps, say what the whole run needs, and leave nothing behind.")] = False,
) -> None:
    """Train a recipe, or go on where its run stopped."""
    from ptm_dist.driver.run import train_run
    from ptm_dist.driver.run import trial as try_out
    from ptm_dist.progress import show_table, watching
    from ptm_dist.report import summary

    recipe = recipe_of(words, text)
    places = replace(places_of(recipe, run, cache, launcher, cluster), because=because, extend=extend)
    with watching(out) as watcher:
        rows = try_out(recipe, places, watcher) if trial else summary(train_run(recipe, places, watcher))
    show_table(out, rows)


@app.command(epilog="Example: ptm fork runs/quickstart-1a2b3c4d --at 1000 optimizer.learning_rate=1e-4 --run runs/cooler")
def fork(
    path: RunPath,
    at: Annotated[int, typer.Option("--at", help="Step of the checkpoint to begin with.")],
    words: Annotated[
        list[str] | None, typer.Argument(help="Recipe files, then dotted.key=value.", metavar="[OVERLAY]... [KEY=VALUE]...")
    ] = None,
    run: RunOption = None,
) -> None:
    """Make a new run from a checkpoint of another, with its weights, moments and place in the data, under a changed recipe."""
    from ptm_dist.driver.change import fork as make
    from ptm_dist.recipe_io import overlaid
    from ptm_dist.report import load_run
    from ptm_dist.run import default_path

    parent = load_run(path)
    recipe = overlaid(parent.recipe, [word for word in words or [] if "=" not in word], [word for word in words or [] if "=" in word])
    target = run or default_path(recipe)
    for key, before, after in make(parent, at, recipe, target):
        out.print(f"{key}: {before} -> {after}", markup=False)
    out.print(f"run {target}: begins at step {at:,} of {path}. Train it: ptm train {target}/recipe.json --run {target}", markup=False)


app.command(epilog="Example: ptm status runs/quickstart-1a2b3c4d")(flat.status)
app.command(epilog="Example: ptm logs runs/quickstart-1a2b3c4d --rank 1")(flat.logs)
app.command(epilog="Example: ptm stop runs/quickstart-1a2b3c4d")(flat.stop)
app.command(epilog="Example: ptm history runs/quickstart-1a2b3c4d --since 24h")(flat.history)
app.command(epilog="Example: ptm report runs/quickstart-1a2b3c4d --watch")(flat.report)
app.command(epilog="Example: ptm compare runs/one runs/other --at tokens")(flat.compare)
app.command(epilog=SWEEP_EPILOG)(sweep)
app.command(epilog=FINETUNE_EPILOG)(finetune)


@app.command(epilog="Example: ptm export runs/quickstart-1a2b3c4d@1000 --to hf my-model")
def export(
    path: Annotated[str, typer.Argument(help="A run directory, or RUN@STEP.", metavar="RUN[@STEP]")],
    directory: Annotated[Path, typer.Argument(help="Folder to make.", metavar="DIR")],
    to: Annotated[str, typer.Option("--to", help="Form of the export.")] = "hf",
    task: Annotated[str, typer.Option("--task", help="Whose head, where a fine-tuned run has several tasks.", show_default=False)] = "",
) -> None:
    """Write a Hugging Face folder: config.json, model.safetensors, tokenizer, model card."""
    from ptm_dist.report import export as write
    from ptm_dist.report import load_run

    if to != "hf":
        raise ConfigError(f"--to {to}: the one form is hf.")
    name, step = run_and_step(path)
    write(load_run(name), directory, step, task)
    out.print(f"{directory}: ready for from_pretrained of transformers' AutoModel and AutoTokenizer")


@app.command(epilog="Example: ptm show configs/quickstart.yaml")
def show(
    words: Annotated[
        list[str] | None, typer.Argument(help="Recipe files, then dotted.key=value.", metavar="RECIPE... [KEY=VALUE]...")
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of recipes, for editors.")] = False,
    examples: Annotated[
        int, typer.Option("--examples", min=0, help="Print so many rows of each task as training reads them; prepares what is missing.")
    ] = 0,
    paper: Annotated[bool, typer.Option("--paper", help="Print the recipe beside what was published, line by line.")] = False,
    cache: CacheOption = CACHE,
) -> None:
    """Print a recipe as it is understood, every default filled in, and what it costs; or rows that it trains on; or its paper beside it."""
    import json

    from ptm_dist.cli.costs import lines_of
    from ptm_dist.cost import cost_of
    from ptm_dist.recipe_io import dump_recipe, recipe_schema
    from ptm_dist.train.budget import told_budgets

    if schema:
        out.print_json(json.dumps(recipe_schema()))
        return
    recipe = recipe_of(words or [])
    if examples:
        from ptm_dist.cli.examples import show_examples

        show_examples(recipe, examples, cache)
        return
    if paper:
        from ptm_dist.cli.papers import show_paper

        show_paper(out, recipe, [word for word in words or [] if "=" not in word])
        return
    told = "".join(f"# {line}\n" for line in (*lines_of(cost_of(recipe)), *told_budgets(recipe)))
    sys.stdout.write(f"# digest {recipe.digest}\n{told}{dump_recipe(recipe)}")


@app.command(epilog="Example: ptm diff configs/quickstart.yaml runs/quickstart-1a2b3c4d")
def diff(
    first: Annotated[str, typer.Argument(help="A recipe file or a run directory.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
) -> None:
    """Print what differs between two recipes or runs, and what each costs."""
    from ptm_dist.cli.costs import show_costs
    from ptm_dist.cost import cost_of
    from ptm_dist.recipe_io import recipe_diff
    from ptm_dist.run import RunFolder

    one, two = (RunFolder(Path(name)).recipe() if Path(name).is_dir() else recipe_of([name]) for name in (first, second))
    changes = recipe_diff(one, two)
    for key, before, after in changes:
        out.print(f"{key}: {before} -> {after}", markup=False)
    if not changes:
        out.print("no difference")
        return
    out.print()
    show_costs(out, (first, second), (cost_of(one), cost_of(two)))


@app.command("systems", epilog="Example: ptm systems")
def list_systems() -> None:
    """List the published systems that configs/ holds: date, class, ancestor, paper, recipe, parameters and steps."""
    from ptm_dist.cli.systems import find_recipes, rows_of, show_systems

    show_systems(out, rows_of(find_recipes()))


@app.command(epilog="Example: ptm doctor")
def doctor() -> None:
    """Check this machine: versions, memory, disk, and what is known to make starts hang."""
    from ptm_dist.doctor import examine

    findings = examine()
    for finding in findings:
        out.print(f"{'ok  ' if finding.fine else 'FIX '} {finding.text}", markup=False)
    if not all(finding.fine for finding in findings):
        raise typer.Exit(1)


def spread_text(words: list[str]) -> list[str]:
    """Let `--text a b` mean `--text a --text b`: a shell that expands notes/*.txt gives many words after one option."""
    spread, after_text = [], False
    for word in words:
        if word.startswith("-"):
            after_text = word == "--text"
            spread += [] if after_text else [word]
        else:
            spread += ["--text", word] if after_text else [word]
    return spread


INTERRUPTED = 130
"""What Typer makes of Ctrl-C."""


def main() -> None:
    """Run a verb; an error prints one line that says what, where and what to do, and exits with its cause's code."""
    debug = "--debug" in sys.argv
    words = spread_text([word for word in sys.argv[1:] if word != "--debug"])
    try:
        code = app(args=words, prog_name="ptm", standalone_mode=False) or 0
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code)
    except typer.TyperException as error:
        getattr(error, "show", print)()  # A usage error shows its own text, the help included.
        sys.exit(ConfigError.exit_code if words else 0)
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("exit 11: stopped; what was finished is kept, and the same command goes on from there\n")
        sys.exit(11)
    except PtmError as error:
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"error: {error}\nexit {error.exit_code}: {EXIT_CODES[error.exit_code]}\n")
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        sys.stderr.write(f"error: {type(error).__name__}: {error} (--debug shows where)\nexit 70: {EXIT_CODES[70]}\n")
        sys.exit(70)

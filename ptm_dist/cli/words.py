"""What the verbs share: how recipes, runs and places are given on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ptm_dist.errors import ConfigError

if TYPE_CHECKING:
    from ptm_dist.driver.run import Places
    from ptm_dist.recipe import Recipe

CACHE = Path("data")
out = Console(highlight=False, soft_wrap=True)

Words = Annotated[
    list[str], typer.Argument(help="Recipe files, merged left to right, then dotted.key=value.", metavar="RECIPE... [KEY=VALUE]...")
]
RunPath = Annotated[Path, typer.Argument(help="A run directory.", metavar="RUN")]
RunOption = Annotated[Path | None, typer.Option("--run", help="Run directory. Default: runs/NAME-DIGEST.", show_default=False)]
CacheOption = Annotated[Path, typer.Option("--cache", help="Where prepared data are kept and found again.", envvar="PTM_CACHE")]
TextOption = Annotated[list[str] | None, typer.Option("--text", help="Train on these files, folders or globs instead of the sources.")]
BecauseOption = Annotated[str, typer.Option("--because", help="Why settings of an existing run have changed; its history keeps it.")]
ExtendOption = Annotated[
    str | None, typer.Option("--extend", help="What the learning rate does in a run made longer: stretch, hold or restart.")
]
ClusterOption = Annotated[
    Path | None, typer.Option("--cluster", help="A cluster file: restarts, least workers, messages, where metrics are served.")
]
LauncherOption = Annotated[str, typer.Option("--launcher", help="Who starts the workers: ray, or local (no Ray while training).")]


def recipe_of(words: list[str], text: list[str] | None = None) -> Recipe:
    """Return the recipe that files and dotted.key=value describe.

    Raises:
        ConfigError: they describe none.

    """
    from ptm_dist.recipe_io import load_recipe

    files = [word for word in words if "=" not in word]
    if not files:
        raise ConfigError("no recipe file given. Example: ptm run configs/quickstart.yaml batch.tokens=2048")
    paths = [path if "://" in path else str(Path(path).absolute()) for path in text or ()]
    recipe = load_recipe(files, [word for word in words if "=" in word], paths)
    return _with_absolute_paths(recipe)


def _with_absolute_paths(recipe: Recipe) -> Recipe:
    """Return the recipe with paths that do not depend on where it was typed, since workers may run elsewhere."""
    if recipe.init:
        recipe = recipe.model_copy(update={"init": str(Path(recipe.init).absolute())})
    paths = {key: getattr(recipe.tokenizer, key, None) for key in ("folder", "add")}
    found = {key: str(Path(path).absolute()) for key, path in paths.items() if path}
    recipe = recipe.model_copy(update={"tokenizer": recipe.tokenizer.model_copy(update=found)}) if found else recipe
    units = recipe.corpus.units
    if units is None or not getattr(units, "dictionaries", ()):
        return recipe
    units = units.model_copy(update={"dictionaries": tuple(str(Path(name).absolute()) for name in units.dictionaries)})
    return recipe.model_copy(update={"corpus": recipe.corpus.model_copy(update={"units": units})})


def places_of(recipe: Recipe, run: Path | None, cache: Path, launcher: str = "ray", cluster: Path | None = None) -> Places:
    """Return where a run of `recipe` lives, who starts its workers, and on what terms.

    Raises:
        ConfigError: there is no such launcher, or the cluster file is wrong.

    """
    from ptm_dist.clusters.files import load_cluster
    from ptm_dist.driver.launchers import LAUNCHERS
    from ptm_dist.driver.run import Places
    from ptm_dist.run import default_path
    from ptm_dist.terms import Terms

    if launcher not in LAUNCHERS:
        raise ConfigError(f"--launcher {launcher}: one of {', '.join(LAUNCHERS)}.")
    terms = load_cluster(cluster) if cluster else Terms()
    return Places(run or default_path(recipe), cache, launcher, terms=terms)


def run_and_step(text: str) -> tuple[str, int | None]:
    """Split RUN or RUN@STEP.

    Raises:
        ConfigError: what stands after the @ is no number.

    """
    name, _, step = text.partition("@")
    if step and not step.isdigit():
        raise ConfigError(f"{text}: after @ comes a step number.")
    return name, int(step) if step else None

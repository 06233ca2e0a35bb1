"""From labelled items to the data sets of a task or a probe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptm_dist.corpus.labelled import Labelled
from ptm_dist.corpus.shard import write_dataset
from ptm_dist.corpus.split import SPLITS
from ptm_dist.corpus.tokenizer import load_tokenizer
from ptm_dist.data.dataset import LENGTHS, MANIFEST, TOKEN_COUNTS, Dataset
from ptm_dist.data.example import Example
from ptm_dist.data.item import Bad
from ptm_dist.data.joining import Joining
from ptm_dist.driver.stages import Finished, Output, Prepared, Progress, Stage, Task, run_stage
from ptm_dist.driver.tasks import train_tokenizer
from ptm_dist.errors import DataIntegrityError
from ptm_dist.formats.labelled import LabelledFormat, Tools

if TYPE_CHECKING:
    from ptm_dist.recipe import Recipe


@dataclass(frozen=True)
class LabelledWork:
    """What rows of a task are made of, and how. `place` is where the sources stand in the recipe."""

    format: LabelledFormat
    sources: dict[str, Labelled]
    tokenizer: Path
    joining: Joining
    names: tuple[str, ...]
    place: str = "sources"


def prepare_items(recipe: Recipe, cache: Path, progress: Progress) -> Prepared:
    """Prepare the labelled data of a recipe, which are neither cleaned nor dealt: their splits are given, and so is the tokenizer.

    Raises:
        DataUnavailableError: a source cannot be read, or nothing is left of a split.
        DataIntegrityError: an item cannot be used, and its source does not say `bad: skip`.

    """
    taken = recipe.tokenizer
    tokenizer = run_stage(
        Stage("tokenizer", 1, taken.model_dump(mode="json"), (), (taken.library,)),
        lambda: [Task("train", train_tokenizer, (taken, []))],
        cache,
        progress,
    )
    folder = tokenizer.directory / "tokenizer"
    vocabulary, found = load_tokenizer(folder).vocabulary, dict[str, Finished]()
    for task in recipe.tasks:
        sources = {name: recipe.sources[name] for name in recipe.sources_of(task)}
        work = LabelledWork(recipe.tasks[task].format, sources, folder, recipe.model.joining, recipe.names_of(task))
        about = {"vocabulary": vocabulary.to_json(), "tokenizer": tokenizer.digest, "task": task}
        found[task] = labelled_stage(work, about, (tokenizer.digest,), cache, progress)
    datasets = {task: {split: stage.directory / split for split in stage.results} for task, stage in found.items()}
    counts = {task: stage.results for task, stage in found.items()}
    return Prepared(folder, datasets, {"sources": {}, "vocabulary": vocabulary.size, "examples": counts})


def labelled_stage(work: LabelledWork, about: dict[str, Any], inputs: tuple[str, ...], cache: Path, progress: Progress) -> Finished:
    """Prepare the splits that all sources have; `about` goes into the manifests, and `inputs` tell the tokenizer from others."""
    own = {"format": work.format.model_dump(mode="json"), "names": work.names, "joining": asdict(work.joining)}
    own |= {"task": about["task"], "sources": {name: source.identity() for name, source in work.sources.items()}}
    splits = [split for split in SPLITS if all(source.has(split) for source in work.sources.values())]
    return run_stage(
        Stage("labelled", 1, own, inputs), lambda: [Task(split, write_labelled, (split, work, about)) for split in splits], cache, progress
    )


def prepare_probes(recipe: Recipe, tokenizer: Path, cache: Path, progress: Progress) -> dict[str, dict[str, Path]]:
    """Prepare what is missing of the data sets of the probes, which `recipe.probe_data` names, and return the folders of their splits.

    `tokenizer` is the folder of the one that the run has. The caller has started Ray.

    Raises:
        DataUnavailableError: a source cannot be read, or nothing is left of a split.
        DataIntegrityError: an item cannot be used, and its source does not say `bad: skip`.

    """
    made, joining = tokenizer.parent.name, recipe.model.joining
    if getattr(recipe.tokenizer, "special", ())[-len(joining.new) :] != joining.new:
        joining = joining.without_new()
    vocabulary, found = load_tokenizer(tokenizer).vocabulary.to_json(), dict[str, dict[str, Path]]()
    for name, probe in recipe.evaluate.downstream.items():
        place = f"evaluate.downstream.{name}"
        work = LabelledWork(probe.format, {"sources": probe.sources}, tokenizer, joining, probe.labels, place)
        stage = labelled_stage(work, {"vocabulary": vocabulary, "tokenizer": made, "task": place}, (made,), cache.resolve(), progress)
        found[recipe.probe_data[name]] = {split: stage.directory / split for split in stage.results}
    return found


def write_labelled(directory: Path, split: str, work: LabelledWork, about: dict[str, Any]) -> Output:
    """Write the data set of a split, in the order of its items.

    Raises:
        DataUnavailableError: a file is missing, or no item is left.
        DataIntegrityError: an item cannot be used, and its source does not say `bad: skip`.

    """
    tools = Tools(load_tokenizer(work.tokenizer), work.joining, work.names)
    skipped = Counter[str]()
    examples = (example for name in work.sources for example in _examples(name, split, (work, tools, skipped)))
    write_dataset(examples, directory / split, tools.vocabulary, about | {"split": split})
    dataset = Dataset.open(directory / split)
    files = [MANIFEST, LENGTHS, TOKEN_COUNTS, *(shard.name for shard in dataset.shards)]
    results = {"rows": dataset.rows, "tokens": dataset.tokens, "skipped": dict(sorted(skipped.items()))}
    return Output([f"{split}/{name}" for name in files], results)


def _examples(name: str, split: str, how: tuple[LabelledWork, Tools, Counter[str]]) -> Iterator[Example]:
    work, tools, skipped = how
    source = work.sources[name]
    items, bad = source.items(split)
    skipped.update(bad)
    found = list[Bad]()
    for made in work.format.rows(items, tools, training=True):
        if isinstance(made, Bad):
            found.append(made)
        else:
            yield made.example
    require_usable(f"{work.place}.{name}", source, found)
    skipped.update(one.why for one in found)


def require_usable(path: str, source: Labelled, bad: Sequence[Bad]) -> None:
    """Refuse items that cannot be used, unless their source, at a dotted path of the recipe, says to skip them.

    Raises:
        DataIntegrityError: how many there are, and which is the first.

    """
    if bad and source.bad == "error":
        reasons = ", ".join(f"{count} {why}" for why, count in sorted(Counter(one.why for one in bad).items()))
        raise DataIntegrityError(
            f"{path}: {len(bad):,} items cannot be used ({reasons}); the first: {bad[0].where}: {bad[0].why}. "
            f"Mend them, or write {path}.bad=skip to leave them out and count them."
        )

"""ptm data prepare: from sources to tokenizer and data sets, stage by stage, doing only what is missing.

documents (read and clean) > deal (duplicates and splits) > tokenizer, and units if wanted > tokens > examples, each in a directory of
the cache that is named by the digest of everything that decides its bytes. The caller has started Ray.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ptm_dist.corpus.shard import Shards, merge
from ptm_dist.corpus.split import SPLITS
from ptm_dist.corpus.tokenizer import load_tokenizer
from ptm_dist.data.document import Cut
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.driver.labelled import prepare_items
from ptm_dist.driver.stages import Finished, Prepared, Progress, Stage, Task, run_stage
from ptm_dist.driver.tasks import DealtPart, Layout, Reading, deal, mark_part, read_part, tokenize_part, train_tokenizer, write_examples
from ptm_dist.errors import DataUnavailableError

if TYPE_CHECKING:
    from ptm_dist.recipe import Recipe

GROUP_TOKENS: Final = 2_000_000
"""Text tokens of one task that writes examples; independent of the number of cores."""


def prepare(recipe: Recipe, cache: Path, progress: Progress) -> Prepared:
    """Prepare what is missing; equal recipes and equal sources give equal bytes, interrupted or not.

    Raises:
        DataUnavailableError: a source cannot be read, or too little text is left of it.
        DataIntegrityError: a source is damaged.
        StorageError: the cache cannot be written.

    """
    if recipe.is_labelled:
        return prepare_items(recipe, cache.resolve(), progress)
    return _Preparation(recipe, cache.resolve(), progress).all()


@dataclass(frozen=True)
class _Preparation:
    recipe: Recipe
    cache: Path
    progress: Progress

    def all(self) -> Prepared:
        documents = {name: self._documents(name) for name in sorted(self.recipe.sources)}
        deals = self._deals(documents)
        counts = {name: _counts(found, deals[name].results["deal"][name]) for name, found in documents.items()}
        for task in self.recipe.tasks:
            _require_text(task, self._total(task, counts), self.recipe.corpus.split.validation)
        parts = {name: _dealt_parts(name, found, deals[name]) for name, found in documents.items()}
        tokenizer = self._tokenizer(parts, deals)
        folder = tokenizer.directory / "tokenizer"
        tokens = {key: self._tokens(key, parts[key[0]], deals[key[0]], tokenizer) for key in self._cuts()}
        vocabulary = load_tokenizer(folder).vocabulary
        about = {"vocabulary": vocabulary.to_json(), "tokenizer": tokenizer.digest}
        datasets, written = {}, {}
        for task in self.recipe.tasks:
            found = self._examples(task, tokens, about | {"task": task, "counts": self._total(task, counts)})
            datasets[task] = {split: found.directory / split for split in _splits(found)}
            written[task] = {split: _size(found, split) for split in _splits(found)}
            _require_examples(task, written[task])
        return Prepared(folder, datasets, {"sources": counts, "vocabulary": vocabulary.size, "examples": written})

    def _documents(self, name: str) -> Finished:
        source, settings = self.recipe.sources[name], self.recipe.corpus.clean
        # The source's identity says what is in the files; where they lie does not matter.
        own = {"name": name, "kind": source.kind, "identity": source.identity(), "clean": settings.model_dump(mode="json")}
        reading = Reading(name, source, settings)
        return run_stage(
            Stage("documents", 1, own),
            lambda: [Task(f"{n:05d}", read_part, (n, reading, part)) for n, part in enumerate(source.parts())],
            self.cache,
            self.progress,
        )

    @property
    def _first(self) -> list[str]:
        """The sources that a run begins with."""
        return sorted(self.recipe.sources.keys() - set(self.recipe.later_sources))

    def _deals(self, documents: dict[str, Finished]) -> dict[str, Finished]:
        """Return the deal of each source. Those that join later are dealt after all before them, whose deals stay as they were."""
        first, later = self._first, self.recipe.later_sources
        deals = dict.fromkeys(first, self._deal({name: documents[name] for name in first}))
        joined = {name: [*first, *later[:number]] for number, name in enumerate(later, 1)}
        return deals | {name: self._deal({other: documents[other] for other in order}) for name, order in joined.items()}

    def _deal(self, documents: dict[str, Finished]) -> Finished:
        corpus = self.recipe.corpus
        own = {"dedup": corpus.dedup.model_dump(mode="json"), "split": corpus.split.model_dump(mode="json"), "sources": list(documents)}
        found = {name: (stage.directory, _part_names(stage)) for name, stage in documents.items()}
        return run_stage(
            Stage("deal", 1, own, tuple(stage.digest for stage in documents.values())),
            lambda: [Task("deal", deal, (found, corpus.dedup, corpus.split))],
            self.cache,
            self.progress,
        )

    def _tokenizer(self, parts: dict[str, list[DealtPart]], deals: dict[str, Finished]) -> Finished:
        """Learn from what a run begins with, and from nothing that joins it: the tokens of a run never change their meaning."""
        tokenizer, first = self.recipe.tokenizer, self._first
        everything = [part for name in first for part in parts[name]]
        return run_stage(
            Stage("tokenizer", 1, tokenizer.model_dump(mode="json"), (deals[first[0]].digest,), (tokenizer.library,)),
            lambda: [Task("train", train_tokenizer, (tokenizer, everything))],
            self.cache,
            self.progress,
        )

    def _cuts(self) -> list[tuple[str, Cut]]:
        """Return every source with every way in which a task cuts it."""
        found = [(name, self.recipe.tasks[task].format.cut) for task in self.recipe.tasks for name in self._sources_of(task)]
        return list(dict.fromkeys(found))

    def _marks(self, key: tuple[str, Cut], parts: list[DealtPart], dealt: Finished) -> Finished | None:
        """Find words, phrases and entities, before and apart from any tokenizer or mask: it takes longer than all the rest."""
        units, (name, cut) = self.recipe.corpus.units, key
        if units is None:
            return None
        own = {"source": name, "cut": asdict(cut), "units": units.model_dump(mode="json")}
        return run_stage(
            Stage("units", 1, own, (dealt.digest,), (units.library,)),
            lambda: [Task(part.deal.stem, mark_part, (part.deal.stem, part, cut, units)) for part in parts],
            self.cache,
            self.progress,
        )

    def _tokens(self, key: tuple[str, Cut], parts: list[DealtPart], dealt: Finished, tokenizer: Finished) -> Finished:
        name, cut = key
        marks = self._marks(key, parts, dealt)
        folders = (tokenizer.directory / "tokenizer", marks and marks.directory)
        inputs = (tokenizer.digest, marks.digest) if marks else (tokenizer.digest,)
        inputs += (dealt.digest,) if name in self.recipe.later_sources else ()  # Of all others the tokenizer's digest tells it.
        return run_stage(
            Stage("tokens", 2, {"source": name, "cut": asdict(cut)}, inputs),
            lambda: [Task(part.deal.stem, tokenize_part, (part.deal.stem, part, cut, folders)) for part in parts],
            self.cache,
            self.progress,
        )

    def _examples(self, task: str, tokens: dict[tuple[str, Cut], Finished], about: dict[str, Any]) -> Finished:
        settings = self.recipe.tasks[task]
        marked = any("marks" in objective.reads for objective in settings.objectives)
        own = {"task": task, "format": settings.format.model_dump(mode="json"), "marked": marked}
        layout = Layout(settings.format, Vocabulary(**about["vocabulary"]), marked)
        sources = {name: tokens[name, settings.format.cut] for name in self._sources_of(task)}
        groups = _all_groups(sources)
        # What is held out of several sources is told apart by their names; of one source there is nothing to tell apart.
        apart = {"sources": list(sources)} if len(sources) > 1 else {}

        def finish(directory: Path, results: dict[str, Any]) -> list[str]:
            named = {name: groups[name].source for name in results}
            return _merge_splits(directory, results, named, about | {"format": own["format"]})

        return run_stage(
            Stage("examples", 2, own | apart, tuple(stage.digest for stage in sources.values())),
            lambda: [Task(name, write_examples, (name, group.parts, layout)) for name, group in groups.items()],
            self.cache,
            self.progress,
            finish,
        )

    def _sources_of(self, task: str) -> list[str]:
        return sorted(self.recipe.tasks[task].sources or self.recipe.sources)

    def _total(self, task: str, counts: dict[str, dict[str, Any]]) -> dict[str, Any]:
        return _added([counts[name] for name in self._sources_of(task)])


def _counts(documents: Finished, dealt: dict[str, int]) -> dict[str, Any]:
    """Return documents read and kept, those dropped by reason, duplicates among them, and the documents of each split."""
    found = _added([{key: value for key, value in task.items() if key != "parts"} for task in documents.results.values()])
    dropped = found.get("dropped", {}) | ({"duplicate": dealt["duplicates"]} if "duplicates" in dealt else {})
    splits = {split: dealt.get(split, 0) for split in SPLITS}
    return {"read": found.get("read", 0), "kept": sum(splits.values()), "dropped": dropped, "splits": splits}


def _added(counts: list[dict[str, Any]]) -> dict[str, Any]:
    """Add nested counts, key by key."""
    keys = sorted({key for found in counts for key in found})
    columns = {key: [found[key] for found in counts if key in found] for key in keys}
    return {key: _added(values) if isinstance(values[0], dict) else sum(values) for key, values in columns.items()}


def _require_text(task: str, counts: dict[str, Any], share: float) -> None:
    dropped = ", ".join(f"{number:,} {reason}" for reason, number in sorted(counts["dropped"].items())) or "none"
    found = f"tasks.{task}: {counts['read']:,} documents were read, {counts['kept']:,} kept; dropped: {dropped}."
    if not counts["kept"]:
        raise DataUnavailableError(f"{found} No text is left. Check the sources, or relax corpus.clean.")
    for split in ("train", "validation"):
        if not counts["splits"][split]:
            raise DataUnavailableError(
                f"{found} None of them fell into the {split} split. Add documents (a .txt file is one, unless its source says "
                f"documents: blank_lines; in .jsonl each line is one), or change corpus.split.validation (now {share})."
            )


def _part_names(documents: Finished) -> list[str]:
    return [part for task in documents.results.values() for part in task["parts"]]


def _dealt_parts(name: str, documents: Finished, dealt: Finished) -> list[DealtPart]:
    where = dealt.directory / name
    return [DealtPart(documents.directory / f"{part}.jsonl.zst", where / f"{part}.npy") for part in _part_names(documents)]


@dataclass(frozen=True)
class _Group:
    """Parts whose examples one task writes; `source` names theirs where it must not be mixed with others."""

    source: str
    parts: list[Path]


def _all_groups(sources: dict[str, Finished]) -> dict[str, _Group]:
    """Return the groups of all splits by the names of their tasks. Training mixes sources; what is held out keeps them apart."""
    found = {}
    for split in SPLITS:
        mixed = split == "train" or len(sources) == 1
        together = {"": list(sources.values())} if mixed else {name: [stage] for name, stage in sources.items()}
        groups = [_Group(source, parts) for source, stages in together.items() for parts in _groups(stages, split)]
        found |= {f"{split}-{number:05d}": group for number, group in enumerate(groups)}
    return found


def _groups(sources: Sequence[Finished], split: str) -> list[list[Path]]:
    """Gather parts into groups of about GROUP_TOKENS, so that small parts do not each end in a short row."""
    groups: list[list[Path]] = []
    filled = GROUP_TOKENS
    for stage in sources:
        for part, results in stage.results.items():
            if split not in results:
                continue
            if filled >= GROUP_TOKENS:
                groups.append([])
                filled = 0
            groups[-1].append(stage.directory / f"{part}.{split}")
            filled += results[split]["tokens"]
    return groups


def _splits(examples: Finished) -> list[str]:
    return [split for split in SPLITS if any(name.startswith(f"{split}-") for name in examples.results)]


def _size(examples: Finished, split: str) -> dict[str, Any]:
    """Return rows and tokens of a split, and the documents that gave none by reason."""
    found, skipped = Counter[str](), Counter[str]()
    for name, results in examples.results.items():
        if name.startswith(f"{split}-"):
            skipped.update(results["skipped"])
            for chunk in results["chunks"]:
                found.update(rows=chunk["rows"], tokens=chunk["tokens"])
    return {"rows": found["rows"], "tokens": found["tokens"], "skipped": dict(sorted(skipped.items()))}


def _require_examples(task: str, sizes: dict[str, dict[str, Any]]) -> None:
    for split in ("train", "validation"):
        size = sizes.get(split, {"rows": 0, "skipped": {}})
        if not size["rows"]:
            reasons = ", ".join(f"{number:,} {reason}" for reason, number in size["skipped"].items()) or "too little text"
            raise DataUnavailableError(
                f"tasks.{task}: its format made no example of the {split} split ({reasons}). "
                "Give the task sources that suit its format, or add text; docs/data.md says what each format needs."
            )


def _merge_splits(directory: Path, results: dict[str, Any], sources: dict[str, str], about: dict[str, Any]) -> list[str]:
    """Write the manifest of each split, and return the files that belong to it; `sources` names the source of each task, if it has one."""
    files = []
    for split in SPLITS:
        names = [name for name in results if name.startswith(f"{split}-")]
        if names:
            shards = [_shards(directory, name, results[name]) for name in names]
            apart = [sources[name] for name in names if sources[name]]
            files += [f"{split}/{name}" for name in merge(directory / split, shards, about | {"split": split}, apart)]
    return files


def _shards(directory: Path, name: str, entries: dict[str, Any]) -> Shards:
    counts = directory / "counts"
    return Shards.of(entries, np.load(counts / f"{name}.lengths.npy"), np.load(counts / f"{name}.tokens.npy"))

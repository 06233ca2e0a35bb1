"""ptm data prepare: from sources to tokenizer and data sets, stage by stage, doing only what is missing.

documents (read and clean) > deal (duplicates and splits) > tokenizer > tokens > examples, each in a directory of the cache that is
named by the digest of everything that decides its bytes. The caller has started Ray.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ptm_dist.corpus.shard import Shards, merge
from ptm_dist.corpus.split import SPLITS
from ptm_dist.corpus.tokenizer import load_tokenizer
from ptm_dist.data.dataset import LENGTHS, MANIFEST, TOKEN_COUNTS
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.driver.stages import Finished, Progress, Stage, Task, run_stage
from ptm_dist.driver.tasks import DealtPart, Reading, deal, read_part, tokenize_part, train_tokenizer, write_examples
from ptm_dist.errors import DataUnavailableError

if TYPE_CHECKING:
    from ptm_dist.recipe import Recipe

GROUP_TOKENS: Final = 2_000_000
"""Text tokens of one task that writes examples; independent of the number of cores."""


@dataclass(frozen=True)
class Prepared:
    """Where the tokenizer and the data sets {task: {split: directory}} are, and what was counted on the way."""

    tokenizer: Path
    datasets: dict[str, dict[str, Path]]
    summary: dict[str, Any]


def prepare(recipe: Recipe, cache: Path, progress: Progress) -> Prepared:
    """Prepare what is missing; equal recipes and equal sources give equal bytes, interrupted or not.

    Raises:
        DataUnavailableError: a source cannot be read, or too little text is left of it.
        DataIntegrityError: a source is damaged.
        StorageError: the cache cannot be written.

    """
    return _Preparation(recipe, cache.resolve(), progress).all()


@dataclass(frozen=True)
class _Preparation:
    recipe: Recipe
    cache: Path
    progress: Progress

    def all(self) -> Prepared:
        documents = {name: self._documents(name) for name in sorted(self.recipe.sources)}
        dealt = self._deal(documents)
        counts = {name: _counts(found, dealt.results["deal"][name]) for name, found in documents.items()}
        for task in self.recipe.tasks:
            _require_text(task, self._total(task, counts), self.recipe.corpus.split.validation)
        parts = {name: _dealt_parts(name, found, dealt) for name, found in documents.items()}
        tokenizer = self._tokenizer(parts, dealt)
        folder = tokenizer.directory / "tokenizer"
        tokens = {name: self._tokens(name, parts[name], tokenizer) for name in parts}
        vocabulary = load_tokenizer(folder).vocabulary
        about = {"vocabulary": vocabulary.to_json(), "tokenizer": tokenizer.digest}
        datasets, written = {}, {}
        for task in self.recipe.tasks:
            found = self._examples(task, tokens, about | {"task": task, "counts": self._total(task, counts)})
            datasets[task] = {split: found.directory / split for split in _splits(found)}
            written[task] = {split: _size(found, split) for split in _splits(found)}
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

    def _deal(self, documents: dict[str, Finished]) -> Finished:
        corpus = self.recipe.corpus
        own = {"dedup": corpus.dedup.model_dump(mode="json"), "split": corpus.split.model_dump(mode="json"), "sources": sorted(documents)}
        found = {name: (stage.directory, _part_names(stage)) for name, stage in documents.items()}
        return run_stage(
            Stage("deal", 1, own, tuple(documents[name].digest for name in sorted(documents))),
            lambda: [Task("deal", deal, (found, corpus.dedup, corpus.split))],
            self.cache,
            self.progress,
        )

    def _tokenizer(self, parts: dict[str, list[DealtPart]], dealt: Finished) -> Finished:
        tokenizer = self.recipe.tokenizer
        everything = [part for name in sorted(parts) for part in parts[name]]
        return run_stage(
            Stage("tokenizer", 1, tokenizer.model_dump(mode="json"), (dealt.digest,), (tokenizer.library,)),
            lambda: [Task("train", train_tokenizer, (tokenizer, everything))],
            self.cache,
            self.progress,
        )

    def _tokens(self, name: str, parts: list[DealtPart], tokenizer: Finished) -> Finished:
        folder = tokenizer.directory / "tokenizer"
        names = [part.deal.stem for part in parts]
        return run_stage(
            Stage("tokens", 1, {"source": name}, (tokenizer.digest,)),
            lambda: [Task(part, tokenize_part, (part, where, folder)) for part, where in zip(names, parts, strict=True)],
            self.cache,
            self.progress,
        )

    def _examples(self, task: str, tokens: dict[str, Finished], about: dict[str, Any]) -> Finished:
        layout = self.recipe.tasks[task].format
        own = {"task": task, "format": layout.model_dump(mode="json")}
        vocabulary = Vocabulary(**about["vocabulary"])
        sources = [tokens[name] for name in self._sources_of(task)]
        groups = {split: _groups(sources, split) for split in SPLITS}

        def finish(directory: Path, results: dict[str, Any]) -> list[str]:
            return _merge_splits(directory, results, about | {"format": own["format"]})

        return run_stage(
            Stage("examples", 1, own, tuple(stage.digest for stage in sources)),
            lambda: [
                Task(name, write_examples, (name, prefixes, layout, vocabulary))
                for split in SPLITS
                for name, prefixes in ((f"{split}-{n:05d}", group) for n, group in enumerate(groups[split]))
            ],
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


def _size(examples: Finished, split: str) -> dict[str, int]:
    found: Counter[str] = Counter()
    for name, results in examples.results.items():
        for chunk in results["chunks"] if name.startswith(f"{split}-") else ():
            found.update(rows=chunk["rows"], tokens=chunk["tokens"])
    return dict(found)


def _merge_splits(directory: Path, results: dict[str, Any], about: dict[str, Any]) -> list[str]:
    """Write the manifest of each split, and return the files that belong to it."""
    files = []
    for split in SPLITS:
        names = [name for name in results if name.startswith(f"{split}-")]
        if names:
            merge(directory / split, [_shards(directory, name, results[name]) for name in names], about | {"split": split})
            files += [f"{split}/{name}" for name in (MANIFEST, LENGTHS, TOKEN_COUNTS)]
    return files


def _shards(directory: Path, name: str, entries: dict[str, Any]) -> Shards:
    counts = directory / "counts"
    return Shards.of(entries, np.load(counts / f"{name}.lengths.npy"), np.load(counts / f"{name}.tokens.npy"))

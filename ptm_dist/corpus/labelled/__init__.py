"""Labelled data for fine-tuning: readers of published layouts, and the source that splits what they read. A reader is a line here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ptm_dist.corpus.files import fingerprint, named_files, whole
from ptm_dist.corpus.labelled.choices import ChoiceRecords
from ptm_dist.corpus.labelled.conll import Conll
from ptm_dist.corpus.labelled.entity_spans import EntitySpans
from ptm_dist.corpus.labelled.json_lines import JsonLines
from ptm_dist.corpus.labelled.race import Race
from ptm_dist.corpus.labelled.reader import Reader
from ptm_dist.corpus.labelled.shares import first_items, group_of, split_of_group
from ptm_dist.corpus.labelled.squad import Squad
from ptm_dist.corpus.labelled.table import Table
from ptm_dist.corpus.split import SPLITS, Split
from ptm_dist.data.item import Bad, ChoiceItem, Item, QuestionItem, TextItem
from ptm_dist.errors import ConfigError, DataIntegrityError, DataUnavailableError
from ptm_dist.plugins import plugin

READERS: Final[dict[str, type[Reader]]] = {
    "choices": ChoiceRecords,
    "conll": Conll,
    "entity_spans": EntitySpans,
    "json_lines": JsonLines,
    "race": Race,
    "squad": Squad,
    "table": Table,
}

GROUPS: Final[dict[type, tuple[str, ...]]] = {
    TextItem: ("first", "second"),
    QuestionItem: ("context", "question"),
    ChoiceItem: ("context", "question"),
}
"""The fields of each kind of item that may keep items together, beside id and id_prefix."""

NO_TEXT: Final = "a labelled source has items and no documents to pretrain on. Give tasks that read text a source of kind text."


class Labelled(BaseModel):
    """Files of labelled items, one set of them for each split, or parts of the training files held out."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Literal["labelled"] = "labelled"
    reader: Annotated[Any, plugin(READERS)]
    """What the files look like."""
    readers: dict[Split, Annotated[Any, plugin(READERS)]] = {}
    """Other readers for the files of some splits: test data without labels, development data with other columns."""
    train: tuple[str, ...] = ()
    """Files, folders (with all below them), glob patterns, or URLs of these; also as .gz or .zst."""
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    validation_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the groups of `train` that is held out, where `validation` names no files."""
    test_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    group: str = ""
    """What stays together when shares are held out: items with the same first, second, context or question, or the same id_prefix (what
    stands before the last - or #); id: nothing. Empty: what the reader says, a column that it is told or the context of questions."""
    bad: Literal["error", "skip"] = "error"
    """What happens when an item cannot be used."""
    most: Annotated[int, Field(gt=0)] | dict[Split, Annotated[int, Field(gt=0)]] | None = None
    """At most so many items of each split, or of some: {train: 500} tries what few labels are worth, measured on all that is held out."""

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @model_validator(mode="after")
    def _splits_are_clear(self) -> Self:
        if not (self.train or self.validation or self.test):
            raise ValueError("no files are named; give train, validation or test")
        for split, share in (("validation", self.validation_share), ("test", self.test_share)):
            if share and (getattr(self, split) or not self.train):
                raise ValueError(f"{split}_share holds out a part of train; it needs train, and no files for {split}")
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share + test_share must stay below 1, or nothing is left to train on")
        for reader in (self.reader, *self.readers.values()):
            if not isinstance(reader, Reader):
                raise ValueError(f"reader {reader.kind!r} does not derive from {Reader.__module__}.Reader")
            if reader.makes is not self.reader.makes:
                raise ValueError(f"readers: {reader.kind!r} makes another kind of items than {self.reader.kind!r}")
        allowed = ("id", "id_prefix", *GROUPS.get(self.reader.makes, ()))
        if self.group and self.group not in allowed:
            raise ValueError(f"group {self.group!r} is none of {', '.join(allowed)}; a column of the files goes into reader.group")
        return self

    def identity(self) -> dict[str, Any]:
        """Return plain data that changes exactly when the items may change."""
        files = {split: [fingerprint(name, url) for name, url in self._files(split)] for split in SPLITS if getattr(self, split)}
        return {"files": files} | self.model_dump(mode="json", exclude=set(SPLITS))

    def has(self, split: str) -> bool:
        """Are there files for a split, or a share that is held out for it?"""
        return split in SPLITS and bool(getattr(self, split) or (split != "train" and getattr(self, f"{split}_share")))

    def items(self, split: str) -> tuple[list[Item], Counter[str]]:
        """Return the items of a split, in the order of the files' names, and the numbers of those that were skipped, by reason.

        What is bad in the files of `train` counts for train, whatever is held out.

        Raises:
            ConfigError: there is no such split, or the files have other fields than the reader is told.
            DataUnavailableError: a file is missing, or no item is left.
            DataIntegrityError: a file is damaged, or an item cannot be used and `bad` is error.

        """
        if not self.has(split):
            raise ConfigError(f"{split}: there are no files for it, and no share is held out. Name some, or set {split}_share.")
        source = split if getattr(self, split) else "train"
        items, bad = self._read(source)
        shares = (self.validation_share, self.test_share)
        if source == "train" and any(shares):
            together = self.group or self._reader(source).together
            items = [item for item in items if split_of_group(group_of(item, together), *shares) == split]
        if not items:
            raise DataUnavailableError(
                f"{split}: no item is left of {', '.join(getattr(self, source))}. Choose a greater share, or other files."
            )
        most = self.most.get(cast(Split, split)) if isinstance(self.most, dict) else self.most
        return first_items(items, most), bad if source == split else Counter()

    def parts(self) -> list[list[str]]:
        """Refuse to be read as text.

        Raises:
            ConfigError: always.

        """
        raise ConfigError(NO_TEXT)

    def read(self, part: list[str]) -> Iterator[Any]:
        """Refuse to be read as text.

        Raises:
            ConfigError: always.

        """
        raise ConfigError(NO_TEXT)

    def _files(self, split: str) -> list[tuple[str, str]]:
        return named_files(getattr(self, split), (), split)

    def _reader(self, split: str) -> Reader:
        return {str(name): reader for name, reader in self.readers.items()}.get(split, self.reader)

    def _read(self, split: str) -> tuple[list[Item], Counter[str]]:
        found = [item for name, url in self._files(split) for item in self._reader(split).read(name, whole(url))]
        bad = [item for item in found if isinstance(item, Bad)]
        reasons = Counter(item.why for item in bad)
        if bad and self.bad == "error":
            told = ", ".join(f"{count:,} {why}" for why, count in sorted(reasons.items()))
            raise DataIntegrityError(
                f"{split}: {len(bad):,} of {len(found):,} items cannot be used ({told}); the first: {bad[0].where}: {bad[0].why}. "
                "Mend them, or write bad: skip to leave them out and count them."
            )
        return [item for item in found if not isinstance(item, Bad)], reasons

"""What every reader of labelled data is: the bytes of a file in, items out, and where one cannot be used, the reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from ptm_dist.data.item import Bad, Item


class Reader(BaseModel):
    """A reader of one layout of files; it is its own configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    makes: ClassVar[type]
    """The kind of item."""

    kind: Any  # the name of the class in the table; a literal there

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def together(self) -> str:
        """The field of items that belong together when splits are made, where the source names nothing else."""
        return "id"

    def read(self, name: str, data: bytes) -> Iterator[Item | Bad]:
        """Yield the items of a file in their order; where they have no id of their own, it is the file's name with the line or number.

        Raises:
            ConfigError: the file has no such column or field as the reader is told.
            DataIntegrityError: the file as a whole cannot be read.

        """
        raise NotImplementedError

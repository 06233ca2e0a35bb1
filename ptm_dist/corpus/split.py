"""Train, validation and test: a document's split follows from its source and id alone, so it never moves when others come or go."""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal, Self, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

SPLITS: Final = ("train", "validation", "test")
Split: TypeAlias = Literal["train", "validation", "test"]


class SplitSettings(BaseModel):
    """The shares of documents that are held out."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    validation: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """Read during training to measure the held-out loss."""
    test: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Never read during training."""

    @model_validator(mode="after")
    def _leaves_some_to_train_on(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must stay below 1, or nothing is left to train on")
        return self


def split_key(source: str, document_id: str) -> int:
    """Return the 64-bit hash that decides the split of a document."""
    identity = f"{source}\0{document_id}".encode()
    return int.from_bytes(hashlib.blake2b(identity, digest_size=8, person=b"split").digest(), "big")


def split_codes(keys: np.ndarray, settings: SplitSettings) -> np.ndarray:
    """Return the index into SPLITS of each key: uint8 [documents] for uint64 [documents]."""
    # Validation lies lowest, so that a larger test share never takes a validation document.
    place = (keys >> np.uint64(11)).astype(np.float64) * 2.0**-53
    codes = np.zeros(len(keys), dtype=np.uint8)
    codes[place < settings.validation + settings.test] = SPLITS.index("test")
    codes[place < settings.validation] = SPLITS.index("validation")
    return codes


def split_of(source: str, document_id: str, settings: SplitSettings) -> Split:
    """Return the split of one document."""
    return SPLITS[split_codes(np.array([split_key(source, document_id)], dtype=np.uint64), settings)[0]]

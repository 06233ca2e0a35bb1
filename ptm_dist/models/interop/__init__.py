"""Hugging Face import and export, one file a family."""

from __future__ import annotations

from typing import Any, Final, Protocol

from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.models.interop import roberta
from ptm_dist.models.interop.folder import Config, Tensors


class Exporter(Protocol):
    """What a family's module offers. Weights go by the names of the pretraining module, tensors by those of Hugging Face."""

    def to_hugging_face(self, weights: Tensors, settings: Any, vocabulary: Vocabulary) -> tuple[Config, Tensors]:
        """Return the config and the tensors of the Hugging Face class of this family."""
        ...

    def from_hugging_face(self, config: Config, tensors: Tensors) -> tuple[Any, Tensors]:
        """Return the family's settings and weights."""
        ...


EXPORTERS: Final[dict[str, Exporter]] = {"roberta": roberta}

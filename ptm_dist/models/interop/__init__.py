"""Hugging Face import and export, one table a family."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ptm_dist.errors import ConfigError
from ptm_dist.models.interop.albert import AlbertLayout
from ptm_dist.models.interop.bert import BertLayout
from ptm_dist.models.interop.decoder import Gpt2Layout, GptLayout
from ptm_dist.models.interop.elmo import ElmoLayout
from ptm_dist.models.interop.ernie import ErnieLayout
from ptm_dist.models.interop.folder import CONFIG, Tensors, read_folder
from ptm_dist.models.interop.layout import Layout
from ptm_dist.models.interop.roberta import RobertaLayout
from ptm_dist.models.interop.xlnet import XlnetLayout
from ptm_dist.store import read_json

LAYOUTS: Final[dict[str, Layout]] = {
    "albert": AlbertLayout(),
    "bert": BertLayout(),
    "elmo": ElmoLayout(),
    "ernie": ErnieLayout(),
    "gpt": GptLayout(),
    "gpt2": Gpt2Layout(),
    "roberta": RobertaLayout(),
    "xlnet": XlnetLayout(),
}


def read_labels(directory: Path) -> tuple[str, ...]:
    """Return the names of what the head of a labelled task in a Hugging Face folder tells apart, in their order, if they were given any.

    Raises:
        DataUnavailableError: config.json is missing.

    """
    names = read_json(directory / CONFIG).get("id2label") or {}
    found = tuple(str(names.get(str(number), "")) for number in range(len(names)))
    return () if found == tuple(f"LABEL_{number}" for number in range(len(found))) else found


def read_model(directory: Path) -> tuple[Any, Tensors]:
    """Return settings and weights of the model in a Hugging Face folder.

    Raises:
        ConfigError: ptm_dist has no such family, or cannot compute what the model computes.
        DataUnavailableError: config.json or the tensors are missing.

    """
    config, tensors = read_folder(directory)
    for layout in LAYOUTS.values():
        if layout.model_type == config.get("model_type"):
            return layout.from_hugging_face(config, tensors)
    known = ", ".join(sorted(layout.model_type for layout in LAYOUTS.values()))
    raise ConfigError(f"{directory}: model_type is {config.get('model_type')!r}; ptm_dist reads {known}.")

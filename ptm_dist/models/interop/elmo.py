"""ELMo as safetensors beside JSON, since transformers has no such class, and back; without heads of labelled tasks."""

from __future__ import annotations

from typing import Any, ClassVar

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.models.elmo import Elmo
from ptm_dist.models.interop.folder import Config, Tensors
from ptm_dist.models.interop.layout import Layout

SIZE = "vocab_size"


class ElmoLayout(Layout):
    """config.json holds the settings of `Elmo` by their own names and the words of the softmax; tensors keep their names.

    What each tensor is stands in models/elmo.py and docs/models.md, with its name in the HDF5 files of allenai/bilm-tf.
    """

    family: ClassVar = Elmo
    model_type: ClassVar = "elmo"
    fields: ClassVar = {name: name for name in Elmo.model_fields if name != "kind"}
    defaults: ClassVar = Elmo().model_dump(mode="json", exclude={"kind"})
    fixed: ClassVar = {}
    prefix: ClassVar = ""
    names: ClassVar = {"heads.bidirectional_lm.": "heads.bidirectional_lm."}
    copies: ClassVar = {}
    heads: ClassVar = {"bidirectional_lm": HeadSpec("bidirectional_lm")}

    def architecture(self, heads: Any) -> str:
        """Return what the folder holds; no class of transformers goes by this name."""
        return "ElmoForBidirectionalLM" if list(heads) else "ElmoModel"

    def theirs(self, name: str, settings: Any) -> str:
        """Return the name as it is."""
        return name

    def config_of(self, settings: Elmo, vocabulary: Vocabulary) -> Config:
        """Return the settings as plain data."""
        return settings.model_dump(mode="json", exclude={"kind"})

    def settings_of(self, config: Config, tensors: Tensors) -> dict[str, Any]:
        """Return what JSON has no tuples for."""
        return {"filters": tuple(map(tuple, config["filters"])), "cutoffs": tuple(config["cutoffs"])}

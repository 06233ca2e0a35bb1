"""ERNIE as ErnieModel, ErnieForMaskedLM, ErnieForPreTraining, or with the head of a labelled task, and back."""

from __future__ import annotations

from typing import Any, ClassVar

from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.models.ernie import Ernie
from ptm_dist.models.interop.encoder import (
    DEFAULTS,
    PREDICTION_NAMES,
    SegmentedLayout,
    copies_of,
    embedding_names,
    layer_names,
    task_classes,
    task_names,
)
from ptm_dist.models.interop.folder import Config, Tensors


class ErnieLayout(SegmentedLayout):
    """ERNIE in transformers; the table of tasks is there only if `use_task_id` says so."""

    family: ClassVar = Ernie
    model_type: ClassVar = "ernie"
    class_prefix: ClassVar = "Ernie"
    prefix: ClassVar = "ernie."
    defaults: ClassVar = DEFAULTS | {"use_task_id": False, "task_type_vocab_size": 3}
    names: ClassVar = {
        **embedding_names("ernie."),
        **layer_names("ernie."),
        **PREDICTION_NAMES,
        **task_names("ernie.pooler.dense"),
        "backbone.tables.task_types": "ernie.embeddings.task_type_embeddings",
    }
    tasks: ClassVar = task_classes("Ernie")
    copies: ClassVar = copies_of("ernie.embeddings.word_embeddings.weight")

    def config_of(self, settings: Any, vocabulary: Vocabulary) -> Config:
        """Return what BERT has, and the tasks."""
        tasks = {"use_task_id": bool(settings.task_types), "task_type_vocab_size": settings.task_types or 3}
        return super().config_of(settings, vocabulary) | tasks

    def settings_of(self, config: Config, tensors: Tensors) -> dict[str, Any]:
        """Return the same."""
        tasks = config["task_type_vocab_size"] if config["use_task_id"] else 0
        return super().settings_of(config, tensors) | {"task_types": tasks}

"""BERT as BertModel, BertForMaskedLM, BertForPreTraining, or with the head of a labelled task, and back."""

from __future__ import annotations

from typing import ClassVar

from ptm_dist.models.bert import Bert
from ptm_dist.models.interop.encoder import (
    PREDICTION_NAMES,
    SegmentedLayout,
    copies_of,
    embedding_names,
    layer_names,
    task_classes,
    task_names,
)


class BertLayout(SegmentedLayout):
    """BERT in transformers."""

    family: ClassVar = Bert
    model_type: ClassVar = "bert"
    class_prefix: ClassVar = "Bert"
    prefix: ClassVar = "bert."
    names: ClassVar = embedding_names("bert.") | layer_names("bert.") | PREDICTION_NAMES | task_names("bert.pooler.dense")
    tasks: ClassVar = task_classes("Bert")
    copies: ClassVar = copies_of("bert.embeddings.word_embeddings.weight")

"""BERT, and the Chinese BERT-wwm and BERT-wwm-ext, which differ from it in data and masking only."""

from __future__ import annotations

from typing import Literal

from ptm_dist.models.encoder import SegmentedFamily


class Bert(SegmentedFamily):
    """The BERT family; the defaults are the base size.

    Source: Devlin et al. 2019; google-research/bert, modeling.py. The activation is the exact GELU that the released checkpoints were
    trained with; the code changed to the tanh form in February 2019 (`activation: gelu_tanh`). Deviation: none known. Hugging Face's
    class gives the row of [PAD] no gradient of its lookup and draws weights without the cut.
    """

    kind: Literal["bert"] = "bert"

"""RoBERTa: BERT's encoder without segments or pooler, positions counted from padding_idx + 1."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ptm_dist.data.joining import ROBERTA, Joining
from ptm_dist.models.encoder import EncoderFamily

PAD_POSITION = 1
"""fairseq counts positions from the pad id: pads have position 1, the first token of a row has 2."""


class Roberta(EncoderFamily):
    """The RoBERTa family; the defaults are the base size.

    Source: Liu et al. 2019 and fairseq models/roberta/model.py. Deviation: fairseq has no segment row; Hugging Face's class has
    one of zeros, which only the export writes.
    """

    position_offset: ClassVar[int] = PAD_POSITION + 1
    truncated_init: ClassVar[bool] = False
    joining: ClassVar[Joining] = ROBERTA

    kind: Literal["roberta"] = "roberta"
    positions: Annotated[int, Field(gt=0, description="longest row in tokens; the table has two rows more")] = 512
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5

"""ERNIE 1.0 and 2.0: BERT's encoder; 2.0 adds an embedding of the task and rows for four segments."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ptm_dist.models.encoder import SegmentedFamily


class Ernie(SegmentedFamily):
    """The ERNIE families; the defaults are ERNIE 1.0 in Chinese (relu, 513 positions, LayerNorms with Paddle's epsilon).

    ERNIE 2.0 has `segments: 4`, since an example of sentence reordering may have four segments, and `task_types: 16` while it is
    pretrained; its English models use gelu and 512 positions. The released English models were fine-tuned without the task embedding.

    Source: Sun et al. 2019 and 2020; PaddlePaddle/ERNIE, model/ernie.py and the configurations beside it; baidu/Senta for the task
    types. Deviation: the bias of the LayerNorm in the masked-LM head starts at 0, not at 1, as Baidu corrected in December 2020.
    """

    kind: Literal["ernie"] = "ernie"
    positions: Annotated[int, Field(gt=0, description="longest row in tokens")] = 513
    activation: Literal["gelu", "gelu_tanh", "relu"] = "relu"
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    task_types: Annotated[int, Field(ge=0, description="rows of the table of tasks; 0: no such table")] = 0

    @property
    def tables(self) -> dict[str, int]:
        """The tables of segment types and of tasks."""
        return super().tables | ({"task_types": self.task_types} if self.task_types else {})

"""GPT, the first: a causal Transformer with its LayerNorms after the residual sums."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ptm_dist.models.decoder import DecoderFamily


class Gpt(DecoderFamily):
    """The GPT family; the defaults are the published size.

    Source: Radford et al. 2018; openai/finetune-transformer-lm, train.py. Deviations, both of which Hugging Face's class shares:
    dropout falls on the sum of embeddings, in the code on the whole table, which it ties to the logits; and logits are of tokens
    only, in the code of positions too.
    """

    norm_first: ClassVar[bool] = False

    kind: Literal["gpt"] = "gpt"
    positions: Annotated[int, Field(gt=0, description="longest row in tokens")] = 512

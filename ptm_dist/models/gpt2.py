"""GPT-2: a causal Transformer with its LayerNorms before each part and one at the end."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.models.decoder import Decoder, DecoderFamily


class Gpt2(DecoderFamily):
    """The GPT-2 family; the defaults are the smallest size.

    The maps that end a residual branch start with a deviation of init_std / sqrt(2 layers), as the paper says and the released code
    does not; positions start with `position_std`, 0.01 in the code.

    Source: Radford et al. 2019, section 2.3; openai/gpt-2, src/model.py. The dropout is not published: 0.1 is what Hugging Face's
    configuration says.
    """

    norm_first: ClassVar[bool] = True

    kind: Literal["gpt2"] = "gpt2"
    position_std: Annotated[float, Field(gt=0)] = 0.01

    def backbone(self, vocabulary: Vocabulary) -> Decoder:
        """Build the backbone with fresh weights."""
        backbone = super().backbone(vocabulary)
        with torch.no_grad():
            backbone.positions.weight.normal_(std=self.position_std)
            for name, part in backbone.named_modules():
                if name.endswith((".attention.output", ".feed_forward.down")) and isinstance(part, nn.Linear):
                    part.weight.normal_(std=self.init_std / math.sqrt(2 * self.layers))
        return backbone

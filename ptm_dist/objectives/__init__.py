"""Training objectives: what is hidden or asked of a row when it is read. One file each."""

from typing import Final

from ptm_dist.objectives.base import Objective
from ptm_dist.objectives.causal_lm import CausalLM
from ptm_dist.objectives.classify_sequence import ClassifySequence
from ptm_dist.objectives.classify_tokens import ClassifyTokens
from ptm_dist.objectives.masked_lm import MaskedLM

OBJECTIVES: Final[dict[str, type[Objective]]] = {
    "causal_lm": CausalLM,
    "classify_sequence": ClassifySequence,
    "classify_tokens": ClassifyTokens,
    "masked_lm": MaskedLM,
}

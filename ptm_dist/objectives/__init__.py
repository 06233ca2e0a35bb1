"""Training objectives: what is hidden or asked of a row when it is read. One file each."""

from typing import Final

from ptm_dist.objectives.answer_span import AnswerSpan
from ptm_dist.objectives.base import Objective
from ptm_dist.objectives.bidirectional_lm import BidirectionalLM
from ptm_dist.objectives.causal_lm import CausalLM
from ptm_dist.objectives.choose import Choose
from ptm_dist.objectives.classify_sequence import ClassifySequence
from ptm_dist.objectives.classify_text import ClassifyText
from ptm_dist.objectives.classify_tokens import ClassifyTokens
from ptm_dist.objectives.masked_lm import MaskedLM
from ptm_dist.objectives.permutation_lm import PermutationLM
from ptm_dist.objectives.regress_text import RegressText
from ptm_dist.objectives.tag_words import TagWords

OBJECTIVES: Final[dict[str, type[Objective]]] = {
    "answer_span": AnswerSpan,
    "bidirectional_lm": BidirectionalLM,
    "causal_lm": CausalLM,
    "choose": Choose,
    "classify_sequence": ClassifySequence,
    "classify_text": ClassifyText,
    "classify_tokens": ClassifyTokens,
    "masked_lm": MaskedLM,
    "permutation_lm": PermutationLM,
    "regress_text": RegressText,
    "tag_words": TagWords,
}

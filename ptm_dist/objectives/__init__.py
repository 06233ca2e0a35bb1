"""Training objectives: how a row is corrupted when it is read, and the loss of its targets. One file each."""

from typing import Final

from ptm_dist.objectives.masked_lm import MaskedLM

OBJECTIVES: Final = {"masked_lm": MaskedLM}

"""Model families, one file each."""

from typing import Final

from ptm_dist.models.roberta import Roberta

FAMILIES: Final = {"roberta": Roberta}

"""Model families, one file each."""

from typing import Final

from ptm_dist.models.albert import Albert
from ptm_dist.models.bert import Bert
from ptm_dist.models.elmo import Elmo
from ptm_dist.models.ernie import Ernie
from ptm_dist.models.gpt import Gpt
from ptm_dist.models.gpt2 import Gpt2
from ptm_dist.models.roberta import Roberta
from ptm_dist.models.xlnet import Xlnet

FAMILIES: Final = {
    "albert": Albert,
    "bert": Bert,
    "elmo": Elmo,
    "ernie": Ernie,
    "gpt": Gpt,
    "gpt2": Gpt2,
    "roberta": Roberta,
    "xlnet": Xlnet,
}
